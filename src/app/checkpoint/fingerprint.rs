//! What a run was started with, kept so that a resumed run can't go on with something else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::app::config::RunConfig;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// Where a run's data and its Python lie, and where it is trained: a run may be elsewhere when it goes on.
const PLACES: [&str; 3] = ["data.path", "evaluate.python", DEVICE];
const DEVICE: &str = "device";

/// Keys that say how long a run trains, and how long its learning rates decay: a run may change them on its way.
const LENGTHS: [&str; 5] = [
    "train.updates",
    "online.steps",
    "algorithm.iql.actor_decay_updates",
    "algorithm.trajectory_transformer.decay_updates",
    "algorithm.fast.decay_updates",
];

/// Keys that say which checkpoints are kept, when a run gives up and what it leaves out, with their defaults: a run may change them on its way.
const KEEPING: [(&str, &str); 7] = [
    ("train.keep", "last"),
    ("train.keep_every_updates", "0"),
    ("train.patience_evaluations", "0"),
    ("train.held_out_every_updates", "0"),
    ("train.patience_held_out", "0"),
    ("train.on_nonfinite", "stop"),
    ("train.nonfinite_limit", "10"),
];

/// Names of data files that say nothing without the folder around them.
const PLAIN_NAMES: [&str; 3] = ["main_data", "data", "main"];

/// A data set in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFingerprint {
    /// Steps of all episodes.
    pub steps: usize,
    /// Episodes.
    pub episodes: usize,
    /// CRC-32 of observations, actions, rewards, ends and instructions.
    pub checksum: String,
}

impl DataFingerprint {
    /// The fingerprint of `data`.
    pub fn of(data: &Dataset) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        let mut bytes = Vec::new();
        for numbers in [&data.observations, &data.actions, &data.rewards] {
            for part in numbers.chunks(1 << 14) {
                bytes.clear();
                bytes.extend(part.iter().flat_map(|number| number.to_le_bytes()));
                hasher.update(&bytes);
            }
        }
        for episode in &data.episodes {
            hasher.update(&(episode.steps as u64).to_le_bytes());
            hasher.update(&[episode.terminated.into(), episode.truncated.into()]);
            for number in episode
                .final_observation
                .iter()
                .flat_map(|last| last.iter())
            {
                hasher.update(&number.to_le_bytes());
            }
            if episode.fragment {
                hasher.update(b"fragment");
            }
            if let Some(text) = &episode.instruction {
                hasher.update(text.as_bytes());
                hasher.update(&[0]);
            }
        }
        Self {
            steps: data.steps(),
            episodes: data.episodes.len(),
            checksum: format!("{:08x}", hasher.finalize()),
        }
    }

    /// Says how data that is `found` differs and what to do; `None` if it does not.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let text = self.said_difference(found)?;
        Some(text + ": give the data that it was started on, or start a new run")
    }

    /// Says how data that is `found` differs; `None` if it does not.
    pub fn said_difference(&self, found: &Self) -> Option<String> {
        if self == found {
            return None;
        }
        let counts = |data: &Self| format!("{} steps in {} episodes", data.steps, data.episodes);
        let text = match (counts(self), counts(found)) {
            (before, now) if before == now => {
                format!(
                    "its data had checksum {}, the data at `data.path` has {} (both {now})",
                    self.checksum, found.checksum
                )
            }
            (before, now) => format!("its data had {before}, the data at `data.path` has {now}"),
        };
        Some(text)
    }
}

/// What data is called by its files: `hopper-medium-v2` for `data/hopper-medium-v2.hdf5`; empty where there are none.
pub fn data_name(paths: &[PathBuf]) -> String {
    let of_file = |path: &PathBuf| {
        let mut path = path.as_path();
        loop {
            let name = path.file_stem()?.to_string_lossy().into_owned();
            match path.parent() {
                Some(folder)
                    if PLAIN_NAMES.contains(&name.as_str()) && folder.file_name().is_some() =>
                {
                    path = folder;
                }
                _ => return Some(name),
            }
        }
    };
    let names: Vec<String> = paths.iter().filter_map(of_file).collect();
    names.join("+")
}

/// Every key of a configuration with its value as TOML, except those that may change.
///
/// # Errors
/// If a value has no TOML form.
pub fn settings(config: &RunConfig) -> Result<BTreeMap<String, String>> {
    let mut keys = all_settings(config)?;
    keys.retain(|key, _| !is_free(key));
    Ok(keys)
}

/// Every key of a configuration with its value as TOML.
///
/// # Errors
/// If a value has no TOML form.
pub fn all_settings(config: &RunConfig) -> Result<BTreeMap<String, String>> {
    let table = toml::Table::try_from(config).map_err(Error::internal)?;
    let mut keys = BTreeMap::new();
    flatten("", &toml::Value::Table(table), &mut keys);
    Ok(keys)
}

/// Whether a run may change this key on its way.
pub fn is_free(key: &str) -> bool {
    let keeping = KEEPING.iter().any(|(name, _)| *name == key);
    keeping || LENGTHS.contains(&key) || PLACES.contains(&key)
}

/// Whether a key says where a run's data and its Python lie or where it trains, which may be elsewhere at any time.
pub fn is_place(key: &str) -> bool {
    PLACES.contains(&key)
}

/// The keys that a run may change to train longer, keep more, or go on elsewhere, as `KEY=VALUE`.
///
/// # Errors
/// If a value has no TOML form.
pub fn free_overrides(config: &RunConfig) -> Result<Vec<String>> {
    let keys = all_settings(config)?;
    let free = LENGTHS.iter().chain([&DEVICE]);
    let given = free.filter_map(|key| keys.get_key_value(*key));
    let given = given.map(|(key, value)| format!("{key}={value}"));
    // Not in the configuration where they have their defaults.
    let keeping = KEEPING.iter().map(|(key, default)| {
        let value = keys.get(*key).map_or(*default, String::as_str);
        format!("{key}={value}")
    });
    Ok(given.chain(keeping).collect())
}

fn flatten(key: &str, value: &toml::Value, keys: &mut BTreeMap<String, String>) {
    let toml::Value::Table(table) = value else {
        keys.insert(key.to_owned(), value.to_string());
        return;
    };
    for (name, value) in table {
        let key = match key {
            "" => name.clone(),
            _ => format!("{key}.{name}"),
        };
        flatten(&key, value, keys);
    }
}

/// A key that two configurations give different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key, e.g. `algorithm.bc.fraction`.
    pub key: String,
    /// Its value in the first.
    pub before: String,
    /// Its value in the second.
    pub now: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, before, now } = self;
        write!(f, "`{key}` was {before}, is {now}")
    }
}

/// One text about all of them.
pub fn listed(differences: &[Difference]) -> String {
    let texts: Vec<String> = differences.iter().map(Difference::to_string).collect();
    texts.join(", ")
}

/// The keys that differ; none if there are none.
pub fn differences(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let text = |value: Option<&String>| value.map_or("not set", String::as_str).to_owned();
    keys.into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| Difference {
            key: key.clone(),
            before: text(before.get(key)),
            now: text(now.get(key)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_sets_are_called_after_their_files() {
        let name = |paths: &[&str]| data_name(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(name(&["data/hopper-medium-v2.hdf5"]), "hopper-medium-v2");
        assert_eq!(name(&["hopper/medium-v0/data/main_data.hdf5"]), "medium-v0");
        assert_eq!(name(&["data.npz"]), "data");
        assert_eq!(name(&["a.npz", "b.npz"]), "a+b");
        assert_eq!(name(&[]), "");
    }
}
