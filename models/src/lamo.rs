//! LaMo (Shi et al. 2023): a Decision Transformer whose trunk is a language model, frozen but for low-rank
//! additions to its attention.
//!
//! The model of the authors' code (github.com/srzer/LaMo-2023 at 3e4fcc8, experiment-d4rl/decision_transformer/models)
//! with `--lora --mlp_embedding --adapt_mode --adapt_embed`, under its parameter names; the trunk is called
//! `transformer`. Apart from a [`DecisionTransformer`](crate::decision_transformer::DecisionTransformer) it has
//! two-layer embeddings and a two-layer head without tanh, adds the time after the norm, and knows no position but it.
//!
//! With a table of tokens it predicts text too ([`Lamo::text_loss`]), through the same trunk and the same additions.
//!
//! Dropout in front of the low-rank branch (0.1 there) is left out: the branch is added to the weights, so that
//! one product does both.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::decision_transformer::Contexts;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::gpt::{
    AttentionMask, AttentionWeights, DEVIATION, Gpt, GptConfig, Layout, NORM_EPSILON, Parts,
};
use crate::init::Init;
use crate::kernels::heads_loss::HeadsLoss;
use crate::kernels::switch::Kernel;
use crate::linear::{Linear, lookup};
use crate::norm::{LayerNorm, log_softmax};
use crate::params::{Params, Scope};

/// Name of the trunk in parameter names.
pub const TRUNK: &str = "transformer";

/// Sizes and settings of a [`Lamo`].
#[derive(Debug, Clone, PartialEq)]
pub struct LamoConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// The trunk, of layout [`Layout::Gpt2`]; its width is that of the tokens (H).
    pub trunk: GptConfig,
    /// Rows of the time-step table; time steps must be smaller.
    pub max_timesteps: usize,
    /// Dropout of the embedded tokens; GPT-2's 0.1.
    pub embedding_dropout: f64,
    /// r, rank of what is added to queries, keys and values each; 16 in the authors' code.
    pub rank: usize,
    /// What is added is scaled by alpha / r; alpha is 32 in the authors' code.
    pub alpha: f64,
    /// V, rows of the table of tokens for [`Lamo::text_loss`]; 0: none. 50,257 in GPT-2.
    pub vocabulary: usize,
}

/// Linear, GELU, linear, and around the last two a shortcut: what the authors embed with.
#[derive(Debug, Clone)]
struct ResidualBlock {
    fc1: Linear,
    fc2: Linear,
}

impl ResidualBlock {
    fn new(inputs: usize, outputs: usize, scope: &mut Scope<'_>) -> Result<Self> {
        Ok(Self {
            fc1: Linear::new(inputs, outputs, &mut scope.sub("fc1"))?,
            fc2: Linear::new(outputs, outputs, &mut scope.sub("fc2"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.fc1.forward(x)?;
        Ok((self.fc2.forward(&Activation::Gelu.forward(&hidden)?)? + hidden)?)
    }
}

/// What is added to one block's weights of queries, keys and values.
#[derive(Debug, Clone)]
struct Lora {
    a: Tensor, // (3 r, H)
    b: Tensor, // (3 H, r)
}

impl Lora {
    /// PyTorch's default for A, zeros for B: nothing is added at first.
    fn new(width: usize, rank: usize, scope: &mut Scope<'_>) -> Result<Self> {
        Ok(Self {
            a: scope.param("lora_A", (3 * rank, width), Init::Linear(width).fill())?,
            b: scope.param("lora_B", (3 * width, rank), Init::Zeros.fill())?,
        })
    }

    /// (H, 3 H): for each of queries, keys and values Aᵀ Bᵀ.
    fn addition(&self) -> Result<Tensor> {
        let (width, rank) = (self.a.dim(1)?, self.b.dim(1)?);
        let part = |i: usize| -> Result<Tensor> {
            let (a, b) = (
                self.a.narrow(0, i * rank, rank)?,
                self.b.narrow(0, i * width, width)?,
            );
            Ok(a.t()?.contiguous()?.matmul(&b.t()?.contiguous()?)?) // (H, H)
        };
        Ok(Tensor::cat(&[part(0)?, part(1)?, part(2)?], 1)?)
    }
}

/// The network.
#[derive(Debug, Clone)]
pub struct Lamo {
    embed_timestep: Tensor, // (max_timesteps, H)
    embed_return: ResidualBlock,
    embed_observation: ResidualBlock,
    embed_action: ResidualBlock,
    embed_norm: LayerNorm,
    trunk: Gpt,
    additions: Vec<Lora>,
    predict: [Linear; 2],
    token_embedding: Option<Tensor>, // (V, H)
    config: LamoConfig,
}

impl Lamo {
    /// Makes the network with a random trunk (GPT-2's own values: [`Gpt::with_small_outputs`]) and PyTorch's defaults elsewhere; N(0, 1) for
    /// the time-step table.
    ///
    /// # Errors
    /// If a size makes no sense or the scope's parameters don't fit.
    pub fn new(config: &LamoConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let hidden = config.trunk.width;
        let sizes = [
            config.observation_dim,
            config.action_dim,
            config.rank,
            config.max_timesteps,
        ];
        if sizes.contains(&0) || config.trunk.layout != Layout::Gpt2 {
            let reason = format!("sizes must be positive, and the trunk GPT-2's: {config:?}");
            return Err(Error::Config {
                what: "Lamo",
                reason,
            });
        }
        let table = (config.max_timesteps, hidden);
        let embed_timestep =
            scope
                .sub("embed_timestep")
                .param("weight", table, Init::Normal(1.0).fill())?;
        let block = |name: &str, inputs: usize, scope: &mut Scope<'_>| {
            ResidualBlock::new(inputs, hidden, &mut scope.sub(name))
        };
        let embed_return = block("embed_return", 1, scope)?;
        let embed_observation = block("embed_state", config.observation_dim, scope)?;
        let embed_action = block("embed_action", config.action_dim, scope)?;
        let embed_norm = LayerNorm::new(hidden, NORM_EPSILON, &mut scope.sub("embed_ln"))?;
        let trunk = Gpt::with_small_outputs(&config.trunk, &mut scope.sub(TRUNK))?;
        let mut additions = Vec::with_capacity(config.trunk.layers);
        for i in 0..config.trunk.layers {
            let mut trunk = scope.sub(TRUNK);
            let (mut list, rank) = (trunk.sub("h"), config.rank);
            let (mut block, width) = (list.sub(i), hidden);
            additions.push(Lora::new(
                width,
                rank,
                &mut block.sub("attn").sub("c_attn"),
            )?);
        }
        let mut head = scope.sub("predict_action");
        let predict = [
            Linear::new(hidden, hidden, &mut head.sub("fc1"))?,
            Linear::new(hidden, config.action_dim, &mut head.sub("fc2"))?,
        ];
        let table = (config.vocabulary, hidden);
        let token_embedding = match config.vocabulary {
            0 => None,
            _ => Some(scope.sub(TRUNK).sub("wte").frozen(
                "weight",
                table,
                Init::Normal(DEVIATION).fill(),
            )?),
        };
        Ok(Self {
            embed_timestep,
            embed_return,
            embed_observation,
            embed_action,
            embed_norm,
            trunk,
            additions,
            predict,
            token_embedding,
            config: config.clone(),
        })
    }

    /// Freezes the trunk, except the biases of queries, keys and values and what is added to their weights: the
    /// authors' `mark_only_lora_as_trainable(bias="lora_only")`.
    pub fn freeze_trunk(params: &mut Params) {
        let trains = |name: &str| {
            name.ends_with("attn.c_attn.bias")
                || name.ends_with("lora_A")
                || name.ends_with("lora_B")
        };
        params.freeze(|name| name.starts_with(TRUNK) && !trains(name));
    }

    /// The network for acting: what is added to the trunk is added now, once for all, and its parameters are read now
    /// ([`Gpt::fixed`]).
    ///
    /// # Errors
    /// If the device fails.
    pub fn fixed(mut self) -> Result<Self> {
        self.trunk = self.adapted()?.fixed()?;
        self.additions.clear();
        Ok(self)
    }

    /// Its sizes and settings.
    pub fn config(&self) -> &LamoConfig {
        &self.config
    }

    /// Predicted actions (B, T, A), not bounded.
    ///
    /// # Errors
    /// If a shape doesn't fit, a time step is too large, or the contexts have instructions, which this network does not read.
    pub fn forward(&self, contexts: &Contexts, dropout: Dropout) -> Result<Tensor> {
        if contexts.instructions.is_some() {
            return Err(Error::Config {
                what: "Lamo",
                reason: "it was given instructions, and reads none".to_owned(),
            });
        }
        let (batch, time, _) = contexts.observations.dims3()?;
        let hidden = self.config.trunk.width;
        let tokens = [
            self.embed_return.forward(&contexts.returns)?,
            self.embed_observation.forward(&contexts.observations)?,
            self.embed_action.forward(&contexts.actions)?,
        ];
        let x = Tensor::stack(&tokens, 2)?.reshape((batch, 3 * time, hidden))?;
        let times = lookup(&self.embed_timestep, &contexts.timesteps.flatten_all()?)?;
        let times = times.reshape((batch, time, 1, hidden))?;
        let times = times.broadcast_as((batch, time, 3, hidden))?.contiguous()?;
        let x = (self.embed_norm.forward(&x)? + times.reshape((batch, 3 * time, hidden))?)?;
        let x = dropout.apply(&x, 0, self.config.embedding_dropout)?;
        let valid = contexts.mask.unsqueeze(2)?.broadcast_as((batch, time, 3))?;
        let mask = AttentionMask {
            hidden_period: None,
            valid: Some(valid.contiguous()?.reshape((batch, 3 * time))?),
        };
        let x = self.adapted()?.forward(&x, &mask, dropout, 1)?;
        let at_state = x.reshape((batch, time, 3, hidden))?;
        let at_state = at_state.narrow(2, 1, 1)?.squeeze(2)?.contiguous()?; // (B, T, H)
        let [first, last] = &self.predict;
        last.forward(&Activation::Gelu.forward(&first.forward(&at_state)?)?)
    }

    /// The loss on text, a scalar: cross entropy of the tokens (B, T), u32, each after those before it, the mean over the
    /// B (T - 1) that have one. Tokens are embedded and predicted with the same frozen table.
    ///
    /// As in the authors' code tokens have no positions: their trunk adds none, to text as little as to trajectories.
    ///
    /// # Errors
    /// If there is no table, T is below 2, or a token is not in the table.
    pub fn text_loss(&self, tokens: &Tensor, dropout: Dropout) -> Result<Tensor> {
        let (batch, time) = tokens.dims2()?;
        let Some(table) = self.token_embedding.as_ref().filter(|_| time > 1) else {
            let reason = format!("no table of tokens for text, or no text: {time} tokens");
            return Err(Error::Config {
                what: "Lamo",
                reason,
            });
        };
        let hidden = self.config.trunk.width;
        // Behind the sites of trajectories, of which the trunk has three in each block.
        let site = 1 + 3 * self.config.trunk.layers as u64;
        // The table is frozen, so that it has no gradient, which would be slow on a GPU.
        let x = table.index_select(&tokens.flatten_all()?, 0)?;
        let x = x.reshape((batch, time, hidden))?;
        let x = dropout.apply(&x, site, self.config.embedding_dropout)?;
        let x = self
            .adapted()?
            .forward(&x, &AttentionMask::default(), dropout, site + 1)?; // (B, T, H)
        let x = x.narrow(1, 0, time - 1)?.contiguous()?;
        let targets = tokens.narrow(1, 1, time - 1)?.contiguous()?; // (B, T - 1)
        let count = batch * (time - 1);
        if Kernel::HeadsLoss.takes(&x) {
            let loss = HeadsLoss {
                targets: targets.flatten_all()?.to_vec1()?,
                weights: vec![1.0 / count as f64; count],
            };
            return Ok(loss.apply(&x, &table.unsqueeze(0)?)?);
        }
        let logits = x.reshape((count, hidden))?.matmul(&table.t()?)?; // (B (T - 1), V)
        let own = log_softmax(&logits)?.gather(&targets.reshape((count, 1))?, 1)?;
        Ok(own.mean_all()?.neg()?)
    }

    /// The trunk with what is added to its attention's weights.
    fn adapted(&self) -> Result<Gpt> {
        let scale = self.config.alpha / self.config.rank as f64;
        let mut trunk = self.trunk.clone();
        for (block, addition) in trunk.blocks.list.iter_mut().zip(&self.additions) {
            if let AttentionWeights::Gpt2 {
                query_key_value, ..
            } = &mut block.attention
            {
                let added = (addition.addition()? * scale)?;
                query_key_value.weight = (&query_key_value.weight + added)?;
            }
        }
        Ok(trunk)
    }
}

/// The configuration of a trunk like GPT-2's of these sizes, without dropout.
pub fn gpt2_trunk(layers: usize, heads: usize, width: usize) -> GptConfig {
    GptConfig {
        layers,
        heads,
        width,
        inner: 4 * width,
        activation: Activation::GeluTanh,
        attention_dropout: 0.0,
        residual_dropout: 0.0,
        layout: Layout::Gpt2,
        precision: crate::precision::Precision::Full,
        parts: Parts::default(),
    }
}
