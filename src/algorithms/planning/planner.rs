//! [`BeamPlanner`]: a policy that plans with beam search and executes the best plan's actions.

use std::collections::VecDeque;
use std::sync::Arc;
use trajformer_core::policy::Imagined;

use candle_core::{DType, Device, Tensor};
use trajformer_models::kernels::decode::Float;

use crate::planning::beam_search::{BeamSearch, Offset, Plan, Prefix, SearchModel};
use crate::planning::budget::{Allowance, Budget};
use crate::planning::companion::Companion;
use crate::planning::plan_config::PlanValue;
use crate::planning::sampling::Uniforms;
use trajformer_core::clock::Clock;
use trajformer_core::error::{Error, Result};
use trajformer_core::instructions::Instructions;
use trajformer_core::planning::{Decision, PlanningSummary};
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
///
/// Where plans have a budget, episodes are searched one after the other, each within its own, and a plan that ends early is followed
/// by the next one.
#[derive(Debug)]
pub struct BeamPlanner<T = f32> {
    search: BeamSearch<T>,
    action_low: Vec<f32>,
    action_high: Vec<f32>,
    steps: usize,
    episodes: Vec<Episode>,
    streams: Streams,
    /// What a plan may cost, if that is limited.
    allowance: Option<Allowance>,
    record: Record,
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
    /// Steps that were taken since it was made.
    age: usize,
    /// Discounted rewards of these steps.
    earned: f64,
    /// Where plans have a budget: what this one was made from.
    origin: Option<(Prefix, Rng)>,
    /// The last step, until its reward is known: observation and action.
    pending: Option<Vec<f64>>,
}

/// What plans within a budget were.
#[derive(Debug, Default)]
struct Record {
    decisions: Vec<Decision>,
    /// Returns that plans and full searches in their place promised.
    compared: Vec<(f64, f64)>,
}

/// The episodes' own random streams (E).
#[derive(Debug, Default)]
struct Streams(Vec<Rng>);

impl Uniforms for Streams {
    fn next(&mut self, episode: usize) -> f64 {
        self.0[episode].uniform()
    }

    fn stream(&self, episode: usize) -> Option<Rng> {
        self.0.get(episode).cloned()
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
        let budget = search.config().budget();
        Ok(Self {
            allowance: budget.map(|budget| Allowance::new(budget, None)),
            record: Record::default(),
            search,
            action_low,
            action_high,
            steps: 0,
            episodes: Vec::new(),
            streams: Streams::default(),
            instructions: None,
        })
    }

    /// A planner that takes the time of its plans, where they have a budget, by this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        let budget = self.search.config().budget();
        self.allowance = budget.map(|budget| Allowance::new(budget, Some(clock)));
        self
    }

    /// Plans since the episodes began, where they have a budget.
    pub fn decisions(&self) -> &[Decision] {
        &self.record.decisions
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
        let due = self
            .steps
            .is_multiple_of(self.search.config().plan_every_steps);
        let plans: Vec<bool> = self
            .episodes
            .iter()
            .zip(active)
            .map(|(episode, &active)| active && (due || self.is_over(episode)))
            .collect();
        if due || plans.contains(&true) {
            self.plan(observations, &plans, uniforms)?;
        }
        self.steps += 1;
        let rows = self.rows(observations, active)?;
        let mut actions = vec![0.0f32; rows.len() * self.action_low.len()];
        let outputs = actions.chunks_exact_mut(self.action_low.len());
        for (((index, row), &active), output) in rows.iter().enumerate().zip(active).zip(outputs) {
            let Some(plan) = self.episodes[index].plan.as_ref().filter(|_| active) else {
                continue;
            };
            output.copy_from_slice(&self.planned_action(plan, self.episodes[index].age));
            let joined = row
                .iter()
                .chain(output.iter())
                .map(|&x| f64::from(x))
                .collect();
            self.episodes[index].pending = Some(joined);
            self.episodes[index].age += 1;
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
        let plans = match self.allowance.take() {
            None => self.search.plan(&prefixes, &mut uniforms)?,
            Some(mut allowance) => {
                let plans = self.plan_within(&prefixes, &mut uniforms, &mut allowance);
                self.allowance = Some(allowance);
                plans?
            }
        };
        for (&row, plan) in uniforms.episodes.iter().zip(plans) {
            let episode = &mut self.episodes[row];
            (episode.plan, episode.age, episode.earned) = (Some(plan), 0, 0.0);
        }
        Ok(())
    }

    /// Plans one after the other, each within the allowance.
    fn plan_within(
        &mut self,
        prefixes: &[Prefix],
        uniforms: &mut Among<'_>,
        allowance: &mut Allowance,
    ) -> Result<Vec<Plan>> {
        let mut plans = Vec::with_capacity(prefixes.len());
        for (index, prefix) in prefixes.iter().enumerate() {
            let row = uniforms.episodes[index];
            let going_on = self.going_on(&self.episodes[row], prefix);
            // Its draws are still to come: streams are away while actions are chosen.
            self.episodes[row].origin = uniforms
                .uniforms
                .stream(row)
                .map(|rng| (prefix.clone(), rng));
            let mut own = Offset {
                uniforms: &mut *uniforms,
                first: index,
            };
            let (plan, decision) = self
                .search
                .plan_within(prefix, going_on, &mut own, allowance)?;
            self.record.decisions.push(decision);
            plans.push(plan);
        }
        Ok(plans)
    }

    /// What remains of an episode's plan, at the observation that `prefix` ends with.
    fn going_on(&self, episode: &Episode, prefix: &Prefix) -> Option<Companion> {
        let model = self.search.model();
        let (d, o) = (model.discretizer.dims(), model.observation_dim);
        let plan = episode.plan.as_ref()?;
        let best = &plan.tokens[..plan.tokens.len() / plan.scores.len()];
        let left = best.get(episode.age * d..)?;
        let passed = self.search.discount().powi(episode.age as i32);
        if passed == 0.0 {
            return None;
        }
        let promised = (plan.scores.first()? - episode.earned) / passed;
        let observation = &prefix.tokens[prefix.tokens.len() - o..];
        Companion::new(left, d, observation, promised)
    }

    /// Whether an episode has a plan and has carried it out: one that was cut may be short.
    fn is_over(&self, episode: &Episode) -> bool {
        let d = self.search.model().discretizer.dims();
        let plan = episode.plan.as_ref();
        plan.is_some_and(|plan| plan.tokens.len() <= episode.age * d * plan.scores.len())
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
        let transitions = plan.tokens.len() / (plan.scores.len() * d);
        let shape = (plan.scores.len(), transitions, d);
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

    fn planning(&self) -> Option<PlanningSummary> {
        let budget_ms = match self.search.config().budget()? {
            Budget::Seconds(seconds) => Some(seconds * 1e3),
            Budget::Tokens(_) => None,
        };
        let (decisions, compared) = (&self.record.decisions, &self.record.compared);
        let summary = PlanningSummary::of(decisions, budget_ms, compared)?;
        let by_critic = self.search.config().value == PlanValue::Critic;
        Some(PlanningSummary {
            critic_discount: by_critic.then(|| self.search.discount()),
            ..summary
        })
    }

    fn compare_plans(&mut self) -> Result<()> {
        for episode in &mut self.episodes {
            // Each plan is compared once.
            let (Some(plan), Some((prefix, rng))) = (&episode.plan, episode.origin.take()) else {
                continue;
            };
            let mut draws = Streams(vec![rng.clone()]);
            let full = self
                .search
                .plan(std::slice::from_ref(&prefix), &mut draws)?;
            let pair = (
                plan.scores.first(),
                full.first().and_then(|full| full.scores.first()),
            );
            if let (Some(&found), Some(&full)) = pair {
                self.record.compared.push((found, full));
            }
        }
        Ok(())
    }

    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.steps = 0;
        self.record = Record::default();
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
                age: 0,
                earned: 0.0,
                origin: None,
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
        let (config, discount) = (self.search.config(), self.search.discount());
        let keep = if config.prefix_context {
            config.max_context_transitions
        } else {
            0
        };
        for (episode, &reward) in self.episodes.iter_mut().zip(rewards) {
            let Some(mut transition) = episode.pending.take() else {
                continue;
            };
            if episode.age > 0 {
                let passed = discount.powi(episode.age as i32 - 1);
                episode.earned += passed * self.search.scored_reward(f64::from(reward));
            }
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
