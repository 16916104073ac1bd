//! Papers' results made again: their own configurations as the runs of a sweep, and each score beside the published one with a
//! verdict.
//!
//! The rule of a verdict: the difference between our mean and the published one has a 95 % interval, from the standard errors of
//! both means and Student's t with Welch's degrees of freedom. If it holds 0, the score is *within* the interval; else it is
//! *above* or *below*. Fewer than [`FEWEST_SEEDS`] seeds decide nothing, nor do shortened runs or other data. Within says that no
//! difference was seen, not that there is none: the interval says how large one may be.

mod configs;
mod published;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::app::checkpoint::RunDir;
use crate::app::compare::statistics::student_quantile;
use crate::app::compare::tables::{Align, Table};
use crate::app::datasets::{self, Named};
use crate::app::sweep::{Line, Plan};
use published::{COLUMNS, Column, LOCOMOTION, Spread};
use trajformer_core::error::{Error, Result};
use trajformer_core::statistics::mean_std;

pub use published::DataSet;

/// Names of what can be reproduced.
pub const NAMES: [&str; 1] = ["d4rl-locomotion"];
/// Fewer seeds have no verdict.
pub const FEWEST_SEEDS: usize = 3;

/// What is to be reproduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// One of [`NAMES`].
    pub name: String,
    /// Algorithms, folders of `configs`; none: all.
    pub algorithms: Vec<String>,
    /// Data sets; none: all.
    pub datasets: Vec<String>,
    /// Seeds of each.
    pub seeds: Vec<u64>,
    /// Updates of each run, instead of the papers'.
    pub updates: Option<u64>,
    /// Folder of the data files.
    pub data_dir: PathBuf,
}

/// Configurations of papers as runs, with what they are compared with.
#[derive(Debug, Clone)]
pub struct Reproduction {
    /// The runs.
    pub plan: Plan,
    /// The published score of each line of the plan.
    cells: Vec<(&'static Column, usize)>,
    is_shortened: bool,
    data_dir: PathBuf,
}

/// What is said of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval of the difference holds 0.
    Within,
    /// Ours is higher.
    Above,
    /// Ours is lower.
    Below,
    /// Fewer than [`FEWEST_SEEDS`].
    NotEnoughSeeds,
    /// The runs are shorter than the paper's.
    Shortened,
    /// The data is not D4RL's.
    OtherData,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Within => "within the interval",
            Self::Above => "above",
            Self::Below => "below",
            Self::NotEnoughSeeds => "not enough seeds",
            Self::Shortened => "shortened, not comparable",
            Self::OtherData => "other data, not comparable",
        }
    }
}

/// A score beside the published one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// Folder of `configs`.
    pub algorithm: &'static str,
    /// The data set.
    pub dataset: &'static str,
    /// The last score of every finished seed.
    pub scores: Vec<f64>,
    /// Their mean.
    pub mean: Option<f64>,
    /// The published mean and what stands behind its `±`.
    pub published: (f64, f64),
    /// Where it is published.
    pub source: &'static str,
    /// 95 % interval of the difference, ours less the published.
    pub difference: Option<(f64, f64)>,
    /// What is said of it.
    pub verdict: Verdict,
}

impl Reproduction {
    /// What `request` asks for, in the folder `out`.
    ///
    /// # Errors
    /// If a name is unknown, or the updates don't fit a schedule.
    pub fn new(request: &Request, out: &Path) -> Result<Self> {
        one_of(&request.name, &NAMES, "reproduction").map_err(why_no_more)?;
        let (known_algorithms, known_datasets) = (
            COLUMNS.map(|column| column.algorithm),
            LOCOMOTION.map(|data| data.name),
        );
        for name in &request.algorithms {
            one_of(name, &known_algorithms, "algorithm")?;
        }
        for name in &request.datasets {
            one_of(name, &known_datasets, "data set")?;
        }
        let chosen = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|other| other == name)
        };
        let (mut lines, mut cells) = (Vec::new(), Vec::new());
        for column in COLUMNS
            .iter()
            .filter(|column| chosen(&request.algorithms, column.algorithm))
        {
            for (at, data) in LOCOMOTION
                .iter()
                .enumerate()
                .filter(|(_, data)| chosen(&request.datasets, data.name))
            {
                let (config, source) = configs::config(column.algorithm, data.name)?;
                let file = file_of(data, &request.data_dir);
                let path = toml::Value::from(vec![file.display().to_string()]);
                let mut keys = vec![format!("data.path={path}")];
                if let Some(updates) = request.updates {
                    let every = config.evaluate.every_updates.min(updates);
                    keys.extend([
                        format!("train.updates={updates}"),
                        format!("evaluate.every_updates={every}"),
                    ]);
                }
                lines.push(Line {
                    name: format!("{}-{}", column.algorithm, data.name),
                    config: config.with_overrides(&keys)?,
                    source,
                    seeds: request.seeds.clone(),
                });
                cells.push((column, at));
            }
        }
        Ok(Self {
            plan: Plan::new(lines, out)?,
            cells,
            is_shortened: request.updates.is_some(),
            data_dir: request.data_dir.clone(),
        })
    }

    /// The data sets that it learns from, each with its file, there or not.
    pub fn data(&self) -> Vec<(&'static DataSet, PathBuf)> {
        let mut found: Vec<(&DataSet, PathBuf)> = Vec::new();
        for (_, at) in &self.cells {
            let data = &LOCOMOTION[*at];
            if !found.iter().any(|(other, _)| *other == data) {
                found.push((data, file_of(data, &self.data_dir)));
            }
        }
        found
    }

    /// What every score is compared with: algorithm, source, and what is to be known of it.
    pub fn sources(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut found: Vec<(&str, &str, &str)> = Vec::new();
        for (column, _) in &self.cells {
            let source = (column.algorithm, column.source, column.note);
            if !found.contains(&source) {
                found.push(source);
            }
        }
        found
    }

    /// Every line's score beside the published one, from the runs that are finished.
    ///
    /// # Errors
    /// If a run can't be read.
    pub fn judged(&self) -> Result<Vec<Judged>> {
        let of_line = |(line, (column, at)): (usize, &(&'static Column, usize))| {
            let (mut scores, mut is_d4rls) = (Vec::new(), true);
            for run in self.plan.runs.iter().filter(|run| run.line == line) {
                // One that can't be read was named when the runs were trained.
                let spec = || RunDir::open(&run.folder)?.spec();
                let Ok(standing) = self.plan.standing(run) else {
                    continue;
                };
                if let (true, Some(score)) = (standing.is_finished(), standing.score) {
                    let Ok(spec) = spec() else {
                        continue;
                    };
                    scores.push(score);
                    let data = spec.data;
                    is_d4rls &= data.is_none_or(|data| LOCOMOTION[*at].is_size(data.steps));
                }
            }
            let (published, spread) = (column.scores[*at], column.spread);
            let difference = difference(&scores, published, spread);
            let verdict = match difference {
                _ if self.is_shortened => Verdict::Shortened,
                _ if !is_d4rls => Verdict::OtherData,
                Some((low, high)) if scores.len() >= FEWEST_SEEDS => {
                    match (low > 0.0, high < 0.0) {
                        (true, _) => Verdict::Above,
                        (_, true) => Verdict::Below,
                        _ => Verdict::Within,
                    }
                }
                _ => Verdict::NotEnoughSeeds,
            };
            Ok(Judged {
                algorithm: column.algorithm,
                dataset: LOCOMOTION[*at].name,
                mean: (!scores.is_empty()).then(|| mean_std(&scores).0),
                scores,
                published,
                source: column.source,
                difference,
                verdict,
            })
        };
        self.cells.iter().enumerate().map(of_line).collect()
    }
}

/// A table of verdicts.
pub fn table(judged: &[Judged]) -> Table {
    let columns = [
        ("algorithm", Align::Words),
        ("data", Align::Words),
        ("seeds", Align::Numbers),
        ("ours", Align::Numbers),
        ("published", Align::Numbers),
        ("difference, 95 %", Align::Numbers),
        ("verdict", Align::Words),
    ];
    let caption = format!(
        "D4RL-normalised scores of the last checkpoint, ± as published, ours the standard deviation over seeds. The interval of the \
         difference of the means is Welch's; a score is within it if it holds 0. Fewer than {FEWEST_SEEDS} seeds have no verdict."
    );
    let mut table = Table::new(
        caption,
        columns
            .map(|(name, align)| (name.to_owned(), align))
            .to_vec(),
    );
    for row in judged {
        let (mean, deviation) = (row.mean, sample_deviation(&row.scores));
        let ours = match (mean, deviation) {
            (Some(mean), Some(deviation)) => format!("{mean:.1} ± {deviation:.1}"),
            (Some(mean), None) => format!("{mean:.1}"),
            _ => "-".to_owned(),
        };
        let difference = row
            .difference
            .map(|(low, high)| format!("[{low:+.1}, {high:+.1}]"));
        table.push(vec![
            row.algorithm.to_owned(),
            row.dataset.to_owned(),
            row.scores.len().to_string(),
            ours,
            format!("{:.1} ± {:.1}", row.published.0, row.published.1),
            difference.unwrap_or_else(|| "-".to_owned()),
            row.verdict.words().to_owned(),
        ]);
    }
    table
}

/// A data set's file in the folder; if it is not there but was fetched by its name, that one.
fn file_of(data: &DataSet, folder: &Path) -> PathBuf {
    let name = data.d4rl_name();
    let file = datasets::within(folder, Path::new(&name));
    match Named::find(&name).map(|named| named.cached()) {
        Ok(cached) if !file.exists() && cached.exists() => cached,
        _ => file,
    }
}

fn one_of(name: &str, known: &[&str], what: &str) -> Result<()> {
    if known.contains(&name) {
        Ok(())
    } else {
        Err(Error::Unknown {
            name: name.to_owned(),
            problem: format!(
                "unknown {what} `{name}`, expected one of {}",
                known.join(", ")
            ),
        })
    }
}

/// The error about a name with what could be meant by it and is not there.
fn why_no_more(error: Error) -> Error {
    match error {
        Error::Unknown { name, problem } => Error::Unknown {
            name,
            problem: format!(
                "{problem} (hopper, halfcheetah and walker2d on medium, medium-replay and medium-expert). Scores on maze2d, antmaze, kitchen \
                 and Adroit are published too, but D4RL's environments of these are not here, and Gymnasium's newer ones are others: no \
                 score would be comparable"
            ),
        },
        other => other,
    }
}

/// Standard deviation with one less than the number of values in the denominator; `None` of fewer than two.
fn sample_deviation(values: &[f64]) -> Option<f64> {
    let count = values.len();
    (count > 1).then(|| mean_std(values).1 * (count as f64 / (count - 1) as f64).sqrt())
}

/// The 95 % interval of the difference between the mean of `scores` and a published one.
fn difference(scores: &[f64], (mean, spread): (f64, f64), kind: Spread) -> Option<(f64, f64)> {
    let own_error = sample_deviation(scores)? / (scores.len() as f64).sqrt();
    let (error, others) = match kind {
        Spread::Deviation { seeds } => (spread / (seeds as f64).sqrt(), seeds),
        Spread::StandardError { models } => (spread, models),
    };
    let (own, other) = (own_error.powi(2), error.powi(2));
    let below = own.powi(2) / (scores.len() - 1) as f64 + other.powi(2) / (others - 1) as f64;
    let freedom = if below > 0.0 {
        (own + other).powi(2) / below
    } else {
        1.0
    };
    let half = student_quantile((freedom as usize).max(1)) * (own + other).sqrt();
    let distance = mean_std(scores).0 - mean;
    Some((distance - half, distance + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_means_have_welchs_interval() {
        // scipy: ttest_ind_from_stats(50, std([48, 50, 52], ddof=1), 3, 45, 2, 4, equal_var=False): df 4.47; here rounded down to 4.
        let found = difference(
            &[48.0, 50.0, 52.0],
            (45.0, 2.0),
            Spread::Deviation { seeds: 4 },
        );
        let half = 2.776_445 * (4.0 / 3.0 + 1.0_f64).sqrt();
        let (low, high) = found.expect("three seeds");
        assert!(
            (low - (5.0 - half)).abs() < 1e-4 && (high - (5.0 + half)).abs() < 1e-4,
            "{low} {high}"
        );
        assert_eq!(
            difference(&[50.0], (45.0, 2.0), Spread::Deviation { seeds: 4 }),
            None
        );
        let (low, high) = difference(
            &[48.0, 50.0, 52.0],
            (45.0, 2.0),
            Spread::StandardError { models: 4 },
        )
        .expect("three");
        assert!(high - low > 2.0 * half, "a standard error is no deviation");
    }

    #[test]
    fn every_published_cell_has_its_configuration() {
        for column in &COLUMNS {
            for data in &LOCOMOTION {
                let (config, path) = configs::config(column.algorithm, data.name).expect(data.name);
                let file = &config.data.path[0];
                assert!(file.ends_with(data.d4rl_name()), "{}", path.display());
                let algorithm = if column.algorithm == "bc_10" {
                    "bc"
                } else {
                    column.algorithm
                };
                assert_eq!(config.algorithm.name(), algorithm);
            }
        }
    }

    #[test]
    fn files_are_found_under_their_own_names_and_d4rls() {
        let folder = tempfile::tempdir().expect("a folder");
        let found = |there: &str| {
            let _ = std::fs::remove_dir_all(folder.path());
            std::fs::create_dir_all(folder.path()).expect("a folder");
            if !there.is_empty() {
                std::fs::write(folder.path().join(there), "").expect("a file");
            }
            let file = file_of(&LOCOMOTION[4], folder.path());
            file.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        for name in [
            "hopper-medium-replay.hdf5",
            "hopper_medium_replay-v2.hdf5",
            "hopper-medium-replay-v2.hdf5",
        ] {
            assert_eq!(found(name).as_deref(), Some(name));
        }
        let usual = Some("hopper-medium-replay-v2.hdf5");
        assert_eq!(found("").as_deref(), usual);
    }
}
