//! [`about`]: whether runs that share a mean were trained alike, by their settings and by what each changed on its way. One rule for whatever
//! aggregates seeds.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::app::checkpoint::Change;
use crate::app::checkpoint::places::called;
use crate::app::compare::found::Run;
use crate::app::compare::lines::joined;

/// Keys that are no column: what tells seeds apart, where a run was trained, and what the task says.
pub const HIDDEN: [&str; 4] = ["seed", "device", "data.path", "evaluate.env"];
/// What a key's value is where a run has no such key.
pub const NOT_SET: &str = "-";
/// With more of them names are counted only.
const MOST_NAMED: usize = 3;

/// How a run was trained.
#[derive(Debug)]
pub struct History<'a> {
    /// Its folder.
    folder: &'a Path,
    /// Its settings now; a table of scores knows few.
    settings: Cow<'a, BTreeMap<String, String>>,
    /// Whether a key that it has not is not set; else it is not known.
    knows_all: bool,
    changed: &'a [Change],
}

impl<'a> History<'a> {
    /// Of a run that is compared.
    pub fn of(run: &'a Run) -> Self {
        Self {
            folder: &run.folder,
            settings: Cow::Borrowed(&run.settings),
            knows_all: run.table.is_none(),
            changed: &run.changed,
        }
    }

    /// Of a run with these settings.
    pub fn with_settings(
        folder: &'a Path,
        settings: BTreeMap<String, String>,
        changed: &'a [Change],
    ) -> Self {
        Self {
            folder,
            settings: Cow::Owned(settings),
            knows_all: true,
            changed,
        }
    }

    /// Of a run whose settings were compared already.
    pub fn of_changes(folder: &'a Path, changed: &'a [Change]) -> Self {
        Self::with_settings(folder, BTreeMap::new(), changed)
    }

    fn value(&self, key: &str) -> Option<&str> {
        let value = self.settings.get(key)?;
        Some(value.trim_matches('"'))
    }
}

/// What is to be said of runs that count as seeds of `what`, beside keys that are said anyway: `known`.
pub fn about(what: &str, runs: &[History<'_>], known: &[String]) -> Vec<String> {
    let mut said = Vec::new();
    let all: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let differs = |key: &&&String| {
        let knowing = runs
            .iter()
            .filter(|run| run.knows_all || run.settings.contains_key(**key));
        let found: BTreeSet<_> = knowing.map(|run| run.value(key)).collect();
        found.len() > 1 && !HIDDEN.contains(&key.as_str()) && !known.contains(key)
    };
    let shown = |key: &String| {
        let values = runs
            .iter()
            .map(|run| run.value(key).unwrap_or(NOT_SET).to_owned());
        format!("`{key}` ({})", joined(values))
    };
    let pooled: Vec<String> = all.iter().filter(differs).map(|key| shown(key)).collect();
    if !pooled.is_empty() {
        said.push(format!(
            "{what}: its runs differ in more than the seed, yet count as seeds: {}",
            pooled.join(", ")
        ));
    }
    said.extend(about_changes(what, runs));
    said
}

/// What is to be said where some of the runs changed on their way what their learning rates go by.
fn about_changes(what: &str, runs: &[History<'_>]) -> Option<String> {
    // Each history, with the runs that have it.
    let mut groups: Vec<(&[Change], Vec<&Path>)> = Vec::new();
    for run in runs {
        match groups
            .iter_mut()
            .find(|(changed, _)| *changed == run.changed)
        {
            Some((_, folders)) => folders.push(run.folder),
            None => groups.push((run.changed, vec![run.folder])),
        }
    }
    let changed = groups.iter().filter(|(changed, _)| !changed.is_empty());
    let each: Vec<String> = changed
        .map(|(changed, folders)| format!("{} ({})", names(folders), listed(changed)))
        .collect();
    match (&groups[..], &each[..]) {
        (_, []) => None,
        ([(only, _)], _) => Some(format!("{what}: {}", said_of_one(only))),
        _ => Some(format!(
            "{what}: its runs were not trained alike, yet count as seeds; learning rates changed on the way of {}",
            each.join(" and of ")
        )),
    }
}

/// What is to be said of a run that changed on its way what its learning rates go by; at least one key.
pub fn said_of_one(changed: &[Change]) -> String {
    format!(
        "{}: what was done before was trained at other learning rates than those of its settings",
        listed(changed)
    )
}

fn listed(changed: &[Change]) -> String {
    let each: Vec<String> = changed.iter().map(Change::to_string).collect();
    each.join(", ")
}

fn names(folders: &[&Path]) -> String {
    let name = |folder: &&Path| called(folder).display().to_string();
    if folders.len() > MOST_NAMED {
        return format!("{} and {} others", name(&folders[0]), folders.len() - 1);
    }
    let names: Vec<String> = folders.iter().map(name).collect();
    names.join(", ")
}
