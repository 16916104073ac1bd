//! [`Source`]: what an algorithm is built from, data to learn from or the shapes of a policy that only acts.

use crate::dataset::Dataset;
use crate::error::Result;

/// What an algorithm is built from: a data set to learn from, or the shapes of observations and actions alone.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A data set that the algorithm learns from. Its dimensions are the networks', and the algorithm holds optimisers and target
    /// networks.
    Train(&'a Dataset),
    /// No data: the algorithm acts with stored networks, which are loaded over its initial values. It holds neither optimisers
    /// nor target networks, and every update fails with [`opened_without_data`](crate::dataset_checks::opened_without_data).
    Act {
        /// Numbers in an observation (O).
        observation_dim: usize,
        /// Numbers in an action (A); 1 of a choice.
        action_dim: usize,
    },
}

impl<'a> Source<'a> {
    /// The data, if there is any to learn from.
    pub fn data(self) -> Option<&'a Dataset> {
        match self {
            Self::Train(data) => Some(data),
            Self::Act { .. } => None,
        }
    }

    /// Numbers in an observation and in an action (O, A).
    pub fn dims(self) -> (usize, usize) {
        match self {
            Self::Train(data) => (data.observation_dim, data.action_dim),
            Self::Act {
                observation_dim,
                action_dim,
            } => (observation_dim, action_dim),
        }
    }

    /// What networks are made for.
    pub fn stage(self) -> Stage {
        match self {
            Self::Train(_) => Stage::Learning,
            Self::Act { .. } => Stage::Acting,
        }
    }

    /// Fails if there is data whose actions are discrete; `purpose` is what needs real numbers.
    ///
    /// # Errors
    /// [`Error::Unsuitable`](crate::error::Error::Unsuitable), naming the file and `purpose`.
    pub fn require_continuous_actions(self, purpose: &str) -> Result<()> {
        match self {
            Self::Train(data) => data.require_continuous_actions(purpose),
            Self::Act { .. } => Ok(()),
        }
    }
}

/// What networks are made for, which decides whether optimisers and target networks are held beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Networks that will be updated: optimisers and target networks are made with them.
    Learning,
    /// Networks that only compute actions: neither optimisers nor target networks are made, and an update is an error.
    Acting,
}
