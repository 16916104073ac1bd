//! [`PolicyParts`]: what an actor needs around it to act in an environment.

use candle_core::Tensor;
use trajformer_core::error::Result;

use crate::policies::actor::ActorPolicy;
use trajformer_core::normalizer::{ActionBounds, Normalizer};

/// From normalised observations (B, O) to actions (B, A) in ±1.
pub type ActionFn = Box<dyn Fn(&Tensor) -> Result<Tensor> + Send>;

/// From normalised observations (B, O) and standard normals (.., B, A) to actions (.., B, A) in ±1.
pub type SampleFn = Box<dyn Fn(&Tensor, &Tensor) -> Result<Tensor> + Send>;

/// What an actor needs around it to act in an environment.
pub struct PolicyParts {
    /// Normalises observations.
    pub normalizer: Normalizer,
    /// Maps actions in ±1 to the environment's range.
    pub bounds: ActionBounds,
    /// Device of the networks.
    pub device: candle_core::Device,
}

impl PolicyParts {
    /// The policy that acts by `actor` alone.
    pub fn around(self, actor: ActionFn) -> ActorPolicy<ActionFn> {
        ActorPolicy::new(self.normalizer, self.bounds, self.device, actor)
    }
}
