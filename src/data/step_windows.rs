//! [`StepWindows`]: windows of normalised transitions that the Trajectory Autoencoding Planner is trained on.
//!
//! A transition is `O` observation numbers, `A` action numbers, the reward and the value: D numbers. Follows
//! ZhengyaoJiang/latentplan, `latentplan/datasets/sequence.py`, commit c096a5c, with these differences: episodes that have no end in
//! the data are left out, since their values are unknown and the encoder reads values; a column that never changes is divided by 1, not
//! by 0; windows are drawn with replacement, where the authors shuffle epochs.

use candle_core::{Device, Tensor};
use trajformer_models::health;
use trajformer_models::params::StateVisitor;
use trajformer_models::tap::StepBatch;

use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::Normalizer;
use trajformer_core::source::Source;
use trajformer_models::rng::Rng;

/// How windows are made.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowOptions {
    /// T, transitions in a window.
    pub window_transitions: usize,
    /// Discount of values, in [0, 1].
    pub discount: f64,
    /// Replaces the reward of every terminating step; `None` keeps the data's. Rewards are normalised by the data's own.
    pub termination_penalty: Option<f64>,
    /// Squared errors at or past this step of the episode don't count. `None`: the longest episode of the data.
    pub max_path_steps: Option<usize>,
}

/// A data set as normalised transitions, and every window that can be drawn from it.
///
/// Windows start at every step of an episode but its last. Past the end of an episode, however it ended, stands what zeros are when
/// normalised, and the step counts as terminal. The value of a step is `V_t = sum over k >= 0 of discount^k r_{t+1+k}`, up to the end.
#[derive(Debug, Clone)]
pub struct StepWindows {
    normalizer: Normalizer, // D columns
    /// (S + 1, D) f32: every step, then what stands past the end.
    table: Option<Tensor>,
    windows: Vec<Window>,
    /// T.
    transitions: usize,
    max_path_steps: usize,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    start: u32,
    episode_start: u32,
    episode_end: u32,
}

impl StepWindows {
    /// Normalises the data of `source`; without data there are no windows, and a normaliser that is to be restored.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_source(
        source: Source<'_>,
        options: &WindowOptions,
        algorithm: &str,
        device: &Device,
    ) -> Result<Self> {
        match source {
            Source::Train(data) => Self::new(data, options, algorithm, device),
            Source::Act {
                observation_dim,
                action_dim,
            } => Ok(Self {
                normalizer: Normalizer::identity(observation_dim + action_dim + 2, device)?,
                table: None,
                windows: Vec::new(),
                transitions: options.window_transitions,
                max_path_steps: options.max_path_steps.unwrap_or(0),
            }),
        }
    }

    /// Normalises `data` and brings it to `device`; `algorithm` is who asks, in messages.
    ///
    /// # Errors
    /// If actions are discrete, no complete episode has two steps, an option is out of range or the device fails.
    pub fn new(
        data: &Dataset,
        options: &WindowOptions,
        algorithm: &str,
        device: &Device,
    ) -> Result<Self> {
        Self::normalized_by(None, data, options, algorithm, device)
    }

    /// As [`Self::new`], normalised by these D columns in place of the data's own.
    ///
    /// # Errors
    /// As [`Self::new`], and if there are other columns than D.
    pub fn normalized_by(
        given: Option<&Normalizer>,
        data: &Dataset,
        options: &WindowOptions,
        algorithm: &str,
        device: &Device,
    ) -> Result<Self> {
        data.require_continuous_actions(algorithm)?;
        data.require_time_order("a model of sequences")?;
        data.require_returns(algorithm)?;
        let episodes: Vec<&Episode> = data.episodes.iter().filter(|e| e.is_complete()).collect();
        let longest = episodes.iter().map(|episode| episode.steps).max();
        let longest = longest.unwrap_or(0);
        let max_path_steps = options.max_path_steps.unwrap_or(longest);
        if max_path_steps < longest {
            return Err(Error::settings(format!(
                "max_path_steps is {max_path_steps}, but the longest episode has {longest} steps"
            )));
        }
        let steps = episodes.iter().map(|episode| episode.steps).sum::<usize>();
        if u32::try_from(steps + 1).is_err() {
            return Err(Error::Unsuitable(format!(
                "the data has {steps} steps; windows are indexed up to 2^32"
            )));
        }
        let (mut table, normalizer) = normalized(given, data, &episodes, options, device)?;
        let (mean, scale) = moments(&normalizer)?;
        table.extend(mean.iter().zip(&scale).map(|(mean, scale)| -mean / scale));
        let (mut windows, mut start) = (Vec::new(), 0);
        for episode in &episodes {
            let end = start + episode.steps as u32;
            windows.extend((start..end - 1).map(|first| Window {
                start: first,
                episode_start: start,
                episode_end: end,
            }));
            start = end;
        }
        if windows.is_empty() {
            return Err(Error::Unsuitable(format!(
                "{}: no complete episode has two steps: there is no sequence to learn from",
                data.source_names()
            )));
        }
        let width = mean.len();
        Ok(Self {
            normalizer,
            table: Some(Tensor::from_vec(table, (steps + 1, width), device)?),
            windows,
            transitions: options.window_transitions,
            max_path_steps,
        })
    }

    /// Mean and standard deviation of every column.
    pub fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// Shows mean and standard deviations to `visitor` under `prefix`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        Ok(self.normalizer.visit(prefix, visitor)?)
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there are none: they were made without data.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Draws `batch` windows uniformly, with replacement.
    ///
    /// # Errors
    /// If there are none, or the device fails.
    pub fn sample(&self, batch: usize, rng: &mut Rng) -> Result<StepBatch> {
        if self.is_empty() {
            return Err(opened_without_data());
        }
        let indices: Vec<usize> = (0..batch).map(|_| rng.below(self.len())).collect();
        health::drawn("steps", || {
            let first = |&index: &usize| self.windows[index].start as usize;
            indices.iter().map(first).collect()
        });
        self.batch(&indices)
    }

    /// The windows with these indices, in order of the data.
    ///
    /// # Errors
    /// If there are none, or the device fails.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn batch(&self, indices: &[usize]) -> Result<StepBatch> {
        let table = self.table.as_ref().ok_or_else(opened_without_data)?;
        let (device, (rows, width)) = (table.device(), table.dims2()?);
        let (batch, time) = (indices.len(), self.transitions);
        let mut chosen = Vec::with_capacity(batch * time);
        let mut terminals = Vec::with_capacity(batch * time);
        let mut mask = Vec::with_capacity(batch * time);
        for &index in indices {
            let window = self.windows[index];
            for step in 0..time as u32 {
                let at = window.start.saturating_add(step);
                let over = at >= window.episode_end;
                chosen.push(if over { rows as u32 - 1 } else { at });
                terminals.push(f32::from(u8::from(over)));
                let in_path = ((at - window.episode_start) as usize) < self.max_path_steps;
                mask.push(f32::from(u8::from(in_path)));
            }
        }
        let chosen = Tensor::from_vec(chosen, batch * time, device)?;
        let flags = |flags: Vec<f32>| Tensor::from_vec(flags, (batch, time, 1), device);
        Ok(StepBatch {
            joined: table
                .index_select(&chosen, 0)?
                .reshape((batch, time, width))?,
            terminals: flags(terminals)?,
            mask: flags(mask)?,
        })
    }
}

/// Mean and standard deviation of every column, on the CPU.
fn moments(normalizer: &Normalizer) -> Result<(Vec<f32>, Vec<f32>)> {
    let row = |of: &Tensor| of.to_device(&Device::Cpu)?.to_vec1::<f32>();
    Ok((row(normalizer.mean())?, row(normalizer.scale())?))
}

/// The steps of these episodes, normalised (steps, D), and by what: the `given` moments, or their own.
fn normalized(
    given: Option<&Normalizer>,
    data: &Dataset,
    episodes: &[&Episode],
    options: &WindowOptions,
    device: &Device,
) -> Result<(Vec<f32>, Normalizer)> {
    let (o, a) = (data.observation_dim, data.action_dim);
    let width = o + a + 2;
    let (mut table, mut data_rewards) = (Vec::new(), Vec::new());
    for episode in episodes {
        let mut rewards: Vec<f64> = data.rewards[episode.range()]
            .iter()
            .map(|&reward| f64::from(reward))
            .collect();
        data_rewards.extend_from_slice(&rewards);
        if let (true, Some(penalty), Some(last)) = (
            episode.terminated,
            options.termination_penalty,
            rewards.last_mut(),
        ) {
            *last = penalty;
        }
        let mut values = vec![0.0; rewards.len()];
        for step in (0..rewards.len().saturating_sub(1)).rev() {
            values[step] = rewards[step + 1] + options.discount * values[step + 1];
        }
        for ((step, reward), value) in episode.range().zip(&rewards).zip(&values) {
            table.extend(data.observation(step).iter().map(|&x| f64::from(x)));
            table.extend(data.action(step).iter().map(|&x| f64::from(x)));
            table.extend([*reward, *value]);
        }
    }
    let column = |at: usize| table.iter().skip(at).step_by(width).copied();
    let mut of_columns: Vec<(f64, f64)> = (0..width).map(|at| mean_and_std(column(at))).collect();
    // The authors take them before the penalty.
    of_columns[o + a] = mean_and_std(data_rewards.iter().copied());
    let (mean, scale): (Vec<f64>, Vec<f64>) = of_columns.into_iter().unzip();
    let normalizer = match given {
        Some(given) => given.clone(),
        None => Normalizer::from_moments(&mean, &scale, device)?,
    };
    let (mean, scale) = moments(&normalizer)?;
    if mean.len() != width {
        let found = format!("{} columns", mean.len());
        return Err(Error::shape("moments of transitions", found, width));
    }
    let by_column = mean.iter().zip(&scale).cycle();
    let normal = table
        .iter()
        .zip(by_column)
        .map(|(&x, (&mean, &scale))| ((x - f64::from(mean)) / f64::from(scale)) as f32);
    Ok((normal.collect(), normalizer))
}

/// Mean, and standard deviation over all numbers; 1 where they are all the same.
fn mean_and_std(column: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let first = column.clone().next().unwrap_or(0.0);
    if column.clone().all(|x| x == first) {
        return (first, 1.0);
    }
    let count = column.clone().count() as f64;
    let mean = column.clone().sum::<f64>() / count;
    let variance = column.map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: WindowOptions = WindowOptions {
        window_transitions: 2,
        discount: 0.5,
        termination_penalty: None,
        max_path_steps: None,
    };

    /// Rows of one observation and one action that is always 0.1; the last three steps have no end.
    fn data() -> Dataset {
        Dataset {
            observations: (0..7u8).map(f32::from).collect(),
            actions: vec![0.1; 7],
            rewards: vec![1.0, 2.0, 4.0, 8.0, 100.0, 100.0, 100.0],
            episodes: vec![
                Episode {
                    truncated: true,
                    ..Episode::new(0, 4)
                },
                Episode::new(4, 3),
            ],
            sources: vec!["mine.npz".into()],
            ..Dataset::blank(1, 1)
        }
    }

    fn windows(data: &Dataset, options: &WindowOptions) -> Result<StepWindows> {
        StepWindows::new(data, options, "TAP", &Device::Cpu)
    }

    #[test]
    fn episodes_without_an_end_are_left_out_and_a_constant_column_stays_at_zero() {
        let windows = windows(&data(), &OPTIONS).expect("windows");
        assert_eq!(windows.len(), 3);
        let mean = windows.normalizer().mean().to_vec1::<f32>().expect("means");
        // Values 2 + 4/2 + 8/4 = 6, 4 + 8/2 = 8, 8 and 0.
        assert_eq!(mean, [1.5, 0.1, 3.75, 5.5]);
        let last = windows.batch(&[2]).expect("a batch");
        let joined = last.joined.squeeze(0).and_then(|x| x.to_vec2::<f32>());
        let joined = joined.expect("numbers");
        assert!(joined.iter().all(|step| step[1] == 0.0), "{joined:?}");
        let flags = |x: &Tensor| {
            x.flatten_all()
                .and_then(|x| x.to_vec1::<f32>())
                .expect("flags")
        };
        assert_eq!(flags(&last.terminals), [0.0, 0.0]);
        assert_eq!(flags(&last.mask), [1.0, 1.0]);
    }

    #[test]
    fn data_without_any_end_and_paths_that_are_too_short_are_refused() {
        let mut endless = data();
        endless.episodes[0].truncated = false;
        let error = windows(&endless, &OPTIONS)
            .expect_err("no returns")
            .to_string();
        assert!(
            error.contains("mine.npz") && error.contains("TAP needs"),
            "{error}"
        );
        let options = WindowOptions {
            max_path_steps: Some(3),
            ..OPTIONS
        };
        let error = windows(&data(), &options)
            .expect_err("a long episode")
            .to_string();
        assert!(error.contains("max_path_steps is 3"), "{error}");
    }

    #[test]
    fn a_penalty_replaces_the_reward_of_an_episode_that_terminates_and_of_no_other() {
        let options = WindowOptions {
            termination_penalty: Some(-9.0),
            ..OPTIONS
        };
        let value_mean = |data: &Dataset| {
            let windows = windows(data, &options).expect("windows");
            windows.normalizer().mean().to_vec1::<f32>().expect("means")[3]
        };
        let mut terminated = data();
        terminated.episodes[0].truncated = false;
        terminated.episodes[0].terminated = true;
        assert_eq!(value_mean(&data()), 5.5);
        // 2 + 4/2 - 9/4, 4 - 9/2, -9 and 0.
        assert_eq!(value_mean(&terminated), (1.75 - 0.5 - 9.0) / 4.0);
    }
}
