//! [`Run`]: what a comparison needs to know of a run directory; [`found`]: the runs in a folder; [`found_all`]: those of all folders that
//! were named.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::app::checkpoint::fingerprint::{
    Difference, all_settings, data_name, differences, settings,
};
use crate::app::checkpoint::folders::{check_configured, lost_configuration};
use crate::app::checkpoint::named::named;
use crate::app::checkpoint::places::{self, called, identity};
use crate::app::checkpoint::{Change, EarlyStop, RunDir, runs_inside};
use crate::app::evaluations::{EvaluationRow, Evaluations};
use crate::app::lost_rows::lost_rows;
use trajformer_core::error::{Error, Result};

/// What stands for the data among settings; no key of a configuration.
const CHECKSUM: &str = "the data's checksum";
/// How deep runs may lie below a folder that was named.
const DEEPEST: usize = 4;

/// A run directory, or a folder that holds one per seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The folder.
    pub path: PathBuf,
    /// The folder itself, or its runs in the order of their names.
    pub runs: Vec<PathBuf>,
}

/// What was learned from and where it was scored: results on one task can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    /// Name of the data set: that of the files that the run began with, without their endings.
    pub data: String,
    /// The environment that scored; `None` if nothing did.
    pub env: Option<String>,
    /// Checksum of the data; empty where the run does not know it.
    pub checksum: String,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its folder; of a run that a table tells of, what it is called in messages.
    pub folder: PathBuf,
    /// The table that tells of it ([`score_tables`](super::score_tables)), where it is no run directory: its settings are not known but for `name` and `seed`.
    pub table: Option<PathBuf>,
    /// Its algorithm.
    pub algorithm: String,
    /// Its data and environment.
    pub task: Task,
    /// Every key of its configuration with its value as TOML.
    pub settings: BTreeMap<String, String>,
    /// Its evaluations, oldest first.
    pub evaluations: Vec<EvaluationRow>,
    /// Updates after which it is finished.
    pub total_updates: u64,
    /// The update at which it stopped early, if it did.
    pub stopped_early: Option<u64>,
    /// Why, if it did.
    pub early_stop: Option<EarlyStop>,
    /// What is to be said of it where it has weights and no `state.toml`: what its tables hold can be compared all the same.
    pub lost_state: Option<String>,
    /// What is missing from its tables.
    pub lost_rows: Vec<String>,
    /// What learning rates go by and it changed on its way.
    pub changed: Vec<Change>,
}

impl Run {
    /// Reads configuration and evaluations.
    ///
    /// # Errors
    /// If they can't be read, or a return or score is not finite.
    pub fn read(folder: &Path) -> Result<Self> {
        let directory = RunDir::open(folder)?;
        let config = directory.measured_config()?;
        let state = directory.state()?;
        let stop = state.as_ref().and_then(|state| state.early_stop(&config));
        let lost_rows = lost_rows(&directory, &config, state.as_ref());
        let changed = state.as_ref().map(|state| state.changed.clone());
        let early = state.filter(|_| stop.is_some());
        let spec = directory.spec()?;
        Ok(Self {
            folder: folder.to_path_buf(),
            table: None,
            algorithm: config.algorithm.name().to_owned(),
            task: Task {
                // Where its data lies may change, what it learned from does not.
                data: spec
                    .data_name
                    .unwrap_or_else(|| data_name(&config.data.path)),
                env: config.evaluate.env.clone(),
                checksum: spec.data.map_or_else(String::new, |data| data.checksum),
            },
            settings: all_settings(&config)?,
            evaluations: Evaluations::finite_rows(folder)?,
            total_updates: config.total_updates(),
            stopped_early: early.map(|state| state.update),
            early_stop: stop,
            lost_state: directory.lost_state(),
            lost_rows,
            changed: changed.unwrap_or_default(),
        })
    }

    /// What is to be said of its files: that its weights have no state, and what is missing from its tables.
    pub fn about_files(&self) -> impl Iterator<Item = String> {
        let name = called(&self.folder);
        let said = self.lost_state.iter().chain(&self.lost_rows);
        said.map(move |lost| format!("{}: {lost}", name.display()))
    }

    /// The value of a configuration key as people write it, without quotes; `None` if the run has no such key. `algorithm` is the
    /// algorithm's name.
    pub fn setting(&self, key: &str) -> Option<String> {
        if key == "algorithm" {
            return Some(self.algorithm.clone());
        }
        let value = self.settings.get(key)?;
        Some(value.trim_matches('"').to_owned())
    }
}

/// Short names of tasks, each another: the data's; with the environment, and the checksum, where that is not enough.
pub fn task_names(tasks: &BTreeSet<Task>) -> BTreeMap<Task, String> {
    let data = |task: &Task| match (&task.data[..], &task.env) {
        ("", Some(env)) => env.clone(),
        ("", None) => "no data".to_owned(),
        (data, _) => data.to_owned(),
    };
    let env = |task: &Task| match &task.env {
        Some(env) if !task.data.is_empty() => format!("{} in {env}", task.data),
        _ => data(task),
    };
    let all = |task: &Task| format!("{} ({})", env(task), task.checksum);
    let counted = |name: &dyn Fn(&Task) -> String| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for task in tasks {
            *counts.entry(name(task)).or_default() += 1;
        }
        counts
    };
    let (by_data, by_env) = (counted(&data), counted(&env));
    let name = |task: &Task| {
        if by_data[&data(task)] == 1 {
            data(task)
        } else if by_env[&env(task)] == 1 {
            env(task)
        } else {
            all(task)
        }
    };
    tasks
        .iter()
        .map(|task| (task.clone(), name(task)))
        .collect()
}

/// The series at or below `path`: a run directory, or a checkpoint that one keeps (`RUN@best`), is one by itself, a folder of run directories is one, and a folder of such folders
/// holds several, in the order of their names.
///
/// # Errors
/// If there is no run.
pub fn found(path: &Path) -> Result<Vec<Series>> {
    found_beside(path, || damaged(path))
}

/// As [`found`]; `lost` are the [`damaged`] folders there.
fn found_beside(path: &Path, lost: impl FnOnce() -> Vec<PathBuf>) -> Result<Vec<Series>> {
    let folder = named(path)?;
    if !is_run(&folder)
        && let Err(error) = std::fs::read_dir(&folder)
    {
        let problem = match error.kind() {
            ErrorKind::NotFound => "there is no such folder".to_owned(),
            ErrorKind::NotADirectory => {
                "a file, expected a run directory or a folder that holds some".to_owned()
            }
            _ => format!("the folder can't be read: {error}"),
        };
        let path = path.to_path_buf();
        return Err(Error::NoRun { path, problem });
    }
    let mut series = Vec::new();
    collect(&folder, DEEPEST, &mut series);
    if folder != path {
        // A kept checkpoint is called as it was named.
        for found in &mut series {
            found.path = path.to_path_buf();
        }
    }
    if series.is_empty() {
        check_configured(&folder)?;
        if let Some(first) = lost().first() {
            check_configured(first)?;
        }
        return Err(Error::NoRun {
            path: path.to_path_buf(),
            problem: "it is not a run directory and holds none: it has no config.toml".to_owned(),
        });
    }
    Ok(series)
}

/// The folders at or below `path`, where [`found`] looks for runs, that were runs and have lost their configuration, in the order of their
/// names.
pub fn damaged(path: &Path) -> Vec<PathBuf> {
    fn look(path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        if is_run(path) || path.ends_with(places::FOLDER) {
            return;
        }
        if lost_configuration(path).is_some() {
            return found.push(path.to_path_buf());
        }
        let entries = std::fs::read_dir(path).into_iter().flatten();
        let inside = entries.filter_map(|entry| Some(entry.ok()?.path()));
        for inside in inside.filter(|inside| depth > 0 && inside.is_dir()) {
            look(&inside, depth - 1, found);
        }
    }
    let mut found = Vec::new();
    // Seeds lie one deeper than the folders that hold them.
    look(path, DEEPEST + 1, &mut found);
    found.sort();
    found
}

/// What counts once when it is named twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// A series: one of its runs may stand beside it.
    Series,
    /// A run: the series that is named later lacks it.
    Run,
}

/// The series at or below `paths`, as [`found`] has them, in this order, and what is to be said of them: which are damaged, and what was named
/// twice. A path that is there and holds no run that can be read is left out with a note, as long as something is left.
///
/// # Errors
/// If there is nothing at one of the paths; the first one's, if none holds a run.
pub fn found_all(paths: &[PathBuf], once: Once) -> Result<(Vec<Series>, Vec<String>)> {
    let lost: Vec<Vec<PathBuf>> = paths.iter().map(|path| damaged(path)).collect();
    let mut notes = about_damaged(&lost);
    let (mut all, mut unread, mut seen) = (Vec::new(), None, BTreeSet::new());
    for (path, lost) in paths.iter().zip(&lost) {
        let here = match found_beside(path, || lost.clone()) {
            Ok(here) => here,
            // What is not there was not meant.
            Err(error) if matches!(error, Error::NoRun { .. }) && !path.exists() => {
                return Err(error);
            }
            Err(error) => {
                // The others' notes are there already.
                if lost.is_empty() {
                    notes.push(left_out(path, &error));
                }
                unread.get_or_insert(error);
                continue;
            }
        };
        for series in here {
            all.extend(new_part(series, once, &mut seen, &mut notes));
        }
    }
    match unread {
        Some(error) if all.is_empty() => Err(error),
        _ => Ok((all, notes)),
    }
}

/// What of `series` was not seen yet.
fn new_part(
    mut series: Series,
    once: Once,
    seen: &mut BTreeSet<Vec<PathBuf>>,
    notes: &mut Vec<String>,
) -> Option<Series> {
    let mut is_new = |runs: &[PathBuf], name: &Path| {
        let is_new = seen.insert(runs.iter().map(|run| identity(run)).collect());
        if !is_new {
            notes.push(format!("{} is named twice and counts once", name.display()));
        }
        is_new
    };
    match once {
        Once::Series => is_new(&series.runs, &series.path).then_some(series),
        Once::Run => {
            let before = series.runs.len();
            series
                .runs
                .retain(|run| is_new(std::slice::from_ref(run), &called(run)));
            if before > 1
                && let [only] = &series.runs[..]
            {
                // It is no longer what all of them are called.
                series.path = called(only);
            }
            (!series.runs.is_empty()).then_some(series)
        }
    }
}

/// What is said of what can't be read.
fn left_out(path: &Path, error: &Error) -> String {
    let name = called(path);
    format!("{} is left out, it can't be read: {error}", name.display())
}

/// What is to be said of the [`damaged`] folders at or below each path, each once.
fn about_damaged(lost: &[Vec<PathBuf>]) -> Vec<String> {
    let mut folders = lost.concat();
    folders.sort();
    folders.dedup();
    let said = |folder: &PathBuf| {
        Some(format!(
            "{} is left out: {}",
            folder.display(),
            lost_configuration(folder)?
        ))
    };
    folders.iter().filter_map(said).collect()
}

/// What was read of the runs of each series, and what is to be said of those that can't be read.
pub type Readable<T> = (Vec<(Series, Vec<T>)>, Vec<String>);

/// Reads every run of `series`. One that can't be read is left out of its series, with a note that says which and why, as long as
/// something is left.
///
/// # Errors
/// The last one's, if none can be read.
pub fn readable<T>(
    series: Vec<Series>,
    mut read: impl FnMut(&Path) -> Result<T>,
) -> Result<Readable<T>> {
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for Series { path, runs } in series {
        let (mut kept, mut found) = (Vec::new(), Vec::new());
        for run in runs {
            match read(&run) {
                Ok(this) => {
                    found.push(this);
                    kept.push(run);
                }
                Err(error) => unread.push((run, error)),
            }
        }
        if !kept.is_empty() {
            all.push((Series { path, runs: kept }, found));
        }
    }
    if all.is_empty()
        && let Some((_, error)) = unread.pop()
    {
        return Err(error);
    }
    let said = unread.iter().map(|(run, error)| left_out(run, error));
    Ok((all, said.collect()))
}

fn is_run(folder: &Path) -> bool {
    folder.join("config.toml").is_file()
}

/// A run that is a series by itself.
fn alone(run: &Path) -> Series {
    Series {
        path: called(run),
        runs: vec![run.to_path_buf()],
    }
}

fn collect(path: &Path, depth: usize, series: &mut Vec<Series>) {
    if is_run(path) {
        return series.push(alone(path));
    }
    let runs = runs_inside(path);
    if runs.iter().any(|run| places::run_of(run).is_some()) {
        // The checkpoints that one run keeps are no seeds.
        series.extend(runs.iter().map(|run| alone(run)));
    } else if !runs.is_empty() {
        let together = Series {
            path: path.to_path_buf(),
            runs,
        };
        // A folder of runs that has one so far is no series of seeds: the run keeps its name.
        if let [only] = &together.runs[..]
            && !is_seed(only)
        {
            series.push(alone(only));
            return inside(path, depth, series);
        }
        // Seeds of one configuration are one line, other runs a line each; folders that are called seeds are meant to be seeds.
        // One that can't be read is whoever reads them to name; it doesn't part the others.
        let known = Series {
            runs: (together.runs.iter())
                .filter(|run| apart_from_seed(run).is_ok())
                .cloned()
                .collect(),
            ..together.clone()
        };
        if together.runs.iter().all(|run| is_seed(run)) || check_seeds(&known).is_ok() {
            series.push(together);
        } else {
            series.extend(together.runs.iter().map(|run| alone(run)));
        }
    }
    inside(path, depth, series);
}

/// The runs in the folders that `path` holds.
fn inside(path: &Path, depth: usize, series: &mut Vec<Series>) {
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|inside| depth > 0 && inside.is_dir() && !is_run(inside))
        // Kept checkpoints are no runs of their own, also where the run around them has lost its configuration.
        .filter(|inside| !inside.ends_with(places::FOLDER))
        .collect();
    folders.sort();
    for folder in folders {
        collect(&folder, depth - 1, series);
    }
}

/// Whether a run directory is named as one of several seeds.
pub fn is_seed(run: &Path) -> bool {
    let name = run.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with("seed-")
}

/// Fails if the runs of a series are not seeds of one configuration on the same data.
///
/// # Errors
/// [`Error::Unsuitable`] that names the first key that differs.
pub fn check_seeds(series: &Series) -> Result<()> {
    let Some((first, rest)) = series.runs.split_first() else {
        return Ok(());
    };
    let expected = apart_from_seed(first)?;
    for folder in rest {
        let found = differences(&expected, &apart_from_seed(folder)?);
        if let Some(Difference { key, before, now }) = found.first() {
            if key == CHECKSUM {
                return Err(Error::Unsuitable(format!(
                    "{}: its runs are not seeds of one configuration: they learned from other data, with the checksum {before} in \
                     {} and {now} in {}; name the runs one by one, or group all of them by `algorithm`, which keeps data sets apart",
                    series.path.display(),
                    first.display(),
                    folder.display()
                )));
            }
            return Err(Error::Unsuitable(format!(
                "{}: its runs are not seeds of one configuration: `{key}` is {before} in {} and \
                 {now} in {}; name the runs one by one, or group them by this key",
                series.path.display(),
                first.display(),
                folder.display()
            )));
        }
    }
    Ok(())
}

/// What must be equal in the seeds of one series: all settings but the seed, and the data.
fn apart_from_seed(folder: &Path) -> Result<BTreeMap<String, String>> {
    let run = RunDir::open(folder)?;
    let mut settings = settings(&run.config()?)?;
    settings.remove("seed");
    if let Some(data) = run.spec()?.data {
        settings.insert(CHECKSUM.to_owned(), data.checksum);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(data: &str, env: &str, checksum: &str) -> Task {
        Task {
            data: data.to_owned(),
            env: Some(env.to_owned()),
            checksum: checksum.to_owned(),
        }
    }

    #[test]
    fn tasks_have_short_names_that_differ() {
        let tasks = [
            task("hopper-medium", "hopper-v4", "1"),
            task("medium-v0", "hopper-v5", "2"),
            task("medium-v0", "walker2d-v5", "3"),
            task("data", "pendulum-v1", "4"),
            task("data", "pendulum-v1", "5"),
            task("", "cartpole", ""),
        ];
        let names = task_names(&tasks.iter().cloned().collect());
        let names: Vec<&str> = tasks.iter().map(|task| names[task].as_str()).collect();
        let expected = [
            "hopper-medium",
            "medium-v0 in hopper-v5",
            "medium-v0 in walker2d-v5",
            "data in pendulum-v1 (4)",
            "data in pendulum-v1 (5)",
            "cartpole",
        ];
        assert_eq!(names, expected);
    }
}
