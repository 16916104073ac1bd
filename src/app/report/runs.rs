//! What run directories hold, as a report shows it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::app::checkpoint::RunDir;
use crate::app::compare::compare;
use crate::app::compare::found::{check_seeds, found, is_seed};
use crate::app::config::{RunConfig, values};
use crate::app::evaluations::{EvaluationRow, Evaluations as Table};
use crate::app::report::contract::{
    BestScore, Column, Evaluations, Metrics, Run, RunData, Series, Target,
};
use crate::app::report::thin::{rounded, thinned};
use crate::app::table;
use trajformer_core::error::Result;

/// A run directory that is read.
pub(super) struct Folder {
    pub path: PathBuf,
    pub config: RunConfig,
    /// Rows of its evaluations.
    rows: Vec<EvaluationRow>,
    run: RunDir,
}

/// A run that was named: a folder, or several seeds of one configuration.
pub(super) struct Named {
    pub path: PathBuf,
    pub folders: Vec<Folder>,
}

/// Opens the run directories of every one of `runs`: run directories, folders with one per seed, or folders of such folders.
///
/// # Errors
/// If one is neither, or can't be read.
pub(super) fn open(runs: &[PathBuf]) -> Result<Vec<Named>> {
    let folder = |path: PathBuf| {
        let run = RunDir::open(&path)?;
        Ok(Folder {
            config: run.config()?,
            rows: Table::rows(&path)?,
            run,
            path,
        })
    };
    let mut named = Vec::new();
    for path in runs {
        for series in found(path)? {
            check_seeds(&series)?;
            let folders = series.runs.into_iter().map(folder);
            named.push(Named {
                path: series.path,
                folders: folders.collect::<Result<_>>()?,
            });
        }
    }
    Ok(named)
}

/// The shortest ends of the paths that tell them from each other.
fn names(runs: &[Named]) -> Vec<String> {
    let end = |named: &Named, parts: usize| {
        let all: Vec<_> = named.path.iter().collect();
        let kept: PathBuf = all[all.len().saturating_sub(parts)..].iter().collect();
        kept.display().to_string()
    };
    let most = runs.iter().map(|named| named.path.iter().count()).max();
    // A seed's own folder says little.
    let fewest = if runs.iter().any(|named| is_seed(&named.path)) {
        2
    } else {
        1
    };
    for parts in fewest..most.unwrap_or(1) {
        let mut found: Vec<String> = runs.iter().map(|named| end(named, parts)).collect();
        let ends = found.clone();
        found.sort();
        found.dedup();
        if found.len() == runs.len() {
            return ends;
        }
    }
    let whole = runs.iter().map(|named| named.path.display().to_string());
    whole.collect()
}

/// The series of the runs that were named, and all their runs; of each column of `metrics.csv` about `points` points.
///
/// # Errors
/// If a file of a run can't be read, or holds something that is no number.
pub(super) fn collect(runs: &[Named], points: usize) -> Result<(Vec<Series>, Vec<Run>)> {
    let (mut series, mut all) = (Vec::new(), Vec::new());
    for (number, (named, name)) in runs.iter().zip(names(runs)).enumerate() {
        let first = &named.folders[0];
        let members = all.len()..all.len() + named.folders.len();
        for folder in &named.folders {
            all.push(run(folder, number, points)?);
        }
        let rows = named.folders.iter().flat_map(|folder| &folder.rows);
        let has = |row: &EvaluationRow| {
            let mut others = named.folders.iter();
            others.all(|folder| folder.rows.iter().any(|other| other.update == row.update))
        };
        let curve = if first.rows.iter().any(has) {
            let lines = compare(std::slice::from_ref(&named.path))?;
            lines.into_iter().flat_map(|line| line.curve).collect()
        } else {
            Vec::new()
        };
        series.push(Series {
            name,
            algorithm: first.config.algorithm.name().to_owned(),
            env: first.config.evaluate.env.clone(),
            normalized: rows.clone().count() > 0 && rows.clone().all(|row| row.scores.is_some()),
            runs: members.collect(),
            curve,
        });
    }
    Ok((series, all))
}

/// How many curves the columns of `metrics.csv` are.
///
/// # Errors
/// If a table can't be read.
pub(super) fn curves(runs: &[Named]) -> Result<usize> {
    let folders = runs.iter().flat_map(|named| &named.folders);
    let count = |folder: &Folder| {
        let found = table::read_if_present(&metrics_file(&folder.path))?;
        Ok(found.map_or(0, |(columns, _)| columns.len().saturating_sub(2)))
    };
    folders.map(count).sum()
}

fn metrics_file(folder: &Path) -> PathBuf {
    folder.join("metrics.csv")
}

fn run(folder: &Folder, series: usize, points: usize) -> Result<Run> {
    let Folder { config, run, .. } = folder;
    let (state, spec) = (run.state()?, run.spec()?);
    let (config_values, defaults) = settings(config)?;
    let path: Vec<String> = config
        .data
        .path
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let data = (!path.is_empty()).then(|| RunData {
        path,
        steps: spec.data.as_ref().map(|data| data.steps),
        episodes: spec.data.as_ref().map(|data| data.episodes),
        checksum: spec.data.as_ref().map(|data| data.checksum.clone()),
    });
    let best = state.as_ref().and_then(|state| state.best);
    Ok(Run {
        path: folder.path.display().to_string(),
        series,
        algorithm: config.algorithm.name().to_owned(),
        seed: config.seed,
        env: config.evaluate.env.clone(),
        device: config.device.clone(),
        data,
        updates: config.total_updates(),
        done: state.as_ref().map_or(0, |state| state.update),
        stopped_early: state
            .as_ref()
            .is_some_and(|state| state.stopped_early(config)),
        seconds: state.as_ref().map_or(0.0, |state| state.seconds),
        best: best.map(|best| BestScore {
            update: best.update,
            score: best.score,
        }),
        evaluations: evaluations(&folder.rows),
        targets: targets(folder)?,
        metrics: metrics(&folder.path, points)?,
        config: config_values,
        defaults,
        origin: run.origin()?,
        episodes: Vec::new(),
        episodes_missing: None,
    })
}

fn evaluations(rows: &[EvaluationRow]) -> Evaluations {
    let mut found = Evaluations::default();
    for row in rows {
        found.update.push(row.update);
        found.seconds.push(row.seconds);
        found.episodes.push(row.episodes);
        found.return_mean.push(row.returns.0);
        found.return_std.push(row.returns.1);
        found.score_mean.push(row.scores.map(|scores| scores.0));
        found.score_std.push(row.scores.map(|scores| scores.1));
    }
    found
}

/// What the run reached of the returns that it aims at. The first of them is what all other numbers are about.
fn targets(folder: &Folder) -> Result<Vec<Target>> {
    let key = format!(
        "algorithm.{}.target_returns",
        folder.config.algorithm.name()
    );
    let configured = values(&folder.config)?.remove(&key);
    let first = match configured {
        Some(toml::Value::Array(asked)) => asked.first().and_then(number),
        _ => None,
    };
    let mut found: Vec<Target> = first
        .into_iter()
        .map(|asked| Target {
            asked,
            return_mean: folder.rows.iter().map(|row| Some(row.returns.0)).collect(),
            return_std: folder.rows.iter().map(|row| Some(row.returns.1)).collect(),
        })
        .collect();
    for aim in Table::aims(&folder.path)? {
        let (mean, std) = (|pair: (f64, f64)| pair.0, |pair: (f64, f64)| pair.1);
        found.push(Target {
            asked: aim.asked,
            return_mean: aim.returns.iter().map(|row| row.map(mean)).collect(),
            return_std: aim.returns.iter().map(|row| row.map(std)).collect(),
        });
    }
    Ok(found)
}

fn number(value: &toml::Value) -> Option<f64> {
    let whole = value.as_integer().map(|whole| whole as f64);
    value.as_float().or(whole)
}

fn metrics(folder: &Path, points: usize) -> Result<Metrics> {
    let path = metrics_file(folder);
    let Some((names, _)) = table::read_if_present(&path)? else {
        return Ok(Metrics::default());
    };
    let rows = table::all_numbers(&path)?;
    let mut columns = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        if ["update", "seconds"].contains(&name.as_str()) {
            continue;
        }
        let values = rows.iter().map(|row| (row[0] as u64, row[place]));
        let values: Vec<(u64, f64)> = values.filter(|(_, value)| value.is_finite()).collect();
        if values.is_empty() {
            continue;
        }
        let (update, value) = thinned(&values, points)
            .into_iter()
            .map(|(update, value)| (update, rounded(value)))
            .unzip();
        columns.insert(name.clone(), Column { update, value });
    }
    Ok(Metrics {
        rows: rows.len(),
        columns,
    })
}

/// Every key with its value, and the defaults of those that have another value; null where the default is unset.
type Settings = (BTreeMap<String, String>, BTreeMap<String, Option<String>>);

fn settings(config: &RunConfig) -> Result<Settings> {
    let here = values(config)?;
    let usual = match RunConfig::parse(&format!("[algorithm.{}]", config.algorithm.name())) {
        Ok(usual) => values(&usual)?,
        // A learning rule of somebody's own has no defaults that are known here.
        Err(_) => here.clone(),
    };
    let keys = here.keys().chain(usual.keys());
    let differs = keys.filter(|key| here.get(*key) != usual.get(*key));
    let defaults = differs.map(|key| (key.clone(), usual.get(key).map(ToString::to_string)));
    let defaults = defaults.collect();
    let text = |(key, value): (String, toml::Value)| (key, value.to_string());
    Ok((here.into_iter().map(text).collect(), defaults))
}
