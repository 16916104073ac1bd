//! What is wrong with a run's own file by what stands in its place, and what to do about it: one sentence for every file, wherever it is read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::checkpoint::places::{
    called, folder_of, kept_update, kept_updates, run_of, state_table, update_of,
};
use crate::app::checkpoint::tensors::GROUPS;
use trajformer_core::error::shell_quoted;

/// What stands in the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Missing,
    /// A folder.
    Folder,
    /// A file without content.
    Empty,
    /// A file whose content is not what it should be.
    Damaged,
}

impl Fault {
    /// What stands at `path`, if it is no file with something in it.
    pub fn at(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Self::Missing),
            Ok(there) if there.is_dir() => Some(Self::Folder),
            Ok(there) if there.is_file() && there.len() == 0 => Some(Self::Empty),
            _ => None,
        }
    }

    /// The words for it.
    pub fn said(self) -> &'static str {
        match self {
            Self::Missing => "is missing",
            Self::Folder => "is a folder, where the run has a file",
            Self::Empty => "is empty",
            Self::Damaged => "is damaged",
        }
    }
}

/// What to say where the run in `folder` has no file `name` with something in it; `None` where it has.
pub fn lost(folder: &Path, name: &str) -> Option<String> {
    Some(said(folder, name, Fault::at(&folder.join(name))?))
}

/// What to say of the file `name` of the run in `folder`: its fault, what it is for, and what to do.
pub fn said(folder: &Path, name: &str, fault: Fault) -> String {
    format!(
        "{name} {}: {}; {}",
        fault.said(),
        purpose(name),
        remedy(folder, name, fault)
    )
}

/// What a file is for, and what can't be done without it.
pub(super) fn purpose(name: &str) -> &'static str {
    match name {
        "config.toml" => {
            "it says what the run is and how it was trained, and without it nothing can be done with the run"
        }
        "config.json" => {
            "it says how many numbers observations and actions have, the range of actions, and which settings and data the run was \
             started with, and without it the run can neither act nor go on nor be compared"
        }
        "state.toml" => {
            "without it nothing says which update the weights are of, and the run can neither go on nor act"
        }
        "model.safetensors" => {
            "it holds the networks, and without it the run can neither act nor go on"
        }
        "policy.safetensors" => {
            "it holds what a policy needs beside the networks, and without it the run can neither act nor go on"
        }
        "training.safetensors" => {
            "it holds the optimiser and target networks, and without it the run can't go on"
        }
        "instructions.safetensors" => {
            "it holds the instructions that the run knows, and without it the run can neither act nor go on"
        }
        "train.lock" => "it keeps two processes from training the run at once",
        "origin.json" => "it says where and with which command the run was begun",
        _ => "it is a table of what the run has found",
    }
}

/// What to do about it: where a copy is, if a kept checkpoint has one, or what else helps.
pub fn remedy(folder: &Path, name: &str, fault: Fault) -> String {
    let away = match fault {
        Fault::Folder => "move that folder away and ",
        _ => "",
    };
    let is_table = name.ends_with(".csv");
    let copy = copy_of(folder, name);
    if let Some(copy) = copy {
        let from = shell_quoted(&copy);
        return match name {
            "config.toml" => format!(
                "{away}copy {from} here, which says the same, but for what a resumed run may change"
            ),
            _ if is_table => format!(
                "{away}copy {from} here, which has its lines until then, or remove it, and it is begun anew"
            ),
            _ if away.is_empty() => format!("{from} is the same file: copy it here"),
            _ => format!("{away}copy {from} here, which is the same file"),
        };
    }
    if let ("origin.json" | "train.lock", Fault::Folder) = (name, fault) {
        return "move that folder away: nothing else depends on it".to_owned();
    }
    let rest = match name {
        "config.toml" => "or remove the run".to_owned(),
        _ if is_table => "or remove it, and it is begun anew".to_owned(),
        _ => elsewhere(folder, name),
    };
    format!("{away}restore it from a copy, {rest}")
}

/// What can be used where a part of a checkpoint is lost: another one of the run, or its configuration.
fn elsewhere(folder: &Path, name: &str) -> String {
    let around = run_around(folder);
    let place = others(folder)
        .into_iter()
        .find(|place| is_whole(place, name));
    match (place, around) {
        (Some(place), Some(run)) if place == run => format!(
            "or remove this kept checkpoint: the run {} itself, and what else it keeps, can be used",
            shell_quoted(&run)
        ),
        (Some(place), around) => {
            let keeps = if around.is_some() { "its run" } else { "it" };
            format!(
                "or use {}, which {keeps} keeps",
                shell_quoted(&called(&place))
            )
        }
        (None, _) => "or train the same run anew with its config.toml in another folder".to_owned(),
    }
}

/// The same file of the run, or of a checkpoint that it keeps, if there is one: the newest. Weights are those of the same checksum alone,
/// and a state is nobody else's.
fn copy_of(folder: &Path, name: &str) -> Option<PathBuf> {
    if ["state.toml", "train.lock"].contains(&name) {
        return None;
    }
    let own = checksum(folder, name);
    let places = others(folder).into_iter().map(|place| place.join(name));
    let mut copies = places.filter(|copy| Fault::at(copy).is_none());
    copies.find(|copy| !is_tensors(name) || own.is_some() && own == found_checksum(copy))
}

/// The run and its kept checkpoints, the newest first, without `folder`.
pub fn others(folder: &Path) -> Vec<PathBuf> {
    let around = run_around(folder);
    let run = around.as_deref().unwrap_or(folder);
    let kept = kept_updates(run).into_iter().rev();
    let own = folder.canonicalize().ok();
    std::iter::once(run.to_path_buf())
        .chain(kept.map(|update| folder_of(run, update)))
        .filter(|place| place.canonicalize().ok() != own)
        .collect()
}

/// The run whose kept checkpoint `folder` is, by the path that led there.
fn run_around(folder: &Path) -> Option<PathBuf> {
    let whole = run_of(folder)?;
    let shown = kept_update(folder).and(folder.parent()?.parent());
    let shown = shown.filter(|run| !run.as_os_str().is_empty());
    Some(shown.map_or(whole, Path::to_path_buf))
}

/// Whether a checkpoint has a state, and the file `name` that it names, if this is one of tensors.
fn is_whole(place: &Path, name: &str) -> bool {
    let expected = checksum(place, name);
    let is_same = || expected.is_some() && expected == found_checksum(&place.join(name));
    let update = update_of(place);
    let is_called_so = kept_update(place).is_none_or(|called| update == Some(called));
    update.is_some() && is_called_so && (!is_tensors(name) || is_same())
}

fn is_tensors(name: &str) -> bool {
    let mut groups = GROUPS.iter();
    groups.any(|group| name == format!("{group}.safetensors"))
}

/// The checksum that `state.toml` has for a file.
fn checksum(place: &Path, name: &str) -> Option<String> {
    let table = state_table(place)?;
    let known = table.get("checksums")?.get(name)?.as_str()?;
    Some(known.to_owned())
}

fn found_checksum(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(format!("{:08x}", crc32fast::hash(&bytes)))
}
