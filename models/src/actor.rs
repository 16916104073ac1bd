//! Actors: networks from observations to actions.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::error::Result;
use crate::mlp::Mlp;
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
}

/// A deterministic actor: `max_action` times the tanh of an MLP with ReLU; parameters
/// `net.0.weight` (out, in), `net.0.bias`, `net.2.weight`, ... as in the authors' TD3+BC.
#[derive(Debug, Clone)]
pub struct DeterministicActor {
    net: Mlp,
    max_action: f64,
}

impl DeterministicActor {
    /// With PyTorch's default initial values.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &ActorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let sizes: Vec<usize> = std::iter::once(config.observation_dim)
            .chain(config.hidden.iter().copied())
            .chain([config.action_dim])
            .collect();
        let net = Mlp::new(&sizes, Activation::Relu, &mut scope.sub("net"))?;
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
