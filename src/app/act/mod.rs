//! [`act`]: what a trained policy would do at recorded observations, without an environment.
//!
//! A policy that looks at the present observation alone answers row by row. One that remembers is walked through each episode as
//! it was recorded: at every step it says what it would do, then it is told what was really done and what followed. At the steps
//! of an evaluation of its own it does what it did there, to the last bit.

mod clock;
mod live;
mod recorded;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::app::instruct;
use crate::app::progress::Progress;
use crate::app::run::TrainedRun;
use clock::Clock;
pub use live::{Live, Starts, Traits};
use recorded::shown;
pub use recorded::{Layout, Recorded};
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_core::environment::is_choice;
use trajformer_core::error::{Error, Result};
use trajformer_core::interrupt::Interrupt;
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Streams;

/// Independent rows that are answered at a time.
const ROWS: usize = 4096;
/// Episodes that are walked through side by side.
const EPISODES: usize = 256;

/// What is asked of [`act`]; by default every step's action.
#[derive(Debug, Clone, Default)]
pub struct ActOptions {
    /// Only the action of the last step of each episode. A planner then plans once per episode, anew, instead of at every step.
    pub last: bool,
    /// Seed of policies that draw; default: the run's `evaluate.seed`. Episode `i` draws from the stream of episode `i` of an
    /// evaluation.
    pub seed: Option<u64>,
    /// Stops it, without actions.
    pub interrupt: Interrupt,
}

/// The actions, in the environment's units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Acted {
    /// (N, A) or (B, T, A), as the observations; of the last steps alone (episodes, A).
    pub shape: Vec<usize>,
    /// Row-major.
    #[serde(skip)]
    pub actions: Vec<f32>,
    /// Episodes that were walked through; `None` where rows are independent.
    pub episodes: Option<usize>,
    /// Seconds that acting took.
    pub seconds: f64,
}

/// The actions of a run's policy at recorded observations.
///
/// # Errors
/// If an array does not fit the run or is missing (says which, and its shape), a number is not finite, it is interrupted, or the policy
/// fails.
pub fn act(run: &mut TrainedRun, recorded: &Recorded, options: &ActOptions) -> Result<Acted> {
    check_widths(run, recorded)?;
    let starts = starts(run, recorded, options)?;
    let mut policy = run.algorithm.policy()?;
    check_extras(run, recorded, &*policy)?;
    let dim = run.spec.action_dim;
    let begin = Instant::now();
    let by_rows = policy.is_memoryless() && (!policy.draws() || !recorded.has_episodes);
    let actions = if by_rows {
        independent(&mut *policy, recorded, options, &run.config.evaluate.seed)?
    } else {
        check_history(run, recorded, &*policy)?;
        warn_of_actions(run, recorded);
        walk(&mut *policy, recorded, (&starts, dim), options)?
    };
    let seconds = begin.elapsed().as_secs_f64();
    check_answers(recorded, options, &actions, dim)?;
    let (actions, shape) = if options.last {
        let rows = recorded.episodes.iter().map(|episode| episode.end - 1);
        let pick = |row: usize| actions[row * dim..(row + 1) * dim].iter().copied();
        let last: Vec<f32> = rows.flat_map(pick).collect();
        (last, vec![recorded.episodes.len(), dim])
    } else {
        let shape = match recorded.layout {
            Layout::Rows => vec![recorded.rows(), dim],
            Layout::Sequences { count, steps } => vec![count, steps, dim],
        };
        (actions, shape)
    };
    Ok(Acted {
        shape,
        actions,
        episodes: (!by_rows).then_some(recorded.episodes.len()),
        seconds,
    })
}

/// Share of the range of an action by which recorded ones may lie outside of it, as rounding leaves them.
const OUTSIDE: f32 = 1e-3;

/// Says which actions of a history lie outside of the run's range: the policy has seen none such.
fn warn_of_actions(run: &TrainedRun, recorded: &Recorded) {
    let Some((width, actions)) = &recorded.actions else {
        return;
    };
    let (low, high) = (&run.spec.action_low, &run.spec.action_high);
    let is_outside = |at: usize| {
        let (value, column) = (actions[at], at % width);
        let slack = OUTSIDE * (high[column] - low[column]).abs();
        value < low[column] - slack || value > high[column] + slack
    };
    let mut outside = (0..actions.len()).filter(|&at| is_outside(at));
    if let Some(first) = outside.next() {
        let column = first % width;
        tracing::warn!(
            "{}: {} of {} numbers in `actions` lie outside of the run's range, the first one at row {}, column {column}: {}, where the \
             range is {} to {}; are they in the environment's units? What the policy makes of such a history is not learned",
            recorded.path.display(),
            1 + outside.count(),
            actions.len(),
            first / width,
            actions[first],
            low[column],
            high[column]
        );
    }
}

/// Fails if an action that was asked for is not finite: numbers of the observations were too large for the networks.
fn check_answers(
    recorded: &Recorded,
    options: &ActOptions,
    actions: &[f32],
    dim: usize,
) -> Result<()> {
    let lasts = recorded.episodes.iter().map(|episode| episode.end - 1);
    let lasts: BTreeSet<usize> = lasts.collect();
    let is_asked = |row: usize| !options.last || lasts.contains(&row);
    let is_bad = |at: &usize| !actions[*at].is_finite() && is_asked(at / dim);
    match (0..actions.len()).find(is_bad) {
        None => Ok(()),
        Some(at) => {
            let row = at / dim;
            let observation = recorded.observation(row).iter();
            let largest = observation.fold(0.0f32, |most, value| most.max(value.abs()));
            Err(Error::data(
                &recorded.path,
                format!(
                    "row {row}: the policy answers with {}; the observation there has numbers up to {largest:e}, for which its networks have no \
                     answer",
                    actions[at]
                ),
            ))
        }
    }
}

fn check_widths(run: &TrainedRun, recorded: &Recorded) -> Result<()> {
    let (o, a) = (run.spec.observation_dim, run.spec.action_dim);
    let wrong = |name: &str, found: usize, expected: usize, more: &str| {
        let problem = format!(
            "array `{name}` has {found} numbers in a row, expected {expected}: the run's have so many{more}"
        );
        Err(Error::data(&recorded.path, problem))
    };
    if recorded.observation_dim != o {
        let columns = match &run.config.data.observation_columns {
            Some(_) => {
                " (of its data it saw the columns of `data.observation_columns` only: give these)"
            }
            None => "",
        };
        return wrong("observations", recorded.observation_dim, o, columns);
    }
    match &recorded.actions {
        Some((width, _)) if *width != a => wrong("actions", *width, a, ""),
        Some((_, values)) => check_choices(run.spec.action_choices, values, recorded),
        None => Ok(()),
    }
}

/// Fails at the first action that is none of so many choices; the last of an episode is not looked at.
fn check_choices(choices: Option<usize>, actions: &[f32], recorded: &Recorded) -> Result<()> {
    let Some(count) = choices else {
        return Ok(());
    };
    let rows = recorded
        .episodes
        .iter()
        .flat_map(|episode| episode.start..episode.end - 1);
    for row in rows {
        if !is_choice(actions[row], count) {
            let problem = format!(
                "array `actions`, row {row}: {}, expected a whole number in 0..{count}: the run's actions are choices",
                actions[row]
            );
            return Err(Error::data(&recorded.path, problem));
        }
    }
    Ok(())
}

/// How each episode begins.
fn starts(
    run: &mut TrainedRun,
    recorded: &Recorded,
    options: &ActOptions,
) -> Result<Vec<EpisodeStart>> {
    let policy = run.algorithm.policy()?;
    let evaluate = run.config.evaluate.clone();
    let count = recorded.episodes.len();
    let missing = |name: &str, expected: String, key: &str| {
        Error::data(
            &recorded.path,
            format!(
                "array `{name}` is missing, expected {expected}: the run was trained with {name}; or set `{key}` for all episodes"
            ),
        )
    };
    let mut texts = None;
    if policy.needs_instruction() {
        let given = recorded.instructions.clone();
        let configured = evaluate.instructions.first();
        let all = given.or_else(|| configured.map(|text| vec![text.as_str().into(); count]));
        let all = all.ok_or_else(|| {
            let expected = format!("({count},) texts, one per episode");
            missing("instructions", expected, "evaluate.instructions")
        })?;
        instruct::teach(run, &all)?;
        texts = Some(all);
    }
    let mut goals = None;
    if policy.needs_goal() {
        let dim = recorded.observation_dim;
        let configured = evaluate.goal.filter(|goal| goal.len() == dim);
        let all = recorded
            .goals
            .clone()
            .or_else(|| configured.map(|goal| vec![goal; count]));
        let all = all.ok_or_else(|| {
            let expected = format!("({count}, {dim}), an observation per episode");
            missing("goals", expected, "evaluate.goal")
        })?;
        goals = Some(all);
    }
    // Where several returns are evaluated the first is the result.
    let target = policy.target_returns().first().copied();
    let streams = Streams::from_seed(options.seed.unwrap_or(evaluate.seed));
    let start = |episode: usize| EpisodeStart {
        rng: streams.numbered("policy", episode as u64),
        target_return: match &recorded.target_returns {
            Some(targets) => Some(targets[episode]),
            None => target,
        },
        goal: goals.as_ref().map(|goals| goals[episode].clone()),
        instruction: texts.as_ref().map(|texts| texts[episode].clone()),
    };
    Ok((0..count).map(start).collect())
}

/// Refuses arrays that the policy would not look at, though they are given to be followed.
fn check_extras(run: &TrainedRun, recorded: &Recorded, policy: &dyn Policy) -> Result<()> {
    let name = run.config.algorithm.name();
    let aims = run.config.algorithm.aims_at_returns();
    let wrong = |array: &str, why: &str| {
        let problem = format!("array `{array}`: this run ({name}) {why}; leave the array out");
        Err(Error::data(&recorded.path, problem))
    };
    if recorded.target_returns.is_some() && !aims {
        return wrong("target_returns", "aims at no return");
    }
    if recorded.goals.is_some() && !policy.needs_goal() {
        return wrong("goals", "was trained without goals");
    }
    Ok(())
}

/// Fails where the history that a policy acts by is not given.
fn check_history(run: &TrainedRun, recorded: &Recorded, policy: &dyn Policy) -> Result<()> {
    let (name, dim) = (run.config.algorithm.name(), run.spec.action_dim);
    // Chunks of actions follow from the observations that they begin at.
    let by_chunks = matches!(run.config.algorithm, AlgorithmConfig::Fast(_));
    let longer = recorded.episodes.iter().any(|episode| episode.len() > 1);
    if !longer || by_chunks || policy.is_memoryless() {
        return Ok(());
    }
    let (actions, rewards) = match recorded.layout {
        Layout::Rows => {
            let rows = recorded.rows();
            (shown(&[rows, dim]), shown(&[rows]))
        }
        Layout::Sequences { count, steps } => (shown(&[count, steps, dim]), shown(&[count, steps])),
    };
    let missing = |array: &str, expected: String| {
        Err(Error::data(
            &recorded.path,
            format!(
                "array `{array}` is missing, expected {expected}: a policy of {name} acts by what was seen, done and rewarded before \
                 in the episode; rows that are each an episode's first are (N, 1, {})",
                recorded.observation_dim
            ),
        ))
    };
    if recorded.actions.is_none() {
        return missing("actions", actions);
    }
    if recorded.rewards.is_none() {
        return missing("rewards", rewards);
    }
    Ok(())
}

/// Every row by itself (rows, A).
fn independent(
    policy: &mut dyn Policy,
    recorded: &Recorded,
    options: &ActOptions,
    configured: &u64,
) -> Result<Vec<f32>> {
    let streams = Streams::from_seed(options.seed.unwrap_or(*configured));
    let (rows, o) = (recorded.rows(), recorded.observation_dim);
    let mut actions = Vec::new();
    let progress = Progress::of("rows", 0, rows as u64);
    for first in (0..rows).step_by(ROWS) {
        progress.set(first as u64);
        if options.interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        let some = first..(first + ROWS).min(rows);
        let starts: Vec<EpisodeStart> = some
            .clone()
            .map(|row| EpisodeStart::new(streams.numbered("policy", row as u64)))
            .collect();
        policy.begin(&starts)?;
        let observations = &recorded.observations[some.start * o..some.end * o];
        let observations = Tensor::from_slice(observations, (some.len(), o), &Device::Cpu)?;
        let found = policy.act(&observations, &vec![true; some.len()])?; // (N, A)
        actions.extend(found.flatten_all()?.to_vec1::<f32>()?);
    }
    progress.finish();
    Ok(actions)
}

/// Through every episode as it was recorded (rows, A). If only last steps are asked for, other rows hold anything.
pub(crate) fn walk(
    policy: &mut dyn Policy,
    recorded: &Recorded,
    (starts, dim): (&[EpisodeStart], usize),
    options: &ActOptions,
) -> Result<Vec<f32>> {
    let mut actions = vec![0.0; recorded.rows() * dim];
    let groups = groups(&recorded.episodes, options.last);
    let steps = |group: &Range<usize>| {
        let episodes = &recorded.episodes[group.clone()];
        episodes.iter().map(Range::len).max().unwrap_or(0)
    };
    let total: usize = groups.iter().map(steps).sum();
    let asked = if options.last { groups.len() } else { total };
    let mut clock = Clock::new(total - asked, asked);
    let progress = Progress::of("steps", 0, total as u64);
    for group in groups {
        policy.begin(&starts[group.clone()])?;
        for step in 0..steps(&group) {
            if options.interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            let now = Now {
                recorded,
                episodes: &recorded.episodes[group.clone()],
                step,
            };
            let is_last = step + 1 == steps(&group);
            if options.last && !is_last {
                let (taken, rewards) = now.followed(dim)?;
                policy.recall(&now.observations()?, &taken, &rewards)?;
                clock.step(Clock::RECALLED);
                progress.set(clock.done());
                continue;
            }
            let found = policy.act(&now.observations()?, &now.active())?; // (E, A)
            let found = found.to_vec2::<f32>()?;
            for episode in now.running() {
                let row = now.episodes[episode].start + step;
                actions[row * dim..(row + 1) * dim].copy_from_slice(&found[episode]);
            }
            if !is_last {
                let (taken, rewards) = now.followed(dim)?;
                policy.took(&taken)?;
                policy.observe(&rewards)?;
            }
            clock.step(Clock::ACTED);
            progress.set(clock.done());
        }
    }
    progress.finish();
    Ok(actions)
}

/// Episodes that are walked through together: of one length each where only last steps count.
fn groups(episodes: &[Range<usize>], equal: bool) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, episode) in episodes.iter().enumerate() {
        match found.last_mut() {
            Some(group)
                if group.len() < EPISODES
                    && (!equal || episodes[group.start].len() == episode.len()) =>
            {
                group.end = at + 1;
            }
            _ => found.push(at..at + 1),
        }
    }
    found
}

/// One step of some episodes.
struct Now<'a> {
    recorded: &'a Recorded,
    episodes: &'a [Range<usize>],
    step: usize,
}

impl Now<'_> {
    /// Which episodes have such a step.
    fn active(&self) -> Vec<bool> {
        let active = |episode: &Range<usize>| self.step < episode.len();
        self.episodes.iter().map(active).collect()
    }

    /// Those that have one.
    fn running(&self) -> impl Iterator<Item = usize> + use<> {
        let active = self.active();
        (0..active.len()).filter(move |&row| active[row])
    }

    /// (E, O); zeros for episodes that have ended.
    fn observations(&self) -> Result<Tensor> {
        let o = self.recorded.observation_dim;
        let mut values = vec![0.0; self.episodes.len() * o];
        for row in self.running() {
            let observation = self
                .recorded
                .observation(self.episodes[row].start + self.step);
            values[row * o..(row + 1) * o].copy_from_slice(observation);
        }
        let shape = (self.episodes.len(), o);
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// What was done (E, A) and rewarded (E) then; zeros where nothing is known, which is at last steps and where the policy doesn't look.
    fn followed(&self, dim: usize) -> Result<(Tensor, Vec<f32>)> {
        let count = self.episodes.len();
        let (mut actions, mut rewards) = (vec![0.0; count * dim], vec![0.0; count]);
        for row in self.running() {
            if self.step + 1 == self.episodes[row].len() {
                continue;
            }
            let at = self.episodes[row].start + self.step;
            if let Some((_, taken)) = &self.recorded.actions {
                actions[row * dim..(row + 1) * dim]
                    .copy_from_slice(&taken[at * dim..(at + 1) * dim]);
            }
            if let Some(given) = &self.recorded.rewards {
                rewards[row] = given[at];
            }
        }
        let actions = Tensor::from_vec(actions, (count, dim), &Device::Cpu)?;
        Ok((actions, rewards))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_episodes_of_one_length_where_last_steps_count() {
        let episodes = [0..2, 2..4, 4..5, 5..7];
        assert_eq!(groups(&episodes, false), std::slice::from_ref(&(0..4)));
        assert_eq!(groups(&episodes, true), [0..2, 2..3, 3..4]);
        let many: Vec<Range<usize>> = (0..EPISODES + 1).map(|row| row..row + 1).collect();
        assert_eq!(groups(&many, true), [0..EPISODES, EPISODES..EPISODES + 1]);
    }
}
