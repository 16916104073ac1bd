//! [`RunConfig`]: everything that decides a run, read from TOML, edited with `--set`, stored
//! resolved in the run directory.
//!
//! Unknown keys are errors. Every struct has documented defaults, so a file holds differences only.

mod departures;
mod idle;
mod layers;
mod loading;
pub(crate) mod moved;
mod opened;
mod overrides;
mod run_config;
pub mod sections;
mod table;
mod words;

pub(crate) use departures::values;
pub use departures::{Departure, Departures};
pub(crate) use idle::idle_keys;
pub(crate) use layers::not_toml;
pub use opened::Purpose;
pub use overrides::apply_override;
pub use run_config::{LARGEST_SEED, RunConfig};
pub use sections::{DataConfig, EvaluateConfig, OnlineConfig, TrainConfig};
pub(crate) use table::algorithm_config_of;
