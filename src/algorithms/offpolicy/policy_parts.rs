//! [`PolicyParts`]: what an actor needs around it to act in an environment.

use trajformer_core::normalizer::{ActionBounds, Normalizer};

/// What an actor needs around it to act in an environment.
pub struct PolicyParts {
    /// Normalises observations.
    pub normalizer: Normalizer,
    /// Maps actions in ±1 to the environment's range.
    pub bounds: ActionBounds,
    /// Device of the networks.
    pub device: candle_core::Device,
}
