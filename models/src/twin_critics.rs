//! [`TwinCritics`]: two Q-functions with Mish activations, for every step of a context.
//!
//! The critics of QT's authors (charleshsc/QT @ cb9e1a4, `decision_transformer/models/ql_DT.py`, class `Critic`), which are those of
//! Diffusion-QL, with their parameter names and layouts. [`Critics`](crate::critic::Critics) are the ensembles with ReLU of the
//! value-based methods.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::error::Result;
use crate::init::StackInit;
use crate::mlp::{Mlp, widths};
use crate::params::Scope;

/// Sizes of [`TwinCritics`].
#[derive(Debug, Clone, PartialEq)]
pub struct TwinCriticsConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// Widths of the hidden layers; three of 256 in the authors' runs.
    pub hidden: Vec<usize>,
}

impl TwinCriticsConfig {
    /// Widths of each critic's layers from input to output.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        widths(self.observation_dim + self.action_dim, &self.hidden, 1)
    }
}

/// Two multilayer perceptrons on `[observation, action]` with one output each; parameters `q1_model.0.weight` (out, in),
/// `q1_model.0.bias`, `q1_model.2.weight`, ..., and the same of `q2_model`.
#[derive(Debug, Clone)]
pub struct TwinCritics {
    first: Mlp,
    second: Mlp,
}

impl TwinCritics {
    /// Makes both with PyTorch's initial values.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &TwinCriticsConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (sizes, init) = (config.sizes(), StackInit::default());
        let mut critic =
            |name: &str| Mlp::with_init(&sizes, Activation::Mish, init, &mut scope.sub(name));
        Ok(Self {
            first: critic("q1_model")?,
            second: critic("q2_model")?,
        })
    }

    /// Both values (..) of observations (.., O) and actions (.., A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, observations: &Tensor, actions: &Tensor) -> Result<(Tensor, Tensor)> {
        let last = observations.rank() - 1;
        let x = Tensor::cat(&[observations, actions], last)?; // (.., O + A)
        let value = |critic: &Mlp| -> Result<Tensor> { Ok(critic.forward(&x)?.squeeze(last)?) };
        Ok((value(&self.first)?, value(&self.second)?))
    }

    /// The smaller value (..) of observations (.., O) and actions (.., A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn smaller(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        let (first, second) = self.forward(observations, actions)?;
        Ok(first.minimum(&second)?)
    }
}
