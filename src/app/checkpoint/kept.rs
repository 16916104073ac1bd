//! Kept checkpoints: copies of a run directory as it was after one update, in its folder `checkpoints`.
//!
//! Each has what a run directory has, but event files, so that everything that opens a run opens it. Tensors are hard links
//! where the file system has them: a checkpoint's files are replaced by the next one's, never written over. A copy is made under
//! another name and renamed as a whole: what has the name of an update is complete.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::checkpoint::create::EVENTS;
use crate::app::checkpoint::folders::{bytes_of, refuse_inside_of_a_run};
use crate::app::checkpoint::places::{FOLDER, folder_of, kept_updates, run_of};
use crate::app::checkpoint::tensors::GROUPS;
use crate::app::checkpoint::{LOCK, RunDir, RunState};
use crate::app::config::sections::Keep;
use trajformer_core::atomic::{sync_folder, write_synced};
use trajformer_core::error::{Error, Result};

/// Small files of a checkpoint, some of which a run may lack.
const COPIED: [&str; 7] = [
    "config.json",
    "origin.json",
    "instructions.safetensors",
    "metrics.csv",
    "evaluations.csv",
    "state.toml",
    "config.toml",
];
/// Ending of a copy that is being made.
const NEW: &str = "new";
/// Ending of a copy that is being removed.
const OLD: &str = "old";

impl RunDir {
    /// Keeps the checkpoint that the run has now, which is that of `update`; nothing is done if it is kept already.
    ///
    /// # Errors
    /// If the disk fails: what was kept before stays.
    pub fn keep(&self, update: u64) -> Result<()> {
        let place = folder_of(self.path(), update);
        if place.is_dir() {
            return Ok(());
        }
        self.remove_rests()?;
        let beside = place.with_extension(NEW);
        fs::create_dir_all(&beside).map_err(Error::io(&beside))?;
        for group in GROUPS {
            let name = format!("{group}.safetensors");
            link(&self.file(&name), &beside.join(&name))?;
        }
        copy_small_files(self.path(), &beside)?;
        if let Some(state) = self.state()?.filter(|state| state.copy_pending) {
            let copy = Self {
                path: beside.clone(),
                _lock: None,
            };
            copy.write_state(&RunState {
                copy_pending: false,
                ..state
            })?;
        }
        sync_folder(&beside);
        fs::rename(&beside, &place).map_err(Error::io(&place))
    }

    /// Keeps the checkpoint of `state`, and no longer the one that was the best before, where `keep` wants it so; says in `state.toml` that it
    /// is done, where that says that it is not.
    ///
    /// # Errors
    /// As [`keep`](Self::keep) and [`drop_superseded`](Self::drop_superseded).
    pub fn keep_due(&self, state: &RunState, keep: Keep) -> Result<()> {
        self.keep(state.update)?;
        let is_best = state.best.is_some_and(|best| best.update == state.update);
        if keep == Keep::Best && is_best {
            self.drop_superseded(state.update)?;
        }
        if !state.copy_pending {
            return Ok(());
        }
        self.record(RunState {
            copy_pending: false,
            ..state.clone()
        })
    }

    /// Removes what was kept as the best one and is no longer: all but that of `best`, and all that are kept for another
    /// reason.
    ///
    /// # Errors
    /// If a kept checkpoint can't be read, or the disk fails.
    pub fn drop_superseded(&self, best: u64) -> Result<()> {
        for update in kept_updates(self.path()) {
            let folder = folder_of(self.path(), update);
            let train = Self::open(&folder)?.config()?.train;
            let every = train.keep_every_updates;
            let is_due = every > 0 && update.is_multiple_of(every);
            if update != best && train.keep == Keep::Best && !is_due {
                let old = folder.with_extension(OLD);
                fs::rename(&folder, &old).map_err(Error::io(&folder))?;
            }
        }
        self.remove_rests()
    }

    /// Removes what a kill has left of copies.
    fn remove_rests(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(self.file(FOLDER)) else {
            return Ok(());
        };
        for entry in entries {
            let path = entry.map_err(Error::io(self.path()))?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if [Some(NEW), Some(OLD)].contains(&ending) {
                fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    /// Makes a run directory `out` that goes on from this checkpoint, with all that the run has kept and logged until then; it
    /// is there as a whole or not at all.
    ///
    /// # Errors
    /// If there is no whole checkpoint, something is at `out` already, or the disk fails.
    pub fn branch(&self, out: &Path) -> Result<()> {
        if out.join("config.toml").exists() {
            let there = Self {
                path: out.to_path_buf(),
                _lock: None,
            };
            let path = out.to_path_buf();
            return Err(there.in_training_or(Error::RunExists { path }));
        }
        let occupied = |path: &Path, problem: &str| {
            Err(Error::Occupied {
                path: path.to_path_buf(),
                problem: problem.to_owned(),
            })
        };
        refuse_inside_of_a_run(out)?;
        let is_empty = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
        if out.exists() && !is_empty {
            return occupied(
                out,
                "something else is there already; choose another folder",
            );
        }
        let state = self.saved_state()?;
        // Without a slash at its end, so that what is made lies beside it.
        let out: &Path = &out.components().collect::<PathBuf>();
        let mut beside = out.as_os_str().to_owned();
        beside.push(".unfinished-branch");
        let beside = PathBuf::from(beside);
        let branch = begun_alone(&beside)?;
        let made = self.copy_into(&branch, &state);
        let made = made.and_then(|()| fs::rename(&beside, out).map_err(Error::io(out)));
        if made.is_err() {
            // A disk that fails may keep what is there: whoever makes a branch there again removes it.
            let _ = fs::remove_dir_all(&beside);
        }
        drop(branch);
        made
    }

    /// Everything that a branch has of this checkpoint.
    fn copy_into(&self, branch: &Self, state: &RunState) -> Result<()> {
        let beside = branch.path();
        for group in GROUPS {
            let name = format!("{group}.safetensors");
            write_synced(&beside.join(&name), &self.tensor_file(&name, state)?)?;
        }
        copy_small_files(self.path(), beside)?;
        let run = run_of(self.path()).unwrap_or_else(|| self.path().to_path_buf());
        copy_history(&run, beside, state.update)?;
        branch.save_origin()
    }
}

/// Copies the small files that `from` has.
fn copy_small_files(from: &Path, to: &Path) -> Result<()> {
    for name in COPIED {
        if from.join(name).exists() {
            write_synced(&to.join(name), &bytes_of(from, name)?)?;
        }
    }
    Ok(())
}

/// Events, and the checkpoints kept before `update`.
fn copy_history(run: &Path, to: &Path, update: u64) -> Result<()> {
    let entries = fs::read_dir(run).map_err(Error::io(run))?;
    for entry in entries {
        let path = entry.map_err(Error::io(run))?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with(EVENTS) {
            fs::copy(&path, to.join(name)).map_err(Error::io(&path))?;
        }
    }
    for update in kept_updates(run).into_iter().filter(|kept| *kept <= update) {
        let (from, place) = (folder_of(run, update), folder_of(to, update));
        fs::create_dir_all(&place).map_err(Error::io(&place))?;
        for group in GROUPS {
            let name = format!("{group}.safetensors");
            link(&from.join(&name), &place.join(&name))?;
        }
        copy_small_files(&from, &place)?;
    }
    Ok(())
}

/// The same file at a second place; a copy where the file system has no links.
fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    write_synced(to, &fs::read(from).map_err(Error::io(from))?)
}

/// An empty folder for what is made of a branch, which no other process makes; a killed one's leavings go.
fn begun_alone(beside: &Path) -> Result<RunDir> {
    fs::create_dir_all(beside).map_err(Error::io(beside))?;
    let path = beside.join(LOCK);
    let entries = || fs::read_dir(beside).map_err(Error::io(beside));
    if !path.exists() && entries()?.next().is_some() {
        return Err(Error::Occupied {
            path: beside.to_path_buf(),
            problem: "it isn't what a killed process left of this branch; move it away, or choose another folder"
                .to_owned(),
        });
    }
    let run = RunDir {
        path: beside.to_path_buf(),
        _lock: None,
    };
    let run = run.locked("wait for it, or choose another folder")?;
    for entry in entries()? {
        let entry = entry.map_err(Error::io(beside))?.path();
        if entry == path {
            continue;
        }
        let removed = if entry.is_dir() {
            fs::remove_dir_all(&entry)
        } else {
            fs::remove_file(&entry)
        };
        removed.map_err(Error::io(&entry))?;
    }
    Ok(run)
}
