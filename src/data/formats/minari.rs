//! What Minari's two storages share: `metadata.json` and episodes with one observation more than
//! actions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::arrays::{
    ArrayFile, Kind, check_column, check_rows, find, read_f32, read_f32_into, read_flags, require,
    reserve,
};
use super::flat;
use crate::data::dataset::{ActionKind, Dataset};
use crate::error::{Error, Result};

const OBSERVATIONS: &str = "observations";

/// Name of the file beside the data.
pub(super) const METADATA: &str = "metadata.json";

/// What `metadata.json` says, as far as it is used.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub data_format: Option<String>,
    pub total_steps: Option<usize>,
    pub total_episodes: Option<usize>,
    pub env_name: Option<String>,
    pub reference_returns: Option<(f64, f64)>,
    /// Choices of a discrete action.
    pub choices: Option<usize>,
    /// Where observations are dictionaries of one vector and the episode's mission: the vector's key.
    pub observation_key: Option<String>,
}

/// Key of the text in observations that are dictionaries, and of the attribute that says the same.
pub(super) const MISSION: &str = "mission";

impl Metadata {
    /// Reads `metadata.json` of a folder; nothing is known if there is none.
    ///
    /// # Errors
    /// If it is not JSON, or says that observations or actions are not plain vectors or choices.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(METADATA);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let json = parse_json(&text)
            .map_err(|error| Error::data(&path, format!("is no valid JSON: {error}")))?;
        Self::from_json(&json).map_err(|problem| Error::data(&path, problem))
    }

    fn from_json(json: &Value) -> std::result::Result<Self, String> {
        let number = |key: &str| json.get(key).and_then(Value::as_f64);
        let count = |key: &str| json.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            observation_key: check_observation_space(json)?,
            data_format: text("data_format"),
            total_steps: count("total_steps"),
            total_episodes: count("total_episodes"),
            env_name: env_name(json.get("env_spec")).or(text("env_name")),
            reference_returns: number("ref_min_score").zip(number("ref_max_score")),
            choices: check_action_space(json)?,
        })
    }
}

/// The name inside Gymnasium's environment specification, which is JSON inside JSON.
pub(super) fn env_name(spec: Option<&Value>) -> Option<String> {
    let spec = nested(spec?)?;
    spec.get("id").and_then(Value::as_str).map(str::to_owned)
}

fn nested(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => parse_json(text).ok(),
        Value::Object(_) => Some(value.clone()),
        _ => None,
    }
}

/// JSON with Python's extra numbers, which become very large ones and null.
fn parse_json(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| {
        let tame = text.replace("Infinity", "1e308").replace("NaN", "null");
        serde_json::from_str(&tame).map_err(|_| error)
    })
}

/// The key of the vector, where observations are dictionaries of one and a mission.
fn check_observation_space(json: &Value) -> std::result::Result<Option<String>, String> {
    let Some(space) = json.get("observation_space").and_then(nested) else {
        return Ok(None);
    };
    let kind = space.get("type").and_then(Value::as_str).unwrap_or("Box");
    let advice = "flatten them (minari: a dataset made with gymnasium's FlattenObservation) first";
    match kind {
        "Box" if rank(&space) == 1 => Ok(None),
        "Box" => {
            let shape = space.get("shape").map(Value::to_string).unwrap_or_default();
            Err(format!(
                "observations have the shape {shape}, expected one dimension; {advice}"
            ))
        }
        "Dict" => {
            let keys = space.get("subspaces").and_then(Value::as_object);
            if let Some(vector) = keys.and_then(vector_beside_mission) {
                return Ok(Some(vector));
            }
            let keys: Vec<&str> = keys
                .iter()
                .flat_map(|k| k.keys())
                .map(String::as_str)
                .collect();
            let keys = keys.join("`, `");
            Err(format!(
                "observations are dictionaries (of `{keys}`): only plain vectors are supported; \
                 {advice}"
            ))
        }
        other => Err(format!(
            "observations are of the kind {other}: only plain vectors (Box) are supported"
        )),
    }
}

/// The key of the only other subspace, a vector, beside a text called mission.
fn vector_beside_mission(subspaces: &serde_json::Map<String, Value>) -> Option<String> {
    let kind = |space: &Value| space.get("type").and_then(Value::as_str).map(str::to_owned);
    let mission = nested(subspaces.get(MISSION)?)?;
    let mut others = subspaces.iter().filter(|(key, _)| *key != MISSION);
    let (key, other) = others.next()?;
    let other = nested(other)?;
    let fits = kind(&mission)? == "Text" && kind(&other)? == "Box" && rank(&other) == 1;
    (fits && others.next().is_none()).then(|| key.clone())
}

fn check_action_space(json: &Value) -> std::result::Result<Option<usize>, String> {
    let Some(space) = json.get("action_space").and_then(nested) else {
        return Ok(None);
    };
    let whole = |key: &str| space.get(key).and_then(Value::as_i64).unwrap_or(0);
    match space.get("type").and_then(Value::as_str).unwrap_or("Box") {
        "Box" if rank(&space) <= 1 => Ok(None),
        "Discrete" => {
            let count = usize::try_from(whole("n").saturating_add(whole("start"))).unwrap_or(0);
            Ok(Some(count).filter(|&count| count <= flat::MOST_CHOICES))
        }
        other => Err(format!(
            "actions are of the kind {other}: only vectors (Box of one dimension) and one choice \
             (Discrete) are supported"
        )),
    }
}

fn rank(space: &Value) -> usize {
    space
        .get("shape")
        .and_then(Value::as_array)
        .map_or(1, Vec::len)
}

/// Collects episodes into a data set.
pub(super) struct Builder {
    data: Dataset,
    metadata: Metadata,
    source: PathBuf,
    /// Steps that there is room for; the metadata is not believed beyond it.
    room: usize,
}

impl Builder {
    /// For the data set at `source`, whose files take `bytes` bytes.
    pub fn new(source: &Path, metadata: Metadata, bytes: u64) -> Self {
        let believable = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
        let room = metadata.total_steps.unwrap_or(0).min(believable);
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
            sources: vec![source.to_path_buf()],
            warnings: Vec::new(),
        };
        Self {
            data,
            metadata,
            source: source.to_path_buf(),
            room,
        }
    }

    /// Appends one episode; `knows_last` says whether the observation after its last step is real, `mission` what
    /// it was asked to do.
    ///
    /// # Errors
    /// Names the file, the array and the row.
    pub fn add(
        &mut self,
        file: &mut dyn ArrayFile,
        knows_last: bool,
        mission: Option<Arc<str>>,
    ) -> Result<()> {
        let rewards = require(file, &["rewards"])?;
        let steps = rewards.rows();
        check_column(file.path(), &rewards, steps)?;
        if steps == 0 {
            let warning = format!("{}: an episode has no steps", file.path().display());
            self.data.warnings.push(warning);
            return Ok(());
        }
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
        for mut episode in flat::cut(steps, ends) {
            episode.start += start;
            let next = episode.start + episode.steps;
            episode.final_observation = match next < start + steps {
                true => Some(self.data.observation(next).into()),
                false => last.clone().filter(|_| knows_last),
            };
            episode.instruction = mission.clone();
            self.data.episodes.push(episode);
        }
        Ok(())
    }

    fn add_observations(
        &mut self,
        file: &mut dyn ArrayFile,
        steps: usize,
    ) -> Result<Option<Box<[f32]>>> {
        let key = self.metadata.observation_key.as_ref();
        let array = key.map_or(OBSERVATIONS.to_owned(), |key| {
            format!("{OBSERVATIONS}/{key}")
        });
        let info = require(file, &[&array])?;
        let (name, shape) = (&info.name, &info.shape);
        if shape.len() != 2 || shape[1] == 0 {
            let problem = format!(
                "array `{name}` has shape {shape:?}, expected (steps + 1, observation_dim)"
            );
            return Err(Error::data(file.path(), problem));
        }
        let dim = shape[1];
        if self.data.episodes.is_empty() {
            self.data.observation_dim = dim;
            let room = self.room.saturating_add(1).saturating_mul(dim);
            reserve(file.path(), name, &mut self.data.observations, room)?;
        }
        self.check_dim(file, name, dim, self.data.observation_dim)?;
        if shape[0] != steps {
            check_rows(file.path(), &info, steps + 1, "one per step and a last one")?;
        }
        read_f32_into(file, &info, &mut self.data.observations)?;
        let expected = self.data.observations.len() - (shape[0] - steps) * dim;
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
        let discrete = info.kind != Kind::Float;
        if self.data.episodes.is_empty() {
            self.data.action_dim = dim;
            if discrete {
                let count = self.metadata.choices.unwrap_or(0);
                self.data.action_kind = ActionKind::Discrete { count };
            }
            let room = self.room.saturating_mul(dim);
            reserve(file.path(), name, &mut self.data.actions, room)?;
            reserve(file.path(), name, &mut self.data.rewards, self.room)?;
        }
        self.check_dim(file, name, dim, self.data.action_dim)?;
        match &mut self.data.action_kind {
            ActionKind::Discrete { count } if discrete && dim == 1 => {
                let actions = read_f32(file, &info)?;
                *count = flat::count_choices(file, &actions)?.max(*count);
                self.data.actions.extend_from_slice(&actions);
                Ok(())
            }
            ActionKind::Continuous if !discrete => {
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
    pub fn finish(mut self, episodes: usize) -> Result<Dataset> {
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
