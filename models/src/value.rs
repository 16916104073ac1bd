//! [`StateValue`]: V(s), a number for each observation.

use std::sync::Arc;

use candle_core::Tensor;

use crate::actor::ActorConfig;
use crate::encoder::{EncoderFactory, Net};
use crate::error::Result;
use crate::init::StackInit;
use crate::params::Scope;

/// Sizes of a [`StateValue`].
#[derive(Debug, Clone, PartialEq)]
pub struct StateValueConfig {
    /// O.
    pub observation_dim: usize,
    /// Widths of the hidden layers, e.g. `[256, 256]`.
    pub hidden: Vec<usize>,
    /// Initial values. Of an encoder's head those of the last layer.
    pub init: StackInit,
    /// In place of the hidden layers, which count for nothing then; by default none.
    pub encoder: Option<Arc<dyn EncoderFactory>>,
}

impl Default for StateValueConfig {
    /// Two hidden layers of 256, PyTorch's initial values, no encoder. O must be given.
    fn default() -> Self {
        Self {
            observation_dim: 0,
            hidden: vec![256, 256],
            init: StackInit::default(),
            encoder: None,
        }
    }
}

impl StateValueConfig {
    /// Widths from input to output.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.as_actor().sizes(1)
    }

    /// An actor of one number, which has the same network before its tanh.
    fn as_actor(&self) -> ActorConfig {
        ActorConfig {
            observation_dim: self.observation_dim,
            action_dim: 1,
            hidden: self.hidden.clone(),
            init: self.init,
            encoder: self.encoder.clone(),
            ..ActorConfig::default()
        }
    }
}

/// V(s): an MLP with ReLU and one output; parameters `net.0.weight` (out, in), `net.0.bias`, `net.2.weight`, ... With an encoder
/// its parameters are `encoder.*`, as the factory names them, and `head.weight` (1, H), `head.bias` (1).
#[derive(Debug, Clone)]
pub struct StateValue {
    net: Net,
}

impl StateValue {
    /// Makes the network with the configuration's initial values.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &StateValueConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Ok(Self {
            net: config.as_actor().net(1, scope)?,
        })
    }

    /// Values (B) of observations (B, O).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, observations: &Tensor) -> Result<Tensor> {
        Ok(self.net.forward(observations)?.squeeze(1)?)
    }
}
