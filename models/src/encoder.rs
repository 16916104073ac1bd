//! Encoders of the caller's own: an [`Encoder`] stands in for the hidden layers of the perceptrons of actors, critics and V,
//! and an [`EncoderFactory`] makes one for each of them.
//!
//! A linear layer follows the encoder, with the initial values that the perceptron's last layer has. Widths of hidden layers and
//! norms of a network's configuration belong to its perceptron: an encoder has its own.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::init::StackInit;
use crate::linear::Linear;
use crate::mlp::Mlp;
use crate::params::Scope;

/// A network from inputs to features, built from parameters that a [`Scope`] created or found.
///
/// The same input gives the same features: training resumes exactly, and a policy acts the same, only if nothing is random and
/// nothing is remembered between calls.
pub trait Encoder: Send + Sync {
    /// Features (B, H) of inputs (B, I), where I is [`EncoderInput::width`] and H [`Self::output_dim`]. Each row counts by
    /// itself: a batch's rows come in other batches when the policy acts.
    ///
    /// Gradients have to reach the parameters and, in a critic, the inputs: the layers of this crate pass them on; of
    /// candle-nn's, `layer_norm`, `softmax_last_dim` and others don't.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn forward(&self, x: &Tensor) -> Result<Tensor>;

    /// H, at least 1.
    fn output_dim(&self) -> usize;
}

/// What an encoder's inputs are: observations, and in a critic actions behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderInput {
    /// O: the first columns, normalised as the run normalises observations.
    pub observation_dim: usize,
    /// Number of action columns behind them, in ±1: A in a critic, 0 in an actor and in V.
    pub action_dim: usize,
}

impl EncoderInput {
    /// I: columns of the input.
    pub fn width(&self) -> usize {
        self.observation_dim + self.action_dim
    }
}

/// Makes encoders: one for each actor, for each member of an ensemble of critics, and for V.
pub trait EncoderFactory: Send + Sync {
    /// What it is called, e.g. `residual-2x64`. A run keeps this name and opens only with a factory of the same, so it should say
    /// everything that the shapes of its tensors don't: an activation, say.
    fn name(&self) -> String;

    /// Makes an encoder from the parameters of `scope`, which creates or finds them: it is called for both, several times for each
    /// network, and has to ask for the same names and shapes in the same order each time.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    fn build(&self, input: EncoderInput, scope: &mut Scope<'_>) -> Result<Box<dyn Encoder>>;
}

impl fmt::Debug for dyn EncoderFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncoderFactory({})", self.name())
    }
}

impl PartialEq for dyn EncoderFactory {
    /// Factories of one name make the same encoders.
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// An encoder with a linear layer behind it; parameters `encoder.*`, as the factory names them, `head.weight` (out, H) and
/// `head.bias`.
#[derive(Clone)]
pub(crate) struct Encoded {
    encoder: Arc<dyn Encoder>,
    head: Linear,
    /// I.
    inputs: usize,
    outputs: usize,
}

impl Encoded {
    /// Makes the encoder, then its head with the last layer's values of `init`.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub(crate) fn new(
        factory: &dyn EncoderFactory,
        input: EncoderInput,
        outputs: usize,
        init: StackInit,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let encoder = factory.build(input, &mut scope.sub("encoder"))?;
        let width = encoder.output_dim();
        if input.observation_dim == 0 || width == 0 || outputs == 0 {
            let reason = format!(
                "`{}` needs inputs, features and outputs, found {input:?}, {width} features and {outputs} outputs",
                factory.name()
            );
            return Err(Error::Config {
                what: "Encoder",
                reason,
            });
        }
        let (weight, bias) = init.layer(1, 2, (width, outputs));
        let head = Linear::with_init(width, outputs, weight, bias, &mut scope.sub("head"))?;
        Ok(Self {
            encoder: Arc::from(encoder),
            head,
            inputs: input.width(),
            outputs,
        })
    }

    /// (.., I) -> (.., out).
    ///
    /// # Errors
    /// If the last dimension is not I, or the encoder's features are not (B, H).
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        let rows = x.elem_count() / self.inputs;
        let features = self.encoder.forward(&x.reshape((rows, self.inputs))?)?;
        let expected = [rows, self.encoder.output_dim()];
        if features.dims() != expected {
            let reason = format!(
                "features have shape {:?}, expected {expected:?}",
                features.dims()
            );
            return Err(Error::Config {
                what: "Encoder",
                reason,
            });
        }
        if let Some(last) = dims.last_mut() {
            *last = self.outputs;
        }
        Ok(self.head.forward(&features)?.reshape(dims)?)
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("inputs", &self.inputs)
            .field("features", &self.encoder.output_dim())
            .field("head", &self.head)
            .finish()
    }
}

/// What an actor or V computes its outputs with.
#[derive(Debug, Clone)]
pub(crate) enum Net {
    /// Parameters `net.*`.
    Mlp(Mlp),
    /// Parameters `encoder.*` and `head.*`.
    Encoded(Encoded),
}

impl Net {
    /// (.., in) -> (.., out).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Mlp(mlp) => mlp.forward(x),
            Self::Encoded(encoded) => encoded.forward(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::critic::{CriticConfig, Critics};
    use crate::params::Params;
    use crate::rng::Rng;

    /// A linear layer to `outputs` features that says it has `claimed`.
    struct Layer {
        layer: Linear,
        claimed: usize,
    }

    impl Encoder for Layer {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            self.layer.forward(x)
        }

        fn output_dim(&self) -> usize {
            self.claimed
        }
    }

    struct Layers {
        outputs: usize,
        claimed: usize,
    }

    impl EncoderFactory for Layers {
        fn name(&self) -> String {
            format!("layer-{}", self.outputs)
        }

        fn build(&self, input: EncoderInput, scope: &mut Scope<'_>) -> Result<Box<dyn Encoder>> {
            Ok(Box::new(Layer {
                layer: Linear::new(input.width(), self.outputs, scope)?,
                claimed: self.claimed,
            }))
        }
    }

    fn critics(claimed: usize) -> Result<(Params, Critics)> {
        let factory = Layers {
            outputs: 6,
            claimed,
        };
        let config = CriticConfig {
            observation_dim: 3,
            action_dim: 2,
            members: 3,
            encoder: Some(Arc::new(factory)),
            ..CriticConfig::default()
        };
        let mut params = Params::new(DType::F64, &Device::Cpu);
        let critics = Critics::new(&config, &mut params.init(&mut Rng::from_seed(0)))?;
        Ok((params, critics))
    }

    fn batch() -> Result<(Tensor, Tensor)> {
        let rng = &mut Rng::from_seed(1);
        let mut draw = |width: usize| rng.normal_tensor((5, width), DType::F64, &Device::Cpu);
        Ok((draw(3)?, draw(2)?))
    }

    #[test]
    fn each_critic_has_an_encoder_of_its_own_and_a_member_is_that_critic() -> Result<()> {
        let (params, critics) = critics(6)?;
        let names: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
        assert_eq!(names.len(), 3 * 4);
        assert_eq!(
            names[4..8],
            [
                "1.encoder.weight",
                "1.encoder.bias",
                "1.head.weight",
                "1.head.bias"
            ]
        );
        let (observations, actions) = batch()?;
        let values = critics.forward(&observations, &actions)?; // (3, 5)
        assert_eq!(values.dims(), [3, 5]);
        let value = |name: &str| params.get(name).expect(name).slot.tensor();
        let x = Tensor::cat(&[&observations, &actions], 1)?;
        for member in 0..3 {
            let layer = |what: &str, x: &Tensor| -> Result<Tensor> {
                let weight = value(&format!("{member}.{what}.weight"))?;
                let bias = value(&format!("{member}.{what}.bias"))?;
                Ok(x.matmul(&weight.t()?)?.broadcast_add(&bias)?)
            };
            let by_hand = layer("head", &layer("encoder", &x)?)?.squeeze(1)?;
            for found in [
                values.get(member)?,
                critics
                    .member(member)?
                    .forward(&observations, &actions)?
                    .squeeze(0)?,
            ] {
                let difference = (found - &by_hand)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(difference < 1e-14, "{member}: {difference:e}");
            }
        }
        assert!(critics.member(3).is_err());
        Ok(())
    }

    #[test]
    fn the_head_starts_from_the_last_layers_values() -> Result<()> {
        let config = CriticConfig {
            observation_dim: 3,
            action_dim: 2,
            init: StackInit::small_last(1e-3),
            encoder: Some(Arc::new(Layers {
                outputs: 6,
                claimed: 6,
            })),
            ..CriticConfig::default()
        };
        let mut params = Params::new(DType::F64, &Device::Cpu);
        Critics::new(&config, &mut params.init(&mut Rng::from_seed(0)))?;
        for param in params.iter() {
            let values = param.slot.tensor()?.flatten_all()?.abs()?;
            let largest = values.max(0)?.to_scalar::<f64>()?;
            // An encoder's own values are as large as it says.
            assert_eq!(
                largest < 1e-3,
                param.name.contains("head."),
                "{}",
                param.name
            );
        }
        Ok(())
    }

    #[test]
    fn what_an_encoder_can_not_do_is_an_error_that_says_so() -> Result<()> {
        let (observations, actions) = batch()?;
        let (_, wrong) = critics(7)?;
        let problem = wrong.forward(&observations, &actions);
        let problem = problem.expect_err("six features").to_string();
        assert!(problem.contains("Encoder"), "{problem}");
        let (_, right) = critics(6)?;
        let problem = right.values_and_action_gradients(&observations, &actions);
        let problem = problem.expect_err("no action gradients").to_string();
        assert!(problem.contains("encoder"), "{problem}");
        let problem = critics(0).expect_err("no features").to_string();
        assert!(problem.contains("`layer-6` needs"), "{problem}");
        Ok(())
    }
}
