//! [`unify`]: which runs learned from the same data, whatever its files are called.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use crate::app::compare::found::{Run, Task};

/// Gives runs on the same data, scored in the same environment, one task. Data is the same by its checksum. A run that does not know its data's
/// checksum, as those of early versions, has the task whose data is called alike, if there is one alone: `hopper_medium` and
/// `hopper-medium-v2` are. What that supposes, one name for different data, and different names for one, is said.
pub(super) fn unify(runs: &mut [&mut Run]) -> Vec<String> {
    let mut known: BTreeMap<(String, Option<String>), Task> = BTreeMap::new();
    let mut renamed = BTreeSet::new();
    for run in runs.iter_mut().filter(|run| !run.task.checksum.is_empty()) {
        let key = (run.task.checksum.clone(), env(&run.task));
        let task = known.entry(key).or_insert_with(|| run.task.clone());
        if plain(&task.data) != plain(&run.task.data) {
            renamed.insert((run.task.data.clone(), task.data.clone()));
        }
        run.task = task.clone();
    }
    let said = |(name, task): &(String, String)| {
        format!("`{name}` and `{task}` are one data set by their checksum, called `{task}` here")
    };
    let mut notes: Vec<String> = renamed.iter().map(said).collect();
    let mut by_name: HashMap<String, Vec<&Task>> = HashMap::new();
    for task in known.values() {
        by_name.entry(plain(&task.data)).or_default().push(task);
    }
    let mut unknown: HashMap<String, BTreeMap<Option<String>, Task>> = HashMap::new();
    let mut noted: HashSet<(PathBuf, String)> = HashSet::new();
    let without: Vec<&mut &mut Run> = runs
        .iter_mut()
        .filter(|run| run.task.checksum.is_empty())
        .collect();
    // A table may say nothing of the environment either: what it can be comes first.
    let (silent, telling): (Vec<_>, Vec<_>) = without.into_iter().partition(|run| is_silent(run));
    for run in telling.into_iter().chain(silent) {
        let (silent, name) = (is_silent(run), plain(&run.task.data));
        let is_alike = |task: &&Task| silent || env(task) == env(&run.task);
        let here = by_name.get(&name).into_iter().flatten().copied();
        let alike: Vec<&Task> = here.filter(is_alike).collect();
        let here = unknown.get(&name).into_iter().flat_map(BTreeMap::values);
        let told: Vec<&Task> = here.filter(is_alike).collect();
        if let [task] = alike[..] {
            let place = run.table.as_ref().unwrap_or(&run.folder);
            if noted.insert((place.clone(), run.task.data.clone())) {
                notes.push(format!(
                    "{} does not say the checksum of its data, `{}`: by its name it is taken for `{}`",
                    place.display(),
                    run.task.data,
                    task.data
                ));
            }
            run.task = task.clone();
        } else if let ([], [task], true) = (&alike[..], &told[..], silent) {
            run.task = (*task).clone();
        } else {
            let here = unknown.entry(name).or_default();
            let env = env(&run.task);
            run.task = here.entry(env).or_insert_with(|| run.task.clone()).clone();
        }
    }
    notes.extend(about_names(runs));
    notes
}

/// Whether it is a table that tells of the run, without its environment.
fn is_silent(run: &Run) -> bool {
    run.table.is_some() && run.task.env.is_none()
}

/// One name for several data sets.
fn about_names(runs: &[&mut Run]) -> Vec<String> {
    let mut checksums: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for run in runs {
        let found = checksums.entry(&run.task.data).or_default();
        found.insert(&run.task.checksum);
    }
    let several = checksums
        .into_iter()
        .filter(|(name, found)| !name.is_empty() && found.len() > 1);
    several
        .map(|(name, found)| {
            let found: Vec<&str> = found
                .into_iter()
                .map(|checksum| {
                    if checksum.is_empty() {
                        "none"
                    } else {
                        checksum
                    }
                })
                .collect();
            format!(
                "`{name}` names different data (checksums {}): they are different tasks",
                found.join(", ")
            )
        })
        .collect()
}

/// The environment, of which simulators know several spellings.
fn env(task: &Task) -> Option<String> {
    let env = task.env.as_ref()?;
    // Those of Gymnasium are what its registry says.
    Some(if env.starts_with("gym:") {
        env.clone()
    } else {
        env.to_ascii_lowercase()
    })
}

/// A data set's name without its version and in one spelling.
fn plain(data: &str) -> String {
    let name = data.to_ascii_lowercase().replace('_', "-");
    match name.rsplit_once("-v") {
        Some((front, version)) if version.parse::<u32>().is_ok() => front.to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn run(name: &str, data: &str, env: &str, checksum: &str) -> Run {
        Run {
            folder: PathBuf::from(name),
            table: None,
            algorithm: "bc".to_owned(),
            task: Task {
                data: data.to_owned(),
                env: Some(env.to_owned()),
                checksum: checksum.to_owned(),
            },
            settings: BTreeMap::new(),
            evaluations: Vec::new(),
            total_updates: 1,
            stopped_early: None,
            early_stop: None,
            lost_state: None,
            lost_rows: Vec::new(),
            changed: Vec::new(),
        }
    }

    fn unified(mut runs: Vec<Run>) -> (Vec<Task>, Vec<String>) {
        let notes = unify(&mut runs.iter_mut().collect::<Vec<_>>());
        (runs.into_iter().map(|run| run.task).collect(), notes)
    }

    #[test]
    fn data_is_one_by_its_checksum_and_by_its_name_where_that_is_unknown() {
        let (tasks, notes) = unified(vec![
            run("a", "hopper-medium", "hopper-v4", "1"),
            run("b", "hopper-medium-v2", "Hopper-v4", "1"),
            run("c", "hopper_medium-v2", "hopper-v4", ""),
            run("d", "hopper-medium", "hopper-v5", "1"),
        ]);
        assert_eq!((&tasks[1], &tasks[2]), (&tasks[0], &tasks[0]));
        assert_ne!(tasks[3], tasks[0]);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("c does not say") && notes[0].contains("`hopper-medium`"));

        let (tasks, notes) = unified(vec![
            run("a", "hopper-medium", "hopper-v4", "1"),
            run("b", "moved", "hopper-v4", "1"),
            run("c", "moved", "hopper-v4", "1"),
        ]);
        assert!(tasks.iter().all(|task| task == &tasks[0]), "{tasks:?}");
        let said = "`moved` and `hopper-medium` are one data set by their checksum";
        assert!(notes.len() == 1 && notes[0].contains(said), "{notes:?}");

        let (tasks, notes) = unified(vec![
            run("a", "hopper-medium", "hopper-v4", "1"),
            run("b", "hopper-medium", "hopper-v4", "2"),
            run("c", "hopper-medium-v2", "hopper-v4", ""),
            run("d", "hopper_medium", "hopper-v4", ""),
        ]);
        let different: BTreeSet<&Task> = tasks.iter().collect();
        assert_eq!(different.len(), 3, "{tasks:?}");
        assert_eq!(tasks[2], tasks[3], "both are unknown, and called alike");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("checksums 1, 2"), "{notes:?}");
    }
}
