//! Models that other libraries trained, opened as if they were runs.
//!
//! | folder | what it is | reads |
//! |---|---|---|
//! | `config.json` with `model_type` `decision_transformer` | `transformers`' `DecisionTransformerModel` | [`decision_transformer`] |
//! | `config.json` with `model_type` `trajectory_transformer` | `transformers`' `TrajectoryTransformerModel` | [`trajectory_transformer`] |
//! | `state_N.pt` | the Trajectory Transformer's authors' | [`trajectory_transformer`] |
//! | `config.json` with `model_type` `gpt2` | a trunk to start from, no policy | [`gpt2`] |
//!
//! What their files lack is kept in `policy.safetensors` beside them, as a run directory has it. Where the
//! folder comes from is [`hub`](crate::hub)'s matter.

pub mod decision_transformer;
mod element;
pub mod gpt2;
pub mod gym_models;
pub mod keys;
mod other_files;
mod pickle;
mod torch_file;
pub mod trajectory_transformer;
pub mod weights;

use std::path::Path;

use trajformer_models::pretrained::Tensors;

use crate::algorithms::Algorithm;
use crate::checkpoint::fingerprint::{DataFingerprint, settings};
use crate::checkpoint::{self, RunSpec};
use crate::config::{Purpose, RunConfig};
use crate::data::Dataset;
use crate::error::{Error, Result};
use keys::JsonConfig;

/// A model that acts.
pub struct Imported {
    /// Its sizes as a configuration, with the overrides that were asked for.
    pub config: RunConfig,
    /// Its shapes and bounds.
    pub spec: RunSpec,
    /// The algorithm with trained networks; it can't train on.
    pub algorithm: Box<dyn Algorithm>,
}

/// How a model is to be opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// Changes of the configuration.
    pub overrides: &'a [String],
    /// The data that it was trained on: statistics and discretisers are fitted to it and kept.
    pub data: Option<&'a Dataset>,
    /// Environment that it is to act in, which says the range of actions.
    pub env: Option<&'a str>,
    /// What for: only keys that count for it can be changed.
    pub purpose: Purpose,
}

/// Opens what is in `folder`, which is no run directory; `None` if it holds nothing that is known.
///
/// # Errors
/// If it holds a model that can't be read, has no policy, or lacks what acting needs.
pub fn open(folder: &Path, request: &Request<'_>) -> Result<Option<Imported>> {
    let json = JsonConfig::read(folder)?;
    let model_type = json.as_ref().and_then(JsonConfig::model_type);
    match (&json, model_type.as_deref(), weights::last_state(folder)) {
        (Some(json), Some("decision_transformer"), _) => {
            decision_transformer::open(folder, json, request).map(Some)
        }
        (Some(json), Some("trajectory_transformer"), _) => {
            trajectory_transformer::open(folder, json, request).map(Some)
        }
        (None, _, Some(state)) => {
            trajectory_transformer::open_authors(folder, &state, request).map(Some)
        }
        (Some(json), Some(other), _) if !other.starts_with("trajformer_") => Err(Error::data(
            json.path(),
            format!(
                "`model_type` is `{other}`, which is no policy: expected `decision_transformer` or \
                 `trajectory_transformer`, or a run directory"
            ),
        )),
        (Some(json), None, _) if weights::source(folder)?.is_some() => Err(Error::data(
            json.path(),
            "it has no `model_type` and names no known class in `architectures`: add `\"model_type\": \
             \"decision_transformer\"` (or `\"trajectory_transformer\"`) if that is what the weights are of",
        )),
        (None, _, None) => refuse_others(folder),
        _ => Ok(None),
    }
}

/// Says what a folder without `config.json` holds, where that is a model, or a part of one.
fn refuse_others(folder: &Path) -> Result<Option<Imported>> {
    let names = other_files::names_in(folder);
    let is_run = |name: &String| name == "config.toml" || name.ends_with("/config.toml");
    if names.iter().any(is_run) {
        return Ok(None);
    }
    let named_otherwise = names
        .iter()
        .find(|name| name.eq_ignore_ascii_case("config.json"));
    let problem = match (named_otherwise, weights::source(folder)?, other_files::said(&names)) {
        (Some(name), ..) => format!("`{name}` is written otherwise: names are in lower case, rename it to config.json"),
        (None, Some(_), _) => {
            "it has weights but no config.json, which says what they are of: take that from the model's repository"
                .to_owned()
        }
        (None, None, Some(said)) => format!("neither a run directory nor a model that is read (no config.json): {said}"),
        (None, None, None) => return Ok(None),
    };
    Err(Error::data(folder, problem))
}

/// The model's tensors in `folder`; says so where only an adapter's are there, or quantized ones.
fn read_weights(folder: &Path, json: &JsonConfig) -> Result<Tensors> {
    json.refuse_quantized()?;
    let adapter = "adapter_config.json";
    if weights::source(folder)?.is_none() && folder.join(adapter).exists() {
        return Err(Error::data(folder, other_files::adapter(adapter)));
    }
    weights::read_folder(folder)
}

/// Says where tensors that don't fit come from.
fn in_folder(folder: &Path, error: trajformer_models::Error) -> Error {
    Error::data(folder, error.to_string())
}

fn check_dimensions(data: &Dataset, observation_dim: usize, action_dim: usize) -> Result<()> {
    if (data.observation_dim, data.action_dim) == (observation_dim, action_dim) {
        return Ok(());
    }
    Err(Error::Unsuitable(format!(
        "the model has {observation_dim} observations and {action_dim} actions, {} has {} and {}: give the \
         data that it was trained on",
        data.source_names(),
        data.observation_dim,
        data.action_dim
    )))
}

/// Refuses overrides of sizes, which the model's files decide.
fn same_sizes(before: &RunConfig, now: &RunConfig, sizes: &[&str]) -> Result<()> {
    let (before, after) = (settings(before)?, settings(now)?);
    let table = format!("algorithm.{}", now.algorithm.name());
    for size in sizes {
        let key = format!("{table}.{size}");
        if before.get(&key) != after.get(&key) {
            return Err(Error::Config(format!(
                "`{key}` is decided by the model's files ({}) and can't be set",
                before.get(&key).map_or("not set", String::as_str)
            )));
        }
    }
    Ok(())
}

/// Keeps what was fitted to `data` beside the model; a folder that can't be written to is no error.
fn keep(algorithm: &mut dyn Algorithm, folder: &Path, data: &Dataset) -> Result<()> {
    match checkpoint::save_policy(algorithm, folder, &DataFingerprint::of(data)) {
        Ok(path) => {
            tracing::info!("wrote {}: the next time no data is needed", path.display());
        }
        Err(Error::Io { path, source }) => tracing::warn!(
            "{}: {source}: what was fitted to the data is not kept, give it again the next time",
            path.display()
        ),
        Err(other) => return Err(other),
    }
    Ok(())
}
