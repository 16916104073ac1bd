//! Losses on windows that are held out.

use candle_core::{DType, Device, Tensor};
use trajformer_models::trajectory_transformer::{
    TrajectoryTransformer as Network, TrajectoryTransformerConfig as Sizes,
};

use trajformer_core::error::Result;
use trajformer_core::held_out::{CHUNK_ROWS, HELD_OUT_LOSS, WeightedMean, rows};
use trajformer_data::sequences::TokenSequences;

/// Mean cross entropies on what is held out, by what a token stands for.
const KINDS: [&str; 4] = [
    "held_out_observation_cross_entropy",
    "held_out_action_cross_entropy",
    "held_out_reward_cross_entropy",
    "held_out_value_cross_entropy",
];

/// The same of what is predicted at once, with that of the same tokens where they are predicted one after the other: next observations,
/// values.
const AT_ONCE: [[&str; 2]; 2] = [
    [
        "held_out_multi_token_observation_cross_entropy",
        "held_out_next_observation_cross_entropy",
    ],
    [
        "held_out_multi_token_value_cross_entropy",
        "held_out_next_value_cross_entropy",
    ],
];

/// Which of [`KINDS`] the token is that a position predicts.
fn kind(sizes: &Sizes, position: usize) -> usize {
    match (position + 1) % sizes.transition_dim() {
        place if place < sizes.observation_dim => 0,
        place if place < sizes.observation_dim + sizes.action_dim => 1,
        place if place == sizes.observation_dim + sizes.action_dim => 2,
        _ => 3,
    }
}

/// The weighted loss of next tokens; the mean cross entropy of the tokens that count, in nats, and that of each kind of token. Of networks
/// that predict several tokens at once also the weighted loss of that, `held_out_multi_token_loss`, and [`AT_ONCE`].
pub(super) fn losses(
    net: &Network,
    windows: &TokenSequences,
    device: &Device,
) -> Result<Vec<(&'static str, f64)>> {
    let mut loss = WeightedMean::default();
    let mut all = WeightedMean::default();
    let mut kinds = [WeightedMean::default(); KINDS.len()];
    let mut at_once = AtOnce::default();
    for chunk in rows(windows.len()).chunks(CHUNK_ROWS) {
        let batch = windows.batch(chunk, device)?;
        let found = net.cross_entropies(&batch)?;
        let (losses, mask) = (numbers(&found.next)?, numbers(&batch.mask)?); // (B, T)
        for (losses, mask) in losses.iter().zip(&mask) {
            for (position, (&found, &counts)) in losses.iter().zip(mask).enumerate() {
                // As in training, masked positions count as zero.
                loss.add(found * counts * net.weight(position), 1.0);
                all.add(found, counts);
                kinds[kind(net.config(), position)].add(found, counts);
            }
        }
        if let Some(more) = &found.multi_token {
            at_once.add(net, [more, &found.next, &batch.mask])?;
        }
    }
    let kinds = KINDS.into_iter().zip(kinds);
    let named = [(HELD_OUT_LOSS, loss), ("held_out_cross_entropy", all)];
    let more = at_once.named();
    let mean = |(name, mean): (_, WeightedMean)| Some((name, mean.get()?));
    Ok(named
        .into_iter()
        .chain(kinds)
        .chain(more)
        .filter_map(mean)
        .collect())
}

/// Rows of numbers (n, m), on the CPU.
fn numbers(of: &Tensor) -> Result<Vec<Vec<f64>>> {
    Ok(of
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .to_vec2()?)
}

/// Means of what is predicted at once.
#[derive(Default)]
struct AtOnce {
    loss: WeightedMean,
    /// As [`AT_ONCE`].
    pairs: [[WeightedMean; 2]; 2],
}

impl AtOnce {
    /// Adds cross entropies (B, S, K) of what is predicted at once, those (B, T) of next tokens, and the mask (B, T).
    fn add(&mut self, net: &Network, [more, next, mask]: [&Tensor; 3]) -> Result<()> {
        let count = more.dim(2)?;
        let positions = mask.dim(1)? as f64;
        let flat = |of: &Tensor| numbers(&of.flatten(1, 2)?); // (B, S K)
        let rows = flat(more)?
            .into_iter()
            .zip(flat(&net.multi_token_targets(next)?)?)
            .zip(flat(&net.multi_token_mask(mask)?)?);
        for ((more, next), mask) in rows {
            let mut sum = 0.0;
            for (at, ((more, next), counts)) in more.into_iter().zip(next).zip(mask).enumerate() {
                let index = at % count;
                sum += more * counts * net.multi_token_weight(index);
                let pair = &mut self.pairs[usize::from(index == 0)];
                pair[0].add(more, counts);
                pair[1].add(next, counts);
            }
            self.loss.add(sum / positions, positions);
        }
        Ok(())
    }

    fn named(self) -> impl Iterator<Item = (&'static str, WeightedMean)> {
        let pairs = AT_ONCE
            .into_iter()
            .flatten()
            .zip(self.pairs.into_iter().flatten());
        std::iter::once(("held_out_multi_token_loss", self.loss)).chain(pairs)
    }
}
