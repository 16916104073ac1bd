//! Keys of `[algorithm.trajectory_transformer]` whose values beside the default are parts of more modern recipes than the authors'.

use serde::{Deserialize, Serialize};

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
