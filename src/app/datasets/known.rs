//! [`Known`]: the table of public data sets, `known.toml`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use trajformer_core::error::{Error, Result};
use trajformer_core::nearest::slips;

/// How the files of a data set are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One HDF5 file as D4RL has them.
    Hdf5,
    /// A folder as Minari writes them.
    Minari,
    /// An npz file for training and one for validation, as OGBench has them.
    Ogbench,
}

/// Data sets of one origin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    name: String,
    /// Of the cache.
    folder: String,
    layout: Layout,
    /// What the addresses of files begin with.
    address: Option<String>,
    /// In place of addresses: `OWNER/NAME` of a repository of data sets on the Hub, whose folders are the files.
    hub: Option<String>,
    licence: Option<String>,
    licence_source: Option<String>,
    /// Whether a reader here opens them.
    reads: bool,
    note: Option<String>,
    set: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    /// Below the family's address or in its repository.
    file: String,
    /// Files that belong to it beside the first.
    #[serde(default)]
    more: Vec<String>,
    size: Option<u64>,
    sha256: Option<String>,
    steps: Option<u64>,
    episodes: Option<u64>,
    env: Option<String>,
    #[serde(default)]
    observation_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    family: Vec<Family>,
}

/// A public data set. What its sources do not say is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataSet {
    /// What it is called, e.g. `hopper-medium-v2` or `mujoco/hopper/medium-v0`.
    pub name: String,
    /// Who published it: D4RL, Minari or OGBench.
    pub family: String,
    /// How its files are laid out.
    pub layout: Layout,
    /// Whether a reader here opens it.
    pub reads: bool,
    /// Why not, where it does not.
    pub note: Option<String>,
    /// The environment to score policies in, as `evaluate.env` has it: its own, or for D4RL's locomotion data the -v4 one.
    pub env: Option<String>,
    /// Steps in all.
    pub steps: Option<u64>,
    /// Episodes in all.
    pub episodes: Option<u64>,
    /// Bytes of the file.
    pub size: Option<u64>,
    /// The SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// The licence of the data as its publisher states it.
    pub licence: Option<String>,
    /// Where that is stated.
    pub licence_source: Option<String>,
    /// Where observations are dictionaries: the keys to read, see `data.observation_keys`.
    pub observation_keys: Vec<String>,
    /// Addresses of its files, the one to read first; none of a data set on the Hub.
    pub addresses: Vec<String>,
    /// Of a data set on the Hub: `OWNER/NAME` of the repository.
    pub repository: Option<String>,
    /// Its folder there.
    pub repository_folder: Option<String>,
    #[serde(skip)]
    folder: String,
}

impl DataSet {
    /// The family's folder in the cache.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// Its file or folder below there: named as the data set, by which D4RL's own files are known.
    pub fn local(&self) -> PathBuf {
        PathBuf::from(match self.layout {
            Layout::Hdf5 => format!("{}.hdf5", self.name),
            Layout::Ogbench => format!("{}.npz", self.name),
            Layout::Minari => self.name.clone(),
        })
    }
}

/// The table.
#[derive(Debug, Clone, PartialEq)]
pub struct Known(Vec<DataSet>);

static KNOWN: LazyLock<std::result::Result<Known, String>> =
    LazyLock::new(|| Known::read(include_str!("known.toml")));

/// All data sets that have a name here, in the table's order.
///
/// # Errors
/// If this program's own table is wrong.
pub fn all() -> Result<&'static Known> {
    KNOWN.as_ref().map_err(Error::internal)
}

impl Known {
    fn read(text: &str) -> std::result::Result<Self, String> {
        let table: Table = toml::from_str(text).map_err(|error| error.to_string())?;
        let sets = table.family.into_iter().flat_map(sets);
        Ok(Self(sets.collect()))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &DataSet> {
        self.0.iter()
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Option<&DataSet> {
        self.0.iter().find(|set| set.name == name)
    }

    /// Those whose name or publisher matches a pattern, in any case of letters: a part of it, in which `*` stands for anything.
    pub fn matching(&self, pattern: &str) -> Vec<&DataSet> {
        let pattern = pattern.to_lowercase();
        let fits = |set: &&DataSet| {
            let has = |text: &str| matches(&text.to_lowercase(), &pattern);
            has(&set.name) || set.family.to_lowercase() == pattern
        };
        self.0.iter().filter(fits).collect()
    }

    /// Names that begin with one that is unknown, or, if none does, have it in them; none for a short one.
    pub fn with_part(&self, name: &str) -> Vec<&str> {
        let part = name.to_lowercase().replace('_', "-");
        if part.len() < 3 {
            return Vec::new();
        }
        let names = || self.0.iter().map(|set| set.name.as_str());
        let begin = names().filter(|full| full.to_lowercase().starts_with(&part));
        let begin: Vec<&str> = begin.collect();
        if begin.is_empty() {
            let inside = names().filter(|full| full.to_lowercase().contains(&part));
            return inside.collect();
        }
        begin
    }

    /// Up to three names like one that is unknown: it lacks their version, or a few letters are wrong.
    pub fn like(&self, name: &str) -> Vec<&str> {
        let name = name.to_lowercase().replace('_', "-");
        let names = || self.0.iter().map(|set| set.name.as_str());
        let unversioned = |full: &str| {
            full.rsplit_once("-v")
                .map(|(front, _)| front.to_lowercase())
        };
        let versions = names().filter(|full| unversioned(full).as_ref() == Some(&name));
        let versions: Vec<&str> = versions.collect();
        if !versions.is_empty() {
            return versions;
        }
        let most = (name.len() / 6).clamp(1, 3);
        // With its version or without.
        let distance = |full: &str| {
            let whole = edits(&name, &full.to_lowercase());
            unversioned(full).map_or(whole, |front| whole.min(edits(&name, &front)))
        };
        let near: BTreeSet<(usize, &str)> = names()
            .map(|full| (distance(full), full))
            .filter(|(distance, _)| *distance <= most)
            .collect();
        near.into_iter().take(3).map(|(_, full)| full).collect()
    }
}

fn sets(family: Family) -> Vec<DataSet> {
    let rows = family.set.clone();
    let set = |row: Row| DataSet {
        name: row.name,
        family: family.name.clone(),
        layout: family.layout,
        reads: family.reads,
        note: family.note.clone(),
        env: row.env,
        steps: row.steps,
        episodes: row.episodes,
        size: row.size,
        sha256: row.sha256,
        licence: family.licence.clone(),
        licence_source: family.licence_source.clone(),
        observation_keys: row.observation_keys,
        addresses: match &family.address {
            Some(front) => [&row.file]
                .into_iter()
                .chain(&row.more)
                .map(|file| format!("{front}{file}"))
                .collect(),
            None => Vec::new(),
        },
        repository: family.hub.clone(),
        repository_folder: family.hub.as_ref().map(|_| row.file.clone()),
        folder: family.folder.clone(),
    };
    rows.into_iter().map(set).collect()
}

/// Whether a pattern with `*` for anything is found in a text.
fn matches(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    for part in pattern.split('*') {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn edits(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().collect::<Vec<char>>();
    slips(&letters(a), &letters(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_together() {
        let known = all().expect("the table");
        let names: BTreeSet<&str> = known.iter().map(|set| set.name.as_str()).collect();
        assert_eq!(names.len(), known.iter().count(), "names are each another");
        let places: BTreeSet<PathBuf> = known
            .iter()
            .map(|set| PathBuf::from(set.folder()).join(set.local()))
            .collect();
        assert_eq!(places.len(), names.len(), "places are each another");
        for set in known.iter() {
            let name = &set.name;
            let on_hub = set.repository.is_some();
            assert_eq!(set.addresses.is_empty(), on_hub, "{name}");
            assert_eq!(set.layout == Layout::Minari, on_hub, "{name}");
            let fine = |sum: &String| {
                sum.len() == 64 && sum.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
            };
            assert!(set.sha256.as_ref().is_none_or(fine), "{name}");
            assert_eq!(
                set.sha256.is_some(),
                set.size.is_some(),
                "{name}: size and checksum have one source"
            );
            assert_eq!(
                set.licence.is_some(),
                set.licence_source.is_some(),
                "{name}"
            );
            assert!(
                set.reads || set.note.is_some(),
                "{name}: says why it can't be read"
            );
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
            assert!(name.chars().all(plain) && !name.starts_with('/'), "{name}");
        }
        let sums: Vec<_> = known.iter().filter_map(|set| set.sha256.as_ref()).collect();
        assert_eq!(
            sums.iter().collect::<BTreeSet<_>>().len(),
            sums.len(),
            "no sum stands twice"
        );
    }

    #[test]
    fn addresses_are_d4rls_and_files_are_named_as_their_data_sets() {
        let known = all().expect("the table");
        let hopper = known.find("hopper-medium-replay-v2").expect("D4RL's");
        assert_eq!(
            hopper.addresses,
            [
                "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/hopper_medium_replay-v2.hdf5"
            ]
        );
        assert_eq!(
            hopper.local(),
            PathBuf::from("hopper-medium-replay-v2.hdf5")
        );
        let maze = known.find("antmaze-large-navigate-v0").expect("OGBench's");
        assert_eq!(
            (maze.steps, maze.episodes, maze.reads),
            (Some(1_000_000), Some(1_000), false)
        );
        assert_eq!(maze.addresses.len(), 2);
    }

    #[test]
    fn names_are_found_by_parts_of_them_and_slips_are_mended() {
        let known = all().expect("the table");
        let names = |pattern| -> Vec<&str> {
            known
                .matching(pattern)
                .iter()
                .map(|set| set.name.as_str())
                .collect()
        };
        assert_eq!(names("Hopper-medium*v2").len(), 3);
        assert_eq!(names("mujoco/hopper").len(), 3);
        assert!(names("nothing").is_empty());
        assert_eq!(known.like("hopper-medium"), ["hopper-medium-v2"]);
        assert_eq!(known.like("hopper_medium-v2"), ["hopper-medium-v2"]);
        assert_eq!(
            known.like("antmaze-umaze"),
            ["antmaze-umaze-v2", "antmaze-umaze-v0"]
        );
        assert_eq!(known.like("hoper-medium-v2")[0], "hopper-medium-v2");
        assert_eq!(known.like("hopper-medum")[0], "hopper-medium-v2");
        assert!(known.like("data/mine").is_empty() && known.like("").is_empty());
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, count) in [
            ("", "", 0),
            ("a", "", 1),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(a, b), count, "{a} {b}");
        }
    }
}
