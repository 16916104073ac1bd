//! [`lost_rows`]: what is missing from a run's tables, by what its state says that it has written there.

use std::fmt::Display;
use std::path::Path;

use crate::app::checkpoint::lost::{Fault, remedy};
use crate::app::checkpoint::{RunDir, RunState};
use crate::app::config::RunConfig;
use crate::app::evaluations::{EvaluationRow, Evaluations};
use crate::app::table::Table;

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
    (rows, logged): (Result<Vec<EvaluationRow>, E>, Result<Vec<u64>, E>),
) -> Vec<String> {
    let Some(state) = state.filter(|state| state.update > 0) else {
        return Vec::new();
    };
    let evaluated = evaluated(config, state);
    // One that was interrupted between two rows has the rest in its state.
    let logged_until = if state.unlogged.is_empty() {
        state.update
    } else {
        0
    };
    let rows = rows.map(|rows| rows.last().map(|row| row.update));
    let logged = logged.map(|updates| updates.last().copied());
    let tables = [
        (
            EVALUATIONS,
            "was evaluated after",
            "its scores",
            evaluated,
            rows,
        ),
        (
            METRICS,
            "has logged until",
            "its losses",
            logged_until,
            logged,
        ),
    ];
    let said = tables
        .into_iter()
        .filter_map(|(name, did, what, known, last)| {
            let last = match last {
                // A learning rule of somebody's own may have nothing to log.
                Ok(None) if name == METRICS && config.algorithm.name() == OWN_RULE => return None,
                Ok(last) => last,
                Err(error) => return Some(format!("{error}; {what} are not known")),
            };
            if last.unwrap_or(0) >= known {
                return None;
            }
            Some(match last {
                Some(last) => rows_missing(name, last, &format!("{did} {known} updates")),
                None => nothing_there(run.path(), name, &format!("{did} {known} updates"), what),
            })
        });
    said.collect()
}

/// After how many updates a run that has come to `state` was evaluated at least; 0 where it is not known that it was.
pub fn evaluated(config: &RunConfig, state: &RunState) -> u64 {
    let scores = config.evaluate.env.is_some() && config.evaluate.episodes > 0;
    let of_best = state.best.as_ref().map_or(0, |best| best.update);
    if scores && state.is_end_of(config) {
        state.update
    } else {
        of_best
    }
}

/// What to say of a table that ends before the run did; `did` is what the run did then.
pub fn rows_missing(name: &str, last: u64, did: &str) -> String {
    format!(
        "{name} ends with update {last}, and the run {did}: rows are missing; restore it from a copy"
    )
}

fn nothing_there(folder: &Path, name: &str, did: &str, what: &str) -> String {
    let (is, to_do) = match Fault::at(&folder.join(name)) {
        Some(fault) => (fault.said(), remedy(folder, name, fault)),
        None => ("has no row", "restore it from a copy".to_owned()),
    };
    // There is nothing to remove.
    let to_do = to_do.split(", or remove it").next().unwrap_or_default();
    format!("{name} {is}, and the run {did}: {what} are not known; {to_do}")
}
