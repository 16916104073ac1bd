//! What a report's page gets: the form of its JSON. The page's script reads these names; fields are only added.
//!
//! Numbers of evaluations are as `evaluations.csv` has them; those of metrics, data and steps are rounded to six digits.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::app::checkpoint::origin::Origin;
use trajformer_data::info::Info;

/// Version of the form.
pub const FORMAT: u32 = 1;

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Its heading.
    pub title: String,
    /// What made it, when and where.
    pub made: Made,
    /// What was left out or thinned.
    pub notes: Vec<String>,
    /// One per run that was named, which may be a folder of seeds.
    pub series: Vec<Series>,
    /// Runs of all series.
    pub runs: Vec<Run>,
    /// The data sets that they learned from.
    pub data: Vec<DataSet>,
    /// Mazes of recorded episodes, by environment.
    pub mazes: BTreeMap<String, Maze>,
}

/// What made a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Made {
    /// Program, machine, time and command.
    #[serde(flatten)]
    pub origin: Origin,
    /// Features of the build.
    pub features: Vec<&'static str>,
}

/// A run, or seeds of one configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Its folder's name, or as much of the path as tells it from the others.
    pub name: String,
    /// Its algorithm.
    pub algorithm: String,
    /// The environment of its evaluations.
    pub env: Option<String>,
    /// Whether its scores are normalised; else they are returns.
    pub normalized: bool,
    /// Places of its runs in [`Report::runs`].
    pub runs: Vec<usize>,
    /// Update, seconds, mean and standard deviation of every evaluation that all of its runs have, as `compare` has them.
    pub curve: Vec<[f64; 4]>,
}

/// One run directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The folder.
    pub path: String,
    /// Place of its series in [`Report::series`].
    pub series: usize,
    /// Its algorithm.
    pub algorithm: String,
    /// Its seed.
    pub seed: u64,
    /// The environment of its evaluations.
    pub env: Option<String>,
    /// What it was trained on, e.g. `cpu`.
    pub device: String,
    /// The data that it learned from, where it names files.
    pub data: Option<RunData>,
    /// Updates when it is finished.
    pub updates: u64,
    /// Updates done.
    pub done: u64,
    /// Whether it ended before all updates because its scores rose, or its held-out loss fell, no more.
    pub stopped_early: bool,
    /// Seconds of training and evaluating.
    pub seconds: f64,
    /// Its best evaluation.
    pub best: Option<BestScore>,
    /// Every evaluation.
    pub evaluations: Evaluations,
    /// Every evaluation for each return that it aims at, if it aims at any.
    pub targets: Vec<Target>,
    /// Columns of `metrics.csv`.
    pub metrics: Metrics,
    /// Of networks that predict tokens: how well the trained one tells data that it learned from, and data that it did not.
    pub tokens: Vec<Tokens>,
    /// Every key of the resolved configuration, as TOML.
    pub config: BTreeMap<String, String>,
    /// The defaults of keys that have another value; null where the default is unset.
    pub defaults: BTreeMap<String, Option<String>>,
    /// Program, machine, time and command of its start, where they were recorded.
    pub origin: Option<Origin>,
    /// Recorded episodes.
    pub episodes: Vec<Episode>,
    /// Why there are none, where there could be some.
    pub episodes_missing: Option<String>,
}

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunData {
    /// Files or folders.
    pub path: Vec<String>,
    /// Steps of all episodes, if known.
    pub steps: Option<usize>,
    /// Episodes, if known.
    pub episodes: Option<usize>,
    /// Its checksum, if known.
    pub checksum: Option<String>,
}

/// The best evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BestScore {
    /// After this many updates.
    pub update: u64,
    /// Mean score, or return where there are no reference returns.
    pub score: f64,
}

/// The columns of `evaluations.csv`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Evaluations {
    /// Updates done.
    pub update: Vec<u64>,
    /// Seconds of training until then.
    pub seconds: Vec<f64>,
    /// How many episodes.
    pub episodes: Vec<usize>,
    /// Mean return.
    pub return_mean: Vec<f64>,
    /// Its standard deviation over episodes.
    pub return_std: Vec<f64>,
    /// Mean normalised score.
    pub score_mean: Vec<Option<f64>>,
    /// Its standard deviation.
    pub score_std: Vec<Option<f64>>,
}

/// What evaluations found for one return that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    /// The return asked for.
    pub asked: f64,
    /// Mean returns, one per evaluation; null where it was not asked for.
    pub return_mean: Vec<Option<f64>>,
    /// Their standard deviations over episodes.
    pub return_std: Vec<Option<f64>>,
}

/// `metrics.csv`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Rows of the table.
    pub rows: usize,
    /// Each column, thinned.
    pub columns: BTreeMap<String, Column>,
}

/// A column of `metrics.csv` over updates.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Column {
    /// Updates, ascending.
    pub update: Vec<u64>,
    /// Values.
    pub value: Vec<f64>,
}

/// How well tokens of a data set are told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tokens {
    /// `training` or `held-out`; `given` of data that is not the run's own.
    pub data: &'static str,
    /// Windows that the numbers are means over.
    pub windows: usize,
    /// Every dimension of a transition; before them codes, of networks that tell codes.
    pub dimensions: Vec<TokenDimension>,
}

/// One dimension of transitions as tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenDimension {
    /// `observation 0`, ..., `action 0`, ..., `reward`, `value`, or `codes`.
    pub name: String,
    /// Share of its tokens that the likeliest one is right about, 0 to 1.
    pub accuracy: Option<f64>,
    /// Mean cross entropy in nats.
    pub cross_entropy: Option<f64>,
    /// Of codes: root mean square of what comes back from them less what went in, in the training data's standard deviations.
    pub error: Option<f64>,
}

/// A data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataSet {
    /// Names of its files.
    pub name: String,
    /// Why nothing more is known of it.
    pub missing: Option<String>,
    /// What `data info` says.
    pub info: Option<Info>,
    /// Returns of whole episodes.
    pub returns: Option<Histogram>,
    /// Lengths of whole episodes, in steps.
    pub lengths: Option<Histogram>,
    /// Rewards of all steps.
    pub rewards: Option<Histogram>,
    /// Dimensions of observations, the first ones.
    pub observations: Vec<Dimension>,
    /// Dimensions of actions, the first ones.
    pub actions: Vec<Dimension>,
}

/// Numbers of one dimension.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dimension {
    /// Which.
    pub dim: usize,
    /// Lowest.
    pub min: f64,
    /// Highest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// How often which values occur.
    pub hist: Option<Histogram>,
}

/// Counts in bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Where the first bin begins: the lowest value.
    pub low: f64,
    /// Where the last one ends: the highest value.
    pub high: f64,
    /// How many values lie in each.
    pub counts: Vec<usize>,
}

/// An episode, thinned: lists over steps have one number for each of `step`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Episode {
    /// The environment.
    pub env: String,
    /// Seed of the evaluation.
    pub seed: u64,
    /// Its number in that evaluation.
    pub number: usize,
    /// What the policy was told.
    pub instruction: Option<String>,
    /// Undiscounted return, as an evaluation has it.
    #[serde(rename = "return")]
    pub total: f64,
    /// Steps.
    pub length: usize,
    /// The environment ended it.
    pub terminated: bool,
    /// The time limit ended it.
    pub truncated: bool,
    /// One of so many steps is kept, and the last.
    pub every: usize,
    /// The steps that are kept, counted from 0.
    pub step: Vec<usize>,
    /// Reward of each.
    pub reward: Vec<f64>,
    /// Return until then, its reward included.
    pub return_so_far: Vec<f64>,
    /// What the algorithm thought the action was worth.
    pub value: Option<Vec<f64>>,
    /// What that number is.
    pub value_name: Option<&'static str>,
    /// Return that was still asked for, before the action.
    pub asked: Option<Vec<f64>>,
    /// Observations before the action, one list per kept dimension.
    pub observations: Vec<Vec<f64>>,
    /// Which dimensions are kept.
    pub observation_dims: Vec<usize>,
    /// How many there are.
    pub observation_dim: usize,
    /// Actions, one list per kept dimension.
    pub actions: Vec<Vec<f64>>,
    /// Which dimensions are kept.
    pub action_dims: Vec<usize>,
    /// Its maze, a key of [`Report::mazes`].
    pub maze: Option<String>,
    /// The place to reach.
    pub goal: Option<[f64; 2]>,
    /// Dimensions of observations in imagined futures.
    pub plan_dims: Vec<usize>,
    /// What a planner imagined on the way.
    pub plans: Vec<Plan>,
}

/// What a planner imagined at one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The step, counted from 0.
    pub step: usize,
    /// Futures, the one that was chosen first.
    pub futures: Vec<Future>,
}

/// One imagined future, from the plan's step on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Future {
    /// One list over its steps for each of [`Episode::plan_dims`].
    pub observations: Vec<Vec<f64>>,
    /// Rewards.
    pub rewards: Vec<f64>,
    /// Values.
    pub values: Vec<f64>,
    /// What the search maximised.
    pub score: f64,
}

/// A maze in cells, y upwards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Maze {
    /// Width.
    pub columns: usize,
    /// Height.
    pub rows: usize,
    /// Row by row from the bottom: `#` is a wall, `.` free.
    pub walls: String,
    /// Within this distance of the goal a step is rewarded.
    pub goal_radius: f64,
}
