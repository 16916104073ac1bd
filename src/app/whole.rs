//! [`check_whole`]: whether what a run has written is there and can be read, before it is gone on with or taken for finished.

use crate::app::checkpoint::{RunDir, RunState};
use crate::app::logger::Tables;
use crate::app::lost_rows::{evaluated, restored, rows_missing};
use trajformer_core::error::{Error, Result};

/// Its tables, if all files of a run that nobody trains now are whole. `state` is what its `state.toml` says. Of tensors the lengths are
/// looked at, not the numbers.
///
/// # Errors
/// If its tables can't be read, evaluations that its state knows of are not among them, a tensor file is missing or cut off, or there are tensors and no `state.toml`: which, and what to do.
pub fn check_whole(run: &RunDir, state: Option<&RunState>) -> Result<Tables> {
    match state {
        Some(state) => run.check_lengths(state)?,
        None => run.refuse_tensors_without_state()?,
    }
    let tables = Tables::read(run)?;
    let rows = tables.evaluations()?;
    if let Some(state) = state.filter(|_| !rows.is_empty()) {
        let updates: Vec<u64> = rows.iter().map(|row| row.update).collect();
        check_end(run, state, &updates)?;
    }
    Ok(tables)
}

/// Fails if the run was evaluated after the last of these, whose rows are there.
fn check_end(run: &RunDir, state: &RunState, updates: &[u64]) -> Result<()> {
    let last = updates.last().copied().unwrap_or(0);
    let config = run.config()?;
    let known = evaluated(&config, state);
    if last >= known {
        return Ok(());
    }
    let missing = rows_missing(
        "evaluations.csv",
        last,
        &format!("was evaluated after {known} updates"),
    );
    Err(Error::Run {
        path: run.path().to_path_buf(),
        problem: format!(
            "{missing}; {}, or move it away to go on without what was found",
            restored(run.path(), "evaluations.csv", updates)
        ),
    })
}
