//! [`Mlp`]: linear layers with an activation between them.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::init::StackInit;
use crate::kernels::mlp::Mlps;
use crate::kernels::switch::Kernel;
use crate::linear::Linear;
use crate::params::Scope;

/// Sizes of an [`Mlp`] as a network of its own, whose parameters are called `net.0.weight`, ...
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// Widths from input to output, e.g. `[17, 256, 256, 1]`.
    pub sizes: Vec<usize>,
    /// After each layer but the last.
    pub activation: Activation,
    /// Initial values.
    pub init: StackInit,
}

/// Linear layers with an activation after each but the last, named `0`, `2`, `4`, ... as in a
/// PyTorch `nn.Sequential` that holds the activations too.
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Linear>,
    /// All parameters, as `layers` has them.
    shared: Tensor,
    activation: Activation,
    sizes: Vec<usize>,
}

impl Mlp {
    /// `sizes` are the widths from input to output, e.g. `[17, 256, 256, 6]`; PyTorch's default
    /// initial values.
    ///
    /// # Errors
    /// If there are fewer than two sizes, one is zero, or the scope's parameters don't fit.
    pub fn new(sizes: &[usize], activation: Activation, scope: &mut Scope<'_>) -> Result<Self> {
        Self::with_init(sizes, activation, StackInit::default(), scope)
    }

    /// With other initial values.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_init(
        sizes: &[usize],
        activation: Activation,
        init: StackInit,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        check_sizes("Mlp", sizes)?;
        let (layers, shared) = scope.shared(|scope| {
            let layer = |(i, pair): (usize, &[usize])| {
                let (weight, bias) = init.layer(i, sizes.len() - 1, pair[0]);
                Linear::with_init(pair[0], pair[1], weight, bias, &mut scope.sub(2 * i))
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
            activation,
            sizes: sizes.to_vec(),
        })
    }

    /// (.., in) -> (.., out).
    ///
    /// # Errors
    /// If the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !Kernel::Mlp.takes(x) {
            return self.forward_composed(x);
        }
        let (inputs, outputs) = (self.sizes[0], self.sizes[self.layers.len()]);
        let mut dims = x.dims().to_vec();
        let rows = x.elem_count() / inputs;
        let mlps = Mlps {
            members: 0..1,
            of: 1,
            sizes: self.sizes.clone(),
            activation: self.activation,
            inputs_first: false,
        };
        let y = mlps.apply(&x.reshape((rows, inputs))?, &self.shared)?; // (1, rows, out)
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        Ok(y.reshape(dims)?)
    }

    /// The slow twin, for every device.
    pub(crate) fn forward_composed(&self, x: &Tensor) -> Result<Tensor> {
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

#[cfg(test)]
mod tests {
    use candle_core::backprop::GradStore;
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::critic::{CriticConfig, Critics};
    use crate::params::{Params, Slot};
    use crate::rng::Rng;
    use crate::testing::{check_same_bits, largest_relative_difference};

    /// The gradients that there are: of `x`, then of the parameters.
    fn all_gradients(x: &Var, params: &Params, gradients: &GradStore) -> Result<Vec<Tensor>> {
        let slots = std::iter::once(Slot::from(x)).chain(params.iter().map(|p| p.slot.clone()));
        slots
            .filter_map(|slot| slot.gradient(gradients).transpose())
            .collect()
    }

    /// Output and gradients of an MLP and of three critics on 300 rows: several pieces and tasks.
    fn results(dtype: DType, activation: Activation, composed: bool) -> Result<Vec<Tensor>> {
        let rng = &mut Rng::from_seed(3);
        let mut params = Params::new(dtype, &Device::Cpu);
        let mlp = Mlp::new(
            &[5, 20, 30, 4],
            activation,
            &mut params.init(rng).sub("mlp"),
        )?;
        let critic = CriticConfig {
            observation_dim: 3,
            action_dim: 4,
            hidden: vec![16, 24],
            members: 3,
            ..CriticConfig::default()
        };
        let critics = Critics::new(&critic, &mut params.init(rng).sub("critics"))?;
        let mut draw = |width: usize| rng.normal_tensor((300, width), dtype, &Device::Cpu);
        let (x, observations) = (Var::from_tensor(&draw(5)?)?, draw(3)?);
        let (actions, values) = match composed {
            true => {
                let actions = mlp.forward_composed(&x)?;
                let values = critics.forward_composed(&observations, &actions)?;
                (actions, values)
            }
            false => {
                let actions = mlp.forward(&x)?;
                let values = critics.forward(&observations, &actions)?;
                (actions, values)
            }
        };
        let gradients = (values.sqr()?.sum_all()? + actions.sum_all()?)?.backward()?;
        let mut results = vec![actions, values];
        results.extend(all_gradients(&x, &params, &gradients)?);
        Ok(results)
    }

    #[test]
    fn fused_perceptrons_equal_plain_tensor_operations() -> Result<()> {
        for activation in [Activation::Relu, Activation::Gelu] {
            // Rounding of sums over 300 rows.
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-4)] {
                let fused = results(dtype, activation, false)?;
                let composed = results(dtype, activation, true)?;
                assert_eq!(fused.len(), 2 + 1 + 6 + 6);
                assert_eq!(fused.len(), composed.len());
                for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                    let difference = largest_relative_difference(fused, composed)?;
                    assert!(difference < tolerance, "{dtype:?} {i}: {difference:e}");
                }
            }
        }
        check_same_bits(|| results(DType::F32, Activation::Relu, false))
    }

    /// Nine critics with several panels of weights, and two of them alone: values and gradients.
    fn members(composed: bool) -> Result<Vec<Tensor>> {
        let (dtype, rng) = (DType::F64, &mut Rng::from_seed(5));
        let mut params = Params::new(dtype, &Device::Cpu);
        let config = CriticConfig {
            observation_dim: 3,
            action_dim: 2,
            hidden: vec![300, 20],
            members: 9,
            ..CriticConfig::default()
        };
        let all = Critics::new(&config, &mut params.init(rng))?;
        let mut draw = |width: usize| rng.normal_tensor((270, width), dtype, &Device::Cpu);
        let (observations, actions) = (draw(3)?, Var::from_tensor(&draw(2)?)?);
        let mut results = Vec::new();
        for critics in [all.clone(), all.member(0)?, all.member(5)?, all.member(8)?] {
            let values = match composed {
                true => critics.forward_composed(&observations, &actions)?,
                false => critics.forward(&observations, &actions)?,
            };
            let gradients = values.sqr()?.sum_all()?.backward()?;
            results.push(values);
            results.extend(all_gradients(&actions, &params, &gradients)?);
        }
        Ok(results)
    }

    #[test]
    fn many_members_and_some_of_them_equal_plain_tensor_operations() -> Result<()> {
        let (fused, composed) = (members(false)?, members(true)?);
        assert_eq!((fused.len(), composed.len()), (4 * 8, 4 * 8));
        for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
            let difference = largest_relative_difference(fused, composed)?;
            assert!(difference < 1e-12, "{i}: {difference:e}"); // Rounding of sums over 300 terms.
        }
        Ok(())
    }
}
