//! Whether `config.toml` still says what a run was started with: networks that are read with another configuration may fit their
//! shapes and still compute something else.

use std::path::Path;

use crate::app::checkpoint::fingerprint::{Difference, differences, is_free, listed, settings};
use crate::app::checkpoint::{RunDir, RunSpec};
use crate::app::config::Purpose;
use crate::app::config::RunConfig;
use trajformer_core::error::{Error, Result};

/// Tables and keys that decide what a trained policy computes, beside those that it may be given when it is opened.
const LEARNED: [&str; 3] = ["algorithm.", "data.", "encoder"];

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
            LEARNED.iter().any(|start| key.starts_with(start))
                && !config.can_be_set(key, Purpose::Act)
        });
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
    /// The stored configuration, which must be the one that the networks were trained with: see [`RunSpec::check_trained`].
    ///
    /// # Errors
    /// If it can't be read, or was changed since.
    pub fn trained_config(&self) -> Result<RunConfig> {
        let config = self.config()?;
        self.spec()?.check_trained(&config, self.path())?;
        Ok(config)
    }
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
