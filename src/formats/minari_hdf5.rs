//! Minari's HDF5 storage: `main_data.hdf5` with a group `episode_0`, `episode_1`, ... each, and
//! `metadata.json` beside it.
//!
//! An episode has one observation more than steps: the last one follows its last action.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_pure::{AttrValue, FileBuilder, GroupBuilder};
use serde_json::json;

use crate::formats::arrays::ArrayFile;
use crate::formats::format::{Format, Place, Writer};
use crate::formats::hdf5::{add_flags, write_failed};
use crate::formats::hdf5_group::{Hdf5Group, is_hdf5};
use crate::formats::minari::{
    Builder, EpisodeAttributes, FOLDER, MAIN_DATA, METADATA, Metadata, Storage, storage,
};
use crate::formats::minari_spaces::MISSION;
use crate::formats::options::LoadOptions;
use trajformer_core::dataset::{ActionKind, Dataset, Episode};
use trajformer_core::error::{Error, Result};

/// The format.
pub const FORMAT: Format = Format {
    name: "Minari",
    file: Some("HDF5"),
    folder: Some(FOLDER),
    range_keys: "`action_space`",
    detect,
    read,
    writer: Some(Writer {
        endings: &[],
        write: |data, folder, name| write(data, folder, &minari_id(name)),
    }),
};

/// Attribute of an episode whose last observation is a copy because the real one is unknown.
const LAST_OBSERVATION: &str = "last_observation";
const COPY: &str = "copy";

/// Attribute, 1, of an episode whose first steps are missing.
const FRAGMENT: &str = "fragment";

/// The version of Minari whose layout is written.
const VERSION: &str = "0.5.4";

/// The HDF5 file of a folder, or one that has episodes as groups.
fn detect(place: &Place<'_>) -> Result<Option<PathBuf>> {
    if place.signature.is_none() {
        return Ok(match storage(place.path)? {
            Some(Storage::Hdf5(file)) => Some(file),
            _ => None,
        });
    }
    if !is_hdf5(place) {
        return Ok(None);
    }
    // Names that can't be listed are named when they are read.
    let names = Hdf5Group::open(place.path)?.group_names();
    let mut names = names.iter().flatten();
    let has_episodes = names.any(|name| episode_number(name).is_some());
    Ok(has_episodes.then(|| place.path.to_path_buf()))
}

/// Reads the data set whose HDF5 file is `file`; `metadata.json` is looked for beside it. Episodes that the file links
/// to, in files of the same folder, are read from there.
///
/// # Errors
/// Names the array with its episode, and the row where there is one.
pub fn read(file: &Path, options: &LoadOptions) -> Result<Dataset> {
    let root = Hdf5Group::open(file)?;
    let metadata = metadata_of(file, &root, &options.observation_keys)?;
    let mut episodes: Vec<(usize, String, Hdf5Group)> = root
        .groups()?
        .into_iter()
        .filter_map(|(name, group)| Some((episode_number(&name)?, name, group)))
        .collect();
    episodes.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let wrong = episodes.iter().enumerate().find(|(i, (n, ..))| i != n);
    if let Some((missing, (number, name, _))) = wrong {
        let problem = if *number < missing {
            format!("there are two groups of episode {number}, one of them `{name}`: remove one")
        } else {
            format!("group `episode_{missing}` is missing; copy the data set again")
        };
        return Err(Error::data(file, problem));
    }
    let bytes = std::fs::metadata(file).map_err(Error::io(file))?.len();
    let mut builder = Builder::new(file, metadata, bytes);
    let count = episodes.len();
    for (.., mut episode) in episodes {
        let steps = episode.number_attribute("total_steps")?;
        let known = EpisodeAttributes {
            last_is_copy: episode.text_attribute(LAST_OBSERVATION)?.as_deref() == Some(COPY),
            fragment: episode.number_attribute(FRAGMENT)? == Some(1.0),
            mission: mission(&episode)?,
            steps: steps
                .filter(|steps| *steps >= 0.0)
                .map(|steps| steps as usize),
        };
        builder.add(&mut episode, &known)?;
    }
    builder.finish(count, options)
}

/// The number of an episode's group.
fn episode_number(name: &str) -> Option<usize> {
    name.strip_prefix("episode_")?.parse().ok()
}

/// A name that Minari accepts: letters, digits, `-` and `_`, and a version at the end.
fn minari_id(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let id: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    let version = id.rsplit_once("-v").map(|(_, version)| version);
    let numbered = |v: &str| !v.is_empty() && v.chars().all(|c| c.is_ascii_digit());
    if version.is_some_and(numbered) {
        id
    } else {
        format!("{id}-v0")
    }
}

/// What `metadata.json` says, and attributes of the file where it doesn't: Minari before 0.5 kept everything there.
fn metadata_of(file: &Path, root: &Hdf5Group, keys: &[String]) -> Result<Metadata> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut metadata = Metadata::read(folder, keys)?;
    let mut attributes = serde_json::Map::new();
    for name in ["env_spec", "observation_space", "action_space"] {
        if let Some(text) = root.text_attribute(name)? {
            attributes.insert(name.to_owned(), text.into());
        }
    }
    for name in ["total_episodes", "total_steps"] {
        if let Some(number) = root.number_attribute(name)? {
            attributes.insert(name.to_owned(), (number.max(0.0) as u64).into());
        }
    }
    let found = Metadata::from_json(&attributes.into(), keys)
        .map_err(|problem| Error::data(file, problem))?;
    metadata.env_name = metadata.env_name.or(found.env_name);
    metadata.total_episodes = metadata.total_episodes.or(found.total_episodes);
    metadata.total_steps = metadata.total_steps.or(found.total_steps);
    metadata.action_space = metadata.action_space.or(found.action_space);
    if metadata.observation_keys.is_empty() {
        metadata.observation_keys = found.observation_keys;
    }
    Ok(metadata)
}

/// What an episode was asked to do: its attribute `mission`, which we write, or the text of that name in
/// observations that are dictionaries, which Minari writes for environments like BabyAI's.
fn mission(episode: &Hdf5Group) -> Result<Option<Arc<str>>> {
    let text =
        |text: String| Some(Arc::from(text)).filter(|text: &Arc<str>| !text.trim().is_empty());
    if let Some(found) = episode.text_attribute(MISSION)? {
        return Ok(text(found));
    }
    let Some(observations) = episode.group("observations")? else {
        return Ok(None);
    };
    let mut texts = observations.texts(MISSION)?.unwrap_or_default();
    if let Some(other) = texts.iter().find(|text| **text != texts[0]) {
        let problem = format!(
            "the mission changes within an episode, from `{}` to `{other}`: only one for a whole episode is \
             supported",
            texts[0]
        );
        return Err(Error::data(episode.path(), problem));
    }
    texts.truncate(1);
    Ok(texts.pop().and_then(text))
}

/// Writes the data set as `folder/data/main_data.hdf5` and `folder/data/metadata.json`, float32.
///
/// Where the observation after an episode's last step is unknown, its last one is written twice.
///
/// # Errors
/// If `folder` exists or can't be written.
pub fn write(data: &Dataset, folder: &Path, dataset_id: &str) -> Result<()> {
    let inner = folder.join("data");
    std::fs::create_dir_all(&inner).map_err(Error::io(&inner))?;
    let path = inner.join(MAIN_DATA);
    let mut builder = FileBuilder::new();
    for (number, episode) in data.episodes.iter().enumerate() {
        let mut group = builder.create_group(&format!("episode_{number}"));
        group.set_attr("id", AttrValue::I64(number as i64));
        group.set_attr("total_steps", AttrValue::I64(episode.steps as i64));
        if episode.fragment {
            group.set_attr(FRAGMENT, AttrValue::I64(1));
        }
        if let Some(text) = &episode.instruction {
            group.set_attr(MISSION, AttrValue::String(text.to_string()));
        }
        add_episode(&mut group, data, episode).map_err(write_failed(&path))?;
        builder.add_group(group.finish());
    }
    builder.write(&path).map_err(write_failed(&path))?;
    let bytes = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
    let path = inner.join(METADATA);
    let text = metadata(data, dataset_id, bytes).to_string();
    std::fs::write(&path, text).map_err(Error::io(&path))
}

fn add_episode(
    group: &mut GroupBuilder,
    data: &Dataset,
    episode: &Episode,
) -> std::result::Result<(), hdf5_pure::Error> {
    let (range, steps) = (episode.range(), episode.steps as u64);
    let (observation_dim, action_dim) = (data.observation_dim, data.action_dim);
    let from = range.start * observation_dim;
    let mut observations = data.observations[from..range.end * observation_dim].to_vec();
    match &episode.final_observation {
        Some(last) => observations.extend_from_slice(last),
        None => {
            observations.extend_from_slice(data.observation(range.end - 1));
            group.set_attr(LAST_OBSERVATION, AttrValue::String(COPY.into()));
        }
    }
    let mut add = |name: &str, values: &[f32], shape: &[u64]| {
        let dataset = group
            .create_dataset(name)
            .with_f32_data(values)
            .with_shape(shape);
        dataset.with_chunks(shape).with_shuffle().with_deflate(4);
    };
    add(
        "observations",
        &observations,
        &[steps + 1, observation_dim as u64],
    );
    add("rewards", &data.rewards[range.clone()], &[steps]);
    let actions = &data.actions[range.start * action_dim..range.end * action_dim];
    match data.action_kind {
        ActionKind::Continuous => add("actions", actions, &[steps, action_dim as u64]),
        ActionKind::Discrete { .. } => {
            let actions: Vec<i64> = actions.iter().map(|&a| a as i64).collect();
            group
                .create_dataset("actions")
                .with_i64_data(&actions)
                .with_shape(&[steps]);
        }
    }
    let mut flags = vec![false; episode.steps];
    for (name, ended) in [
        ("terminations", episode.terminated),
        ("truncations", episode.truncated),
    ] {
        flags[episode.steps - 1] = ended;
        add_flags(group.create_dataset(name), &flags)?;
    }
    Ok(())
}

/// The keys that the minari package needs, and what is known beyond them.
fn metadata(data: &Dataset, dataset_id: &str, bytes: u64) -> serde_json::Value {
    let mut metadata = json!({
        "total_episodes": data.episodes.len(),
        "total_steps": data.steps(),
        "data_format": "hdf5",
        "jpeg_encoding": true,
        "observation_space": unbounded(data.observation_dim),
        "action_space": action_space(data),
        "dataset_id": dataset_id,
        "minari_version": VERSION,
        "author": ["trajformer"],
        "author_email": [],
        "code_permalink": "",
        "algorithm_name": "",
        "dataset_size": (bytes as f64 / 1e5).round() / 10.0,
    });
    if let Some(name) = &data.env_name {
        metadata["env_name"] = json!(name);
        let allowed = |c: char| c.is_alphanumeric() || "_:./-".contains(c);
        if !name.is_empty() && name.chars().all(allowed) {
            let spec = json!({"id": name, "additional_wrappers": [], "kwargs": {}});
            metadata["env_spec"] = json!(spec.to_string());
        }
    }
    if let Some((random, expert)) = data.reference_returns {
        metadata["ref_min_score"] = json!(random);
        metadata["ref_max_score"] = json!(expert);
    }
    metadata
}

/// A vector of real numbers between `low` and `high`, in Minari's notation: JSON as text, with Python's `Infinity`.
fn box_space(low: &[f32], high: &[f32]) -> String {
    let all = |bounds: &[f32]| {
        let texts: Vec<String> = bounds
            .iter()
            .map(|bound| {
                if bound.is_finite() {
                    format!("{bound:?}")
                } else if *bound > 0.0 {
                    "Infinity".to_owned()
                } else {
                    "-Infinity".to_owned()
                }
            })
            .collect();
        texts.join(", ")
    };
    let (dim, low, high) = (low.len(), all(low), all(high));
    format!(
        "{{\"type\": \"Box\", \"dtype\": \"float32\", \"shape\": [{dim}], \"low\": [{low}], \
         \"high\": [{high}]}}"
    )
}

/// A vector of `dim` real numbers without bounds, in Minari's notation.
fn unbounded(dim: usize) -> String {
    box_space(&vec![f32::NEG_INFINITY; dim], &vec![f32::INFINITY; dim])
}

/// The data's own bounds; none where it knows none.
fn action_space(data: &Dataset) -> String {
    match (data.action_kind, &data.action_bounds) {
        (ActionKind::Discrete { count }, _) => {
            json!({"type": "Discrete", "dtype": "int64", "start": 0, "n": count}).to_string()
        }
        (ActionKind::Continuous, Some((low, high))) => box_space(low, high),
        (ActionKind::Continuous, None) => unbounded(data.action_dim),
    }
}
