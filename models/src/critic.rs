//! [`Critics`]: N Q-functions of observation and action, evaluated at once.

mod action_gradients;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, Tensor};

use crate::activation::Activation;
use crate::encoder::{Encoded, EncoderFactory, EncoderInput};
use crate::error::{Error, Result};
use crate::init::{Init, StackInit};
use crate::kernels::mlp::Mlps;
use crate::kernels::switch::Kernel;
use crate::linear::EnsembleLinear;
use crate::mlp::{check_sizes, widths};
use crate::params::Scope;

/// Sizes of [`Critics`].
#[derive(Debug, Clone, PartialEq)]
pub struct CriticConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// Widths of the hidden layers, e.g. `[256, 256]`.
    pub hidden: Vec<usize>,
    /// N, at least 1.
    pub members: usize,
    /// Epsilon of a layer norm after each ReLU, if there is one.
    pub norm_epsilon: Option<f64>,
    /// Initial values; norms start with scale 1 and shift 0. Of an encoder's head those of the last layer.
    pub init: StackInit,
    /// In place of each member's hidden layers and their norms, which count for nothing then; by default none.
    pub encoder: Option<Arc<dyn EncoderFactory>>,
}

impl Default for CriticConfig {
    /// Two members, two hidden layers of 256, no norm, PyTorch's initial values, no encoder. O and A must be
    /// given.
    fn default() -> Self {
        Self {
            observation_dim: 0,
            action_dim: 0,
            hidden: vec![256, 256],
            members: 2,
            norm_epsilon: None,
            init: StackInit::default(),
            encoder: None,
        }
    }
}

impl CriticConfig {
    /// Widths of a member's layers from input to output.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        widths(self.observation_dim + self.action_dim, &self.hidden, 1)
    }
}

/// N multilayer perceptrons with ReLU on `[observation, action]`, one output each; parameters
/// `net.0.weight` (N, in, out), `net.0.bias` (N, 1, out), `net.2.weight`, ... With norms a hidden layer counts
/// three: `net.0`, its norm `net.2.weight` and `net.2.bias` (N, 1, width), `net.3`, ...
///
/// Member i of `net.k.weight`, transposed, is what the authors of TD3+BC, and CORL, call
/// `critic_{i+1}.net.k.weight`.
///
/// With an encoder member i has its own, evaluated by itself: parameters `i.encoder.*`, as the factory names them, and
/// `i.head.weight` (1, H), `i.head.bias` (1), i from 0 on.
#[derive(Debug, Clone)]
pub struct Critics {
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// Perceptrons side by side.
    Perceptrons(Perceptrons),
    /// One network per member.
    Encoded(Vec<Encoded>),
}

impl Critics {
    /// Makes the ensemble with the configuration's initial values in every member.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &CriticConfig, scope: &mut Scope<'_>) -> Result<Self> {
        if config.members == 0 {
            let reason = "needs at least one member".to_owned();
            return Err(Error::Config {
                what: "Critics",
                reason,
            });
        }
        let form = match &config.encoder {
            None => Form::Perceptrons(Perceptrons::new(config, scope)?),
            Some(factory) => {
                let input = EncoderInput {
                    observation_dim: config.observation_dim,
                    action_dim: config.action_dim,
                };
                let member = |i| Encoded::new(&**factory, input, 1, config.init, &mut scope.sub(i));
                Form::Encoded((0..config.members).map(member).collect::<Result<_>>()?)
            }
        };
        Ok(Self { form })
    }

    /// Values (N, B) of observations (B, O) and actions (B, A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        match &self.form {
            Form::Perceptrons(perceptrons) => perceptrons.forward(observations, actions),
            Form::Encoded(members) => {
                let x = Tensor::cat(&[observations, actions], 1)?; // (B, O + A)
                let values = members
                    .iter()
                    .map(|member| Ok(member.forward(&x)?.squeeze(1)?)) // (B)
                    .collect::<Result<Vec<_>>>()?;
                Ok(Tensor::stack(&values, 0)?)
            }
        }
    }

    /// One member as an ensemble of one, sharing its parameters.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn member(&self, index: usize) -> Result<Self> {
        let form = match &self.form {
            Form::Perceptrons(perceptrons) => Form::Perceptrons(perceptrons.member(index)?),
            Form::Encoded(members) => match members.get(index) {
                Some(member) => Form::Encoded(vec![member.clone()]),
                None => {
                    let reason = format!("has no member {index}, only {}", members.len());
                    return Err(Error::Config {
                        what: "Critics",
                        reason,
                    });
                }
            },
        };
        Ok(Self { form })
    }

    /// The perceptrons, for what is written out for them alone.
    fn perceptrons(&self) -> Result<&Perceptrons> {
        match &self.form {
            Form::Perceptrons(perceptrons) => Ok(perceptrons),
            Form::Encoded(_) => {
                let reason =
                    "with an encoder they have no gradients of action gradients".to_owned();
                Err(Error::Config {
                    what: "Critics",
                    reason,
                })
            }
        }
    }

    /// The slow twin of perceptrons, for every device.
    #[cfg(test)]
    pub(crate) fn forward_composed(
        &self,
        observations: &Tensor,
        actions: &Tensor,
    ) -> Result<Tensor> {
        self.perceptrons()?.forward_composed(observations, actions)
    }
}

/// N perceptrons side by side, with one operation for all of them.
#[derive(Debug, Clone)]
struct Perceptrons {
    layers: Vec<EnsembleLinear>,
    /// Layer norm of each hidden layer; empty if there is none.
    norms: Vec<EnsembleNorm>,
    /// All parameters, as `layers` has them.
    shared: Tensor,
    /// Which of the ensemble's members, and how many there are.
    members: Range<usize>,
    of: usize,
    sizes: Vec<usize>,
}

impl Perceptrons {
    fn new(config: &CriticConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let sizes = config.sizes();
        check_sizes("Critics", &sizes)?;
        let ((layers, norms), shared) =
            scope.sub("net").shared(|net| stack(config, &sizes, net))?;
        Ok(Self {
            layers,
            norms,
            shared,
            members: 0..config.members,
            of: config.members,
            sizes,
        })
    }

    fn forward(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        if !Kernel::Mlp.takes(actions) {
            return self.forward_composed(observations, actions);
        }
        let x = Tensor::cat(&[observations, actions], 1)?; // (B, O + A)
        let mlps = Mlps {
            members: self.members.clone(),
            of: self.of,
            sizes: self.sizes.clone(),
            activation: Activation::Relu,
            norm_epsilon: self.norms.first().map(|norm| norm.epsilon),
            inputs_first: true,
        };
        Ok(mlps.apply(&x, &self.shared)?.squeeze(2)?)
    }

    /// The slow twin, for every device.
    fn forward_composed(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
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
            if let Some(norm) = self.norms.get(i) {
                x = norm.forward(&x)?;
            }
        }
        Ok(x.squeeze(2)?)
    }

    fn member(&self, index: usize) -> Result<Self> {
        let layers = self
            .layers
            .iter()
            .map(|l| l.member(index))
            .collect::<Result<_>>()?;
        let norms = self
            .norms
            .iter()
            .map(|n| n.member(index))
            .collect::<Result<_>>()?;
        let first = self.members.start + index;
        Ok(Self {
            layers,
            norms,
            shared: self.shared.clone(),
            members: first..first + 1,
            of: self.of,
            sizes: self.sizes.clone(),
        })
    }
}

/// The layers and norms of N perceptrons, under names as in a Sequential.
fn stack(
    config: &CriticConfig,
    sizes: &[usize],
    net: &mut Scope<'_>,
) -> Result<(Vec<EnsembleLinear>, Vec<EnsembleNorm>)> {
    let (n, count) = (config.members, sizes.len() - 1);
    let per_layer = 2 + usize::from(config.norm_epsilon.is_some());
    let (mut layers, mut norms) = (Vec::new(), Vec::new());
    for (i, pair) in sizes.windows(2).enumerate() {
        let (weight, bias) = config.init.layer(i, count, (pair[0], pair[1]));
        let scope = &mut net.sub(per_layer * i);
        let shape = (n, pair[0], pair[1]);
        layers.push(EnsembleLinear::with_init(shape, weight, bias, scope)?);
        if let (Some(epsilon), true) = (config.norm_epsilon, i + 1 < count) {
            let scope = &mut net.sub(per_layer * i + 2);
            norms.push(EnsembleNorm::new(n, pair[1], epsilon, scope)?);
        }
    }
    Ok((layers, norms))
}

/// N layer norms side by side, scale and shift (N, 1, width).
#[derive(Debug, Clone)]
struct EnsembleNorm {
    weight: Tensor, // (N, 1, width)
    bias: Tensor,   // (N, 1, width)
    epsilon: f64,
}

impl EnsembleNorm {
    fn new(members: usize, width: usize, epsilon: f64, scope: &mut Scope<'_>) -> Result<Self> {
        let shape = (members, 1, width);
        Ok(Self {
            weight: scope.param("weight", shape, Init::Ones.fill())?,
            bias: scope.param("bias", shape, Init::Zeros.fill())?,
            epsilon,
        })
    }

    /// (N, B, width) -> (N, B, width).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centered.broadcast_div(&(variance + self.epsilon)?.sqrt()?)?;
        Ok(normal
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?)
    }

    fn member(&self, index: usize) -> Result<Self> {
        Ok(Self {
            weight: self.weight.narrow(0, index, 1)?,
            bias: self.bias.narrow(0, index, 1)?,
            epsilon: self.epsilon,
        })
    }
}
