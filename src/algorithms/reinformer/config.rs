//! `[algorithm.reinformer]`.

use serde::{Deserialize, Serialize};
use trajformer_models::reinformer::ReinformerConfig as Sizes;

use trajformer_core::error::Result;
use trajformer_core::keys::Keys;

/// `[algorithm.reinformer]`. Defaults: the authors' (argparse in `main.py`, and constants of `trainer.py`); `batch_size` and
/// `return_scale` differ among their data sets (`configs/reinformer`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReinformerConfig {
    /// Context K in steps.
    pub context_steps: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width.
    pub embedding: usize,
    /// Dropout inside of attention and of what blocks add, in [0, 1).
    pub dropout: f64,
    /// Sub-trajectories in a batch.
    pub batch_size: usize,
    /// LAMB's rate after the warm-up.
    pub learning_rate: f64,
    /// LAMB's weight decay; with 0 its steps are Adam's.
    pub weight_decay: f64,
    /// Updates of linear warm-up.
    pub warmup_updates: u64,
    /// Gradients are clipped to this norm.
    pub clip_norm: f64,
    /// Expectile τ of returns, in (0, 1): near 1 the largest.
    pub expectile: f64,
    /// Temperature α of the entropy, at first.
    pub initial_temperature: f64,
    /// Adam's rate of its logarithm.
    pub temperature_learning_rate: f64,
    /// Entropy that the temperature aims at; none: minus the number of actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_entropy: Option<f64>,
    /// Returns are divided by this.
    pub return_scale: f64,
    /// Rows of the time-step embedding; later steps count as the last.
    pub max_episode_steps: usize,
}

impl Default for ReinformerConfig {
    fn default() -> Self {
        Self {
            context_steps: 5,
            layers: 4,
            heads: 8,
            embedding: 256,
            dropout: 0.1,
            batch_size: 128,
            learning_rate: 1e-4,
            weight_decay: 1e-4,
            warmup_updates: 5_000,
            clip_norm: 0.25,
            expectile: 0.99,
            initial_temperature: 0.1,
            temperature_learning_rate: 1e-4,
            target_entropy: None,
            return_scale: 1000.0,
            max_episode_steps: 4096,
        }
    }
}

impl ReinformerConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.reinformer");
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
            ("initial_temperature", self.initial_temperature),
            ("temperature_learning_rate", self.temperature_learning_rate),
            ("return_scale", self.return_scale),
        ])?;
        keys.not_negative(&[("weight_decay", self.weight_decay)])?;
        if !(self.expectile > 0.0 && self.expectile < 1.0) {
            return Err(keys.wrong("expectile", self.expectile, "above 0, below 1"));
        }
        keys.finite(&[("target_entropy", self.target_entropy.unwrap_or(0.0))])?;
        let (length, width, batch) = (3 * self.context_steps, self.embedding, self.batch_size);
        keys.memory(
            "`layers`, `embedding`, `context_steps`, `batch_size` or `max_episode_steps`",
            &[
                &[4, self.max_episode_steps, width],
                &[4, self.layers, 12, width, width],
                &[self.layers, 20, batch, length, width],
                &[self.layers, 4, batch, self.heads, length, length],
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
            max_timesteps: self.max_episode_steps,
            dropout: self.dropout,
        }
    }
}
