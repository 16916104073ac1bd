//! [`Precision`]: the type that large matrix products are computed in.

use candle_core::{DType, Tensor};

use crate::error::Result;

/// In which type a transformer's matrix products are computed: their factors and results are rounded
/// to it, and so are the gradients that come out of them. All is stored in the type of the parameters,
/// and norms, softmaxes and the optimiser compute in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// In that of the parameters.
    #[default]
    Full,
    /// In bf16, forward and backward: for GPUs that have units for it. On the CPU it is slower, and
    /// there for tests.
    Bf16,
}

impl Precision {
    /// The product of two matrices, or of batches of them; its type is that of the factors.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub(crate) fn product(self, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        match self {
            Self::Full => Ok(left.matmul(right)?),
            Self::Bf16 => {
                let product = rounded(left)?.matmul(&rounded(right)?)?;
                Ok(product.to_dtype(left.dtype())?)
            }
        }
    }
}

/// The gradient comes back in the type of `x`.
fn rounded(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(DType::BF16)?)
}
