//! Every evaluation of many runs in one table of comma-separated values: [`written`] makes it of a comparison, [`read`] takes it, and those of other
//! programs' runs, in the runs' place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::app::checkpoint::EarlyStop;
use crate::app::compare::found::{Run, Task};
use crate::app::compare::lines::Cell;
use crate::app::compare::tables::{Align, Table, known};
use crate::app::evaluations::EvaluationRow;
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};
use trajformer_core::nearest::nearest;

/// The columns of [`written`], in its order.
const COLUMNS: [&str; 16] = [
    "name",
    "algorithm",
    "task",
    "checksum",
    "env",
    "seed",
    "update",
    "updates",
    "seconds",
    "episodes",
    "return_mean",
    "return_std",
    "score_mean",
    "score_std",
    "stopped_early",
    "stopped_by",
];
/// Why a run stopped early, as the column `stopped_by` has it.
const STOPS: [(&str, EarlyStop); 2] = [
    ("scores", EarlyStop::Scores),
    ("held_out", EarlyStop::HeldOut),
];

/// Whether `path` is such a table, by its name.
pub fn is_table(path: &Path) -> bool {
    let is_csv = |end: &std::ffi::OsStr| end.eq_ignore_ascii_case("csv");
    path.extension().is_some_and(is_csv) && !path.is_dir()
}

/// The runs of the table at `path`, in the order in which they come first, and what is to be said of it.
///
/// The first line names columns, in any order: `task` (the data's name), `seed`, `name` or `algorithm` (one stands for the other) and `score_mean` or
/// `return_mean` (or both) must be there. `update` is 0 where it is missing; what is not said of `seconds`, `episodes` and the standard deviations over episodes
/// (`return_std`, `score_std`) is not known; `updates` is how many the run is to have, `stopped_early` after how many it stopped early, if it did, and
/// `stopped_by` why (`scores` or `held_out`). `env` and `checksum` (of the data) tell tasks apart.
///
/// # Errors
/// If it can't be read, a column is missing or named twice, a cell is not what its column holds, an evaluation is there twice, or lines of one run contradict
/// each other; names the line.
pub fn read(path: &Path) -> Result<(Vec<Run>, Vec<String>)> {
    let text = text(path)?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let broken = |error: csv::Error| Error::data(path, format!("no table: {error}"));
    let names = reader.headers().map_err(broken)?.clone();
    let columns = Columns::of(path, names.iter().collect())?;
    let mut runs: Vec<Run> = Vec::new();
    let mut places: HashMap<PathBuf, usize> = HashMap::new();
    let mut seen: HashSet<(usize, u64)> = HashSet::new();
    let mut said: Vec<Said> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.iter().all(str::is_empty) {
            continue; // as spreadsheets end tables
        }
        if record.len() != names.len() {
            let (found, expected) = (record.len(), names.len());
            let problem =
                format!("line {line}: {found} cells, but the first line names {expected} columns");
            return Err(Error::data(path, problem));
        }
        let cells = Cells {
            path,
            line,
            columns: &columns,
            record: &record,
        };
        let run = cells.run()?;
        let row = run.evaluations[0];
        let place = *places.entry(run.folder.clone()).or_insert(runs.len());
        if !seen.insert((place, row.update)) {
            let run = run.folder.display().to_string();
            let name = run.rsplit_once(": ").map_or(&run[..], |(_, name)| name);
            let problem = format!(
                "line {line}: {name}, was evaluated after {} updates on a line before; remove one of them, or give them different names",
                row.update
            );
            return Err(Error::data(path, problem));
        }
        match runs.get_mut(place) {
            None => {
                runs.push(run);
                said.push(Said::default());
            }
            Some(other) => {
                if other.algorithm != run.algorithm {
                    let values = (&other.algorithm[..], &run.algorithm[..]);
                    return Err(cells.differs("algorithm", values));
                }
                other.evaluations.push(row);
            }
        }
        said[place].add(&cells, row.update)?;
    }
    if runs.is_empty() {
        return Err(Error::data(
            path,
            "has no evaluation: no line after the names of columns",
        ));
    }
    for (run, said) in runs.iter_mut().zip(&said) {
        run.evaluations.sort_by_key(|row| row.update);
        said.check(path)?;
        let last = run.evaluations.last().map_or(0, |row| row.update);
        run.stopped_early = said.stop.as_ref().map(|stop| stop.value);
        run.early_stop = said.by.as_ref().map(|by| by.value);
        let known = said.updates.as_ref().map(|updates| updates.value);
        run.total_updates = known.unwrap_or(last.max(run.stopped_early.unwrap_or(0)));
    }
    let notes = columns.unknown.iter().map(|name| {
        let meant = nearest(name, COLUMNS)
            .map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        format!("{}: column `{name}` is not read{meant}", path.display())
    });
    Ok((runs, notes.collect()))
}

/// What a table holds, if it can be one.
fn text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(Error::data(
            path,
            "is no text in UTF-8; spreadsheets write it as `CSV UTF-8 (comma delimited)`",
        ));
    };
    let names = text.lines().next().unwrap_or_default();
    let separator = [(';', "semicolons"), ('\t', "tabs")]
        .into_iter()
        .find(|(sign, _)| names.contains(*sign) && !names.contains(','));
    let problem = if let Some((_, separator)) = separator {
        format!(
            "line 1: its cells are parted by {separator}, expected commas (and points in numbers)"
        )
    } else if text.trim().is_empty() {
        "is empty, expected names of columns and a line per run and evaluation".to_owned()
    } else if !text.ends_with('\n') {
        // Its last number may have been longer.
        "its last line has no end: the file may be cut off; copy it again, or end the line if it is whole".to_owned()
    } else {
        return Ok(text);
    };
    Err(Error::data(path, problem))
}

/// Which columns a table has.
struct Columns {
    places: BTreeMap<&'static str, usize>,
    unknown: Vec<String>,
}

impl Columns {
    fn of(path: &Path, names: Vec<&str>) -> Result<Self> {
        let wrong = |problem: String| Error::data(path, format!("line 1: {problem}"));
        let mut places = BTreeMap::new();
        let mut unknown = Vec::new();
        for (place, name) in names.iter().enumerate() {
            match COLUMNS.iter().find(|column| *column == name) {
                Some(column) if places.insert(*column, place).is_some() => {
                    return Err(wrong(format!("two columns are called `{name}`")));
                }
                Some(_) => {}
                None => unknown.push((*name).to_owned()),
            }
        }
        for needed in [
            &["task"][..],
            &["seed"],
            &["name", "algorithm"],
            &["score_mean", "return_mean"],
        ] {
            if needed.iter().any(|name| places.contains_key(name)) {
                continue;
            }
            let columns: Vec<String> = needed.iter().map(|name| format!("`{name}`")).collect();
            return Err(wrong(format!(
                "no column {}: a table of scores has a line per run and evaluation, with `task`, `seed`, `name` or `algorithm`, and `score_mean` or \
                 `return_mean`; here are {}",
                columns.join(" or "),
                names.join(", ")
            )));
        }
        Ok(Self { places, unknown })
    }
}

/// One line of a table.
struct Cells<'a> {
    path: &'a Path,
    line: u64,
    columns: &'a Columns,
    record: &'a csv::StringRecord,
}

impl Cells<'_> {
    /// The cell of a column; empty where there is none.
    fn text(&self, column: &str) -> &str {
        let place = self.columns.places.get(column);
        place
            .and_then(|place| self.record.get(*place))
            .unwrap_or_default()
    }

    fn wrong(&self, column: &str, expected: &str) -> Error {
        let (line, cell) = (self.line, self.text(column));
        Error::data(
            self.path,
            format!("line {line}: `{column}` is `{cell}`, expected {expected}"),
        )
    }

    fn word(&self, column: &str) -> Result<String> {
        match self.text(column) {
            "" => Err(self.wrong(column, "a name")),
            text => Ok(text.to_owned()),
        }
    }

    fn whole(&self, column: &str) -> Result<Option<u64>> {
        match self.text(column) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| self.wrong(column, "a whole number")),
        }
    }

    fn number(&self, column: &str) -> Result<Option<f64>> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        let found = text.parse().ok().filter(|x: &f64| x.is_finite());
        found
            .map(Some)
            .ok_or_else(|| self.wrong(column, "a finite number"))
    }

    /// A number that is not negative; NaN where it is not said.
    fn size(&self, column: &str) -> Result<f64> {
        match self.number(column)? {
            Some(found) if found < 0.0 => Err(self.wrong(column, "0 or more")),
            found => Ok(found.unwrap_or(f64::NAN)),
        }
    }

    /// Mean and standard deviation.
    fn measured(&self, mean: &str, std: &str) -> Result<Option<(f64, f64)>> {
        let std = self.size(std)?;
        Ok(self.number(mean)?.map(|mean| (mean, std)))
    }

    /// The error about two values of a column in lines of one name, task and seed, `before` and `now`.
    fn differs(&self, column: &str, (before, now): (&str, &str)) -> Error {
        let problem = format!(
            "line {}: `{column}` is `{now}`, and `{before}` on a line before with the same name, task and seed: two runs of one name have different \
             seeds; give them different names, or correct the line",
            self.line
        );
        Error::data(self.path, problem)
    }

    /// What this line says in `column`, which must be what a line before has said, if one has.
    fn once<T: Copy + PartialEq>(
        &self,
        column: &str,
        before: &mut Option<Once<T>>,
        value: Option<T>,
    ) -> Result<()> {
        let Some(value) = value else {
            return Ok(());
        };
        match before {
            Some(before) if before.value != value => {
                Err(self.differs(column, (&before.text, self.text(column))))
            }
            Some(_) => Ok(()),
            None => {
                let (line, text) = (self.line, self.text(column).to_owned());
                *before = Some(Once { value, line, text });
                Ok(())
            }
        }
    }

    /// Why the run stopped early, where it is said that it did.
    fn early_stop(&self) -> Result<Option<EarlyStop>> {
        let text = self.text("stopped_by");
        if text.is_empty() {
            return Ok(None);
        }
        let found = STOPS.iter().find(|(name, _)| *name == text);
        match found {
            Some((_, stop)) => Ok(Some(*stop)),
            None => Err(self.wrong("stopped_by", "scores or held_out")),
        }
    }

    /// The line's run, with its one evaluation.
    fn run(&self) -> Result<Run> {
        let either = |column, other| {
            let column = if self.text(column).is_empty() {
                other
            } else {
                column
            };
            self.word(column)
        };
        let (name, algorithm) = (either("name", "algorithm")?, either("algorithm", "name")?);
        let (data, checksum) = (self.word("task")?, self.text("checksum").to_owned());
        let env = Some(self.text("env").to_owned()).filter(|env| !env.is_empty());
        let seed = self
            .whole("seed")?
            .ok_or_else(|| self.wrong("seed", "a whole number"))?;
        let update = self.whole("update")?.unwrap_or(0);
        let scores = self.measured("score_mean", "score_std")?;
        let returns = self.measured("return_mean", "return_std")?;
        if scores.is_none() && returns.is_none() {
            let problem = format!("line {}: neither a score nor a return", self.line);
            return Err(Error::data(self.path, problem));
        }
        let settings = [("name", name.clone()), ("seed", seed.to_string())];
        let mut place = format!("{name} on {data}");
        for part in [&checksum, env.as_ref().unwrap_or(&String::new())] {
            if !part.is_empty() {
                place = format!("{place}, {part}");
            }
        }
        Ok(Run {
            folder: PathBuf::from(format!("{}: {place}, seed {seed}", self.path.display())),
            table: Some(self.path.to_path_buf()),
            algorithm,
            task: Task {
                data,
                env,
                checksum,
            },
            settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
            evaluations: vec![EvaluationRow {
                update,
                seconds: self.size("seconds")?,
                episodes: self.whole("episodes")?.unwrap_or(0) as usize,
                returns: returns.unwrap_or((f64::NAN, f64::NAN)),
                scores,
            }],
            // What lines say of the run as a whole is known after the last of them.
            total_updates: update,
            stopped_early: None,
            early_stop: None,
            lost_state: None,
            lost_rows: Vec::new(),
            changed: Vec::new(),
        })
    }
}

/// A value that all lines of a run have that say it, and where it stands first.
struct Once<T> {
    value: T,
    line: u64,
    text: String,
}

/// What lines say of one run as a whole.
#[derive(Default)]
struct Said {
    updates: Option<Once<u64>>,
    stop: Option<Once<u64>>,
    by: Option<Once<EarlyStop>>,
    /// The last evaluation, and its line.
    last: Option<(u64, u64)>,
}

impl Said {
    /// Adds a line whose evaluation was after `update` updates.
    ///
    /// # Errors
    /// If it is not what lines before say.
    fn add(&mut self, cells: &Cells<'_>, update: u64) -> Result<()> {
        cells.once("updates", &mut self.updates, cells.whole("updates")?)?;
        cells.once(
            "stopped_early",
            &mut self.stop,
            cells.whole("stopped_early")?,
        )?;
        cells.once("stopped_by", &mut self.by, cells.early_stop()?)?;
        self.last = self.last.max(Some((update, cells.line)));
        Ok(())
    }

    /// Fails if what is said of the run can't be true at once.
    fn check(&self, path: &Path) -> Result<()> {
        let wrong =
            |line: u64, problem: String| Err(Error::data(path, format!("line {line}: {problem}")));
        if let (Some(by), None) = (&self.by, &self.stop) {
            return wrong(
                by.line,
                format!(
                    "`stopped_by` is `{}`, but no line of the run has `stopped_early`: say there after how many updates it stopped, or leave \
                     `stopped_by` empty",
                    by.text
                ),
            );
        }
        let (last, line) = self.last.unwrap_or_default();
        if let Some(stop) = self.stop.as_ref().filter(|stop| stop.value < last) {
            return wrong(
                line,
                format!(
                    "an evaluation after {last} updates, but the run stopped early after {} (line {}): correct one of them, or leave `stopped_early` empty \
                     where it went on",
                    stop.value, stop.line
                ),
            );
        }
        let Some(updates) = &self.updates else {
            return Ok(());
        };
        if updates.value < last {
            return wrong(
                line,
                format!(
                    "an evaluation after {last} updates, but the run is to have {} (`updates`, line {}): correct one of them",
                    updates.value, updates.line
                ),
            );
        }
        match &self.stop {
            // As many are said where nobody knows how many there were to be.
            Some(stop) if stop.value > updates.value => wrong(
                stop.line,
                format!(
                    "`stopped_early` is {}, but the run is to have {} updates (`updates`, line {}), and no run stops after its end: correct one of them, or leave \
                     `stopped_early` empty",
                    stop.value, updates.value, updates.line
                ),
            ),
            _ => Ok(()),
        }
    }
}

/// Every evaluation of every run of a comparison's lines, by their names: what [`read`] reads.
///
/// # Errors
/// If two runs of one line have one seed: nothing in the table would tell them apart.
pub fn written(cells: &[Cell]) -> Result<String> {
    let columns = COLUMNS.map(|name| (name.to_owned(), Align::Words));
    let mut table = Table::new("", columns.to_vec());
    let mut seen = BTreeSet::new();
    let mut told: BTreeMap<(&String, &Task, String), &Run> = BTreeMap::new();
    for cell in cells {
        for run in cell.runs.iter().filter(|run| seen.insert(&run.folder)) {
            let seed = run.setting("seed").unwrap_or_default();
            let task = &run.task;
            if let Some(other) = told.insert((&cell.name, task, seed.clone()), run) {
                return Err(Error::Unsuitable(format!(
                    "a table of scores can't tell {} and {} apart: both are called `{}` and have the seed {seed} on {}; name their lines differently, or \
                     group by a key that differs",
                    other.folder.display(),
                    run.folder.display(),
                    cell.name,
                    cell.task
                )));
            }
            let stop = STOPS.iter().find(|(_, stop)| run.early_stop == Some(*stop));
            let why = stop.map_or("", |(name, _)| *name);
            for row in &run.evaluations {
                let of_scores = |part: fn((f64, f64)) -> f64| {
                    row.scores
                        .map_or_else(String::new, |scores| known(part(scores)))
                };
                let episodes = if row.episodes == 0 {
                    String::new()
                } else {
                    row.episodes.to_string()
                };
                table.push(vec![
                    cell.name.clone(),
                    run.algorithm.clone(),
                    run.task.data.clone(),
                    run.task.checksum.clone(),
                    run.task.env.clone().unwrap_or_default(),
                    seed.clone(),
                    row.update.to_string(),
                    run.total_updates.to_string(),
                    known(row.seconds),
                    episodes,
                    known(row.returns.0),
                    known(row.returns.1),
                    of_scores(|scores| scores.0),
                    of_scores(|scores| scores.1),
                    run.stopped_early
                        .map_or_else(String::new, |update| update.to_string()),
                    why.to_owned(),
                ]);
            }
        }
    }
    Ok(table.csv())
}

/// Writes [`written`] to a file.
///
/// # Errors
/// As [`written`], or if the disk fails.
pub fn write(cells: &[Cell], path: &Path) -> Result<()> {
    write_atomically(path, written(cells)?.as_bytes())
}
