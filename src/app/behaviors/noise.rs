//! [`NoisyPolicy`]: another policy with noise on its actions, to collect more varied data.

use candle_core::{Device, Tensor};

use trajformer_core::dataset::ActionKind;
use trajformer_core::environment::EnvSpec;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy, check_rows};
use trajformer_models::rng::Rng;

/// A policy whose actions get normal noise and are clipped to the environment's range. With several levels,
/// batches of episodes take them in turn.
pub struct NoisyPolicy {
    policy: Box<dyn Policy>,
    levels: Vec<f64>,
    low: Vec<f32>,
    high: Vec<f32>,
    begun: usize,
    rows: Vec<Rng>,
}

impl NoisyPolicy {
    /// `levels` are standard deviations, as shares of half the range of an action.
    ///
    /// # Errors
    /// If there is no level, one is negative or not finite, or the environment's actions are choices.
    pub fn new(policy: Box<dyn Policy>, levels: Vec<f64>, spec: &EnvSpec) -> Result<Self> {
        if spec.action_kind != ActionKind::Continuous {
            return Err(Error::settings(format!(
                "normal noise is for actions that are real numbers, and `{}` takes choices: sample the policy, or take its \
                 actions as they are",
                spec.name
            )));
        }
        let fits = |level: &f64| *level >= 0.0 && level.is_finite();
        if levels.is_empty() || !levels.iter().all(fits) {
            return Err(Error::settings(format!(
                "noise levels are {levels:?}, expected numbers of 0 or more"
            )));
        }
        Ok(Self {
            policy,
            levels,
            low: spec.action_low.clone(),
            high: spec.action_high.clone(),
            begun: 0,
            rows: Vec::new(),
        })
    }
}

impl Policy for NoisyPolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.rows = episodes.iter().map(|start| start.rng.clone()).collect();
        // The policy below draws from streams of its own.
        let below: Vec<EpisodeStart> = episodes
            .iter()
            .map(|start| {
                let mut start = start.clone();
                start.rng = Rng::from_seed(start.rng.bits());
                start
            })
            .collect();
        self.begun += 1;
        self.policy.begin(&below)
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let level = self.levels[self.begun.saturating_sub(1) % self.levels.len()];
        let actions = self.policy.act(observations, active)?;
        let (rows, dim) = actions.dims2()?;
        check_rows(self.rows.len(), rows)?;
        let mut values = actions.flatten_all()?.to_vec1::<f32>()?;
        for (rng, row) in self.rows.iter_mut().zip(values.chunks_mut(dim)) {
            for (i, value) in row.iter_mut().enumerate() {
                let half = (self.high[i] - self.low[i]) / 2.0;
                let noise = (level * rng.normal()) as f32 * half;
                *value = (*value + noise).clamp(self.low[i], self.high[i]);
            }
        }
        Ok(Tensor::from_vec(values, (rows, dim), &Device::Cpu)?)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        self.policy.observe(rewards)
    }

    fn usual_target(&self) -> Option<f32> {
        self.policy.usual_target()
    }

    fn target_returns(&self) -> Vec<f32> {
        self.policy.target_returns()
    }

    fn needs_goal(&self) -> bool {
        self.policy.needs_goal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::behaviors::simple::ConstantPolicy;
    use crate::app::collect::collect;
    use crate::envs;

    #[test]
    fn levels_take_turns_and_actions_stay_in_range() {
        let mut env = envs::make("pendulum-v1").expect("built in");
        let zero = || Box::new(ConstantPolicy::new(vec![0.0]));
        let mut noisy = NoisyPolicy::new(zero(), vec![0.0, 0.2, 5.0], env.spec()).expect("levels");
        let data = collect(&mut *env, &mut noisy, 600, 1).expect("three episodes");
        let spread = |episode: usize| {
            let actions = &data.actions[data.episodes[episode].range()];
            assert!(actions.iter().all(|a| a.abs() <= 2.0));
            (actions.iter().map(|a| a * a).sum::<f32>() / 200.0).sqrt()
        };
        assert_eq!(spread(0), 0.0);
        // A fifth of half the range of ±2; four standard errors of a standard deviation over 200 draws.
        assert!((spread(1) - 0.4).abs() < 0.08, "{}", spread(1));
        assert!(spread(2) > 1.5, "{}", spread(2));
        assert!(NoisyPolicy::new(zero(), vec![-1.0], env.spec()).is_err());
    }
}
