//! [`compare`]: finished or running runs side by side, as a table and as learning curves; [`metric`]: any
//! column of their `metrics.csv`.

pub mod metric;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::app::checkpoint::fingerprint::{Difference, differences, settings};
use crate::app::checkpoint::{RunDir, runs_inside};
use crate::app::evaluate::mean_std;
use crate::app::evaluations::{EvaluationRow, Evaluations};
use crate::report::curves;
use crate::report::curves::{Curves, Series};
use trajformer_core::error::{Error, Result};

/// What the evaluations of one run, or of several seeds of it, say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The run directory, or the folder that holds one per seed.
    pub run: PathBuf,
    /// Its algorithm.
    pub algorithm: String,
    /// Runs in the folder; 1 for a run directory.
    pub seeds: usize,
    /// Update of the last evaluation.
    pub update: u64,
    /// Seconds of training until then, evaluations included; of several seeds the mean.
    pub seconds: f64,
    /// Last score: normalised, or the return where the environment has no reference returns.
    pub last: f64,
    /// Its deviation: over episodes of one run, between seeds of several.
    pub last_std: f64,
    /// Highest mean score of any evaluation.
    pub best: f64,
    /// Every evaluation: update, seconds, mean, deviation.
    #[serde(skip)]
    pub curve: Vec<[f64; 4]>,
    /// Whether the numbers are normalised scores.
    pub normalized: bool,
}

/// Reads the evaluations of every one of `runs`: run directories, or folders with one per seed.
///
/// # Errors
/// If one is neither, or holds no evaluation.
pub fn compare(runs: &[PathBuf]) -> Result<Vec<Line>> {
    runs.iter().map(|run| line(run)).collect()
}

fn line(run: &Path) -> Result<Line> {
    let folders = run_folders(run)?;
    let algorithm = RunDir::open(&folders[0])?.config()?.algorithm.name();
    let tables = folders
        .iter()
        .map(|folder| Evaluations::rows(folder))
        .collect::<Result<Vec<_>>>()?;
    let normalized = tables.iter().flatten().all(|row| row.scores.is_some());
    let mut curve = Vec::new();
    for first in &tables[0] {
        let find = |table: &Vec<EvaluationRow>| {
            let mut rows = table.iter();
            rows.find(|row| row.update == first.update).copied()
        };
        let Some(rows) = tables.iter().map(find).collect::<Option<Vec<_>>>() else {
            continue; // a seed that is not there yet
        };
        let values: Vec<f64> = rows.iter().map(|row| value(row, normalized).0).collect();
        let (mean, mut std) = mean_std(&values);
        if rows.len() == 1 {
            std = value(first, normalized).1;
        }
        let seconds = rows.iter().map(|row| row.seconds).sum::<f64>() / rows.len() as f64;
        curve.push([first.update as f64, seconds, mean, std]);
    }
    let &[update, seconds, last, last_std] = curve.last().ok_or_else(|| {
        Error::Unsuitable(format!(
            "{} has no evaluation yet: train it with `evaluate.env` set",
            run.display()
        ))
    })?;
    Ok(Line {
        run: run.to_path_buf(),
        algorithm: algorithm.to_owned(),
        seeds: folders.len(),
        update: update as u64,
        seconds,
        last,
        last_std,
        best: curve
            .iter()
            .map(|point| point[2])
            .fold(f64::NEG_INFINITY, f64::max),
        curve,
        normalized,
    })
}

/// Mean and deviation of the normalized scores, or of the returns.
fn value(row: &EvaluationRow, normalized: bool) -> (f64, f64) {
    match row.scores {
        Some(scores) if normalized => scores,
        _ => row.returns,
    }
}

/// The run itself, or its seeds in the order of their names.
///
/// # Errors
/// If it is neither, or holds runs of several configurations.
pub(crate) fn run_folders(run: &Path) -> Result<Vec<PathBuf>> {
    if run.join("config.toml").exists() {
        return Ok(vec![run.to_path_buf()]);
    }
    std::fs::read_dir(run).map_err(Error::io(run))?;
    let folders = runs_inside(run);
    let Some((first, rest)) = folders.split_first() else {
        return Err(Error::NoRun {
            path: run.to_path_buf(),
            problem: "it is not a run directory and holds none: it has no config.toml".to_owned(),
        });
    };
    let expected = apart_from_seed(first)?;
    for folder in rest {
        let found = differences(&expected, &apart_from_seed(folder)?);
        if let Some(Difference { key, before, now }) = found.first() {
            return Err(Error::Unsuitable(format!(
                "{}: its runs are not seeds of one configuration: `{key}` is {before} in {} and \
                 {now} in {}; name the runs one by one",
                run.display(),
                first.display(),
                folder.display()
            )));
        }
    }
    Ok(folders)
}

/// What must be equal in the seeds of one series: all settings but the seed, and the data.
fn apart_from_seed(folder: &Path) -> Result<BTreeMap<String, String>> {
    let run = RunDir::open(folder)?;
    let mut settings = settings(&run.config()?)?;
    settings.remove("seed");
    if let Some(data) = run.spec()?.data {
        settings.insert("the data's checksum".to_owned(), data.checksum);
    }
    Ok(settings)
}

/// Draws the learning curves: scores over minutes of training, with bands of one deviation.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, can't be written, or some of the runs have
/// normalised scores and some have not.
pub fn draw(path: &Path, title: &str, lines: &[Line]) -> Result<()> {
    let normalized = lines.iter().all(|line| line.normalized);
    if !normalized && lines.iter().any(|line| line.normalized) {
        return Err(Error::Unsuitable(
            "some of the runs have normalised scores and some only returns: they don't fit one \
             picture"
                .to_owned(),
        ));
    }
    let series = lines.iter().map(|line| Series {
        label: name(line),
        points: line
            .curve
            .iter()
            .map(|point| (point[1] / 60.0, point[2]))
            .collect(),
        band: Some(
            line.curve
                .iter()
                .map(|p| (p[2] - p[3], p[2] + p[3]))
                .collect(),
        ),
        faint: Vec::new(),
    });
    let over = if lines.iter().all(|line| line.seeds > 1) {
        "seeds"
    } else {
        "episodes"
    };
    let what = if normalized {
        "normalised score"
    } else {
        "return"
    };
    let chart = Curves {
        title: title.to_owned(),
        subtitle: format!("mean {what} of each evaluation, band: one deviation over {over}"),
        x_label: "training time (minutes)".to_owned(),
        y_label: what.to_owned(),
        series: series.collect(),
        ..Curves::default()
    };
    curves::draw(path, &chart)
}

/// How a run is called in the legend.
fn name(line: &Line) -> String {
    folder_name(&line.run).unwrap_or_else(|| line.algorithm.clone())
}

fn folder_name(run: &Path) -> Option<String> {
    Some(run.file_name()?.to_string_lossy().into_owned())
}
