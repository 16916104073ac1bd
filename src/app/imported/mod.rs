//! Models that other libraries trained, opened as if they were runs.
//!
//! | folder | what it is | reads |
//! |---|---|---|
//! | `config.json` with `model_type` `decision_transformer` | `transformers`' `DecisionTransformerModel` | [`decision_transformer`] |
//! | `config.json` with `model_type` `trajectory_transformer` | `transformers`' `TrajectoryTransformerModel` | [`trajectory_transformer`] |
//! | `state_N.pt` | the Trajectory Transformer's authors' | [`trajectory_transformer`] |
//! | `config.json` with `model_type` `gpt2` | a trunk to start from, no policy | [`gpt2`](crate::app::pretrained::gpt2) |
//!
//! What their files lack is kept in `policy.safetensors` beside them, as a run directory has it. Each is a learning rule that
//! has its weights from the start, and goes through [`prepare`](crate::app::prepare) as every run does.

pub mod decision_transformer;
pub mod gym_models;
mod importing;
pub mod trajectory_transformer;

use std::path::Path;

use crate::app::pretrained::keys::JsonConfig;
use crate::app::pretrained::{other_files, weights};
pub use importing::{Imported, Request};
use trajformer_core::error::{Error, Result};

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
