//! Episodes of a trained run, recorded step by step with what the policy expected: those that `evaluate` scores with the same
//! seed.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::app::config::values;
use crate::app::evaluate::{Evaluator, RecordedStep, Recorder};
use crate::app::report::contract::{Episode, Future, Maze, Plan};
use crate::app::report::thin::{all_rounded, kept_steps, rounded};
use crate::app::run::TrainedRun;
use crate::app::scoring;
use crate::envs::pointmaze::{GOAL_RADIUS, Layout};
use crate::envs::rooms::Room;
use trajformer_core::error::Result;
use trajformer_core::policy::{EpisodeStart, Imagined};
use trajformer_core::watched::Watched;

/// Steps of an episode that are kept.
const MOST_STEPS: usize = 200;
/// Dimensions of observations, of actions and of imagined observations that are kept.
const MOST_DIMENSIONS: usize = 18;
const MOST_ACTIONS: usize = 8;
const MOST_PLAN_DIMENSIONS: usize = 4;
/// Futures of a plan that are kept, the best ones.
const MOST_FUTURES: usize = 6;

/// A recorded episode, before it is thinned.
pub(crate) struct Recorded {
    env: String,
    seed: u64,
    number: usize,
    start: Start,
    total: f64,
    steps: Vec<Step>,
    terminated: bool,
    truncated: bool,
    /// Values of the actions, in the order of the steps.
    values: Option<Vec<f32>>,
    plans: Vec<Imagination>,
}

#[derive(Clone, Default)]
struct Start {
    goal: Option<Vec<f32>>,
    instruction: Option<Arc<str>>,
}

struct Step {
    observation: Vec<f32>,
    action: Vec<f32>,
    reward: f32,
    /// Return that is still asked for.
    asked: Option<f64>,
}

/// The best futures of a plan.
struct Imagination {
    step: usize,
    /// (futures, horizon, O).
    observations: Vec<Vec<Vec<f32>>>,
    /// (futures, horizon).
    rewards: Vec<Vec<f32>>,
    /// (futures, horizon).
    values: Vec<Vec<f32>>,
    scores: Vec<f64>,
}

/// Records `episodes` episodes of a run in its environment.
///
/// # Errors
/// If the run does not fit its environment or an episode fails.
pub(crate) fn record(run: &mut TrainedRun, episodes: usize) -> Result<Vec<Recorded>> {
    let mut settings = run.config.evaluation();
    settings.episodes = episodes;
    let mut evaluator = scoring::evaluator(&settings)?;
    scoring::get_ready(run, &evaluator)?;
    let mut policy = run.algorithm.policy()?;
    let target = policy.usual_target();
    let offered = offered_goal(&evaluator);
    let mut plans: Vec<Vec<Imagination>> = (0..episodes).map(|_| Vec::new()).collect();
    let mut watched = Watched::new(&mut *policy, |policy, acted| {
        for row in (0..acted.active.len()).filter(|&row| acted.active[row]) {
            let Some(imagined) = policy.imagined(row)? else {
                continue;
            };
            // Between plans it is the last one that is seen again.
            let known = plans[row].last();
            let next = Imagination::of(acted.step, &imagined)?;
            if known.is_none_or(|known| !known.is_same(&next)) {
                plans[row].push(next);
            }
        }
        Ok(())
    });
    let starts = RefCell::new(Vec::new());
    let mut steps = Steps {
        target: target.map(f64::from),
        rows: (0..episodes).map(|_| Row::default()).collect(),
    };
    let keep = |start: &mut EpisodeStart| {
        starts.borrow_mut().push(Start {
            goal: start.goal.clone(),
            instruction: start.instruction.clone(),
        });
    };
    let evaluation = evaluator.run_with(&mut watched, keep, Some(&mut steps))?;
    let mut recorded = Vec::with_capacity(episodes);
    if !learns_values(run)? {
        let all = plans.iter_mut().flatten();
        all.for_each(|plan| plan.values.iter_mut().for_each(Vec::clear));
    }
    let rows = steps.rows.into_iter().zip(plans);
    for (number, ((row, plans), start)) in rows.zip(starts.into_inner()).enumerate() {
        let goal = start.goal.clone().or_else(|| offered.clone());
        recorded.push(Recorded {
            env: evaluation.env.clone(),
            seed: settings.seed,
            number,
            start: Start { goal, ..start },
            total: evaluation.returns[number],
            values: action_values(run, &row.steps)?,
            steps: row.steps,
            terminated: row.terminated,
            truncated: row.truncated,
            plans,
        });
    }
    Ok(recorded)
}

/// Whether values of plans mean anything: `value = "none"` is for models that learn none.
fn learns_values(run: &TrainedRun) -> Result<bool> {
    let key = format!("algorithm.{}.value", run.config.algorithm.name());
    let found = values(&run.config)?.remove(&key);
    Ok(found.is_none_or(|value| value.as_str() != Some("none")))
}

/// The maze's own goal, where policies that need none are rewarded.
fn offered_goal(evaluator: &Evaluator) -> Option<Vec<f32>> {
    let layout = Layout::named(&evaluator.spec().name)?;
    Some(layout.goal().map(|place| place as f32).to_vec())
}

/// What the critics think of the actions, where there are critics.
fn action_values(run: &TrainedRun, steps: &[Step]) -> Result<Option<Vec<f32>>> {
    let table = |rows: Vec<&Vec<f32>>| {
        let width = rows.first().map_or(0, |row| row.len());
        let numbers: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
        Tensor::from_vec(numbers, (rows.len(), width), &Device::Cpu)
    };
    let observations = table(steps.iter().map(|step| &step.observation).collect())?; // (T, O)
    let actions = table(steps.iter().map(|step| &step.action).collect())?; // (T, A)
    let found = run.algorithm.action_values(&observations, &actions)?;
    Ok(found.map(|values| values.to_vec1()).transpose()?)
}

/// Keeps every step.
struct Steps {
    /// The return that episodes aim at.
    target: Option<f64>,
    rows: Vec<Row>,
}

#[derive(Default)]
struct Row {
    steps: Vec<Step>,
    sum: f64,
    terminated: bool,
    truncated: bool,
}

impl Recorder for Steps {
    fn record(&mut self, step: RecordedStep<'_>) {
        let row = &mut self.rows[step.row];
        row.steps.push(Step {
            observation: step.observation.to_vec(),
            action: step.action.to_vec(),
            reward: step.reward,
            asked: self.target.map(|target| target - row.sum),
        });
        row.sum += f64::from(step.reward);
        (row.terminated, row.truncated) = (step.terminated, step.truncated);
    }
}

impl Imagination {
    fn of(step: usize, imagined: &Imagined) -> Result<Self> {
        let best = imagined.scores.len().min(MOST_FUTURES);
        let part = |of: &Tensor| of.narrow(0, 0, best);
        Ok(Self {
            step,
            observations: part(&imagined.observations)?.to_vec3()?,
            rewards: part(&imagined.rewards)?.to_vec2()?,
            values: part(&imagined.values)?.to_vec2()?,
            scores: imagined.scores[..best].to_vec(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.scores == other.scores && self.observations == other.observations
    }

    /// Numbers that a page keeps of it.
    fn size(&self, dims: usize) -> usize {
        self.rewards.iter().map(Vec::len).sum::<usize>() * (dims + 2)
    }
}

impl Recorded {
    /// Whether a planner made it.
    pub(crate) fn is_planned(&self) -> bool {
        !self.plans.is_empty()
    }

    /// Its steps.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Its place among the episodes of the evaluation.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The evaluation's seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Undiscounted return.
    pub(crate) fn total(&self) -> f64 {
        self.total
    }

    /// What it was told to do.
    pub(crate) fn instruction(&self) -> Option<&str> {
        self.start.instruction.as_deref()
    }

    /// Observation before a step (O).
    pub(crate) fn observation(&self, step: usize) -> &[f32] {
        &self.steps[step].observation
    }

    /// Action of a step (A).
    pub(crate) fn action(&self, step: usize) -> &[f32] {
        &self.steps[step].action
    }

    /// Reward of a step.
    pub(crate) fn reward(&self, step: usize) -> f32 {
        self.steps[step].reward
    }

    /// The plan that was followed at a step: how many steps earlier it was made, and its futures (futures, horizon, O), best first.
    pub(crate) fn plan(&self, step: usize) -> Option<(usize, &[Vec<Vec<f32>>])> {
        let plan = self.plans.iter().rev().find(|plan| plan.step <= step)?;
        Some((step - plan.step, &plan.observations))
    }

    /// As a page shows it, with at most `numbers` numbers of plans.
    pub(super) fn thinned(&self, numbers: usize) -> Episode {
        let (every, kept) = kept_steps(self.steps.len(), MOST_STEPS);
        let maze = Layout::named(&self.env).map(|layout| layout.name().to_owned());
        let observation_dim = self.steps.first().map_or(0, |step| step.observation.len());
        let action_dim = self.steps.first().map_or(0, |step| step.action.len());
        let observation_dims = self.moving(MOST_DIMENSIONS);
        let plan_dims = if self.plans.is_empty() {
            Vec::new()
        } else if maze.is_some() {
            vec![0, 1]
        } else {
            self.moving(MOST_PLAN_DIMENSIONS)
        };
        let mut sum = 0.0;
        let sums: Vec<f64> = self
            .steps
            .iter()
            .map(|step| {
                sum += f64::from(step.reward);
                sum
            })
            .collect();
        let asked = kept.iter().map(|&at| self.steps[at].asked.map(rounded));
        let planned = self.planned_values();
        let values = self.values.as_ref().or(planned.as_ref());
        let over_steps =
            |of: &dyn Fn(&Step) -> f32| all_rounded(kept.iter().map(|&at| of(&self.steps[at])));
        Episode {
            env: self.env.clone(),
            seed: self.seed,
            number: self.number,
            instruction: self.start.instruction.as_deref().map(str::to_owned),
            total: self.total,
            length: self.steps.len(),
            terminated: self.terminated,
            truncated: self.truncated,
            every,
            reward: over_steps(&|step| step.reward),
            return_so_far: kept.iter().map(|&at| rounded(sums[at])).collect(),
            value: values.map(|values| all_rounded(kept.iter().map(|&at| values[at]))),
            value_name: match (&self.values, &planned) {
                (Some(_), _) => Some("Q of the action"),
                (None, Some(_)) => Some("Value in the plan"),
                (None, None) => None,
            },
            asked: asked.collect(),
            observations: observation_dims
                .iter()
                .map(|&dim| over_steps(&|step| step.observation[dim]))
                .collect(),
            observation_dims,
            observation_dim,
            actions: (0..action_dim.min(MOST_ACTIONS))
                .map(|dim| over_steps(&|step| step.action[dim]))
                .collect(),
            action_dims: (0..action_dim.min(MOST_ACTIONS)).collect(),
            goal: maze.as_ref().and_then(|_| self.place_to_reach()),
            maze,
            plans: self.thinned_plans(&plan_dims, numbers),
            plan_dims,
            step: kept,
        }
    }

    /// The goal, or the middle of the room that the instruction names.
    pub(crate) fn place_to_reach(&self) -> Option<[f64; 2]> {
        let room = self.start.instruction.as_deref().map(Room::named_in);
        if let Some(Ok(room)) = room {
            return Some([room.middle.0 as f64 + 0.5, room.middle.1 as f64 + 0.5]);
        }
        match self.start.goal.as_deref() {
            Some([x, y, ..]) => Some([f64::from(*x), f64::from(*y)]),
            _ => None,
        }
    }

    /// Dimensions of the observation, all or the `most` whose range is widest, in order.
    fn moving(&self, most: usize) -> Vec<usize> {
        let width = self.steps.first().map_or(0, |step| step.observation.len());
        let range = |dim: usize| {
            let values = self.steps.iter().map(|step| step.observation[dim]);
            let (low, high) = values.fold((f32::MAX, f32::MIN), |(low, high), value| {
                (low.min(value), high.max(value))
            });
            high - low
        };
        let mut dims: Vec<usize> = (0..width).collect();
        if width > most {
            dims.sort_by(|&a, &b| range(b).total_cmp(&range(a)));
            dims.truncate(most);
            dims.sort_unstable();
        }
        dims
    }

    /// What the plan that was followed expected from each step on; `None` without plans, and of models that learn no values.
    fn planned_values(&self) -> Option<Vec<f32>> {
        let mut plans = self.plans.iter().peekable();
        let mut now = plans.next()?;
        let values = (0..self.steps.len()).map(|step| {
            while let Some(next) = plans.next_if(|next| next.step <= step) {
                now = next;
            }
            let ahead = step.saturating_sub(now.step);
            now.values[0].get(ahead).or(now.values[0].last()).copied()
        });
        values.collect()
    }

    fn thinned_plans(&self, dims: &[usize], numbers: usize) -> Vec<Plan> {
        let size = self
            .plans
            .iter()
            .map(|plan| plan.size(dims.len()))
            .sum::<usize>();
        let every = size.div_ceil(numbers.max(1)).max(1);
        let plan = |plan: &Imagination| Plan {
            step: plan.step,
            futures: (0..plan.scores.len())
                .map(|future| Future {
                    observations: dims
                        .iter()
                        .map(|&dim| {
                            all_rounded(plan.observations[future].iter().map(|step| step[dim]))
                        })
                        .collect(),
                    rewards: all_rounded(plan.rewards[future].iter().copied()),
                    values: all_rounded(plan.values[future].iter().copied()),
                    score: rounded(plan.scores[future]),
                })
                .collect(),
        };
        self.plans.iter().step_by(every).map(plan).collect()
    }
}

/// The maze that an environment is.
pub(super) fn maze(env: &str) -> Option<Maze> {
    let layout = Layout::named(env)?;
    let (columns, rows) = layout.size();
    let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
    let has_rooms = env == crate::envs::rooms::MAZE;
    Some(Maze {
        columns,
        rows,
        walls: cells
            .map(|(column, row)| {
                if layout.is_wall(column, row) {
                    '#'
                } else {
                    '.'
                }
            })
            .collect(),
        goal_radius: if has_rooms { 1.5 } else { GOAL_RADIUS },
    })
}
