//! [`EnsembleStart`]: the first values of SAC-N's and EDAC's networks, whose two codes differ.

use serde::{Deserialize, Serialize};
use trajformer_models::init::{Fan, StackInit};

/// Whose first values SAC-N and EDAC start from. Both have hidden biases of 0.1 and last layers in ±1e-3 (actor) and ±3e-3 (critics);
/// other weights are uniform in ±1/√width, each code taking the wrong width for one of the networks, whose matrix it has
/// transposed. With observations O and actions A, in the first layer:
///
/// | | authors (snu-mllab/EDAC) | CORL |
/// |---|---|---|
/// | critics | 1/√(O + A) | 1/√(hidden width) |
/// | actor | 1/√(hidden width) | 1/√O |
///
/// On Hopper the authors' critics start 4 times as wide apart, and an ensemble's start is where its members differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnsembleStart {
    /// Initial values of snu-mllab/EDAC @ 198d570 (`lifelong_rl/torch/pytorch_util.py`, `fanin_init`).
    #[default]
    Authors,
    /// Initial values of corl-team/CORL @ eeeeef2 (`algorithms/offline/edac.py`, `VectorizedLinear`).
    Corl,
}

impl EnsembleStart {
    /// Initial values of the actor.
    pub fn actor(self) -> StackInit {
        let fan = match self {
            Self::Authors => Fan::Out,
            Self::Corl => Fan::In,
        };
        StackInit {
            fan,
            ..StackInit::small_last(1e-3)
        }
    }

    /// Initial values of each critic.
    pub fn critics(self) -> StackInit {
        let fan = match self {
            Self::Authors => Fan::In,
            Self::Corl => Fan::Out,
        };
        StackInit {
            fan,
            ..StackInit::small_last(3e-3)
        }
    }
}
