//! One column of `metrics.csv` of several runs, e.g. what critics think of the policy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::app::checkpoint::fingerprint::all_settings;
use crate::app::checkpoint::places::called;
use crate::app::checkpoint::{Change, RunDir};
use crate::app::compare::alike::{self, History};
use crate::app::compare::found::{Once, check_seeds, found_all, readable};
use crate::app::compare::lines::folder_name;
use crate::app::evaluate::mean_std;
use crate::app::lost_rows::lost_rows;
use crate::app::table::Table;
use crate::report::curves;
use crate::report::curves::{Curves, ReferenceLine, Scale, Series};
use trajformer_core::error::{Error, Result};
use trajformer_core::nearest::did_you_mean;

/// Values whose largest is so many times their smallest are drawn on a logarithmic scale.
const WIDE: f64 = 300.0;

/// A metric of one run, or of several seeds of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricLine {
    /// The run directory, or the folder that holds one per seed.
    pub run: PathBuf,
    /// Its algorithm.
    pub algorithm: String,
    /// Update of the last row; of several seeds the first one's.
    pub update: u64,
    /// Last value; the mean of several seeds.
    pub last: f64,
    /// Largest value.
    pub largest: f64,
    /// Values that are not finite (NaN or infinite), which are left out.
    pub left_out: usize,
    /// Mean discounted return of the data in the units of the critics, where the run has measured it.
    pub return_to_go: Option<f64>,
    /// Update and value of every row, for each seed.
    #[serde(skip)]
    pub curves: Vec<Vec<(f64, f64)>>,
}

/// Reads column `name` of every run at or below `runs`: run directories, folders with one per seed, or folders of such folders. What is
/// named twice counts once. One that can't be read, or has no such column or no number in it, is left out with a warning, as long as
/// something is left.
///
/// # Errors
/// If there is nothing at a path, or no run is left: the columns that the last one has are named.
pub fn metric(runs: &[PathBuf], name: &str) -> Result<Vec<MetricLine>> {
    let (series, mut notes) = found_all(runs, Once::Series)?;
    let mut trained: Vec<(PathBuf, BTreeMap<String, String>, Vec<Change>)> = Vec::new();
    let whole = |folder: &Path| {
        let run = RunDir::open(folder)?;
        run.spec()?;
        let config = run.measured_config()?;
        let curve = curve(folder, name)?;
        let state = run.state()?;
        let lost = lost_rows(&run, &config, state.as_ref());
        let lost = run.lost_state().into_iter().chain(lost);
        notes.extend(lost.map(|lost| format!("{}: {lost}", called(folder).display())));
        let changed = state.map(|state| state.changed).unwrap_or_default();
        trained.push((folder.to_path_buf(), all_settings(&config)?, changed));
        Ok(curve)
    };
    let (read, unread) = readable(series, whole)?;
    for (series, _) in &read {
        let mut own = Vec::new();
        for folder in &series.runs {
            let found = trained.iter().find(|(other, ..)| other == folder);
            own.extend(found.map(|(folder, settings, changed)| {
                History::with_settings(folder, settings.clone(), changed)
            }));
        }
        notes.extend(alike::about(&series.path.display().to_string(), &own, &[]));
    }
    for note in notes.into_iter().chain(unread) {
        tracing::warn!("{note}");
    }
    let lines = read.into_iter().map(|(series, found)| {
        check_seeds(&series)?;
        line(&series.path, &series.runs, found)
    });
    lines.collect()
}

/// The metric of one run.
struct Curve {
    /// Update and value of every row that holds a finite one; at least one.
    points: Vec<(f64, f64)>,
    left_out: usize,
    /// What it has measured of the data's return.
    returns: Vec<f64>,
}

fn curve(folder: &Path, name: &str) -> Result<Curve> {
    let path = folder.join("metrics.csv");
    let Some(table) = Table::read_if_present(&path)? else {
        let path = path.display();
        return Err(Error::Unsuitable(format!(
            "{path} is missing: the run has logged nothing yet (`train.log_every_updates` says how often it does), or its table is lost"
        )));
    };
    // Every cell, so that a damaged table is no source of single columns.
    let numbers = table.all_numbers()?;
    let columns = &table.columns;
    let Some(place) = columns.iter().position(|column| column == name) else {
        let near = did_you_mean(name, columns.iter().map(String::as_str));
        let (path, columns) = (path.display(), columns.join(", "));
        return Err(Error::Unknown {
            name: name.to_owned(),
            problem: format!("{path} has no column `{name}`; there are {columns}{near}"),
        });
    };
    let is_number = |row: &&Vec<String>| !row[place].trim().is_empty();
    let written = table.rows.iter().filter(is_number).count();
    let points: Vec<(f64, f64)> = numbers
        .iter()
        .map(|row| (row[0], row[place]))
        .filter(|(_, value)| value.is_finite())
        .collect();
    if points.is_empty() {
        let path = path.display();
        let problem = if written == 0 {
            format!("{path}: column `{name}` holds no number yet")
        } else {
            format!(
                "{path}: column `{name}` holds NaN and infinite values only, {written} of them: the training diverged"
            )
        };
        return Err(Error::Unsuitable(problem));
    }
    let judged = columns.iter().position(|name| name == "return_to_go_mean");
    let measured = judged
        .into_iter()
        .flat_map(|place| numbers.iter().map(move |row| row[place]));
    let returns = measured.filter(|value| value.is_finite()).collect();
    Ok(Curve {
        left_out: written - points.len().min(written),
        points,
        returns,
    })
}

fn line(run: &Path, folders: &[PathBuf], found: Vec<Curve>) -> Result<MetricLine> {
    let algorithm = RunDir::open(&folders[0])?.config()?.algorithm.name();
    let left_out = found.iter().map(|one| one.left_out).sum();
    let (curves, returns): (Vec<_>, Vec<_>) = found
        .into_iter()
        .map(|one| (one.points, one.returns))
        .unzip();
    let returns: Vec<f64> = returns.into_iter().flatten().collect();
    let last = |curve: &Vec<(f64, f64)>| curve[curve.len() - 1];
    Ok(MetricLine {
        run: run.to_path_buf(),
        algorithm: algorithm.to_owned(),
        update: last(&curves[0]).0 as u64,
        last: mean_std(&curves.iter().map(|curve| last(curve).1).collect::<Vec<_>>()).0,
        largest: curves
            .iter()
            .flatten()
            .fold(f64::NEG_INFINITY, |largest, point| largest.max(point.1)),
        left_out,
        return_to_go: (!returns.is_empty()).then(|| mean_std(&returns).0),
        curves,
    })
}

/// Draws the metric over updates; for values of critics (`q_...`) with the data's return as a dashed line.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, title: &str, name: &str, lines: &[MetricLine]) -> Result<()> {
    let values = lines.iter().flat_map(|line| &line.curves).flatten();
    let values: Vec<f64> = values.map(|point| point.1).filter(|v| *v > 0.0).collect();
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(0.0, f64::max);
    let returns: Vec<f64> = lines.iter().filter_map(|line| line.return_to_go).collect();
    let judged = name.starts_with("q_") && !returns.is_empty();
    let reference = judged.then(|| ReferenceLine {
        label: "the data's return".to_owned(),
        y: mean_std(&returns).0,
    });
    let series = lines.iter().map(|line| {
        let label = folder_name(&line.run).unwrap_or_else(|| line.algorithm.clone());
        match &line.curves[..] {
            [curve] => Series::line(label, curve.clone()),
            several => Series::of_runs(label, several.to_vec()),
        }
    });
    let chart = Curves {
        title: title.to_owned(),
        subtitle: format!("`{name}` of metrics.csv"),
        x_label: "updates".to_owned(),
        y_label: name.to_owned(),
        y_scale: if largest > WIDE * smallest {
            Scale::Log
        } else {
            Scale::Linear
        },
        series: series.collect(),
        reference_lines: reference.into_iter().collect(),
    };
    curves::draw(path, &chart)
}
