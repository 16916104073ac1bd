//! Transitions from a data set: which steps, what follows each, rewards and returns.

use candle_core::{DType, Device, Tensor};

use crate::kept_steps;
use crate::kept_steps::{Kept, kept_steps};
use crate::returns::Returns;
use crate::transitions::Transitions;
use crate::transitions::checks::check_bounds;
use crate::transitions::rewards::reward_transform;
use crate::transitions_config::TransitionsConfig;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::source::Source;

impl Transitions {
    /// Prepares the data of `source`; without data there is one row of zeros, which can't be drawn.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_source(
        source: Source<'_>,
        bounds: &ActionBounds,
        config: &TransitionsConfig,
        device: &Device,
    ) -> Result<Self> {
        match source {
            Source::Train(data) => Self::new(data, bounds, config, device),
            Source::Act { .. } => Self::without_data(source.dims(), bounds, config, device),
        }
    }

    /// Prepares `data`: its actions, and those that follow, are mapped from `bounds` to ±1; choices stay what they are.
    ///
    /// # Errors
    /// If no transition is left, rewards are scaled by returns and there are none, or the bounds are those of another number
    /// of actions.
    pub fn new(
        data: &Dataset,
        bounds: &ActionBounds,
        config: &TransitionsConfig,
        device: &Device,
    ) -> Result<Self> {
        Self::with(data, bounds, config, device, None)
    }

    /// Other episodes of the same source, `config` being that which this was made with: with this one's normaliser and scale of rewards.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_others(&self, data: &Dataset, config: &TransitionsConfig) -> Result<Self> {
        Self::with(data, &self.bounds, config, self.device(), Some(self))
    }

    /// Prepares `data` with the statistics of `fitted`, or with its own.
    fn with(
        data: &Dataset,
        bounds: &ActionBounds,
        config: &TransitionsConfig,
        device: &Device,
        fitted: Option<&Self>,
    ) -> Result<Self> {
        check_bounds(bounds, data.action_dim)?;
        if !data.action_kind.acts_in(bounds.kind()) {
            let purpose = "learning from transitions with such bounds";
            data.require_continuous_actions(purpose)?;
            let expected = "those of real numbers, as the data's actions are";
            return Err(Error::shape("transitions: `bounds`", "choices", expected));
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
        let normalizer = if let Some(fitted) = fitted {
            fitted.normalizer.clone()
        } else if config.normalize_observations {
            let epsilon = config.normalization_epsilon;
            Normalizer::fit(&observations, observation_dim, epsilon, device)?
        } else {
            Normalizer::identity(observation_dim, device)?
        };
        let observations = Tensor::from_vec(observations, (count, observation_dim), device)?;
        let next_observations = rows(&kept, observation_dim, |k| k.next_observation, device)?;
        let (scale, shift) = match fitted {
            Some(fitted) => fitted.scale_shift,
            None => reward_transform(data, config)?,
        };
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
        let reached = if config.monte_carlo_returns {
            let reached = reached_returns(data, reward, &taken);
            let reached = kept.iter().map(|k| reached[k.step]);
            Some(Tensor::from_iter(reached, device)?)
        } else {
            None
        };
        let terminated = kept.iter().map(|k| f32::from(u8::from(k.terminated)));
        let next_actions = if config.next_actions {
            let next = |k: &Kept<'_>| data.action((k.step + 1).min(data.steps() - 1));
            Some(bounds.to_unit(&rows(&kept, action_dim, next, device)?)?)
        } else {
            None
        };
        let actions = rows(&kept, action_dim, |k| data.action(k.step), device)?;
        Self {
            observations: normalizer.apply(&observations)?,
            actions: bounds.to_unit(&actions)?,
            rewards: Tensor::from_iter(rewards, device)?,
            next_observations: normalizer.apply(&next_observations)?,
            terminated: Tensor::from_iter(terminated, device)?,
            next_actions,
            returns: Tensor::from_iter(kept.iter().map(|k| returns[k.step]), device)?,
            monte_carlo_returns: reached,
            taken,
            scale_shift: (scale, shift),
            replay: None,
            steps: kept.iter().map(|k| k.step).collect(),
            judged,
            normalizer,
            bounds: bounds.clone(),
            count,
        }
        .checked()
    }

    /// One row of zeros to build on, that can't be drawn.
    fn without_data(
        (o, a): (usize, usize),
        bounds: &ActionBounds,
        config: &TransitionsConfig,
        device: &Device,
    ) -> Result<Self> {
        check_bounds(bounds, a)?;
        let zeros = |width: usize| Tensor::zeros((1, width), DType::F32, device);
        let column = || Tensor::zeros(1, DType::F32, device);
        let actions = || bounds.to_unit(&zeros(a)?);
        Self {
            observations: zeros(o)?,
            actions: actions()?,
            rewards: column()?,
            next_observations: zeros(o)?,
            terminated: column()?,
            next_actions: config.next_actions.then(actions).transpose()?,
            returns: column()?,
            monte_carlo_returns: config.monte_carlo_returns.then(column).transpose()?,
            taken: Returns {
                discount: config.returns_discount,
                failure_reward: config.failure_reward,
            },
            scale_shift: (1.0, 0.0),
            replay: None,
            steps: Vec::new(),
            judged: Vec::new(),
            normalizer: Normalizer::identity(o, device)?,
            bounds: bounds.clone(),
            count: 0,
        }
        .checked()
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

/// [`Returns::to_go`] of every step of the data.
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

/// [`Returns::monte_carlo`] of every step of the data.
fn reached_returns(data: &Dataset, reward: impl Fn(usize) -> f32, taken: &Returns) -> Vec<f32> {
    let mut reached = vec![0.0; data.steps()];
    for episode in &data.episodes {
        let rewards: Vec<f32> = episode.range().map(&reward).collect();
        let found = taken.monte_carlo(&rewards, episode.terminated);
        reached[episode.range()].copy_from_slice(&found);
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transitions::tests::{data, raw, transitions};
    use crate::transitions_config::RewardTransform;

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
        let found = transitions(&data, &raw()).expect("transitions");
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
        let found = transitions(&data, &config).expect("transitions");
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
        let found = transitions(&data, &with_actions).expect("transitions");
        assert!(view(&found).iter().all(|row| row.1 != 70.0));
    }

    #[test]
    fn next_actions_are_those_of_the_next_row() {
        let data = data(&[(3, true, false, None), (2, false, true, None)]);
        let config = TransitionsConfig {
            next_actions: true,
            ..raw()
        };
        let found = transitions(&data, &config).expect("transitions");
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
        let found = transitions(&data, &raw()).expect("transitions");
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
        let found = transitions(&data, &config).expect("transitions");
        let rewards = found.rewards.to_vec1::<f32>().expect("numbers");
        assert_eq!(rewards, [250.0, 500.0, 750.0, 1250.0]);
        let open = super::super::tests::data(&[(3, false, false, None)]);
        assert!(transitions(&open, &config).is_err());
        let zero = Dataset {
            rewards: vec![0.0; data.steps()],
            ..data.clone()
        };
        let config = TransitionsConfig {
            table: "algorithm.iql",
            ..config
        };
        let error = transitions(&zero, &config).expect_err("no range");
        let error = error.to_string();
        for words in [
            "hopper-medium.hdf5",
            "`algorithm.iql.data.rewards = \"none\"`",
            "every return is 0",
        ] {
            assert!(error.contains(words), "{error}");
        }
        let shifted = TransitionsConfig {
            rewards: RewardTransform::Shift(-1.0),
            ..raw()
        };
        let found = transitions(&open, &shifted).expect("transitions");
        assert_eq!(found.rewards.to_vec1::<f32>().expect("numbers"), [0.0, 1.0]);
    }

    #[test]
    fn observations_are_normalized_over_the_kept_transitions() {
        let data = data(&[(3, true, false, None), (2, false, true, None)]);
        let config = TransitionsConfig::default();
        let found = transitions(&data, &config).expect("transitions");
        // Steps 0 to 3: mean 1.5, standard deviation sqrt(1.25).
        let expected = (0.0 - 1.5) / (1.25f32.sqrt() + 1e-3);
        assert!((view(&found)[0].0 - expected).abs() < 1e-6);
        assert_eq!(found.normalizer().dim(), 1);
    }
}
