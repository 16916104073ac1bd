//! [`Activation`]: the nonlinearity between layers.

use candle_core::Tensor;

use crate::error::Result;
use crate::kernels::{elementwise, real};

/// An elementwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0), with derivative 0 at 0 as in PyTorch (candle's own `relu` has 1 there).
    Relu,
    /// x Φ(x) with the error function (`gelu` in PyTorch and `transformers`).
    Gelu,
}

impl Activation {
    /// Elementwise, any shape.
    ///
    /// # Errors
    /// If the device fails.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match real::supports(x) {
            true => Ok(elementwise::activate(x, self)?),
            false => self.forward_composed(x),
        }
    }

    /// The slow twin. candle's derivative of GELU has six digits only.
    pub(crate) fn forward_composed(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => Ok((x * x.detach().gt(0.0)?.to_dtype(x.dtype())?)?),
            Self::Gelu => Ok(x.gelu_erf()?),
        }
    }
}
