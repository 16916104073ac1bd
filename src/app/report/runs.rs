//! What run directories hold, as a report shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::app::checkpoint::fingerprint::DataFingerprint;
use crate::app::checkpoint::places::called;
use crate::app::checkpoint::{RunDir, RunSpec, RunState};
use crate::app::compare::alike::{self, History};
use crate::app::compare::found::{self, Once, check_seeds, found_all, is_seed, readable};
use crate::app::compare::lines::curve;
use crate::app::config::{RunConfig, values};
use crate::app::evaluations::{Aim, EvaluationRow, Evaluations as Table};
use crate::app::report::contract::{
    BestScore, Column, Evaluations, Metrics, Run, RunData, Series, Target,
};
use crate::app::report::health::{self, Numbers};
use crate::app::report::thin::{kept_steps, rounded, thinned};
use crate::app::run;
use crate::app::table;
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// Evaluations of a run that are kept.
const MOST_EVALUATIONS: usize = 300;

/// A run directory that is read.
pub(super) struct Folder {
    pub path: PathBuf,
    pub config: RunConfig,
    /// Rows of its evaluations.
    rows: Vec<EvaluationRow>,
    /// Columns and rows of its `metrics.csv`, if there is one.
    metrics: Option<Numbers>,
    run: RunDir,
    state: Option<RunState>,
    spec: RunSpec,
    /// The same as `compare` sees it.
    compared: found::Run,
    /// What it reached of the returns that it aims at, beside the first.
    aims: Vec<Aim>,
}

/// A run that was named: a folder, or several seeds of one configuration.
pub(super) struct Named {
    pub path: PathBuf,
    pub folders: Vec<Folder>,
}

/// Opens the run directories of every one of `runs`: run directories, folders with one per seed, or folders of such folders.
/// One that is named twice counts once. What can't be read is left out, with a note, as long as something is left.
///
/// # Errors
/// If there is nothing at a path, or nothing can be read.
pub(super) fn open(runs: &[PathBuf], notes: &mut Vec<String>) -> Result<Vec<Named>> {
    let folder = |path: &Path| {
        let run = RunDir::open(path)?;
        Ok(Folder {
            config: run.config()?,
            rows: Table::rows(path)?,
            metrics: read_metrics(path)?,
            state: run.state()?,
            spec: run.spec()?,
            compared: found::Run::read(path)?,
            aims: Table::aims(path)?,
            run,
            path: path.to_path_buf(),
        })
    };
    let (all, about) = found_all(runs, Once::Run)?;
    notes.extend(about);
    let (read, unread) = readable(all, folder)?;
    notes.extend(unread);
    let named = read.into_iter().map(|(series, folders)| {
        check_seeds(&series)?;
        notes.extend(folders.iter().filter_map(about_weights));
        notes.extend(folders.iter().flat_map(about_rows));
        notes.extend(folders.iter().flat_map(about_health));
        let compared = folders.iter().map(|folder| History::of(&folder.compared));
        let compared: Vec<History<'_>> = compared.collect();
        notes.extend(alike::about(
            &series.path.display().to_string(),
            &compared,
            &[],
        ));
        Ok(Named {
            path: series.path,
            folders,
        })
    });
    named.collect()
}

impl Folder {
    /// What it is called: `RUN@50000` for a checkpoint that a run keeps.
    pub fn name(&self) -> String {
        called(&self.path).display().to_string()
    }

    /// Whether this is the data that it was started on, as far as that is known.
    pub fn is_of(&self, data: &Dataset) -> bool {
        let known = self.spec.data.as_ref();
        known.is_none_or(|known| *known == DataFingerprint::of(data))
    }

    /// What to say where it has weights and no `state.toml`.
    pub fn lost_state(&self) -> Option<&String> {
        self.compared.lost_state.as_ref()
    }

    /// Updates and seconds of its checkpoint; what its tables know where that is lost.
    fn done(&self) -> (u64, f64) {
        let last = self.rows.last().map(|row| (row.update, row.seconds));
        match &self.state {
            Some(state) => (state.update, state.seconds),
            None => last
                .filter(|_| self.lost_state().is_some())
                .unwrap_or_default(),
        }
    }
}

/// What is wrong with the weights of a run whose numbers can be shown all the same.
fn about_weights(folder: &Folder) -> Option<String> {
    let path = folder.name();
    if let Some(lost) = folder.lost_state() {
        return Some(format!(
            "The weights of {path} can't be used, its numbers are shown: {lost}"
        ));
    }
    let state = folder.state.as_ref()?;
    if let Err(error) = folder.run.check_policy_lengths(state) {
        return Some(format!(
            "The weights of {path} can't be used, its numbers are shown: {error}"
        ));
    }
    let error = folder.run.check_lengths(state).err()?;
    Some(format!(
        "{path} can't be trained on, which its policy does not need: {error}"
    ))
}

/// What is missing from the tables of a run.
fn about_rows(folder: &Folder) -> Vec<String> {
    let lost = folder.compared.lost_rows.iter();
    lost.map(|lost| format!("{}: {lost}", folder.name()))
        .collect()
}

/// What its numbers went through.
fn about_health(folder: &Folder) -> Vec<String> {
    let (done, _) = folder.done();
    let found = health::about(&folder.run, done, folder.metrics.as_ref());
    let said = found.into_iter();
    said.map(|said| format!("{}: {said}", folder.name()))
        .collect()
}

/// What one has to know to compare the runs of each series: those that are not finished, and evaluations that not all have.
pub(super) fn unequal(runs: &[Named]) -> Vec<String> {
    let mut notes = Vec::new();
    for named in runs {
        for folder in &named.folders {
            let (done, _) = folder.done();
            let updates = folder.config.total_updates();
            // Of one whose state is lost nobody knows.
            if done < updates && folder.lost_state().is_none() {
                notes.push(format!(
                    "{} is not finished: {done} of {updates} updates.",
                    folder.name()
                ));
            }
        }
        let updates = |folder: &Folder| -> BTreeSet<u64> {
            folder.rows.iter().map(|row| row.update).collect()
        };
        let sets: Vec<BTreeSet<u64>> = named.folders.iter().map(updates).collect();
        let all: BTreeSet<u64> = sets.iter().flatten().copied().collect();
        let common = all
            .iter()
            .filter(|update| sets.iter().all(|set| set.contains(update)));
        let missing = all.len() - common.count();
        if missing > 0 {
            notes.push(format!(
                "{}: of {} evaluations {missing} are not there in every run; curves and final scores are of those that all have.",
                named.path.display(),
                all.len()
            ));
        }
    }
    notes
}

/// Updates of the evaluations that are kept of the runs of a series: of those that all have about [`MOST_EVALUATIONS`], evenly
/// spaced; of each run the last and the best.
fn kept_updates(named: &Named) -> BTreeSet<u64> {
    let all = named.folders.iter().map(|folder| &folder.rows);
    let has = |rows: &[EvaluationRow], update| rows.iter().any(|row| row.update == update);
    let common = named.folders[0].rows.iter().map(|row| row.update);
    let common: Vec<u64> = common
        .filter(|&update| all.clone().all(|rows| has(rows, update)))
        .collect();
    let (_, places) = kept_steps(common.len(), MOST_EVALUATIONS);
    let mut kept: BTreeSet<u64> = places.into_iter().map(|place| common[place]).collect();
    for rows in all {
        let score = |row: &EvaluationRow| row.scores.unwrap_or(row.returns).0;
        let best = rows.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
        kept.extend(rows.last().into_iter().chain(best).map(|row| row.update));
    }
    kept
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
pub(super) fn collect(
    runs: &[Named],
    points: usize,
    notes: &mut Vec<String>,
) -> Result<(Vec<Series>, Vec<Run>)> {
    let (mut series, mut all) = (Vec::new(), Vec::new());
    for (number, (named, name)) in runs.iter().zip(names(runs)).enumerate() {
        let first = &named.folders[0];
        let members = all.len()..all.len() + named.folders.len();
        let kept = kept_updates(named);
        for folder in &named.folders {
            all.push(run(folder, number, points, &kept, notes)?);
        }
        let rows = named.folders.iter().flat_map(|folder| &folder.rows);
        let has = |row: &EvaluationRow| {
            let mut others = named.folders.iter();
            others.all(|folder| folder.rows.iter().any(|other| other.update == row.update))
        };
        let curve = if first.rows.iter().any(has) {
            let folders = named.folders.iter();
            let runs: Vec<found::Run> = folders.map(|folder| folder.compared.clone()).collect();
            let points = curve(&runs);
            let is_kept = |point: &[f64; 4]| kept.contains(&(point[0] as u64));
            points.into_iter().filter(is_kept).collect()
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
pub(super) fn curves(runs: &[Named]) -> usize {
    let folders = runs.iter().flat_map(|named| &named.folders);
    let tables = folders.filter_map(|folder| folder.metrics.as_ref());
    tables
        .map(|(columns, _)| columns.len().saturating_sub(2))
        .sum()
}

fn read_metrics(folder: &Path) -> Result<Option<Numbers>> {
    let path = folder.join("metrics.csv");
    let Some(table) = table::Table::read_if_present(&path)? else {
        return Ok(None);
    };
    let rows = table.all_numbers()?;
    Ok(Some((table.columns, rows)))
}

fn run(
    folder: &Folder,
    series: usize,
    points: usize,
    kept: &BTreeSet<u64>,
    notes: &mut Vec<String>,
) -> Result<Run> {
    let Folder {
        config,
        run,
        state,
        spec,
        ..
    } = folder;
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
    let (done, seconds) = folder.done();
    let places = 0..folder.rows.len();
    let kept: Vec<usize> = places
        .filter(|&place| kept.contains(&folder.rows[place].update))
        .collect();
    if kept.len() < folder.rows.len() {
        notes.push(format!(
            "{}: of {} evaluations {} are shown, evenly spaced ones, the last and the best.",
            folder.name(),
            folder.rows.len(),
            kept.len()
        ));
    }
    let origin = run.origin().unwrap_or_else(|error| {
        notes.push(format!("Where a run was made is not known: {error}"));
        None
    });
    Ok(Run {
        path: folder.name(),
        series,
        algorithm: config.algorithm.name().to_owned(),
        seed: config.seed,
        env: config.evaluate.env.clone(),
        device: config.device.clone(),
        data,
        updates: config.total_updates(),
        done,
        stopped_early: state
            .as_ref()
            .is_some_and(|state| state.early_stop(config).is_some()),
        seconds,
        best: best.map(|best| BestScore {
            update: best.update,
            score: best.score,
        }),
        evaluations: evaluations(&folder.rows, &kept),
        targets: targets(folder, &kept)?,
        metrics: metrics(folder, points),
        tokens: Vec::new(),
        config: config_values,
        defaults,
        origin,
        episodes: Vec::new(),
        episodes_missing: None,
    })
}

fn evaluations(rows: &[EvaluationRow], kept: &[usize]) -> Evaluations {
    let mut found = Evaluations::default();
    for row in kept.iter().map(|&place| &rows[place]) {
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
fn targets(folder: &Folder, kept: &[usize]) -> Result<Vec<Target>> {
    let key = format!(
        "algorithm.{}.target_returns",
        folder.config.algorithm.name()
    );
    let first = match values(&folder.config)?.remove(&key) {
        Some(toml::Value::Array(asked)) if !asked.is_empty() => number(&asked[0]),
        _ => taken_from_data(folder)?,
    };
    let own = || kept.iter().map(|&place| &folder.rows[place]);
    let mut found: Vec<Target> = first
        .into_iter()
        .map(|asked| Target {
            asked,
            return_mean: own().map(|row| Some(row.returns.0)).collect(),
            return_std: own().map(|row| Some(row.returns.1)).collect(),
        })
        .collect();
    for aim in &folder.aims {
        let (mean, std) = (|pair: (f64, f64)| pair.0, |pair: (f64, f64)| pair.1);
        found.push(Target {
            asked: aim.asked,
            return_mean: kept
                .iter()
                .map(|&place| aim.returns[place].map(mean))
                .collect(),
            return_std: kept
                .iter()
                .map(|&place| aim.returns[place].map(std))
                .collect(),
        });
    }
    Ok(found)
}

/// The return that a policy took from its data, where its configuration names none; nothing of methods that aim at none, and of runs that
/// can't be opened, which is said elsewhere.
///
/// # Errors
/// [`Error::Interrupted`].
fn taken_from_data(folder: &Folder) -> Result<Option<f64>> {
    let aims = matches!(
        folder.config.algorithm,
        AlgorithmConfig::DecisionTransformer(_)
            | AlgorithmConfig::OnlineDt(_)
            | AlgorithmConfig::Lamo(_)
            | AlgorithmConfig::Qt(_)
    );
    if !aims || folder.lost_state().is_some() || folder.done().0 == 0 {
        return Ok(None);
    }
    match run::open(&folder.path, &[]).and_then(|run| run.algorithm.policy()) {
        Ok(policy) => {
            let aim = policy.usual_target().map(f64::from);
            Ok(aim.filter(|aim| aim.is_finite()))
        }
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => {
            let name = folder.name();
            tracing::warn!("{name}: which return it aims at is not known: {error}");
            Ok(None)
        }
    }
}

fn number(value: &toml::Value) -> Option<f64> {
    let whole = value.as_integer().map(|whole| whole as f64);
    value.as_float().or(whole)
}

fn metrics(folder: &Folder, points: usize) -> Metrics {
    let Some((names, rows)) = &folder.metrics else {
        return Metrics::default();
    };
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
    Metrics {
        rows: rows.len(),
        columns,
    }
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
