//! Whether `config.toml` still says what a run was started with: networks that are read with another configuration may fit their
//! shapes and still compute something else.

use std::path::Path;

use crate::app::checkpoint::fingerprint::{Difference, differences, is_free, listed, settings};
use crate::app::checkpoint::{RunDir, RunSpec};
use crate::app::config::Purpose;
use crate::app::config::RunConfig;
use trajformer_core::error::{Error, Result};

/// Tables and keys that decide what a trained policy computes, beside those that it may be given when it is opened; and which episodes
/// it learned from.
const LEARNED: [&str; 4] = ["algorithm.", "data.", "encoder", "train.held_out_fraction"];
/// Keys that may be given when a run is opened, but whose edit in its file is a slip: a run keeps a copy of what they name, which the edit would
/// not change, or its networks were trained with the value that stands there.
const TRAINED_WITH: [&str; 3] = [".planner.value", ".planner.critic", ".return_scale"];
/// Where the scores were taken that a run has written down.
const SCORED: &str = "evaluate.env";

impl RunSpec {
    /// Fails if `config` is not the one that the run in `folder` was started with, except for what a run
    /// may change on its way.
    ///
    /// # Errors
    /// [`Error::Run`], naming the keys.
    pub fn check_settings(&self, config: &RunConfig, folder: &Path) -> Result<()> {
        refuse(&self.changed(config)?, folder)
    }

    /// Fails if `config` differs from what the networks of the run in `folder` were trained with: sizes and kinds of layers, how the
    /// data was read and normalised. How a policy acts may differ, as it may when a run is opened.
    ///
    /// # Errors
    /// [`Error::Run`], naming the keys.
    pub fn check_trained(&self, config: &RunConfig, folder: &Path) -> Result<()> {
        let mut found = self.changed(config)?;
        found.retain(|difference| {
            let key = &difference.key;
            let is_fixed = TRAINED_WITH.iter().any(|end| key.ends_with(end));
            // It draws which episodes are kept apart.
            let draws = key == "seed" && config.train.held_out_fraction > 0.0;
            draws || is_learned(key) && (is_fixed || !config.can_be_set(key, Purpose::Act))
        });
        refuse(&found, folder)
    }

    /// Fails if `config` differs from what the scores and losses that the run in `folder` has written down were found with: besides
    /// [`Self::check_trained`] how its policy acted, and the environment.
    ///
    /// # Errors
    /// [`Error::Run`], naming the keys.
    pub fn check_measured(&self, config: &RunConfig, folder: &Path) -> Result<()> {
        let mut found = self.changed(config)?;
        found.retain(|difference| is_learned(&difference.key) || difference.key == SCORED);
        refuse(&found, folder)
    }

    /// Keys whose value is another than at the start; none of a run that did not keep its settings.
    fn changed(&self, config: &RunConfig) -> Result<Vec<Difference>> {
        if self.settings.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = differences(&self.settings, &settings(config)?);
        // A key that did not exist yet had what is its default now.
        let defaults = format!("[algorithm.{}]", config.algorithm.name());
        let defaults = toml::from_str(&defaults).map_err(Error::internal)?;
        let defaults = settings(&defaults)?;
        // Earlier builds kept some keys that a run may change.
        found.retain(|difference| {
            !is_free(&difference.key)
                && (self.settings.contains_key(&difference.key)
                    || defaults.get(&difference.key) != Some(&difference.now))
        });
        Ok(found)
    }
}

impl RunDir {
    /// The stored configuration, which must be the one that the run's own numbers were found with: see [`RunSpec::check_measured`].
    ///
    /// # Errors
    /// If it can't be read, or was changed since.
    pub fn measured_config(&self) -> Result<RunConfig> {
        let config = self.config()?;
        self.spec()?.check_measured(&config, self.path())?;
        Ok(config)
    }
}

fn is_learned(key: &str) -> bool {
    LEARNED.iter().any(|start| key.starts_with(start))
}

fn refuse(found: &[Difference], folder: &Path) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "its configuration is not the one that it was started with: {}; put it back in \
         config.toml, or start a new run",
        listed(found)
    );
    Err(Error::Run {
        path: folder.to_path_buf(),
        problem,
    })
}
