//! [`RewardWindows`]: sub-trajectories with their rewards and whether they end an episode, which critics over contexts are trained on.
//!
//! As charleshsc/QT @ cb9e1a4, `experiment.py` (`get_batch`).

use candle_core::{Device, Tensor};

use crate::batch::ReturnBatch;
use crate::return_sequences::ReturnSequences;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};
use trajformer_models::rng::Rng;

/// Where sub-trajectories may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Starts {
    /// At any step of the complete episodes; near an episode's end they are shorter than the context.
    #[default]
    Anywhere,
    /// Where K steps and one more follow before the episode's end, in episodes that are that long: the authors' for hopper. So no
    /// sub-trajectory reaches an end.
    Inside,
}

/// [`ReturnSequences`] with rewards.
#[derive(Debug, Clone)]
pub struct RewardWindows {
    sequences: ReturnSequences,
    /// (steps), as in the data.
    rewards: Vec<f32>,
    /// (steps): whether the task ended with the step.
    terminated: Vec<bool>,
    /// K.
    context_steps: usize,
    /// Of episodes that are long enough, where starts are to lie inside: steps of such episodes before it, the count of steps before
    /// it, and its starts.
    inside: Option<Vec<(usize, usize, usize)>>,
}

/// A batch of sub-trajectories with rewards.
#[derive(Debug, Clone)]
pub struct RewardBatch {
    /// Observations, actions, returns-to-go, time steps and mask.
    pub steps: ReturnBatch,
    /// Rewards (B, K) f32, 0 in padding.
    pub rewards: Tensor,
    /// Whether the task ended with the sub-trajectory's last step (B) f32, 0 or 1.
    pub terminated: Tensor,
}

impl RewardWindows {
    /// Adds the rewards of `data`, of which `sequences` were made; none to act without data.
    ///
    /// # Errors
    /// If starts are to lie inside and no episode is long enough.
    pub fn new(
        sequences: ReturnSequences,
        data: Option<&Dataset>,
        context_steps: usize,
        starts: Starts,
    ) -> Result<Self> {
        let mut terminated = vec![false; data.map_or(0, Dataset::steps)];
        for episode in data.into_iter().flat_map(|data| &data.episodes) {
            if episode.terminated && episode.steps > 0 {
                terminated[episode.start + episode.steps - 1] = true;
            }
        }
        let inside = match starts {
            Starts::Anywhere => None,
            Starts::Inside => {
                let (mut before, mut episodes) = (0, Vec::new());
                for (first, steps) in sequences.lengths().filter(|(_, n)| *n > context_steps) {
                    episodes.push((before, first, steps - context_steps));
                    before += steps;
                }
                if let (true, Some(data)) = (episodes.is_empty(), data) {
                    return Err(Error::Unsuitable(format!(
                        "{}: no complete episode is longer than the context of {context_steps} steps, and starts are to lie \
                         inside: lower `context_steps` or set `starts` to \"anywhere\"",
                        data.source_names()
                    )));
                }
                Some(episodes)
            }
        };
        Ok(Self {
            sequences,
            rewards: data.map_or_else(Vec::new, |data| data.rewards.clone()),
            terminated,
            context_steps,
            inside,
        })
    }

    /// Draws `batch` sub-trajectories: an episode in proportion to its length, and a start in it uniformly.
    ///
    /// # Errors
    /// If there is no data, or a tensor can't be made.
    pub fn sample(&self, batch: usize, rng: &mut Rng, device: &Device) -> Result<RewardBatch> {
        self.sequences.require_steps()?;
        let starts = match &self.inside {
            None => self.sequences.draw(batch, rng),
            Some(episodes) => {
                let draw = |_| self.draw_inside(episodes, rng);
                let starts: Vec<usize> = (0..batch).map(draw).collect();
                self.sequences.drawn(&starts);
                starts
            }
        };
        self.batch(&starts, device)
    }

    fn draw_inside(&self, episodes: &[(usize, usize, usize)], rng: &mut Rng) -> usize {
        let (before, _, starts) = episodes[episodes.len() - 1];
        let step = rng.below(before + starts + self.context_steps);
        let episode = episodes.partition_point(|(before, _, _)| *before <= step) - 1;
        let (_, first, starts) = episodes[episode];
        first + rng.below(starts)
    }

    /// The sub-trajectories that start at these steps, counted over the complete episodes only.
    ///
    /// # Errors
    /// If a tensor can't be made.
    ///
    /// # Panics
    /// If a start is not below the number of steps.
    pub fn batch(&self, starts: &[usize], device: &Device) -> Result<RewardBatch> {
        let (b, k) = (starts.len(), self.context_steps);
        let mut rewards = vec![0.0f32; b * k];
        let mut terminated = vec![0.0f32; b];
        for (row, &start) in starts.iter().enumerate() {
            let (at, first, steps) = self.sequences.placed(start);
            let at = row * k + at;
            rewards[at..at + steps].copy_from_slice(&self.rewards[first..first + steps]);
            terminated[row] = f32::from(u8::from(self.terminated[first + steps - 1]));
        }
        Ok(RewardBatch {
            steps: self.sequences.batch(starts, device)?,
            rewards: Tensor::from_vec(rewards, (b, k), device)?,
            terminated: Tensor::from_vec(terminated, b, device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::return_sequences::{Padding, ReturnOptions};
    use trajformer_core::dataset::Episode;

    /// Episodes of these lengths, ended by the task if `true`; rewards are the steps' numbers.
    fn windows(episodes: &[(usize, bool)], starts: Starts) -> Result<RewardWindows> {
        let (mut start, mut list) = (0, Vec::new());
        for &(steps, terminated) in episodes {
            list.push(Episode {
                terminated,
                truncated: !terminated,
                ..Episode::new(start, steps)
            });
            start += steps;
        }
        let data = Dataset {
            observations: vec![0.0; start],
            actions: vec![0.0; start],
            rewards: (0..start).map(|step| step as f32).collect(),
            episodes: list,
            ..Dataset::blank(1, 1)
        };
        let options = ReturnOptions {
            context_steps: 3,
            return_scale: 1.0,
            max_episode_steps: 100,
            padding: Padding::LeftZeros,
        };
        let sequences = ReturnSequences::new(&data, &[0.0], &[1.0], options)?;
        RewardWindows::new(sequences, Some(&data), 3, starts)
    }

    #[test]
    fn rewards_stand_beside_their_steps_and_only_ended_tasks_are_terminated() -> Result<()> {
        let windows = windows(&[(4, true), (4, false)], Starts::Anywhere)?;
        let batch = windows.batch(&[0, 1, 3, 6], &Device::Cpu)?;
        let expected = [[0., 1., 2.], [1., 2., 3.], [0., 0., 3.], [0., 6., 7.]];
        assert_eq!(batch.rewards.to_vec2::<f32>()?, expected);
        assert_eq!(batch.terminated.to_vec1::<f32>()?, [0., 1., 1., 0.]);
        let mask = batch.steps.mask.to_vec2::<f32>()?;
        assert_eq!(mask[2], [0., 0., 1.]);
        Ok(())
    }

    #[test]
    fn starts_inside_leave_a_step_behind_every_window_and_short_episodes_out() -> Result<()> {
        let windows = windows(&[(3, true), (5, true), (4, true)], Starts::Inside)?;
        let rng = &mut Rng::from_seed(0);
        let mut counts = [0usize; 12];
        let batch = windows.sample(9000, rng, &Device::Cpu)?;
        for row in batch.rewards.to_vec2::<f32>()? {
            counts[row[0] as usize] += 1;
        }
        assert_eq!(batch.terminated.sum_all()?.to_scalar::<f32>()?, 0.0);
        // Episodes by their 5 and 4 steps; two starts in the first, one in the second.
        let (first, second) = (counts[3] + counts[4], counts[8]);
        assert_eq!(first + second, 9000);
        assert!(
            first.abs_diff(5000) < 200 && counts[3].abs_diff(2500) < 200,
            "{counts:?}"
        );
        assert!(super::tests::windows(&[(3, true)], Starts::Inside).is_err());
        Ok(())
    }
}
