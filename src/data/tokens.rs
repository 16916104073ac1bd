//! The rows that a Trajectory Transformer reads, column by column, and as tokens.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::Dataset;
use super::discretizer::Discretizer;
use super::resident::rows;
use super::sequences::{TokenOptions, ValueColumn};
use crate::error::Result;

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
