//! How trained actors act and explore, alike in every method that has one of their kind.

use candle_core::Tensor;
use trajformer_models::actor::DeterministicActor;
use trajformer_models::choices::{CategoricalActor, drawn};
use trajformer_models::gaussian::TanhGaussianActor;

use crate::offpolicy::policy_parts::{ActionFn, SampleFn};
use crate::offpolicy::trained::Trained;
use trajformer_core::error::Result;

/// The kind of actor that a method explores with.
pub enum Explorer<'a> {
    /// None: it does not learn online, or explores in a way of its own.
    None,
    /// One with a distribution, which is drawn from.
    Drawn(&'a Trained<TanhGaussianActor>),
    /// One with normal noise on its action, of this standard deviation where nobody asks for another.
    Noisy(&'a Trained<DeterministicActor>, f64),
}

impl Explorer<'_> {
    /// What draws from the actor's distribution, if it has one; later updates do not change it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn sampler(&self) -> Result<Option<SampleFn>> {
        let Self::Drawn(actor) = self else {
            return Ok(None);
        };
        let actor = actor.snapshot()?;
        Ok(Some(Box::new(move |observations, normals| {
            Ok(actor.distribution(observations)?.sample(normals)?.0)
        })))
    }

    /// An action (1, A) in ±1 at an observation (1, O), made with standard normals (1, A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn explore(
        &self,
        observation: &Tensor,
        normals: &Tensor,
        noise: Option<f64>,
    ) -> Result<Option<Tensor>> {
        match self {
            Self::None => Ok(None),
            Self::Drawn(actor) => {
                let policy = actor.detached.distribution(observation)?;
                Ok(Some(policy.sample(normals)?.0))
            }
            Self::Noisy(actor, own) => {
                let noise = (normals * noise.unwrap_or(*own))?;
                let action = (actor.detached.forward(observation)? + noise)?;
                Ok(Some(action.clamp(-1.0, 1.0)?))
            }
        }
    }
}

impl Trained<DeterministicActor> {
    /// Its action; later updates do not change it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn act(&self) -> Result<ActionFn> {
        let actor = self.snapshot()?;
        Ok(Box::new(move |observations| {
            Ok(actor.forward(observations)?)
        }))
    }
}

impl Trained<CategoricalActor> {
    /// The likeliest choice; later updates do not change it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn act(&self) -> Result<ActionFn> {
        let actor = self.snapshot()?;
        Ok(Box::new(move |observations| Ok(actor.mode(observations)?)))
    }

    /// What draws from its distribution; later updates do not change it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn sampler(&self) -> Result<SampleFn> {
        let actor = self.snapshot()?;
        Ok(Box::new(move |observations, normals| {
            Ok(drawn(&actor.logits(observations)?, normals)?)
        }))
    }
}

impl Trained<TanhGaussianActor> {
    /// tanh of its mean; later updates do not change it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn act(&self) -> Result<ActionFn> {
        let actor = self.snapshot()?;
        Ok(Box::new(move |observations| {
            Ok(actor.distribution(observations)?.mode()?)
        }))
    }
}
