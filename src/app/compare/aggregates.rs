//! [`OverTasks`]: one number per group of runs, over all its seeds and tasks, with intervals.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::app::compare::lines::{Line, bootstrapped, distinct, resampling};
use crate::app::compare::statistics::{Interval, Scores, draw, improvement, intervals};

/// The normalised score of the reference expert: what the optimality gap is measured to.
pub const GOAL: f64 = 100.0;
/// With more groups not every two are compared.
const MOST_PAIRED: usize = 12;

/// Groups of lines side by side on the tasks that all of them have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverTasks {
    /// The tasks.
    pub tasks: Vec<String>,
    /// Whether the numbers are normalised scores; else they are returns, of one task.
    pub normalized: bool,
    /// Bootstrap samples of every interval.
    pub resamples: usize,
    /// The groups in the order of their lines.
    pub groups: Vec<Aggregates>,
    /// Every two groups; of more than twelve each with the one of the highest interquartile mean.
    pub improvements: Vec<Improvement>,
}

/// A number and its 95 % percentile interval; none where no task has more than one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number, of the runs themselves.
    pub value: f64,
    /// Interval from runs drawn anew within each task.
    pub interval: Option<Interval>,
}

/// What `statistics` makes of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Aggregates {
    /// The lines' name.
    pub name: String,
    /// Number of runs on each task.
    pub runs: Vec<usize>,
    /// Mean of the tasks' means.
    pub mean: Estimate,
    /// Median of the tasks' means.
    pub median: Estimate,
    /// Mean of the middle half of all runs.
    pub interquartile_mean: Estimate,
    /// How far runs stay below a score of 100; of normalised scores only.
    pub optimality_gap: Option<Estimate>,
    /// The scores.
    #[serde(skip)]
    pub scores: Scores,
}

/// How probable it is that a run of one group scores higher than a run of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Improvement {
    /// The group whose runs more probably score higher; the first of two that are equal.
    pub better: String,
    /// The other.
    pub worse: String,
    /// The mean over tasks.
    pub over_tasks: Estimate,
    /// On every task by itself.
    pub per_task: Vec<Estimate>,
}

/// A group's performance profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// The group.
    pub name: String,
    /// Scores, ascending.
    pub thresholds: Vec<f64>,
    /// Share of runs above each of them.
    pub shares: Vec<f64>,
    /// The band, at each of them.
    pub band: Option<Vec<Interval>>,
}

/// The names of the lines, each once.
pub fn names(lines: &[Line]) -> Vec<String> {
    distinct(lines.iter().map(|line| line.name.clone()))
}

/// The tasks that every group has, in the order of the lines, and those that only some have.
pub fn common_tasks(lines: &[Line]) -> (Vec<String>, Vec<String>) {
    let names = distinct(lines.iter().map(|line| &line.name)).len();
    let mut having: HashMap<&String, HashSet<&String>> = HashMap::new();
    for line in lines {
        having.entry(&line.task).or_default().insert(&line.name);
    }
    distinct(lines.iter().map(|line| line.task.clone()))
        .into_iter()
        .partition(|task| having[task].len() == names)
}

impl OverTasks {
    /// The groups of `lines` on `tasks`, which all of them have; all scores or all returns.
    pub fn new(lines: &[Line], tasks: Vec<String>, resamples: usize) -> Self {
        let normalized = lines.iter().all(|line| line.normalized);
        let mut places: HashMap<(&String, &String), &Line> = HashMap::new();
        for line in lines {
            places.entry((&line.name, &line.task)).or_insert(line);
        }
        let group = |name: String| {
            let of_task = |task: &String| {
                let line = places.get(&(&name, task));
                line.map(|line| line.scores.clone()).unwrap_or_default()
            };
            let scores = Scores::new(tasks.iter().map(of_task).collect())?;
            Some(Aggregates::new(name, scores, normalized, resamples))
        };
        let groups: Vec<Aggregates> = names(lines).into_iter().filter_map(group).collect();
        let best = (0..groups.len()).max_by(|a, b| {
            let [a, b] = [a, b].map(|at| groups[*at].interquartile_mean.value);
            a.total_cmp(&b)
        });
        let pairs: Vec<(usize, usize)> = match best.filter(|_| groups.len() > MOST_PAIRED) {
            Some(best) => {
                let before = (0..best).map(|at| (at, best));
                before
                    .chain((best + 1..groups.len()).map(|at| (best, at)))
                    .collect()
            }
            None => {
                let from = |at: usize| (at + 1..groups.len()).map(move |other| (at, other));
                (0..groups.len()).flat_map(from).collect()
            }
        };
        let improvement =
            |(a, b): (usize, usize)| Improvement::of(&groups[a], &groups[b], resamples);
        let improvements = pairs.into_iter().map(improvement).collect();
        Self {
            tasks,
            normalized,
            resamples,
            groups,
            improvements,
        }
    }

    /// Performance profiles of all groups at the same thresholds: every score that any run has, from the lowest (or 0) to the
    /// highest (or 100). From one threshold to the next a profile keeps its value.
    pub fn profiles(&self) -> Vec<Profile> {
        let mut thresholds: Vec<f64> = self
            .groups
            .iter()
            .flat_map(|group| group.scores.tasks().iter().flatten().copied())
            .collect();
        if self.normalized {
            thresholds.extend([0.0, GOAL]);
        }
        thresholds.sort_by(f64::total_cmp);
        thresholds.dedup();
        let profile = |group: &Aggregates| Profile {
            name: group.name.clone(),
            thresholds: thresholds.clone(),
            shares: group.scores.profile(&thresholds),
            band: bootstrapped(&group.scores, self.resamples, |scores| {
                scores.profile(&thresholds)
            }),
        };
        self.groups.iter().map(profile).collect()
    }
}

impl Aggregates {
    fn new(name: String, scores: Scores, normalized: bool, resamples: usize) -> Self {
        let all = |scores: &Scores| {
            vec![
                scores.mean(),
                scores.median(),
                scores.interquartile_mean(),
                scores.optimality_gap(GOAL),
            ]
        };
        let values = all(&scores);
        let intervals = bootstrapped(&scores, resamples, all);
        let estimate = |number: usize| Estimate {
            value: values[number],
            interval: intervals.as_ref().map(|found| found[number]),
        };
        Self {
            name,
            runs: scores.sizes(),
            mean: estimate(0),
            median: estimate(1),
            interquartile_mean: estimate(2),
            optimality_gap: normalized.then(|| estimate(3)),
            scores,
        }
    }
}

impl Aggregates {
    /// `estimate` where there are several tasks: with one it says what the line of the one task says.
    pub fn over_tasks(&self, estimate: Estimate) -> Option<Estimate> {
        (self.runs.len() > 1).then_some(estimate)
    }
}

impl Improvement {
    /// The one of `x` over `y`, or of `y` over `x` if that is more probable.
    fn of(x: &Aggregates, y: &Aggregates, resamples: usize) -> Self {
        let wins = improvement(&x.scores, &y.scores);
        let more = wins.iter().sum::<f64>() >= 0.5 * wins.len() as f64;
        if more {
            Self::new(x, y, resamples)
        } else {
            Self::new(y, x, resamples)
        }
    }

    fn new(x: &Aggregates, y: &Aggregates, resamples: usize) -> Self {
        let both = |x: &Scores, y: &Scores| {
            let mut per_task = improvement(x, y);
            let mean = per_task.iter().sum::<f64>() / per_task.len() as f64;
            per_task.insert(0, mean);
            per_task
        };
        let (x_sizes, y_sizes) = (x.scores.sizes(), y.scores.sizes());
        let varies = x_sizes.iter().chain(&y_sizes).any(|runs| *runs > 1);
        let mut rng = resampling();
        let mut below = |bound| rng.below(bound);
        let mut sample = || {
            let drawn = x.scores.drawn(&draw(&x_sizes, &mut below));
            both(&drawn, &y.scores.drawn(&draw(&y_sizes, &mut below)))
        };
        let found =
            varies.then(|| intervals(&(0..resamples).map(|_| sample()).collect::<Vec<_>>()));
        let values = both(&x.scores, &y.scores);
        let estimate = |number: usize| Estimate {
            value: values[number],
            interval: found.as_ref().map(|found| found[number]),
        };
        // A task with one run of either has no interval of its own.
        let of_task = |task: usize| {
            let found = estimate(task + 1);
            let varies = x_sizes[task] > 1 || y_sizes[task] > 1;
            Estimate {
                interval: found.interval.filter(|_| varies),
                ..found
            }
        };
        Self {
            better: x.name.clone(),
            worse: y.name.clone(),
            over_tasks: estimate(0),
            per_task: (0..x_sizes.len()).map(of_task).collect(),
        }
    }
}
