//! [`Line`]: a configuration of a sweep.

use std::path::PathBuf;

use crate::app::config::RunConfig;

/// One configuration with its seeds: a line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its folder inside the sweep's.
    pub name: String,
    /// Its resolved configuration; the seed is each run's own.
    pub config: RunConfig,
    /// The file that it came from.
    pub source: PathBuf,
    /// Its seeds.
    pub seeds: Vec<u64>,
}
