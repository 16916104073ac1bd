//! What every kind of imported model shares: what is asked for, what comes of it, and checks.

use std::path::Path;

use crate::app::checkpoint;
use crate::app::checkpoint::RunSpec;
use crate::app::checkpoint::fingerprint::{DataFingerprint, settings};
use crate::app::config::{Purpose, RunConfig};
use trajformer_core::algorithm::Algorithm;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

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

pub(super) fn check_dimensions(
    data: &Dataset,
    observation_dim: usize,
    action_dim: usize,
) -> Result<()> {
    data.require_continuous_actions("a model of this kind")?;
    if (data.observation_dim, data.action_dim) == (observation_dim, action_dim) {
        return Ok(());
    }
    let found = (data.observation_dim, data.action_dim);
    Err(Error::Dimensions {
        problem: format!(
            "the model has {observation_dim} observations and {action_dim} actions, {} has {} and {}: give the \
             data that it was trained on",
            data.source_names(),
            found.0,
            found.1
        ),
        found,
        expected: (observation_dim, action_dim),
    })
}

/// Refuses overrides of sizes, which the model's files decide.
pub(super) fn same_sizes(before: &RunConfig, now: &RunConfig, sizes: &[&str]) -> Result<()> {
    let (before, after) = (settings(before)?, settings(now)?);
    let table = format!("algorithm.{}", now.algorithm.name());
    for size in sizes {
        let key = format!("{table}.{size}");
        if before.get(&key) != after.get(&key) {
            return Err(Error::settings(format!(
                "`{key}` is decided by the model's files ({}) and can't be set",
                before.get(&key).map_or("not set", String::as_str)
            )));
        }
    }
    Ok(())
}

/// Keeps what was fitted to `data` beside the model; a folder that can't be written to is no error.
pub(super) fn keep(algorithm: &mut dyn Algorithm, folder: &Path, data: &Dataset) -> Result<()> {
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
