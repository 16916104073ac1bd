//! The rows that a Trajectory Transformer reads, column by column, and as tokens.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::discretizer::Discretizer;
use crate::resident::rows;
use crate::token_options::{TokenOptions, ValueColumn};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;
use trajformer_core::statistics::quantile;

/// The joined rows (observation, action, reward, value), produced column by column in f64.
pub(super) struct Columns<'a> {
    data: &'a Dataset,
    rewards: Vec<f64>,
    values: Vec<f64>,
}

impl<'a> Columns<'a> {
    /// Rows of `data`.
    pub fn new(data: &'a Dataset, options: &TokenOptions) -> Self {
        let mut rewards: Vec<f64> = data
            .rewards
            .iter()
            .map(|&reward| f64::from(reward))
            .collect();
        let mut values = vec![0.0; rewards.len()];
        let mut unknown = Vec::new();
        for episode in &data.episodes {
            let last = episode.start + episode.steps - 1;
            if let (true, Some(penalty)) = (episode.terminated, options.termination_penalty) {
                rewards[last] = penalty;
            }
            if !episode.is_complete() {
                unknown.push(episode.range());
                continue;
            }
            if options.value == ValueColumn::Return {
                for step in (episode.start..last).rev() {
                    values[step] = rewards[step + 1] + options.discount * values[step + 1];
                }
            }
        }
        fill_unknown(&mut values, &unknown);
        Self {
            data,
            rewards,
            values,
        }
    }

    /// D.
    pub fn dims(&self) -> usize {
        self.data.observation_dim + self.data.action_dim + 2
    }

    /// Writes a column (steps).
    pub fn fill(&self, dim: usize, column: &mut [f64]) {
        let (o, a) = (self.data.observation_dim, self.data.action_dim);
        let strided = |column: &mut [f64], from: &[f32], offset: usize, stride: usize| {
            let from = from[offset..].iter().step_by(stride);
            column
                .iter_mut()
                .zip(from)
                .for_each(|(to, &value)| *to = f64::from(value));
        };
        match dim {
            _ if dim < o => strided(column, &self.data.observations, dim, o),
            _ if dim < o + a => strided(column, &self.data.actions, dim - o, a),
            _ if dim == o + a => column.copy_from_slice(&self.rewards),
            _ => column.copy_from_slice(&self.values),
        }
    }
}

/// Rewards above all but this share of the others are not those of a failure ...
const RARELY_EXCEEDED: f64 = 0.99;
/// ... if more than this share of the terminating steps has them.
const SUCCESS_SHARE: f64 = 0.05;
/// A penalty of more than this many times the largest reward leaves values nothing else to tell; the authors' is about
/// 15 times that of locomotion.
const LARGEST_PENALTY_RATIO: f64 = 100.0;

/// A warning where a penalty in the place of the rewards of terminating steps does harm: it takes away what the data
/// pays for success, or dwarfs all rewards. `key` is the penalty's.
pub fn penalty_misfit(data: &Dataset, penalty: f64, key: &str) -> Option<String> {
    let mut ends = vec![false; data.steps()];
    for episode in data.episodes.iter().filter(|episode| episode.terminated) {
        ends[episode.start + episode.steps - 1] = true;
    }
    let of = |end: bool| -> Vec<f64> {
        let steps = data.rewards.iter().zip(&ends);
        steps
            .filter(|(_, is_end)| **is_end == end)
            .map(|(&reward, _)| f64::from(reward))
            .collect()
    };
    let (replaced, mut others) = (of(true), of(false));
    if replaced.is_empty() || others.is_empty() {
        return None;
    }
    others.sort_unstable_by(f64::total_cmp);
    let usual = quantile(&others, RARELY_EXCEEDED).max(penalty);
    let paid: Vec<f64> = replaced.iter().copied().filter(|&r| r > usual).collect();
    let (count, source) = (replaced.len(), data.source_names());
    let replaces = format!(
        "{source}: `{key} = {penalty}` replaces the rewards of all {count} steps that terminate"
    );
    if paid.len() as f64 > SUCCESS_SHARE * count as f64 {
        let mean = paid.iter().sum::<f64>() / paid.len() as f64;
        return Some(format!(
            "{replaces}, though {} of them are rewarded more than nearly every other step ({mean:.4} on average): if \
             that is success, the model learns to avoid it; `{key} = \"none\"` keeps the data's rewards",
            paid.len()
        ));
    }
    let largest = data
        .rewards
        .iter()
        .map(|&r| f64::from(r).abs())
        .fold(0.0, f64::max);
    (penalty.abs() > LARGEST_PENALTY_RATIO * largest).then(|| {
        format!(
            "{replaces}, while no reward is larger than {largest:.4}: values will tell little else; set it to the size of \
             an episode's return, or to \"none\""
        )
    })
}

/// Gives steps of unknown value those of other steps, spread evenly, so that they move no threshold.
/// Their tokens mean nothing: they are not trained on, and the network never looks at values.
fn fill_unknown(values: &mut [f64], unknown: &[Range<usize>]) {
    let unknown: Vec<usize> = unknown.iter().flat_map(Range::clone).collect();
    let is_known = |step: &usize| unknown.binary_search(step).is_err();
    let known: Vec<f64> = (0..values.len())
        .filter(is_known)
        .map(|step| values[step])
        .collect();
    for (index, &step) in unknown.iter().enumerate() {
        if let Some(&value) = known.get(index * known.len() / unknown.len()) {
            values[step] = value;
        }
    }
}

/// (steps, D) tokens in the smallest type that also holds the termination token.
#[derive(Debug, Clone)]
pub(super) enum Tokens {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

impl Tokens {
    /// The tokens of all rows.
    pub fn encode(columns: &Columns<'_>, discretizer: &Discretizer) -> Self {
        let (steps, dims) = (columns.rewards.len(), columns.dims());
        let mut column = vec![0.0; steps];
        let mut each = |put: &mut dyn FnMut(usize, u32)| {
            for dim in 0..dims {
                columns.fill(dim, &mut column);
                for (step, &value) in column.iter().enumerate() {
                    put(step * dims + dim, discretizer.encode(value, dim));
                }
            }
        };
        // Tokens are at most N, which the type holds.
        if discretizer.bins() <= usize::from(u8::MAX) {
            let mut tokens = vec![0u8; steps * dims];
            each(&mut |at, token| tokens[at] = token as u8);
            Self::Bytes(tokens)
        } else {
            let mut tokens = vec![0u16; steps * dims];
            each(&mut |at, token| tokens[at] = token as u16);
            Self::Words(tokens)
        }
    }

    /// How many there are, of all dimensions together.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(all) => all.len(),
            Self::Words(all) => all.len(),
        }
    }

    /// All of them and `more` after them on a device, (rows, D) u8 or u32.
    pub fn table(&self, more: &[u32], dims: usize, device: &Device) -> Result<Tensor> {
        match self {
            Self::Bytes(all) => {
                let more = more.iter().map(|&token| token as u8);
                rows(all.iter().copied().chain(more).collect(), dims, device)
            }
            Self::Words(all) => {
                let all = all.iter().map(|&token| u32::from(token));
                rows(all.chain(more.iter().copied()).collect(), dims, device)
            }
        }
    }

    /// Appends the tokens at these places.
    pub fn push(&self, range: Range<usize>, tokens: &mut Vec<u32>) {
        match self {
            Self::Bytes(all) => tokens.extend(all[range].iter().map(|&token| u32::from(token))),
            Self::Words(all) => tokens.extend(all[range].iter().map(|&token| u32::from(token))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trajformer_core::dataset::Episode;

    /// Episodes of two steps that terminate, with these rewards.
    fn data(rewards: &[[f32; 2]]) -> Dataset {
        let episode = |number: usize| Episode {
            terminated: true,
            ..Episode::new(2 * number, 2)
        };
        Dataset {
            rewards: rewards.concat(),
            episodes: (0..rewards.len()).map(episode).collect(),
            sources: vec!["mine.npz".into()],
            ..Dataset::blank(1, 1)
        }
    }

    fn said(rewards: &[[f32; 2]], penalty: f64) -> Option<String> {
        penalty_misfit(&data(rewards), penalty, "algorithm.x.termination_penalty")
    }

    #[test]
    fn a_penalty_that_overwrites_success_is_warned_of_with_count_and_key() {
        for rewards in [[0.0, 1.0], [-1.0, 0.0], [0.5, 10.0]] {
            let found = said(&[rewards; 50], -100.0).expect("a warning");
            let words =
                "`algorithm.x.termination_penalty = -100` replaces the rewards of all 50 steps";
            assert!(
                found.contains("mine.npz") && found.contains(words),
                "{found}"
            );
            assert!(found.contains("50 of them are rewarded more"), "{found}");
            assert!(found.contains("= \"none\"` keeps"), "{found}");
        }
        // Success and failure both end episodes.
        let mixed = [[0.0, 100.0], [0.0, -100.0], [0.1, -100.0], [0.2, -90.0]];
        assert!(said(&mixed, -100.0).is_some_and(|text| text.contains("1 of them")));
    }

    #[test]
    fn a_penalty_for_falling_is_the_authors_and_one_that_dwarfs_rewards_is_warned_of() {
        let falls: Vec<[f32; 2]> = (0..50).map(|i| [3.0 + 0.01 * i as f32, 1.5]).collect();
        assert_eq!(said(&falls, -100.0), None);
        assert_eq!(said(&[], -100.0), None);
        let small: Vec<[f32; 2]> = falls.iter().map(|row| row.map(|r| r * 1e-3)).collect();
        let found = said(&small, -100.0).expect("a warning");
        assert!(found.contains("no reward is larger than 0.0035"), "{found}");
        assert_eq!(said(&small, -0.1), None);
    }
}
