//! [`BeamPlanner`]: a policy that plans with beam search and executes the best plan's actions.

use std::collections::VecDeque;
use std::sync::Arc;
use trajformer_core::policy::Imagined;

use candle_core::{DType, Device, Tensor};
use trajformer_models::kernels::decode::Float;

use crate::planning::beam_search::{BeamSearch, Plan, Prefix, SearchModel};
use crate::planning::sampling::Uniforms;
use trajformer_core::error::{Error, Result};
use trajformer_core::instructions::Instructions;
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_data::sequences::goal_transition;
use trajformer_models::rng::Rng;

/// Stands for the value of a past transition, which the network never looks at (the authors').
const VALUE_PLACEHOLDER: f64 = 1e6;

/// Plans every few steps for all running episodes in one batch.
///
/// Mirrors the authors' `scripts/plan.py` (commit 8834a6e), with one difference: actions are
/// clipped to their bounds, in context as in the environment. `plan_every_steps` is their
/// `plan_freq`: between plans the steps of the last one are executed.
#[derive(Debug)]
pub struct BeamPlanner<T = f32> {
    search: BeamSearch<T>,
    action_low: Vec<f32>,
    action_high: Vec<f32>,
    steps: usize,
    episodes: Vec<Episode>,
    streams: Streams,
    /// Embeddings of the instructions that episodes may be given, if the network reads them.
    instructions: Option<Arc<Instructions>>,
}

/// What the planner knows of one episode.
#[derive(Debug)]
struct Episode {
    goal: Option<Vec<u32>>,
    /// Embedding of what is asked (E).
    instruction: Option<Vec<f32>>,
    /// Tokens of the last transitions, oldest first.
    context: VecDeque<Vec<u32>>,
    plan: Option<Plan>,
    /// The last step, until its reward is known: observation and action.
    pending: Option<Vec<f64>>,
}

/// The episodes' own random streams (E).
#[derive(Debug, Default)]
struct Streams(Vec<Rng>);

impl Uniforms for Streams {
    fn next(&mut self, episode: usize) -> f64 {
        self.0[episode].uniform()
    }
}

/// Uniforms of some of the episodes.
struct Among<'a> {
    uniforms: &'a mut dyn Uniforms,
    episodes: Vec<usize>,
}

impl Uniforms for Among<'_> {
    fn next(&mut self, index: usize) -> f64 {
        self.uniforms.next(self.episodes[index])
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
            let (low, high) = (action_low.len(), action_high.len());
            let found = format!("{low} and {high} numbers");
            return Err(Error::shape("action bounds", found, action_dim));
        }
        Ok(Self {
            search,
            action_low,
            action_high,
            steps: 0,
            episodes: Vec::new(),
            streams: Streams::default(),
            instructions: None,
        })
    }

    /// A planner for a network that was trained with instructions, `known` to it.
    #[must_use]
    pub fn with_instructions(mut self, known: Arc<Instructions>) -> Self {
        self.instructions = Some(known);
        self
    }

    /// The search that it plans with.
    pub fn search(&self) -> &BeamSearch<T> {
        &self.search
    }

    /// Lowest and highest action (A each).
    pub fn action_bounds(&self) -> (&[f32], &[f32]) {
        (&self.action_low, &self.action_high)
    }

    /// [`Policy::act`] with the draws of `uniforms`, by row, in place of the episodes' own streams.
    ///
    /// # Errors
    /// If shapes do not fit or the network fails.
    pub fn act_with(
        &mut self,
        observations: &Tensor,
        active: &[bool],
        uniforms: &mut dyn Uniforms,
    ) -> Result<Tensor> {
        let step = self.steps % self.search.config().plan_every_steps;
        if step == 0 {
            self.plan(observations, active, uniforms)?;
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

    /// What the plans of the active episodes start from: their context and `observations` (E, O).
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn prefixes(&self, observations: &Tensor, active: &[bool]) -> Result<Vec<Prefix>> {
        let observations = self.rows(observations, active)?;
        let rows = self.episodes.iter().zip(&observations).zip(active);
        let prefix = |((episode, observation), _): ((&Episode, &Vec<f32>), &bool)| {
            let mut tokens: Vec<u32> = episode.context.iter().flatten().copied().collect();
            let observation: Vec<f64> = observation.iter().map(|&x| f64::from(x)).collect();
            let discretizer = &self.search.model().discretizer;
            discretizer.encode_slice(&observation, 0, &mut tokens);
            Prefix {
                tokens,
                goal: episode.goal.clone(),
                instruction: episode.instruction.clone(),
            }
        };
        Ok(rows.filter(|(_, active)| **active).map(prefix).collect())
    }

    /// Plans for the active episodes from `observations` (E, O) and keeps the plans. Draws from
    /// `uniforms`, by row.
    fn plan(
        &mut self,
        observations: &Tensor,
        active: &[bool],
        uniforms: &mut dyn Uniforms,
    ) -> Result<()> {
        let prefixes = self.prefixes(observations, active)?;
        let episodes: Vec<usize> = (0..active.len()).filter(|&row| active[row]).collect();
        let mut uniforms = Among { uniforms, episodes };
        let plans = self.search.plan(&prefixes, &mut uniforms)?;
        for (&row, plan) in uniforms.episodes.iter().zip(plans) {
            self.episodes[row].plan = Some(plan);
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
            let found = format!("{:?} and {} flags", observations.dims(), active.len());
            return Err(Error::shape("observations", found, format!("{expected:?}")));
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

    fn needs_instruction(&self) -> bool {
        self.instructions.is_some()
    }

    fn imagined(&self, episode: usize) -> Result<Option<Imagined>> {
        let Some(plan) = self
            .episodes
            .get(episode)
            .and_then(|episode| episode.plan.as_ref())
        else {
            return Ok(None);
        };
        let SearchModel {
            discretizer,
            observation_dim: o,
            ..
        } = self.search.model();
        let (d, o) = (discretizer.dims(), *o);
        let decoded: Vec<f32> = plan
            .tokens
            .iter()
            .enumerate()
            .map(|(at, &token)| discretizer.decode(token, at % d) as f32)
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
        self.streams = Streams(episodes.iter().map(|start| start.rng.clone()).collect());
        for start in episodes {
            let goal = self.goal(start)?;
            let known = self.instructions.as_deref();
            let instruction = known
                .map(|known| known.asked(start.instruction.as_deref()))
                .transpose()?;
            self.episodes.push(Episode {
                goal,
                instruction: instruction.map(<[f32]>::to_vec),
                context: VecDeque::new(),
                plan: None,
                pending: None,
            });
        }
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let mut streams = std::mem::take(&mut self.streams);
        let actions = self.act_with(observations, active, &mut streams);
        self.streams = streams;
        actions
    }

    fn took(&mut self, actions: &Tensor) -> Result<()> {
        let expected = (self.episodes.len(), self.action_low.len());
        if actions.dims() != [expected.0, expected.1] {
            let found = format!("{:?}", actions.dims());
            return Err(Error::shape("actions", found, format!("{expected:?}")));
        }
        let taken = actions.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let o = self.search.model().observation_dim;
        for (episode, action) in self.episodes.iter_mut().zip(taken) {
            if let Some(pending) = &mut episode.pending {
                pending[o..].copy_from_slice(&action);
            }
        }
        Ok(())
    }

    /// Without a plan: searching is slow, and what was done is known.
    fn recall(&mut self, observations: &Tensor, actions: &Tensor, rewards: &[f32]) -> Result<()> {
        let rows = self.rows(observations, &vec![true; rewards.len()])?;
        for (episode, row) in self.episodes.iter_mut().zip(&rows) {
            let mut pending: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            pending.resize(row.len() + self.action_low.len(), 0.0);
            episode.pending = Some(pending);
        }
        self.took(actions)?;
        self.observe(rewards)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        if rewards.len() != self.episodes.len() {
            let expected = format!("{}, one for each episode", self.episodes.len());
            return Err(Error::shape("rewards", rewards.len(), expected));
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
