//! Episodes from the same starts for everything that is compared, and what came of them.

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::app::compare::statistics::{Interval, student_interval, student_quantile};
use crate::app::evaluate::{require_goal, starting_goal};
use crate::app::progress::Progress;
use crate::envs::score::{ReferenceReturns, normalized_score};
use crate::envs::{EnvSpec, GymOptions, VectorEnv};
use trajformer_core::error::{Error, Result};
use trajformer_core::interrupt::Interrupt;
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_core::statistics::mean_std;
use trajformer_data::discretizer::Discretizer;
use trajformer_models::rng::Streams;

/// Where and how long episodes run.
pub(super) struct Stage {
    pub name: String,
    pub options: GymOptions,
    pub spec: EnvSpec,
    /// How many, from starts that depend on the seed alone.
    pub episodes: usize,
    /// Each is cut after so many steps.
    pub steps: usize,
    pub seed: u64,
    /// In place of the environment's own.
    pub goal: Option<Vec<f32>>,
    pub interrupt: Interrupt,
}

/// What acts in them. It may look at the environments, and copy them.
pub(super) trait Actor {
    fn begin(&mut self, starts: &[EpisodeStart]) -> Result<()>;

    /// Actions (E, A) in step `step` of the rows with `active[row]`.
    fn act(&mut self, step: usize, envs: &VectorEnv, active: &[bool]) -> Result<Tensor>;

    fn observe(&mut self, rewards: &[f32]) -> Result<()>;

    /// Any policy of the run, to ask whether it needs a goal.
    fn policy(&self) -> &dyn Policy;
}

/// A policy as it is.
pub(super) struct Plain<'a>(pub &'a mut dyn Policy);

impl Actor for Plain<'_> {
    fn begin(&mut self, starts: &[EpisodeStart]) -> Result<()> {
        self.0.begin(starts)
    }

    fn act(&mut self, _: usize, envs: &VectorEnv, active: &[bool]) -> Result<Tensor> {
        self.0.act(&envs.observations()?, active)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        self.0.observe(rewards)
    }

    fn policy(&self) -> &dyn Policy {
        self.0
    }
}

/// A policy whose actions are replaced by what their bins stand for.
pub(super) struct ThroughBins<'a> {
    pub policy: &'a mut dyn Policy,
    pub discretizer: &'a Discretizer,
    pub observation_dim: usize,
}

impl Actor for ThroughBins<'_> {
    fn begin(&mut self, starts: &[EpisodeStart]) -> Result<()> {
        self.policy.begin(starts)
    }

    fn act(&mut self, _: usize, envs: &VectorEnv, active: &[bool]) -> Result<Tensor> {
        let actions = self.policy.act(&envs.observations()?, active)?;
        let shape = actions.dims2()?;
        let numbers = actions
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let rows = numbers.chunks_exact(shape.1);
        let binned = rows.flat_map(|row| binned(self.discretizer, self.observation_dim, row));
        let binned = Tensor::from_vec(binned.collect::<Vec<f32>>(), shape, &Device::Cpu)?;
        self.policy.took(&binned)?;
        Ok(binned)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        self.policy.observe(rewards)
    }

    fn policy(&self) -> &dyn Policy {
        self.policy
    }
}

/// What the bins of an action stand for (A).
pub(super) fn binned(
    discretizer: &Discretizer,
    observation_dim: usize,
    action: &[f32],
) -> Vec<f32> {
    let dims = (observation_dim..).zip(action);
    dims.map(|(dim, &x)| discretizer.decode(discretizer.encode(f64::from(x), dim), dim) as f32)
        .collect()
}

/// Episodes that have run.
pub(super) struct Rolled {
    /// Rewards of every episode, in order.
    pub rewards: Vec<Vec<f32>>,
    /// Whether the task ended it.
    pub terminated: Vec<bool>,
    /// Whether it ended at all before it was cut.
    pub ended: Vec<bool>,
}

impl Stage {
    /// Whether episodes run to their end.
    pub fn is_whole(&self) -> bool {
        self.steps >= self.spec.max_episode_steps
    }

    /// Runs all episodes once for each of `targets`, one target after the other.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or if the actor or the environment fails.
    pub fn run(
        &self,
        what: &str,
        targets: &[Option<f32>],
        actor: &mut dyn Actor,
    ) -> Result<Rolled> {
        let rows = self.episodes * targets.len();
        let mut envs = VectorEnv::make_with(&self.name, rows, &self.options)?;
        let streams = Streams::from_seed(self.seed);
        let number = |row: usize| (row % self.episodes) as u64;
        let seeds = (0..rows).map(|row| streams.numbered("environment", number(row)).bits());
        envs.reset(&seeds.collect::<Vec<u64>>())?;
        let mut starts = Vec::with_capacity(rows);
        for row in 0..rows {
            let configured = self.goal.as_deref();
            let goal = starting_goal(actor.policy(), &self.spec, configured, envs.goal(row))?;
            require_goal(actor.policy(), &self.spec, goal.as_deref())?;
            starts.push(EpisodeStart {
                target_return: targets[row / self.episodes],
                goal,
                ..EpisodeStart::new(streams.numbered("policy", number(row)))
            });
        }
        actor.begin(&starts)?;
        let mut active = vec![true; rows];
        let mut rolled = Rolled {
            rewards: vec![Vec::new(); rows],
            terminated: vec![false; rows],
            ended: vec![false; rows],
        };
        let progress = Progress::of("steps", 0, self.steps as u64);
        for step in 0..self.steps {
            if self.interrupt.is_set() {
                progress.finish();
                return Err(Error::Interrupted);
            }
            progress.say(what.to_owned(), what.to_owned());
            progress.set(step as u64);
            let actions = actor.act(step, &envs, &active)?;
            let after = envs.step(&actions, &active)?;
            actor.observe(&after.rewards)?;
            for row in (0..rows).filter(|&row| active[row]) {
                rolled.rewards[row].push(after.rewards[row]);
                rolled.terminated[row] |= after.terminated[row];
                rolled.ended[row] |= after.terminated[row] || after.truncated[row];
            }
            for (active, ended) in active.iter_mut().zip(&rolled.ended) {
                *active = !ended;
            }
            if !active.contains(&true) {
                break;
            }
        }
        progress.finish();
        Ok(rolled)
    }
}

impl Rolled {
    fn returns(&self) -> Vec<f64> {
        let sum = |rewards: &Vec<f32>| rewards.iter().map(|&r| f64::from(r)).sum();
        self.rewards.iter().map(sum).collect()
    }

    fn lengths(&self) -> Vec<usize> {
        self.rewards.iter().map(Vec::len).collect()
    }

    /// What came of the episodes, with a score where `reference` is one that their length can be held against.
    pub fn arm(&self, reference: Option<ReferenceReturns>) -> Arm {
        Arm::new(self.returns(), self.lengths(), reference)
    }

    /// The same for each of `count` targets.
    pub fn arms(&self, count: usize, reference: Option<ReferenceReturns>) -> Vec<Arm> {
        let (returns, lengths) = (self.returns(), self.lengths());
        let size = returns.len() / count.max(1);
        let parts = returns.chunks_exact(size).zip(lengths.chunks_exact(size));
        parts
            .map(|(returns, lengths)| Arm::new(returns.to_vec(), lengths.to_vec(), reference))
            .collect()
    }
}

/// Returns of episodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arm {
    /// Their mean.
    pub mean: f64,
    /// The 95 % interval of the mean over episodes, by Student's t; `None` of a single one.
    pub interval: Option<Interval>,
    /// The mean's normalised score, where episodes ran to their end and reference returns are known.
    pub score: Option<f64>,
    /// Undiscounted return of every episode.
    pub returns: Vec<f64>,
    /// Steps of every episode.
    pub lengths: Vec<usize>,
}

impl Arm {
    /// Of returns and lengths of episodes, of which there is at least one.
    pub fn new(
        returns: Vec<f64>,
        lengths: Vec<usize>,
        reference: Option<ReferenceReturns>,
    ) -> Self {
        let (mean, deviation) = mean_std(&returns);
        Self {
            mean,
            interval: student_interval(mean, deviation, returns.len()),
            score: reference.map(|reference| normalized_score(reference, mean)),
            returns,
            lengths,
        }
    }

    /// How much more `self` returns than `other` from the same starts: by the episodes' differences.
    pub fn above_paired(&self, other: &Self) -> Difference {
        let pairs = self.returns.iter().zip(&other.returns);
        let differences: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
        let (mean, deviation) = mean_std(&differences);
        Difference {
            mean,
            interval: student_interval(mean, deviation, differences.len()),
        }
    }

    /// How much more `self` returns than `other`, whose episodes are others: Welch's interval.
    pub fn above(&self, other: &Self) -> Difference {
        let mean = self.mean - other.mean;
        let part = |arm: &Self| {
            let count = arm.returns.len() as f64;
            let variance = mean_std(&arm.returns).1.powi(2) / (count - 1.0);
            (variance, variance.powi(2) / (count - 1.0))
        };
        let ((a, a_part), (b, b_part)) = (part(self), part(other));
        let freedom = (a + b).powi(2) / (a_part + b_part);
        let known = self.returns.len() > 1 && other.returns.len() > 1;
        let interval = known.then(|| {
            // Returns that are all the same leave no doubt.
            let half = if a + b > 0.0 {
                student_quantile((freedom as usize).max(1)) * (a + b).sqrt()
            } else {
                0.0
            };
            Interval {
                low: mean - half,
                high: mean + half,
            }
        });
        Difference { mean, interval }
    }
}

/// A difference of mean returns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// It.
    pub mean: f64,
    /// Its 95 % interval; `None` of single episodes.
    pub interval: Option<Interval>,
}
