//! [`Transitions`]: a data set as value-based methods see it, step and next step, on the device.
//!
//! The next observation is the next row, the step of a time-out is dropped (what follows it is another
//! episode's start), and `terminated` is the only end. Where an episode without an end is followed by
//! another one (files joined together) and nothing says what came next, its last step is dropped too. D4RL's own files are seen exactly
//! as by its `qlearning_dataset`; `kept_steps.rs` beside this file lists the differences.

mod best;
mod building;
mod checks;
mod rewards;

use candle_core::{Device, Tensor};
use trajformer_models::params::StateVisitor;
use trajformer_models::rng::Rng;

pub use crate::batch::Batch;
pub use crate::transitions_config::{RewardTransform, TransitionsConfig};
pub use best::best_fraction;
pub use rewards::reward_transform;

use crate::replay::{Experience, Replay};
use crate::returns::Returns;
use trajformer_core::dataset::Dataset;
use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::{Error, Result};
use trajformer_core::mixing::{Mixing, Rows};
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_models::health;

/// Transitions on the device, f32; observations are normalized if the configuration says so, actions are in ±1 of their
/// bounds. All tensors have one row per transition (N), which [`Transitions::new`] checks; nothing changes them afterwards,
/// what a policy collects goes into a buffer beside them ([`Self::start_collecting`]).
#[derive(Debug)]
pub struct Transitions {
    observations: Tensor,                // (N, O)
    actions: Tensor,                     // (N, A), in ±1
    rewards: Tensor,                     // (N), transformed
    next_observations: Tensor,           // (N, O); arbitrary where terminated
    terminated: Tensor,                  // (N)
    next_actions: Option<Tensor>,        // (N, A), in ±1, if asked for; arbitrary where terminated
    returns: Tensor, // (N): discounted, transformed rewards from here to the episode's end
    monte_carlo_returns: Option<Tensor>, // (N): what was reached from there, else f32::MIN
    taken: Returns,  // how returns are taken
    scale_shift: (f32, f32), // of rewards
    replay: Option<Replay>,
    steps: Vec<usize>, // in the data, of every row
    judged: Vec<u32>,  // rows whose return is nearly whole; all if there is none
    normalizer: Normalizer,
    bounds: ActionBounds,
    count: usize, // N; 0 without data, where tensors have one row of zeros
}

impl Transitions {
    /// How many transitions (N).
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it was made without data, to act but not to learn.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Fails if there is nothing to draw: it was made without data, to act.
    ///
    /// # Errors
    /// Saying so.
    pub fn require_rows(&self) -> Result<()> {
        if self.is_empty() {
            Err(opened_without_data())
        } else {
            Ok(())
        }
    }

    /// Number of each transition's episode in `data`, which it was made from.
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

    /// Number of each transition's step in the data that it was made from.
    pub fn steps(&self) -> &[usize] {
        &self.steps
    }

    /// What observations were normalized with: the policy must use the same.
    pub fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// The range of actions that is ±1 here: the policy must map its own back with it.
    pub fn bounds(&self) -> &ActionBounds {
        &self.bounds
    }

    /// Numbers in an observation (O) and in an action (A).
    pub fn dims(&self) -> (usize, usize) {
        (self.normalizer.dim(), self.bounds.dim())
    }

    /// Where the tensors are.
    pub fn device(&self) -> &Device {
        self.rewards.device()
    }

    /// Observations (N, O), f32; without data one row of zeros, as in all of these.
    pub fn observations(&self) -> &Tensor {
        &self.observations
    }

    /// Actions (N, A), f32, in ±1 of their bounds.
    pub fn actions(&self) -> &Tensor {
        &self.actions
    }

    /// Rewards (N), f32, transformed as the configuration says.
    pub fn rewards(&self) -> &Tensor {
        &self.rewards
    }

    /// The observations that followed (N, O), f32; arbitrary where terminated.
    pub fn next_observations(&self) -> &Tensor {
        &self.next_observations
    }

    /// 1 where the environment ended the episode, else 0 (N), f32.
    pub fn terminated(&self) -> &Tensor {
        &self.terminated
    }

    /// The actions that followed (N, A), f32, in ±1 of their bounds, if the configuration asks for them; arbitrary where
    /// terminated.
    pub fn next_actions(&self) -> Option<&Tensor> {
        self.next_actions.as_ref()
    }

    /// Shows what a policy needs beside its networks: normaliser and action bounds, under `policy.`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.normalizer.visit("policy.normalizer.", visitor)?;
        Ok(self.bounds.visit("policy.action_bounds.", visitor)?)
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
        let rows = match mixing.data_rows(batch) {
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
        };
        health::drawn("steps", || self.steps_of(&rows.data));
        if !rows.collected.is_empty() {
            let numbers = || rows.collected.iter().map(|&row| row as usize).collect();
            health::drawn("collected steps", numbers);
        }
        rows
    }

    fn steps_of(&self, rows: &[u32]) -> Vec<usize> {
        rows.iter().map(|&row| self.steps[row as usize]).collect()
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
        if rows.data.is_empty() {
            Ok(collected)
        } else {
            self.gather(&rows.data)?.followed_by(&collected)
        }
    }

    /// Makes a place for what is collected, if there is none.
    ///
    /// # Errors
    /// If the device fails.
    pub fn start_collecting(&mut self) -> Result<()> {
        if self.replay.is_none() {
            let (o, a) = self.dims();
            let taken = self.monte_carlo_returns.is_some().then_some(self.taken);
            self.replay = Some(Replay::new(o, a, taken, self.device())?);
        }
        Ok(())
    }

    /// Adds a step to what was collected.
    ///
    /// # Errors
    /// If [`Self::start_collecting`] was not called before, or a shape does not fit.
    pub fn collect(&mut self, step: &Experience) -> Result<()> {
        self.check_step(step)?;
        match &mut self.replay {
            Some(replay) => replay.push(step),
            None => Err(Error::Unsuitable("nothing is collected".to_owned())),
        }
    }

    /// What was collected; `None` before [`Self::start_collecting`].
    pub fn collected(&self) -> Option<&Replay> {
        self.replay.as_ref()
    }

    /// Shows what was collected, once there is a place for it, under `training.replay.`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit_collected(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        match &mut self.replay {
            Some(replay) => replay.visit(visitor),
            None => Ok(()),
        }
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
        let mut draw = || {
            if self.judged.is_empty() {
                rng.below(self.count) as u32
            } else {
                self.judged[rng.below(self.judged.len())]
            }
        };
        let indices: Vec<u32> = (0..batch).map(|_| draw()).collect();
        health::drawn("steps", || self.steps_of(&indices));
        let rows = Tensor::from_slice(&indices, batch, self.device())?;
        Ok((self.gather(&indices)?, self.returns.index_select(&rows, 0)?))
    }

    /// The transitions at `indices` (B).
    ///
    /// # Errors
    /// If an index is not below [`Self::len`].
    pub fn gather(&self, indices: &[u32]) -> Result<Batch> {
        let indices = Tensor::from_slice(indices, indices.len(), self.device())?;
        let pick = |tensor: &Tensor| tensor.index_select(&indices, 0);
        Ok(Batch {
            observations: pick(&self.observations)?,           // (B, O)
            actions: pick(&self.actions)?,                     // (B, A)
            rewards: pick(&self.rewards)?,                     // (B)
            next_observations: pick(&self.next_observations)?, // (B, O)
            terminated: pick(&self.terminated)?,               // (B)
            next_actions: self.next_actions.as_ref().map(pick).transpose()?, // (B, A)
            monte_carlo_returns: self.monte_carlo_returns.as_ref().map(pick).transpose()?, // (B)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trajformer_core::dataset::{ActionKind, Episode};

    /// One-dimensional data whose observation is the step, action -step/100, reward step + 1.
    pub(super) fn data(ends: &[(usize, bool, bool, Option<f32>)]) -> Dataset {
        let mut episodes = Vec::new();
        let mut start = 0;
        for &(steps, terminated, truncated, last) in ends {
            let final_observation = last.map(|value| vec![value].into_boxed_slice());
            episodes.push(Episode {
                terminated,
                truncated,
                final_observation,
                ..Episode::new(start, steps)
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

    pub(super) fn raw() -> TransitionsConfig {
        TransitionsConfig {
            normalize_observations: false,
            ..TransitionsConfig::default()
        }
    }

    /// The transitions of `data`, whose actions are in ±1 as they are.
    pub(super) fn transitions(data: &Dataset, config: &TransitionsConfig) -> Result<Transitions> {
        let bounds = ActionBounds::unit(data.action_dim, &Device::Cpu)?;
        Transitions::new(data, &bounds, config, &Device::Cpu)
    }

    #[test]
    fn sampling_is_uniform_and_repeats_with_the_seed() {
        let data = data(&[(5, true, false, None), (1, true, false, None)]);
        let transitions = transitions(&data, &raw()).expect("transitions");
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
        let transitions = transitions(&data, &config).expect("transitions");
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
            monte_carlo_returns: true,
            ..raw()
        };
        let mut transitions = transitions(&data, &config).expect("transitions");
        let flat = |tensor: &Tensor| tensor.to_vec1::<f32>().expect("numbers");
        let returns = flat(&transitions.returns);
        let batch = transitions.gather(&[0, 3, 4]).expect("a batch");
        let found = flat(&batch.monte_carlo_returns.expect("it was asked for"));
        assert_eq!(found, [returns[0], returns[3], f32::MIN]);

        let row = |value: f32, width| Tensor::full(value, (1, width), &Device::Cpu).expect("a row");
        transitions.start_collecting().expect("a buffer");
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
            transitions.collect(&step).expect("room is made");
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
            let reached = flat(&batch.monte_carlo_returns.expect("it was asked for"));
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
        let mut transitions = transitions(&data, &raw()).expect("transitions");
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
        transitions.collect(&step).expect("room is made");
        assert_eq!(draw(&transitions, half), 17);
        assert_eq!(draw(&transitions, Mixing::RoundedUp(0.5)), 16);
        assert_eq!(draw(&transitions, Mixing::RoundedDown(0.0)), 33);
        let uniform = draw(&transitions, Mixing::Uniform);
        assert!((1..=8).contains(&uniform), "about a tenth: {uniform}");
    }
}
