//! Configurations from files, text and overrides.

use std::path::Path;

use crate::app::config::layers::Layers;
use crate::app::config::overrides::apply_override;
use crate::app::config::run_config::RunConfig;
use crate::app::config::table::from_layers;
use trajformer_core::error::{Error, Result};

impl RunConfig {
    /// Reads `path`, with the files that it extends, and applies `overrides` (`key.sub=value`, in order).
    ///
    /// # Errors
    /// If a file can't be read, is not TOML, holds an unknown key or a value of a wrong type or range,
    /// files extend each other in a circle or change the algorithm, or an override is malformed.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let mut layers = Layers::read(path)?;
        let config = from_layers(&mut layers, overrides);
        layers.warn_of_moved();
        config
    }

    /// The configuration that a run keeps in `path`: keys that it spells as earlier versions did are no news to anybody.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_stored(path: &Path) -> Result<Self> {
        from_layers(&mut Layers::read(path)?, &[])
    }

    /// Reads a configuration from TOML text, which can't extend a file.
    ///
    /// # Errors
    /// If it is not TOML, holds an unknown key, or a value of a wrong type or range.
    pub fn parse(text: &str) -> Result<Self> {
        let mut layers = Layers::parse(text)?;
        let config = from_layers(&mut layers, &[]);
        layers.warn_of_moved();
        config
    }

    /// The configuration with `overrides` applied.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn with_overrides(&self, overrides: &[String]) -> Result<Self> {
        let mut table = toml::Table::try_from(self).map_err(Error::internal)?;
        for text in self.algorithm.unwritten() {
            apply_override(&mut table, &text)?;
        }
        let mut layers = Layers::from(table);
        let config = from_layers(&mut layers, overrides);
        layers.warn_of_moved();
        config
    }
}
