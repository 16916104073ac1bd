//! `RUN@50000`, `RUN@best`, `RUN@last`: which folder such a name stands for. What keeps checkpoints is `kept.rs`.

use std::path::{Path, PathBuf};

use crate::app::checkpoint::folders::{check_seal, text_of, toml_problem};
use crate::app::checkpoint::places::{folder_of, is_number, kept_updates, updates};
use trajformer_core::error::{Error, Result};

/// The folder that a run was named by: `path` itself, or what `RUN@UPDATE`, `RUN@best` and `RUN@last` stand for. A folder
/// that has an `@` in its name is itself, and so is a path whose part before the `@` is no run.
///
/// # Errors
/// [`Error::Run`] if the run has no such checkpoint: which it has.
pub fn named(path: &Path) -> Result<PathBuf> {
    let itself = || Ok(path.to_path_buf());
    let Some((run, name)) = path.to_str().and_then(|text| text.rsplit_once('@')) else {
        return itself();
    };
    let run = Path::new(run);
    // What a run keeps can be used also where its own configuration is lost.
    let is_run = || run.join("config.toml").is_file() || !kept_updates(run).is_empty();
    if path.exists() || !is_run() {
        return itself();
    }
    let present = match Present::read(run) {
        // A checkpoint that is kept can be used whatever became of the run's own.
        Err(_) if is_number(name) && named_kept(run, name).is_dir() => {
            return Ok(named_kept(run, name));
        }
        other => other?,
    };
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

/// The folder of the kept checkpoint that `RUN@NUMBER` names.
fn named_kept(run: &Path, number: &str) -> PathBuf {
    folder_of(run, number.parse().unwrap_or(u64::MAX))
}

/// What `state.toml` says of the checkpoint that a run goes on from.
struct Present {
    update: Option<u64>,
    best: Option<u64>,
}

impl Present {
    fn read(run: &Path) -> Result<Self> {
        let name = "state.toml";
        let text = if run.join(name).exists() {
            text_of(run, name)?
        } else {
            String::new()
        };
        let table: toml::Table = text.parse().map_err(|error| Error::Run {
            path: run.to_path_buf(),
            problem: toml_problem(run, name, &text, &error),
        })?;
        check_seal(run, name, &text)?;
        let best = table.get("best").and_then(toml::Value::as_table);
        Ok(Self {
            update: updates(&table),
            best: best.and_then(updates),
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
            None if names.is_empty() => "it has no checkpoint yet".to_owned(),
            None => format!("it keeps {}", names.join(", ")),
            Some(last) => format!("it has {} (@last is @{last})", names.join(", ")),
        }
    }
}
