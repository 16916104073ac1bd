//! `RUN@50000`, `RUN@best`, `RUN@last`: how kept checkpoints are named, and where they lie. What keeps them is `kept.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::checkpoint::folders::toml_problem;
use trajformer_core::error::{Error, Result};

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

fn is_number(text: &str) -> bool {
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

/// The folder that a run was named by: `path` itself, or what `RUN@UPDATE`, `RUN@best` and `RUN@last` stand for. A folder
/// that has an `@` in its name is itself, and so is a path whose part before the `@` is no folder.
///
/// # Errors
/// [`Error::Run`] if the run has no such checkpoint: which it has.
pub fn named(path: &Path) -> Result<PathBuf> {
    let itself = || Ok(path.to_path_buf());
    let Some((run, name)) = path.to_str().and_then(|text| text.rsplit_once('@')) else {
        return itself();
    };
    let run = Path::new(run);
    if path.exists() || !run.join("config.toml").is_file() {
        return itself();
    }
    let present = Present::read(run)?;
    let fail = |problem: &str| {
        Err(Error::Run {
            path: run.to_path_buf(),
            problem: format!("{problem}; {}", present.listed(run)),
        })
    };
    let update = match name {
        "last" => return Ok(run.to_path_buf()),
        "best" => match present.best {
            Some(update) => update,
            None => return fail("no evaluation of it is known, so none is the best"),
        },
        number if is_number(number) => match number.parse() {
            Ok(update) => update,
            Err(_) => return fail(&format!("`{name}` is no number of updates")),
        },
        _ => {
            return fail(&format!(
                "`{name}` names no checkpoint, expected `last`, `best` or a number of updates"
            ));
        }
    };
    let folder = folder_of(run, update);
    if present.update == Some(update) {
        Ok(run.to_path_buf())
    } else if folder.is_dir() {
        Ok(folder)
    } else if name == "best" {
        fail(&format!(
            "its best evaluation was after {update} updates, of which no checkpoint is kept (`train.keep` decides)"
        ))
    } else {
        fail(&format!("no checkpoint of update {update} is kept"))
    }
}

/// What `state.toml` says of the checkpoint that a run goes on from.
struct Present {
    update: Option<u64>,
    best: Option<u64>,
}

impl Present {
    fn read(run: &Path) -> Result<Self> {
        let path = run.join("state.toml");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.map_err(Error::io(&path))?,
        };
        let table: toml::Table = text.parse().map_err(|error| Error::Run {
            path: run.to_path_buf(),
            problem: toml_problem("state.toml", &text, &error),
        })?;
        let number = |table: &toml::Table| u64::try_from(table.get("update")?.as_integer()?).ok();
        let best = table.get("best").and_then(toml::Value::as_table);
        Ok(Self {
            update: number(&table),
            best: best.and_then(number),
        })
    }

    /// The names that this run's checkpoints have.
    fn listed(&self, run: &Path) -> String {
        let mut updates = kept_updates(run);
        updates.extend(self.update);
        updates.sort_unstable();
        updates.dedup();
        let names: Vec<String> = updates.iter().map(|update| format!("@{update}")).collect();
        match self.update {
            None => "it has no checkpoint yet".to_owned(),
            Some(last) => format!("it has {} (@last is @{last})", names.join(", ")),
        }
    }
}
