//! How trained actors act and explore, alike in every method that has one of their kind.

use candle_core::Tensor;
use trajformer_models::actor::DeterministicActor;
use trajformer_models::gaussian::TanhGaussianActor;

use crate::offpolicy::{Act, Trained};
use trajformer_core::error::Result;

impl Trained<DeterministicActor> {
    /// Its action; later updates do not change it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn act(&self) -> Result<Act> {
        let actor = self.snapshot()?;
        Ok(Box::new(move |observations| {
            Ok(actor.forward(observations)?)
        }))
    }

    /// Its action (1, A) at an observation (1, O) with these standard normals (1, A) times `noise`, in ±1.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn explore(&self, observation: &Tensor, normals: &Tensor, noise: f64) -> Result<Tensor> {
        let action = self.frozen.forward(observation)?; // (1, A)
        Ok((action + (normals * noise)?)?.clamp(-1.0, 1.0)?)
    }
}

impl Trained<TanhGaussianActor> {
    /// tanh of its mean; later updates do not change it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn act(&self) -> Result<Act> {
        let actor = self.snapshot()?;
        Ok(Box::new(move |observations| {
            Ok(actor.distribution(observations)?.mode()?)
        }))
    }

    /// An action (1, A) of its distribution at an observation (1, O), made with standard normals (1, A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn explore(&self, observation: &Tensor, normals: &Tensor) -> Result<Tensor> {
        let policy = self.frozen.distribution(observation)?;
        Ok(policy.sample(normals)?.0)
    }
}
