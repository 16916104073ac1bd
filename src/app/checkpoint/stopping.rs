//! When a run ends before all of its updates, for want of better scores or losses: what is kept for it, and why it ended.

use serde::{Deserialize, Serialize};

use crate::app::config::sections::TrainConfig;

/// The lowest loss of a run on episodes that it does not learn from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// After this many updates.
    pub update: u64,
    /// `held_out_loss`.
    pub loss: f64,
    /// Losses since then, none of them lower.
    pub without_gain: u64,
}

impl HeldOut {
    /// What is known after another loss, at `update`.
    pub fn after(before: Option<Self>, update: u64, loss: f64) -> Self {
        match before {
            Some(lowest) if loss >= lowest.loss || !loss.is_finite() => Self {
                without_gain: lowest.without_gain + 1,
                ..lowest
            },
            _ => Self {
                update,
                loss,
                without_gain: 0,
            },
        }
    }
}

/// Why a run ended before all of its updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyStop {
    /// Its scores rose no more (`train.patience_evaluations`).
    Scores,
    /// Its loss on the episodes that are kept apart fell no more (`train.patience_held_out`).
    HeldOut,
}

impl EarlyStop {
    /// What happened, e.g. `its scores rose no more`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Scores => "its scores rose no more",
            Self::HeldOut => "its loss on held-out episodes fell no more",
        }
    }

    /// The key that made it stop.
    pub fn key(self) -> &'static str {
        match self {
            Self::Scores => "train.patience_evaluations",
            Self::HeldOut => "train.patience_held_out",
        }
    }
}

/// What keeps a run from training on, whatever its updates: scores or losses that have been no better for too long.
pub(super) fn out_of_patience(
    train: &TrainConfig,
    evaluations_without_gain: u64,
    held_out: Option<HeldOut>,
) -> Option<EarlyStop> {
    let lost = |patience: u64, without_gain: u64| patience > 0 && without_gain >= patience;
    let losses_without_gain = held_out.map_or(0, |lowest| lowest.without_gain);
    if lost(train.patience_evaluations, evaluations_without_gain) {
        Some(EarlyStop::Scores)
    } else if lost(train.patience_held_out, losses_without_gain) {
        Some(EarlyStop::HeldOut)
    } else {
        None
    }
}
