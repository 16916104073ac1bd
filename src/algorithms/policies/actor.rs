//! [`ActorPolicy`]: a network from observation to action, with what stands around it.

use candle_core::{Device, Tensor};

use crate::policies::groups::in_groups;
use trajformer_core::error::Result;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::{EpisodeStart, Policy};

/// A memoryless policy: normalise the observation, run the actor, map ±1 to the action bounds.
pub struct ActorPolicy<F> {
    normalizer: Normalizer,
    bounds: ActionBounds,
    device: Device,
    actor: F,
}

impl<F> ActorPolicy<F>
where
    F: Fn(&Tensor) -> Result<Tensor> + Send,
{
    /// `actor` maps normalised observations (E, O) on `device` to actions (E, A) in ±1.
    pub fn new(normalizer: Normalizer, bounds: ActionBounds, device: Device, actor: F) -> Self {
        Self {
            normalizer,
            bounds,
            device,
            actor,
        }
    }
}

impl<F> Policy for ActorPolicy<F>
where
    F: Fn(&Tensor) -> Result<Tensor> + Send,
{
    fn begin(&mut self, _episodes: &[EpisodeStart]) -> Result<()> {
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, _active: &[bool]) -> Result<Tensor> {
        let observations = self
            .normalizer
            .apply(&observations.to_device(&self.device)?)?;
        let actions = in_groups(observations.dim(0)?, &self.device, |rows| {
            (self.actor)(&observations.index_select(rows, 0)?) // (G, A)
        })?;
        let actions = self.bounds.from_unit(&actions)?; // (E, A)
        Ok(actions.to_device(&Device::Cpu)?)
    }

    fn is_memoryless(&self) -> bool {
        true
    }
}
