//! [`BeamPlanner`]: a policy that plans with beam search and executes the best plan's actions.

use std::collections::VecDeque;

use candle_core::{DType, Device, Tensor};
use trajformer_models::kernels::decode::Float;

use super::beam_search::{BeamSearch, Plan, Prefix};
use super::sampling::Uniforms;
use crate::data::sequences::goal_transition;
use crate::error::{Error, Result};
use crate::policy::{EpisodeStart, Policy};
use crate::rng::Rng;

/// Stands for the value of a past transition, which the network never looks at (the authors').
const VALUE_PLACEHOLDER: f64 = 1e6;

/// Plans every few steps for all running episodes in one batch.
///
/// Mirrors the authors' `scripts/plan.py` (commit 8834a6e), with two differences: actions are
/// clipped to their bounds, and several steps of a plan may be executed.
#[derive(Debug)]
pub struct BeamPlanner<T = f32> {
    search: BeamSearch<T>,
    action_low: Vec<f32>,
    action_high: Vec<f32>,
    steps: usize,
    episodes: Vec<Episode>,
}

/// What the planner knows of one episode.
#[derive(Debug)]
struct Episode {
    rng: Rng,
    goal: Option<Vec<u32>>,
    /// Tokens of the last transitions, oldest first.
    context: VecDeque<Vec<u32>>,
    plan: Option<Plan>,
    /// The last step, until its reward is known: observation and action.
    pending: Option<Vec<f64>>,
}

/// A plan in the data's units: what the model expects to happen. W sequences, best first.
#[derive(Debug, Clone)]
pub struct Imagined {
    /// (W, horizon, O).
    pub observations: Tensor,
    /// (W, horizon, A).
    pub actions: Tensor,
    /// Rewards as sampled (W, horizon).
    pub rewards: Tensor,
    /// Values as sampled (W, horizon).
    pub values: Tensor,
    /// What the search maximised (W).
    pub scores: Vec<f64>,
}

/// The episodes' own random streams.
struct Streams<'a> {
    episodes: Vec<&'a mut Rng>,
}

impl Uniforms for Streams<'_> {
    fn next(&mut self, episode: usize) -> f64 {
        self.episodes[episode].uniform()
    }
}

impl<T: Float> BeamPlanner<T> {
    /// A planner whose actions stay within `action_low` and `action_high` (A each).
    ///
    /// # Errors
    /// If the bounds have another length than actions.
    pub fn new(search: BeamSearch<T>, action_low: Vec<f32>, action_high: Vec<f32>) -> Result<Self> {
        let model = search.model();
        let action_dim = model.discretizer.dims() - model.observation_dim - 2;
        if action_low.len() != action_dim || action_high.len() != action_dim {
            return Err(Error::Unsuitable(format!(
                "action bounds of {} and {} numbers, expected {action_dim}",
                action_low.len(),
                action_high.len()
            )));
        }
        Ok(Self {
            search,
            action_low,
            action_high,
            steps: 0,
            episodes: Vec::new(),
        })
    }

    /// Plans for the active episodes from `observations` (E, O) and keeps the plans: see
    /// [`Policy::imagined`]. Takes from the episodes' random streams.
    ///
    /// # Errors
    /// If shapes do not fit or the network fails.
    pub fn plan(&mut self, observations: &Tensor, active: &[bool]) -> Result<()> {
        let observations = self.rows(observations, active)?;
        let (mut prefixes, mut streams, mut plans) = (Vec::new(), Vec::new(), Vec::new());
        for ((episode, observation), _) in self
            .episodes
            .iter_mut()
            .zip(&observations)
            .zip(active)
            .filter(|(_, active)| **active)
        {
            let mut tokens: Vec<u32> = episode.context.iter().flatten().copied().collect();
            let observation: Vec<f64> = observation.iter().map(|&x| f64::from(x)).collect();
            self.search
                .model()
                .discretizer
                .encode_slice(&observation, 0, &mut tokens);
            prefixes.push(Prefix {
                tokens,
                goal: episode.goal.clone(),
            });
            streams.push(&mut episode.rng);
            plans.push(&mut episode.plan);
        }
        let found = self
            .search
            .plan(&prefixes, &mut Streams { episodes: streams })?;
        for (plan, found) in plans.into_iter().zip(found) {
            *plan = Some(found);
        }
        Ok(())
    }

    /// The action of step `step` of an episode's best plan, within bounds (A).
    fn planned_action(&self, plan: &Plan, step: usize) -> Vec<f32> {
        let (d, o) = (
            self.search.model().discretizer.dims(),
            self.search.model().observation_dim,
        );
        let tokens = &plan.tokens[step * d + o..(step + 1) * d - 2];
        let bounds = self.action_low.iter().zip(&self.action_high);
        let actions = tokens.iter().enumerate().zip(bounds);
        actions
            .map(|((dim, &token), (low, high))| {
                (self.search.model().discretizer.decode(token, o + dim) as f32)
                    .max(*low)
                    .min(*high)
            })
            .collect()
    }

    /// The goal transition of an episode, if the network takes one.
    fn goal(&self, start: &EpisodeStart) -> Result<Option<Vec<u32>>> {
        let model = self.search.model();
        match &start.goal {
            _ if !model.goal_conditioned => Ok(None),
            Some(goal) if goal.len() == model.observation_dim => {
                let mut tokens = Vec::new();
                let goal: Vec<f64> = goal.iter().map(|&x| f64::from(x)).collect();
                model.discretizer.encode_slice(&goal, 0, &mut tokens);
                Ok(Some(goal_transition(&tokens, &model.discretizer)))
            }
            found => Err(Error::Unsuitable(format!(
                "this planner was trained with goals: every episode needs one of {} numbers, \
                 found {:?}",
                model.observation_dim,
                found.as_ref().map(Vec::len)
            ))),
        }
    }

    fn rows(&self, observations: &Tensor, active: &[bool]) -> Result<Vec<Vec<f32>>> {
        let expected = [self.episodes.len(), self.search.model().observation_dim];
        if observations.dims() != expected || active.len() != self.episodes.len() {
            return Err(Error::Unsuitable(format!(
                "observations {:?} and {} flags for {expected:?}",
                observations.dims(),
                active.len()
            )));
        }
        Ok(observations
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .to_vec2()?)
    }
}

impl<T: Float> Policy for BeamPlanner<T> {
    fn needs_goal(&self) -> bool {
        self.search.model().goal_conditioned
    }

    fn imagined(&self, episode: usize) -> Result<Option<Imagined>> {
        let Some(plan) = self
            .episodes
            .get(episode)
            .and_then(|episode| episode.plan.as_ref())
        else {
            return Ok(None);
        };
        let (d, o) = (
            self.search.model().discretizer.dims(),
            self.search.model().observation_dim,
        );
        let decoded: Vec<f32> = plan
            .tokens
            .iter()
            .enumerate()
            .map(|(at, &token)| self.search.model().discretizer.decode(token, at % d) as f32)
            .collect();
        let shape = (plan.scores.len(), self.search.config().horizon, d);
        let decoded = Tensor::from_vec(decoded, shape, &Device::Cpu)?;
        let part = |first, count| decoded.narrow(2, first, count)?.contiguous();
        Ok(Some(Imagined {
            observations: part(0, o)?,
            actions: part(o, d - o - 2)?,
            rewards: part(d - 2, 1)?.squeeze(2)?,
            values: part(d - 1, 1)?.squeeze(2)?,
            scores: plan.scores.clone(),
        }))
    }

    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.steps = 0;
        self.episodes.clear();
        for start in episodes {
            let goal = self.goal(start)?;
            let (rng, context) = (start.rng.clone(), VecDeque::new());
            self.episodes.push(Episode {
                rng,
                goal,
                context,
                plan: None,
                pending: None,
            });
        }
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let step = self.steps % self.search.config().plan_every_steps;
        if step == 0 {
            self.plan(observations, active)?;
        }
        self.steps += 1;
        let rows = self.rows(observations, active)?;
        let mut actions = vec![0.0f32; rows.len() * self.action_low.len()];
        let outputs = actions.chunks_exact_mut(self.action_low.len());
        for (((index, row), &active), output) in rows.iter().enumerate().zip(active).zip(outputs) {
            let Some(plan) = self.episodes[index].plan.as_ref().filter(|_| active) else {
                continue;
            };
            output.copy_from_slice(&self.planned_action(plan, step));
            let joined = row
                .iter()
                .chain(output.iter())
                .map(|&x| f64::from(x))
                .collect();
            self.episodes[index].pending = Some(joined);
        }
        let shape = (rows.len(), self.action_low.len());
        Ok(Tensor::from_vec(actions, shape, &Device::Cpu)?)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        if rewards.len() != self.episodes.len() {
            return Err(Error::Unsuitable(format!(
                "{} rewards for {} episodes",
                rewards.len(),
                self.episodes.len()
            )));
        }
        let config = self.search.config();
        let keep = if config.prefix_context {
            config.max_context_transitions
        } else {
            0
        };
        for (episode, &reward) in self.episodes.iter_mut().zip(rewards) {
            let Some(mut transition) = episode.pending.take() else {
                continue;
            };
            transition.extend([f64::from(reward), VALUE_PLACEHOLDER]);
            let mut tokens = Vec::with_capacity(transition.len());
            self.search
                .model()
                .discretizer
                .encode_slice(&transition, 0, &mut tokens);
            episode.context.push_back(tokens);
            while episode.context.len() > keep {
                episode.context.pop_front();
            }
        }
        Ok(())
    }
}
