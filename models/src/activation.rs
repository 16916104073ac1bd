//! [`Activation`]: the nonlinearity between layers.

use candle_core::Tensor;

use crate::error::Result;

/// √(2/π), in [`Activation::GeluTanh`].
pub(crate) const TANH_SCALE: f64 = 0.797_884_560_802_865_4;
/// Coefficient of the cubic term in [`Activation::GeluTanh`].
pub(crate) const TANH_CUBIC: f64 = 0.044_715;

/// Where eˣ is no longer followed in [`Activation::Mish`].
const MISH_LIMIT: f64 = 20.0;

/// An elementwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0), with derivative 0 at 0 as in PyTorch (candle's own `relu` has 1 there).
    Relu,
    /// x Φ(x) with the error function (`gelu` in PyTorch and `transformers`).
    Gelu,
    /// x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³))): `gelu_new` in `transformers`, GPT-2's.
    GeluTanh,
    /// max(x, 0)², with derivative 2 max(x, 0) (So et al. 2021, Primer; `relu2` in `transformers`).
    SquaredRelu,
    /// x tanh(ln(1 + eˣ)), as `Mish` in PyTorch.
    Mish,
}

impl Activation {
    /// Its name in `transformers`' configurations (`activation_function`).
    pub fn transformers_name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_new",
            Self::SquaredRelu => "relu2",
            Self::Mish => "mish",
        }
    }

    /// The one that `transformers` calls so, if there is one here.
    pub fn from_transformers(name: &str) -> Option<Self> {
        match name {
            "relu" => Some(Self::Relu),
            "gelu" => Some(Self::Gelu),
            "relu2" => Some(Self::SquaredRelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "mish" => Some(Self::Mish),
            _ => None,
        }
    }

    /// Elementwise, any shape, on every device; fused operations have their own.
    ///
    /// # Errors
    /// If the device fails.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => Ok((x * x.detach().gt(0.0)?.to_dtype(x.dtype())?)?),
            Self::SquaredRelu => Ok(Self::Relu.forward(x)?.sqr()?),
            // Not `gelu_erf`: its derivative has six digits only.
            Self::Gelu => {
                let below = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
                Ok(((x * 0.5)? * below)?)
            }
            Self::GeluTanh => {
                let cubic = ((x.sqr()? * TANH_CUBIC)? + 1.0)?;
                let inner = ((x * cubic)? * TANH_SCALE)?;
                Ok(((x * 0.5)? * (inner.tanh()? + 1.0)?)?)
            }
            // tanh(ln(1 + eˣ)) = n / (n + 2) with n = eˣ (eˣ + 2): 1 to the last bit of f64 beyond the limit.
            Self::Mish => {
                let power = x.minimum(MISH_LIMIT)?.exp()?;
                let n = ((&power + 2.0)? * &power)?;
                Ok((x * (&n / (&n + 2.0)?)?)?)
            }
        }
    }
}
