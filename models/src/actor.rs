//! Actors: networks from observations to actions. Those with a distribution are in [`gaussian`](crate::gaussian).

use std::sync::Arc;

use candle_core::Tensor;

use crate::activation::Activation;
use crate::encoder::{Encoded, EncoderFactory, EncoderInput, Net};
use crate::error::Result;
use crate::init::StackInit;
use crate::mlp::{Mlp, widths};
use crate::params::Scope;

/// Sizes of an actor.
#[derive(Debug, Clone, PartialEq)]
pub struct ActorConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// Widths of the hidden layers, e.g. `[256, 256]`.
    pub hidden: Vec<usize>,
    /// Actions lie in ± this; 1 for normalised actions.
    pub max_action: f64,
    /// Epsilon of a layer norm after each ReLU, if there is one.
    pub norm_epsilon: Option<f64>,
    /// Initial values; norms start with scale 1 and shift 0. Of an encoder's head those of the last layer.
    pub init: StackInit,
    /// In place of the hidden layers and their norms, which count for nothing then; by default none.
    pub encoder: Option<Arc<dyn EncoderFactory>>,
}

impl Default for ActorConfig {
    /// Two hidden layers of 256, actions in ±1, PyTorch's initial values, no encoder. O and A must be given.
    fn default() -> Self {
        Self {
            observation_dim: 0,
            action_dim: 0,
            hidden: vec![256, 256],
            max_action: 1.0,
            norm_epsilon: None,
            init: StackInit::default(),
            encoder: None,
        }
    }
}

impl ActorConfig {
    /// Widths from input to output, with `outputs` numbers per action dimension.
    pub(crate) fn sizes(&self, outputs: usize) -> Vec<usize> {
        widths(
            self.observation_dim,
            &self.hidden,
            outputs * self.action_dim,
        )
    }

    /// An MLP with ReLU and norms if there are any, or the encoder with a linear layer; `outputs` numbers per action dimension.
    pub(crate) fn net(&self, outputs: usize, scope: &mut Scope<'_>) -> Result<Net> {
        if let Some(factory) = &self.encoder {
            let input = EncoderInput {
                observation_dim: self.observation_dim,
                action_dim: 0,
            };
            let outputs = outputs * self.action_dim;
            let net = Encoded::new(&**factory, input, outputs, self.init, scope)?;
            return Ok(Net::Encoded(net));
        }
        let sizes = self.sizes(outputs);
        let scope = &mut scope.sub("net");
        Ok(Net::Mlp(match self.norm_epsilon {
            None => Mlp::with_init(&sizes, Activation::Relu, self.init, scope)?,
            Some(epsilon) => Mlp::with_norms(&sizes, epsilon, self.init, scope)?,
        }))
    }
}

/// A deterministic actor: `max_action` times the tanh of an MLP with ReLU; parameters
/// `net.0.weight` (out, in), `net.0.bias`, `net.2.weight`, ... as in the authors' TD3+BC. With an encoder its parameters are
/// `encoder.*`, as the factory names them, and `head.weight` (out, H), `head.bias`.
#[derive(Debug, Clone)]
pub struct DeterministicActor {
    net: Net,
    max_action: f64,
}

impl DeterministicActor {
    /// Makes the actor with the configuration's initial values.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &ActorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let net = config.net(1, scope)?;
        Ok(Self {
            net,
            max_action: config.max_action,
        })
    }

    /// Actions (B, A) for observations (B, O).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, observations: &Tensor) -> Result<Tensor> {
        Ok((self.net.forward(observations)?.tanh()? * self.max_action)?)
    }
}
