//! Keys of `[algorithm.trajectory_transformer]` whose values beside the default are parts of more modern recipes than the authors'.

use serde::{Deserialize, Serialize};
use serde_json::json;
use trajformer_models::activation::Activation;
use trajformer_models::gpt::{HiddenLayer, Parts, Scores};
use trajformer_models::norm::NormKind;
use trajformer_models::trajectory_transformer::{Positions, Recipe};

use super::TrajectoryTransformerConfig;

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateSchedule {
    /// Along a cosine to a tenth at `decay_updates`, where it stays.
    #[default]
    Cosine,
    /// Along a cosine that climbs again after `decay_updates`, as the authors' code does.
    CosineUnclamped,
    /// Not at all.
    Constant,
    /// Not until the last `decay_fraction` of the updates on the data, then along a line to 0: `"warmup_stable_decay"`.
    WarmupStableDecay,
}

/// What takes the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// AdamW, as the authors.
    #[default]
    Adamw,
    /// Muon for the matrices of the blocks, AdamW for embeddings, norms, biases and heads.
    Muon,
}

/// The hidden layers of the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MlpKind {
    /// `"gelu"`, the authors'.
    #[default]
    Gelu,
    /// `"squared_relu"`: max(x, 0)².
    SquaredRelu,
    /// `"swiglu"`: gated by SiLU, a third of the width less, so that there are as many weights.
    Swiglu,
}

/// The norms of the blocks, and the one after the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormName {
    /// `"layer"`, the authors'.
    #[default]
    Layer,
    /// `"rms"`: division by the root of the mean square, then a learned scale.
    Rms,
}

/// What is added to a token's embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionKind {
    /// `"learned"`, the authors': a row for each token of the window.
    #[default]
    Learned,
    /// `"step_and_dimension"`: a row for the transition's number in the window plus one for the token's place in the transition.
    StepAndDimension,
}

impl TrajectoryTransformerConfig {
    /// Keys of the network's parts that are not the authors', with their values.
    pub(super) fn parts_of_its_own(&self) -> serde_json::Map<String, serde_json::Value> {
        let authors = Self::default();
        let parts = |config: &Self| {
            [
                ("mlp", json!(config.mlp)),
                ("norm", json!(config.norm)),
                ("qk_norm", json!(config.qk_norm)),
                ("positions", json!(config.positions)),
                ("tied_heads", json!(config.tied_heads)),
            ]
        };
        let pairs = parts(self).into_iter().zip(parts(&authors));
        let own = pairs.filter(|(own, authors)| own != authors);
        own.map(|((key, value), _)| (key.to_owned(), value))
            .collect()
    }

    /// Activation of the blocks' hidden layers.
    pub(super) fn activation(&self) -> Activation {
        match self.mlp {
            // SwiGLU has its own and takes no other.
            MlpKind::Gelu | MlpKind::Swiglu => Activation::Gelu,
            MlpKind::SquaredRelu => Activation::SquaredRelu,
        }
    }

    /// Parts of the network that may be others than the authors'.
    pub(super) fn recipe(&self) -> Recipe {
        Recipe {
            parts: Parts {
                norm: match self.norm {
                    NormName::Layer => NormKind::Layer,
                    NormName::Rms => NormKind::Rms,
                },
                scores: if self.qk_norm {
                    Scores::Cosine
                } else {
                    Scores::Plain
                },
                hidden: match self.mlp {
                    MlpKind::Gelu | MlpKind::SquaredRelu => HiddenLayer::Plain,
                    MlpKind::Swiglu => HiddenLayer::SwiGlu,
                },
            },
            positions: match self.positions {
                PositionKind::Learned => Positions::Learned,
                PositionKind::StepAndDimension => Positions::StepAndDimension,
            },
            tied_heads: self.tied_heads,
        }
    }
}
