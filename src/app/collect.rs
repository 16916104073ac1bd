//! [`collect`]: experience of a policy in an environment, as a data set.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::app::progress::Progress;
use crate::envs::reference_for;
use trajformer_core::dataset::{ActionKind, Dataset, Episode};
use trajformer_core::environment::{EnvSpec, Environment};
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Streams;

/// Lets `policy` act for exactly `steps` steps, episode after episode.
///
/// Episode `i` starts from its own seed and acts from its own stream, both grown from `seed`: a
/// longer collection begins with the shorter one. Where `steps` cuts the last episode, it counts as
/// neither terminated nor truncated. Where the environment has instructions, each episode draws one of them. Observations after the last step of each episode are kept.
///
/// # Errors
/// If `steps` is 0, or environment or policy fail.
pub fn collect(
    env: &mut dyn Environment,
    policy: &mut dyn Policy,
    steps: usize,
    seed: u64,
) -> Result<Dataset> {
    let (data, failure) = collect_until(env, policy, steps, seed)?;
    match failure {
        None => Ok(data),
        Some(error) => Err(error),
    }
}

/// [`collect`], but for a failure of environment or policy after the first step: then what was collected before is given too,
/// with an episode at its end that is neither terminated nor truncated.
///
/// # Errors
/// If `steps` is 0, or environment or policy fail before there is a step.
pub fn collect_until(
    env: &mut dyn Environment,
    policy: &mut dyn Policy,
    steps: usize,
    seed: u64,
) -> Result<(Dataset, Option<Error>)> {
    if steps == 0 {
        return Err(Error::settings("nothing to collect: steps is 0"));
    }
    let mut data = empty(env.spec());
    let failure = add_episodes(env, policy, steps, seed, &mut data).err();
    match failure {
        Some(error) if data.steps() == 0 => Err(error),
        failure => Ok((data, failure)),
    }
}

/// Collects into `data`, episode after episode; also what comes before a failure.
fn add_episodes(
    env: &mut dyn Environment,
    policy: &mut dyn Policy,
    steps: usize,
    seed: u64,
    data: &mut Dataset,
) -> Result<()> {
    let streams = Streams::from_seed(seed);
    let instructions = env.instructions();
    let progress = Progress::of("steps", 0, steps as u64);
    while data.steps() < steps {
        let index = data.episodes.len() as u64;
        let instruction = match instructions.len() {
            0 => None,
            count => {
                let mut rng = streams.numbered("collect.instruction", index);
                let text = &instructions[rng.below(count)];
                env.instruct(text)?;
                Some(Arc::from(text.as_str()))
            }
        };
        let observation = env.reset(streams.numbered("collect.start", index).bits())?;
        let rng = streams.numbered("collect.policy", index);
        policy.begin(&[EpisodeStart {
            rng,
            target_return: None,
            goal: None,
            instruction: instruction.clone(),
        }])?;
        let left = steps - data.steps();
        let mut last = observation;
        let start = data.steps();
        let found = run_episode(env, policy, &mut last, left, (data, &progress));
        let steps = data.steps() - start;
        let (episode, failure) = match found {
            Ok(episode) => (episode, None),
            Err(error) => {
                let cut = Episode {
                    final_observation: Some(last.into_boxed_slice()),
                    ..Episode::new(start, steps)
                };
                (cut, Some(error))
            }
        };
        if steps > 0 {
            data.episodes.push(Episode {
                instruction,
                ..episode
            });
        }
        if let Some(error) = failure {
            return Err(error);
        }
    }
    progress.finish();
    Ok(())
}

/// No steps yet, of an environment that looks like `spec`.
pub(crate) fn empty(spec: &EnvSpec) -> Dataset {
    Dataset {
        observation_dim: spec.observation_dim,
        action_dim: spec.action_dim,
        action_kind: spec.action_kind,
        observations: Vec::new(),
        actions: Vec::new(),
        rewards: Vec::new(),
        episodes: Vec::new(),
        env_name: Some(spec.name.clone()),
        reference_returns: reference_for(&spec.name).map(|r| (r.random, r.expert)),
        action_bounds: match spec.action_kind {
            ActionKind::Continuous => Some((spec.action_low.clone(), spec.action_high.clone())),
            ActionKind::Discrete { .. } => None,
        },
        sources: Vec::new(),
        warnings: Vec::new(),
    }
}

/// One episode, of at most `limit` steps, appended to `data` without its [`Episode`].
fn run_episode(
    env: &mut dyn Environment,
    policy: &mut dyn Policy,
    observation: &mut Vec<f32>,
    limit: usize,
    (data, progress): (&mut Dataset, &Progress),
) -> Result<Episode> {
    let start = data.steps();
    loop {
        let input = Tensor::from_slice(observation, (1, observation.len()), &Device::Cpu)?;
        let action = policy
            .act(&input, &[true])?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let step = env.step(&action)?;
        policy.observe(&[step.reward])?;
        data.observations.extend_from_slice(observation);
        data.actions.extend_from_slice(&action);
        data.rewards.push(step.reward);
        *observation = step.observation;
        progress.set(data.steps() as u64);
        let steps = data.steps() - start;
        if step.terminated || step.truncated || steps == limit {
            return Ok(Episode {
                terminated: step.terminated,
                truncated: step.truncated && !step.terminated,
                final_observation: Some(observation.clone().into_boxed_slice()),
                ..Episode::new(start, steps)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::behaviors::simple::RandomPolicy;
    use crate::envs;

    fn random(steps: usize, seed: u64) -> Dataset {
        let mut env = envs::make("pointmaze-umaze").expect("built in");
        let mut policy = RandomPolicy::new(env.spec());
        collect(&mut *env, &mut policy, steps, seed).expect("collect")
    }

    #[test]
    fn exactly_the_steps_asked_for_come_in_episodes_without_gaps() {
        let data = random(700, 1);
        assert_eq!(
            (data.steps(), data.observations.len(), data.actions.len()),
            (700, 2800, 1400)
        );
        let ends: Vec<_> = data
            .episodes
            .iter()
            .map(|e| (e.range(), e.is_complete()))
            .collect();
        assert_eq!(ends, [(0..300, true), (300..600, true), (600..700, false)]);
        assert_eq!(data.returns().len(), 2);
        assert_eq!(data.env_name.as_deref(), Some("pointmaze-umaze"));
    }

    /// A pendulum that breaks on its way.
    struct Breaking(Box<dyn Environment>, usize);

    impl Environment for Breaking {
        fn spec(&self) -> &EnvSpec {
            self.0.spec()
        }

        fn reset(&mut self, seed: u64) -> Result<Vec<f32>> {
            self.0.reset(seed)
        }

        fn step(&mut self, action: &[f32]) -> Result<trajformer_core::environment::Step> {
            match self.1.checked_sub(1) {
                Some(left) => {
                    self.1 = left;
                    self.0.step(action)
                }
                None => Err(Error::Unsuitable("it broke".to_owned())),
            }
        }
    }

    #[test]
    fn what_was_collected_before_a_failure_is_kept() {
        let whole = random(700, 1);
        for (before, episodes) in [(450, 2), (300, 1), (0, 0)] {
            let mut env = Breaking(envs::make("pointmaze-umaze").expect("built in"), before);
            let mut policy = RandomPolicy::new(env.spec());
            let found = collect_until(&mut env, &mut policy, 700, 1);
            if before == 0 {
                assert!(found.is_err(), "there is nothing to keep");
                continue;
            }
            let (data, failure) = found.expect("steps");
            assert_eq!(failure.expect("a failure").to_string(), "it broke");
            assert_eq!((data.steps(), data.episodes.len()), (before, episodes));
            assert_eq!(data.observations[..], whole.observations[..4 * before]);
            let last = data.episodes.last().expect("an episode");
            assert_eq!(
                (last.range().end, last.is_complete()),
                (before, before == 300)
            );
            let next = last.final_observation.as_deref().expect("kept");
            if before == 450 {
                assert_eq!(next, whole.observation(450));
            }
        }
        let mut env = Breaking(envs::make("pointmaze-umaze").expect("built in"), 450);
        let mut policy = RandomPolicy::new(env.spec());
        assert!(collect(&mut env, &mut policy, 700, 1).is_err());
    }

    #[test]
    fn a_longer_collection_begins_with_the_shorter_one() {
        let (short, long) = (random(350, 7), random(400, 7));
        assert_eq!(
            short.observations[..],
            long.observations[..short.observations.len()]
        );
        assert_eq!(short.actions[..], long.actions[..short.actions.len()]);
        assert_ne!(random(350, 8).actions, short.actions);
    }

    #[test]
    fn each_observation_is_what_followed_the_last_action() {
        let data = random(310, 2);
        let last = data.episodes[0].final_observation.as_deref().expect("kept");
        let mut env = envs::pointmaze::PointMaze::new(
            envs::pointmaze::Layout::named("pointmaze-umaze").expect("built in"),
        );
        let start = Streams::from_seed(2).numbered("collect.start", 0).bits();
        assert_eq!(env.reset(start).expect("reset"), data.observation(0));
        for step in 0..300 {
            let after = env.step(data.action(step)).expect("step");
            let expected = if step < 299 {
                data.observation(step + 1)
            } else {
                last
            };
            assert_eq!(
                (&after.observation[..], after.reward),
                (expected, data.rewards[step])
            );
        }
    }
}
