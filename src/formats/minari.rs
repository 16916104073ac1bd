//! What Minari's two storages share: `metadata.json` and episodes with one observation more than
//! actions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::formats::arrays::{
    ArrayFile, Kind, check_column, check_rows, find, plausible_bytes, read_f32, read_f32_into,
    read_flags, require, reserve,
};
use crate::formats::ends::{cut, unused_limit};
use crate::formats::flat;
use crate::formats::format::{Format, Place};
use crate::formats::minari_spaces::{
    ActionSpace, MISSION, OBSERVATIONS, check_observation_space, kind, nested, parse_json,
};
use crate::formats::options::LoadOptions;
use crate::formats::vectors::Vectors;
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::error::{Error, Result};

/// Name of the file beside the data.
pub(super) const METADATA: &str = "metadata.json";

/// Name of the HDF5 file.
pub(super) const MAIN_DATA: &str = "main_data.hdf5";

/// What [`storage`] looks for in a folder, to say that it is missing.
pub(super) const FOLDER: &str =
    "neither it nor its folder `data` holds main_data.hdf5 or metadata.json";

/// How a folder stores its data set.
pub(super) enum Storage {
    /// In this HDF5 file.
    Hdf5(PathBuf),
    /// As Arrow files, in this folder, which has the metadata.
    Arrow(PathBuf),
}

/// The storage of a folder: the data set's, or the `data` folder inside it; `None` if it holds no Minari data set.
///
/// # Errors
/// If it holds one that is incomplete, or of another storage.
pub(super) fn storage(folder: &Path) -> Result<Option<Storage>> {
    for inner in [folder.to_path_buf(), folder.join("data")] {
        let file = inner.join(MAIN_DATA);
        if file.is_file() {
            return Ok(Some(Storage::Hdf5(file)));
        }
        if !inner.join(METADATA).is_file() {
            continue;
        }
        return match data_format(&inner)?.as_deref() {
            Some("arrow") => Ok(Some(Storage::Arrow(inner))),
            Some("hdf5") | None => Err(Error::data(&inner, format!("`{MAIN_DATA}` is missing"))),
            Some(other) => {
                let problem = format!(
                    "Minari's {other} storage is not read, only hdf5 and arrow: make a copy of the data set in one \
                     of them with the minari package (`data_format=\"hdf5\"`)"
                );
                Err(Error::data(&inner, problem))
            }
        };
    }
    Ok(None)
}

/// The format of Minari's Arrow storage, with its reader.
pub(super) const fn arrow_format(read: fn(&Path, &LoadOptions) -> Result<Dataset>) -> Format {
    Format {
        name: "Minari",
        file: None,
        folder: Some(FOLDER),
        range_keys: "`action_space`",
        detect: detect_arrow,
        read,
        writer: None,
    }
}

fn detect_arrow(place: &Place<'_>) -> Result<Option<PathBuf>> {
    if place.signature.is_some() {
        return Ok(None);
    }
    Ok(match storage(place.path)? {
        Some(Storage::Arrow(folder)) => Some(folder),
        _ => None,
    })
}

/// What `metadata.json` says, as far as it is used.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub total_steps: Option<usize>,
    pub total_episodes: Option<usize>,
    pub env_name: Option<String>,
    pub reference_returns: Option<(f64, f64)>,
    /// What actions are.
    pub action_space: ActionSpace,
    /// Where observations are dictionaries: the keys whose vectors are put side by side.
    pub observation_keys: Vec<String>,
    /// The episodes have a text that says what to do, beside their observations.
    #[cfg_attr(not(feature = "arrow"), expect(dead_code))]
    pub has_missions: bool,
}

/// The storage format that `metadata.json` of a folder names.
///
/// # Errors
/// If it is not JSON.
fn data_format(folder: &Path) -> Result<Option<String>> {
    let json = read_json(folder)?;
    let format = json
        .as_ref()
        .and_then(|json| json.get("data_format")?.as_str());
    Ok(format.map(str::to_owned))
}

/// The content of `metadata.json` of a folder, if there is one.
fn read_json(folder: &Path) -> Result<Option<Value>> {
    let path = folder.join(METADATA);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    let json = parse_json(&text)
        .map_err(|error| Error::data(&path, format!("is no valid JSON: {error}")))?;
    Ok(Some(json))
}

impl Metadata {
    /// Reads `metadata.json` of a folder; nothing is known if there is none.
    ///
    /// # Errors
    /// If it is not JSON, or says that observations or actions are not plain vectors or choices.
    pub fn read(folder: &Path, keys: &[String]) -> Result<Self> {
        let Some(json) = read_json(folder)? else {
            return Ok(Self {
                observation_keys: keys.to_vec(),
                ..Self::default()
            });
        };
        let path = folder.join(METADATA);
        Self::from_json(&json, keys).map_err(|problem| Error::data(&path, problem))
    }

    /// Metadata from a JSON object, wherever it came from. `keys` are those that the user chose.
    ///
    /// # Errors
    /// What it says that can't be read.
    pub fn from_json(json: &Value, keys: &[String]) -> std::result::Result<Self, String> {
        let number = |key: &str| json.get(key).and_then(Value::as_f64);
        let count = |key: &str| json.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let space = json.get("observation_space").and_then(nested);
        Ok(Self {
            observation_keys: check_observation_space(space.as_ref(), keys)?,
            has_missions: space.as_ref().is_some_and(|space| {
                let mission = space.get("subspaces").and_then(|keys| keys.get(MISSION));
                mission
                    .and_then(nested)
                    .is_some_and(|space| kind(&space) == "Text")
            }),
            total_steps: count("total_steps"),
            total_episodes: count("total_episodes"),
            env_name: env_name(json.get("env_spec")).or(text("env_name")),
            reference_returns: number("ref_min_score").zip(number("ref_max_score")),
            action_space: ActionSpace::of(json)?,
        })
    }
}

/// The name inside Gymnasium's environment specification, which is JSON inside JSON.
pub(super) fn env_name(spec: Option<&Value>) -> Option<String> {
    let spec = nested(spec?)?;
    spec.get("id").and_then(Value::as_str).map(str::to_owned)
}

/// Collects episodes into a data set.
pub(super) struct Builder {
    data: Dataset,
    metadata: Metadata,
    source: PathBuf,
    /// Steps that there is room for; the metadata is not believed beyond it.
    room: usize,
    /// Most numbers that the files can hold.
    numbers: usize,
    /// Episodes with another number of steps than their attributes say.
    other_lengths: usize,
    /// Actions are whole numbers, and no choices.
    whole_actions: bool,
}

/// What is known of an episode beside its arrays.
#[derive(Debug, Clone, Default)]
pub(super) struct EpisodeAttributes {
    /// The observation after its last step is a copy of the one before.
    pub last_is_copy: bool,
    /// Its first step is not an episode's first.
    pub fragment: bool,
    /// What it was asked to do.
    pub mission: Option<Arc<str>>,
    /// How many steps it should have.
    pub steps: Option<usize>,
}

impl Builder {
    /// For the data set at `source`, whose files take `bytes` bytes.
    pub fn new(source: &Path, metadata: Metadata, bytes: u64) -> Self {
        let believable = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
        let room = metadata.total_steps.unwrap_or(0).min(believable);
        let numbers = usize::try_from(plausible_bytes(bytes)).unwrap_or(usize::MAX);
        let data = Dataset {
            observation_dim: 0,
            action_dim: 0,
            action_kind: ActionKind::Continuous,
            observations: Vec::new(),
            actions: Vec::new(),
            rewards: Vec::new(),
            episodes: Vec::new(),
            env_name: metadata.env_name.clone(),
            reference_returns: metadata.reference_returns,
            action_bounds: None,
            sources: vec![source.to_path_buf()],
            warnings: Vec::new(),
        };
        Self {
            data,
            metadata,
            source: source.to_path_buf(),
            room,
            numbers,
            other_lengths: 0,
            whole_actions: false,
        }
    }

    /// Appends one episode.
    ///
    /// # Errors
    /// Names the file, the array and the row.
    pub fn add(&mut self, file: &mut dyn ArrayFile, known: &EpisodeAttributes) -> Result<()> {
        let rewards = require(file, &["rewards"])?;
        let steps = rewards.rows();
        check_column(file.path(), &rewards, steps)?;
        if steps == 0 {
            let warning = format!("{}: an episode has no steps", file.path().display());
            self.data.warnings.push(warning);
            return Ok(());
        }
        self.other_lengths += usize::from(known.steps.is_some_and(|said| said != steps));
        let start = self.data.steps();
        let last = self.add_observations(file, steps)?;
        self.add_actions(file, steps)?;
        read_f32_into(file, &rewards, &mut self.data.rewards)?;
        let mut flags = |names: &[&str]| -> Result<Vec<bool>> {
            let info = find(file, names)?;
            info.map_or(Ok(vec![false; steps]), |info| {
                read_flags(file, &info, steps)
            })
        };
        let terminated = flags(&["terminations"])?;
        let truncated = flags(&["truncations"])?;
        let ends =
            |i: usize| (terminated[i] || truncated[i]).then_some((terminated[i], truncated[i]));
        // Usually one episode; marks inside it cut it, and what follows them is known.
        for mut episode in cut(steps, ends) {
            episode.start += start;
            let next = episode.start + episode.steps;
            episode.final_observation = if next < start + steps {
                Some(self.data.observation(next).into())
            } else {
                last.clone().filter(|_| !known.last_is_copy)
            };
            episode.fragment = known.fragment && episode.start == start;
            episode.instruction = known.mission.clone();
            self.data.episodes.push(episode);
        }
        Ok(())
    }

    fn add_observations(
        &mut self,
        file: &mut dyn ArrayFile,
        steps: usize,
    ) -> Result<Option<Box<[f32]>>> {
        let keys = &self.metadata.observation_keys;
        let Some(vectors) = Vectors::find(file, &[OBSERVATIONS], keys)? else {
            let name = file.full_name(OBSERVATIONS);
            return Err(Error::data(
                file.path(),
                format!("array `{name}` is missing"),
            ));
        };
        let (name, rows, dim) = (vectors.name(), vectors.rows(), vectors.width());
        if self.data.episodes.is_empty() {
            self.data.observation_dim = dim;
            let room = self.room.saturating_add(1).saturating_mul(dim);
            let room = room.min(self.numbers);
            reserve(file.path(), &name, &mut self.data.observations, room)?;
        }
        self.check_dim(file, &name, dim, self.data.observation_dim)?;
        if rows != steps && rows != steps + 1 {
            let problem = format!(
                "array `{name}` has {rows} rows, expected {} (one per step and a last one)",
                steps + 1
            );
            return Err(Error::data(file.path(), problem));
        }
        vectors.read_into(file, &mut self.data.observations)?;
        let expected = self.data.observations.len() - (rows - steps) * dim;
        let last = self.data.observations.split_off(expected);
        Ok((!last.is_empty()).then(|| last.into_boxed_slice()))
    }

    fn add_actions(&mut self, file: &mut dyn ArrayFile, steps: usize) -> Result<()> {
        let info = require(file, &["actions"])?;
        check_rows(file.path(), &info, steps, "one per step")?;
        let (name, dim) = (&info.name, info.width());
        if info.shape.len() > 2 || dim == 0 {
            let problem = format!(
                "array `{name}` has shape {:?}, expected (steps, action_dim)",
                info.shape
            );
            return Err(Error::data(file.path(), problem));
        }
        let whole = info.kind != Kind::Float;
        // Only a space of choices makes choices; whole numbers do where no space is described.
        let discrete = self.metadata.action_space.is_discrete().unwrap_or(whole);
        if self.data.episodes.is_empty() {
            self.data.action_dim = dim;
            if discrete {
                let count = match self.metadata.action_space {
                    ActionSpace::Discrete(Some(count)) => count,
                    _ => 0,
                };
                self.data.action_kind = ActionKind::Discrete { count };
            }
            let room = self.room.saturating_mul(dim).min(self.numbers);
            reserve(file.path(), name, &mut self.data.actions, room)?;
            reserve(file.path(), name, &mut self.data.rewards, self.room)?;
        }
        self.check_dim(file, name, dim, self.data.action_dim)?;
        match &mut self.data.action_kind {
            ActionKind::Discrete { count } if discrete && dim == 1 => {
                let actions = read_f32(file, &info)?;
                *count = flat::count_choices(file, name, &actions)?.max(*count);
                self.data.actions.extend_from_slice(&actions);
                Ok(())
            }
            ActionKind::Continuous if !discrete => {
                self.whole_actions |= whole;
                read_f32_into(file, &info, &mut self.data.actions)
            }
            _ => {
                let problem = format!(
                    "array `{name}` holds {dim} integers per step or changes its type: actions are \
                     real numbers or one choice per step, in every episode"
                );
                Err(Error::data(file.path(), problem))
            }
        }
    }

    fn check_dim(
        &self,
        file: &mut dyn ArrayFile,
        name: &str,
        found: usize,
        expected: usize,
    ) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        let problem =
            format!("array `{name}` has {found} columns, expected {expected} as in other episodes");
        Err(Error::data(file.path(), problem))
    }

    /// The data set.
    ///
    /// # Errors
    /// If there are no steps, or fewer episodes than the metadata says.
    pub fn finish(mut self, episodes: usize, options: &LoadOptions) -> Result<Dataset> {
        if self.data.steps() == 0 {
            return Err(Error::data(&self.source, "there are no steps"));
        }
        if let Some(expected) = self.metadata.total_episodes.filter(|&n| n != episodes) {
            let problem = format!(
                "{METADATA} promises {expected} episodes, but there are {episodes}; copy the data \
                 set again"
            );
            return Err(Error::data(&self.source, problem));
        }
        let (bounds, warning) = self.metadata.action_space.bounds(self.data.action_dim);
        self.data.action_bounds = bounds;
        let source = self.source.display();
        let warning = warning.map(|text| format!("{source}: {text}"));
        let limit = unused_limit(&self.data, &self.source, options, "truncations");
        self.data.warnings.extend(warning.into_iter().chain(limit));
        if self.whole_actions {
            let source = self.source.display();
            self.data.warnings.push(format!(
                "{source}: actions are whole numbers, but `action_space` is a Box, no Discrete: they are taken for real \
                 numbers"
            ));
        }
        if self.other_lengths > 0 {
            let (source, count) = (self.source.display(), self.other_lengths);
            self.data.warnings.push(format!(
                "{source}: {count} episodes have another number of steps than their `total_steps` says"
            ));
        }
        if let Some(expected) = self
            .metadata
            .total_steps
            .filter(|&n| n != self.data.steps())
        {
            let (source, found) = (self.source.display(), self.data.steps());
            let warning = format!("{source}: {METADATA} says {expected} steps, there are {found}");
            self.data.warnings.push(warning);
        }
        Ok(self.data)
    }
}
