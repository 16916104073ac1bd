//! [`TerminationPenalty`]: a key of planners that learn from rewards in whose place a fall has a penalty.

use serde::{Deserialize, Serialize};

/// What replaces the reward of a terminating step: a number, or `"none"`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or \"none\"")]
pub enum TerminationPenalty {
    /// This reward.
    Reward(f64),
    /// The data's own: `"none"`.
    None(NoPenalty),
}

/// The word `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoPenalty {
    /// `"none"`.
    None,
}

impl TerminationPenalty {
    /// The reward of every terminating step; `None`: the data's own.
    pub fn reward(self) -> Option<f64> {
        match self {
            Self::Reward(reward) => Some(reward),
            Self::None(_) => None,
        }
    }
}
