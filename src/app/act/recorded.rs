//! [`Recorded`]: observations to act at, with the history that led to them, from NumPy's files or a data set.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::formats::files::{self, LoadOptions};
use crate::formats::npz::{self, NpyArray, NpyValues};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// Names of the arrays that are read; the second ones are other spellings.
const NAMES: [(&str, &[&str]); 11] = [
    ("observations", &["obs"]),
    ("actions", &[]),
    ("rewards", &[]),
    ("episode_starts", &["episode_parts"]),
    ("episode_lengths", &[]),
    ("terminations", &["terminals"]),
    ("truncations", &["timeouts"]),
    ("timesteps", &[]),
    ("target_returns", &["targets"]),
    ("goals", &[]),
    ("instructions", &[]),
];

/// How the rows of observations belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// (N, O): independent rows, or episodes one after the other.
    Rows,
    /// (B, T, O): B sequences of T steps.
    Sequences {
        /// B.
        count: usize,
        /// T.
        steps: usize,
    },
}

/// Recorded observations, row after row, with what is known of the episodes that they are from.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Where they were read, for messages.
    pub path: PathBuf,
    /// How the file holds them.
    pub layout: Layout,
    /// Numbers in an observation (O).
    pub observation_dim: usize,
    /// (rows, O).
    pub observations: Vec<f32>,
    /// Rows of each episode, in order, without gaps.
    pub episodes: Vec<Range<usize>>,
    /// Whether the file says where episodes begin; otherwise all rows are taken for one.
    pub has_episodes: bool,
    /// Numbers in an action (A) and actions (rows, A) that were taken, as far as they are known: the last of an episode may be missing.
    pub actions: Option<(usize, Vec<f32>)>,
    /// Rewards that followed (rows).
    pub rewards: Option<Vec<f32>>,
    /// Return to aim at, of each episode.
    pub target_returns: Option<Vec<f32>>,
    /// Observation to reach, of each episode (O each).
    pub goals: Option<Vec<Vec<f32>>>,
    /// What to do in words, of each episode.
    pub instructions: Option<Vec<Arc<str>>>,
}

impl Recorded {
    /// Reads an `.npy` or `.npz` file, or any data set that training reads, with `options`.
    ///
    /// | array | shape | |
    /// |---|---|---|
    /// | `observations` or `obs` | (N, O) or (B, T, O) | an `.npy` file holds it alone |
    /// | `actions` | (N, A) or (B, T, A); without A if it is 1 | taken after each observation; the last of an episode is not looked at |
    /// | `rewards` | (N,) or (B, T) | what followed |
    /// | `episode_starts` | (N,) | 1 at the first step of each episode; or `terminations` and `truncations` at the last ones |
    /// | `episode_lengths` | (episodes,) | instead |
    /// | `timesteps` | (N,) or (B, T) | number of each step in its episode, from 0; tells episodes apart as well |
    /// | `target_returns` or `targets` | (episodes,) or one number | return to aim at, in the environment's units |
    /// | `goals` | (episodes, O) or (O,) | observation to reach |
    /// | `instructions` | (episodes,) text, or one text | what to do |
    ///
    /// # Errors
    /// If the file can't be read, has no observations, or an array has another shape: names array, shape and what was expected.
    pub fn read(path: &Path, options: &LoadOptions) -> Result<Self> {
        match npz::read_arrays(path)? {
            Some(arrays) => Self::of_arrays(path, arrays),
            None => Ok(Self::of_dataset(
                path,
                files::load_with(&[path.to_path_buf()], options)?,
            )),
        }
    }

    /// The steps of a data set, episode after episode.
    pub fn of_dataset(path: &Path, data: Dataset) -> Self {
        let texts = data
            .episodes
            .iter()
            .map(|episode| episode.instruction.clone());
        Self {
            path: path.to_path_buf(),
            layout: Layout::Rows,
            observation_dim: data.observation_dim,
            episodes: data
                .episodes
                .iter()
                .map(|episode| episode.range())
                .collect(),
            has_episodes: true,
            target_returns: None,
            goals: None,
            instructions: texts.collect(),
            observations: data.observations,
            actions: Some((data.action_dim, data.actions)),
            rewards: Some(data.rewards),
        }
    }

    fn of_arrays(path: &Path, arrays: BTreeMap<String, NpyArray>) -> Result<Self> {
        let mut arrays = Arrays {
            path,
            arrays: named(path, arrays)?,
        };
        let Some(observations) = arrays.arrays.remove("observations") else {
            let there: Vec<&str> = arrays.arrays.keys().map(String::as_str).collect();
            let there = if there.is_empty() {
                "no array of a known name".to_owned()
            } else {
                there.join(", ")
            };
            return Err(Error::data(
                path,
                format!(
                    "array `observations` is missing, expected (N, O) or (B, T, O); there is {there}"
                ),
            ));
        };
        let (layout, dim) = match observations.shape[..] {
            [_, dim] if dim > 0 => (Layout::Rows, dim),
            [count, steps, dim] if dim > 0 => (Layout::Sequences { count, steps }, dim),
            _ => {
                let expected = "(N, O), a row per step, or (B, T, O), B sequences of T steps; one observation is (1, O)";
                return Err(arrays.shape("observations", &observations.shape, expected));
            }
        };
        let rows = observations.shape.iter().product::<usize>() / dim;
        if rows == 0 {
            let expected = "at least one row";
            return Err(arrays.shape("observations", &observations.shape, expected));
        }
        let values = arrays.numbers("observations", &observations)?;
        let (episodes, has_episodes) = arrays.episodes(layout, rows)?;
        let count = episodes.len();
        let actions = arrays.actions(layout, rows)?;
        let rewards = arrays.rewards(layout, rows)?;
        let target_returns = arrays.per_episode("target_returns", count)?;
        let goals = arrays.goals(count, dim)?;
        let instructions = arrays.instructions(count)?;
        check_finite(path, "observations", &values, dim, |_| true)?;
        // What an episode's last step led to is not looked at, and may not be known.
        let mut is_last = vec![false; rows];
        for episode in &episodes {
            is_last[episode.end - 1] = true;
        }
        if let Some((width, values)) = &actions {
            check_finite(path, "actions", values, *width, |row| !is_last[row])?;
        }
        if let Some(values) = &rewards {
            check_finite(path, "rewards", values, 1, |row| !is_last[row])?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            layout,
            observation_dim: dim,
            observations: values,
            episodes,
            has_episodes,
            actions,
            rewards,
            target_returns,
            goals,
            instructions,
        })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.observations.len() / self.observation_dim
    }

    /// The observation of a row (O).
    pub fn observation(&self, row: usize) -> &[f32] {
        &self.observations[row * self.observation_dim..(row + 1) * self.observation_dim]
    }
}

/// The arrays by the first of their names; others are left out.
fn named(
    path: &Path,
    mut arrays: BTreeMap<String, NpyArray>,
) -> Result<BTreeMap<String, NpyArray>> {
    let mut found = BTreeMap::new();
    for (name, others) in NAMES {
        for other in std::iter::once(&name).chain(others) {
            let Some(array) = arrays.remove(*other) else {
                continue;
            };
            if found.insert(name.to_owned(), array).is_some() {
                let problem =
                    format!("has both `{name}` and `{other}`, which mean the same: keep one");
                return Err(Error::data(path, problem));
            }
        }
    }
    Ok(found)
}

/// Fails at the first number that is not finite in a row that `counts`.
fn check_finite(
    path: &Path,
    name: &str,
    values: &[f32],
    width: usize,
    counts: impl Fn(usize) -> bool,
) -> Result<()> {
    let wrong = |(at, value): &(usize, &f32)| !value.is_finite() && counts(at / width);
    match values.iter().enumerate().find(wrong) {
        None => Ok(()),
        Some((at, value)) => {
            let (row, column) = (at / width, at % width);
            let problem = format!(
                "array `{name}`, row {row}, column {column}: {value}, expected finite numbers"
            );
            Err(Error::data(path, problem))
        }
    }
}

/// A shape as NumPy writes it.
pub(super) fn shown(shape: &[usize]) -> String {
    match shape {
        [one] => format!("({one},)"),
        _ => {
            let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!("({})", sizes.join(", "))
        }
    }
}

struct Arrays<'a> {
    path: &'a Path,
    arrays: BTreeMap<String, NpyArray>,
}

impl Arrays<'_> {
    fn shape(&self, name: &str, found: &[usize], expected: &str) -> Error {
        let problem = format!(
            "array `{name}` has the shape {}, expected {expected}",
            shown(found)
        );
        Error::data(self.path, problem)
    }

    fn numbers(&self, name: &str, array: &NpyArray) -> Result<Vec<f32>> {
        match array.values {
            NpyValues::Text(_) => {
                let problem = format!("array `{name}` holds text, expected numbers");
                Err(Error::data(self.path, problem))
            }
            NpyValues::F64(ref exact) => {
                let rounded = array.to_f32();
                let mut pairs = exact.iter().zip(&rounded).enumerate();
                // Where numbers of 64 bits become those that policies compute with.
                let is_lost = |&(_, (exact, rounded)): &(usize, (&f64, &f32))| {
                    exact.is_finite() && rounded.is_infinite()
                };
                match pairs.find(is_lost) {
                    None => Ok(rounded),
                    Some((at, (value, _))) => {
                        let problem = format!(
                            "array `{name}`, number {at}: {value:e} is beyond what 32 bits hold (3.4e38), with which policies compute"
                        );
                        Err(Error::data(self.path, problem))
                    }
                }
            }
            _ => Ok(array.to_f32()),
        }
    }

    /// Fails if a number per step is no whole number, as it stands in the file.
    fn check_whole(&self, name: &str) -> Result<()> {
        let values = self.arrays.get(name).map(NpyArray::to_f64);
        let mut values = values.iter().flatten().enumerate();
        match values.find(|(_, value)| value.fract() != 0.0 || !value.is_finite()) {
            None => Ok(()),
            Some((at, value)) => Err(Error::data(
                self.path,
                format!("array `{name}`, number {at}: {value}, expected whole numbers"),
            )),
        }
    }

    /// A number per step, in the order of the rows.
    fn column(&mut self, name: &str, layout: Layout, rows: usize) -> Result<Option<Vec<f32>>> {
        let Some(array) = self.arrays.remove(name) else {
            return Ok(None);
        };
        let fits = match (layout, &array.shape[..]) {
            (Layout::Rows, [found] | [found, 1]) => *found == rows,
            (Layout::Sequences { count, steps }, [a, b] | [a, b, 1]) => (*a, *b) == (count, steps),
            _ => false,
        };
        if fits {
            return self.numbers(name, &array).map(Some);
        }
        let expected = match layout {
            Layout::Rows => format!("({rows},), one per row of `observations`"),
            Layout::Sequences { count, steps } => {
                format!("({count}, {steps}), one per observation")
            }
        };
        Err(self.shape(name, &array.shape, &expected))
    }

    /// `episode_lengths` as flags of the first steps.
    fn lengths(&mut self, layout: Layout, rows: usize) -> Result<Option<Vec<f32>>> {
        let Some(array) = self.arrays.remove("episode_lengths") else {
            return Ok(None);
        };
        let mut starts = vec![0.0; rows];
        let mut end = 0usize;
        for length in array.to_f64() {
            if length >= 1.0 && length.fract() == 0.0 && end < rows {
                starts[end] = 1.0;
                end = end.saturating_add(length as usize);
            } else {
                end = usize::MAX;
            }
        }
        if end == rows && layout == Layout::Rows {
            return Ok(Some(starts));
        }
        let expected =
            format!("whole numbers that sum up to {rows}, the rows of `observations` (N, O)");
        Err(Error::data(
            self.path,
            format!("array `episode_lengths`: expected {expected}"),
        ))
    }

    /// Rows of each episode, and whether the file says them.
    fn episodes(&mut self, layout: Layout, rows: usize) -> Result<(Vec<Range<usize>>, bool)> {
        for name in ["timesteps", "episode_starts", "terminations", "truncations"] {
            self.check_whole(name)?;
        }
        let starts = match self.lengths(layout, rows)? {
            Some(starts) => Some(starts),
            None => self.column("episode_starts", layout, rows)?,
        };
        let terminated = self.column("terminations", layout, rows)?;
        let truncated = self.column("truncations", layout, rows)?;
        let timesteps = self.column("timesteps", layout, rows)?;
        let mut begins = vec![false; rows];
        begins[0] = true;
        if let Layout::Sequences { steps, .. } = layout {
            begins
                .iter_mut()
                .step_by(steps)
                .for_each(|begins| *begins = true);
        }
        let inside = begins.clone();
        let is_set = |column: &Option<Vec<f32>>, row: usize| {
            column.as_ref().is_some_and(|column| column[row] != 0.0)
        };
        for row in 1..rows {
            let after_end = is_set(&terminated, row - 1) || is_set(&truncated, row - 1);
            let anew = timesteps.as_ref().is_some_and(|steps| steps[row] == 0.0);
            // Episode starts say it all where they are.
            begins[row] |= if starts.is_some() {
                is_set(&starts, row)
            } else {
                after_end || anew
            };
        }
        if matches!(layout, Layout::Sequences { .. }) && begins != inside {
            let row = (0..rows)
                .find(|&row| begins[row] != inside[row])
                .unwrap_or(0);
            return Err(Error::data(
                self.path,
                format!(
                    "an episode begins within a sequence, at row {row} of all: a sequence is one episode from its first step; \
                     give (N, O) with `episode_starts` for episodes of different lengths"
                ),
            ));
        }
        let mut found: Vec<usize> = (0..rows).filter(|&row| begins[row]).collect();
        found.push(rows);
        let episodes: Vec<Range<usize>> = found.windows(2).map(|ends| ends[0]..ends[1]).collect();
        if let Some(steps) = &timesteps {
            for episode in &episodes {
                let wrong = |&row: &usize| steps[row] != (row - episode.start) as f32;
                if let Some(row) = episode.clone().find(wrong) {
                    return Err(Error::data(
                        self.path,
                        format!(
                            "array `timesteps` is {} at row {row}, expected {}: steps are counted from 0 at an episode's first \
                             one, and a history is given from there",
                            steps[row],
                            row - episode.start
                        ),
                    ));
                }
            }
        }
        let said = starts.is_some() || terminated.is_some() || truncated.is_some();
        let said = said || timesteps.is_some() || layout != Layout::Rows;
        Ok((episodes, said))
    }

    /// Actions (rows, A); the last of a sequence, or of all rows, may be left out.
    fn actions(&mut self, layout: Layout, rows: usize) -> Result<Option<(usize, Vec<f32>)>> {
        let Some(array) = self.arrays.remove("actions") else {
            return Ok(None);
        };
        let (blocks, steps) = blocks(layout, rows);
        let (given, width) = match (layout, &array.shape[..]) {
            (Layout::Rows, [given, width]) => (*given, *width),
            // Choices have no dimension of their own.
            (Layout::Rows, [given]) => (*given, 1),
            (Layout::Sequences { .. }, [count, given]) if *count == blocks => (*given, 1),
            (Layout::Sequences { .. }, [count, given, width]) if *count == blocks => {
                (*given, *width)
            }
            _ => (usize::MAX, 0),
        };
        if width == 0 || !(given == steps || given + 1 == steps) {
            let expected = match layout {
                Layout::Rows => format!("({rows}, A), a row per observation"),
                Layout::Sequences { .. } => {
                    format!("({blocks}, {steps}, A), a row per observation")
                }
            };
            return Err(self.shape("actions", &array.shape, &expected));
        }
        let values = self.numbers("actions", &array)?;
        Ok(Some((
            width,
            filled(&values, blocks, steps * width, given * width),
        )))
    }

    fn rewards(&mut self, layout: Layout, rows: usize) -> Result<Option<Vec<f32>>> {
        let Some(array) = self.arrays.get("rewards") else {
            return Ok(None);
        };
        let (blocks, steps) = blocks(layout, rows);
        let is_short = match (layout, &array.shape[..]) {
            (Layout::Rows, [given]) => given + 1 == steps,
            (Layout::Sequences { .. }, [count, given]) => *count == blocks && given + 1 == steps,
            _ => false,
        };
        if !is_short {
            return self.column("rewards", layout, rows);
        }
        let values = self.numbers("rewards", array)?;
        Ok(Some(filled(&values, blocks, steps, steps - 1)))
    }

    /// A number per episode; one stands for all.
    fn per_episode(&mut self, name: &str, count: usize) -> Result<Option<Vec<f32>>> {
        let Some(array) = self.arrays.remove(name) else {
            return Ok(None);
        };
        let values = self.numbers(name, &array)?;
        check_finite(self.path, name, &values, 1, |_| true)?;
        match (&array.shape[..], values.len()) {
            ([] | [_], 1) => Ok(Some(vec![values[0]; count])),
            ([_], found) if found == count => Ok(Some(values)),
            _ => {
                let expected = format!("({count},), one per episode, or one number");
                Err(self.shape(name, &array.shape, &expected))
            }
        }
    }

    fn goals(&mut self, count: usize, dim: usize) -> Result<Option<Vec<Vec<f32>>>> {
        let Some(array) = self.arrays.remove("goals") else {
            return Ok(None);
        };
        let values = self.numbers("goals", &array)?;
        check_finite(self.path, "goals", &values, dim, |_| true)?;
        match array.shape[..] {
            [found] if found == dim => Ok(Some(vec![values; count])),
            [episodes, found] if (episodes, found) == (count, dim) => Ok(Some(
                values.chunks_exact(dim).map(<[f32]>::to_vec).collect(),
            )),
            _ => {
                let expected = format!("({count}, {dim}), an observation per episode, or ({dim},)");
                Err(self.shape("goals", &array.shape, &expected))
            }
        }
    }

    fn instructions(&mut self, count: usize) -> Result<Option<Vec<Arc<str>>>> {
        let Some(array) = self.arrays.remove("instructions") else {
            return Ok(None);
        };
        let NpyValues::Text(texts) = &array.values else {
            let problem =
                "array `instructions` holds numbers, expected texts, e.g. np.array([\"go left\"])";
            return Err(Error::data(self.path, problem));
        };
        let texts: Vec<Arc<str>> = texts.iter().map(|text| text.as_str().into()).collect();
        match (&array.shape[..], texts.len()) {
            ([] | [_], 1) => Ok(Some(vec![Arc::clone(&texts[0]); count])),
            ([_], found) if found == count => Ok(Some(texts)),
            _ => {
                let expected = format!("({count},), one per episode, or one text");
                Err(self.shape("instructions", &array.shape, &expected))
            }
        }
    }
}

/// How many sequences, and of how many steps.
fn blocks(layout: Layout, rows: usize) -> (usize, usize) {
    match layout {
        Layout::Rows => (1, rows),
        Layout::Sequences { count, steps } => (count, steps),
    }
}

/// Blocks of `given` numbers, each filled up to `size` with NaN: what is not known.
fn filled(values: &[f32], blocks: usize, size: usize, given: usize) -> Vec<f32> {
    let mut all = vec![f32::NAN; blocks * size];
    for block in 0..blocks {
        let from = &values[block * given..(block + 1) * given];
        all[block * size..block * size + given].copy_from_slice(from);
    }
    all
}
