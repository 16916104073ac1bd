//! `[algorithm.qt]`.

use serde::{Deserialize, Serialize};
use trajformer_models::decision_transformer::DecisionTransformerConfig as Sizes;
use trajformer_models::twin_critics::TwinCriticsConfig;

use super::acting::{CandidateReturns, Choice, Options as ActingOptions};
use trajformer_core::algorithm::Matmul;
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::schedules::DecayUpdates;
use trajformer_data::reward_windows::Starts;

/// Futures that `max_backup` takes the largest of.
pub(super) const BACKUPS: usize = 10;

/// Where a target's future begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backup {
    /// At the window's last state: rewards up to it are summed (the authors' `--k_rewards`, in all their runs).
    #[default]
    Window,
    /// At the next state.
    Step,
}

/// `[algorithm.qt]`. Defaults: the authors' (argparse in `experiment.py`, and what all runs of `run.sh` have in common); `eta`,
/// `clip_norm`, `context_steps`, `starts` and `target_returns` differ among their data sets (`configs/qt`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QtConfig {
    /// Context K in steps, at least 2.
    pub context_steps: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width.
    pub embedding: usize,
    /// Widths of the critics' hidden layers.
    pub critic_hidden: Vec<usize>,
    /// Dropout of attention, residual branches and embeddings, in [0, 1): of the actor and of its slow copy.
    pub dropout: f64,
    /// Sub-trajectories in a batch.
    pub batch_size: usize,
    /// Where sub-trajectories start: `"anywhere"`, or `"inside"`, never reaching an episode's end.
    pub starts: Starts,
    /// Adam's rate of the actor, before decay.
    pub learning_rate: f64,
    /// Adam's rate of the critics, before decay.
    pub critic_learning_rate: f64,
    /// Half a cosine over which both rates decay to 0: `"training"`, `"none"` or a number of updates, at least `train.updates`.
    pub decay_updates: DecayUpdates,
    /// Updates after which the rates are set anew: the authors' iteration.
    pub decay_every: u64,
    /// Added to the actor's gradient, times the parameter (L2, not AdamW's decay).
    pub weight_decay: f64,
    /// Gradients of the actor and of the critics are clipped to this norm, each by itself.
    pub clip_norm: f64,
    /// Discount γ of the critics, in (0, 1].
    pub discount: f64,
    /// Polyak rate of the critics' slow copies, after each update.
    pub target_rate: f64,
    /// Polyak rate of the actor's slow copy: one less the authors' `ema_decay`.
    pub average_rate: f64,
    /// Updates after which the actor's slow copy begins to follow; it is the initial actor until then.
    pub average_from: u64,
    /// Updates between its steps.
    pub average_every: u64,
    /// η, weight of the values in the actor's loss.
    pub eta: f64,
    /// w, weight of imitation in the actor's loss: `eta2` of the authors.
    pub imitation_weight: f64,
    /// Where a target's future begins: `"window"` or `"step"`.
    pub backup: Backup,
    /// Whether each slow critic's future is the largest of ten, with noise on the last return.
    pub max_backup: bool,
    /// Whether a reward that comes with a task's end counts; `false` as in the authors' code.
    pub terminal_rewards: bool,
    /// Returns are divided by this.
    pub return_scale: f64,
    /// Returns to aim at, in the environment's units: candidates of one decision, not evaluated one by one. Empty: the best return in
    /// the data.
    pub target_returns: Vec<f32>,
    /// Candidates C of a decision, at least as many as there are target returns.
    pub candidates: usize,
    /// Standard deviation of the noise on candidates' scaled returns.
    pub candidate_noise: f64,
    /// How returns are spread over the candidates: `"corrected"`, or `"authors"`.
    pub candidate_returns: CandidateReturns,
    /// Whether the last candidate asks for the return that the critics expected of the step before (not the authors' `--rtg_no_q`).
    pub critic_return: bool,
    /// Which candidate is taken: `"weighted"` (one with probability proportional to exp(Q), as the authors), `"best"` or `"first"`.
    pub choice: Choice,
    /// Rows of the time-step embedding; later steps count as the last.
    pub max_episode_steps: usize,
    /// Type of the blocks' matrix products in training and acting: `"f32"` or `"bf16"`.
    pub matmul: Matmul,
}

impl Default for QtConfig {
    fn default() -> Self {
        Self {
            context_steps: 20,
            layers: 4,
            heads: 4,
            embedding: 256,
            critic_hidden: vec![256, 256, 256],
            dropout: 0.1,
            batch_size: 256,
            starts: Starts::Anywhere,
            learning_rate: 3e-4,
            critic_learning_rate: 3e-4,
            decay_updates: DecayUpdates::Updates(500_000),
            decay_every: 1000,
            weight_decay: 1e-4,
            clip_norm: 2.0,
            discount: 0.99,
            target_rate: 0.005,
            average_rate: 0.005,
            average_from: 1000,
            average_every: 5,
            eta: 1.0,
            imitation_weight: 1.0,
            backup: Backup::Window,
            max_backup: false,
            terminal_rewards: true,
            return_scale: 1000.0,
            target_returns: Vec::new(),
            candidates: 50,
            candidate_noise: 0.1,
            candidate_returns: CandidateReturns::Corrected,
            critic_return: true,
            choice: Choice::Weighted,
            max_episode_steps: 1000,
            matmul: Matmul::F32,
        }
    }
}

impl QtConfig {
    const KEYS: Keys = Keys("algorithm.qt");

    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Self::KEYS;
        keys.counts(&[
            ("context_steps", self.context_steps, 10_000),
            ("layers", self.layers, 1_000),
            ("heads", self.heads, 1 << 16),
            ("embedding", self.embedding, 1 << 16),
            ("batch_size", self.batch_size, 1 << 20),
            ("candidates", self.candidates, 10_000),
            ("max_episode_steps", self.max_episode_steps, 100_000_000),
        ])?;
        for (key, value) in [
            ("decay_every", self.decay_every),
            ("average_every", self.average_every),
        ] {
            if value == 0 {
                return Err(keys.wrong(key, 0, "at least 1"));
            }
        }
        if self.context_steps == 1 {
            let expected = "at least 2: critics learn from a step to the window's last state";
            return Err(keys.wrong("context_steps", 1, expected));
        }
        if self.candidates < self.target_returns.len() {
            let expected = format!(
                "at least one for each of the {} target returns",
                self.target_returns.len()
            );
            return Err(keys.wrong("candidates", self.candidates, expected));
        }
        keys.heads(self.embedding, self.heads)?;
        keys.dropout(self.dropout)?;
        keys.target_rate(self.target_rate)?;
        keys.positive(&[
            ("learning_rate", self.learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
            ("clip_norm", self.clip_norm),
            ("average_rate", self.average_rate),
            ("discount", self.discount),
            ("return_scale", self.return_scale),
        ])?;
        keys.shares(&[
            ("discount", self.discount),
            ("average_rate", self.average_rate),
        ])?;
        keys.not_negative(&[
            ("weight_decay", self.weight_decay),
            ("eta", self.eta),
            ("imitation_weight", self.imitation_weight),
            ("candidate_noise", self.candidate_noise),
        ])?;
        keys.target_returns(&self.target_returns)?;
        keys.hidden("critic_hidden", &self.critic_hidden)?;
        let (length, width, batch) = (3 * self.context_steps, self.embedding, self.batch_size);
        let rows = batch.saturating_mul(self.context_steps);
        let critics: usize = self
            .critic_hidden
            .iter()
            .fold(0, |sum, &w| sum.saturating_add(w));
        let copies = if self.max_backup { BACKUPS } else { 1 };
        keys.memory(
            "`layers`, `embedding`, `context_steps`, `batch_size`, `critic_hidden` or `max_episode_steps`",
            &[
                // Weights with their gradients, two moments and the slow copy.
                &[5, self.max_episode_steps, width],
                &[5, self.layers, 12, width, width],
                // What the backward pass needs, and the slow copy's forward pass.
                &[self.layers, 16 + copies, batch, length, width],
                &[self.layers, 2, batch, self.heads, length, length],
                &[8, rows, critics],
            ],
        )
    }

    /// Sizes of the actor for observations and actions of these dimensions.
    pub fn sizes(&self, observation_dim: usize, action_dim: usize) -> Sizes {
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
            ..Sizes::paper(observation_dim, action_dim)
        }
    }

    /// Sizes of the critics.
    pub fn critic_sizes(&self, observation_dim: usize, action_dim: usize) -> TwinCriticsConfig {
        TwinCriticsConfig {
            observation_dim,
            action_dim,
            hidden: self.critic_hidden.clone(),
        }
    }

    /// How a decision is made.
    pub fn acting(&self) -> ActingOptions {
        ActingOptions {
            return_scale: self.return_scale,
            candidates: self.candidates,
            noise: self.candidate_noise,
            returns: self.candidate_returns,
            critic_return: self.critic_return,
            choice: self.choice,
            max_episode_steps: self.max_episode_steps,
        }
    }
}
