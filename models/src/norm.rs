//! Normalisation with gradients: [`LayerNorm`] and [`softmax`].
//!
//! candle-nn's fused `LayerNorm` and `softmax_last_dim` silently drop gradients; these don't.

use candle_core::{D, Tensor};

use crate::error::Result;
use crate::init::Init;
use crate::params::Scope;

/// Layer normalisation over the last dimension with learned scale `weight` and shift `bias` (Ba et
/// al. 2016), biased variance as in PyTorch.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    pub(crate) weight: Tensor, // (D)
    pub(crate) bias: Tensor,   // (D)
    pub(crate) epsilon: f64,
}

impl LayerNorm {
    /// Scale 1, shift 0. PyTorch's default `epsilon` is 1e-5.
    ///
    /// # Errors
    /// If the scope's parameters don't fit.
    pub fn new(width: usize, epsilon: f64, scope: &mut Scope<'_>) -> Result<Self> {
        let weight = scope.param("weight", width, Init::Ones.fill())?;
        let bias = scope.param("bias", width, Init::Zeros.fill())?;
        Ok(Self {
            weight,
            bias,
            epsilon,
        })
    }

    /// (.., D) -> (.., D).
    ///
    /// # Errors
    /// If the last dimension is not D.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_composed(x)
    }

    /// The slow twin, for every device.
    pub(crate) fn forward_composed(&self, x: &Tensor) -> Result<Tensor> {
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centered.broadcast_div(&(variance + self.epsilon)?.sqrt()?)?;
        Ok(normal
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?)
    }
}

/// Softmax over the last dimension; a row of all -∞ gives NaN.
///
/// # Errors
/// If the tensor has no dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    // The maximum only shifts: its gradient is zero, so it is taken outside the graph.
    let maximum = x.detach().max_keepdim(D::Minus1)?;
    let exponential = x.broadcast_sub(&maximum)?.exp()?;
    Ok(exponential.broadcast_div(&exponential.sum_keepdim(D::Minus1)?)?)
}

/// Logarithm of [`softmax`] over the last dimension.
///
/// # Errors
/// If the tensor has no dimension.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let maximum = x.detach().max_keepdim(D::Minus1)?;
    let shifted = x.broadcast_sub(&maximum)?;
    let normalizer = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok(shifted.broadcast_sub(&normalizer)?)
}
