//! What a policy that remembers does at every logged step: it is walked through each episode once, and told what was really done.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::app::act::{Layout, Recorded};
use crate::app::fqe::{Asked, Ground};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;
use trajformer_core::normalizer::ActionBounds;

/// The episodes of a data set, each followed by the observation after its last step where it goes on from there.
pub struct Histories {
    /// The rows to act at.
    pub recorded: Recorded,
    /// Row of every step of the data.
    rows: Vec<usize>,
    /// Whether another row of the same episode follows.
    goes_on: Vec<bool>,
    /// Row of every episode's first step.
    firsts: Vec<usize>,
}

impl Histories {
    /// Those of `data`.
    pub fn new(data: &Dataset) -> Self {
        let (o, a) = (data.observation_dim, data.action_dim);
        let (mut observations, mut actions, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
        let (mut episodes, mut firsts) = (Vec::new(), Vec::new());
        let (mut rows, mut goes_on) = (Vec::new(), Vec::new());
        for episode in &data.episodes {
            let first = rewards.len();
            let range = episode.range();
            rows.extend(first..first + episode.steps);
            observations.extend_from_slice(&data.observations[range.start * o..range.end * o]);
            actions.extend_from_slice(&data.actions[range.start * a..range.end * a]);
            rewards.extend_from_slice(&data.rewards[range]);
            let after = episode.final_observation.as_deref();
            let after = after.filter(|_| !episode.terminated);
            if let Some(after) = after {
                observations.extend_from_slice(after);
                actions.resize(actions.len() + a, 0.0);
                rewards.push(0.0);
            }
            goes_on.resize(goes_on.len() + episode.steps - 1, true);
            goes_on.push(after.is_some());
            episodes.push(first..rewards.len());
            firsts.push(first);
        }
        let texts = data.episodes.iter().map(|one| one.instruction.clone());
        Self {
            recorded: Recorded {
                path: data.sources.first().map_or_else(
                    || Path::new("the data").to_path_buf(),
                    |path| path.to_path_buf(),
                ),
                layout: Layout::Rows,
                observation_dim: o,
                observations,
                episodes,
                has_episodes: true,
                actions: Some((a, actions)),
                rewards: Some(rewards),
                target_returns: None,
                goals: None,
                instructions: texts.collect(),
            },
            rows,
            goes_on,
            firsts,
        }
    }

    /// What the critics of `ground` ask of a policy that does `actions` (rows, A), in the environment's units, at these rows.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn asked(&self, actions: &[f32], ground: &Ground, bounds: &ActionBounds) -> Result<Asked> {
        let dim = bounds.dim();
        let tensor = |rows: Vec<usize>| -> Result<Tensor> {
            let values: Vec<f32> = rows
                .iter()
                .flat_map(|row| actions[row * dim..(row + 1) * dim].iter().copied())
                .collect();
            let values = Tensor::from_vec(values, (rows.len(), dim), &Device::Cpu)?;
            bounds.to_unit(&values)
        };
        let steps = ground.transitions().steps();
        let now = steps.iter().map(|&step| self.rows[step]);
        let next = |&step: &usize| self.rows[step] + usize::from(self.goes_on[step]);
        Ok(Asked {
            now: tensor(now.collect())?,
            next: tensor(steps.iter().map(next).collect())?,
            first: tensor(self.firsts.clone())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::act::{ActOptions, walk};
    use crate::app::fqe::FqeConfig;
    use trajformer_core::dataset::Episode;
    use trajformer_core::policy::{EpisodeStart, Policy};
    use trajformer_models::rng::Rng;

    /// Episodes with an end, with a time limit and without what followed, and one that breaks off; rewards are actions.
    fn data() -> Dataset {
        let mut data = Dataset::blank(1, 1);
        let rng = &mut Rng::from_seed(4);
        for at in 0..12 {
            let steps = 3 + at % 4;
            let known = at % 3 != 1;
            data.episodes.push(Episode {
                terminated: at % 3 == 0,
                truncated: at % 3 == 2,
                final_observation: known.then(|| vec![rng.normal() as f32].into_boxed_slice()),
                ..Episode::new(data.rewards.len(), steps)
            });
            for _ in 0..steps {
                let action = 2.0 * rng.uniform() as f32 - 1.0;
                data.observations.push(rng.normal() as f32);
                data.actions.push(action);
                data.rewards.push(action);
            }
        }
        data
    }

    /// Acts by the present observation, and may not say so.
    struct Half {
        says_so: bool,
    }

    impl Policy for Half {
        fn begin(&mut self, _: &[EpisodeStart]) -> Result<()> {
            Ok(())
        }
        fn act(&mut self, observations: &Tensor, _: &[bool]) -> Result<Tensor> {
            Ok((observations.tanh()? * 0.5)?)
        }
        fn is_memoryless(&self) -> bool {
            self.says_so
        }
    }

    /// Acts by the number of the step and by what was done before.
    #[derive(Default)]
    struct Counts {
        step: f32,
        before: Option<Tensor>,
    }

    impl Policy for Counts {
        fn begin(&mut self, _: &[EpisodeStart]) -> Result<()> {
            *self = Self::default();
            Ok(())
        }
        fn act(&mut self, observations: &Tensor, _: &[bool]) -> Result<Tensor> {
            let before = match &self.before {
                Some(before) => before.clone(),
                None => observations.zeros_like()?,
            };
            let action = (before * 0.01)?.affine(1.0, f64::from(self.step) / 10.0)?;
            self.step += 1.0;
            Ok(action)
        }
        fn took(&mut self, actions: &Tensor) -> Result<()> {
            self.before = Some(actions.clone());
            Ok(())
        }
    }

    fn walked(policy: &mut dyn Policy, histories: &Histories) -> Vec<f32> {
        let count = histories.recorded.episodes.len();
        let starts: Vec<EpisodeStart> = (0..count)
            .map(|row| EpisodeStart::new(Rng::from_seed(row as u64)))
            .collect();
        let options = ActOptions::default();
        walk(policy, &histories.recorded, (&starts, 1), &options).expect("actions")
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        let flat = tensor.flatten_all().and_then(|flat| flat.to_vec1());
        flat.expect("numbers")
    }

    #[test]
    fn a_memoryless_policy_is_worth_the_same_to_the_bit_when_it_is_walked_through_histories() {
        let (data, config) = (
            data(),
            FqeConfig {
                updates: 60,
                members: 3,
                hidden: vec![8],
                batch_size: 16,
                ..FqeConfig::default()
            },
        );
        let bounds = ActionBounds::new(&[-1.5], &[1.25], &Device::Cpu).expect("bounds");
        let ground = Ground::new(&data, &bounds, &config).expect("a ground");
        let alone = ground.ask(&mut Half { says_so: true }, 0).expect("actions");
        let histories = Histories::new(&data);
        let actions = walked(&mut Half { says_so: false }, &histories);
        let asked = histories.asked(&actions, &ground, &bounds);
        let asked = asked.expect("actions");
        assert_eq!(numbers(&alone.now), numbers(&asked.now));
        assert_eq!(numbers(&alone.first), numbers(&asked.first));
        let fit = |asked: &Asked| ground.fit(asked, &config, 0).expect("values");
        let (alone, asked) = (fit(&alone), fit(&asked));
        let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&alone.members), bits(&asked.members));
        assert!(alone.members[0] != alone.members[1]);
    }

    #[test]
    fn a_policy_that_remembers_is_asked_after_what_was_really_done() {
        let (data, config) = (data(), FqeConfig::default());
        let bounds = ActionBounds::unit(1, &Device::Cpu).expect("bounds");
        let ground = Ground::new(&data, &bounds, &config).expect("a ground");
        let histories = Histories::new(&data);
        let actions = walked(&mut Counts::default(), &histories);
        let asked = histories.asked(&actions, &ground, &bounds).expect("asked");
        let (now, next) = (numbers(&asked.now), numbers(&asked.next));
        assert_eq!(numbers(&asked.first), vec![0.0; data.episodes.len()]);
        let transitions = ground.transitions();
        let episodes = transitions.episodes(&data);
        let mut after_last = 0;
        for (row, (&step, episode)) in transitions.steps().iter().zip(episodes).enumerate() {
            let episode = &data.episodes[episode];
            let at = step - episode.start;
            let before = if at > 0 { data.actions[step - 1] } else { 0.0 };
            let expected = before * 0.01 + at as f32 / 10.0;
            assert!((now[row] - expected).abs() < 1e-6, "{row}");
            let is_last = at + 1 == episode.steps;
            if !(is_last && episode.terminated) {
                let expected = data.actions[step] * 0.01 + (at + 1) as f32 / 10.0;
                assert!((next[row] - expected).abs() < 1e-6, "{row}");
                after_last += usize::from(is_last);
            }
        }
        assert!(after_last > 0, "no step before a time limit is looked at");
    }
}
