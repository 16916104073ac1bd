//! [`check_whole`]: whether what a run has written is there and can be read, before it is gone on with or taken for finished.

use crate::app::checkpoint::{RunDir, RunState};
use crate::app::logger::Tables;
use trajformer_core::error::Result;

/// Its tables, if all files of a run that nobody trains now are whole. `state` is what its `state.toml` says. Of tensors the lengths are
/// looked at, not the numbers.
///
/// # Errors
/// If its tables can't be read, a tensor file is missing or cut off, or there are tensors and no `state.toml`: which, and what to do.
pub fn check_whole(run: &RunDir, state: Option<&RunState>) -> Result<Tables> {
    match state {
        Some(state) => run.check_lengths(state)?,
        None => run.refuse_tensors_without_state()?,
    }
    let tables = Tables::read(run)?;
    tables.evaluations()?;
    Ok(tables)
}
