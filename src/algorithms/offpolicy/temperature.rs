//! [`Temperature`]: the weight of an entropy that is held near a target, of sequence models.

use candle_core::Tensor;
use trajformer_models::network::{Network as _, Scalar, ScalarConfig};
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::rng::Rng;

use crate::offpolicy::trained::{StateNames, Trained};
use trajformer_core::error::Result;
use trajformer_core::source::Stage;

/// α, learned by its logarithm with Adam: L(α) = α (H - H_target).
pub struct Temperature {
    log: Trained<Scalar>,
    target_entropy: f64,
}

impl Temperature {
    /// Starts at `initial`, in the type and on the device of `like`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(initial: f64, target_entropy: f64, like: &Params, stage: Stage) -> Result<Self> {
        let scalar = ScalarConfig {
            name: "log_temperature",
            start: initial.ln(),
        };
        let mut alone = Params::new(like.dtype(), like.device());
        let rng = &mut Rng::from_seed(0); // A constant needs none.
        Scalar::build(&scalar, &mut alone.init(rng))?;
        let names = StateNames::of("temperature");
        let log = Trained::around(names, scalar, alone, stage, |params| {
            Adam::new(params, AdamConfig::default(), |_| ParamGroup::decay(0.0))
        })?;
        Ok(Self {
            log,
            target_entropy,
        })
    }

    /// α, a scalar without gradient.
    ///
    /// # Errors
    /// If the device fails.
    pub fn value(&self) -> Result<Tensor> {
        Ok(self.log.detached.value.exp()?.sum_all()?)
    }

    /// One step at this rate, where the entropy is this scalar.
    ///
    /// # Errors
    /// If it was made to act alone, or the device fails.
    pub fn step(&mut self, entropy: &Tensor, rate: f64) -> Result<()> {
        let temperature = self.log.net.value.exp()?; // (1)
        let gap = (entropy.detach() - self.target_entropy)?;
        let loss = temperature.broadcast_mul(&gap)?.sum_all()?;
        self.log.minimize(&loss, rate)?;
        Ok(())
    }

    /// Shows its state to `visitor`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.log.visit(visitor)
    }
}
