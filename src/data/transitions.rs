//! [`Transitions`]: a data set as value-based methods see it, step and next step, on the device.
//!
//! The next observation is the next row, the step of a time-out is dropped (what follows it is another
//! episode's start), and `terminated` is the only end. Where an episode without an end is followed by
//! another one (files joined together) and nothing says what came next, its last step is dropped too. D4RL's own files are seen exactly
//! as by its `qlearning_dataset`; `kept_steps.rs` beside this file lists the differences.

pub use crate::batch::Batch;
pub use crate::transitions_config::RewardTransform;
pub use crate::transitions_config::TransitionsConfig;
use candle_core::{DType, Device, Tensor};
use trajformer_models::rng::Rng;

use crate::kept_steps;
use crate::kept_steps::{Kept, kept_steps};
use crate::replay::Replay;
use crate::returns::Returns;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::{Error, Result};
use trajformer_core::mixing::{Mixing, Rows};
use trajformer_core::normalizer::Normalizer;

/// Transitions on the device, f32; observations are normalized if the configuration says so.
#[derive(Debug)]
pub struct Transitions {
    /// (N, O)
    pub observations: Tensor,
    /// (N, A), in the environment's units.
    pub actions: Tensor,
    /// (N), transformed.
    pub rewards: Tensor,
    /// (N, O); arbitrary where terminated.
    pub next_observations: Tensor,
    /// (N): 1 where the environment ended the episode, else 0.
    pub terminated: Tensor,
    /// (N, A), if asked for; arbitrary where terminated.
    pub next_actions: Option<Tensor>,
    returns: Tensor, // (N): discounted, transformed rewards from here to the episode's end
    reached: Option<Tensor>, // (N): what was reached from there, else f32::MIN
    taken: Returns,  // how returns are taken
    scale_shift: (f32, f32), // of rewards
    replay: Option<Replay>,
    steps: Vec<usize>, // in the data, of every row
    judged: Vec<u32>,  // rows whose return is nearly whole; all if there is none
    normalizer: Normalizer,
    count: usize,
}

impl Transitions {
    /// Prepares `data`.
    ///
    /// # Errors
    /// If no transition is left, or rewards are scaled by returns and there are none.
    pub fn new(data: &Dataset, config: &TransitionsConfig, device: &Device) -> Result<Self> {
        data.require_continuous_actions("learning from transitions")?;
        if data.is_blank() {
            return Self::blank(data, config, device);
        }
        if config.next_actions {
            data.require_time_order("learning from the next step's action")?;
        }
        let kept = kept_steps(data, config);
        if let Some(warning) = kept_steps::warning(data, &kept, config) {
            tracing::warn!("{warning}");
        }
        let count = kept.len();
        if count == 0 {
            return Err(Error::Unsuitable(format!(
                "{}: no step has a known next step, so nothing can be learned from it ({} steps in {} \
                 episodes); give episodes of more than one step",
                data.source_names(),
                data.steps(),
                data.episodes.len()
            )));
        }
        let (observation_dim, action_dim) = (data.observation_dim, data.action_dim);
        let mut observations = Vec::with_capacity(count * observation_dim);
        kept.iter()
            .for_each(|k| observations.extend_from_slice(data.observation(k.step)));
        let normalizer = match config.normalize_observations {
            true => {
                let epsilon = config.normalization_epsilon;
                Normalizer::fit(&observations, observation_dim, epsilon, device)?
            }
            false => Normalizer::identity(observation_dim, device)?,
        };
        let observations = Tensor::from_vec(observations, (count, observation_dim), device)?;
        let next_observations = rows(&kept, observation_dim, |k| k.next_observation, device)?;
        let (scale, shift) = affine(data, config)?;
        let reward = |step: usize| data.rewards[step] * scale + shift;
        let rewards = kept.iter().map(|k| reward(k.step));
        let taken = Returns {
            discount: config.returns_discount,
            failure_reward: config.failure_reward.map(|raw| raw * scale + shift),
        };
        let (returns, whole) = returns_to_go(data, reward, &taken);
        let judged: Vec<u32> = (0..count as u32)
            .filter(|&row| whole[kept[row as usize].step])
            .collect();
        let reached = match config.reached {
            true => {
                let reached = reached_returns(data, reward, &taken);
                let reached = kept.iter().map(|k| reached[k.step]);
                Some(Tensor::from_iter(reached, device)?)
            }
            false => None,
        };
        let terminated = kept.iter().map(|k| f32::from(u8::from(k.terminated)));
        let next_actions = match config.next_actions {
            true => Some(rows(
                &kept,
                action_dim,
                |k| data.action((k.step + 1).min(data.steps() - 1)),
                device,
            )?),
            false => None,
        };
        Ok(Self {
            observations: normalizer.apply(&observations)?,
            actions: rows(&kept, action_dim, |k| data.action(k.step), device)?,
            rewards: Tensor::from_iter(rewards, device)?,
            next_observations: normalizer.apply(&next_observations)?,
            terminated: Tensor::from_iter(terminated, device)?,
            next_actions,
            returns: Tensor::from_iter(kept.iter().map(|k| returns[k.step]), device)?,
            reached,
            taken,
            scale_shift: (scale, shift),
            replay: None,
            steps: kept.iter().map(|k| k.step).collect(),
            judged,
            normalizer,
            count,
        })
    }

    /// Of [`Dataset::blank`]: one row of zeros to build on, that can't be drawn.
    fn blank(data: &Dataset, config: &TransitionsConfig, device: &Device) -> Result<Self> {
        let zeros = |width: usize| Tensor::zeros((1, width), DType::F32, device);
        let column = || Tensor::zeros(1, DType::F32, device);
        let (o, a) = (data.observation_dim, data.action_dim);
        Ok(Self {
            observations: zeros(o)?,
            actions: zeros(a)?,
            rewards: column()?,
            next_observations: zeros(o)?,
            terminated: column()?,
            next_actions: config.next_actions.then(|| zeros(a)).transpose()?,
            returns: column()?,
            reached: config.reached.then(column).transpose()?,
            taken: Returns {
                discount: config.returns_discount,
                failure_reward: config.failure_reward,
            },
            scale_shift: (1.0, 0.0),
            replay: None,
            steps: Vec::new(),
            judged: Vec::new(),
            normalizer: Normalizer::identity(o, device)?,
            count: 0,
        })
    }

    /// How many transitions (N).
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it was made from a blank data set, to act but not to learn.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Fails if there is nothing to draw: it was made from a blank data set, to act.
    ///
    /// # Errors
    /// Saying so.
    pub fn require_rows(&self) -> Result<()> {
        match self.is_empty() {
            true => Err(opened_without_data()),
            false => Ok(()),
        }
    }

    /// Of every transition, its episode's number in `data`, which it was made from.
    pub fn episodes(&self, data: &Dataset) -> Vec<usize> {
        let mut episode = 0;
        let number = |&step: &usize| {
            while step >= data.episodes[episode].range().end {
                episode += 1;
            }
            episode
        };
        self.steps.iter().map(number).collect()
    }

    /// What observations were normalized with: the policy must use the same.
    pub fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// Draws transitions uniformly, with replacement, from the data and what was collected since.
    ///
    /// # Errors
    /// If the device fails.
    pub fn sample(&self, batch: usize, rng: &mut Rng) -> Result<Batch> {
        self.require_rows()?;
        self.pick(&self.draw(batch, Mixing::Uniform, rng))
    }

    /// Draws the rows of a batch with replacement, all from the data while nothing has been collected.
    pub fn draw(&self, batch: usize, mixing: Mixing, rng: &mut Rng) -> Rows {
        let collected = self.replay.as_ref().map_or(0, Replay::len);
        let mut draw = |rows: usize, of: usize| -> Vec<u32> {
            (0..rows).map(|_| rng.below(of) as u32).collect()
        };
        match mixing.data_rows(batch) {
            Some(rows) if collected > 0 => Rows {
                data: draw(rows, self.count),
                collected: draw(batch - rows, collected),
            },
            _ => {
                // The order inside a batch means nothing: first the data's, then the collected ones.
                let count = self.count as u32;
                let all = draw(batch, self.count + collected);
                let (new, data): (Vec<u32>, Vec<u32>) = all.iter().partition(|&&i| i >= count);
                Rows {
                    data,
                    collected: new.iter().map(|i| i - count).collect(),
                }
            }
        }
    }

    /// The batch of these rows.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn pick(&self, rows: &Rows) -> Result<Batch> {
        let Some(replay) = self.replay.as_ref().filter(|_| !rows.collected.is_empty()) else {
            return self.gather(&rows.data);
        };
        let collected = replay.gather(&rows.collected)?;
        match rows.data.is_empty() {
            true => Ok(collected),
            false => self.gather(&rows.data)?.followed_by(&collected),
        }
    }

    /// Makes a place for what is collected, if there is none.
    ///
    /// # Errors
    /// If the device fails.
    pub fn start_collecting(&mut self) -> Result<()> {
        if self.replay.is_none() {
            let (o, a) = (self.observations.dim(1)?, self.actions.dim(1)?);
            let taken = self.reached.is_some().then_some(self.taken);
            self.replay = Some(Replay::new(o, a, taken, self.rewards.device())?);
        }
        Ok(())
    }

    /// What was collected, once there is a place for it.
    pub fn replay(&mut self) -> &mut Option<Replay> {
        &mut self.replay
    }

    /// The same, to look at.
    pub fn collected(&self) -> Option<&Replay> {
        self.replay.as_ref()
    }

    /// A reward of the environment as it is learned from.
    pub fn reward(&self, raw: f32) -> f32 {
        raw * self.scale_shift.0 + self.scale_shift.1
    }

    /// Draws transitions whose return is known, and these returns (B): discounted sums of transformed rewards
    /// from there to the end of the episode. Of truncated episodes the last steps are left out, whose
    /// sums lack what would have come; if no other is left they are taken all the same.
    ///
    /// # Errors
    /// If the device fails.
    pub fn sample_judged(&self, batch: usize, rng: &mut Rng) -> Result<(Batch, Tensor)> {
        if self.is_empty() {
            return Err(opened_without_data());
        }
        let mut draw = || match self.judged.is_empty() {
            true => rng.below(self.count) as u32,
            false => self.judged[rng.below(self.judged.len())],
        };
        let indices: Vec<u32> = (0..batch).map(|_| draw()).collect();
        let rows = Tensor::from_slice(&indices, batch, self.rewards.device())?;
        Ok((self.gather(&indices)?, self.returns.index_select(&rows, 0)?))
    }

    /// The transitions at `indices` (B).
    ///
    /// # Errors
    /// If an index is not below [`Self::len`].
    pub fn gather(&self, indices: &[u32]) -> Result<Batch> {
        let indices = Tensor::from_slice(indices, indices.len(), self.rewards.device())?;
        let pick = |tensor: &Tensor| tensor.index_select(&indices, 0);
        Ok(Batch {
            observations: pick(&self.observations)?,           // (B, O)
            actions: pick(&self.actions)?,                     // (B, A)
            rewards: pick(&self.rewards)?,                     // (B)
            next_observations: pick(&self.next_observations)?, // (B, O)
            terminated: pick(&self.terminated)?,               // (B)
            next_actions: self.next_actions.as_ref().map(pick).transpose()?, // (B, A)
            reached: self.reached.as_ref().map(pick).transpose()?, // (B)
        })
    }
}

fn rows<'a>(
    kept: &'a [Kept<'a>],
    width: usize,
    row: impl Fn(&'a Kept<'a>) -> &'a [f32],
    device: &Device,
) -> Result<Tensor> {
    let mut values = Vec::with_capacity(kept.len() * width);
    kept.iter()
        .for_each(|step| values.extend_from_slice(row(step)));
    Ok(Tensor::from_vec(values, (kept.len(), width), device)?) // (N, width)
}

/// Factor and shift of rewards.
fn affine(data: &Dataset, config: &TransitionsConfig) -> Result<(f32, f32)> {
    match config.rewards {
        RewardTransform::None => Ok((1.0, 0.0)),
        RewardTransform::Shift(shift) => Ok((1.0, shift)),
        RewardTransform::Scale(scale) => Ok((scale, 0.0)),
        RewardTransform::Affine { scale, shift } => Ok((scale, shift)),
        RewardTransform::ReturnRange => {
            let returns = data.require_returns("scaling rewards by the range of returns")?;
            let high = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let low = returns.iter().copied().fold(f64::INFINITY, f64::min);
            if high <= low {
                return Err(Error::Unsuitable(format!(
                    "{}: rewards can't be scaled by the range of returns, because every return is {low}: set \
                     `{}.rewards = \"none\"`, or give more episodes",
                    data.source_names(),
                    config.table
                )));
            }
            Ok(((1000.0 / (high - low)) as f32, 0.0))
        }
    }
}

/// Of every step of the data what [`Returns::to_go`] says.
fn returns_to_go(
    data: &Dataset,
    reward: impl Fn(usize) -> f32,
    taken: &Returns,
) -> (Vec<f32>, Vec<bool>) {
    let (mut returns, mut whole) = (vec![0.0; data.steps()], vec![false; data.steps()]);
    for episode in &data.episodes {
        let rewards: Vec<f32> = episode.range().map(&reward).collect();
        let (sums, known) = taken.to_go(&rewards, episode.terminated);
        returns[episode.range()].copy_from_slice(&sums);
        whole[episode.range()].copy_from_slice(&known);
    }
    (returns, whole)
}

/// Of every step of the data what [`Returns::reached`] says.
fn reached_returns(data: &Dataset, reward: impl Fn(usize) -> f32, taken: &Returns) -> Vec<f32> {
    let mut reached = vec![0.0; data.steps()];
    for episode in &data.episodes {
        let rewards: Vec<f32> = episode.range().map(&reward).collect();
        let found = taken.reached(&rewards, episode.terminated);
        reached[episode.range()].copy_from_slice(&found);
    }
    reached
}

/// The complete episodes with the highest returns, in their order in the data: `fraction` of them,
/// rounded down, at least one. This is the data of BC-10 %.
///
/// Like CORL's `keep_best_trajectories` (algorithms/offline/any_percent_bc.py), but on the true
/// episodes (CORL cuts the q-learning view after 1000 rows) and by undiscounted returns (CORL
/// discounts them with 0.99).
///
/// # Errors
/// If `fraction` is not in (0, 1], or no episode is complete.
pub fn best_fraction(data: &Dataset, fraction: f64) -> Result<Dataset> {
    if !(fraction > 0.0 && fraction <= 1.0) {
        let problem = format!("fraction of episodes to keep is {fraction}, expected in (0, 1]");
        return Err(Error::Config(problem));
    }
    data.require_returns("choosing the best episodes")?;
    let mut ranked: Vec<&Episode> = data.episodes.iter().filter(|e| e.is_complete()).collect();
    let count = ((fraction * ranked.len() as f64) as usize).max(1);
    ranked.sort_by(|a, b| data.episode_return(b).total_cmp(&data.episode_return(a)));
    ranked.truncate(count);
    ranked.sort_by_key(|episode| episode.start);
    let (observation_dim, action_dim) = (data.observation_dim, data.action_dim);
    let mut best = Dataset {
        observations: Vec::new(),
        actions: Vec::new(),
        rewards: Vec::new(),
        episodes: Vec::new(),
        env_name: data.env_name.clone(),
        action_bounds: data.action_bounds.clone(),
        sources: data.sources.clone(),
        warnings: data.warnings.clone(),
        ..*data
    };
    for episode in ranked {
        let (from, to) = (episode.start, episode.start + episode.steps);
        best.episodes.push(Episode {
            start: best.steps(),
            ..episode.clone()
        });
        let observations = &data.observations[from * observation_dim..to * observation_dim];
        best.observations.extend_from_slice(observations);
        best.actions
            .extend_from_slice(&data.actions[from * action_dim..to * action_dim]);
        best.rewards.extend_from_slice(&data.rewards[from..to]);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Experience;
    use trajformer_core::dataset::ActionKind;

    /// One-dimensional data whose observation is the step, action -step/100, reward step + 1.
    fn data(ends: &[(usize, bool, bool, Option<f32>)]) -> Dataset {
        let mut episodes = Vec::new();
        let mut start = 0;
        for &(steps, terminated, truncated, last) in ends {
            let final_observation = last.map(|value| vec![value].into_boxed_slice());
            episodes.push(Episode {
                start,
                steps,
                terminated,
                truncated,
                final_observation,
                instruction: None,
                fragment: false,
            });
            start += steps;
        }
        Dataset {
            observation_dim: 1,
            action_dim: 1,
            action_kind: ActionKind::Continuous,
            observations: (0..start).map(|step| step as f32).collect(),
            actions: (0..start).map(|step| step as f32 / -100.0).collect(),
            rewards: (0..start).map(|step| step as f32 + 1.0).collect(),
            episodes,
            env_name: None,
            reference_returns: None,
            action_bounds: None,
            sources: vec!["hopper-medium.hdf5".into()],
            warnings: Vec::new(),
        }
    }

    fn raw() -> TransitionsConfig {
        TransitionsConfig {
            normalize_observations: false,
            ..TransitionsConfig::default()
        }
    }

    /// (observation, next observation, terminated) of every transition.
    fn view(transitions: &Transitions) -> Vec<(f32, f32, f32)> {
        let flat = |tensor: &Tensor| {
            tensor
                .flatten_all()
                .and_then(|t| t.to_vec1::<f32>())
                .expect("numbers")
        };
        let (now, next) = (
            flat(&transitions.observations),
            flat(&transitions.next_observations),
        );
        let ends = flat(&transitions.terminated);
        now.into_iter()
            .zip(next)
            .zip(ends)
            .map(|((a, b), c)| (a, b, c))
            .collect()
    }

    #[test]
    fn the_view_is_that_of_d4rls_qlearning_dataset() {
        let data = data(&[
            (3, true, false, None),
            (2, false, true, Some(70.0)),
            (2, true, true, Some(80.0)),
            (3, false, false, None),
        ]);
        // D4RL's loop, on flat arrays: over all rows but the last, without those of time-outs.
        let mut expected = Vec::new();
        for step in 0..data.steps() - 1 {
            let ends = data.episodes.iter().find(|e| e.start + e.steps - 1 == step);
            let (terminal, timeout) = ends.map_or((false, false), |e| (e.terminated, e.truncated));
            if !timeout {
                expected.push((
                    step as f32,
                    step as f32 + 1.0,
                    f32::from(u8::from(terminal)),
                ));
            }
        }
        let found = Transitions::new(&data, &raw(), &Device::Cpu).expect("transitions");
        assert_eq!(view(&found), expected);
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn truncations_are_kept_with_the_observation_that_followed_where_it_is_known() {
        let data = data(&[
            (2, false, true, Some(70.0)),
            (2, false, true, None),
            (1, true, true, Some(80.0)),
            (2, true, false, None),
        ]);
        let config = TransitionsConfig {
            keep_truncations: true,
            ..raw()
        };
        let found = Transitions::new(&data, &config, &Device::Cpu).expect("transitions");
        let expected = [
            (0.0, 1.0, 0.0),
            (1.0, 70.0, 0.0),
            (2.0, 3.0, 0.0),
            (4.0, 80.0, 1.0),
            (5.0, 6.0, 0.0),
            (6.0, 6.0, 1.0),
        ];
        assert_eq!(view(&found), expected);
        let with_actions = TransitionsConfig {
            next_actions: true,
            ..config
        };
        let found = Transitions::new(&data, &with_actions, &Device::Cpu).expect("transitions");
        assert!(view(&found).iter().all(|row| row.1 != 70.0));
    }

    #[test]
    fn next_actions_are_those_of_the_next_row() {
        let data = data(&[(3, true, false, None), (2, false, true, None)]);
        let config = TransitionsConfig {
            next_actions: true,
            ..raw()
        };
        let found = Transitions::new(&data, &config, &Device::Cpu).expect("transitions");
        let actions = found
            .next_actions
            .expect("asked for")
            .to_vec2::<f32>()
            .expect("rows");
        assert_eq!(actions, [[-0.01], [-0.02], [-0.03], [-0.04]]);
    }

    #[test]
    fn a_step_without_end_before_another_episode_is_dropped() {
        let data = data(&[(2, false, false, None), (2, true, false, None)]);
        let found = Transitions::new(&data, &raw(), &Device::Cpu).expect("transitions");
        assert_eq!(view(&found), [(0.0, 1.0, 0.0), (2.0, 3.0, 0.0)]);
    }

    #[test]
    fn rewards_are_scaled_by_the_range_of_true_returns() {
        // Returns 1 + 2 = 3 and 3 + 4 = 7; the open episode does not count.
        let data = data(&[
            (2, true, false, None),
            (2, false, true, None),
            (2, false, false, None),
        ]);
        let config = TransitionsConfig {
            rewards: RewardTransform::ReturnRange,
            ..raw()
        };
        let found = Transitions::new(&data, &config, &Device::Cpu).expect("transitions");
        let rewards = found.rewards.to_vec1::<f32>().expect("numbers");
        assert_eq!(rewards, [250.0, 500.0, 750.0, 1250.0]);
        let open = self::data(&[(3, false, false, None)]);
        assert!(Transitions::new(&open, &config, &Device::Cpu).is_err());
        let zero = Dataset {
            rewards: vec![0.0; data.steps()],
            ..data.clone()
        };
        let config = TransitionsConfig {
            table: "algorithm.iql",
            ..config
        };
        let error = Transitions::new(&zero, &config, &Device::Cpu).expect_err("no range");
        let error = error.to_string();
        for words in [
            "hopper-medium.hdf5",
            "`algorithm.iql.rewards = \"none\"`",
            "every return is 0",
        ] {
            assert!(error.contains(words), "{error}");
        }
        let shifted = TransitionsConfig {
            rewards: RewardTransform::Shift(-1.0),
            ..raw()
        };
        let found = Transitions::new(&open, &shifted, &Device::Cpu).expect("transitions");
        assert_eq!(found.rewards.to_vec1::<f32>().expect("numbers"), [0.0, 1.0]);
    }

    #[test]
    fn observations_are_normalized_over_the_kept_transitions() {
        let data = data(&[(3, true, false, None), (2, false, true, None)]);
        let config = TransitionsConfig::default();
        let found = Transitions::new(&data, &config, &Device::Cpu).expect("transitions");
        // Steps 0 to 3: mean 1.5, deviation sqrt(1.25).
        let expected = (0.0 - 1.5) / (1.25f32.sqrt() + 1e-3);
        assert!((view(&found)[0].0 - expected).abs() < 1e-6);
        assert_eq!(found.normalizer().dim(), 1);
    }

    #[test]
    fn sampling_is_uniform_and_repeats_with_the_seed() {
        let data = data(&[(5, true, false, None), (1, true, false, None)]);
        let transitions = Transitions::new(&data, &raw(), &Device::Cpu).expect("transitions");
        let draw = |seed| {
            let batch = transitions
                .sample(4000, &mut Rng::from_seed(seed))
                .expect("a batch");
            batch
                .observations
                .flatten_all()
                .and_then(|t| t.to_vec1::<f32>())
                .expect("numbers")
        };
        let drawn = draw(1);
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        for value in 0..5 {
            let count = drawn.iter().filter(|&&v| v == value as f32).count();
            // 800 expected; four standard deviations are 101.
            assert!(count.abs_diff(800) < 101, "{value}: {count}");
        }
    }

    #[test]
    fn returns_are_judged_where_little_of_them_is_missing() {
        // An episode with an end, and one cut off after six steps: of half's powers the fifth is 1/32.
        let data = data(&[(2, true, false, None), (6, false, true, None)]);
        let config = TransitionsConfig {
            returns_discount: 0.5,
            ..raw()
        };
        let transitions = Transitions::new(&data, &config, &Device::Cpu).expect("transitions");
        let flat = |tensor: &Tensor| tensor.to_vec1::<f32>().expect("numbers");
        let returns = flat(&transitions.returns);
        assert_eq!(returns[..2], [1.0 + 0.5 * 2.0, 2.0]);
        let first = 3.0 + 4.0 / 2.0 + 5.0 / 4.0 + 6.0 / 8.0 + 7.0 / 16.0 + 8.0 / 32.0;
        assert_eq!(returns[2], first);
        assert_eq!(transitions.judged, [0, 1, 2, 3]);
        let (batch, drawn) = transitions
            .sample_judged(50, &mut Rng::from_seed(0))
            .expect("a batch");
        for (observation, found) in flat(&batch.observations.squeeze(1).expect("one column"))
            .iter()
            .zip(flat(&drawn))
        {
            assert_eq!(found, returns[*observation as usize]);
        }
    }

    #[test]
    fn reached_returns_are_those_of_the_data_and_of_collected_episodes_that_have_ended() {
        let data = data(&[(2, true, false, None), (6, false, true, None)]);
        let config = TransitionsConfig {
            returns_discount: 0.5,
            reached: true,
            ..raw()
        };
        let mut transitions = Transitions::new(&data, &config, &Device::Cpu).expect("transitions");
        let flat = |tensor: &Tensor| tensor.to_vec1::<f32>().expect("numbers");
        let returns = flat(&transitions.returns);
        let batch = transitions.gather(&[0, 3, 4]).expect("a batch");
        let found = flat(&batch.reached.expect("it was asked for"));
        assert_eq!(found, [returns[0], returns[3], f32::MIN]);

        let row = |value: f32, width| Tensor::full(value, (1, width), &Device::Cpu).expect("a row");
        transitions.start_collecting().expect("a buffer");
        let replay = transitions.replay().as_mut().expect("a buffer");
        // Ended after two steps, broken off after six, still running.
        for i in 0..1000 {
            let step = Experience {
                observation: row(-1.0 - i as f32, 1),
                action: row(0.0, data.action_dim),
                reward: 1.0 + i as f32,
                next_observation: row(-2.0 - i as f32, 1),
                terminated: i == 1,
                last: i == 1 || i == 7,
            };
            replay.push(&step).expect("room is made");
        }
        let expected = |observation: f32| match observation as i32 {
            0..=3 => returns[observation as usize],
            -1 => 1.0 + 0.5 * 2.0,
            -2 => 2.0,
            -3 => 3.0 + 4.0 / 2.0 + 5.0 / 4.0 + 6.0 / 8.0 + 7.0 / 16.0 + 8.0 / 32.0,
            -4 => 4.0 + 5.0 / 2.0 + 6.0 / 4.0 + 7.0 / 8.0 + 8.0 / 16.0,
            _ => f32::MIN,
        };
        for rows in [1, 4096] {
            let batch = transitions.sample(rows, &mut Rng::from_seed(2));
            let batch = batch.expect("a batch");
            let reached = flat(&batch.reached.expect("it was asked for"));
            let observations = flat(&batch.observations.squeeze(1).expect("one column"));
            assert_eq!(reached.len(), rows);
            for (reached, observation) in reached.iter().zip(observations) {
                assert_eq!(*reached, expected(observation), "of {observation}");
            }
        }
    }

    #[test]
    fn a_batch_holds_as_many_rows_of_the_data_as_it_is_to() {
        let data = data(&[(5, true, false, None), (5, true, false, None)]);
        let mut transitions = Transitions::new(&data, &raw(), &Device::Cpu).expect("transitions");
        let half = Mixing::RoundedDown(0.5);
        let draw = |transitions: &Transitions, mixing| {
            let rows = transitions.draw(33, mixing, &mut Rng::from_seed(4));
            let batch = transitions.pick(&rows).expect("a batch");
            let observations = batch.observations.flatten_all().expect("one column");
            let observations = observations.to_vec1::<f32>().expect("numbers");
            let collected = observations.iter().filter(|&&value| value < 0.0).count();
            assert_eq!(collected, rows.collected.len());
            collected
        };
        assert_eq!(draw(&transitions, half), 0, "nothing is collected yet");
        transitions.start_collecting().expect("a buffer");
        assert_eq!(draw(&transitions, half), 0, "nothing is collected yet");
        let row = |width| Tensor::full(-1.0f32, (1, width), &Device::Cpu).expect("a row");
        let step = Experience {
            observation: row(1),
            action: row(data.action_dim),
            reward: 0.0,
            next_observation: row(1),
            terminated: false,
            last: false,
        };
        let replay = transitions.replay().as_mut().expect("a buffer");
        replay.push(&step).expect("room is made");
        assert_eq!(draw(&transitions, half), 17);
        assert_eq!(draw(&transitions, Mixing::RoundedUp(0.5)), 16);
        assert_eq!(draw(&transitions, Mixing::RoundedDown(0.0)), 33);
        let uniform = draw(&transitions, Mixing::Uniform);
        assert!((1..=8).contains(&uniform), "about a tenth: {uniform}");
    }

    #[test]
    fn the_best_episodes_are_those_with_the_highest_returns() {
        let data = data(&[
            (1, true, false, None),
            (3, false, true, Some(9.0)),
            (2, true, false, None),
            (4, false, false, None),
        ]);
        let best = best_fraction(&data, 0.7).expect("two of three");
        assert_eq!(best.returns(), [9.0, 11.0]);
        assert_eq!(best.observations, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(best.episodes[1].start, 3);
        assert_eq!(
            best_fraction(&data, 0.01).expect("at least one").returns(),
            [11.0]
        );
        assert!(best_fraction(&data, 0.0).is_err());
        assert!(best_fraction(&self::data(&[(3, false, false, None)]), 0.5).is_err());
    }
}
