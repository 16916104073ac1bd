//! Trajectory Transformer: reinforcement learning as sequence modelling, planned with beam search.
//!
//! Janner, Li and Levine 2021, <https://arxiv.org/abs/2106.02039>; authors' code
//! jannerm/trajectory-transformer @ 8834a6e. Every number of a transition (observation, action,
//! reward, value) becomes one of N tokens, and a GPT is trained to give each token after the ones
//! before it:
//!
//! ```text
//! L = - mean over positions of mask * weight * log P(token_p | tokens before p)
//! V_t = sum over k >= 0 of discount^k r_{t+1+k}
//! ```
//!
//! Acting imagines futures with beam search and keeps those with the largest predicted
//! `sum of discount^t r_t + discount^H V_H` (see [`crate::planning`]).
//!
//! Warm-up and decay are as long as the authors': one and 20 epochs of the data, an epoch being as many updates as batches hold
//! all windows.
//!
//! Deviations: windows are drawn with replacement; the schedule counts updates where the authors
//! count tokens (equal at the end of each epoch), starts at its first value (their first update runs at the full rate), and
//! stays at its floor (their form, which climbs again, is `schedule = "cosine_unclamped"`, which the configurations of their
//! data sets have); actions are clipped to their bounds.

mod held_out;
pub mod recipe;
pub mod telling;
pub mod token_scores;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trajformer_models::activation::Activation;
use trajformer_models::decoder::Decoder;
use trajformer_models::dropout::Dropout;
use trajformer_models::gpt::{HiddenLayer, Parts, Scores};
use trajformer_models::muon::{Muon, MuonConfig, Optimizer};
use trajformer_models::norm::NormKind;
use trajformer_models::optim::{
    Adam, AdamConfig, ParamGroup, Schedule, WeightDecay, polyak_update,
};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::ranks::{self, Ranks, rows_of};
use trajformer_models::trajectory_transformer::{
    Positions, Recipe, TokenBatch, TrajectoryTransformer as Network,
    TrajectoryTransformerConfig as Sizes,
};
use trajformer_models::uploads::CachedUploads;
use trajformer_models::work;

pub use recipe::{MlpKind, NormName, OptimizerKind, PositionKind, RateSchedule};

use crate::offpolicy::{StateNames, Trained};
use crate::planning::{
    BeamPlanner, BeamSearch, Critic, Objective, PlanConfig, SearchModel, Window,
};
use trajformer_core::algorithm::{Algorithm, Build, Matmul, Work};
use trajformer_core::clock::Clock;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::dataset_checks::long_sequences;
use trajformer_core::epochs::{Span, WarmupAndDecay};
use trajformer_core::error::{Error, Result};
use trajformer_core::instructed_episodes::InstructedEpisodes;
use trajformer_core::instructions::TextConfig;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::ActionBounds;
use trajformer_core::policy::Policy;
use trajformer_core::source::Stage;
use trajformer_data::discretizer::DiscretizerKind;
use trajformer_data::sequences::TokenSequences;
use trajformer_data::termination_penalty::TerminationPenalty;
use trajformer_data::token_options::{GoalPrefix, TokenOptions, ValueColumn};
use trajformer_data::tokens::penalty_misfit;
use trajformer_models::rng::Rng;

/// The cosine ends at this share of the rate (authors' `training.py`).
const RATE_FLOOR: f64 = 0.1;

/// More would leave no digits of f32 to anything else.
const LARGEST_PENALTY: f64 = 1e30;

/// `[algorithm.trajectory_transformer]`. Defaults: the base of the authors' `config/offline.py` and their `scripts/train.py`, but
/// for `schedule`; what they change for single data sets stands in `configs/trajectory_transformer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrajectoryTransformerConfig {
    /// N, bins per dimension (paper, appendix A).
    pub bins: usize,
    /// Where the bins lie.
    pub discretizer: DiscretizerKind,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of each head; the embedding is this times `heads`.
    pub embedding_per_head: usize,
    /// Dropout of attention, residual branches and embeddings, in [0, 1).
    pub dropout: f64,
    /// Transitions in a training window: the longest sequence that the network can read.
    pub window_transitions: usize,
    /// Discount of values, in training and planning.
    pub discount: f64,
    /// Replaces the reward of every terminating step; `"none"` keeps the data's.
    pub termination_penalty: TerminationPenalty,
    /// Positions of a window at or past this step of the episode are not trained on. Default: the
    /// longest episode of the data (authors: 1000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_path_steps: Option<usize>,
    /// What the value tokens stand for.
    pub value: ValueColumn,
    /// What stands before a window: `"none"`, or `"final_observation"` to condition on goals (it takes
    /// one transition of the window).
    pub goal: GoalPrefix,
    /// Weight of action tokens in the loss; observations have 1.
    pub action_weight: f64,
    /// Weight of reward tokens in the loss.
    pub reward_weight: f64,
    /// Weight of value tokens in the loss.
    pub value_weight: f64,
    /// Windows in a batch; 128 for ant.
    pub batch_size: usize,
    /// AdamW's rate after the warm-up.
    pub learning_rate: f64,
    /// AdamW's decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Decoupled weight decay, of linear and head weights only.
    pub weight_decay: f64,
    /// Gradients are clipped to this norm.
    pub clip_norm: f64,
    /// Linear warm-up: a number of updates, or of epochs as the authors count it. `"1 epoch"`: 3,900 updates on a million
    /// steps, 1,570 on hopper-medium-replay.
    pub warmup_updates: Span,
    /// Where the cosine ends: `"20 epochs"`, or an update.
    pub decay_updates: Span,
    /// How the rate falls.
    pub schedule: RateSchedule,
    /// Share of the updates on the data (`train.updates`), at their end, in which a `"warmup_stable_decay"` falls to 0.
    pub decay_fraction: f64,
    /// What takes the steps: AdamW, or Muon for the blocks' matrices.
    pub optimizer: OptimizerKind,
    /// Muon's rate after the warm-up: about the spectral norm of a matrix's step.
    pub muon_learning_rate: f64,
    /// Muon's decay rate of the momentum.
    pub muon_momentum: f64,
    /// Muon's decoupled weight decay.
    pub muon_weight_decay: f64,
    /// Weights that act and are judged are the moving average of those that learn: average <- d average + (1 - d) weights after each
    /// update, with d the smaller one of this and (1 + n) / (10 + n) at update n. 0: they are those that learn.
    pub average_decay: f64,
    /// Hidden layers of the blocks.
    pub mlp: MlpKind,
    /// Norms of the blocks, and the one after the last of them.
    pub norm: NormName,
    /// Whether attention compares queries and keys by their cosine, whatever their lengths.
    pub qk_norm: bool,
    /// What is added to a token's embedding so that the network knows where it stands.
    pub positions: PositionKind,
    /// Whether the head that predicts the tokens of a place has their embeddings for its weights.
    pub tied_heads: bool,
    /// Multi-token prediction: whether value and next observation are learned and, in plans, taken from the last number of an action at
    /// once, beside the reward.
    pub multi_token: bool,
    /// Factor of the loss of these predictions.
    pub multi_token_weight: f64,
    /// Type of the matrix products of blocks and heads in training: `"f32"` or `"bf16"`. Planning is
    /// f32.
    pub matmul: Matmul,
    /// Beam search.
    pub planner: PlanConfig,
    /// How it is conditioned on an instruction, if it is: what the instruction's embedding adds to every token. Not in the paper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
}

impl Default for TrajectoryTransformerConfig {
    fn default() -> Self {
        Self {
            bins: 100,
            discretizer: DiscretizerKind::Quantile,
            layers: 4,
            heads: 4,
            embedding_per_head: 32,
            dropout: 0.1,
            window_transitions: 10,
            discount: 0.99,
            termination_penalty: TerminationPenalty::Reward(-100.0),
            max_path_steps: None,
            value: ValueColumn::Return,
            goal: GoalPrefix::None,
            action_weight: 5.0,
            reward_weight: 1.0,
            value_weight: 1.0,
            batch_size: 256,
            learning_rate: 6e-4,
            betas: [0.9, 0.95],
            weight_decay: 0.1,
            clip_norm: 1.0,
            warmup_updates: Span::Epochs(1.0),
            decay_updates: Span::Epochs(20.0),
            schedule: RateSchedule::Cosine,
            decay_fraction: 0.2,
            optimizer: OptimizerKind::Adamw,
            muon_learning_rate: 0.02,
            muon_momentum: 0.95,
            muon_weight_decay: 0.0,
            average_decay: 0.0,
            mlp: MlpKind::Gelu,
            norm: NormName::Layer,
            qk_norm: false,
            positions: PositionKind::Learned,
            tied_heads: false,
            multi_token: false,
            multi_token_weight: 1.0,
            matmul: Matmul::F32,
            planner: PlanConfig::default(),
            text: None,
        }
    }
}

impl TrajectoryTransformerConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.trajectory_transformer");
        keys.counts(&[
            ("bins", self.bins, usize::from(u16::MAX) - 1),
            ("layers", self.layers, 1_000),
            ("heads", self.heads, 16),
            ("embedding_per_head", self.embedding_per_head, 1 << 16),
            ("window_transitions", self.window_transitions, 10_000),
            ("batch_size", self.batch_size, 1 << 20),
            ("max_path_steps", self.max_path_steps.unwrap_or(1), 1 << 40),
        ])?;
        keys.dropout(self.dropout)?;
        if !(0.0..=1.0).contains(&self.discount) {
            return Err(keys.wrong("discount", self.discount, "0 to 1"));
        }
        if let TerminationPenalty::Reward(reward) = self.termination_penalty
            && (reward.is_nan() || reward.abs() > LARGEST_PENALTY)
        {
            let expected = format!("±{LARGEST_PENALTY} at most, or \"none\"");
            return Err(keys.wrong("termination_penalty", reward, expected));
        }
        keys.betas(self.betas)?;
        keys.positive(&[
            ("learning_rate", self.learning_rate),
            ("clip_norm", self.clip_norm),
            ("muon_learning_rate", self.muon_learning_rate),
        ])?;
        for (key, value) in [
            ("muon_momentum", self.muon_momentum),
            ("average_decay", self.average_decay),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(keys.wrong(key, value, "0 or above, below 1"));
            }
        }
        keys.shares(&[("decay_fraction", self.decay_fraction)])?;
        keys.not_negative(&[
            ("muon_weight_decay", self.muon_weight_decay),
            ("weight_decay", self.weight_decay),
            ("action_weight", self.action_weight),
            ("reward_weight", self.reward_weight),
            ("value_weight", self.value_weight),
            ("multi_token_weight", self.multi_token_weight),
        ])?;
        if self.has_cosine() {
            self.spans().check(&keys)?;
        }
        if let Some(text) = &self.text {
            text.check_without_returns("algorithm.trajectory_transformer.text")?;
        }
        let goal = usize::from(self.goal != GoalPrefix::None);
        if self.window_transitions <= goal {
            let expected = "at least 2 with a goal";
            return Err(keys.wrong("window_transitions", self.window_transitions, expected));
        }
        self.planner.check(self.window_transitions - goal)?;
        if self.multi_token {
            self.planner.check_multi_token()?;
            if self.multi_token_weight == 0.0 {
                let expected = "above 0: with `multi_token` plans take what these heads predict, and with 0 they would learn nothing";
                return Err(keys.wrong("multi_token_weight", 0.0, expected));
            }
        }
        // One number each of observation and action, reward, value: the fewest tokens there can be.
        self.check_memory(4)
    }

    /// Fails where plans are told to take several tokens at a time (`planner.multi_token = true`) and would not.
    ///
    /// # Errors
    /// Saying why, and what to do.
    pub fn check_acting(&self) -> Result<()> {
        self.check_heads(
            "the network predicts one token after the other: it has no heads for several at once, which `multi_token = true` trains; leave \
             `planner.multi_token` out, or train anew with that",
        )
    }

    /// As [`Self::check_acting`], of a network that is still to be trained.
    ///
    /// # Errors
    /// As [`Self::check_acting`].
    pub fn check_will_act(&self) -> Result<()> {
        self.check_heads(
            "the network will predict one token after the other, because `multi_token` is false: it gets no heads for several at once; set \
             `multi_token = true` for this training, or leave `planner.multi_token` out",
        )
    }

    /// Fails where plans are told to take several tokens at a time and would not; `without` is said where the network has no heads for that.
    fn check_heads(&self, without: &str) -> Result<()> {
        if self.planner.multi_token != Some(true) {
            return Ok(());
        }
        if !self.multi_token {
            return Err(Error::settings(format!(
                "`planner.multi_token` is true, but {without}"
            )));
        }
        if self.planner.objective == Objective::Likelihood {
            return Err(Error::settings(
                "`planner.multi_token` is true, but with `planner.objective = \"likelihood\"` plans go token by token: leave it out, or \
                 plan by \"return\"",
            ));
        }
        Ok(())
    }

    /// Fails if training or planning with transitions of so many tokens needs too much memory.
    fn check_memory(&self, transition_tokens: usize) -> Result<()> {
        let (planner, batch) = (&self.planner, self.batch_size);
        let width = self.heads * self.embedding_per_head;
        let length = self.window_transitions * transition_tokens;
        let candidates = planner.beam_width.saturating_mul(planner.n_expand);
        let seen = match planner.window {
            Window::Crop => planner.max_context_transitions * transition_tokens,
            Window::Grow => length,
        };
        let imagined = planner.horizon * transition_tokens;
        // Tokens that are predicted at once, and those of a window.
        let at_once = if self.multi_token {
            transition_tokens
        } else {
            0
        };
        let predicted = self.window_transitions * at_once;
        Keys("algorithm.trajectory_transformer").memory(
            "`layers`, `embedding_per_head`, `window_transitions`, `bins`, `batch_size`, \
             `planner.beam_width` or `planner.n_expand`",
            &[
                // Weights with their gradients and two moments.
                &[4, self.layers, 12, width, width],
                &[8, transition_tokens, self.bins + 1, width],
                // What the backward pass needs.
                &[self.layers, 16, batch, length, width],
                &[self.layers, 2, batch, self.heads, length, length],
                &[2, batch, length, self.bins + 1],
                // What is predicted at once: weights, and what the backward pass needs.
                &[4, at_once, width, width],
                &[6, batch, predicted, width],
                &[2, batch, predicted, self.bins + 1],
                // Keys and values of every candidate, its tokens, and what may follow.
                &[candidates, 2, self.layers, seen.min(length), width],
                &[candidates, 2, imagined],
                &[candidates, 6, self.bins + 1],
                &[candidates, at_once, self.bins + 1],
            ],
        )
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If no episode of the data has two steps, or there are more choices than bins.
    pub fn build(&self, build: Build<'_>) -> Result<Box<dyn Algorithm>> {
        Ok(Box::new(self.built(build)?))
    }

    /// [`Self::build`], with the planner open to look at.
    ///
    /// # Errors
    /// As there.
    pub fn built(&self, build: Build<'_>) -> Result<TrajectoryTransformer> {
        let source = build.source;
        let (o, a) = source.dims();
        self.check_memory(o + a + 2)?;
        let kind = build.bounds.kind();
        let mut sequences = TokenSequences::of_source(source, &self.token_options(), kind)?;
        if let Some(data) = source.data() {
            self.warn_of_misfits(data);
            let keys = Keys("algorithm.trajectory_transformer");
            let (windows, updates) = (sequences.len(), build.training_updates);
            let warmup = self.warmup_updates;
            if let Some(text) = warmup.endless_warmup(&keys, windows, self.batch_size, updates) {
                tracing::warn!("{text}");
            }
        }
        if !build.device.is_cpu() {
            sequences.move_to(build.device)?;
        }
        let mut params = Params::new(DType::F32, build.device);
        Network::new(&self.sizes(o, a), &mut params.init(build.rng))?;
        if self.has_cosine() && source.data().is_some() {
            let keys = Keys("algorithm.trajectory_transformer");
            self.spans()
                .updates(&keys, sequences.len(), self.batch_size)?;
        }
        let has_windows = |episode: &Episode| episode.steps > 1;
        let told = |text| InstructedEpisodes::new(text, build.device, has_windows);
        let instructed = self.text.as_ref().map(told);
        Ok(TrajectoryTransformer {
            held_out: None,
            bounds: build.bounds.clone(),
            instructed: instructed.transpose()?,
            learner: Learner::new(self, o, a, params, build.source.stage())?
                .with_epochs_of(sequences.len())
                .with_training_updates(build.training_updates),
            sequences,
            clock: None,
            critic: None,
            ranks: None,
        })
    }

    fn has_cosine(&self) -> bool {
        use RateSchedule::{Cosine, CosineUnclamped};
        matches!(self.schedule, Cosine | CosineUnclamped)
    }

    fn spans(&self) -> WarmupAndDecay {
        WarmupAndDecay {
            warmup: self.warmup_updates,
            decay: self.decay_updates,
        }
    }

    fn warn_of_misfits(&self, data: &Dataset) {
        const TABLE: &str = "algorithm.trajectory_transformer";
        let tokens = data.observation_dim + data.action_dim + 2;
        let key = format!("{TABLE}.window_transitions");
        if let Some(text) = long_sequences(data, &key, self.window_transitions, tokens) {
            tracing::warn!("{text}");
        }
        if let TerminationPenalty::Reward(penalty) = self.termination_penalty {
            let key = format!("{TABLE}.termination_penalty");
            if let Some(text) = penalty_misfit(data, penalty, &key) {
                tracing::warn!("{text}");
            }
        }
        let goal = usize::from(self.goal != GoalPrefix::None);
        let (asked, seen) = (
            self.planner.max_context_transitions,
            self.window_transitions - goal,
        );
        if self.planner.window == Window::Crop && self.planner.prefix_context && asked > seen {
            tracing::warn!(
                "`{TABLE}.planner.max_context_transitions` is {asked}, but the network reads {seen} transitions \
                 (`window_transitions`): it will see the last {seen} of them"
            );
        }
    }

    fn token_options(&self) -> TokenOptions {
        TokenOptions {
            bins: self.bins,
            discretizer: self.discretizer,
            window_transitions: self.window_transitions,
            discount: self.discount,
            termination_penalty: match self.termination_penalty {
                TerminationPenalty::Reward(reward) => Some(reward),
                TerminationPenalty::None(_) => None,
            },
            max_path_steps: self.max_path_steps,
            value: self.value,
            goal: self.goal,
        }
    }

    /// The network's sizes.
    pub fn sizes(&self, observation_dim: usize, action_dim: usize) -> Sizes {
        Sizes {
            observation_dim,
            action_dim,
            bins: self.bins,
            layers: self.layers,
            heads: self.heads,
            embedding: self.heads * self.embedding_per_head,
            window_transitions: self.window_transitions,
            embedding_dropout: self.dropout,
            residual_dropout: self.dropout,
            attention_dropout: self.dropout,
            action_weight: self.action_weight,
            reward_weight: self.reward_weight,
            value_weight: self.value_weight,
            multi_token_weight: self.multi_token_weight,
            precision: self.matmul.into(),
            activation: self.activation(),
            recipe: self.recipe(),
            instruction_dim: self.text.as_ref().map_or(0, |text| text.embedding_dim()),
        }
    }

    /// Keys of the network's parts that are not the authors', with their values.
    fn parts_of_its_own(&self) -> serde_json::Map<String, serde_json::Value> {
        let authors = Self::default();
        let parts = |config: &Self| {
            [
                ("mlp", json!(config.mlp)),
                ("norm", json!(config.norm)),
                ("qk_norm", json!(config.qk_norm)),
                ("positions", json!(config.positions)),
                ("tied_heads", json!(config.tied_heads)),
                ("multi_token", json!(config.multi_token)),
            ]
        };
        let pairs = parts(self).into_iter().zip(parts(&authors));
        let own = pairs.filter(|(own, authors)| own != authors);
        own.map(|((key, value), _)| (key.to_owned(), value))
            .collect()
    }

    /// Activation of the blocks' hidden layers.
    fn activation(&self) -> Activation {
        match self.mlp {
            // SwiGLU has its own and takes no other.
            MlpKind::Gelu | MlpKind::Swiglu => Activation::Gelu,
            MlpKind::SquaredRelu => Activation::SquaredRelu,
        }
    }

    /// Parts of the network that may be others than the authors'.
    fn recipe(&self) -> Recipe {
        Recipe {
            parts: Parts {
                norm: match self.norm {
                    NormName::Layer => NormKind::Layer,
                    NormName::Rms => NormKind::Rms,
                },
                scores: if self.qk_norm {
                    Scores::Cosine
                } else {
                    Scores::Plain
                },
                hidden: match self.mlp {
                    MlpKind::Gelu | MlpKind::SquaredRelu => HiddenLayer::Plain,
                    MlpKind::Swiglu => HiddenLayer::SwiGlu,
                },
            },
            positions: match self.positions {
                PositionKind::Learned => Positions::Learned,
                PositionKind::StepAndDimension => Positions::StepAndDimension,
            },
            tied_heads: self.tied_heads,
            multi_token: self.multi_token,
        }
    }

    /// Factor of the next update's rate, before which `completed` updates were made (0 for the first), where an epoch has so
    /// many windows, and the run makes so many updates on its data.
    pub fn rate_factor(&self, completed: u64, windows: usize, training_updates: u64) -> f64 {
        let updates = |span: Span| span.updates(windows, self.batch_size);
        let (warmup, end) = (updates(self.warmup_updates), updates(self.decay_updates));
        let floor = RATE_FLOOR;
        let schedule = match self.schedule {
            RateSchedule::Cosine => Schedule::WarmupCosine { warmup, end, floor },
            RateSchedule::CosineUnclamped => Schedule::WarmupCosineUnclamped { warmup, end, floor },
            RateSchedule::Constant => Schedule::Warmup { length: warmup },
            RateSchedule::WarmupStableDecay => Schedule::WarmupStableDecay {
                warmup,
                end: training_updates,
                decay: (training_updates as f64 * self.decay_fraction).round() as u64,
            },
        };
        schedule.factor(completed)
    }
}

/// The Trajectory Transformer on a data set.
pub struct TrajectoryTransformer {
    sequences: TokenSequences,
    /// Windows that are never learned from.
    held_out: Option<TokenSequences>,
    bounds: ActionBounds,
    instructed: Option<InstructedEpisodes>,
    learner: Learner,
    /// What plans with a budget of time go by.
    clock: Option<Arc<dyn Clock>>,
    /// What plans are scored with, if not by the network: a copy of another run's.
    critic: Option<Arc<Critic>>,
    /// Those that make every update together.
    ranks: Option<Arc<dyn Ranks>>,
}

impl TrajectoryTransformer {
    /// Whether the weights that act and are judged are averages of those that learn (`average_decay`).
    pub fn acts_with_averages(&self) -> bool {
        self.learner.config.average_decay > 0.0
    }

    /// The network's parameters.
    pub fn params(&self) -> &Params {
        self.learner.params()
    }

    /// The policy, with what it imagines open to look at.
    ///
    /// # Errors
    /// If the planner's settings do not fit the network.
    pub fn planner(&self) -> Result<BeamPlanner> {
        let (config, sizes) = (&self.learner.config, self.learner.model.net.config());
        let shape = sizes.decoder_shape();
        let decoder = Arc::new(Decoder::<f32>::new(
            &self.learner.acting().0.tensors()?,
            shape,
        )?);
        let model = SearchModel {
            decoder,
            discretizer: Arc::new(self.sequences.discretizer().clone()),
            observation_dim: sizes.observation_dim,
            discount: config.discount,
            goal_conditioned: config.goal != GoalPrefix::None,
        };
        let search = BeamSearch::new(model, config.planner.clone())?;
        let mut search = search.with_choices(self.bounds.kind().choices());
        if let Some(critic) = &self.critic {
            search = search.with_critic(Arc::clone(critic))?;
        }
        search.check_critic()?;
        let row = |bound: Tensor| bound.to_device(&Device::Cpu)?.to_vec1::<f32>();
        let (low, high) = (row(self.bounds.low()?)?, row(self.bounds.high()?)?);
        let mut planner = BeamPlanner::new(search, low, high)?;
        if let Some(clock) = &self.clock {
            planner = planner.with_clock(Arc::clone(clock));
        }
        Ok(match &self.instructed {
            Some(told) => planner.with_instructions(Arc::clone(told.known())),
            None => planner,
        })
    }
}

impl TrajectoryTransformer {
    /// Shows the critic, where one is configured; a checkpoint of a run that was trained without has none.
    fn visit_critic(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        const NAME: &str = "policy.critic";
        if self.learner.config.planner.critic.is_none() || !visitor.holds(NAME) {
            return Ok(());
        }
        let critic = self.critic.as_ref().map(|critic| critic.to_bytes());
        let before = critic.transpose()?.unwrap_or_default();
        let mut bytes = before.clone();
        visitor.bytes(NAME, &mut bytes)?;
        if bytes == before {
            Ok(())
        } else {
            self.set_critic(&bytes)
        }
    }
}

impl Algorithm for TrajectoryTransformer {
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let learner = &mut self.learner;
        let device = learner.model.params.device();
        self.sequences.require_windows()?;
        let windows = self.sequences.draw(learner.config.batch_size, rng);
        let share = match &self.ranks {
            Some(ranks) => ranks::share(&**ranks, windows.len())?,
            None => 0..windows.len(),
        };
        let mut batch = self.sequences.batch(&windows[share.clone()], device)?; // (B, T)
        if let Some(told) = &self.instructed {
            let episodes = windows
                .iter()
                .map(|&window| self.sequences.episode_of(window));
            batch.instructions = Some(rows_of(&told.batch(episodes, Some(rng))?, &share)?);
        }
        let dropout = if learner.config.dropout > 0.0 {
            Dropout::draw(rng)
        } else {
            Dropout::off()
        };
        let rank = self.ranks.as_ref().map_or(0, |ranks| ranks.rank());
        let _together = ranks::together(self.ranks.as_ref());
        learner.update(&batch, dropout.of_rank(rank))
    }

    fn set_ranks(&mut self, ranks: Arc<dyn Ranks>) -> Result<()> {
        ranks::share(&*ranks, self.learner.config.batch_size)?;
        self.ranks = Some(ranks);
        Ok(())
    }

    fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = Some(clock);
    }

    fn set_critic(&mut self, critic: &[u8]) -> Result<()> {
        if self.bounds.kind().choices().is_some() {
            return Err(Error::Unsuitable(
                "actions are choices, and the planner takes critics of real numbers: leave `planner.value` and \
                 `planner.critic` out"
                    .to_owned(),
            ));
        }
        let (critic, sizes) = (Critic::from_bytes(critic)?, self.learner.model.net.config());
        critic.check_dimensions(sizes.observation_dim, sizes.action_dim)?;
        self.critic = Some(Arc::new(critic));
        Ok(())
    }

    fn instructed(&mut self) -> Option<&mut InstructedEpisodes> {
        self.instructed.as_mut()
    }

    /// How well tokens are told of windows that are learned from, by what they stand for: `action_accuracy`, `action_cross_entropy`, ...
    fn diagnostics(&mut self, _: &mut Rng) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        for (name, number) in self.token_metrics()? {
            metrics.push(name, &Tensor::new(number, &Device::Cpu)?);
        }
        Ok(metrics)
    }

    fn hold_out(&mut self, data: &Dataset) -> Result<()> {
        let options = self.learner.config.token_options();
        let mut windows = self.sequences.of_others(data, &options)?;
        if !self.sequences.is_on_host() {
            windows.move_to(self.learner.model.params.device())?;
        }
        self.held_out = Some(windows);
        Ok(())
    }

    fn held_out_losses(&self) -> Result<Vec<(&'static str, f64)>> {
        let Some(windows) = &self.held_out else {
            return Ok(Vec::new());
        };
        let (_, net) = self.learner.acting();
        let device = self.learner.model.params.device();
        let mut found = held_out::losses(net, windows, device)?;
        found.extend(telling::held_out_accuracies(net, windows, device)?);
        Ok(found)
    }

    fn work(&self) -> Option<Work> {
        let sizes = &self.learner.model.config;
        let passes = work::trajectory_transformer(sizes).train(1.0);
        let batch = self.learner.config.batch_size;
        Some(Work::of(&[passes], batch, sizes.block_size()))
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        Ok(Box::new(self.planner()?))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        let learner = &mut self.learner;
        learner.visit(visitor)?;
        self.sequences
            .visit_discretizer("policy.discretizer.", visitor)?;
        self.bounds.visit("policy.action_bounds.", visitor)?;
        let mut updates = learner.model.steps(); // restored with the optimiser
        visitor.counter("training.updates", &mut updates)?;
        self.visit_critic(visitor)
    }

    /// The model's sizes, by the names that the authors' configurations use. No other library
    /// opens it: `transformers` has dropped its own version.
    fn description(&self) -> serde_json::Map<String, serde_json::Value> {
        let sizes = self.learner.model.net.config();
        let keys = json!({
            "vocab_size": sizes.bins,
            "observation_dim": sizes.observation_dim,
            "action_dim": sizes.action_dim,
            "transition_dim": sizes.transition_dim(),
            "block_size": sizes.block_size(),
            "n_layer": sizes.layers,
            "n_head": sizes.heads,
            "n_embd": sizes.embedding,
            "action_weight": sizes.action_weight,
            "reward_weight": sizes.reward_weight,
            "value_weight": sizes.value_weight,
            "embd_pdrop": sizes.embedding_dropout,
            "resid_pdrop": sizes.residual_dropout,
            "attn_pdrop": sizes.attention_dropout,
        });
        let mut keys = match keys {
            serde_json::Value::Object(keys) => keys,
            _ => serde_json::Map::new(),
        };
        keys.extend(self.learner.config.parts_of_its_own());
        keys
    }
}

/// The network and its update, apart from where batches come from.
pub struct Learner {
    config: TrajectoryTransformerConfig,
    model: Trained<Network>,
    /// In an epoch.
    windows: usize,
    /// Of the run on its data.
    training_updates: u64,
    /// What acts in the place of the model, where weights are averaged.
    average: Option<Average>,
}

/// Moving averages of a model's parameters, and the network that they make.
struct Average {
    params: Params,
    net: Network,
}

impl Learner {
    /// A learner that starts from these parameters of the network, with an optimiser if it is to learn.
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &TrajectoryTransformerConfig,
        observation_dim: usize,
        action_dim: usize,
        params: Params,
        stage: Stage,
    ) -> Result<Self> {
        let adam = AdamConfig {
            beta1: config.betas[0],
            beta2: config.betas[1],
            weight_decay: WeightDecay::Decoupled,
            clip_norm: Some(config.clip_norm),
            ..AdamConfig::default()
        };
        let group = |name: &str| {
            if Network::decays(name) {
                ParamGroup::decay(config.weight_decay)
            } else {
                ParamGroup::decay(0.0)
            }
        };
        let sizes = config.sizes(observation_dim, action_dim);
        Self {
            config: config.clone(),
            model: Trained::around(
                StateNames::alone("model."),
                sizes,
                params,
                stage,
                |params| match config.optimizer {
                    OptimizerKind::Adamw => Ok(Optimizer::from(Adam::new(params, adam, group)?)),
                    OptimizerKind::Muon => {
                        let muon = MuonConfig {
                            momentum: config.muon_momentum,
                            weight_decay: config.muon_weight_decay,
                            rate_scale: config.muon_learning_rate / config.learning_rate,
                        };
                        let muon = Muon::new(params, (adam, muon), group, Network::is_matrix)?;
                        Ok(Optimizer::Muon(muon))
                    }
                },
            )?,
            windows: 1,
            training_updates: 0,
            average: None,
        }
        .with_average(stage)
    }

    /// A network that only acts has the averages for its parameters.
    fn with_average(mut self, stage: Stage) -> Result<Self> {
        if self.config.average_decay > 0.0 && stage == Stage::Learning {
            let params = self.model.params.deep_copy(false)?;
            let net = Network::new(&self.model.config, &mut params.detached())?;
            self.average = Some(Average { params, net });
        }
        Ok(self)
    }

    /// The same in a run that makes so many updates on its data, which its schedule may count in.
    #[must_use]
    pub fn with_training_updates(mut self, updates: u64) -> Self {
        self.training_updates = updates;
        self
    }

    /// The parameters that act: those that learn, or their averages.
    fn acting(&self) -> (&Params, &Network) {
        match &self.average {
            Some(average) => (&average.params, &average.net),
            None => (&self.model.params, &self.model.detached),
        }
    }

    /// The averages after an update.
    fn follow(&self) -> Result<()> {
        let Some(average) = &self.average else {
            return Ok(());
        };
        let updates = self.model.steps() as f64;
        let decay = (1.0 + updates) / (10.0 + updates);
        let decay = decay.min(self.config.average_decay);
        Ok(polyak_update(
            &average.params,
            &self.model.params,
            1.0 - decay,
        )?)
    }

    /// The same on data with so many windows, which its schedule may count in.
    #[must_use]
    pub fn with_epochs_of(mut self, windows: usize) -> Self {
        self.windows = windows;
        self
    }

    /// The network's parameters.
    pub fn params(&self) -> &Params {
        &self.model.params
    }

    /// Shows the parameters that act as the model, and what learns beside them.
    fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        match &self.average {
            None => self.model.visit(visitor),
            Some(average) => {
                average.params.visit("model.", visitor)?;
                self.model.visit_as("training.weights.", visitor)
            }
        }
    }

    /// One update on a batch of windows, at the schedule's rate.
    ///
    /// # Errors
    /// If a tensor operation fails, or the windows have instructions and the network reads none, or the reverse.
    pub fn update(&mut self, batch: &TokenBatch, dropout: Dropout) -> Result<Metrics> {
        let (config, updates) = (&self.config, self.training_updates);
        let factor = config.rate_factor(self.model.steps(), self.windows, updates);
        self.update_at_rate(batch, dropout, self.config.learning_rate * factor)
    }

    /// One update at this rate, for schedules that count something else.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn update_at_rate(
        &mut self,
        batch: &TokenBatch,
        dropout: Dropout,
        rate: f64,
    ) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.model.params.device());
        let losses = self.model.net.losses(batch, dropout)?;
        let loss = losses.sum(self.config.multi_token_weight)?;
        let norm = self.model.descend(&loss, rate)?;
        self.follow()?;
        let mut metrics = Metrics::of_step(&loss, norm.as_ref());
        if let Some(more) = &losses.multi_token {
            metrics.push("multi_token_loss", more);
        }
        Ok(metrics)
    }

    /// Weighted cross entropy of the targets, the mean over all positions, plus that of what is predicted at once.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn loss(&self, batch: &TokenBatch, dropout: Dropout) -> Result<Tensor> {
        Ok(self.model.net.loss(batch, dropout)?)
    }
}
