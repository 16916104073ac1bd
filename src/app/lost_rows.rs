//! [`lost_rows`]: what is missing from a run's tables, by what its state says that it has written there.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::app::checkpoint::lost::{Fault, others, remedy};
use crate::app::checkpoint::{RunDir, RunState};
use crate::app::config::RunConfig;
use crate::app::config::sections::TrainConfig;
use crate::app::evaluations::{EvaluationRow, Evaluations};
use crate::app::table::Table;
use trajformer_core::error::shell_quoted;

const METRICS: &str = "metrics.csv";
/// The name of learning rules that the registry does not know.
const OWN_RULE: &str = "custom";
/// The table of a run's scores, by which what is said of it begins.
pub const EVALUATIONS: &str = "evaluations.csv";

/// What is to be said of the tables of a run that has come to `state`: files that are missing, cut or can't be read, and what is not known for
/// it. Empty where all is there, or nothing is known to have been.
pub fn lost_rows(run: &RunDir, config: &RunConfig, state: Option<&RunState>) -> Vec<String> {
    if state.is_none() {
        return Vec::new();
    }
    let table = Table::read_if_present(&run.file(METRICS));
    let logged = table.and_then(|table| {
        Ok(table
            .map(|table| table.updates())
            .transpose()?
            .unwrap_or_default())
    });
    lost_of(run, config, state, (Evaluations::rows(run.path()), logged))
}

/// As [`lost_rows`], where the tables were read already: the rows of the evaluations, and the updates of the metrics.
pub fn lost_of<E: Display>(
    run: &RunDir,
    config: &RunConfig,
    state: Option<&RunState>,
    read: (Result<Vec<EvaluationRow>, E>, Result<Vec<u64>, E>),
) -> Vec<String> {
    lost(run, config, state, read, Then::End)
}

/// As [`lost_of`], of a run that goes on as it is: nothing is to be put in a place that it writes to.
pub fn lost_before<E: Display>(
    run: &RunDir,
    config: &RunConfig,
    state: Option<&RunState>,
    read: (Result<Vec<EvaluationRow>, E>, Result<Vec<u64>, E>),
) -> Vec<String> {
    lost(run, config, state, read, Then::GoesOn)
}

/// What becomes of a run whose tables are looked at.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    End,
    GoesOn,
}

/// A table, and what a run has written there.
struct Written<E> {
    name: &'static str,
    /// What it did until `known` updates.
    did: &'static str,
    what: &'static str,
    known: u64,
    /// There is a row every so many updates, for each of them; 0: for none.
    every: [u64; 2],
    /// The updates of the rows that are there.
    found: Result<Vec<u64>, E>,
}

fn lost<E: Display>(
    run: &RunDir,
    config: &RunConfig,
    state: Option<&RunState>,
    (rows, logged): (Result<Vec<EvaluationRow>, E>, Result<Vec<u64>, E>),
    then: Then,
) -> Vec<String> {
    let Some(state) = state.filter(|state| state.update > 0) else {
        return Vec::new();
    };
    let (train, evaluate) = (&config.train, &config.evaluate);
    // A learning rule of somebody's own may have nothing to log.
    let is_own = config.algorithm.name() == OWN_RULE;
    let tables = [
        Written {
            name: EVALUATIONS,
            did: "was evaluated after",
            what: "its scores",
            known: evaluated(config, state),
            every: [
                if is_scored(config) {
                    evaluate.every_updates
                } else {
                    0
                },
                0,
            ],
            found: rows.map(|rows| rows.iter().map(|row| row.update).collect()),
        },
        Written {
            name: METRICS,
            did: "has logged until",
            what: "its losses",
            known: logged_until(&config.train, state),
            every: if is_own {
                [0; 2]
            } else {
                [train.log_every_updates, train.checkpoint_every_updates]
            },
            found: logged,
        },
    ];
    let said = tables.into_iter().flat_map(|table| {
        if is_own && table.name == METRICS && table.found.as_ref().is_ok_and(Vec::is_empty) {
            return Vec::new();
        }
        table.lost(run.path(), then)
    });
    said.collect()
}

impl<E: Display> Written<E> {
    /// What is missing from it.
    fn lost(self, folder: &Path, then: Then) -> Vec<String> {
        let (name, what) = (self.name, self.what);
        let did = format!("{} {} updates", self.did, self.known);
        let found = match self.found {
            Ok(found) => found,
            Err(error) => return vec![format!("{error}; {what} are not known")],
        };
        let (Some(first), Some(last)) = (found.first(), found.last()) else {
            if self.known == 0 {
                return Vec::new();
            }
            return vec![nothing_there(folder, name, &did, what, then)];
        };
        let holes = holes(&found, self.every);
        let mut said = Vec::new();
        if holes.first().is_some_and(|(after, _)| *after == 0) {
            let to_do = earlier_rows(folder, name, *first).filter(|_| then == Then::End);
            said.push(format!(
                "{name} begins with update {first}: earlier rows were lost{}",
                to_do.unwrap_or_default()
            ));
        }
        let mut inside = holes.iter().filter(|(after, _)| *after > 0);
        if let Some((after, before)) = inside.next() {
            let more = match inside.count() {
                0 => String::new(),
                more => format!(", and in {more} further places"),
            };
            said.push(format!(
                "{name} has no row between the updates {after} and {before}{more}: rows were lost"
            ));
        }
        if *last < self.known {
            let missing = rows_missing(name, *last, &did);
            let restore = match then {
                Then::End => format!("; {}", restored(folder, name, &found)),
                Then::GoesOn => String::new(),
            };
            said.push(missing + &restore);
        }
        said
    }
}

/// Between which updates rows are missing that should be there every so many; 0 is the run's start.
fn holes(updates: &[u64], every: [u64; 2]) -> Vec<(u64, u64)> {
    let starts = std::iter::once(0).chain(updates.iter().copied());
    let lacks = |after: u64, before: u64| {
        let next = |every: u64| (after / every + 1) * every;
        every
            .iter()
            .any(|every| *every > 0 && next(*every) < before)
    };
    let between = starts.zip(updates.iter().copied());
    between
        .filter(|(after, before)| lacks(*after, *before))
        .collect()
}

/// Where rows from before update `first` of a run's table are, and what to do with them: a kept checkpoint may have some. In the table's own place
/// they would take that of newer rows.
fn earlier_rows(folder: &Path, name: &str, first: u64) -> Option<String> {
    let columns = Table::read(&folder.join(name)).ok()?.columns;
    let has_some = |copy: &PathBuf| {
        let table = Table::read(copy).ok().filter(|it| it.columns == columns);
        let rows = table.and_then(|table| table.updates().ok());
        rows.is_some_and(|rows| rows.first().is_some_and(|row| *row < first))
    };
    let mut copies = others(folder).into_iter().map(|place| place.join(name));
    let copy = copies.find(has_some)?;
    Some(format!(
        "; {} has some of them: put those in before the others, not the file in this one's place",
        shell_quoted(&copy)
    ))
}

/// What brings the rows back that a table lacks after those of these updates: a kept checkpoint's copy that has them all and more.
pub fn restored(folder: &Path, name: &str, rows: &[u64]) -> String {
    let has_more = |copy: &PathBuf| {
        let updates = Table::read(copy)
            .ok()
            .and_then(|table| table.updates().ok());
        let Some(updates) = updates else {
            return false;
        };
        updates.last() > rows.last() && rows.iter().all(|row| updates.contains(row))
    };
    let copies = others(folder).into_iter().map(|place| place.join(name));
    // The last one has most.
    match copies.filter(has_more).max() {
        Some(copy) => format!(
            "copy {} to {}: it has all of its rows and more",
            shell_quoted(&copy),
            shell_quoted(&folder.join(name))
        ),
        None => "restore it from a copy".to_owned(),
    }
}

/// Whether runs of this configuration are scored.
fn is_scored(config: &RunConfig) -> bool {
    config.evaluate.env.is_some() && config.evaluate.episodes > 0
}

/// After how many updates a run that has come to `state` was evaluated at least; 0 where it is not known that it was.
pub fn evaluated(config: &RunConfig, state: &RunState) -> u64 {
    let of_best = state.best.as_ref().map_or(0, |best| best.update);
    if !is_scored(config) {
        return of_best;
    }
    if state.is_end_of(config) {
        return state.update;
    }
    let done = state.update.saturating_sub(state.evaluation_pending.into());
    let every = config.evaluate.every_updates;
    let regular = done.checked_div(every).map_or(0, |times| times * every);
    of_best.max(regular)
}

/// Until which update a run that has come to `state` has logged: one that was interrupted between two rows has the rest in its state.
fn logged_until(train: &TrainConfig, state: &RunState) -> u64 {
    if state.unlogged.is_empty() {
        return state.update;
    }
    let every = [train.log_every_updates, train.checkpoint_every_updates];
    let last = |every: u64| {
        state
            .update
            .checked_div(every)
            .map_or(0, |times| times * every)
    };
    every.into_iter().map(last).max().unwrap_or(0)
}

/// What to say of a table that ends before the run did; `did` is what the run did then.
pub fn rows_missing(name: &str, last: u64, did: &str) -> String {
    format!("{name} ends with update {last}, and the run {did}: rows are missing")
}

fn nothing_there(folder: &Path, name: &str, did: &str, what: &str, then: Then) -> String {
    let (is, to_do) = match Fault::at(&folder.join(name)) {
        Some(fault) => (fault.said(), remedy(folder, name, fault)),
        None => ("has no row", "restore it from a copy".to_owned()),
    };
    // There is nothing to remove.
    let to_do = to_do.split(", or remove it").next().unwrap_or_default();
    let to_do = match then {
        Then::End => format!("; {to_do}"),
        Then::GoesOn => String::new(),
    };
    format!("{name} {is}, and the run {did}: {what} are not known{to_do}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_missing_where_none_stands_at_a_multiple_between_two() {
        assert_eq!(holes(&[2, 4, 5, 6], [2, 0]), []);
        assert_eq!(holes(&[3, 4, 6], [2, 0]), [(0, 3)]);
        assert_eq!(holes(&[2, 3, 8, 9], [2, 0]), [(3, 8)]);
        // One that stands earlier than it need is no loss, nor are more of them.
        assert_eq!(holes(&[1, 2], [5, 0]), []);
        assert_eq!(holes(&[10], [10, 4]), [(0, 10)]);
        assert_eq!(holes(&[7], [0, 0]), []);
    }
}
