//! [`LoadOptions`]: how files are read that leave something open.

use crate::formats::columns::ColumnChoice;

/// How to read files that leave something open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// In files without `timeouts`, episodes that did not terminate end after this many steps, as in D4RL's
    /// `qlearning_dataset`. Default: D4RL's own limit for the environment or file, by its name; else 1000 in D4RL's
    /// HDF5 layout, and none in npz. Files that mark their own limits keep them, with a warning.
    pub max_episode_steps: Option<usize>,
    /// Where observations are dictionaries: the keys whose vectors are put side by side, in this order.
    pub observation_keys: Vec<String>,
    /// The columns of observations that are kept. Default: all.
    pub observation_columns: Option<ColumnChoice>,
}
