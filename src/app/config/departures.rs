//! [`Departures`]: how a configuration differs from the one that it extends, and from the defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::app::config::layers::{Layers, join};
use crate::app::config::run_config::RunConfig;
use crate::app::config::table::from_layers;
use trajformer_core::error::{Error, Origin, Result};

/// A key that has another value than elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Departure {
    /// The key, e.g. `train.updates`.
    pub key: String,
    /// Its value here; none where it is not set.
    pub value: Option<toml::Value>,
    /// Its value there; none where it is not set.
    pub instead_of: Option<toml::Value>,
    /// What set it; none where it is not set here. Written as text: the file, or `KEY=VALUE`.
    #[serde(serialize_with = "as_text")]
    pub origin: Option<Origin>,
}

/// How a configuration departs from the file at the bottom of those that it extends, and from the defaults of its
/// algorithm and of everything around it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Departures {
    /// The file.
    pub config: PathBuf,
    /// Name of its algorithm.
    pub algorithm: String,
    /// The file that the ones above it extend; none if the file extends none, or what is no whole configuration.
    pub extends: Option<PathBuf>,
    /// Where it differs from that.
    pub from_extended: Vec<Departure>,
    /// Where it differs from the defaults.
    pub from_defaults: Vec<Departure>,
}

impl Departures {
    /// Differences of the configuration in `path` with `overrides` from what it extends and from the defaults.
    ///
    /// # Errors
    /// As [`RunConfig::load`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let mut layers = Layers::read(path)?;
        let config = from_layers(&mut layers, overrides)?;
        layers.warn_of_moved();
        let algorithm = config.algorithm.name();
        let defaults = RunConfig::parse(&format!("[algorithm.{algorithm}]"))?;
        let extends = layers.files.last().filter(|_| layers.files.len() > 1);
        // A file need not be whole to be extended.
        let extended = extends.and_then(|file| RunConfig::load_stored(file).ok());
        let from = |other: &RunConfig| departures(&config, other, &layers);
        Ok(Self {
            config: path.to_path_buf(),
            algorithm: algorithm.to_owned(),
            from_extended: extended.as_ref().map(from).transpose()?.unwrap_or_default(),
            from_defaults: from(&defaults)?,
            extends: extended.as_ref().and(extends).cloned(),
        })
    }
}

fn departures(here: &RunConfig, there: &RunConfig, layers: &Layers) -> Result<Vec<Departure>> {
    let (here, there) = (values(here)?, values(there)?);
    let keys: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let differs = |key: &&String| here.get(*key) != there.get(*key);
    let departure = |key: &String| Departure {
        key: key.clone(),
        value: here.get(key).cloned(),
        instead_of: there.get(key).cloned(),
        origin: here.get(key).and(layers.origin(key)).cloned(),
    };
    Ok(keys.into_iter().filter(differs).map(departure).collect())
}

/// The name of a file as it is, an override without quotes around it.
fn text(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => path.clone(),
        Origin::Overrides(texts) => texts.join(" "),
    }
}

fn as_text<S: Serializer>(
    origin: &Option<Origin>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    origin.as_ref().map(text).serialize(serializer)
}

/// Every key of a configuration with its value.
///
/// # Errors
/// If a value has no TOML form.
pub(crate) fn values(config: &RunConfig) -> Result<BTreeMap<String, toml::Value>> {
    let table = toml::Table::try_from(config).map_err(Error::internal)?;
    let mut found = BTreeMap::new();
    flatten("", table, &mut found);
    Ok(found)
}

pub(super) fn flatten(prefix: &str, table: toml::Table, found: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        let key = join(prefix, &name);
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, found),
            value => drop(found.insert(key, value)),
        }
    }
}

impl fmt::Display for Departures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = |other: &str, departures: &[Departure]| {
            let config = self.config.display();
            if departures.is_empty() {
                return writeln!(f, "{config} has {other}.");
            }
            writeln!(f, "{config} departs from {other}:")?;
            departures
                .iter()
                .try_for_each(|departure| writeln!(f, "  {departure}"))
        };
        if let Some(extends) = &self.extends {
            section(
                &format!("what {} has", extends.display()),
                &self.from_extended,
            )?;
        }
        section(
            &format!("the defaults of `{}`", self.algorithm),
            &self.from_defaults,
        )
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<toml::Value>| {
            value
                .as_ref()
                .map_or("not set".to_owned(), ToString::to_string)
        };
        let (value, other) = (shown(&self.value), shown(&self.instead_of));
        write!(f, "{} = {value} (there {other})", self.key)?;
        match &self.origin {
            Some(origin) => write!(f, ", set by {}", text(origin)),
            None => Ok(()),
        }
    }
}
