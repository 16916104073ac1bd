//! Decision Transformer: reinforcement learning as sequence modelling, conditioned on returns.
//!
//! Chen et al. 2021, <https://arxiv.org/abs/2106.01345>; authors' code kzl/decision-transformer @
//! e2d82e6 (`gym/`). A causal transformer reads (return-to-go, state, action) triples and is
//! trained to give each action:
//!
//! ```text
//! L = mean over valid steps of (tanh(W h_s) - a)²
//! ```
//!
//! Acting starts from a target return; each reward is taken off it.
//!
//! Deviations: actions are mapped to ±1 (the same for D4RL's locomotion). When acting, steps before
//! the start are left out instead of padded and masked, which gives the same actions.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::decision_transformer::{
    DecisionTransformer as Network, DecisionTransformerConfig as Sizes,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, Schedule};
use trajformer_models::params::{Params, StateVisitor};

use super::{Algorithm, Build};
use crate::data::return_sequences::{Padding, ReturnBatch, ReturnOptions, ReturnSequences};
use crate::data::{ActionBounds, Normalizer};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::policy::{EpisodeStart, Policy};
use crate::rng::Rng;

/// kzl's addition to the deviation of observations.
const NORMALIZATION_EPSILON: f64 = 1e-6;

/// `[algorithm.decision_transformer]`. Defaults: the authors' gym settings (paper, table 8).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionTransformerConfig {
    /// Context K in steps.
    pub context_steps: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width.
    pub embedding: usize,
    /// Dropout of attention, residual branches and embeddings, in [0, 1).
    pub dropout: f64,
    /// Stretches in a batch.
    pub batch_size: usize,
    /// AdamW's rate after the warm-up.
    pub learning_rate: f64,
    /// Decoupled weight decay, of every parameter.
    pub weight_decay: f64,
    /// Updates of linear warm-up.
    pub warmup_updates: u64,
    /// Gradients are clipped to this norm.
    pub clip_norm: f64,
    /// Returns are divided by this.
    pub return_scale: f64,
    /// Returns to aim at, in the environment's units; each is evaluated, the first is the result.
    /// Empty: the best return in the data.
    pub target_returns: Vec<f32>,
    /// Rows of the time-step embedding; later steps count as the last.
    pub max_episode_steps: usize,
    /// What fills stretches that are shorter than the context, in training.
    pub padding: Padding,
}

impl Default for DecisionTransformerConfig {
    fn default() -> Self {
        Self {
            context_steps: 20,
            layers: 3,
            heads: 1,
            embedding: 128,
            dropout: 0.1,
            batch_size: 64,
            learning_rate: 1e-4,
            weight_decay: 1e-4,
            warmup_updates: 10_000,
            clip_norm: 0.25,
            return_scale: 1000.0,
            target_returns: Vec::new(),
            max_episode_steps: 1000,
            padding: Padding::Left,
        }
    }
}
