//! TAP, the Trajectory Autoencoding Planner: beam search over the codes of a vector-quantised autoencoder of trajectories.
//!
//! Jiang, Zhang, Janner, Li, Rocktäschel, Grefenstette and Tian 2023, <https://arxiv.org/abs/2208.10291>; authors' code
//! ZhengyaoJiang/latentplan @ c096a5c. Every three transitions become one of K codes, and a state with codes becomes transitions again;
//! then a transformer is trained to give each code after the state and the codes before it:
//!
//! ```text
//! x      = (s, a, r, V, over), normalised;  V_t = sum over k >= 0 of discount^k r_{t+1+k}
//! z      = nearest code of max over 3 steps of encoder(x);  x̂ = decoder(s_1, z), gradients straight through z
//! L      = mean (mask * weight * (x - x̂)²) + cross entropy(over) + extra terms + mean (features - z)²
//! count  <- 0.99 count + 0.01 uses,  sum <- 0.99 sum + 0.01 features,  code = sum / count
//! L(p)   = - mean log p(z_i | s_1, z_1 .. z_{i-1})           in the updates after `autoencoder_updates`
//! ```
//!
//! Acting draws codes from the prior, decodes them, and keeps the sequences with the largest predicted return that are likely enough
//! (see [`crate::planning::latent_search`]).
//!
//! What is odd in their code and done here as well: a mask that hides single steps ([`trajformer_models::tap::autoencoder`]), codes that
//! are never used again ([`trajformer_models::tap::codebook`]), a plan's last reward ([`crate::planning::latent_search`]), and episodes
//! that were cut off by time, which count as over. Their two programs, `train.py` and `trainprior.py`, are one run here; as there, the
//! autoencoder no longer changes when the prior is trained.
//!
//! Deviations: windows are drawn with replacement; episodes that have no end in the data are left out; the cross entropy of the ends is
//! computed from logits (theirs rounds probabilities to 0 and 1, where its gradient vanishes, beyond logits of about 17); actions
//! are clipped to their bounds. Left out: data that is not normalised (their antmaze), and samplers in the place of beam search.

pub mod code_scores;

use std::any::Any;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::decoder::latent::LatentDecoder;
use trajformer_models::dropout::Dropout;
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, WeightDecay};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::tap::{
    Autoencoder, AutoencoderConfig, Codebook, LossWeights, Prior, PriorConfig, StepBatch, decays,
};
use trajformer_models::uploads::CachedUploads;
use trajformer_models::work;

use crate::offpolicy::{StateNames, Trained};
use crate::planning::{LatentModel, LatentPlanConfig, LatentPlanner, LatentSearch};
use trajformer_core::algorithm::{Algorithm, Build, Work};
use trajformer_core::dataset::Dataset;
use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::ActionBounds;
use trajformer_core::policy::Policy;
use trajformer_core::source::Stage;
use trajformer_data::step_windows::{StepWindows, WindowOptions};
use trajformer_data::termination_penalty::TerminationPenalty;
use trajformer_data::tokens::penalty_misfit;
use trajformer_models::rng::Rng;

/// Its table in a configuration.
const TABLE: &str = "algorithm.tap";

/// More would leave no digits of f32 to anything else.
const LARGEST_PENALTY: f64 = 1e30;
/// Windows that are told for a row of `metrics.csv`.
const DIAGNOSED: usize = 64;

/// `[algorithm.tap]`. Defaults: the base of the authors' `config/vqvae.py`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TapConfig {
    /// K, codes. 512; 8192 for their antmaze.
    pub codes: usize,
    /// Numbers of a code, their `trajectory_embd`.
    pub code_width: usize,
    /// Transitions that share a code.
    pub latent_steps: usize,
    /// Transformer blocks of encoder, decoder and prior each.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of each head; the embedding is this times `heads`.
    pub embedding_per_head: usize,
    /// Dropout of attention, residual branches and embeddings, in [0, 1).
    pub dropout: f64,
    /// Transitions in a training window, a multiple of `latent_steps`: their `subsampled_sequence_length` minus 1.
    pub window_transitions: usize,
    /// Discount of values, in training and planning.
    pub discount: f64,
    /// Replaces the reward of every terminating step; `"none"` keeps the data's.
    pub termination_penalty: TerminationPenalty,
    /// Squared errors at or past this step of the episode don't count. Default: the longest episode of the data (authors: 1000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_path_steps: Option<usize>,
    /// Whether the decoder sees the first state, which its observations are differences to in any case.
    pub state_conditional: bool,
    /// Weight of the first two numbers of an observation in the loss; the others have 1.
    pub position_weight: f64,
    /// Weight of actions in the loss.
    pub action_weight: f64,
    /// Weight of rewards in the loss.
    pub reward_weight: f64,
    /// Weight of values in the loss.
    pub value_weight: f64,
    /// Weight of the first action's error, once more.
    pub first_action_weight: f64,
    /// Weight of the error of a window's mean reward.
    pub sum_reward_weight: f64,
    /// Weight of the last value's error, once more.
    pub last_value_weight: f64,
    /// How many updates train the autoencoder; those after them train the prior. The authors' 50 passes over a million steps, for each.
    pub autoencoder_updates: u64,
    /// Windows in a batch.
    pub batch_size: usize,
    /// AdamW's rate, of both.
    pub learning_rate: f64,
    /// AdamW's decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Decoupled weight decay, of linear and head weights only.
    pub weight_decay: f64,
    /// Gradients are clipped to this norm.
    pub clip_norm: f64,
    /// Beam search.
    pub planner: LatentPlanConfig,
}

impl Default for TapConfig {
    fn default() -> Self {
        let weights = LossWeights::default();
        Self {
            codes: 512,
            code_width: 512,
            latent_steps: 3,
            layers: 4,
            heads: 4,
            embedding_per_head: 128,
            dropout: 0.1,
            window_transitions: 24,
            discount: 0.99,
            termination_penalty: TerminationPenalty::Reward(-100.0),
            max_path_steps: None,
            state_conditional: true,
            position_weight: weights.position,
            action_weight: weights.action,
            reward_weight: weights.reward,
            value_weight: weights.value,
            first_action_weight: weights.first_action,
            sum_reward_weight: weights.sum_reward,
            last_value_weight: weights.last_value,
            autoencoder_updates: 97_656,
            batch_size: 512,
            learning_rate: 2e-4,
            betas: [0.9, 0.95],
            weight_decay: 0.1,
            clip_norm: 1.0,
            planner: LatentPlanConfig::default(),
        }
    }
}

impl TapConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys(TABLE);
        keys.counts(&[
            ("codes", self.codes, 1 << 20),
            ("code_width", self.code_width, 1 << 16),
            ("latent_steps", self.latent_steps, 1_000),
            ("layers", self.layers, 1_000),
            ("heads", self.heads, 16),
            ("embedding_per_head", self.embedding_per_head, 1 << 16),
            ("window_transitions", self.window_transitions, 10_000),
            ("batch_size", self.batch_size, 1 << 20),
            ("max_path_steps", self.max_path_steps.unwrap_or(1), 1 << 40),
        ])?;
        keys.dropout(self.dropout)?;
        keys.shares(&[("discount", self.discount)])?;
        if let Some(reward) = self.termination_penalty.reward()
            && (reward.is_nan() || reward.abs() > LARGEST_PENALTY)
        {
            let expected = format!("±{LARGEST_PENALTY} at most, or \"none\"");
            return Err(keys.wrong("termination_penalty", reward, expected));
        }
        keys.betas(self.betas)?;
        keys.positive(&[
            ("learning_rate", self.learning_rate),
            ("clip_norm", self.clip_norm),
        ])?;
        keys.not_negative(&[
            ("weight_decay", self.weight_decay),
            ("position_weight", self.position_weight),
            ("action_weight", self.action_weight),
            ("reward_weight", self.reward_weight),
            ("value_weight", self.value_weight),
            ("first_action_weight", self.first_action_weight),
            ("sum_reward_weight", self.sum_reward_weight),
            ("last_value_weight", self.last_value_weight),
        ])?;
        if self.autoencoder_updates == 0 {
            return Err(keys.wrong("autoencoder_updates", 0, "at least 1"));
        }
        if !self.window_transitions.is_multiple_of(self.latent_steps) {
            let expected = format!("a multiple of `latent_steps` ({})", self.latent_steps);
            return Err(keys.wrong("window_transitions", self.window_transitions, expected));
        }
        self.planner
            .check(self.window_transitions, self.latent_steps)?;
        self.check_memory()
    }

    /// Fails if training or planning needs too much memory.
    fn check_memory(&self) -> Result<()> {
        let (planner, batch) = (&self.planner, self.batch_size);
        let width = self.heads.saturating_mul(self.embedding_per_head);
        let (length, codes) = (self.window_transitions, self.codes);
        let candidates = planner.beam_width.saturating_mul(planner.n_expand);
        Keys(TABLE).memory(
            "`layers`, `embedding_per_head`, `window_transitions`, `codes`, `code_width`, `batch_size`, \
             `planner.beam_width` or `planner.n_expand`",
            &[
                // Weights with their gradients and two moments, of three stacks.
                &[4, 3, self.layers, 12, width, width],
                &[8, codes, width.saturating_add(self.code_width)],
                // What the backward pass needs, and codes of a batch as distances and as one-hot rows.
                &[2, self.layers, 16, batch, length, width],
                &[2, self.layers, 2, batch, self.heads, length, length],
                &[4, batch, length, codes],
                // Keys and values of every candidate, and what may follow.
                &[candidates, 4, self.layers, planner.horizon, width],
                &[candidates, 4, codes],
            ],
        )
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If actions are discrete or no complete episode of the data has two steps.
    pub fn build(&self, build: Build<'_>) -> Result<Tap> {
        let (o, a) = build.source.dims();
        let options = self.window_options();
        let windows = StepWindows::of_source(build.source, &options, "TAP", build.device)?;
        if let Some(data) = build.source.data() {
            self.warn_of_misfits(data);
        }
        let params = || Params::new(DType::F32, build.device);
        let (mut autoencoder, mut prior) = (params(), params());
        Autoencoder::new(&self.autoencoder(o, a), &mut autoencoder.init(build.rng))?;
        Prior::new(&self.prior(o), &mut prior.init(build.rng))?;
        Ok(Tap {
            learner: Learner::new(self, (o, a), autoencoder, prior, build.source.stage())?,
            windows,
            bounds: build.bounds.clone(),
        })
    }

    fn window_options(&self) -> WindowOptions {
        WindowOptions {
            window_transitions: self.window_transitions,
            discount: self.discount,
            termination_penalty: self.termination_penalty.reward(),
            max_path_steps: self.max_path_steps,
        }
    }

    fn warn_of_misfits(&self, data: &Dataset) {
        if let Some(penalty) = self.termination_penalty.reward()
            && let Some(text) =
                penalty_misfit(data, penalty, &format!("{TABLE}.termination_penalty"))
        {
            tracing::warn!("{text}");
        }
        let left = data.episodes.iter().filter(|e| !e.is_complete());
        let (count, steps) = left.fold((0, 0), |(n, steps), e| (n + 1, steps + e.steps));
        if 10 * steps > data.steps() {
            tracing::warn!(
                "{}: {count} episodes without an end, {steps} of {} steps, are left out: their values are unknown",
                data.source_names(),
                data.steps()
            );
        }
    }

    /// The autoencoder's sizes.
    pub fn autoencoder(&self, observation_dim: usize, action_dim: usize) -> AutoencoderConfig {
        AutoencoderConfig {
            observation_dim,
            action_dim,
            codes: self.codes,
            code_width: self.code_width,
            latent_steps: self.latent_steps,
            layers: self.layers,
            heads: self.heads,
            embedding: self.heads * self.embedding_per_head,
            window_transitions: self.window_transitions,
            dropout: self.dropout,
            state_conditional: self.state_conditional,
            weights: LossWeights {
                position: self.position_weight,
                action: self.action_weight,
                reward: self.reward_weight,
                value: self.value_weight,
                first_action: self.first_action_weight,
                sum_reward: self.sum_reward_weight,
                last_value: self.last_value_weight,
            },
        }
    }

    /// The prior's sizes.
    pub fn prior(&self, observation_dim: usize) -> PriorConfig {
        PriorConfig {
            observation_dim,
            codes: self.codes,
            window_codes: self.window_transitions / self.latent_steps,
            layers: self.layers,
            heads: self.heads,
            embedding: self.heads * self.embedding_per_head,
            dropout: self.dropout,
        }
    }
}

/// TAP on a data set.
pub struct Tap {
    windows: StepWindows,
    bounds: ActionBounds,
    learner: Learner,
}

impl Tap {
    /// The policy, with what it imagines open to look at.
    ///
    /// # Errors
    /// If the planner's settings do not fit the networks.
    pub fn planner(&self) -> Result<LatentPlanner> {
        let row = |row: &Tensor| row.to_device(&Device::Cpu)?.to_vec1::<f32>();
        let wide = |numbers: Vec<f32>| numbers.into_iter().map(f64::from).collect();
        let normalizer = self.windows.normalizer();
        let model = LatentModel {
            decoder: Arc::new(self.learner.decoder()?),
            moments: (
                wide(row(normalizer.mean())?),
                wide(row(normalizer.scale())?),
            ),
            discount: self.learner.config.discount,
        };
        let search = LatentSearch::new(model, self.learner.config.planner.clone())?;
        let (low, high) = (row(&self.bounds.low()?)?, row(&self.bounds.high()?)?);
        LatentPlanner::new(search, low, high)
    }

    /// Its settings.
    pub fn config(&self) -> &TapConfig {
        &self.learner.config
    }
}

impl Algorithm for Tap {
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    /// One batch of windows for the autoencoder, or after its updates for the prior.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let learner = &mut self.learner;
        let batch = self.windows.sample(learner.config.batch_size, rng)?;
        let dropout = if learner.config.dropout > 0.0 {
            Dropout::draw(rng)
        } else {
            Dropout::off()
        };
        if learner.trains_autoencoder() {
            learner.update_autoencoder(&batch, dropout)
        } else {
            learner.update_prior(&batch, dropout)
        }
    }

    /// What codes keep of windows that are learned from (`observation_error`, ..., root mean squares in the data's standard deviations), and
    /// once the prior learns how well it tells them: `code_accuracy`, `code_cross_entropy`.
    fn diagnostics(&mut self, _: &mut Rng) -> Result<Metrics> {
        let scores = self.code_scores(&self.windows, DIAGNOSED)?;
        let (o, rewards) = (
            self.learner.autoencoder.config.observation_dim,
            scores.errors.len() - 2,
        );
        let over = |errors: &[f64]| {
            let squares: f64 = errors.iter().map(|error| error.powi(2)).sum();
            (squares / errors.len() as f64).sqrt()
        };
        let mut found = vec![
            ("observation_error", over(&scores.errors[..o])),
            ("action_error", over(&scores.errors[o..rewards])),
            ("reward_error", scores.errors[rewards]),
            ("value_error", scores.errors[rewards + 1]),
        ];
        if self.learner.updates > self.learner.config.autoencoder_updates {
            found.push(("code_accuracy", scores.accuracy));
            found.push(("code_cross_entropy", scores.cross_entropy));
        }
        let mut metrics = Metrics::new();
        for (name, number) in found.into_iter().filter(|(_, number)| number.is_finite()) {
            metrics.push(name, &Tensor::new(number, &Device::Cpu)?);
        }
        Ok(metrics)
    }

    /// Of the next update: the autoencoder's, or the prior's, whose codes half of the autoencoder makes.
    fn work(&self) -> Option<Work> {
        let learner = &self.learner;
        let (config, batch) = (&learner.autoencoder.config, learner.config.batch_size);
        let autoencoder = work::tap_autoencoder(config);
        if learner.trains_autoencoder() {
            let passes = autoencoder.train(1.0);
            return Some(Work::of(&[passes], batch, config.window_transitions));
        }
        let prior = &learner.prior.config;
        let passes = [autoencoder.forward(0.5), work::tap_prior(prior).train(1.0)];
        Some(Work::of(&passes, batch, prior.window_codes))
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        Ok(Box::new(self.planner()?))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.learner.visit(visitor)?;
        self.windows.visit("policy.normalizer.", visitor)?;
        Ok(self.bounds.visit("policy.action_bounds.", visitor)?)
    }
}

/// The networks and their updates, apart from where batches come from.
pub struct Learner {
    config: TapConfig,
    autoencoder: Trained<Autoencoder>,
    /// None of networks that only act.
    codebook: Option<Codebook>,
    prior: Trained<Prior>,
    /// So far, of both.
    updates: u64,
}

impl Learner {
    /// A learner that starts from these parameters of the networks, for observations and actions of these sizes, with optimisers if it
    /// is to learn.
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &TapConfig,
        (observation_dim, action_dim): (usize, usize),
        autoencoder: Params,
        prior: Params,
        stage: Stage,
    ) -> Result<Self> {
        let settings = AdamConfig {
            beta1: config.betas[0],
            beta2: config.betas[1],
            weight_decay: WeightDecay::Decoupled,
            clip_norm: Some(config.clip_norm),
            ..AdamConfig::default()
        };
        let group = |name: &str| {
            ParamGroup::decay(if decays(name) {
                config.weight_decay
            } else {
                0.0
            })
        };
        let adam = |params: &Params| Adam::new(params, settings, group);
        let codebook = match stage {
            Stage::Learning => Some(Codebook::new(&autoencoder)?),
            Stage::Acting => None,
        };
        Ok(Self {
            autoencoder: Trained::around(
                StateNames::of("autoencoder"),
                config.autoencoder(observation_dim, action_dim),
                autoencoder,
                stage,
                adam,
            )?,
            codebook,
            prior: Trained::around(
                StateNames::of("prior"),
                config.prior(observation_dim),
                prior,
                stage,
                adam,
            )?,
            config: config.clone(),
            updates: 0,
        })
    }

    /// The autoencoder, its codes among its parameters.
    pub fn autoencoder(&self) -> &Trained<Autoencoder> {
        &self.autoencoder
    }

    /// The moving averages that the codes follow; `None` for networks that only act.
    pub fn codebook(&self) -> Option<&Codebook> {
        self.codebook.as_ref()
    }

    /// The prior.
    pub fn prior(&self) -> &Trained<Prior> {
        &self.prior
    }

    /// Whether the next update is one of the autoencoder.
    pub fn trains_autoencoder(&self) -> bool {
        self.updates < self.config.autoencoder_updates
    }

    /// Both networks, packed for planning on the CPU.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn decoder<T: trajformer_models::kernels::decode::Float>(
        &self,
    ) -> Result<LatentDecoder<T>> {
        Ok(LatentDecoder::new(
            &self.autoencoder.params.tensors()?,
            &self.prior.params.tensors()?,
            &self.autoencoder.config,
        )?)
    }

    /// One update of the autoencoder and its codes.
    ///
    /// # Errors
    /// If it was made to act alone, or a tensor operation fails.
    pub fn update_autoencoder(&mut self, batch: &StepBatch, dropout: Dropout) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.autoencoder.params.device());
        let codebook = self.codebook.as_ref().ok_or_else(opened_without_data)?;
        let losses = self
            .autoencoder
            .net
            .losses(batch, Some(codebook), dropout)?;
        let loss = (&losses.reconstruction + &losses.commitment)?;
        let rate = self.config.learning_rate;
        let norm = self.autoencoder.descend(&loss, rate)?;
        self.updates += 1;
        let mut metrics = Metrics::of_step(&loss, norm.as_ref());
        metrics.push("reconstruction_loss", &losses.reconstruction);
        metrics.push("commitment_loss", &losses.commitment);
        Ok(metrics)
    }

    /// One update of the prior on the codes of a batch, encoded without dropout.
    ///
    /// # Errors
    /// If it was made to act alone, or a tensor operation fails.
    pub fn update_prior(&mut self, batch: &StepBatch, dropout: Dropout) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.prior.params.device());
        let codes = self.autoencoder.detached.encode(batch)?;
        let states = batch.states(self.prior.config.observation_dim)?;
        let loss = self.prior.net.loss(&codes, &states, dropout)?;
        let norm = self.prior.descend(&loss, self.config.learning_rate)?;
        self.updates += 1;
        let mut metrics = Metrics::new();
        metrics.push("prior_loss", &loss);
        if let Some(norm) = &norm {
            metrics.push("prior_gradient_norm", norm);
        }
        Ok(metrics)
    }

    fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.autoencoder.visit(visitor)?;
        self.prior.visit(visitor)?;
        if let Some(codebook) = &self.codebook {
            codebook.visit("training.codebook.", visitor)?;
        }
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }
}
