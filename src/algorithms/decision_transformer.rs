//! Decision Transformer: reinforcement learning as sequence modelling, conditioned on returns.
//!
//! Chen et al. 2021, <https://arxiv.org/abs/2106.01345>; authors' code kzl/decision-transformer @
//! e2d82e6 (`gym/`). A causal transformer reads (return-to-go, state, action) triples and is
//! trained to give each action:
//!
//! ```text
//! L = mean over valid steps of (tanh(W h_s) - a)²
//! ```
//!
//! Acting starts from a target return; each reward is taken off it. Observations are normalised by the mean and standard deviation
//! over the complete episodes, from which batches are drawn.
//!
//! With `[algorithm.decision_transformer.text]` an episode's instruction is read as well: a linear layer maps its
//! sentence embedding to the width of the tokens, and the result is added to every state token before the norm.
//! The action is read from that token, so that the instruction need not be looked up by attention, whatever the
//! context's length; and a sequence stays 3 K tokens. By default it stands instead of the return, which is then 0.
//!
//! Of actions that are choices each is read as a row of a table and predicted by logits from the state token, without tanh, as in the authors' Atari
//! code (`atari/mingpt`); everything else is that of `gym/`:
//!
//! ```text
//! L = -mean over valid steps of ln softmax(W h_s)[a]
//! ```
//!
//! The table is `embed_action.weight` on a 1 among zeros, with a bias. It acts by the likeliest choice; `sampling_policy` draws, as the authors' Atari
//! evaluation does.
//!
//! Deviations: actions are mapped to ±1 (the same for D4RL's locomotion). When acting, steps before
//! the start are left out instead of padded and masked, which gives the same actions.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trajformer_models::choices::logsumexp;
use trajformer_models::decision_transformer::{
    Contexts, DecisionTransformer as Network, DecisionTransformerConfig as Sizes,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, Schedule};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::ranks::{self, Ranks, rows_of};
use trajformer_models::uploads::CachedUploads;
use trajformer_models::work;

use crate::offpolicy::{StateNames, Trained};
use crate::policies::return_conditioned::{
    Choosing, ContextOptions, Instructed, ReturnConditionedPolicy, State,
};
use trajformer_core::algorithm::{Algorithm, Build, Matmul, Work};
use trajformer_core::dataset::{ActionKind, Dataset, Episode};
use trajformer_core::error::Result;
use trajformer_core::held_out::{self, CHUNK_ROWS, HELD_OUT_LOSS, WeightedMean};
use trajformer_core::instructed_episodes::InstructedEpisodes;
use trajformer_core::instructions::TextConfig;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::{Metrics, numbers};
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::Policy;
use trajformer_core::source::Stage;
use trajformer_data::return_sequences;
use trajformer_data::return_sequences::{Padding, ReturnOptions, ReturnScale, ReturnSequences};
use trajformer_data::return_view::ReturnView;
use trajformer_models::rng::Rng;

/// `[algorithm.decision_transformer]`. Defaults: the authors' gym settings (paper, table 8), except `target_returns`, which they
/// have for each environment (`configs/decision_transformer`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionTransformerConfig {
    /// Context K in steps.
    pub context_steps: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width.
    pub embedding: usize,
    /// Dropout of attention, residual branches and embeddings, in [0, 1).
    pub dropout: f64,
    /// Sub-trajectories in a batch.
    pub batch_size: usize,
    /// AdamW's rate after the warm-up.
    pub learning_rate: f64,
    /// Decoupled weight decay, of every parameter.
    pub weight_decay: f64,
    /// Updates of linear warm-up.
    pub warmup_updates: u64,
    /// Gradients are clipped to this norm.
    pub clip_norm: f64,
    /// Returns are divided by this: a number, or `"data"` for the largest return in the data, without its sign.
    pub return_scale: ReturnScale,
    /// Returns to aim at, in the environment's units; each is evaluated, the first is the result. The authors': 3600 and
    /// 1800 for hopper, 12000 and 6000 for halfcheetah, 5000 and 2500 for walker2d. Empty: the best return in the data.
    pub target_returns: Vec<f32>,
    /// Rows of the time-step embedding; later steps count as the last.
    pub max_episode_steps: usize,
    /// Padding of sub-trajectories that are shorter than the context, in training.
    pub padding: Padding,
    /// Type of the blocks' matrix products in training and acting: `"f32"` or `"bf16"`.
    pub matmul: Matmul,
    /// How episodes are conditioned on instructions; none: on returns alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
}

impl Default for DecisionTransformerConfig {
    fn default() -> Self {
        Self {
            context_steps: 20,
            layers: 3,
            heads: 1,
            embedding: 128,
            dropout: 0.1,
            batch_size: 64,
            learning_rate: 1e-4,
            weight_decay: 1e-4,
            warmup_updates: 10_000,
            clip_norm: 0.25,
            return_scale: ReturnScale::Number(1000.0),
            target_returns: Vec::new(),
            max_episode_steps: 1000,
            padding: Padding::Left,
            matmul: Matmul::F32,
            text: None,
        }
    }
}

impl DecisionTransformerConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.decision_transformer");
        keys.counts(&[
            ("context_steps", self.context_steps, 10_000),
            ("layers", self.layers, 1_000),
            ("heads", self.heads, 1 << 16),
            ("embedding", self.embedding, 1 << 16),
            ("batch_size", self.batch_size, 1 << 20),
            ("max_episode_steps", self.max_episode_steps, 100_000_000),
        ])?;
        keys.heads(self.embedding, self.heads)?;
        keys.dropout(self.dropout)?;
        keys.positive(&[
            ("learning_rate", self.learning_rate),
            ("clip_norm", self.clip_norm),
        ])?;
        if let ReturnScale::Number(scale) = self.return_scale {
            keys.positive(&[("return_scale", scale)])?;
        }
        keys.not_negative(&[("weight_decay", self.weight_decay)])?;
        if let Some(text) = &self.text {
            text.check("algorithm.decision_transformer.text")?;
        }
        keys.target_returns(&self.target_returns)?;
        let (length, width, batch) = (3 * self.context_steps, self.embedding, self.batch_size);
        keys.memory(
            "`layers`, `embedding`, `context_steps`, `batch_size` or `max_episode_steps`",
            &[
                // Weights with their gradients and two moments.
                &[4, self.max_episode_steps, width],
                &[4, self.layers, 12, width, width],
                // What the backward pass needs.
                &[self.layers, 16, batch, length, width],
                &[self.layers, 2, batch, self.heads, length, length],
            ],
        )?;
        Ok(())
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If no episode of the data is complete.
    pub fn build(&self, build: Build<'_>) -> Result<Box<dyn Algorithm>> {
        Ok(Box::new(self.built(build)?))
    }

    fn built(&self, build: Build<'_>) -> Result<DecisionTransformer> {
        let (o, a) = build.source.dims();
        let choices = build.bounds.kind().choices();
        let return_scale = self.return_scale.of(build.source.data())?;
        let options = ReturnOptions {
            context_steps: self.context_steps,
            return_scale,
            max_episode_steps: self.max_episode_steps,
            padding: self.padding,
        };
        let by_returns = self.text.as_ref().is_none_or(|text| text.returns);
        if let Some(data) = build.source.data().filter(|_| by_returns) {
            return_sequences::misfits(
                data,
                &options,
                &self.target_returns,
                "algorithm.decision_transformer",
            )
            .iter()
            .for_each(|text| tracing::warn!("{text}"));
        }
        let held_out_options = options.clone();
        let view = ReturnView::new(
            build.source,
            "the Decision Transformer",
            build.bounds,
            build.device,
            options,
        )?;
        let mut params = Params::new(DType::F32, build.device);
        let sizes = Sizes {
            action_dim: choices.unwrap_or(a),
            choices: choices.is_some(),
            ..self.sizes(o, a)
        };
        Network::new(&sizes, &mut params.init(build.rng))?;
        let told = |text| InstructedEpisodes::new(text, build.device, Episode::is_complete);
        let instructed = self.text.as_ref().map(told);
        Ok(DecisionTransformer {
            sequences: view.sequences,
            options: held_out_options,
            held_out: None,
            normalizer: view.normalizer,
            bounds: build.bounds.clone(),
            best_return: view.best_return,
            ranks: None,
            instructed: instructed.transpose()?,
            learner: Learner::with_sizes(
                &Self {
                    return_scale: ReturnScale::Number(return_scale),
                    ..self.clone()
                },
                &sizes,
                params,
                build.source.stage(),
            )?,
        })
    }

    fn sizes(&self, observation_dim: usize, action_dim: usize) -> Sizes {
        Sizes {
            hidden: self.embedding,
            layers: self.layers,
            heads: self.heads,
            inner: 4 * self.embedding,
            max_timesteps: self.max_episode_steps,
            embedding_dropout: self.dropout,
            residual_dropout: self.dropout,
            attention_dropout: self.dropout,
            precision: self.matmul.into(),
            instruction_dim: self.text.as_ref().map_or(0, |text| text.embedding_dim()),
            ..Sizes::paper(observation_dim, action_dim)
        }
    }
}

/// The Decision Transformer on a data set.
pub struct DecisionTransformer {
    sequences: ReturnSequences,
    /// How they are cut and scaled.
    options: ReturnOptions,
    /// Those that are never learned from.
    held_out: Option<ReturnSequences>,
    normalizer: Normalizer,
    bounds: ActionBounds,
    best_return: f64,
    instructed: Option<InstructedEpisodes>,
    learner: Learner,
    /// Those that make every update together.
    ranks: Option<Arc<dyn Ranks>>,
}

/// A network that was trained elsewhere, with what acting needs beside it.
pub struct Pretrained {
    /// Sizes of the network, which configurations of this algorithm may not be able to say.
    pub sizes: Sizes,
    /// Its parameters.
    pub params: Params,
    /// Normalises observations.
    pub normalizer: Normalizer,
    /// Range of the actions.
    pub bounds: ActionBounds,
    /// Return to aim at where the configuration has no `target_returns`, in the environment's units.
    pub target_return: f64,
}

impl DecisionTransformer {
    /// Acts with a network that was trained elsewhere; it has no data, so it can't train on. The sizes in
    /// `config` don't count, except `max_episode_steps`, which must be that of the network.
    ///
    /// # Errors
    /// If parameters or statistics don't fit the sizes.
    pub fn pretrained(config: &DecisionTransformerConfig, parts: Pretrained) -> Result<Self> {
        let sizes = &parts.sizes;
        let options = ReturnOptions {
            context_steps: config.context_steps,
            return_scale: config.return_scale.of(None)?,
            max_episode_steps: sizes.max_timesteps,
            padding: config.padding,
        };
        let (o, a) = (sizes.observation_dim, sizes.action_dim);
        Ok(Self {
            sequences: ReturnSequences::without_data(o, a, options.clone())?,
            options,
            held_out: None,
            normalizer: parts.normalizer,
            bounds: parts.bounds,
            best_return: parts.target_return,
            instructed: None,
            learner: Learner::with_sizes(config, sizes, parts.params, Stage::Acting)?,
            ranks: None,
        })
    }
}

impl Algorithm for DecisionTransformer {
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let learner = &mut self.learner;
        let device = learner.model.params.device().clone();
        self.sequences.require_steps()?;
        let starts = self.sequences.draw(learner.config.batch_size, rng);
        let share = match &self.ranks {
            Some(ranks) => ranks::share(&**ranks, starts.len())?,
            None => 0..starts.len(),
        };
        let batch = self.sequences.batch(&starts[share.clone()], &device)?; // (B, K, ..)
        let instructions = match &self.instructed {
            Some(told) => {
                let episodes = starts.iter().map(|&start| self.sequences.episode_of(start));
                Some(rows_of(&told.batch(episodes, Some(rng))?, &share)?)
            }
            None => None,
        };
        let returns = match &learner.config.text {
            Some(text) if !text.returns => batch.returns_to_go.zeros_like()?,
            _ => batch.returns_to_go,
        };
        let contexts = Contexts {
            returns,
            observations: batch.states,
            actions: batch.actions,
            timesteps: batch.timesteps,
            mask: batch.mask,
            instructions,
        };
        let dropout = if learner.config.dropout > 0.0 {
            Dropout::draw(rng)
        } else {
            Dropout::off()
        };
        let rank = self.ranks.as_ref().map_or(0, |ranks| ranks.rank());
        let _together = ranks::together(self.ranks.as_ref());
        learner.update(&contexts, dropout.of_rank(rank))
    }

    fn set_ranks(&mut self, ranks: Arc<dyn Ranks>) -> Result<()> {
        ranks::share(&*ranks, self.learner.config.batch_size)?;
        self.ranks = Some(ranks);
        Ok(())
    }

    fn hold_out(&mut self, data: &Dataset) -> Result<()> {
        let device = self.learner.model.params.device();
        let (normalizer, options) = (&self.normalizer, self.options.clone());
        let held_out = ReturnSequences::prepared(data, normalizer, &self.bounds, device, options)?;
        self.held_out = Some(held_out);
        Ok(())
    }

    fn held_out_losses(&self) -> Result<Vec<(&'static str, f64)>> {
        let Some(sequences) = &self.held_out else {
            return Ok(Vec::new());
        };
        let (model, mut mean) = (&self.learner.model, WeightedMean::default());
        for chunk in held_out::rows(sequences.steps()).chunks(CHUNK_ROWS) {
            let batch = sequences.batch(chunk, model.params.device())?;
            let contexts = Contexts {
                returns: batch.returns_to_go,
                observations: batch.states,
                actions: batch.actions,
                timesteps: batch.timesteps,
                mask: batch.mask,
                instructions: None,
            };
            let loss = Learner::loss_of(&model.detached, &contexts, Dropout::off())?;
            let found = numbers(&[&loss, &contexts.mask.sum_all()?.to_dtype(loss.dtype())?])?;
            mean.add(found[0], found[1]);
        }
        Ok(mean
            .get()
            .map(|loss| (HELD_OUT_LOSS, loss))
            .into_iter()
            .collect())
    }

    fn work(&self) -> Option<Work> {
        let config = &self.learner.config;
        let steps = config.context_steps;
        let passes = work::decision_transformer(&self.learner.model.config, steps).train(1.0);
        Some(Work::of(&[passes], config.batch_size, 3 * steps))
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        Ok(Box::new(self.acting(Choosing::Likeliest)?))
    }

    fn sampling_policy(&self) -> Result<Option<Box<dyn Policy>>> {
        match self.bounds.kind() {
            ActionKind::Continuous => Ok(None),
            ActionKind::Discrete { .. } => Ok(Some(Box::new(self.acting(Choosing::Drawn)?))),
        }
    }

    fn instructed(&mut self) -> Option<&mut InstructedEpisodes> {
        self.instructed.as_mut()
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        let learner = &mut self.learner;
        learner.model.visit(visitor)?;
        self.normalizer.visit("policy.normalizer.", visitor)?;
        self.bounds.visit("policy.action_bounds.", visitor)?;
        visitor.number("policy.best_return", &mut self.best_return)?;
        let mut updates = learner.model.steps(); // restored with the optimiser
        visitor.counter("training.updates", &mut updates)?;
        Ok(())
    }

    /// The keys of `transformers`' `DecisionTransformerConfig`.
    fn description(&self) -> serde_json::Map<String, serde_json::Value> {
        let sizes = self.learner.model.net.config();
        let keys = json!({
            "model_type": "decision_transformer",
            "architectures": ["DecisionTransformerModel"],
            "state_dim": sizes.observation_dim,
            "act_dim": sizes.action_dim,
            "hidden_size": sizes.hidden,
            "max_ep_len": sizes.max_timesteps,
            "action_tanh": !sizes.choices,
            "vocab_size": 1,
            "n_positions": sizes.positions,
            "n_layer": sizes.layers,
            "n_head": sizes.heads,
            "n_inner": sizes.inner,
            "activation_function": sizes.activation.transformers_name(),
            "resid_pdrop": sizes.residual_dropout,
            "embd_pdrop": sizes.embedding_dropout,
            "attn_pdrop": sizes.attention_dropout,
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            // GPT-2's own defaults lie outside a vocabulary of one: `transformers` warns of them.
            "bos_token_id": null,
            "eos_token_id": null,
        });
        // Conditioned on an instruction, it is a model that `transformers` does not know.
        match keys {
            serde_json::Value::Object(keys) if self.learner.config.text.is_none() => keys,
            _ => serde_json::Map::new(),
        }
    }
}

impl DecisionTransformer {
    /// What it acts with; later updates do not change it.
    fn acting(&self, choosing: Choosing) -> Result<ReturnConditionedPolicy> {
        let learner = &self.learner;
        Ok(ReturnConditionedPolicy {
            network: Box::new(learner.model.snapshot()?.fixed()?),
            normalizer: self.normalizer.clone(),
            bounds: self.bounds.clone(),
            device: learner.model.params.device().clone(),
            options: ContextOptions {
                context_steps: learner.config.context_steps,
                return_scale: learner.config.return_scale.of(None)?,
                target_returns: learner.config.target_returns.clone(),
                best_return: self.best_return as f32,
                max_episode_steps: learner.config.max_episode_steps,
            },
            instructed: self.instructed.as_ref().map(|told| Instructed {
                known: Arc::clone(told.known()),
                returns: told.text().returns,
            }),
            choosing,
            state: State::default(),
        })
    }
}

/// The network and its update, apart from where batches come from.
pub struct Learner {
    config: DecisionTransformerConfig,
    model: Trained<Network>,
}

impl Learner {
    /// A learner that starts from these parameters of the network, with an optimiser if it is to learn.
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &DecisionTransformerConfig,
        observation_dim: usize,
        action_dim: usize,
        params: Params,
        stage: Stage,
    ) -> Result<Self> {
        Self::with_sizes(
            config,
            &config.sizes(observation_dim, action_dim),
            params,
            stage,
        )
    }

    /// [`Self::new`] with a network of these sizes.
    ///
    /// # Errors
    /// If names or shapes don't fit them.
    pub fn with_sizes(
        config: &DecisionTransformerConfig,
        sizes: &Sizes,
        params: Params,
        stage: Stage,
    ) -> Result<Self> {
        let adam = AdamConfig {
            clip_norm: Some(config.clip_norm),
            ..AdamConfig::default()
        };
        Ok(Self {
            config: config.clone(),
            model: Trained::around(
                StateNames::alone("model."),
                sizes.clone(),
                params,
                stage,
                |params| Adam::new(params, adam, |_| ParamGroup::decay(config.weight_decay)),
            )?,
        })
    }

    /// The network's parameters.
    pub fn params(&self) -> &Params {
        &self.model.params
    }

    /// One update on a batch of contexts (B, K, ...).
    ///
    /// # Errors
    /// If a tensor operation fails, or the contexts have instructions and the network reads none, or the reverse.
    pub fn update(&mut self, contexts: &Contexts, dropout: Dropout) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.model.params.device());
        let loss = self.loss(contexts, dropout)?;
        let schedule = Schedule::Warmup {
            length: self.config.warmup_updates,
        };
        let rate = self.config.learning_rate * schedule.factor(self.model.steps());
        let norm = self.model.descend(&loss, rate)?;
        Ok(Metrics::of_step(&loss, norm.as_ref()))
    }

    /// Mean squared error of the actions over the steps that are not padding; of choices their mean cross-entropy.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn loss(&self, contexts: &Contexts, dropout: Dropout) -> Result<Tensor> {
        Self::loss_of(&self.model.net, contexts, dropout)
    }

    fn loss_of(net: &Network, contexts: &Contexts, dropout: Dropout) -> Result<Tensor> {
        let predicted = net.forward(contexts, dropout)?; // (B, K, A)
        let error = if net.config().choices {
            let taken = (&predicted * &contexts.actions)?.sum(2)?;
            (logsumexp(&predicted)? - taken)? // (B, K)
        } else {
            (predicted - &contexts.actions)?.sqr()?.mean(2)? // (B, K)
        };
        let mask = contexts.mask.to_dtype(error.dtype())?;
        // Steps that are not padding, for each rank as many as in the mean.
        let steps = ranks::mean(&mask.sum_all()?)?;
        Ok(((error * &mask)?.sum_all()? / steps)?)
    }
}
