//! [`Mlp`]: linear layers with an activation between them.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::init::StackInit;
use crate::kernels::mlp::Mlps;
use crate::kernels::switch::Kernel;
use crate::linear::Linear;
use crate::norm::LayerNorm;
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

/// Widths of a multilayer perceptron's layers from input to output.
pub fn widths(inputs: usize, hidden: &[usize], outputs: usize) -> Vec<usize> {
    [&[inputs], hidden, &[outputs]].concat()
}

/// Linear layers with an activation after each but the last, named `0`, `2`, `4`, ... as in a
/// PyTorch `nn.Sequential` that holds the activations too. With layer norms after the activations a hidden layer
/// counts three: `0`, its norm `2`, `3`, ...
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Linear>,
    /// Layer norm of each hidden layer; empty if there is none.
    norms: Vec<LayerNorm>,
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

    /// Makes the network with these initial values.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_init(
        sizes: &[usize],
        activation: Activation,
        init: StackInit,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        Self::stack(sizes, activation, None, init, scope)
    }

    /// ReLUs with a layer norm of this epsilon after each; norms start with scale 1 and shift 0.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_norms(
        sizes: &[usize],
        epsilon: f64,
        init: StackInit,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        Self::stack(sizes, Activation::Relu, Some(epsilon), init, scope)
    }

    fn stack(
        sizes: &[usize],
        activation: Activation,
        norm_epsilon: Option<f64>,
        init: StackInit,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        check_sizes("Mlp", sizes)?;
        let count = sizes.len() - 1;
        let per_layer = 2 + usize::from(norm_epsilon.is_some());
        let ((layers, norms), shared) = scope.shared(|scope| {
            let (mut layers, mut norms) = (Vec::new(), Vec::new());
            for (i, pair) in sizes.windows(2).enumerate() {
                let (weight, bias) = init.layer(i, count, (pair[0], pair[1]));
                let scope_of_layer = &mut scope.sub(per_layer * i);
                let layer = Linear::with_init(pair[0], pair[1], weight, bias, scope_of_layer)?;
                layers.push(layer);
                if let (Some(epsilon), true) = (norm_epsilon, i + 1 < count) {
                    let scope_of_norm = &mut scope.sub(per_layer * i + 2);
                    norms.push(LayerNorm::new(pair[1], epsilon, scope_of_norm)?);
                }
            }
            Ok((layers, norms))
        })?;
        Ok(Self {
            layers,
            norms,
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
            norm_epsilon: self.norms.first().map(|norm| norm.epsilon),
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
            if let Some(norm) = self.norms.get(i) {
                x = norm.forward_composed(&x)?;
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

    /// What stands between layers; norms belong to ReLUs.
    #[derive(Debug, Clone, Copy)]
    enum Between {
        Plain(Activation),
        Norms(f64),
    }

    /// Output and gradients of an MLP and of three critics on 300 rows: several pieces and tasks.
    fn results(dtype: DType, between: Between, composed: bool) -> Result<Vec<Tensor>> {
        let rng = &mut Rng::from_seed(3);
        let mut params = Params::new(dtype, &Device::Cpu);
        let sizes = [5, 20, 30, 4];
        let mut init = params.init(rng);
        let scope = &mut init.sub("mlp");
        let (mlp, norm_epsilon) = match between {
            Between::Plain(activation) => (Mlp::new(&sizes, activation, scope)?, None),
            Between::Norms(epsilon) => {
                let mlp = Mlp::with_norms(&sizes, epsilon, StackInit::default(), scope)?;
                (mlp, Some(epsilon))
            }
        };
        let critic = CriticConfig {
            observation_dim: 3,
            action_dim: 4,
            hidden: vec![16, 24],
            members: 3,
            norm_epsilon,
            ..CriticConfig::default()
        };
        let critics = Critics::new(&critic, &mut params.init(rng).sub("critics"))?;
        disturb(&params, rng)?;
        let mut draw = |width: usize| rng.normal_tensor((300, width), dtype, &Device::Cpu);
        let (x, observations) = (Var::from_tensor(&draw(5)?)?, draw(3)?);
        let (actions, values) = if composed {
            let actions = mlp.forward_composed(&x)?;
            let values = critics.forward_composed(&observations, &actions)?;
            (actions, values)
        } else {
            let actions = mlp.forward(&x)?;
            let values = critics.forward(&observations, &actions)?;
            (actions, values)
        };
        let gradients = (values.sqr()?.sum_all()? + actions.sum_all()?)?.backward()?;
        let mut results = vec![actions, values];
        results.extend(all_gradients(&x, &params, &gradients)?);
        Ok(results)
    }

    /// Adds noise to every parameter: no two members' norms are the same.
    fn disturb(params: &Params, rng: &mut Rng) -> Result<()> {
        for param in params.iter() {
            let value = param.slot.tensor()?;
            let noise = rng.normal_tensor(value.shape(), value.dtype(), value.device())?;
            param.slot.set(&(value + (noise * 0.1)?)?)?;
        }
        Ok(())
    }

    #[test]
    fn fused_perceptrons_equal_plain_tensor_operations() -> Result<()> {
        for (between, norms) in [
            (Between::Plain(Activation::Relu), 0),
            (Between::Plain(Activation::Gelu), 0),
            (Between::Plain(Activation::GeluTanh), 0),
            (Between::Plain(Activation::SquaredRelu), 0),
            (Between::Plain(Activation::Mish), 0),
            (Between::Norms(1e-5), 4),
        ] {
            // Rounding of sums over 300 rows.
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-4)] {
                let fused = results(dtype, between, false)?;
                let composed = results(dtype, between, true)?;
                assert_eq!(fused.len(), 2 + 1 + 6 + 6 + 2 * norms);
                assert_eq!(fused.len(), composed.len());
                for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                    let difference = largest_relative_difference(fused, composed)?;
                    assert!(
                        difference < tolerance,
                        "{dtype:?} {between:?} {i}: {difference:e}"
                    );
                }
            }
            check_same_bits(|| results(DType::F32, between, false))?;
        }
        Ok(())
    }

    /// Nine critics with several panels of weights, and two of them alone: values and gradients.
    fn members(norm_epsilon: Option<f64>, composed: bool) -> Result<Vec<Tensor>> {
        let (dtype, rng) = (DType::F64, &mut Rng::from_seed(5));
        let mut params = Params::new(dtype, &Device::Cpu);
        let config = CriticConfig {
            observation_dim: 3,
            action_dim: 2,
            hidden: vec![300, 20],
            members: 9,
            norm_epsilon,
            ..CriticConfig::default()
        };
        let all = Critics::new(&config, &mut params.init(rng))?;
        disturb(&params, rng)?;
        let mut draw = |width: usize| rng.normal_tensor((270, width), dtype, &Device::Cpu);
        let (observations, actions) = (draw(3)?, Var::from_tensor(&draw(2)?)?);
        let mut results = Vec::new();
        for critics in [all.clone(), all.member(0)?, all.member(5)?, all.member(8)?] {
            let values = if composed {
                critics.forward_composed(&observations, &actions)?
            } else {
                critics.forward(&observations, &actions)?
            };
            let gradients = values.sqr()?.sum_all()?.backward()?;
            results.push(values);
            results.extend(all_gradients(&actions, &params, &gradients)?);
        }
        Ok(results)
    }

    /// Output and gradients of one MLP on rows that several threads cut into smaller pieces than one; the last layer's products are
    /// narrow, for which gemm has ways of its own.
    fn pieces(norm_epsilon: Option<f64>) -> Result<Vec<Tensor>> {
        let (dtype, rng) = (DType::F32, &mut Rng::from_seed(9));
        let mut params = Params::new(dtype, &Device::Cpu);
        let (sizes, mut init) = ([5, 256, 40, 2], params.init(rng));
        let mlp = match norm_epsilon {
            None => Mlp::new(&sizes, Activation::Relu, &mut init.sub("mlp"))?,
            Some(epsilon) => {
                let init_of_layers = StackInit::default();
                Mlp::with_norms(&sizes, epsilon, init_of_layers, &mut init.sub("mlp"))?
            }
        };
        disturb(&params, rng)?;
        let x = Var::from_tensor(&rng.normal_tensor((512, 5), dtype, &Device::Cpu)?)?;
        let y = mlp.forward(&x)?;
        let gradients = y.sqr()?.sum_all()?.backward()?;
        let mut results = vec![y];
        results.extend(all_gradients(&x, &params, &gradients)?);
        Ok(results)
    }

    #[test]
    fn pieces_of_rows_may_be_larger_on_one_thread() -> Result<()> {
        for norm_epsilon in [None, Some(1e-5)] {
            check_same_bits(|| pieces(norm_epsilon))?;
        }
        Ok(())
    }

    #[test]
    fn many_members_and_some_of_them_equal_plain_tensor_operations() -> Result<()> {
        for (norm_epsilon, each) in [(None, 8), (Some(1e-6), 12)] {
            let fused = members(norm_epsilon, false)?;
            let composed = members(norm_epsilon, true)?;
            assert_eq!((fused.len(), composed.len()), (4 * each, 4 * each));
            for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                let difference = largest_relative_difference(fused, composed)?;
                // Rounding of sums over 300 terms.
                assert!(difference < 1e-12, "{norm_epsilon:?} {i}: {difference:e}");
            }
        }
        Ok(())
    }
}
