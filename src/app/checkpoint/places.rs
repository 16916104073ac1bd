//! Where kept checkpoints lie, and what folders are called: `RUN@50000`. What such a name stands for is `named.rs`'s to say.

use std::fs;
use std::path::{Path, PathBuf};

/// Folder in a run directory that holds its kept checkpoints: `checkpoints/00050000` is the one of update 50,000.
pub const FOLDER: &str = "checkpoints";

/// The folder that a kept checkpoint of `run` has.
pub fn folder_of(run: &Path, update: u64) -> PathBuf {
    run.join(FOLDER).join(format!("{update:08}"))
}

/// The updates whose checkpoints `run` keeps, in order; none where the folder can't be read.
pub fn kept_updates(run: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(run.join(FOLDER)) else {
        return Vec::new();
    };
    let update = |name: &str| name.parse().ok().filter(|_| is_number(name));
    let mut updates: Vec<u64> = entries
        .filter_map(|entry| update(entry.ok()?.file_name().to_str()?))
        .collect();
    updates.sort_unstable();
    updates
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit())
}

/// The update that a kept checkpoint's folder is called after; `None` for all other folders.
pub fn kept_update(folder: &Path) -> Option<u64> {
    let is_inside = folder.parent()?.file_name()? == FOLDER;
    let name = folder
        .file_name()?
        .to_str()
        .filter(|name| is_inside && is_number(name))?;
    name.parse().ok()
}

/// The run whose kept checkpoint `folder` is; `None` if it is none.
pub fn run_of(folder: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    let inside = folder.parent()?;
    let run = inside.parent()?;
    let name = folder.file_name()?.to_str()?;
    let is_kept = inside.file_name()? == FOLDER && is_number(name);
    (is_kept && run.join("config.toml").is_file()).then(|| run.to_path_buf())
}

/// What a folder is called: `RUN@50000` for a kept checkpoint of `RUN`; every other folder by its path.
pub fn called(folder: &Path) -> PathBuf {
    let run = || folder.parent()?.parent();
    match (kept_update(folder), run()) {
        (Some(update), Some(run)) if run.join("config.toml").is_file() => {
            PathBuf::from(format!("{}@{update}", run.display()))
        }
        _ => folder.to_path_buf(),
    }
}

/// The update of the checkpoint in `folder`; `None` where its `state.toml` does not say.
pub fn update_of(folder: &Path) -> Option<u64> {
    updates(&state_table(folder)?)
}

/// What `state.toml` in `folder` says; `None` where it can't be read.
pub(super) fn state_table(folder: &Path) -> Option<toml::Table> {
    let text = fs::read_to_string(folder.join("state.toml")).ok()?;
    text.parse().ok()
}

/// One path for a run, however it is named: a kept checkpoint that is the one that its run goes on from is that run.
pub fn identity(folder: &Path) -> PathBuf {
    let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    match run_of(&whole) {
        Some(run) if kept_update(&whole) == update_of(&run) => run,
        _ => whole,
    }
}

/// The number of updates that a table of `state.toml` has.
pub(super) fn updates(table: &toml::Table) -> Option<u64> {
    u64::try_from(table.get("update")?.as_integer()?).ok()
}
