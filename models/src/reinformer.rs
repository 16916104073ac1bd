//! The Reinformer (Zhuang et al. 2024): returns from states, then actions from returns and states.
//!
//! The model of the authors' code (Dragon-Zhuang/Reinformer @ 61eaed9, `model`), with their parameter names and layouts, but for
//! `blocks`, which are their `transformer`.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::linear::{Linear, lookup};
use crate::mlp::Mlp;
use crate::norm::{LayerNorm, softmax};
use crate::params::Scope;

/// Epsilon of every norm: PyTorch's default.
const NORM_EPSILON: f64 = 1e-5;
/// What ln σ is limited to.
const LOG_STD: (f64, f64) = (-20.0, 2.0);

/// Sizes and settings of a [`Reinformer`].
#[derive(Debug, Clone, PartialEq)]
pub struct ReinformerConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// H, width of the embedding.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Rows of the time-step table; time steps must be smaller.
    pub max_timesteps: usize,
    /// Dropout of what attention mixed and of what both halves of a block add.
    pub dropout: f64,
}

/// A batch of contexts; padding, if there is any, is on the right.
#[derive(Debug, Clone)]
pub struct ReturnContexts {
    /// Returns to go (B, T, 1), scaled; at a step whose return is asked for, it is not looked at.
    pub returns: Tensor,
    /// Observations (B, T, O), normalised.
    pub observations: Tensor,
    /// Actions (B, T, A); the one to be predicted is not looked at.
    pub actions: Tensor,
    /// Time steps in the episode (B, T), u32.
    pub timesteps: Tensor,
}

/// What the network predicts at every step.
#[derive(Debug, Clone)]
pub struct ReturnPredictions {
    /// Return to go (B, T, 1), from the state's token.
    pub returns: Tensor,
    /// Mean of the action (B, T, A) in ±1, from the return's token.
    pub means: Tensor,
    /// ln σ of the action (A), the same everywhere.
    pub log_std: Tensor,
}

/// The network: blocks with a norm after each half.
#[derive(Debug, Clone)]
pub struct Reinformer {
    blocks: Vec<Block>,
    embed_norm: LayerNorm,
    embed_timestep: Tensor, // (max_timesteps, H)
    embed_observation: Linear,
    embed_return: Linear,
    embed_action: Linear,
    predict_return: Linear,
    mean: Linear,
    log_std: Tensor, // (A)
    config: ReinformerConfig,
}

#[derive(Debug, Clone)]
struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    mlp: Mlp,
    norm1: LayerNorm,
    norm2: LayerNorm,
}

impl Block {
    fn new(hidden: usize, scope: &mut Scope<'_>) -> Result<Self> {
        let mut attention = scope.sub("attention");
        let mut layer = |name: &str| Linear::new(hidden, hidden, &mut attention.sub(name));
        Ok(Self {
            query: layer("q_net")?,
            key: layer("k_net")?,
            value: layer("v_net")?,
            output: layer("proj_net")?,
            mlp: Mlp::new(
                &[hidden, 4 * hidden, hidden],
                Activation::Gelu,
                &mut scope.sub("mlp"),
            )?,
            norm1: LayerNorm::new(hidden, NORM_EPSILON, &mut scope.sub("ln1"))?,
            norm2: LayerNorm::new(hidden, NORM_EPSILON, &mut scope.sub("ln2"))?,
        })
    }

    /// (B, L, H) -> (B, L, H); `hidden_keys` (L, L) is large and negative where a key is hidden.
    fn forward(
        &self,
        x: &Tensor,
        hidden_keys: &Tensor,
        heads: usize,
        (dropout, site, rate): (Dropout, u64, f64),
    ) -> Result<Tensor> {
        let (batch, length, width) = x.dims3()?;
        let split = |x: Tensor| -> Result<Tensor> {
            let x = x.reshape((batch, length, heads, width / heads))?;
            Ok(x.transpose(1, 2)?.contiguous()?) // (B, heads, L, H / heads)
        };
        let (query, key) = (split(self.query.forward(x)?)?, split(self.key.forward(x)?)?);
        let value = split(self.value.forward(x)?)?;
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let scores = (query.matmul(&key.t()?)? * scale)?; // (B, heads, L, L)
        let weights = softmax(&scores.broadcast_add(hidden_keys)?)?;
        let mixed = dropout.apply(&weights.matmul(&value)?, site, rate)?;
        let mixed = mixed
            .transpose(1, 2)?
            .contiguous()?
            .reshape((batch, length, width))?;
        let added = dropout.apply(&self.output.forward(&mixed)?, site + 1, rate)?;
        let x = self.norm1.forward(&(x + added)?)?;
        let added = dropout.apply(&self.mlp.forward(&x)?, site + 2, rate)?;
        self.norm2.forward(&(x + added)?)
    }
}

impl Reinformer {
    /// Makes the network with the authors' initial values: PyTorch's defaults (N(0, 1) for the time-step table), and σ = 1. Their
    /// head for next states, which nothing trains, is there for the layout's sake.
    ///
    /// # Errors
    /// If a size makes no sense or the scope's parameters don't fit.
    pub fn new(config: &ReinformerConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (o, a, hidden) = (config.observation_dim, config.action_dim, config.hidden);
        let empty = [o, a, hidden, config.heads, config.max_timesteps].contains(&0);
        if empty || !hidden.is_multiple_of(config.heads) {
            let reason = format!("sizes must be positive and heads divide the width: {config:?}");
            return Err(Error::Config {
                what: "Reinformer",
                reason,
            });
        }
        let mut numbered = scope.sub("blocks");
        let blocks = (0..config.layers).map(|layer| Block::new(hidden, &mut numbered.sub(layer)));
        let blocks = blocks.collect::<Result<_>>()?;
        let embed_norm = LayerNorm::new(hidden, NORM_EPSILON, &mut scope.sub("embed_ln"))?;
        let table = (config.max_timesteps, hidden);
        let embed_timestep =
            scope
                .sub("embed_timestep")
                .param("weight", table, Init::Normal(1.0).fill())?;
        let embed_observation = Linear::new(o, hidden, &mut scope.sub("embed_state"))?;
        let embed_return = Linear::new(1, hidden, &mut scope.sub("embed_rtg"))?;
        let embed_action = Linear::new(a, hidden, &mut scope.sub("embed_action"))?;
        let predict_return = Linear::new(hidden, 1, &mut scope.sub("predict_rtg"))?;
        let mut actor = scope.sub("predict_action");
        let mean = Linear::new(hidden, a, &mut actor.sub("mu"))?;
        let log_std = actor.param("log_std", a, Init::Zeros.fill())?;
        Linear::new(hidden, o, &mut scope.sub("predict_state"))?;
        Ok(Self {
            blocks,
            embed_norm,
            embed_timestep,
            embed_observation,
            embed_return,
            embed_action,
            predict_return,
            mean,
            log_std,
            config: config.clone(),
        })
    }

    /// Its sizes and settings.
    pub fn config(&self) -> &ReinformerConfig {
        &self.config
    }

    /// All predictions.
    ///
    /// # Errors
    /// If a shape doesn't fit or a time step is too large.
    pub fn forward(
        &self,
        contexts: &ReturnContexts,
        dropout: Dropout,
    ) -> Result<ReturnPredictions> {
        let (batch, time, _) = contexts.observations.dims3()?;
        let (hidden, length) = (self.config.hidden, 3 * time);
        let times = lookup(&self.embed_timestep, &contexts.timesteps.flatten_all()?)?;
        let times = times.reshape((batch, time, hidden))?;
        let tokens = [
            (self.embed_observation.forward(&contexts.observations)? + &times)?,
            (self.embed_return.forward(&contexts.returns)? + &times)?,
            (self.embed_action.forward(&contexts.actions)? + &times)?,
        ];
        let x = Tensor::stack(&tokens, 2)?.reshape((batch, length, hidden))?;
        let mut x = self.embed_norm.forward(&x)?;
        let later = (0..length)
            .flat_map(|row| (0..length).map(move |key| if key > row { -1e9f64 } else { 0.0 }));
        let later = Tensor::from_iter(later, x.device())?
            .reshape((length, length))?
            .to_dtype(x.dtype())?;
        for (number, block) in self.blocks.iter().enumerate() {
            let sites = (dropout, 3 * number as u64, self.config.dropout);
            x = block.forward(&x, &later, self.config.heads, sites)?;
        }
        let x = x.reshape((batch, time, 3, hidden))?;
        let token = |index: usize| x.narrow(2, index, 1)?.squeeze(2)?.contiguous();
        Ok(ReturnPredictions {
            returns: self.predict_return.forward(&token(0)?)?,
            means: self.mean.forward(&token(1)?)?.tanh()?,
            log_std: self.log_std.clamp(LOG_STD.0, LOG_STD.1)?,
        })
    }
}
