//! [`Mlp`]: linear layers with an activation between them.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::linear::Linear;
use crate::params::Scope;

/// Linear layers with an activation after each but the last, named `0`, `2`, `4`, ... as in a
/// PyTorch `nn.Sequential` that holds the activations too.
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Linear>,
    activation: Activation,
}

impl Mlp {
    /// `sizes` are the widths from input to output, e.g. `[17, 256, 256, 6]`; PyTorch's default
    /// initial values.
    ///
    /// # Errors
    /// If there are fewer than two sizes, one is zero, or the scope's parameters don't fit.
    pub fn new(sizes: &[usize], activation: Activation, scope: &mut Scope<'_>) -> Result<Self> {
        check_sizes("Mlp", sizes)?;
        let mut layers = Vec::with_capacity(sizes.len() - 1);
        for (i, pair) in sizes.windows(2).enumerate() {
            layers.push(Linear::new(pair[0], pair[1], &mut scope.sub(2 * i))?);
        }
        Ok(Self { layers, activation })
    }

    /// (.., in) -> (.., out).
    ///
    /// # Errors
    /// If the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x)?;
            if i + 1 < self.layers.len() {
                x = self.activation.forward(&x)?;
            }
        }
        Ok(x)
    }
}

/// Checks the widths of a stack of layers.
pub(crate) fn check_sizes(what: &'static str, sizes: &[usize]) -> Result<()> {
    if sizes.len() < 2 || sizes.contains(&0) {
        let reason = format!("needs an input and an output width, all positive, found {sizes:?}");
        return Err(Error::Config { what, reason });
    }
    Ok(())
}
