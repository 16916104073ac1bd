//! [`MultiTokenHeads`]: what a network that predicts several tokens at once makes of the state of an action's last number.

use super::trunk::Source;
use crate::error::{Error, Result};
use crate::kernels::decode::{Float, Packed, Store, silu_plus};

/// The layers `multi_token` of a network, each with the head that it shares, packed: value first, then the next observation.
#[derive(Debug)]
pub(super) struct MultiTokenHeads<T> {
    list: Vec<Head<T>>,
    classes: usize,
}

#[derive(Debug)]
struct Head<T> {
    layer: Packed<T>, // C -> C
    /// The place whose head it shares.
    place: usize,
}

/// Buffers of one task.
#[derive(Default)]
pub(super) struct MultiTokenScratch<T> {
    states: Vec<T>,
    logits: Vec<T>,
}

impl<T: Float> MultiTokenHeads<T> {
    /// The heads of a network of this width with transitions of D tokens, of N + 1 classes.
    pub(super) fn new(
        source: &Source<'_>,
        width: usize,
        (d, classes): (usize, usize),
    ) -> Result<Self> {
        let (weight, bias) = ("multi_token.weight", "multi_token.bias");
        let found = source.get(weight)?.dims();
        let count = found.first().map_or(0, |rows| rows / width);
        // A value and one observation at least; one action.
        if !(2..=d.saturating_sub(2)).contains(&count) || found != [count * width, width] {
            return Err(Error::TensorShape {
                name: weight.to_owned(),
                found: found.to_vec(),
                expected: vec![(d - 2) * width, width],
            });
        }
        let weights: Vec<T> = source.numbers(weight, &[count * width, width])?;
        let biases: Vec<T> = source.numbers(bias, &[count * width])?;
        let layers = weights
            .chunks_exact(width * width)
            .zip(biases.chunks_exact(width));
        let list = layers.enumerate().map(|(index, (weight, bias))| Head {
            layer: Packed::new(weight, Some(bias), width),
            place: (d - 2 + index) % d,
        });
        Ok(Self {
            list: list.collect(),
            classes,
        })
    }

    /// K = O + 1, how many tokens are predicted beside the reward.
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// Logits (n, k, N + 1) of the first k tokens, by states (n, C) after the last norm and the heads of all places.
    fn forward(
        &self,
        states: &[T],
        heads: &[Packed<T>],
        logits: &mut [T],
        scratch: &mut MultiTokenScratch<T>,
    ) {
        let Some(first) = self.list.first() else {
            return;
        };
        let (rows, classes) = (states.len() / first.layer.inputs(), self.classes);
        let count = logits.len() / (rows * classes).max(1);
        let MultiTokenScratch {
            states: own,
            logits: found,
        } = scratch;
        own.resize(states.len(), T::ZERO);
        found.resize(rows * classes, T::ZERO);
        for (index, head) in self.list[..count].iter().enumerate() {
            head.layer.forward(states, own, Store::Replace);
            silu_plus(own, states);
            heads[head.place].forward(own, found, Store::Replace);
            for (row, found) in found.chunks_exact(classes).enumerate() {
                logits[(row * count + index) * classes..][..classes].copy_from_slice(found);
            }
        }
    }
}

/// Heads that predict several tokens from the last one of each sequence.
pub(super) struct More<'a, T> {
    pub(super) multi_token: &'a MultiTokenHeads<T>,
    /// Of all places in a transition.
    pub(super) heads: &'a [Packed<T>],
    /// (S, k, N + 1), of the first k tokens.
    pub(super) logits: &'a mut [T],
}

impl<'a, T: Float> More<'a, T> {
    /// Those of every `per_task` of S sequences.
    pub(super) fn parts(
        more: Option<Self>,
        sequences: usize,
        per_task: usize,
    ) -> Vec<Option<Self>> {
        let tasks = sequences.div_ceil(per_task);
        let Some(Self {
            multi_token,
            heads,
            logits,
        }) = more
        else {
            return (0..tasks).map(|_| None).collect();
        };
        let chunk = logits.len() / sequences * per_task;
        let part = |logits: &'a mut [T]| {
            Some(Self {
                multi_token,
                heads,
                logits,
            })
        };
        logits.chunks_mut(chunk).map(part).collect()
    }

    /// Fills the logits by the sequences' states (S, C) after the last norm.
    pub(super) fn predict(self, states: &[T], scratch: &mut MultiTokenScratch<T>) {
        self.multi_token
            .forward(states, self.heads, self.logits, scratch);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::activation::Activation;
    use crate::decoder::{Cache, Decoder};
    use crate::params::Params;
    use crate::precision::Precision;
    use crate::rng::Rng;
    use crate::trajectory_transformer::{
        Recipe, TrajectoryTransformer, TrajectoryTransformerConfig,
    };

    const SEQUENCES: usize = 3;
    /// Three transitions of six tokens and an observation.
    const TOKENS: usize = 21;

    fn network(tied_heads: bool, rng: &mut Rng) -> Result<(Params, TrajectoryTransformer)> {
        let config = TrajectoryTransformerConfig {
            observation_dim: 3,
            action_dim: 1,
            bins: 5,
            layers: 2,
            heads: 2,
            embedding: 12,
            window_transitions: 4,
            embedding_dropout: 0.0,
            residual_dropout: 0.0,
            attention_dropout: 0.0,
            action_weight: 1.0,
            reward_weight: 1.0,
            value_weight: 1.0,
            multi_token_weight: 1.0,
            precision: Precision::Full,
            activation: Activation::Gelu,
            recipe: Recipe {
                tied_heads,
                multi_token: true,
                ..Recipe::default()
            },
            instruction_dim: 0,
        };
        let mut params = Params::new(DType::F64, &Device::Cpu);
        TrajectoryTransformer::new(&config, &mut params.init(rng))?;
        for param in params.iter() {
            let noise = rng.normal_tensor(param.slot.shape(), DType::F64, &Device::Cpu)?;
            param.slot.set(&(param.slot.tensor()? + (noise * 0.3)?)?)?;
        }
        let network = TrajectoryTransformer::new(&config, &mut params.detached())?;
        Ok((params, network))
    }

    /// Tokens (S, T), termination among them.
    fn tokens(rng: &mut Rng) -> Vec<u32> {
        let count = SEQUENCES * TOKENS;
        (0..count).map(|_| rng.below(6) as u32).collect()
    }

    fn columns(tokens: &[u32], from: usize, to: usize) -> Vec<u32> {
        let rows = tokens.chunks_exact(TOKENS);
        rows.flat_map(|row| &row[from..to]).copied().collect()
    }

    #[test]
    fn several_tokens_at_once_are_those_of_a_pass_over_the_whole_window() -> Result<()> {
        for tied_heads in [false, true] {
            let rng = &mut Rng::from_seed(3);
            let (params, network) = network(tied_heads, rng)?;
            let shape = network.config().decoder_shape();
            let decoder = Decoder::<f64>::new(&params.tensors()?, shape)?;
            assert_eq!(decoder.multi_token_observations(), Some(3));
            let tokens = tokens(rng);
            let all = Tensor::from_slice(&tokens, (SEQUENCES, TOKENS), &Device::Cpu)?;
            let expected = network.multi_token_logits(&all, None)?; // (S, 3, 4, 6)
            let mut cache = Cache::default();
            decoder.start(&mut cache, SEQUENCES, None)?;
            let (mut logits, mut more) = (Vec::new(), Vec::new());
            let mut from = 0;
            for transition in 0..3 {
                let to = transition * 6 + 4;
                let given = columns(&tokens, from, to);
                decoder.extend_and_predict(&mut cache, &given, &mut logits, (&mut more, 4))?;
                let expected = expected.narrow(1, transition, 1)?.flatten_all()?;
                for (found, expected) in more.iter().zip(expected.to_vec1::<f64>()?) {
                    // Rounding of a few sums over a dozen numbers.
                    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
                }
                from = to;
            }
        }
        Ok(())
    }

    /// The logits that follow the whole sequences, and what is predicted after their second action, where the tokens between are
    /// appended `step` at a time.
    fn appended<T: Float>(
        decoder: &Decoder<T>,
        tokens: &[u32],
        step: usize,
    ) -> Result<[Vec<T>; 3]> {
        let mut cache = Cache::default();
        decoder.start(&mut cache, SEQUENCES, None)?;
        let (mut logits, mut more) = (Vec::new(), Vec::new());
        let mut after_action = Vec::new();
        let mut at = 4;
        decoder.extend(&mut cache, &columns(tokens, 0, 4), &mut logits)?;
        while at < TOKENS {
            let to = if at == 9 {
                10
            } else {
                (at + step).min(if at < 9 { 9 } else { TOKENS })
            };
            let given = columns(tokens, at, to);
            if to == 10 {
                decoder.extend_and_predict(&mut cache, &given, &mut logits, (&mut more, 4))?;
                after_action.clone_from(&logits);
            } else {
                decoder.extend(&mut cache, &given, &mut logits)?;
            }
            at = to;
        }
        Ok([logits, after_action, more])
    }

    #[test]
    fn tokens_that_are_known_may_be_appended_at_once_or_one_by_one() -> Result<()> {
        fn check<T: Float>() -> Result<()> {
            let rng = &mut Rng::from_seed(4);
            let (params, network) = network(false, rng)?;
            let shape = network.config().decoder_shape();
            let decoder = Decoder::<T>::new(&params.tensors()?, shape)?;
            let tokens = tokens(rng);
            let one_by_one = appended(&decoder, &tokens, 1)?;
            // A reward, a value and an observation are five tokens.
            for step in [2, 5, 11] {
                assert!(appended(&decoder, &tokens, step)? == one_by_one, "{step}");
            }
            Ok(())
        }
        check::<f32>()?;
        check::<f64>()
    }

    #[test]
    fn only_networks_with_such_heads_predict_several_tokens_and_only_after_actions() -> Result<()> {
        let rng = &mut Rng::from_seed(5);
        let (params, network) = network(false, rng)?;
        let tensors = params.tensors()?;
        let mut shape = network.config().decoder_shape();
        let decoder = Decoder::<f32>::new(&tensors, shape)?;
        let fails = |decoder: &Decoder<f32>, tokens: usize, count: usize| -> Result<bool> {
            let mut cache = Cache::default();
            decoder.start(&mut cache, 1, None)?;
            let (mut logits, mut more) = (Vec::new(), Vec::new());
            let more = (&mut more, count);
            let tokens = vec![0; tokens];
            Ok(decoder
                .extend_and_predict(&mut cache, &tokens, &mut logits, more)
                .is_err())
        };
        for (tokens, count, wrong) in [(4, 4, false), (4, 5, true), (4, 0, true), (5, 4, true)] {
            assert_eq!(fails(&decoder, tokens, count)?, wrong, "{tokens} {count}");
        }
        shape.recipe.multi_token = false;
        let plain = Decoder::<f32>::new(&tensors, shape)?;
        assert_eq!(plain.multi_token_observations(), None);
        assert!(fails(&plain, 4, 1)?);
        Ok(())
    }
}
