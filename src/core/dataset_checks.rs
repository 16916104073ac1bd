//! What a user should know about a data set before training on it, and what a method may ask of it.

use crate::dataset::{ActionKind, Dataset, Episode};
use crate::error::{Error, Result};

/// What an algorithm says that is asked to learn after it was rebuilt without its data.
pub fn opened_without_data() -> Error {
    Error::OpenedWithoutData
}

/// Tokens of a sequence from which on an update takes seconds or more.
const MANY_TOKENS: usize = 4096;

/// What a user should know of a sequence model that reads `steps` steps of `tokens` tokens each, as `key` says; `None` where
/// that is little.
pub fn long_sequences(data: &Dataset, key: &str, steps: usize, tokens: usize) -> Option<String> {
    let length = steps * tokens;
    if length <= MANY_TOKENS {
        return None;
    }
    let longest = data.episodes.iter().map(|episode| episode.steps).max();
    let padding = match longest.unwrap_or(0) {
        longest if longest < steps => format!(
            "; the longest episode has {longest} steps, the rest is padding, which costs as much: `{key}={longest}` reads \
             all there is"
        ),
        _ => String::new(),
    };
    let pairs = length as f64 * (length + 1) as f64 / 2.0;
    Some(format!(
        "`{key} = {steps}` makes sequences of {length} tokens: attention compares {pairs:.1e} pairs of them in every head, \
         layer and sequence of a batch, and the time of an update grows with the square{padding}"
    ))
}

impl Dataset {
    /// Fails if actions are discrete; `purpose` is what needs real numbers.
    ///
    /// # Errors
    /// [`Error::Unsuitable`], naming the file and `purpose`.
    pub fn require_continuous_actions(&self, purpose: &str) -> Result<()> {
        let ActionKind::Discrete { count } = self.action_kind else {
            return Ok(());
        };
        let source = self.source_names();
        Err(Error::Unsuitable(format!(
            "{source}: actions are discrete ({count} choices), but {purpose} needs actions that are \
             real numbers"
        )))
    }

    /// Fails if observations and actions have other sizes than `expected` (O, A), those of `reader`: "the network", say.
    ///
    /// # Errors
    /// [`Error::Dimensions`], naming the file and `reader`.
    pub fn check_dims(&self, expected: (usize, usize), reader: &str) -> Result<()> {
        let found = (self.observation_dim, self.action_dim);
        if found == expected {
            return Ok(());
        }
        Err(Error::Dimensions {
            problem: format!(
                "{} has {} observations and {} actions, {reader} {} and {}",
                self.source_names(),
                found.0,
                found.1,
                expected.0,
                expected.1
            ),
            found,
            expected,
        })
    }

    /// The returns of the complete episodes, at least one; `purpose` is what needs them.
    ///
    /// # Errors
    /// [`Error::Unsuitable`] if no episode is complete, naming the file and `purpose`.
    pub fn require_returns(&self, purpose: &str) -> Result<Vec<f64>> {
        let returns = self.returns();
        if returns.is_empty() {
            let source = self.source_names();
            let fragments = self.episodes.iter().filter(|e| e.fragment).count();
            if fragments > 0 {
                return Err(Error::Unsuitable(format!(
                    "{source}: no episode is whole ({fragments} of {} begin where rows don't follow each other), so \
                     returns are unknown, but {purpose} needs them; save the rows in the order of time, with their ends",
                    self.episodes.len()
                )));
            }
            return Err(Error::Unsuitable(format!(
                "{source}: no episode is complete (terminated or truncated), so returns are \
                 unknown, but {purpose} needs them"
            )));
        }
        Ok(returns)
    }

    /// Fails if most steps are not followed by what came next, as in a shuffled replay buffer; `purpose` is what needs
    /// stretches of time.
    ///
    /// # Errors
    /// [`Error::Unsuitable`], naming the file and `purpose`.
    pub fn require_time_order(&self, purpose: &str) -> Result<()> {
        let fragments = self.episodes.iter().filter(|e| e.fragment).count();
        if 2 * fragments <= self.steps() {
            return Ok(());
        }
        let source = self.source_names();
        Err(Error::Unsuitable(format!(
            "{source}: most rows are not followed by what came next ({fragments} of {} steps begin anew), but {purpose} \
             needs stretches of time; save the rows in the order of time",
            self.steps()
        )))
    }

    /// Fails if it has no step.
    ///
    /// # Errors
    /// [`Error::Unsuitable`].
    pub fn require_steps(&self) -> Result<()> {
        if self.rewards.is_empty() {
            Err(Error::Unsuitable(format!(
                "{}: there is no step to learn from",
                self.source_names()
            )))
        } else {
            Ok(())
        }
    }

    /// The files that it came from, for messages.
    pub fn source_names(&self) -> String {
        let names: Vec<String> = self
            .sources
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        if names.is_empty() {
            "the data".into()
        } else {
            names.join(", ")
        }
    }
}

/// Forgets final observations that aren't what they seem, in every episode: copies of the last observation (by writers
/// that don't know what came after it), the first observation of the next episode (the next row, taken for what came
/// next), or nothing but zeros (an array that was never filled there).
pub fn drop_false_finals(data: &mut Dataset) {
    let finals: Vec<(&Episode, &[f32])> = data
        .episodes
        .iter()
        .filter_map(|episode| Some((episode, episode.final_observation.as_deref()?)))
        .collect();
    let several = finals.len() >= SEVERAL;
    let zero = |row: &[f32]| row.iter().all(|&value| value == 0.0);
    let copied =
        |(episode, last): &(&Episode, &[f32])| *last == data.observation(episode.range().end - 1);
    let shifted = |(episode, last): &(&Episode, &[f32])| {
        let next = episode.range().end;
        !episode.has_end() || next == data.steps() || *last == data.observation(next)
    };
    let followed = finals
        .iter()
        .filter(|(e, _)| e.has_end() && e.range().end < data.steps());
    let (found, of_open_ones) = if finals.is_empty() {
        return;
    } else if finals.iter().all(copied) {
        (
            "equals the one before it in every episode: it is taken for a copy",
            true,
        )
    } else if followed.count() >= SEVERAL && finals.iter().all(shifted) {
        (
            "is the first one of the next episode, for every episode: it is taken for a shifted copy",
            false,
        )
    } else if several
        && finals.iter().all(|(_, last)| zero(last))
        && !data
            .observations
            .chunks_exact(data.observation_dim)
            .any(zero)
    {
        (
            "is zero in every episode, and no other one is: it is taken for an array that was not filled there",
            false,
        )
    } else {
        return;
    };
    for episode in &mut data.episodes {
        if of_open_ones || episode.has_end() {
            episode.final_observation = None;
        }
    }
    data.warnings.push(format!(
        "the observation after the last step {found} and not used"
    ));
}

/// From so many episodes on, what holds for each of them is no chance.
const SEVERAL: usize = 2;

/// How the warning about actions out of the usual range goes on after its number: not of interest where
/// their range is known.
pub const OUTSIDE_UNIT: &str = " % of the actions lie outside -1..1";

/// How far beyond a bound an action may lie by rounding.
const BOUND_ROUNDING: f32 = 1e-5;

/// Warnings about a data set: ends, constant columns, actions out of the usual range, rewards.
pub fn warnings(data: &Dataset) -> Vec<String> {
    let mut found = Vec::new();
    let open = data
        .episodes
        .iter()
        .filter(|episode| !episode.has_end() && !episode.fragment)
        .count();
    let fragments = data.episodes.iter().filter(|e| e.fragment).count();
    if fragments > 0 {
        found.push(format!(
            "{fragments} of {} episodes are parts whose first steps are missing: their steps are used, their returns are \
             not",
            data.episodes.len()
        ));
    }
    if open == data.episodes.len() {
        found.push(
            "no episode has an end: returns are unknown, and methods that need them refuse this \
             data"
                .into(),
        );
    } else if open > 0 {
        found.push(format!(
            "{open} of {} episodes neither terminate nor reach a time limit: their steps are used, their returns are not",
            data.episodes.len()
        ));
    }
    let constant = constant_columns(&data.observations, data.observation_dim);
    if !constant.is_empty() {
        found.push(format!(
            "observations never change in column {}",
            list(&constant)
        ));
    }
    found.extend(large_observation(data));
    match data.action_kind {
        ActionKind::Continuous => found.extend(action_warnings(data)),
        ActionKind::Discrete { count } => found.extend(one_choice(data, count)),
    }
    found.extend(unfilled(data));
    let (low, high) = range(&data.rewards);
    if low == high && data.steps() > 1 {
        found.push(format!("every reward is {low}"));
    } else if low.abs().max(high.abs()) > 1e6 {
        found.push(format!(
            "rewards reach from {low} to {high}: is that intended?"
        ));
    }
    found
}

/// What to say about rows of zeros at the end: buffers are often made before they are filled.
fn unfilled(data: &Dataset) -> Option<String> {
    let zero = |row: &[f32]| row.iter().all(|&value| value == 0.0);
    let empty = |&step: &usize| {
        zero(data.observation(step)) && zero(data.action(step)) && data.rewards[step] == 0.0
    };
    let rows = (0..data.steps()).rev().take_while(empty).count();
    (rows >= SEVERAL && rows < data.steps()).then(|| {
        format!("the last {rows} rows are zero throughout: if the array was never filled there, save it without them")
    })
}

/// Larger observations are hardly meant: squares of what networks make of them leave single precision.
const LARGE: f32 = 1e9;

/// Names the largest observation, if it is that large.
fn large_observation(data: &Dataset) -> Option<String> {
    let sizes = data.observations.iter().map(|value| value.abs());
    let (at, size) = sizes.enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (size > LARGE).then(|| {
        format!(
            "observations reach {size:e} (row {}, column {}): is that intended? Normalised by that, what is small beside \
             it in the column looks all the same; without `normalize_observations` networks can't compute with it",
            at / data.observation_dim,
            at % data.observation_dim
        )
    })
}

/// What to say where one choice was made at every step.
fn one_choice(data: &Dataset, count: usize) -> Option<String> {
    let constant = !constant_columns(&data.actions, data.action_dim).is_empty();
    let choice = data.actions.first()?;
    constant.then(|| match count {
        1 => format!("every action is the choice {choice}, the only one that there is: there is nothing to choose"),
        _ => format!("every action is the choice {choice}: nothing is known of any other of {count}"),
    })
}

fn action_warnings(data: &Dataset) -> Vec<String> {
    let mut found = Vec::new();
    let constant = constant_columns(&data.actions, data.action_dim);
    if !constant.is_empty() {
        found.push(format!(
            "actions never change in column {}",
            list(&constant)
        ));
    }
    let rows = data.actions.chunks(data.action_dim.max(1));
    let (outside, what) = match &data.action_bounds {
        None => {
            let outside = data.actions.iter().filter(|action| action.abs() > 1.0);
            (outside.count(), OUTSIDE_UNIT)
        }
        Some((low, high)) => {
            let is_outside = |(action, (low, high)): &(&f32, (&f32, &f32))| {
                **action < **low - BOUND_ROUNDING || **action > **high + BOUND_ROUNDING
            };
            let bounds = || low.iter().zip(high);
            let outside = rows.map(|row| row.iter().zip(bounds()).filter(is_outside).count());
            let what = " % of the actions lie outside the range that the data allows";
            (outside.sum(), what)
        }
    };
    if outside > 0 {
        let (low, high) = range(&data.actions);
        let percent = 100.0 * outside as f64 / data.actions.len() as f64;
        found.push(format!(
            "{percent:.2}{what} (they reach from {low} to {high})"
        ));
    }
    found
}

/// Columns of row-major `values` in which every row is the same, if there are several rows.
fn constant_columns(values: &[f32], width: usize) -> Vec<usize> {
    if width == 0 || values.len() <= width {
        return Vec::new();
    }
    let mut constant: Vec<usize> = (0..width).collect();
    for row in values.chunks_exact(width) {
        constant.retain(|&column| row[column] == values[column]);
        if constant.is_empty() {
            break;
        }
    }
    constant
}

/// Lowest and highest number; zeros if there are none.
pub fn range(values: &[f32]) -> (f32, f32) {
    let widen = |(low, high): (f32, f32), &value: &f32| (low.min(value), high.max(value));
    match values.first() {
        Some(&first) => values.iter().fold((first, first), widen),
        None => (0.0, 0.0),
    }
}

fn list(columns: &[usize]) -> String {
    let names: Vec<String> = columns.iter().map(usize::to_string).collect();
    names.join(", ")
}
