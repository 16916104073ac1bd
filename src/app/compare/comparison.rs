//! [`compared`]: runs side by side, as lines, over tasks, and with what can't be concluded from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::app::checkpoint::EarlyStop;
use crate::app::checkpoint::places::{called, identity};
use crate::app::compare::aggregates::{OverTasks, common_tasks, names};
use crate::app::compare::alike::{self, HIDDEN, History, NOT_SET};
use crate::app::compare::found::{
    Once, Run, Series, Task, check_seeds, found_all, readable, task_names,
};
use crate::app::compare::lines::{Cell, Line, common_updates, distinct, folder_name, joined, line};
use crate::app::compare::score_tables;
use crate::app::compare::tasks;
use crate::app::lost_rows::EVALUATIONS;
use trajformer_core::error::{Error, Result};
use trajformer_core::nearest::nearest;

/// Bootstrap samples of an interval, unless told otherwise.
pub const RESAMPLES: usize = 2_000;
/// Columns for keys that differ, unless told otherwise.
const FEW_KEYS: usize = 4;
/// With fewer seeds an interval is said to be too narrow.
const FEW_SEEDS: usize = 5;

/// What is compared, and how it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Configuration keys, or `algorithm`, whose values make the lines, one per task and combination of values; none: a line per run directory or
    /// folder of seeds.
    pub by: Vec<String>,
    /// Keys with a column of their own; `all` are all that differ; none: the first few that differ.
    pub keys: Vec<String>,
    /// Other names for lines: name and new name. Lines of one name on several tasks are summed up together.
    pub labels: Vec<(String, String)>,
    /// The lines' order; none: as they were named.
    pub sort: Option<Sort>,
    /// Bootstrap samples of every interval, at least 1.
    pub resamples: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            by: Vec::new(),
            keys: Vec::new(),
            labels: Vec::new(),
            sort: None,
            resamples: RESAMPLES,
        }
    }
}

/// What lines are sorted by; scores from high to low.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Their names.
    Name,
    /// Their algorithms.
    Algorithm,
    /// Their tasks.
    Task,
    /// The last score, highest first.
    Last,
    /// The best evaluation, highest first.
    Best,
    /// Updates, fewest first.
    Updates,
    /// Seconds, fewest first.
    Seconds,
}

impl FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Ok(match text {
            "name" => Self::Name,
            "algorithm" => Self::Algorithm,
            "task" => Self::Task,
            "last" => Self::Last,
            "best" => Self::Best,
            "updates" => Self::Updates,
            "seconds" => Self::Seconds,
            _ => {
                return Err(
                    "expected name, algorithm, task, last, best, updates or seconds".to_owned(),
                );
            }
        })
    }
}

/// Runs side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// One line per run, per folder of seeds, or per group and task.
    #[serde(rename = "runs")]
    pub lines: Vec<Line>,
    /// Keys that have a column.
    pub keys: Vec<String>,
    /// Aggregates over tasks and seeds; `None` where there are none, and `notes` say why.
    pub over_tasks: Option<OverTasks>,
    /// What was left out, and what can't be concluded.
    pub notes: Vec<String>,
    /// Runs without an evaluation.
    pub skipped: Vec<PathBuf>,
    /// The runs of each line, as they were before lines were sorted.
    #[serde(skip)]
    pub cells: Vec<Cell>,
}

impl Comparison {
    /// Whether all numbers are normalised scores, or all are returns.
    pub fn one_kind(&self) -> bool {
        let first = self.lines[0].normalized;
        self.lines.iter().all(|line| line.normalized == first)
    }
}

/// The lines of `runs`, each a run directory or a folder with one per seed.
///
/// # Errors
/// As [`compared`].
pub fn compare(runs: &[PathBuf]) -> Result<Vec<Line>> {
    Ok(compared(runs, &Options::default())?.lines)
}

/// Reads the evaluations of all runs at or below `paths`: run directories, folders of seeds, folders of such folders, or tables that tell of runs
/// ([`score_tables`]).
/// A run without evaluations is skipped with a warning. One that can't be read, or has a return or score that is not finite, is left out and named in the notes.
///
/// # Errors
/// If there is nothing at a path, no run can be read or none has an evaluation; if a folder holds runs that are no seeds of one configuration and nothing is grouped; if a key or a label's line does not exist.
pub fn compared(paths: &[PathBuf], options: &Options) -> Result<Comparison> {
    let mut by = options.by.clone();
    // A key that is named twice groups once.
    let mut seen = BTreeSet::new();
    by.retain(|key| seen.insert(key.clone()));
    let options = &Options {
        by,
        ..options.clone()
    };
    let (tables, folders): (Vec<PathBuf>, Vec<PathBuf>) = paths
        .iter()
        .cloned()
        .partition(|path| score_tables::is_table(path));
    let (mut read, skipped, mut notes) = if folders.is_empty() {
        Default::default()
    } else {
        let (series, mut notes) = found_all(&folders, Once::Series)?;
        let (read, skipped) = read(series, options, &mut notes)?;
        (read, skipped, notes)
    };
    let mut told = Vec::new();
    let mut named = BTreeSet::new();
    for table in &tables {
        if !named.insert(identity(table)) {
            notes.push(format!(
                "{} is named twice and counts once",
                table.display()
            ));
            continue;
        }
        let (runs, about) = score_tables::read(table)?;
        told.extend(runs);
        notes.extend(about);
    }
    let mut runs: Vec<&mut Run> = read
        .iter_mut()
        .flat_map(|(_, runs)| runs)
        .chain(&mut told)
        .collect();
    notes.extend(tasks::unify(&mut runs));
    let all = || read.iter().flat_map(|(_, runs)| runs).chain(&told);
    check_keys(all, options)?;
    let tasks: BTreeSet<Task> = all().map(|run| run.task.clone()).collect();
    let tasks = task_names(&tasks);
    let mut cells = if options.by.is_empty() {
        let mut cells = by_series(read, &tasks);
        cells.extend(by_keys(told, &tasks, &["name".to_owned()]));
        cells
    } else {
        let runs = read.into_iter().flat_map(|(_, runs)| runs).chain(told);
        by_keys(runs, &tasks, &options.by)
    };
    relabel(&mut cells, &options.labels)?;
    let mut lines: Vec<Line> = cells
        .iter()
        .map(|cell| line(cell, options.resamples))
        .collect();
    if let Some(line) = lines.iter().find(|line| !line.last.is_finite()) {
        return Err(Error::Unsuitable(format!(
            "{} on {}: some of its runs have scores alone and some returns alone, which have no mean",
            line.name, line.task
        )));
    }
    let (keys, more) = keys(&cells, options);
    for (line, cell) in lines.iter_mut().zip(&cells) {
        line.keys = keys
            .iter()
            .chain(&more)
            .map(|key| (key.clone(), values(&cell.runs, key)))
            .collect();
    }
    if !more.is_empty() {
        let shown: Vec<String> = more.iter().map(|key| format!("`{key}`")).collect();
        notes.push(format!(
            "runs also differ in {}, which have no column",
            shown.join(", ")
        ));
    }
    for cell in &cells {
        notes.extend(about_cell(cell, &options.by));
    }
    if let Some(sort) = options.sort {
        sorted(&mut lines, sort);
    }
    notes.extend(about_seeds(&lines));
    let over_tasks = over_tasks(&lines, options.resamples, &mut notes);
    Ok(Comparison {
        lines,
        keys,
        over_tasks,
        notes,
        skipped,
        cells,
    })
}

/// Runs with an evaluation, with the series that each belongs to, and the folders of those without.
type Read = (Vec<(Series, Vec<Run>)>, Vec<PathBuf>);

fn read(series: Vec<Series>, options: &Options, notes: &mut Vec<String>) -> Result<Read> {
    let (mut all, mut skipped) = (Vec::new(), Vec::new());
    let (read, unread) = readable(series, Run::read)?;
    notes.extend(unread);
    for run in read.iter().flat_map(|(_, runs)| runs) {
        notes.extend(run.about_files());
    }
    let named = joined(
        read.iter()
            .map(|(series, _)| series.path.display().to_string()),
    );
    let lost = joined(
        read.iter()
            .flat_map(|(_, runs)| runs)
            .flat_map(Run::about_files),
    );
    for (series, runs) in read {
        if options.by.is_empty() {
            check_seeds(&series)?;
        }
        let (runs, without): (Vec<Run>, Vec<Run>) = runs
            .into_iter()
            .partition(|run| !run.evaluations.is_empty());
        for run in &without {
            let lost = run
                .lost_rows
                .iter()
                .any(|lost| lost.starts_with(EVALUATIONS));
            let yet = if lost { "" } else { " yet" };
            let name = called(&run.folder);
            tracing::warn!("{} has no evaluation{yet} and is left out", name.display());
        }
        skipped.extend(without.into_iter().map(|run| run.folder));
        if !runs.is_empty() {
            all.push((series, runs));
        }
    }
    if all.is_empty() {
        let problem = if lost.is_empty() {
            "has no evaluation yet: train it with `evaluate.env` set".to_owned()
        } else {
            format!("has no evaluation: {lost}")
        };
        return Err(Error::Unsuitable(format!("{named} {problem}")));
    }
    Ok((all, skipped))
}

fn check_keys<'a, I: Iterator<Item = &'a Run>>(
    runs: impl Fn() -> I,
    options: &Options,
) -> Result<()> {
    for key in options
        .by
        .iter()
        .chain(options.keys.iter().filter(|key| *key != "all"))
    {
        if runs().any(|run| run.setting(key).is_some()) {
            continue;
        }
        let all: BTreeSet<&String> = runs().flat_map(|run| run.settings.keys()).collect();
        let is_near = |other: &&&String| {
            let end = other.rsplit('.').next().unwrap_or(other);
            end == key || other.contains(key.as_str()) || key.ends_with(&format!(".{end}"))
        };
        let near: Vec<String> = all
            .iter()
            .filter(is_near)
            .map(|key| format!("`{key}`"))
            .collect();
        let typed = nearest(key, all.iter().map(|key| key.as_str()));
        let end_of = |other: &&&String| {
            let end = other.rsplit('.').next().unwrap_or(other);
            nearest(key, [end]).is_some()
        };
        let meant = typed.or_else(|| all.iter().find(end_of).map(|other| other.as_str()));
        let hint = match (near.is_empty(), meant) {
            (false, _) => format!("did you mean {}?", near.join(" or ")),
            (true, Some(meant)) => format!("did you mean `{meant}`?"),
            (true, None) => {
                "it is none of `algorithm` and the keys of their configurations (config.toml)"
                    .to_owned()
            }
        };
        return Err(Error::Unknown {
            name: key.clone(),
            problem: format!("no run has the key `{key}`: {hint}"),
        });
    }
    Ok(())
}

/// A line per series, called after its folder, or after more of its path where two folders have one name.
fn by_series(read: Vec<(Series, Vec<Run>)>, tasks: &BTreeMap<Task, String>) -> Vec<Cell> {
    // How many of the different paths end so.
    let mut ends: HashMap<PathBuf, usize> = HashMap::new();
    for path in distinct(read.iter().map(|(series, _)| &series.path)) {
        let parts: Vec<_> = path.iter().collect();
        for start in 0..parts.len() {
            *ends.entry(parts[start..].iter().collect()).or_default() += 1;
        }
    }
    let cell = |(series, runs): (Series, Vec<Run>)| Cell {
        name: short_name(&series.path, &ends),
        task: tasks[&runs[0].task].clone(),
        path: series.path,
        runs,
    };
    read.into_iter().map(cell).collect()
}

/// The last parts of `path`, as many as tell it from others; `ends` says how many paths end in them.
fn short_name(path: &Path, ends: &HashMap<PathBuf, usize>) -> String {
    if path.file_name().is_none() {
        // `.` and `..` are no names.
        let whole = std::fs::canonicalize(path).ok();
        let name = whole.as_deref().and_then(folder_name);
        return name.unwrap_or_else(|| path.display().to_string());
    }
    let parts: Vec<_> = path.iter().collect();
    for count in 1..=parts.len() {
        let end: PathBuf = parts[parts.len() - count..].iter().collect();
        if ends.get(&end) == Some(&1) {
            return end.display().to_string();
        }
    }
    path.display().to_string()
}

/// A line per combination of values of the keys `by` and per task; a run that was named twice counts once.
fn by_keys(
    runs: impl IntoIterator<Item = Run>,
    tasks: &BTreeMap<Task, String>,
    by: &[String],
) -> Vec<Cell> {
    let mut seen = BTreeSet::new();
    let mut cells: Vec<Cell> = Vec::new();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    // Where each name comes first.
    let mut orders: HashMap<String, usize> = HashMap::new();
    for run in runs {
        if !seen.insert(identity(&run.folder)) {
            continue;
        }
        let parts: Vec<String> = by
            .iter()
            .map(|key| run.setting(key).unwrap_or_else(|| NOT_SET.to_owned()))
            .collect();
        let (name, task) = (parts.join(" "), tasks[&run.task].clone());
        let count = cells.len();
        orders.entry(name.clone()).or_insert(count);
        let place = places.entry((name.clone(), task.clone())).or_insert(count);
        match cells.get_mut(*place) {
            Some(cell) => {
                cell.path = shared_folder(&cell.path, run.table.as_ref().unwrap_or(&run.folder));
                cell.runs.push(run);
            }
            None => cells.push(Cell {
                name,
                task,
                path: run.table.clone().unwrap_or_else(|| called(&run.folder)),
                runs: vec![run],
            }),
        }
    }
    cells.sort_by(|left, right| {
        let order = |cell: &Cell| orders[&cell.name];
        left.task
            .cmp(&right.task)
            .then(order(left).cmp(&order(right)))
    });
    cells
}

fn shared_folder(left: &Path, right: &Path) -> PathBuf {
    let both = left.iter().zip(right.iter());
    both.take_while(|(a, b)| a == b)
        .map(|(part, _)| part)
        .collect()
}

/// `NAME=LABEL`, which is divided at its first `=`, divided so that NAME is a line where there is such a place: names may hold one.
fn divided((name, label): &(String, String), names: &BTreeSet<String>) -> (String, String) {
    let text = format!("{name}={label}");
    let places = text.match_indices('=').map(|(at, _)| at);
    let mut divisions = places.map(|at| (text[..at].to_owned(), text[at + 1..].to_owned()));
    let found = divisions.find(|(name, label)| names.contains(name) && !label.is_empty());
    found.unwrap_or_else(|| (name.clone(), label.clone()))
}

fn relabel(cells: &mut [Cell], labels: &[(String, String)]) -> Result<()> {
    let names: BTreeSet<String> = cells.iter().map(|cell| cell.name.clone()).collect();
    let labels: Vec<(String, String)> = labels.iter().map(|label| divided(label, &names)).collect();
    for (name, _) in &labels {
        if !names.contains(name) {
            let there: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            return Err(Error::Unsuitable(format!(
                "no line is called `{name}`; there are {}",
                there.join(", ")
            )));
        }
    }
    for cell in cells.iter_mut() {
        if let Some((_, label)) = labels.iter().find(|(name, _)| *name == cell.name) {
            cell.name.clone_from(label);
        }
    }
    Ok(())
}

/// The keys that get a column, and those that differ without one.
fn keys(cells: &[Cell], options: &Options) -> (Vec<String>, Vec<String>) {
    // What tables tell of has settings too, which are not known.
    let runs = || {
        cells
            .iter()
            .flat_map(|cell| &cell.runs)
            .filter(|run| run.table.is_none())
    };
    let all: BTreeSet<&String> = runs().flat_map(|run| run.settings.keys()).collect();
    let differs = |key: &&&String| {
        // A key of one algorithm says something only about runs of this algorithm.
        let table = key
            .strip_prefix("algorithm.")
            .and_then(|rest| rest.split('.').next());
        let has_it = |run: &&Run| table.is_none_or(|algorithm| run.algorithm == algorithm);
        let found: BTreeSet<_> = runs().filter(has_it).map(|run| run.setting(key)).collect();
        found.len() > 1
    };
    let hidden = |key: &str| HIDDEN.contains(&key) || options.by.iter().any(|by| by == key);
    let differing = all.iter().filter(differs).map(|key| (**key).clone());
    let differing: Vec<String> = differing.filter(|key| !hidden(key)).collect();
    if options.keys.iter().any(|key| key == "all") {
        return (differing, Vec::new());
    }
    if !options.keys.is_empty() {
        return (options.keys.clone(), Vec::new());
    }
    let (few, more) = differing.split_at(differing.len().min(FEW_KEYS));
    // The column `updates` says it, and a note of whom has not come so far.
    let more = more.iter().filter(|key| *key != "train.updates");
    (few.to_vec(), more.cloned().collect())
}

/// The values of a key in several runs.
fn values(runs: &[Run], key: &str) -> String {
    joined(
        runs.iter()
            .map(|run| run.setting(key).unwrap_or_else(|| NOT_SET.to_owned())),
    )
}

fn sorted(lines: &mut [Line], sort: Sort) {
    match sort {
        Sort::Name => lines.sort_by(|a, b| a.name.cmp(&b.name)),
        Sort::Algorithm => lines.sort_by(|a, b| a.algorithm.cmp(&b.algorithm)),
        Sort::Task => lines.sort_by(|a, b| a.task.cmp(&b.task)),
        Sort::Last => lines.sort_by(|a, b| b.last.total_cmp(&a.last)),
        Sort::Best => lines.sort_by(|a, b| b.best.total_cmp(&a.best)),
        Sort::Updates => lines.sort_by_key(|line| line.update),
        Sort::Seconds => lines.sort_by(|a, b| a.seconds.total_cmp(&b.seconds)),
    }
}

/// What is doubtful about the runs of one line.
fn about_cell(cell: &Cell, by: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    let what = format!("{} on {}", cell.name, cell.task);
    let histories: Vec<History<'_>> = cell.runs.iter().map(History::of).collect();
    notes.extend(alike::about(&what, &histories, by));
    let (mut known, mut measured): (BTreeMap<String, &Path>, BTreeMap<String, &Path>) =
        Default::default();
    for run in &cell.runs {
        let mut settings = run.settings.clone();
        HIDDEN[1..]
            .iter()
            .for_each(|key| drop(settings.remove(*key)));
        let same = known.insert(format!("{settings:?}"), &run.folder);
        // A table may tell of a run that is there itself.
        let copy = measured.insert(
            format!("{:?} {:?}", run.setting("seed"), run.evaluations),
            &run.folder,
        );
        let same = same.map(|other| (other, "seed and settings"));
        if let Some((other, what_is)) = same.or(copy.map(|other| (other, "evaluations"))) {
            notes.push(format!(
                "{what}: {} and {} have the same {what_is}: one run counts twice, and intervals are too narrow",
                called(other).display(),
                called(&run.folder).display()
            ));
        }
    }
    let common = common_updates(&cell.runs).last().copied();
    let last = |run: &Run| run.evaluations.last().map_or(0, |row| row.update);
    let lasts: Vec<u64> = cell.runs.iter().map(last).collect();
    let (least, most) = (
        lasts.iter().min().copied().unwrap_or(0),
        lasts.iter().max().copied().unwrap_or(0),
    );
    let total = cell
        .runs
        .iter()
        .map(|run| run.total_updates)
        .max()
        .unwrap_or(0);
    match common {
        Some(update) if update < most => notes.push(format!(
            "{what}: shown after {update} updates, the last that all its runs were evaluated at; one has {most}"
        )),
        None if least < most => notes.push(format!(
            "{what}: its runs were evaluated after different numbers of updates; the last ones are after {least} to {most}"
        )),
        _ => {}
    }
    let early: Vec<u64> = cell
        .runs
        .iter()
        .filter_map(|run| run.stopped_early)
        .collect();
    if let (Some(first), Some(last)) = (early.iter().min(), early.iter().max()) {
        let span = if first == last {
            format!("{first}")
        } else {
            format!("{first} to {last}")
        };
        let stopped_by = |stop| cell.runs.iter().any(|run| run.early_stop == Some(stop));
        let chosen_by = match (
            stopped_by(EarlyStop::Scores),
            stopped_by(EarlyStop::HeldOut),
        ) {
            (true, true) => "the scores that are shown or losses on held-out episodes",
            (false, true) => "losses on held-out episodes",
            (true, false) => "the scores that are shown",
            (false, false) => "what its table does not say (`stopped_by`)",
        };
        notes.push(format!(
            "{what}: stopped early, after {span} of {total} updates ({} of {} runs), chosen by {chosen_by}: no result of a \
             full training",
            early.len(),
            cell.runs.len()
        ));
    }
    // One that stopped early is finished, and of one that lost rows that is said.
    let others = cell.runs.iter().filter(|run| {
        run.stopped_early.is_none()
            && !run
                .lost_rows
                .iter()
                .any(|lost| lost.starts_with(EVALUATIONS))
    });
    if let Some(least) = others.map(last).min().filter(|least| *least < total) {
        notes.push(format!(
            "{what}: not finished, evaluated after {least} of {total} updates"
        ));
    }
    notes
}

/// What the numbers of seeds let nobody conclude.
fn about_seeds(lines: &[Line]) -> Vec<String> {
    let mut notes = Vec::new();
    let listed = |has: &dyn Fn(usize) -> bool| {
        let lines = lines.iter().filter(|line| has(line.seeds));
        joined(lines.map(|line| line.name.clone()))
    };
    let one = listed(&|seeds| seeds == 1);
    if !one.is_empty() {
        notes.push(format!(
            "one seed ({one}): the interval is over episodes and knows nothing of seeds, so that nothing can be concluded about the \
             algorithm"
        ));
    }
    let few = listed(&|seeds| (2..FEW_SEEDS).contains(&seeds));
    if !few.is_empty() {
        notes.push(format!(
            "fewer than {FEW_SEEDS} seeds ({few}): intervals are too narrow; for normally distributed scores an interval of \
             2 seeds holds the mean in 50 of 100 cases instead of 95, one of 3 seeds in 76, of 5 in 83, of 10 in 89"
        ));
    }
    notes
}

/// The aggregates that make sense; `notes` say what is left out.
fn over_tasks(lines: &[Line], resamples: usize, notes: &mut Vec<String>) -> Option<OverTasks> {
    let names = names(lines);
    if lines.len() == 1 && lines[0].seeds == 1 {
        return None;
    }
    let each = distinct(lines.iter().map(|line| (&line.name, &line.task)));
    if each.len() < lines.len() {
        notes.push(
            "two lines have one name on one task: no numbers over seeds and tasks".to_owned(),
        );
        return None;
    }
    if lines
        .iter()
        .any(|line| line.normalized != lines[0].normalized)
    {
        notes.push(
            "some lines have normalised scores and some only returns: no numbers over both"
                .to_owned(),
        );
        return None;
    }
    let (tasks, other) = common_tasks(lines);
    if tasks.is_empty() {
        notes.push(
            "the lines have no task in common: numbers over tasks need groups of runs on the same tasks (by algorithm, say, or one label \
             for several lines)"
                .to_owned(),
        );
        return None;
    }
    if !lines[0].normalized && tasks.len() > 1 {
        notes.push(
            "returns of different tasks have different units: no numbers over tasks".to_owned(),
        );
        return None;
    }
    let kept = |line: &&Line| tasks.contains(&line.task);
    if tasks.len() == 1 && lines.iter().filter(kept).all(|line| line.seeds == 1) {
        return None;
    }
    if !other.is_empty() {
        let other = other.join(", ");
        notes.push(format!(
            "numbers over tasks are without {other}: not all of {} have it",
            names.join(", ")
        ));
    }
    let found = OverTasks::new(lines, tasks, resamples);
    for group in &found.groups {
        let counts: BTreeSet<usize> = group.runs.iter().copied().collect();
        if counts.len() > 1 {
            let each: Vec<String> = found
                .tasks
                .iter()
                .zip(&group.runs)
                .map(|(task, runs)| format!("{task} {runs}"))
                .collect();
            notes.push(format!(
                "{} has different numbers of seeds ({}): its tasks count the same in mean, median and optimality gap; its \
                 interquartile mean is over all runs",
                group.name,
                each.join(", ")
            ));
        }
        if counts.contains(&1) && counts.len() > 1 {
            notes.push(format!(
                "{}: tasks with one seed add nothing to the width of its intervals",
                group.name
            ));
        } else if counts.contains(&1) {
            notes.push(format!(
                "{}: one seed per task, so that numbers over tasks have no interval",
                group.name
            ));
        }
    }
    Some(found)
}

/// `NAME=LABEL`.
///
/// # Errors
/// If there is no `=`, or nothing at either side of it.
pub fn parse_label(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, label)) if !name.is_empty() && !label.is_empty() => {
            Ok((name.to_owned(), label.to_owned()))
        }
        _ => Err("expected NAME=LABEL".to_owned()),
    }
}
