//! [`Line`]: what the evaluations of one run, or of several seeds of it, say.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::app::compare::found::Run;
use crate::app::compare::statistics::{Interval, Scores, draw, intervals, student_interval};
use crate::app::evaluate::mean_std;
use crate::app::evaluations::EvaluationRow;
use trajformer_models::rng::{Rng, Streams};

/// Seed of all resampling: the same runs give the same intervals.
const SEED: u64 = 0;

/// Several runs that are one line of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// How the line is called.
    pub name: String,
    /// The folder that holds all of them.
    pub path: PathBuf,
    /// Name of their task.
    pub task: String,
    /// The runs, each with an evaluation; at least one.
    pub runs: Vec<Run>,
}

/// What the evaluations of one run, or of several seeds of it, say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// How the line is called: its folder's name, or what its runs have in common.
    pub name: String,
    /// The run directory, or the folder that holds all runs.
    pub run: PathBuf,
    /// Every run's folder.
    pub runs: Vec<PathBuf>,
    /// Its algorithm; several are joined with commas.
    pub algorithm: String,
    /// Data set, with the environment where the data's name is not enough.
    pub task: String,
    /// The environment that scored.
    pub env: Option<String>,
    /// Number of runs; 1 for a run directory.
    pub seeds: usize,
    /// Update of the last evaluation that all runs have; where they have none in common, of the first run's last.
    pub update: u64,
    /// Seconds of training until then, evaluations included; of several runs the mean. NaN where a table does not say it.
    pub seconds: f64,
    /// Last score, the mean over runs: normalised, or the return where the environment has no reference returns.
    pub last: f64,
    /// Its standard deviation (number of values in the denominator): over episodes of one run, between several. NaN where a table does not say it.
    pub last_std: f64,
    /// 95 % interval of `last`; `None` where there is one run with one episode.
    pub interval: Option<LineInterval>,
    /// Episodes of each run's last evaluation; the smallest number if they differ.
    pub episodes: usize,
    /// Every run's last score.
    pub scores: Vec<f64>,
    /// Mean over runs of each run's highest mean score at any evaluation until `update`. It was chosen by the score that it
    /// reports, and is no result.
    pub best: f64,
    /// The highest point of `curve`: the largest mean over runs after one and the same number of updates.
    pub highest_mean: f64,
    /// The number of updates of `highest_mean`.
    pub highest_mean_update: u64,
    /// Configuration keys in which lines differ, with this line's values.
    pub keys: BTreeMap<String, String>,
    /// Every evaluation that all runs have: update, seconds, mean, standard deviation.
    #[serde(skip)]
    pub curve: Vec<[f64; 4]>,
    /// Whether the numbers are normalised scores.
    pub normalized: bool,
}

/// The interval of a line's mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LineInterval {
    /// Its ends.
    #[serde(flatten)]
    pub ends: Interval,
    /// What varies.
    pub over: Over,
}

/// What an interval or a standard deviation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// The runs: resampled.
    Seeds,
    /// The episodes of the one run: Student's t.
    Episodes,
}

impl Over {
    /// `seeds` or `episodes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seeds => "seeds",
            Self::Episodes => "episodes",
        }
    }
}

/// The stream that the resamples of one table of scores are drawn from, from its beginning.
pub fn resampling() -> Rng {
    Streams::from_seed(SEED).stream("compare")
}

/// Intervals of the numbers that `estimate` makes of `scores`, from `resamples` bootstrap samples within each task; `None` if no task has
/// more than one run.
pub fn bootstrapped(
    scores: &Scores,
    resamples: usize,
    estimate: impl Fn(&Scores) -> Vec<f64>,
) -> Option<Vec<Interval>> {
    let sizes = scores.sizes();
    if sizes.iter().all(|runs| *runs == 1) {
        return None;
    }
    let mut rng = resampling();
    let mut below = |bound| rng.below(bound);
    let values: Vec<_> = (0..resamples)
        .map(|_| estimate(&scores.drawn(&draw(&sizes, &mut below))))
        .collect();
    Some(intervals(&values))
}

/// The line of `cell`, with intervals from `resamples` bootstrap samples.
pub fn line(cell: &Cell, resamples: usize) -> Line {
    let runs = &cell.runs;
    let normalized = is_normalized(runs);
    let (last_rows, until) = last_rows(runs);
    let scores: Vec<f64> = last_rows
        .iter()
        .map(|row| value(row, normalized).0)
        .collect();
    let (last, std_over_runs) = mean_std(&scores);
    let of_one = value(&last_rows[0], normalized).1;
    let seeds = runs.len();
    let episodes = last_rows.iter().map(|row| row.episodes).min().unwrap_or(0);
    let interval = if seeds == 1 {
        let found = student_interval(last, of_one, episodes).filter(|_| of_one.is_finite());
        found.map(|found| (found, Over::Episodes))
    } else {
        let found = Scores::new(vec![scores.clone()]);
        let found = found.and_then(|s| bootstrapped(&s, resamples, |s| vec![s.mean()]));
        found.map(|found| (found[0], Over::Seeds))
    };
    let curve = curve(runs);
    let highest = curve
        .iter()
        .copied()
        .reduce(|best, point| if point[2] > best[2] { point } else { best });
    let best: Vec<f64> = runs
        .iter()
        .map(|run| best_evaluation(run, until, normalized))
        .collect();
    let seconds: Vec<f64> = last_rows.iter().map(|row| row.seconds).collect();
    Line {
        name: cell.name.clone(),
        run: cell.path.clone(),
        runs: runs.iter().map(|run| run.folder.clone()).collect(),
        algorithm: joined(runs.iter().map(|run| run.algorithm.clone())),
        task: cell.task.clone(),
        env: runs[0].task.env.clone(),
        seeds,
        update: last_rows[0].update,
        seconds: mean_std(&seconds).0,
        last,
        last_std: if seeds == 1 { of_one } else { std_over_runs },
        interval: interval.map(|(ends, over)| LineInterval { ends, over }),
        episodes,
        best: mean_std(&best).0,
        highest_mean: highest.map_or(last, |point| point[2]),
        highest_mean_update: highest.map_or(last_rows[0].update, |point| point[0] as u64),
        scores,
        keys: BTreeMap::new(),
        curve,
        normalized,
    }
}

/// Mean and standard deviation of the normalised scores, or of the returns.
fn value(row: &EvaluationRow, normalized: bool) -> (f64, f64) {
    match row.scores {
        Some(scores) if normalized => scores,
        _ => row.returns,
    }
}

/// The rows of the last evaluation that all runs have, and its update; each run's own last, and no update, where there is none.
fn last_rows(runs: &[Run]) -> (Vec<EvaluationRow>, Option<u64>) {
    let common = common_updates(runs).last().copied();
    let last = |run: &Run| match common {
        Some(update) => row_at(run, update),
        None => run.evaluations.last().copied(),
    };
    (runs.iter().filter_map(last).collect(), common)
}

/// Updates after which every run was evaluated, in the first run's order.
pub fn common_updates(runs: &[Run]) -> Vec<u64> {
    let first = runs.first().map_or(&[][..], |run| &run.evaluations);
    let updates = first.iter().map(|row| row.update);
    let in_all = |update: &u64| runs.iter().all(|run| row_at(run, *update).is_some());
    updates.filter(in_all).collect()
}

fn row_at(run: &Run, update: u64) -> Option<EvaluationRow> {
    // They are in the order of their updates.
    let place = run.evaluations.partition_point(|row| row.update < update);
    let row = run.evaluations.get(place).copied();
    row.filter(|row| row.update == update)
}

fn best_evaluation(run: &Run, until: Option<u64>, normalized: bool) -> f64 {
    let rows = run.evaluations.iter();
    let rows = rows.filter(|row| until.is_none_or(|until| row.update <= until));
    rows.map(|row| value(row, normalized).0)
        .fold(f64::NEG_INFINITY, f64::max)
}

/// Update, seconds, mean and standard deviation (over runs; over episodes of a single one) of every evaluation that all `runs`
/// have: of normalised scores where all have them, else of returns.
pub fn curve(runs: &[Run]) -> Vec<[f64; 4]> {
    let normalized = is_normalized(runs);
    let point = |update: u64| {
        let rows: Vec<_> = runs.iter().filter_map(|run| row_at(run, update)).collect();
        let values: Vec<f64> = rows.iter().map(|row| value(row, normalized).0).collect();
        let (mean, over_runs) = mean_std(&values);
        let std = match &rows[..] {
            [only] => value(only, normalized).1,
            _ => over_runs,
        };
        let seconds = rows.iter().map(|row| row.seconds).sum::<f64>() / rows.len() as f64;
        [update as f64, seconds, mean, std]
    };
    common_updates(runs).into_iter().map(point).collect()
}

fn is_normalized(runs: &[Run]) -> bool {
    let mut rows = runs.iter().flat_map(|run| &run.evaluations);
    rows.all(|row| row.scores.is_some())
}

/// Different texts, in the order in which they come first.
pub fn joined(texts: impl Iterator<Item = String>) -> String {
    distinct(texts).join(", ")
}

/// Different values, in the order in which they come first.
pub fn distinct<T: Clone + Eq + Hash>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values.filter(|value| seen.insert(value.clone())).collect()
}

/// The last part of a path.
pub fn folder_name(run: &Path) -> Option<String> {
    Some(run.file_name()?.to_string_lossy().into_owned())
}
