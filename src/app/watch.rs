//! [`look`]: what the files of a run directory say at this moment, also while they are written: for dashboards. Nothing of it
//! fails: what can't be read is said beside what can.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::app::checkpoint::folders::lost_configuration;
use crate::app::checkpoint::{LOCK, RunDir, RunState, is_in_training};
use crate::app::compare::found::{damaged, found};
use crate::app::config::RunConfig;
use crate::app::evaluations::Evaluations;
use crate::app::lost_rows::lost_rows;
use crate::app::table::Table;
use trajformer_core::error::{Error, Result};

/// Rows of `metrics.csv` that the present rate is taken over.
pub const RATE_ROWS: usize = 10;
/// A run is taken to be training for so long after its files changed, or for three times as long as between its last two rows.
const FRESH: Duration = Duration::from_secs(120);

/// A run as its files show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// Its folder.
    pub folder: PathBuf,
    /// Its algorithm; empty if the configuration can't be read.
    pub algorithm: String,
    /// Where it is scored.
    pub env: Option<String>,
    /// Updates that the last row, or the checkpoint, has.
    pub update: u64,
    /// Updates after which it is finished; 0 if the configuration can't be read.
    pub total: u64,
    /// Seconds of training and evaluating until then.
    pub seconds: f64,
    /// Updates per second, evaluations counted: over the last [`RATE_ROWS`] rows of `metrics.csv` while it trains, over the whole run
    /// once it does not, which is what `train` says at its end.
    pub rate: Option<f64>,
    /// What it does.
    pub status: Status,
    /// Whether scores are normalised; else they are returns.
    pub normalized: bool,
    /// (update, score) of every evaluation.
    pub scores: Vec<(f64, f64)>,
    /// The columns of `metrics.csv`.
    pub curves: Vec<Curve>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
}

/// One column of `metrics.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its name.
    pub name: String,
    /// (update, value), finite.
    pub points: Vec<(f64, f64)>,
}

/// What a run does, as far as its files tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All updates are done.
    Finished,
    /// Its scores rose, or its held-out loss fell, no more.
    StoppedEarly,
    /// A process has it in training; or nothing says whether one does, and its files changed a short while ago.
    Training,
    /// No process trains it, or none shows, and its files have not changed for so long: it was interrupted.
    Quiet(Duration),
    /// It can't be opened: a file that it acts with is lost or was changed.
    Damaged,
    /// Its files can't be read.
    Unknown,
}

impl Glance {
    /// Seconds until all updates are done, at the present rate; `None` for runs that don't train or have no rate yet.
    pub fn left(&self) -> Option<f64> {
        let rate = self.rate.filter(|_| self.status == Status::Training)?;
        Some(self.total.saturating_sub(self.update) as f64 / rate)
    }

    /// The last score.
    pub fn last(&self) -> Option<f64> {
        self.scores.last().map(|point| point.1)
    }

    /// The highest score; NaN is never the highest.
    pub fn best(&self) -> Option<f64> {
        let scores = self.scores.iter().map(|point| point.1);
        scores.reduce(f64::max)
    }
}

/// Looks at every run that `paths` name: run directories, and folders that hold some. A path without a run is a glance that
/// says so.
pub fn look(paths: &[PathBuf]) -> Vec<Glance> {
    let mut glances = Vec::new();
    for path in paths {
        match found(path) {
            Ok(series) => {
                let runs = series.iter().flat_map(|series| &series.runs);
                glances.extend(runs.map(|run| glance(run)));
                glances.extend(damaged(path).iter().map(|folder| Glance {
                    problems: lost_configuration(folder).into_iter().collect(),
                    ..unknown(folder)
                }));
            }
            Err(error) => glances.push(Glance {
                problems: vec![error.to_string()],
                ..unknown(path)
            }),
        }
    }
    glances
}

fn unknown(folder: &Path) -> Glance {
    Glance {
        folder: folder.to_path_buf(),
        algorithm: String::new(),
        env: None,
        update: 0,
        total: 0,
        seconds: 0.0,
        rate: None,
        status: Status::Unknown,
        normalized: false,
        scores: Vec::new(),
        curves: Vec::new(),
        problems: Vec::new(),
    }
}

fn glance(folder: &Path) -> Glance {
    let mut seen = unknown(folder);
    let mut problems = Vec::new();
    let mut read = |what: &str, error: String| {
        // Most errors name the file themselves.
        let text = if error.contains(what) {
            error
        } else {
            format!("{what}: {error}")
        };
        problems.push(text);
    };
    let run = RunDir::open(folder);
    if let Err(error) = &run {
        read("", error.to_string());
    }
    let config = run.as_ref().ok().and_then(|run| match run.config() {
        Ok(config) => Some(config),
        Err(error) => {
            read("config.toml", error.to_string());
            None
        }
    });
    let (state, has_state) = match run.as_ref().ok().map(RunDir::state) {
        Some(Err(error)) => {
            read("state.toml", error.to_string());
            (None, false)
        }
        found => (found.and_then(Result::ok).flatten(), true),
    };
    let mut is_read = true;
    match Table::read_if_present(&folder.join("metrics.csv")) {
        Ok(Some(table)) => {
            let (curves, bad) = curves(&table);
            seen.curves = curves;
            is_read &= bad.is_none();
            bad.into_iter()
                .for_each(|problem| read("metrics.csv", problem));
        }
        Ok(None) => {}
        Err(error) => {
            is_read = false;
            read("metrics.csv", error.to_string());
        }
    }
    match Evaluations::settled(folder) {
        Ok(settled) => {
            (seen.normalized, seen.scores) = (settled.normalized, settled.scores);
            settled
                .left_out
                .into_iter()
                .for_each(|problem| read("evaluations.csv", problem));
        }
        Err(error) => {
            is_read = false;
            read("evaluations.csv", error.to_string());
        }
    }
    // The state was read before the tables: what it knows of is there by then.
    if let (true, Ok(run), Some(config)) = (is_read, &run, &config) {
        let lost = lost_rows(run, config, state.as_ref());
        lost.into_iter().for_each(|lost| read("", lost));
    }
    let unusable = run.as_ref().ok().zip(config.as_ref()).map(|(run, config)| {
        let (unusable, less) = unusable(run, config, state.as_ref());
        let said = unusable.iter().chain(&less);
        said.for_each(|error| read("", error.to_string()));
        unusable.is_some() || !has_state
    });
    if let Some(config) = &config {
        seen.algorithm = config.algorithm.name().to_owned();
        seen.env.clone_from(&config.evaluate.env);
        seen.total = config.total_updates();
    }
    seen.problems = problems;
    advance(&mut seen, state.as_ref());
    seen.status = match unusable {
        Some(true) => Status::Damaged,
        _ => status(&seen, config.as_ref(), state.as_ref()),
    };
    if seen.status != Status::Training && seen.seconds > 0.0 && seen.update > 0 {
        seen.rate = Some(seen.update as f64 / seen.seconds);
    }
    seen
}

/// What keeps a run from acting, and what keeps it from being trained on alone.
fn unusable(
    run: &RunDir,
    config: &RunConfig,
    state: Option<&RunState>,
) -> (Option<Error>, Option<Error>) {
    let acts = || {
        run.spec()?.check_trained(config, run.path())?;
        config.algorithm.check_acting()?;
        match state {
            Some(state) => run.check_policy_lengths(state),
            // What can't be read is said already.
            None => run.refuse_tensors_without_state(),
        }
    };
    match (acts(), state) {
        (Err(error), _) => (Some(error), None),
        (Ok(()), Some(state)) => (None, run.check_lengths(state).err()),
        (Ok(()), None) => (None, None),
    }
}

/// The columns, and which cells are no numbers.
fn curves(Table { columns, rows, .. }: &Table) -> (Vec<Curve>, Option<String>) {
    let mut bad = None;
    let number = |row: usize, column: usize| {
        let cell = rows[row].get(column)?.trim();
        (!cell.is_empty()).then(|| cell.parse::<f64>().map_err(|_| cell.to_owned()))
    };
    let mut found = Vec::new();
    for (at, name) in columns.iter().enumerate() {
        let mut points = Vec::new();
        for row in 0..rows.len() {
            match (number(row, 0), number(row, at)) {
                (Some(Ok(update)), Some(Ok(value))) if value.is_finite() => {
                    points.push((update, value));
                }
                (_, Some(Err(cell))) => {
                    let line = row + 2; // the first line has the names
                    bad.get_or_insert_with(|| {
                        format!("line {line}: `{name}` is `{cell}`, expected a number")
                    });
                }
                _ => {}
            }
        }
        found.push(Curve {
            name: name.clone(),
            points,
        });
    }
    (found, bad)
}

/// How far it is and how fast, by the columns `update` and `seconds`, which are no curves.
fn advance(seen: &mut Glance, state: Option<&RunState>) {
    let is_time = |curve: &Curve| curve.name == "seconds";
    let times = seen.curves.iter().find(|curve| is_time(curve));
    let times = times.map_or_else(Vec::new, |curve| curve.points.clone());
    seen.curves
        .retain(|curve| !is_time(curve) && curve.name != "update" && !curve.points.is_empty());
    if let Some(state) = state {
        (seen.update, seen.seconds) = (state.update, state.seconds);
    }
    if let Some(&(update, seconds)) = times.last()
        && update as u64 >= seen.update
    {
        (seen.update, seen.seconds) = (update as u64, seconds.max(seen.seconds));
    }
    let recent = &times[times.len().saturating_sub(RATE_ROWS + 1)..];
    seen.rate = match recent {
        [first, .., last] => Some((last.0 - first.0) / (last.1 - first.1)),
        [only] => Some(only.0 / only.1),
        [] => None,
    };
    seen.rate = seen.rate.filter(|rate| rate.is_finite() && *rate > 0.0);
}

fn status(seen: &Glance, config: Option<&RunConfig>, state: Option<&RunState>) -> Status {
    let Some(config) = config else {
        return Status::Unknown;
    };
    if let Some(state) = state {
        if state.early_stop(config).is_some() {
            return Status::StoppedEarly;
        }
        if state.update >= seen.total && !state.evaluation_pending {
            return Status::Finished;
        }
    }
    if is_in_training(&seen.folder) {
        return Status::Training;
    }
    let names = [
        "metrics.csv",
        "evaluations.csv",
        "state.toml",
        "config.toml",
    ];
    let changed = names
        .iter()
        .filter_map(|name| seen.folder.join(name).metadata().ok()?.modified().ok());
    let quiet = changed
        .max()
        .and_then(|time| SystemTime::now().duration_since(time).ok());
    let quiet = quiet.unwrap_or_default();
    // A lock that nobody holds says that nobody trains it; without one only time can tell.
    let may_train = !seen.folder.join(LOCK).exists();
    if may_train && quiet <= FRESH.max(between_rows(seen) * 3) {
        Status::Training
    } else {
        Status::Quiet(quiet)
    }
}

/// How long it took from one row of `metrics.csv` to the next, by the present rate.
fn between_rows(seen: &Glance) -> Duration {
    let updates = match seen.curves.first().map(|curve| &curve.points[..]) {
        Some([.., before, last]) => last.0 - before.0,
        _ => 0.0,
    };
    let seconds = seen.rate.map_or(0.0, |rate| updates / rate);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SPEC: &str = r#"{"trajformer": {"observation_dim": 3, "action_dim": 1, "action_low": [-2.0], "action_high": [2.0]}}"#;
    const CONFIG: &str = "[train]\nupdates = 100\n[algorithm.bc]\n";
    const METRICS: &str = "update,seconds,actor_loss\n10,1,0.5\n20,2,0.25\n";
    const EVALUATIONS: &str =
        "update,seconds,episodes,return_mean,return_std\n10,1,2,-5,1\n20,2,2,-4,1\n";

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        write("config.json", SPEC).expect("written");
        write("config.toml", CONFIG).expect("written");
        write("metrics.csv", METRICS).expect("written");
        write("evaluations.csv", EVALUATIONS).expect("written");
        folder
    }

    fn seen(folder: &Path) -> Glance {
        let mut all = look(&[folder.to_path_buf()]);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn a_run_that_trains_shows_its_curves_rate_and_time_left() {
        let folder = folder();
        let found = seen(folder.path());
        assert_eq!(found.problems, [""; 0]);
        assert_eq!((found.update, found.total, found.seconds), (20, 100, 2.0));
        assert_eq!((found.rate, found.left()), (Some(10.0), Some(8.0)));
        assert_eq!(found.status, Status::Training);
        assert_eq!(found.scores, [(10.0, -5.0), (20.0, -4.0)]);
        assert_eq!(
            (found.last(), found.best(), found.normalized),
            (Some(-4.0), Some(-4.0), false)
        );
        let curve = Curve {
            name: "actor_loss".to_owned(),
            points: vec![(10.0, 0.5), (20.0, 0.25)],
        };
        assert_eq!(found.curves, [curve]);
    }

    #[test]
    fn a_run_whose_lock_nobody_holds_does_not_train_and_one_whose_lock_is_held_does() {
        let folder = folder();
        let lock = fs::File::create(folder.path().join(LOCK)).expect("a lock");
        assert!(matches!(seen(folder.path()).status, Status::Quiet(_)));
        lock.try_lock().expect("nobody holds it");
        let old = SystemTime::now() - Duration::from_secs(4000);
        for name in ["metrics.csv", "evaluations.csv", "config.toml"] {
            let file = fs::File::options()
                .write(true)
                .open(folder.path().join(name));
            file.and_then(|file| file.set_modified(old)).expect("older");
        }
        assert_eq!(seen(folder.path()).status, Status::Training);
        drop(lock);
        assert!(matches!(seen(folder.path()).status, Status::Quiet(_)));
    }

    #[test]
    fn an_evaluation_that_is_no_number_is_said_and_the_others_are_shown() {
        let folder = folder();
        let text = format!("{EVALUATIONS}30,3,2,NaN,1\n");
        fs::write(folder.path().join("evaluations.csv"), text).expect("written");
        let found = seen(folder.path());
        assert_eq!(found.scores, [(10.0, -5.0), (20.0, -4.0)]);
        let said = found.problems.join("; ");
        assert!(said.contains("line 4: update `30` has `NaN`"), "{said}");
    }

    #[test]
    fn a_line_that_is_being_written_does_not_count_yet() {
        let folder = folder();
        // The last number may be cut: with as many cells as a whole line.
        for (name, text) in [
            ("metrics.csv", format!("{METRICS}30,3,0.1")),
            ("evaluations.csv", format!("{EVALUATIONS}30,3,2,-3,")),
        ] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let found = seen(folder.path());
        assert_eq!(found.problems, [""; 0]);
        assert_eq!(
            (
                found.update,
                found.curves[0].points.len(),
                found.scores.len()
            ),
            (20, 2, 2)
        );
    }

    #[test]
    fn what_is_damaged_or_missing_is_said_and_the_rest_is_shown() {
        let check = |name: &str, text: Option<&[u8]>, problem: &str| {
            let folder = folder();
            let path = folder.path().join(name);
            match text {
                Some(text) => fs::write(&path, text).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            let found = seen(folder.path());
            let said = found.problems.join("; ");
            assert!(said.contains(problem), "{name}: {said}");
            assert_eq!(said.is_empty(), problem.is_empty(), "{name}: {said}");
            found
        };
        let found = check(
            "metrics.csv",
            Some(b"update,seconds,actor_loss\n10,1,x\n20,2,0.25\n"),
            "line 2: `actor_loss` is `x`",
        );
        assert_eq!((found.curves[0].points.len(), found.scores.len()), (1, 2));
        let found = check("metrics.csv", Some(&[0xff, 0xfe, b'\n']), "metrics.csv");
        assert_eq!((found.curves.len(), found.scores.len()), (0, 2));
        let found = check("metrics.csv", None, "");
        assert_eq!((found.update, found.rate, found.left()), (0, None, None));
        let found = check("evaluations.csv", Some(b"nothing\n1\n"), "evaluations.csv");
        assert_eq!((found.curves.len(), found.scores.len()), (1, 0));
        check("evaluations.csv", None, "");
        // The first line is there from the start: a file without it has lost what it had.
        for name in ["metrics.csv", "evaluations.csv"] {
            check(name, Some(b""), &format!("{name}: is empty"));
        }
        let found = check("state.toml", Some(b"update = 'many'"), "state.toml");
        assert_eq!((found.update, found.status), (20, Status::Damaged));
        let found = check("config.json", None, "config.json is missing");
        assert_eq!((found.update, found.status), (20, Status::Damaged));
        let found = check("config.toml", Some(b"[train]\nupdates = -1"), "config.toml");
        assert_eq!(
            (found.total, found.status, found.scores.len()),
            (0, Status::Unknown, 2)
        );
        let empty = tempfile::tempdir().expect("a folder");
        let found = seen(empty.path());
        assert!(
            found.problems[0].contains("holds none"),
            "{:?}",
            found.problems
        );
        assert_eq!(found.status, Status::Unknown);
    }
}
