//! Gradients of critics with respect to actions, as numbers that can be differentiated once more.

use candle_core::Tensor;

use super::{Critics, Perceptrons};
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::kernels::mlp::Mlps;
use crate::kernels::mlp::slopes::MlpSlopes;
use crate::kernels::switch::Kernel;

impl Critics {
    /// The gradients alone of [`Self::values_and_action_gradients`].
    ///
    /// # Errors
    /// As there.
    pub fn action_gradients(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        Ok(self.values_and_action_gradients(observations, actions)?.1)
    }

    /// Values (N, B) and their gradients with respect to the actions (N, B, A), both differentiable with respect
    /// to the parameters; observations and actions are constants.
    ///
    /// The gradient of a perceptron with ReLU is itself a product of its weights and of masks that don't change
    /// with them, W_1 D_1 W_2 D_2 ... w: it is computed forwards, and no graph of second order is needed.
    ///
    /// # Errors
    /// If the shapes don't fit, or there is an encoder or there are norms, whose gradients are no such products.
    pub fn values_and_action_gradients(
        &self,
        observations: &Tensor,
        actions: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let perceptrons = self.perceptrons()?;
        perceptrons.values_and_action_gradients(observations, actions)
    }
}

impl Perceptrons {
    fn values_and_action_gradients(
        &self,
        observations: &Tensor,
        actions: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        if !self.norms.is_empty() {
            let reason = "with norms they have no gradients of action gradients".to_owned();
            return Err(Error::Config {
                what: "Critics",
                reason,
            });
        }
        if self.layers.len() < 2 || !Kernel::MlpSlopes.takes(actions) {
            return self.values_and_action_gradients_composed(observations, actions);
        }
        let action_dim = actions.dim(1)?;
        let x = Tensor::cat(&[observations, actions], 1)?; // (B, O + A)
        let mlps = Mlps {
            members: self.members.clone(),
            of: self.of,
            sizes: self.sizes.clone(),
            activation: Activation::Relu,
            norm_epsilon: None,
            inputs_first: true,
        };
        let slopes = MlpSlopes {
            mlps,
            inputs: action_dim,
        };
        let out = slopes.apply(&x, &self.shared)?; // (N, B, 1 + A)
        let values = out.narrow(2, 0, 1)?.squeeze(2)?;
        Ok((values, out.narrow(2, 1, action_dim)?))
    }

    /// The slow twin, for every device.
    fn values_and_action_gradients_composed(
        &self,
        observations: &Tensor,
        actions: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let x = Tensor::cat(&[observations, actions], 1)?.detach(); // (B, O + A)
        let (batch, inputs) = x.dims2()?;
        let (members, action_dim) = (self.members.len(), actions.dim(1)?);
        let mut x = x
            .unsqueeze(0)?
            .broadcast_as((members, batch, inputs))?
            .contiguous()?;
        let mut masks = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x)?; // (N, B, out)
            if i + 1 < self.layers.len() {
                let mask = x.detach().gt(0.0)?.to_dtype(x.dtype())?;
                x = (x * &mask)?;
                masks.push(mask);
            }
        }
        let mut slope = Tensor::ones((members, batch, 1), x.dtype(), x.device())?;
        for (i, layer) in self.layers.iter().enumerate().rev() {
            if let Some(mask) = masks.get(i) {
                slope = (slope * mask)?;
            }
            slope = slope.matmul(&layer.weight.transpose(1, 2)?)?; // (N, B, in)
        }
        let gradients = slope.narrow(2, inputs - action_dim, action_dim)?;
        Ok((x.squeeze(2)?, gradients))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::critic::CriticConfig;
    use crate::params::Params;
    use crate::rng::Rng;
    use crate::testing::{check_same_bits, largest_relative_difference};

    /// Rows of the batch: two pieces of work and a part of a third.
    const ROWS: usize = 270;

    struct Case {
        params: Params,
        critics: Critics,
        observations: Tensor,
        actions: Var,
        /// Weights of a sum over all values, and over all action gradients.
        weights: (Tensor, Tensor),
    }

    fn case(dtype: DType, hidden: &[usize], members: usize) -> Result<Case> {
        let rng = &mut Rng::from_seed(7);
        let mut params = Params::new(dtype, &Device::Cpu);
        let config = CriticConfig {
            observation_dim: 3,
            action_dim: 2,
            hidden: hidden.to_vec(),
            members,
            ..CriticConfig::default()
        };
        let critics = Critics::new(&config, &mut params.init(rng))?;
        let mut draw = |shape: &[usize]| rng.normal_tensor(shape, dtype, &Device::Cpu);
        Ok(Case {
            observations: draw(&[ROWS, 3])?,
            actions: Var::from_tensor(&draw(&[ROWS, 2])?)?,
            weights: (draw(&[members, ROWS])?, draw(&[members, ROWS, 2])?),
            params,
            critics,
        })
    }

    impl Case {
        /// A sum over values and action gradients in which each has a weight of its own.
        fn sum(&self, (values, gradients): &(Tensor, Tensor)) -> Result<Tensor> {
            let gradients = (gradients * &self.weights.1)?.sum_all()?;
            Ok(((values * &self.weights.0)?.sum_all()? + gradients)?)
        }

        fn fused(&self) -> Result<(Tensor, Tensor)> {
            self.critics
                .values_and_action_gradients(&self.observations, &self.actions)
        }

        fn composed(&self) -> Result<(Tensor, Tensor)> {
            let perceptrons = self.critics.perceptrons()?;
            perceptrons.values_and_action_gradients_composed(&self.observations, &self.actions)
        }

        /// Values, action gradients, and the gradients of all parameters.
        fn results(&self, both: (Tensor, Tensor)) -> Result<Vec<Tensor>> {
            let gradients = self.sum(&both)?.backward()?;
            let mut results = vec![both.0, both.1];
            for param in self.params.iter() {
                results.push(param.slot.gradient(&gradients)?.expect("a gradient"));
            }
            Ok(results)
        }
    }

    #[test]
    fn action_gradients_are_those_of_the_backward_pass() -> Result<()> {
        let case = case(DType::F64, &[16, 24, 8], 3)?;
        let (values, gradients) = case.fused()?;
        let expected = case.critics.forward(&case.observations, &case.actions)?;
        assert!(largest_relative_difference(&values, &expected)? < 1e-14);
        for member in 0..3 {
            let values =
                (case.critics.member(member)?).forward(&case.observations, &case.actions)?;
            let expected = values.sum_all()?.backward()?;
            let expected = expected.get(&case.actions).expect("a gradient");
            let difference = largest_relative_difference(&gradients.get(member)?, expected)?;
            assert!(difference < 1e-13, "{member}: {difference:e}");
        }
        Ok(())
    }

    #[test]
    fn gradients_of_action_gradients_equal_central_differences() -> Result<()> {
        let case = case(DType::F64, &[16, 24, 8], 3)?;
        let gradients = case.results(case.fused()?)?;
        let step = 1e-6;
        for (param, gradient) in case.params.iter().zip(&gradients[2..]) {
            // Along one direction per parameter.
            let start = param.slot.tensor()?.copy()?;
            let direction =
                Rng::from_seed(9).normal_tensor(start.shape(), DType::F64, &Device::Cpu)?;
            let mut sides = Vec::new();
            for side in [step, -step] {
                param.slot.set(&(&start + (&direction * side)?)?)?;
                sides.push(case.sum(&case.fused()?)?.to_scalar::<f64>()?);
            }
            param.slot.set(&start)?;
            let found = (gradient * direction)?.sum_all()?.to_scalar::<f64>()?;
            let expected = (sides[0] - sides[1]) / (2.0 * step);
            // A mask that the step flips changes action gradients by a jump; none does here.
            let error = (found - expected).abs() / expected.abs();
            assert!(error < 1e-6, "{}: {found} {expected}", param.name);
        }
        Ok(())
    }

    #[test]
    fn fused_action_gradients_equal_plain_tensor_operations() -> Result<()> {
        for (hidden, members) in [(&[16, 24, 8][..], 3), (&[300, 20], 9), (&[12], 2), (&[], 2)] {
            // Rounding of sums over 300 terms.
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-4)] {
                let mut case = case(dtype, hidden, members)?;
                for critics in [case.critics.clone(), case.critics.member(1)?] {
                    case.critics = critics;
                    let members = case.critics.perceptrons()?.members.len();
                    case.weights.0 = case.weights.0.narrow(0, 0, members)?;
                    case.weights.1 = case.weights.1.narrow(0, 0, members)?;
                    let (fused, composed) = (
                        case.results(case.fused()?)?,
                        case.results(case.composed()?)?,
                    );
                    for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                        let difference = largest_relative_difference(fused, composed)?;
                        assert!(difference < tolerance, "{dtype:?} {i}: {difference:e}");
                    }
                }
            }
        }
        check_same_bits(|| {
            let case = case(DType::F32, &[300, 20], 9)?;
            case.results(case.fused()?)
        })
    }
}
