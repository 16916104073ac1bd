//! [`ReturnSequences`]: sub-trajectories with returns-to-go, which a Decision Transformer is
//! trained on.
//!
//! Follows kzl/decision-transformer, `gym/experiment.py` (`get_batch`), commit e2d82e6: trajectories
//! are drawn with probability proportional to their length, starts uniformly.

pub mod episode_replay;

pub use crate::batch::ReturnBatch;
use candle_core::{DType, Device, Tensor};

use crate::resident;
use crate::resident::ReturnTables;
use crate::returns;
use trajformer_core::dataset::{ActionKind, Dataset, Episode};
use trajformer_core::dataset_checks::{long_sequences, opened_without_data};
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_models::choices::one_hot;
use trajformer_models::health;
use trajformer_models::rng::Rng;

/// What kzl and LaMo's authors add to the standard deviation of observations.
const NORMALIZATION_EPSILON: f64 = 1e-6;

/// Mean and standard deviation of observations as return-conditioned algorithms take them: over the steps of the complete
/// episodes, those that [`ReturnSequences`] draws from. The authors' lists hold no others: an episode that the file
/// breaks off never gets there (kzl, `gym/data/download_d4rl_datasets.py`).
///
/// # Errors
/// If no episode is complete, or `algorithm` can't learn from the data's returns.
pub fn observation_normalizer(
    data: &Dataset,
    algorithm: &str,
    device: &Device,
) -> Result<Normalizer> {
    data.require_returns(algorithm)?;
    let observations = data.complete_observations();
    Normalizer::fit(
        &observations,
        data.observation_dim,
        NORMALIZATION_EPSILON,
        device,
    )
}

/// What stands where a sub-trajectory is shorter than the context. It is masked in loss and attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Before the sub-trajectory, as kzl trains: states 0 *before* normalisation, actions -10.
    #[default]
    Left,
    /// Before the sub-trajectory, all zeros after normalisation: what kzl's code meets when acting.
    LeftZeros,
    /// After the sub-trajectory, all zeros after normalisation, as CORL trains.
    RightZeros,
}

/// What returns are divided by.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(untagged, expecting = "a number or \"data\"")]
pub enum ReturnScale {
    /// This number, positive.
    Number(f64),
    /// The largest return of the data's complete episodes, without its sign: `"data"`. A run that starts keeps the number.
    FromData(DataWord),
}

/// The word `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataWord {
    /// `"data"`.
    Data,
}

impl ReturnScale {
    /// `"data"`.
    pub const DATA: Self = Self::FromData(DataWord::Data);

    /// The number: that of `data` where it is left to it; 1 where all returns are 0.
    ///
    /// # Errors
    /// If it is left to data, and there is none or no episode of it is complete.
    pub fn of(self, data: Option<&Dataset>) -> Result<f64> {
        let returns = match (self, data) {
            (Self::Number(scale), _) => return Ok(scale),
            (_, Some(data)) => data.returns(),
            (_, None) => {
                return Err(Error::settings(
                    "`return_scale` is \"data\", but there is no data here to take it from: give a number",
                ));
            }
        };
        if returns.is_empty() {
            return Err(Error::settings(
                "`return_scale` is \"data\", but no episode of the data is complete, so that no return is known: give a number",
            ));
        }
        let largest = returns
            .iter()
            .fold(0.0f64, |most, value| most.max(value.abs()));
        Ok(if largest > 0.0 { largest } else { 1.0 })
    }
}

/// How sub-trajectories are cut and scaled.
#[derive(Debug, Clone, PartialEq)]
pub struct ReturnOptions {
    /// K, the context length: steps of a sub-trajectory.
    pub context_steps: usize,
    /// Returns-to-go are divided by this (kzl: 1000).
    pub return_scale: f64,
    /// Time steps from this on count as the one before it: rows of the time-step embedding.
    pub max_episode_steps: usize,
    /// What fills short sub-trajectories.
    pub padding: Padding,
}

impl ReturnOptions {
    fn check(&self) -> Result<()> {
        let Self {
            context_steps,
            return_scale,
            max_episode_steps,
            ..
        } = self;
        let scale_is_positive = return_scale.is_finite() && *return_scale > 0.0;
        if *context_steps == 0 || *max_episode_steps == 0 || !scale_is_positive {
            return Err(Error::settings(format!(
                "context_steps ({context_steps}), max_episode_steps ({max_episode_steps}) and \
                 return_scale ({return_scale}) must be positive"
            )));
        }
        Ok(())
    }
}

/// Return, observation and action.
const STEP_TOKENS: usize = 3;
/// Scaled returns of this size are what networks see well: the authors' are 0.1 to 12.
const SCALED_RETURNS: (f64, f64) = (0.1, 100.0);
/// Sums of products of larger numbers leave single precision.
const MOST_SCALED: f32 = 1e15;
/// A target is far from the returns of the data if it is further away than this many times their range. The authors'
/// of 12,000 on halfcheetah-medium is 1.2 times the range beyond its best.
const FAR: f64 = 2.0;

/// What a user should know of settings that hardly fit the returns and lengths of the data's complete episodes;
/// `table` is that of the configuration.
pub fn misfits(
    data: &Dataset,
    options: &ReturnOptions,
    target_returns: &[f32],
    table: &str,
) -> Vec<String> {
    let key = format!("{table}.context_steps");
    let long = long_sequences(data, &key, options.context_steps, STEP_TOKENS);
    let (returns, mut found) = (data.returns(), Vec::from_iter(long));
    if returns.is_empty() {
        return found; // It will be refused.
    }
    let low = returns.iter().copied().fold(f64::INFINITY, f64::min);
    let high = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (size, scale) = (low.abs().max(high.abs()), options.return_scale);
    let source = data.source_names();
    let (least, most) = SCALED_RETURNS;
    if size > 0.0 && !(least..=most).contains(&(size / scale)) {
        let effect = if size / scale < least {
            "too small to tell targets apart"
        } else {
            "large beside everything else that the network reads"
        };
        found.push(format!(
            "{source}: returns are {low:.4} to {high:.4}; `{table}.return_scale = {scale}` makes {:.2e} of the largest, \
             {effect}: set it to about {size:.2e}",
            size / scale
        ));
    }
    let range = (high - low).max(size / 2.0);
    let far = |target: &&f32| {
        let target = f64::from(**target);
        target > high + FAR * range || target < low - FAR * range
    };
    let far: Vec<String> = target_returns
        .iter()
        .filter(far)
        .map(f32::to_string)
        .collect();
    if !far.is_empty() {
        found.push(format!(
            "{source}: returns are {low:.4} to {high:.4}; `{table}.target_returns` asks for {}, which nothing in the data \
             comes near",
            far.join(", ")
        ));
    }
    let (steps, most) = (
        data.episodes
            .iter()
            .map(|episode| episode.steps)
            .max()
            .unwrap_or(0),
        options.max_episode_steps,
    );
    if steps > most {
        let count = data
            .episodes
            .iter()
            .filter(|episode| episode.steps > most)
            .count();
        found.push(format!(
            "{source}: {count} of {} episodes are longer than `{table}.max_episode_steps = {most}`, the longest has {steps} \
             steps: the network can't tell steps from there on apart",
            data.episodes.len()
        ));
    }
    found
}

/// Every sub-trajectory of the complete episodes of a data set, ready to be sampled.
///
/// The last episode is left out if the file stops in its middle: its returns are unknown.
#[derive(Debug, Clone)]
pub struct ReturnSequences {
    observation_dim: usize,
    action_dim: usize,
    /// (steps, O), normalised.
    states: Vec<f32>,
    /// (steps, A).
    actions: Vec<f32>,
    /// (steps), scaled.
    returns_to_go: Vec<f32>,
    /// First and end step of each complete episode, with the count of their steps before it.
    episodes: Vec<Span>,
    /// A state of zeros before normalisation (O).
    zero_state: Vec<f32>,
    /// Whether actions are choices, each as zeros with a 1.
    choices: bool,
    options: ReturnOptions,
    /// All of it on a device, instead of `states`, `actions` and `returns_to_go`.
    resident: Option<ReturnTables>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    steps_before: usize,
}

impl ReturnSequences {
    /// What a return-conditioned algorithm is trained on: observations normalised, actions mapped to ±1, choices to zeros with a 1, all of it on
    /// `device`.
    ///
    /// # Errors
    /// As for [`Self::new`], or if the device fails.
    pub fn prepared(
        data: &Dataset,
        normalizer: &Normalizer,
        bounds: &ActionBounds,
        device: &Device,
        options: ReturnOptions,
    ) -> Result<Self> {
        let column = |values: &Tensor| values.to_dtype(DType::F32)?.to_vec1::<f32>();
        let (mean, scale) = (column(normalizer.mean())?, column(normalizer.scale())?);
        let mut sequences = Self::new(data, &mean, &scale, options)?;
        match bounds.kind() {
            ActionKind::Continuous => {
                sequences.map_actions(|actions| bounds.to_unit(&actions.to_device(device)?))?;
            }
            ActionKind::Discrete { count } => {
                let actions = Tensor::from_slice(&sequences.actions, (data.steps(), 1), device)?;
                let rows = one_hot(&actions, count)?; // (steps, C)
                sequences.actions = rows.flatten_all()?.to_vec1()?;
                (sequences.action_dim, sequences.choices) = (count, true);
            }
        }
        if !device.is_cpu() {
            sequences.move_to(device)?;
        }
        Ok(sequences)
    }

    /// Without a step to draw, for algorithms that act without their data.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn without_data(
        observation_dim: usize,
        action_dim: usize,
        options: ReturnOptions,
    ) -> Result<Self> {
        options.check()?;
        Ok(Self {
            observation_dim,
            action_dim,
            states: Vec::new(),
            actions: Vec::new(),
            returns_to_go: Vec::new(),
            episodes: Vec::new(),
            zero_state: vec![0.0; observation_dim],
            choices: false,
            options,
            resident: None,
        })
    }

    /// Normalises the observations of `data` as `(observation - mean) / deviation` and sums returns.
    ///
    /// # Errors
    /// If no episode is complete, lengths do not fit, an option is out of range, or a scaled return leaves single precision.
    pub fn new(
        data: &Dataset,
        mean: &[f32],
        deviation: &[f32],
        options: ReturnOptions,
    ) -> Result<Self> {
        data.require_returns("the Decision Transformer")?;
        let (o, a) = (data.observation_dim, data.action_dim);
        if mean.len() != o || deviation.len() != o {
            return Err(Error::Unsuitable(format!(
                "statistics of {} and {} dimensions do not fit observations of {o}",
                mean.len(),
                deviation.len()
            )));
        }
        options.check()?;
        let normalize = |row: &[f32]| -> Vec<f32> {
            let scaled = row.iter().zip(mean).zip(deviation);
            scaled
                .map(|((value, mean), deviation)| (value - mean) / deviation)
                .collect()
        };
        let mut sequences = Self {
            observation_dim: o,
            action_dim: a,
            states: data
                .observations
                .chunks_exact(o)
                .flat_map(normalize)
                .collect(),
            actions: data.actions.clone(),
            returns_to_go: vec![0.0; data.steps()],
            episodes: Vec::new(),
            zero_state: normalize(&vec![0.0; o]),
            choices: false,
            options,
            resident: None,
        };
        for episode in data.episodes.iter().filter(|episode| episode.is_complete()) {
            sequences.push_episode(data, episode);
        }
        sequences.check_returns(data)?;
        Ok(sequences)
    }

    /// Fails if a scaled return is too large for networks in single precision.
    fn check_returns(&self, data: &Dataset) -> Result<()> {
        let sizes = self.returns_to_go.iter().map(|found| found.abs());
        // `f32::max` leaves NaN out.
        let largest = sizes.fold(0.0, |largest: f32, found| {
            if found.is_finite() {
                largest.max(found)
            } else {
                f32::INFINITY
            }
        });
        if largest <= MOST_SCALED {
            return Ok(());
        }
        let scale = self.options.return_scale;
        Err(Error::settings(format!(
            "{}: `return_scale = {scale:e}` makes {largest:e} of the largest return to go, which single precision does not hold a network's \
             sums of: set it to about the largest return",
            data.source_names()
        )))
    }

    fn push_episode(&mut self, data: &Dataset, episode: &Episode) {
        let rewards = &data.rewards[episode.range()];
        let returns = returns::scaled_to_go(rewards, self.options.return_scale);
        self.returns_to_go[episode.range()].copy_from_slice(&returns);
        let steps_before = self.steps();
        let (start, end) = (episode.start, episode.start + episode.steps);
        self.episodes.push(Span {
            start,
            end,
            steps_before,
        });
    }

    /// Replaces all actions (steps, A) by what `map` makes of them, e.g. the map to ±1.
    ///
    /// # Errors
    /// If `map` fails or changes the shape.
    pub fn map_actions(&mut self, map: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<()> {
        let steps = self.actions.len() / self.action_dim;
        let actions = Tensor::from_slice(&self.actions, (steps, self.action_dim), &Device::Cpu)?;
        let mapped = map(&actions)?;
        if mapped.dims() != actions.dims() {
            let (found, expected) = (mapped.dims(), actions.dims());
            let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
            return Err(Error::shape("mapped actions", found, expected));
        }
        self.actions = mapped.flatten_all()?.to_vec1()?;
        Ok(())
    }

    /// Moves everything to `device`, where batches are made from now on: the same ones, from row
    /// numbers.
    ///
    /// # Errors
    /// If the device fails.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        if self.resident.is_some() {
            return Ok(());
        }
        let take = |values: &mut Vec<f32>, padding: &[f32]| {
            let mut table = std::mem::take(values);
            table.extend_from_slice(padding);
            resident::rows(table, padding.len(), device)
        };
        let (state, action) = self.padding();
        let mut timesteps = vec![0; self.returns_to_go.len() + 1];
        for span in &self.episodes {
            for (in_episode, timestep) in timesteps[span.start..span.end].iter_mut().enumerate() {
                *timestep = self.timestep(in_episode);
            }
        }
        let mut mask = vec![1.0f32; timesteps.len()];
        mask[timesteps.len() - 1] = 0.0;
        self.resident = Some(ReturnTables {
            returns_to_go: take(&mut self.returns_to_go, &[0.0])?,
            states: take(&mut self.states, &state)?,
            actions: take(&mut self.actions, &vec![action; self.action_dim])?,
            timesteps: Tensor::from_vec(timesteps, mask.len(), device)?,
            mask: Tensor::from_slice(&mask, mask.len(), device)?,
        });
        Ok(())
    }

    /// State (O) and action number of a step that fills a short sub-trajectory.
    fn padding(&self) -> (Vec<f32>, f32) {
        match self.options.padding {
            // No choice at all is zeros, in the place of the authors' -10.
            Padding::Left if self.choices => (self.zero_state.clone(), 0.0),
            Padding::Left => (self.zero_state.clone(), -10.0),
            Padding::LeftZeros | Padding::RightZeros => (vec![0.0; self.observation_dim], 0.0),
        }
    }

    /// What the embedding is asked for at this step of an episode.
    fn timestep(&self, in_episode: usize) -> u32 {
        in_episode.min(self.options.max_episode_steps - 1) as u32
    }

    /// Steps of the complete episodes.
    pub fn steps(&self) -> usize {
        self.episodes
            .last()
            .map_or(0, |span| span.steps_before + span.end - span.start)
    }

    /// Fails if there is nothing to draw: it was made without data, to act.
    ///
    /// # Errors
    /// Saying so.
    pub fn require_steps(&self) -> Result<()> {
        match self.steps() {
            0 => Err(opened_without_data()),
            _ => Ok(()),
        }
    }

    /// Samples `batch` sub-trajectories: a step of the complete episodes uniformly, which is an episode in
    /// proportion to its length and a uniform start in it, and the K - 1 steps after it.
    ///
    /// # Errors
    /// If a tensor can't be made.
    pub fn sample(&self, batch: usize, rng: &mut Rng, device: &Device) -> Result<ReturnBatch> {
        self.require_steps()?;
        self.batch(&self.draw(batch, rng), device)
    }

    /// Where [`sample`](Self::sample) lets `batch` sub-trajectories start.
    pub fn draw(&self, batch: usize, rng: &mut Rng) -> Vec<usize> {
        let starts: Vec<usize> = (0..batch).map(|_| rng.below(self.steps())).collect();
        self.drawn(&starts);
        starts
    }

    /// Tells whoever watches the update where its sub-trajectories start.
    pub(crate) fn drawn(&self, starts: &[usize]) {
        health::drawn("steps", || {
            let row = |&start: &usize| {
                let span = &self.episodes[self.episode_of(start)];
                span.start + start - span.steps_before
            };
            starts.iter().map(row).collect()
        });
    }

    /// Where `batch` sub-trajectories start: an episode uniformly, whatever its length, and in it uniformly a step after which K follow
    /// or the first one where it is shorter than that.
    ///
    /// # Panics
    /// If there is no complete episode.
    pub fn draw_by_episode(&self, batch: usize, rng: &mut Rng) -> Vec<usize> {
        let draw = |_| {
            let span = self.episodes[rng.below(self.episodes.len())];
            let steps = span.end - span.start;
            let later = steps.saturating_sub(self.options.context_steps);
            span.steps_before + rng.below(later + 1)
        };
        let starts: Vec<usize> = (0..batch).map(draw).collect();
        self.drawn(&starts);
        starts
    }

    /// The complete episode, counted from 0, that the sub-trajectory from `start` on lies in.
    ///
    /// # Panics
    /// If the start is not below [`steps`](Self::steps).
    pub fn episode_of(&self, start: usize) -> usize {
        assert!(start < self.steps(), "a start beyond the last step");
        let before = |span: &Span| span.steps_before <= start;
        self.episodes.partition_point(before) - 1
    }

    /// Every complete episode: the count of their steps before it, and its own.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let length = |span: &Span| (span.steps_before, span.end - span.start);
        self.episodes.iter().map(length)
    }

    /// The sub-trajectory from `start` on: the place of its first step in the context, that step in the data, and how many there are.
    pub(crate) fn placed(&self, start: usize) -> (usize, usize, usize) {
        let stretch = self.stretch(start);
        (stretch.at, stretch.first, stretch.steps)
    }

    /// The sub-trajectories that start at these steps, counted over the complete episodes only; on
    /// `device`, or where [`move_to`](Self::move_to) has brought the data.
    ///
    /// # Errors
    /// If a tensor can't be made.
    ///
    /// # Panics
    /// If a start is not below [`steps`](Self::steps).
    pub fn batch(&self, starts: &[usize], device: &Device) -> Result<ReturnBatch> {
        let (b, k) = (starts.len(), self.options.context_steps);
        if let Some(tables) = &self.resident {
            return tables.batch(self.rows(starts, tables), k);
        }
        let (o, a) = (self.observation_dim, self.action_dim);
        let (state_padding, action_padding) = self.padding();
        let mut states = state_padding.repeat(b * k);
        let mut actions = vec![action_padding; b * k * a];
        let mut returns_to_go = vec![0.0f32; b * k];
        let mut timesteps = vec![0u32; b * k];
        let mut mask = vec![0.0f32; b * k];
        for (row, &start) in starts.iter().enumerate() {
            let Stretch {
                at,
                first,
                steps,
                start,
            } = self.stretch(start);
            let at = row * k + at;
            copy(&mut states, at, &self.states, first, steps, o);
            copy(&mut actions, at, &self.actions, first, steps, a);
            copy(&mut returns_to_go, at, &self.returns_to_go, first, steps, 1);
            mask[at..at + steps].fill(1.0);
            for (step, timestep) in timesteps[at..at + steps].iter_mut().enumerate() {
                *timestep = self.timestep(first + step - start);
            }
        }
        Ok(ReturnBatch {
            returns_to_go: Tensor::from_vec(returns_to_go, (b, k, 1), device)?,
            states: Tensor::from_vec(states, (b, k, o), device)?,
            actions: Tensor::from_vec(actions, (b, k, a), device)?,
            timesteps: Tensor::from_vec(timesteps, (b, k), device)?,
            mask: Tensor::from_vec(mask, (b, k), device)?,
        })
    }

    /// Rows (B K) of the tables.
    fn rows(&self, starts: &[usize], tables: &ReturnTables) -> Vec<u32> {
        let (k, padding) = (self.options.context_steps, tables.mask.elem_count() - 1);
        let mut rows = vec![padding as u32; starts.len() * k];
        for (rows, &start) in rows.chunks_mut(k).zip(starts) {
            let Stretch {
                at, first, steps, ..
            } = self.stretch(start);
            for (step, row) in rows[at..at + steps].iter_mut().enumerate() {
                *row = (first + step) as u32;
            }
        }
        rows
    }

    /// The sub-trajectory that starts at this step of the complete episodes.
    fn stretch(&self, start: usize) -> Stretch {
        let span = self.episodes[self.episode_of(start)];
        let first = span.start + start - span.steps_before;
        let steps = (span.end - first).min(self.options.context_steps);
        let at = match self.options.padding {
            Padding::Left | Padding::LeftZeros => self.options.context_steps - steps,
            Padding::RightZeros => 0,
        };
        Stretch {
            at,
            first,
            steps,
            start: span.start,
        }
    }
}

/// Where the steps of a sub-trajectory come from and go to.
struct Stretch {
    /// Place in the context of its first step.
    at: usize,
    /// Its first step in the data.
    first: usize,
    steps: usize,
    /// The first step of its episode in the data.
    start: usize,
}

/// Copies `steps` rows of `width` numbers.
fn copy(to: &mut [f32], at: usize, from: &[f32], first: usize, steps: usize, width: usize) {
    to[at * width..(at + steps) * width]
        .copy_from_slice(&from[first * width..(first + steps) * width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Episodes of two steps with these returns.
    fn data(returns: &[f32]) -> Dataset {
        let episode = |number: usize| Episode {
            terminated: true,
            ..Episode::new(2 * number, 2)
        };
        Dataset {
            observations: vec![0.0; 2 * returns.len()],
            actions: vec![0.0; 2 * returns.len()],
            rewards: returns.iter().flat_map(|&sum| [0.0, sum]).collect(),
            episodes: (0..returns.len()).map(episode).collect(),
            sources: vec!["mine.npz".into()],
            ..Dataset::blank(1, 1)
        }
    }

    fn said(returns: &[f32], scale: f64, targets: &[f32], steps: usize) -> Vec<String> {
        let options = ReturnOptions {
            context_steps: 20,
            return_scale: scale,
            max_episode_steps: steps,
            padding: Padding::Left,
        };
        misfits(&data(returns), &options, targets, "algorithm.lamo")
    }

    #[test]
    fn a_scale_that_takes_returns_out_of_single_precision_is_refused() {
        let made = |scale: f64| {
            let options = ReturnOptions {
                context_steps: 2,
                return_scale: scale,
                max_episode_steps: 2,
                padding: Padding::Left,
            };
            ReturnSequences::new(&data(&[0.0, 1.0]), &[0.0], &[1.0], options)
        };
        for scale in [1e-300, 1e-16] {
            let error = made(scale).expect_err("too small").to_string();
            assert!(error.contains("mine.npz: `return_scale = "), "{error}");
        }
        assert!(made(1e-10).is_ok());
    }

    #[test]
    fn settings_that_hardly_fit_the_returns_are_warned_of_with_numbers_and_key() {
        let small = said(&[0.0, 1.0], 1000.0, &[], 1000);
        for words in [
            "mine.npz",
            "0.0000 to 1.0000",
            "`algorithm.lamo.return_scale = 1000`",
            "1.00e0",
        ] {
            assert!(small[0].contains(words), "{small:?}");
        }
        assert_eq!(said(&[0.0, 1e6], 1000.0, &[], 1000).len(), 1);
        assert!(said(&[0.0, 1.0], 1.0, &[1.0, 1.5], 1000).is_empty());
        let far = said(&[0.0, 1.0], 1.0, &[0.5, 3600.0], 1000);
        assert!(
            far[0].contains("`algorithm.lamo.target_returns` asks for 3600,"),
            "{far:?}"
        );
        let long = said(&[0.0, 1.0], 1.0, &[], 1);
        let words = "2 of 2 episodes are longer than `algorithm.lamo.max_episode_steps = 1`";
        assert!(
            long[0].contains(words) && long[0].contains("has 2 steps"),
            "{long:?}"
        );
        let options = ReturnOptions {
            context_steps: 2000,
            return_scale: 1.0,
            max_episode_steps: 2,
            padding: Padding::Left,
        };
        let wide = misfits(&data(&[0.0, 1.0]), &options, &[], "algorithm.lamo");
        for words in [
            "`algorithm.lamo.context_steps = 2000` makes sequences of 6000 tokens",
            "1.8e7 pairs",
            "the longest episode has 2 steps",
            "`algorithm.lamo.context_steps=2`",
        ] {
            assert!(wide[0].contains(words), "{wide:?}");
        }
        // halfcheetah-medium with the authors' targets, and a data set without rewards.
        assert!(said(&[-310.0, 5309.0], 1000.0, &[12000.0, 6000.0], 1000).is_empty());
        assert!(said(&[0.0, 0.0], 1000.0, &[], 1000).is_empty());
    }
}
