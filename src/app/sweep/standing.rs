//! [`Standing`]: how far a run has come, from the files in its folder.

use std::path::Path;

use crate::app::checkpoint::RunDir;
use crate::app::checkpoint::folders::{check_configured, check_place};
use crate::app::config::RunConfig;
use crate::app::evaluations::Evaluations;
use crate::app::table;
use crate::app::whole::check_whole;
use serde::Serialize;
use trajformer_core::error::Result;

/// What is there of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing.
    Missing,
    /// A part of it.
    Begun,
    /// All of its updates and evaluations.
    Finished,
    /// Something that can't be read or is not whole.
    Damaged,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Standing {
    /// What is there.
    pub state: State,
    /// Updates of its last checkpoint.
    pub updates: u64,
    /// Updates of the last row of its metrics, which may be ahead of the checkpoint.
    pub logged: u64,
    /// Updates in all.
    pub total: u64,
    /// Seconds of training and evaluation until the last row.
    pub seconds: f64,
    /// The last evaluation's score; the return where there is no score.
    pub score: Option<f64>,
}

impl Standing {
    /// How far the run of this configuration in `folder` has come; one that stopped early is finished.
    ///
    /// # Errors
    /// If its state can't be read, or it is finished and its evaluations can't be.
    pub fn of(folder: &Path, config: &RunConfig) -> Result<Self> {
        let total = config.total_updates();
        let nothing = Self {
            state: State::Missing,
            updates: 0,
            logged: 0,
            total,
            seconds: 0.0,
            score: None,
        };
        if !folder.join("config.toml").is_file() {
            check_place(folder)?;
            check_configured(folder)?;
            return Ok(nothing);
        }
        let state = RunDir::open(folder)?.state()?;
        // Tables are read while they are written: what isn't whole yet is seen next time.
        let rows =
            table::numbers(&folder.join("metrics.csv"), ["update", "seconds"]).unwrap_or_default();
        let [logged, seconds] = rows.last().copied().unwrap_or_default();
        let updates = state.as_ref().map_or(0, |state| state.update);
        let done = state.as_ref().is_some_and(|state| state.is_end_of(config));
        let evaluations = match Evaluations::rows(folder) {
            Err(error) if done => return Err(error),
            found => found.unwrap_or_default(),
        };
        let last = evaluations.last();
        Ok(Self {
            state: if done { State::Finished } else { State::Begun },
            updates,
            logged: (logged as u64).max(updates),
            seconds: state.map_or(0.0, |state| state.seconds).max(seconds),
            score: last.map(|row| row.scores.map_or(row.returns.0, |scores| scores.0)),
            ..nothing
        })
    }

    /// As [`of`](Self::of), of a run that nobody trains now, whose files are looked at: what can't be read or is not whole is an error
    /// also where it is not finished.
    ///
    /// # Errors
    /// If its configuration, state, shapes or tables can't be read, or a tensor file is missing or cut off.
    pub fn checked(folder: &Path, config: &RunConfig) -> Result<Self> {
        let standing = Self::of(folder, config)?;
        if standing.state == State::Missing {
            return Ok(standing);
        }
        let run = RunDir::open(folder)?;
        run.config()?;
        run.spec()?;
        check_whole(&run, run.state()?.as_ref())?;
        Ok(standing)
    }

    /// The standing of a run of this configuration that can't be read.
    pub fn damaged(config: &RunConfig) -> Self {
        Self {
            state: State::Damaged,
            updates: 0,
            logged: 0,
            total: config.total_updates(),
            seconds: 0.0,
            score: None,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Whether it can be trained: it is neither finished nor damaged.
    pub fn is_left(&self) -> bool {
        !matches!(self.state, State::Finished | State::Damaged)
    }
}
