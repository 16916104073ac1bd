//! [`Critics`]: N Q-functions of observation and action, evaluated at once.

use std::ops::Range;

use candle_core::Tensor;

use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::kernels::mlp::Mlps;
use crate::kernels::switch::Kernel;
use crate::linear::EnsembleLinear;
use crate::mlp::check_sizes;
use crate::params::Scope;

/// Sizes of [`Critics`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriticConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// Widths of the hidden layers, e.g. `[256, 256]`.
    pub hidden: Vec<usize>,
    /// N, at least 1.
    pub members: usize,
}

/// N multilayer perceptrons with ReLU on `[observation, action]`, one output each; parameters
/// `net.0.weight` (N, in, out), `net.0.bias` (N, 1, out), `net.2.weight`, ...
///
/// Member i of `net.k.weight`, transposed, is what the authors of TD3+BC, and CORL, call
/// `critic_{i+1}.net.k.weight`.
#[derive(Debug, Clone)]
pub struct Critics {
    layers: Vec<EnsembleLinear>,
    /// All parameters, as `layers` has them.
    shared: Tensor,
    /// Which of the ensemble's members, and how many there are.
    members: Range<usize>,
    of: usize,
    sizes: Vec<usize>,
}

impl Critics {
    /// With PyTorch's default initial values in every member.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &CriticConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let sizes: Vec<usize> = std::iter::once(config.observation_dim + config.action_dim)
            .chain(config.hidden.iter().copied())
            .chain([1])
            .collect();
        check_sizes("Critics", &sizes)?;
        if config.members == 0 {
            let reason = "needs at least one member".to_owned();
            return Err(Error::Config {
                what: "Critics",
                reason,
            });
        }
        let (layers, shared) = scope.sub("net").shared(|net| {
            let layer = |(i, pair): (usize, &[usize])| {
                EnsembleLinear::new(config.members, pair[0], pair[1], &mut net.sub(2 * i))
            };
            sizes
                .windows(2)
                .enumerate()
                .map(layer)
                .collect::<Result<_>>()
        })?;
        Ok(Self {
            layers,
            shared,
            members: 0..config.members,
            of: config.members,
            sizes,
        })
    }

    /// Values (N, B) of observations (B, O) and actions (B, A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        if !Kernel::Mlp.takes(actions) {
            return self.forward_composed(observations, actions);
        }
        let x = Tensor::cat(&[observations, actions], 1)?; // (B, O + A)
        let mlps = Mlps {
            members: self.members.clone(),
            of: self.of,
            sizes: self.sizes.clone(),
            activation: Activation::Relu,
            inputs_first: true,
        };
        Ok(mlps.apply(&x, &self.shared)?.squeeze(2)?)
    }

    /// The slow twin, for every device.
    pub(crate) fn forward_composed(
        &self,
        observations: &Tensor,
        actions: &Tensor,
    ) -> Result<Tensor> {
        let x = Tensor::cat(&[observations, actions], 1)?; // (B, O + A)
        let (batch, inputs) = x.dims2()?;
        let mut x = x
            .unsqueeze(0)?
            .broadcast_as((self.members.len(), batch, inputs))?
            .contiguous()?;
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x)?; // (N, B, out)
            if i + 1 < self.layers.len() {
                x = Activation::Relu.forward(&x)?;
            }
        }
        Ok(x.squeeze(2)?)
    }

    /// One member as an ensemble of one, sharing its parameters.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn member(&self, index: usize) -> Result<Self> {
        let layers = self
            .layers
            .iter()
            .map(|l| l.member(index))
            .collect::<Result<_>>()?;
        let first = self.members.start + index;
        Ok(Self {
            layers,
            shared: self.shared.clone(),
            members: first..first + 1,
            of: self.of,
            sizes: self.sizes.clone(),
        })
    }
}
