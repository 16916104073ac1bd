//! A planner's episodes with what it imagined held against what happens, and its search in the simulator.

use std::collections::HashSet;

use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::app::diagnose::episodes::{Actor, Rolled};
use crate::envs::VectorEnv;
use trajformer_algorithms::planning::sampling::Uniforms;
use trajformer_algorithms::planning::simulated::{SimulatedOptions, SimulatedSearch};
use trajformer_algorithms::planning::{BeamPlanner, Plan};
use trajformer_core::environment::Environment;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Imagined, Policy};
use trajformer_core::statistics::mean_std;
use trajformer_models::rng::Rng;

/// Rewards beyond a cut of an episode that count less than this are as good as known.
const NEGLIGIBLE: f64 = 0.1;

/// What a planner expected, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Imagination {
    /// Plans that were looked at.
    pub plans: usize,
    /// Errors after 1, 2, ... imagined steps, the actions of the chosen plan being carried out without planning again. Empty where
    /// the simulator can't be copied.
    pub horizon: Vec<HorizonError>,
    /// Action sequences that differ from each other among those that a search ended with, on average over plans: 1 where every
    /// candidate is the same, and nothing is searched. NaN (null in JSON) without plans.
    pub distinct: f64,
    /// Plans that imagined an end of the task: a reward in the bin of the penalty for it. 0 where the data has none.
    pub ends_imagined: usize,
    /// Plans whose actions led to an end of the task.
    pub ends_come: usize,
    /// Predicted and realised returns of decisions. Empty where the search maximises something else.
    pub decisions: Vec<Decision>,
    /// Summary of them.
    pub returns: Option<Returns>,
}

/// How far imagined steps are from what happens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HorizonError {
    /// Actions since the plan was made.
    pub steps: usize,
    /// Plans whose episode went on so far.
    pub plans: usize,
    /// Imagined less true observation, root mean square over dimensions and the plans that go on after this step, in the data's standard
    /// deviations. `None` after the last action of all plans, whose outcome is not imagined: plans that a budget has cut end earlier.
    pub observation: Option<f64>,
    /// The same if nothing had changed since the plan was made: what an error has to be held against.
    pub unchanged: Option<f64>,
    /// Imagined less true reward, root mean square over plans that neither ended here nor imagined so, in the data's standard
    /// deviations.
    pub reward: Option<f64>,
}

/// One plan: what it promised, and what the episode then brought.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Decision {
    /// Episode.
    pub episode: usize,
    /// Step.
    pub step: usize,
    /// What the search maximised: discounted rewards and the value after them.
    pub predicted: f64,
    /// Discounted rewards from there on, as the episode went, with new plans on the way.
    pub realized: f64,
}

/// Predicted against realised returns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Returns {
    /// Decisions whose realised return is known.
    pub decisions: usize,
    /// Mean of what was predicted.
    pub predicted: f64,
    /// Mean of what came.
    pub realized: f64,
    /// Correlation of the two; NaN (null in JSON) where one does not vary.
    pub correlation: f64,
}

/// Standard deviations of the data's numbers.
#[derive(Debug, Clone)]
pub(super) struct Units {
    /// (O); 1 where an observation does not vary.
    pub observation: Vec<f64>,
    pub reward: f64,
}

/// A planner that can be watched: what its search looks for, and what it imagines.
pub(super) trait Imagining {
    fn policy(&self) -> &dyn Policy;
    fn policy_mut(&mut self) -> &mut dyn Policy;
    /// Transitions of a plan.
    fn horizon(&self) -> usize;
    /// Steps that follow one plan.
    fn plan_every_steps(&self) -> usize;
    /// Lowest and highest actions (A each).
    fn bounds(&self) -> (&[f32], &[f32]);
    /// Of the returns that it maximises.
    fn discount(&self) -> f64;
    /// What a reward counts in them.
    fn scored_reward(&self, reward: f64) -> f64;
    /// The return that the best plan promises.
    fn promised(&self, imagined: &Imagined) -> Result<f64>;
    /// Whether an imagined reward is that of an end, whose reward training has set to `end`.
    fn is_end(&self, reward: f32, end: f64) -> bool;
}

impl Imagining for BeamPlanner {
    fn policy(&self) -> &dyn Policy {
        self
    }

    fn policy_mut(&mut self) -> &mut dyn Policy {
        self
    }

    fn horizon(&self) -> usize {
        self.search().config().horizon
    }

    fn plan_every_steps(&self) -> usize {
        self.search().config().plan_every_steps
    }

    fn bounds(&self) -> (&[f32], &[f32]) {
        self.action_bounds()
    }

    fn discount(&self) -> f64 {
        self.search().discount()
    }

    fn scored_reward(&self, reward: f64) -> f64 {
        self.search().scored_reward(reward)
    }

    fn promised(&self, imagined: &Imagined) -> Result<f64> {
        Ok(imagined.scores[0])
    }

    /// In the same bin. Data in which nothing ends has no bin for it.
    fn is_end(&self, reward: f32, end: f64) -> bool {
        let discretizer = &self.search().model().discretizer;
        let dim = discretizer.dims() - 2;
        discretizer.thresholds(dim)[0] <= end
            && discretizer.encode(f64::from(reward), dim) == discretizer.encode(end, dim)
    }
}

/// A planner as it is, watched.
pub(super) struct Watched<P> {
    pub planner: P,
    pub units: Units,
    pub ending_reward: Option<f64>,
    promises: Vec<(usize, usize, f64)>,
    sums: Vec<Sums>,
    plans: usize,
    distinct: usize,
    ends_imagined: usize,
    ends_come: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    plans: usize,
    /// Plans whose outcome is imagined: those that go on after this step.
    outcomes: usize,
    observation: f64,
    unchanged: f64,
    reward: f64,
    /// Plans whose reward counts.
    rewards: usize,
}

impl<P: Imagining> Watched<P> {
    pub fn new(planner: P, units: Units, ending_reward: Option<f64>) -> Self {
        let horizon = planner.horizon();
        Self {
            planner,
            units,
            ending_reward,
            promises: Vec::new(),
            sums: vec![Sums::default(); horizon],
            plans: 0,
            distinct: 0,
            ends_imagined: 0,
            ends_come: 0,
        }
    }

    /// Holds a plan against what its actions lead to.
    fn compare(
        &mut self,
        imagined: &Imagined,
        mut env: Box<dyn Environment>,
        now: &[f32],
    ) -> Result<()> {
        let observations = imagined.observations.get(0)?.to_vec2::<f32>()?;
        let actions = imagined.actions.get(0)?.to_vec2::<f32>()?;
        let rewards = imagined.rewards.get(0)?.to_vec1::<f32>()?;
        let (low, high) = self.planner.bounds();
        let unit = |dim: usize| self.units.observation[dim];
        let square = |found: &[f32], expected: &[f32]| -> f64 {
            let pairs = found.iter().zip(expected).enumerate();
            let sum: f64 = pairs
                .map(|(dim, (a, b))| (f64::from(a - b) / unit(dim)).powi(2))
                .sum();
            sum / expected.len() as f64
        };
        let end = self.ending_reward;
        let is_end = |reward: f32| end.is_some_and(|end| self.planner.is_end(reward, end));
        self.ends_imagined += usize::from(rewards.iter().any(|&reward| is_end(reward)));
        for (at, action) in actions.iter().enumerate() {
            let bounds = low.iter().zip(high);
            let action: Vec<f32> = action
                .iter()
                .zip(bounds)
                .map(|(x, (low, high))| x.max(*low).min(*high))
                .collect();
            let step = env.step(&action)?;
            let sums = &mut self.sums[at];
            sums.plans += 1;
            if !step.terminated && !is_end(rewards[at]) {
                let error = f64::from(rewards[at] - step.reward);
                sums.reward += (error / self.units.reward).powi(2);
                sums.rewards += 1;
            }
            self.ends_come += usize::from(step.terminated);
            if let Some(imagined) = observations.get(at + 1) {
                sums.outcomes += 1;
                sums.observation += square(imagined, &step.observation);
                sums.unchanged += square(now, &step.observation);
            }
            if step.terminated || step.truncated {
                break;
            }
        }
        Ok(())
    }

    /// What was found, once the episodes have run.
    pub fn found(&self, rolled: &Rolled, by_return: bool) -> Imagination {
        let planner = &self.planner;
        let discount = planner.discount();
        let realized = |&(episode, step, predicted): &(usize, usize, f64)| {
            let rewards = &rolled.rewards[episode][step..];
            let known = rolled.ended[episode] || discount.powi(rewards.len() as i32) <= NEGLIGIBLE;
            let last = rewards.len() - 1;
            let mut sum = 0.0;
            for (at, &reward) in rewards.iter().enumerate().rev() {
                let falls = rolled.terminated[episode] && at == last;
                let penalty = self.ending_reward.filter(|_| falls);
                let counted = penalty.unwrap_or_else(|| f64::from(reward));
                sum = planner.scored_reward(counted) + discount * sum;
            }
            known.then_some(Decision {
                episode,
                step,
                predicted,
                realized: sum,
            })
        };
        let decisions: Vec<Decision> = if by_return {
            self.promises.iter().filter_map(realized).collect()
        } else {
            Vec::new()
        };
        let root = |sum: f64, plans: usize| (sum / plans as f64).sqrt();
        let errors = self.sums.iter().enumerate();
        let horizon = errors
            .filter(|(_, sums)| sums.plans > 0)
            .map(|(at, sums)| HorizonError {
                steps: at + 1,
                plans: sums.plans,
                observation: (sums.outcomes > 0).then(|| root(sums.observation, sums.outcomes)),
                unchanged: (sums.outcomes > 0).then(|| root(sums.unchanged, sums.outcomes)),
                reward: (sums.rewards > 0).then(|| root(sums.reward, sums.rewards)),
            });
        Imagination {
            plans: self.plans,
            horizon: horizon.collect(),
            distinct: self.distinct as f64 / self.plans as f64,
            ends_imagined: self.ends_imagined,
            ends_come: self.ends_come,
            returns: summary(&decisions),
            decisions,
        }
    }
}

impl<P: Imagining> Actor for Watched<P> {
    fn begin(&mut self, starts: &[EpisodeStart]) -> Result<()> {
        self.planner.policy_mut().begin(starts)
    }

    fn act(&mut self, step: usize, envs: &VectorEnv, active: &[bool]) -> Result<Tensor> {
        let policy = self.planner.policy_mut();
        let actions = policy.act(&envs.observations()?, active)?;
        if step.is_multiple_of(self.planner.plan_every_steps()) {
            for row in (0..active.len()).filter(|&row| active[row]) {
                let Some(imagined) = self.planner.policy().imagined(row)? else {
                    continue;
                };
                self.plans += 1;
                self.distinct += distinct(&imagined)?;
                self.promises
                    .push((row, step, self.planner.promised(&imagined)?));
                if let Some(env) = envs.fork(row) {
                    self.compare(&imagined, env, envs.observation(row))?;
                }
            }
        }
        Ok(actions)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        self.planner.policy_mut().observe(rewards)
    }

    fn policy(&self) -> &dyn Policy {
        self.planner.policy()
    }
}

/// How many of a plan's action sequences differ from each other.
fn distinct(imagined: &Imagined) -> Result<usize> {
    let beams = imagined.actions.flatten_from(1)?.to_vec2::<f32>()?;
    let bits = |beam: Vec<f32>| -> Vec<u32> { beam.into_iter().map(f32::to_bits).collect() };
    let different: HashSet<Vec<u32>> = beams.into_iter().map(bits).collect();
    Ok(different.len())
}

fn summary(decisions: &[Decision]) -> Option<Returns> {
    let column = |of: fn(&Decision) -> f64| -> Vec<f64> { decisions.iter().map(of).collect() };
    let (predicted, realized) = (column(|d| d.predicted), column(|d| d.realized));
    let ((p, p_std), (r, r_std)) = (mean_std(&predicted), mean_std(&realized));
    let products = predicted
        .iter()
        .zip(&realized)
        .map(|(a, b)| (a - p) * (b - r));
    let covariance = products.sum::<f64>() / decisions.len() as f64;
    (!decisions.is_empty()).then_some(Returns {
        decisions: decisions.len(),
        predicted: p,
        realized: r,
        correlation: covariance / (p_std * r_std),
    })
}

/// The planner's search with the simulator in place of what it imagines.
pub(super) struct InSimulator {
    /// Remembers the past, and never plans.
    memory: BeamPlanner,
    search: SimulatedSearch<f32>,
    streams: Vec<Stream>,
    plans: Vec<Option<Plan>>,
    /// Observations and actions of the last step.
    last: Option<(Tensor, Tensor)>,
}

struct Stream(Rng);

impl Uniforms for Stream {
    fn next(&mut self, _: usize) -> f64 {
        self.0.uniform()
    }
}

impl InSimulator {
    /// # Errors
    /// If the planner maximises likelihood.
    pub fn new(planner: BeamPlanner, options: SimulatedOptions) -> Result<Self> {
        let (low, high) = planner.action_bounds();
        let options = SimulatedOptions {
            bounds: (low.to_vec(), high.to_vec()),
            choices: planner.search().choices(),
            ..options
        };
        let (model, config) = (planner.search().model(), planner.search().config());
        Ok(Self {
            search: SimulatedSearch::new(model.clone(), config.clone(), options)?,
            memory: planner,
            streams: Vec::new(),
            plans: Vec::new(),
            last: None,
        })
    }

    /// The action of step `step` of a plan, within bounds (A).
    fn action(&self, plan: &Plan, step: usize) -> Vec<f32> {
        let model = self.memory.search().model();
        let (d, o) = (model.discretizer.dims(), model.observation_dim);
        let tokens = &plan.tokens[step * d + o..(step + 1) * d - 2];
        let (low, high) = self.memory.action_bounds();
        let bounds = low.iter().zip(high);
        let decoded = tokens.iter().enumerate().zip(bounds);
        decoded
            .map(|((dim, &token), (low, high))| {
                let action = model.discretizer.decode(token, o + dim) as f32;
                action.max(*low).min(*high)
            })
            .collect()
    }
}

impl Actor for InSimulator {
    fn begin(&mut self, starts: &[EpisodeStart]) -> Result<()> {
        self.streams = starts.iter().map(|s| Stream(s.rng.clone())).collect();
        self.plans = starts.iter().map(|_| None).collect();
        self.memory.begin(starts)
    }

    fn act(&mut self, step: usize, envs: &VectorEnv, active: &[bool]) -> Result<Tensor> {
        let observations = envs.observations()?;
        let within = step % self.memory.search().config().plan_every_steps;
        if within == 0 {
            let prefixes = self.memory.prefixes(&observations, active)?;
            let rows = (0..active.len()).filter(|&row| active[row]);
            for (row, prefix) in rows.zip(&prefixes) {
                let env = envs.fork(row).ok_or_else(|| Error::Env {
                    name: envs.spec().name.clone(),
                    problem: "its state can't be saved and restored".to_owned(),
                })?;
                let plan = self.search.plan(prefix, &*env, &mut self.streams[row])?;
                self.plans[row] = Some(plan);
            }
        }
        let width = envs.spec().action_dim;
        let mut actions = Vec::with_capacity(active.len() * width);
        for (row, plan) in self.plans.iter().enumerate() {
            match plan.as_ref().filter(|_| active[row]) {
                Some(plan) => actions.extend(self.action(plan, within)),
                None => actions.extend(std::iter::repeat_n(0.0, width)),
            }
        }
        let actions = Tensor::from_vec(actions, (active.len(), width), &Device::Cpu)?;
        self.last = Some((observations, actions.clone()));
        Ok(actions)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        match self.last.take() {
            Some((observations, actions)) => self.memory.recall(&observations, &actions, rewards),
            None => Ok(()),
        }
    }

    fn policy(&self) -> &dyn Policy {
        &self.memory
    }
}
