//! Normalisation with gradients: [`LayerNorm`], [`RmsNorm`], either of them as a [`Norm`], and [`softmax`].
//!
//! candle-nn's fused `LayerNorm` and `softmax_last_dim` silently drop gradients; these don't.

use candle_core::{D, Tensor};

use crate::error::Result;
use crate::init::Init;
use crate::kernels::layer_norm::{layer_norm, rms_norm};
use crate::kernels::packed::pack;
use crate::kernels::switch::Kernel;
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
        if Kernel::LayerNorm.takes(x) {
            let packed = pack(&[&self.weight, &self.bias])?;
            Ok(layer_norm(x, &packed, self.epsilon)?)
        } else {
            self.forward_composed(x)
        }
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

/// Division by the root of the mean square over the last dimension, then a learned scale `weight`; no mean is taken away and
/// nothing added (Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>; `RMSNorm` in PyTorch).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    pub(crate) weight: Tensor, // (D)
    pub(crate) epsilon: f64,
}

impl RmsNorm {
    /// Scale 1; `epsilon` is added to the mean square.
    ///
    /// # Errors
    /// If the scope's parameters don't fit.
    pub fn new(width: usize, epsilon: f64, scope: &mut Scope<'_>) -> Result<Self> {
        let weight = scope.param("weight", width, Init::Ones.fill())?;
        Ok(Self { weight, epsilon })
    }

    /// (.., D) -> (.., D).
    ///
    /// # Errors
    /// If the last dimension is not D.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if Kernel::LayerNorm.takes(x) {
            let weight = self.weight.flatten_all()?;
            Ok(rms_norm(x, &weight, self.epsilon)?)
        } else {
            self.forward_composed(x)
        }
    }

    /// The slow twin, for every device.
    pub(crate) fn forward_composed(&self, x: &Tensor) -> Result<Tensor> {
        Ok(unit_mean_square(x, self.epsilon)?.broadcast_mul(&self.weight)?)
    }
}

/// Rows of x (.., D) over the roots of their mean squares, to which `epsilon` is added.
///
/// # Errors
/// If the tensor has no dimension.
pub(crate) fn unit_mean_square(x: &Tensor, epsilon: f64) -> Result<Tensor> {
    let square = x.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(x.broadcast_div(&(square + epsilon)?.sqrt()?)?)
}

/// Which norm a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NormKind {
    /// [`LayerNorm`].
    #[default]
    Layer,
    /// [`RmsNorm`].
    Rms,
}

/// A norm of either kind.
#[derive(Debug, Clone)]
pub enum Norm {
    /// With mean, scale and shift.
    Layer(LayerNorm),
    /// With a scale alone.
    Rms(RmsNorm),
}

impl Norm {
    /// One of this kind, at its first values.
    ///
    /// # Errors
    /// If the scope's parameters don't fit.
    pub fn new(kind: NormKind, width: usize, epsilon: f64, scope: &mut Scope<'_>) -> Result<Self> {
        match kind {
            NormKind::Layer => Ok(Self::Layer(LayerNorm::new(width, epsilon, scope)?)),
            NormKind::Rms => Ok(Self::Rms(RmsNorm::new(width, epsilon, scope)?)),
        }
    }

    /// (.., D) -> (.., D).
    ///
    /// # Errors
    /// If the last dimension is not D.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }

    /// The slow twin, for every device.
    pub(crate) fn forward_composed(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Layer(norm) => norm.forward_composed(x),
            Self::Rms(norm) => norm.forward_composed(x),
        }
    }

    /// Scale and, of a layer norm, shift: as fused operations take them.
    pub(crate) fn parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Layer(norm) => vec![&norm.weight, &norm.bias],
            Self::Rms(norm) => vec![&norm.weight],
        }
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::rng::Rng;
    use crate::testing::{check_same_bits, largest_relative_difference};

    fn results(dtype: DType, kind: NormKind, composed: bool) -> Result<Vec<Tensor>> {
        let rng = &mut Rng::from_seed(0);
        let mut draw = |shape: &[usize]| rng.normal_tensor(shape, dtype, &Device::Cpu);
        let x = Var::from_tensor(&draw(&[3, 700, 37])?)?;
        let (weight, bias) = (
            Var::from_tensor(&draw(&[37])?)?,
            Var::from_tensor(&draw(&[37])?)?,
        );
        let upstream = draw(&[3, 700, 37])?;
        let (w, b) = (weight.as_tensor().clone(), bias.as_tensor().clone());
        let (weight_of, epsilon) = (w, 1e-5);
        let norm = match kind {
            NormKind::Layer => Norm::Layer(LayerNorm {
                weight: weight_of,
                bias: b,
                epsilon,
            }),
            NormKind::Rms => Norm::Rms(RmsNorm {
                weight: weight_of,
                epsilon,
            }),
        };
        let y = if composed {
            norm.forward_composed(&x)?
        } else {
            norm.forward(&x)?
        };
        let gradients = (&y * upstream)?.sum_all()?.backward()?;
        let vars = [&x, &weight, &bias].into_iter();
        Ok(std::iter::once(y)
            .chain(vars.filter_map(|v| gradients.get(v).cloned()))
            .collect())
    }

    #[test]
    fn the_fused_norm_equals_plain_tensor_operations() -> Result<()> {
        for (kind, count) in [(NormKind::Layer, 4), (NormKind::Rms, 3)] {
            // Rounding of sums over 2100 rows.
            for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-5)] {
                let fused = results(dtype, kind, false)?;
                let composed = results(dtype, kind, true)?;
                assert_eq!(fused.len(), count);
                for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                    let difference = largest_relative_difference(fused, composed)?;
                    assert!(
                        difference < tolerance,
                        "{kind:?} {dtype:?} {i}: {difference:e}"
                    );
                }
            }
            check_same_bits(|| results(DType::F32, kind, false))?;
        }
        Ok(())
    }

    #[test]
    fn softmax_and_its_logarithm_agree_and_sum_to_one() -> Result<()> {
        let x = Tensor::new(&[[1.0f64, 1000.0, 999.0], [-2.0, 0.0, 3.0]], &Device::Cpu)?;
        let weights = softmax(&x)?;
        let error = (log_softmax(&x)?.exp()? - &weights)?
            .abs()?
            .max_all()?
            .to_scalar::<f64>()?;
        assert!(error < 1e-15, "{error}");
        for sum in weights.sum(1)?.to_vec1::<f64>()? {
            assert!((sum - 1.0).abs() < 1e-15, "{sum}");
        }
        Ok(())
    }
}
