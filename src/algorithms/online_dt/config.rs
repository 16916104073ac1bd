//! `[algorithm.online_dt]`.

use serde::{Deserialize, Serialize};
use trajformer_models::online_decision_transformer::OnlineDecisionTransformerConfig as Sizes;

use trajformer_core::error::Result;
use trajformer_core::keys::Keys;

/// `[algorithm.online_dt]`. Defaults: the authors' (argparse and constants of `main.py`, for hopper-medium), except `target_returns` and
/// `online_target_return`, which differ among environments (`configs/online_dt`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnlineDtConfig {
    /// Context K in steps, in training.
    pub context_steps: usize,
    /// Steps that it acts by, at most K.
    pub acting_context_steps: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width.
    pub embedding: usize,
    /// Dropout of embedded tokens, attention and what blocks add, in [0, 1).
    pub dropout: f64,
    /// Sub-trajectories in a batch.
    pub batch_size: usize,
    /// LAMB's rate after the warm-up.
    pub learning_rate: f64,
    /// LAMB's weight decay; with 0 its steps are Adam's.
    pub weight_decay: f64,
    /// Updates of linear warm-up, those online included.
    pub warmup_updates: u64,
    /// Gradients are clipped to this norm.
    pub clip_norm: f64,
    /// Temperature α of the entropy, at first.
    pub initial_temperature: f64,
    /// Adam's rate of its logarithm.
    pub temperature_learning_rate: f64,
    /// Entropy that the temperature aims at; none: minus the number of actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_entropy: Option<f64>,
    /// Returns are divided by this: 1 / 0.001 in the authors' code.
    pub return_scale: f64,
    /// Returns to aim at, in the environment's units; each is evaluated, the first is the result. The authors': 3600 for hopper, 6000
    /// for halfcheetah, 5000 for walker2d. Empty: the best return in the data.
    pub target_returns: Vec<f32>,
    /// Whether a table of time steps is added to all tokens (`--ordering 1`); by default the network sees no time.
    pub timestep_embedding: bool,
    /// Rows of that table; later steps count as the last.
    pub max_episode_steps: usize,
    /// Return to aim at while exploring online; none: the first target and its size once more, so twice it where it is positive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_target_return: Option<f64>,
    /// Episodes in the replay buffer online, at first the best ones of the data.
    pub replay_episodes: usize,
    /// Updates online after each collected episode.
    pub updates_per_episode: u64,
}

impl Default for OnlineDtConfig {
    fn default() -> Self {
        Self {
            context_steps: 20,
            acting_context_steps: 5,
            layers: 4,
            heads: 4,
            embedding: 512,
            dropout: 0.1,
            batch_size: 256,
            learning_rate: 1e-4,
            weight_decay: 5e-4,
            warmup_updates: 10_000,
            clip_norm: 0.25,
            initial_temperature: 0.1,
            temperature_learning_rate: 1e-4,
            target_entropy: None,
            return_scale: 1000.0,
            target_returns: Vec::new(),
            timestep_embedding: false,
            max_episode_steps: 1000,
            online_target_return: None,
            replay_episodes: 1000,
            updates_per_episode: 300,
        }
    }
}

impl OnlineDtConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.online_dt");
        keys.counts(&[
            ("context_steps", self.context_steps, 10_000),
            ("acting_context_steps", self.acting_context_steps, 10_000),
            ("layers", self.layers, 1_000),
            ("heads", self.heads, 1 << 16),
            ("embedding", self.embedding, 1 << 16),
            ("batch_size", self.batch_size, 1 << 20),
            ("max_episode_steps", self.max_episode_steps, 100_000_000),
            ("replay_episodes", self.replay_episodes, 100_000_000),
        ])?;
        if self.acting_context_steps > self.context_steps {
            let expected = format_args!("at most `context_steps`, {}", self.context_steps);
            return Err(keys.wrong("acting_context_steps", self.acting_context_steps, expected));
        }
        keys.heads(self.embedding, self.heads)?;
        keys.dropout(self.dropout)?;
        keys.positive(&[
            ("learning_rate", self.learning_rate),
            ("clip_norm", self.clip_norm),
            ("initial_temperature", self.initial_temperature),
            ("temperature_learning_rate", self.temperature_learning_rate),
            ("return_scale", self.return_scale),
        ])?;
        keys.not_negative(&[("weight_decay", self.weight_decay)])?;
        keys.finite(&[
            ("target_entropy", self.target_entropy.unwrap_or(0.0)),
            (
                "online_target_return",
                self.online_target_return.unwrap_or(0.0),
            ),
        ])?;
        keys.target_returns(&self.target_returns)?;
        if let Some(target) = self
            .online_target_return
            .filter(|&target| !(target as f32).is_finite())
        {
            let expected = "a number that single precision holds";
            return Err(keys.wrong("online_target_return", format!("{target:e}"), expected));
        }
        if self.updates_per_episode == 0 {
            return Err(keys.wrong("updates_per_episode", 0, "at least 1"));
        }
        let (length, width, batch) = (3 * self.context_steps, self.embedding, self.batch_size);
        let rows = self.sizes(1, 1).timesteps.unwrap_or(0);
        keys.memory(
            "`layers`, `embedding`, `context_steps`, `batch_size` or `max_episode_steps`",
            &[
                // Weights with their gradients and two moments.
                &[4, rows, width],
                &[4, self.layers, 12, width, width],
                // What the backward pass needs.
                &[self.layers, 16, batch, length, width],
                &[self.layers, 2, batch, self.heads, length, length],
            ],
        )
    }

    /// Sizes of the network for observations and actions of these dimensions.
    pub fn sizes(&self, observation_dim: usize, action_dim: usize) -> Sizes {
        Sizes {
            observation_dim,
            action_dim,
            hidden: self.embedding,
            layers: self.layers,
            heads: self.heads,
            timesteps: self.timestep_embedding.then_some(self.max_episode_steps),
            dropout: self.dropout,
        }
    }
}
