//! [`Activation`]: the nonlinearity between layers.

use candle_core::Tensor;

use crate::error::Result;

/// An elementwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0), with derivative 0 at 0 as in PyTorch (candle's own `relu` has 1 there).
    Relu,
    /// x Φ(x) with the error function (`gelu` in PyTorch and `transformers`).
    Gelu,
}

impl Activation {
    /// Elementwise, any shape, on every device; fused operations have their own.
    ///
    /// # Errors
    /// If the device fails.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => Ok((x * x.detach().gt(0.0)?.to_dtype(x.dtype())?)?),
            // Not `gelu_erf`: its derivative has six digits only.
            Self::Gelu => {
                let below = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
                Ok(((x * 0.5)? * below)?)
            }
        }
    }
}
