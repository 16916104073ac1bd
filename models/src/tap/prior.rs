//! [`Prior`]: how likely codes are after a state and the codes before them: the authors' `TransformerPrior`.

use candle_core::{DType, Tensor};

use crate::activation::Activation;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::gpt::{AttentionMask, DEVIATION, Gpt, GptConfig, Layout, Parts};
use crate::init::Init;
use crate::kernels::heads_loss::HeadsLoss;
use crate::kernels::switch::Kernel;
use crate::linear::{Linear, lookup};
use crate::network::Network;
use crate::norm::log_softmax;
use crate::params::Scope;
use crate::precision::Precision;

/// Sizes and settings of a [`Prior`].
#[derive(Debug, Clone, PartialEq)]
pub struct PriorConfig {
    /// O, numbers of an observation.
    pub observation_dim: usize,
    /// K, codes.
    pub codes: usize,
    /// Codes of a window: the longest sequence.
    pub window_codes: usize,
    /// Blocks; 4 in the paper.
    pub layers: usize,
    /// Attention heads; 4 in the paper.
    pub heads: usize,
    /// Width of the embedding; 512 in the authors' code.
    pub embedding: usize,
    /// Dropout of embeddings, attention weights and what blocks add; 0.1 in the authors' code.
    pub dropout: f64,
}

/// The network.
#[derive(Debug, Clone)]
pub struct Prior {
    token_embedding: Tensor,    // (K, embedding)
    position_embedding: Tensor, // (1, N, embedding)
    state_embedding: Linear,
    trunk: Gpt,
    head: Tensor, // (K, embedding)
    config: PriorConfig,
}

impl Network for Prior {
    type Config = PriorConfig;

    fn build(config: &PriorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }
}

impl Prior {
    /// Makes the network with the authors' initial values: normal with standard deviation 0.02 for embeddings and weights, zero positions and
    /// biases.
    ///
    /// # Errors
    /// If a size makes no sense or the scope's parameters don't fit.
    pub fn new(config: &PriorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (width, codes) = (config.embedding, config.codes);
        if [config.observation_dim, codes, config.window_codes].contains(&0) {
            let reason = format!("sizes must be positive: {config:?}");
            return Err(Error::Config {
                what: "Prior",
                reason,
            });
        }
        let trunk = GptConfig {
            layers: config.layers,
            heads: config.heads,
            width,
            inner: 4 * width,
            activation: Activation::Gelu,
            attention_dropout: config.dropout,
            residual_dropout: config.dropout,
            layout: Layout::MinGpt,
            precision: Precision::Full,
            parts: Parts::default(),
        };
        let normal = Init::Normal(DEVIATION);
        Ok(Self {
            token_embedding: scope
                .sub("tok_emb")
                .param("weight", (codes, width), normal.fill())?,
            position_embedding: scope.param(
                "pos_emb",
                (1, config.window_codes, width),
                Init::Zeros.fill(),
            )?,
            state_embedding: Linear::with_init(
                config.observation_dim,
                width,
                normal,
                Init::Zeros,
                &mut scope.sub("state_emb"),
            )?,
            trunk: Gpt::new(&trunk, scope)?,
            head: scope
                .sub("head")
                .param("weight", (codes, width), normal.fill())?,
            config: config.clone(),
        })
    }

    /// Its sizes and settings.
    pub fn config(&self) -> &PriorConfig {
        &self.config
    }

    /// Logits (B, N + 1, K) of each code and of the one after the last, for codes (B, N), u32, that follow observations (B, O); N may be 0.
    ///
    /// # Errors
    /// If a shape doesn't fit or there are as many codes as a window has.
    pub fn logits(&self, codes: &Tensor, states: &Tensor) -> Result<Tensor> {
        self.heads(&self.hidden(codes, states, Dropout::off())?)
    }

    /// Mean cross entropy of codes (B, N), u32, that follow observations (B, O), a scalar.
    ///
    /// # Errors
    /// If a shape doesn't fit or there are more codes than a window has.
    pub fn loss(&self, codes: &Tensor, states: &Tensor, dropout: Dropout) -> Result<Tensor> {
        let (batch, count) = codes.dims2()?;
        let before = codes.narrow(1, 0, count - 1)?;
        let hidden = self.hidden(&before, states, dropout)?; // (B, N, embedding)
        let share = 1.0 / (batch * count) as f64;
        if Kernel::HeadsLoss.takes(&hidden) {
            let loss = HeadsLoss {
                targets: codes.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?,
                weights: vec![share; batch * count],
            };
            return Ok(loss.apply(&hidden, &self.head.unsqueeze(0)?)?);
        }
        let log = log_softmax(&self.heads(&hidden)?)?;
        let log = log.gather(&codes.contiguous()?.unsqueeze(2)?, 2)?;
        Ok((log.sum_all()? * -share)?)
    }

    /// Hidden states (B, N + 1, embedding) of N codes, the first one of the state alone.
    fn hidden(&self, codes: &Tensor, states: &Tensor, dropout: Dropout) -> Result<Tensor> {
        let (batch, count) = codes.dims2()?;
        let (width, most) = (self.config.embedding, self.config.window_codes);
        if count + 1 > most {
            let reason = format!("{count} codes before another, the window has {most}");
            return Err(Error::Config {
                what: "Prior",
                reason,
            });
        }
        let table = &self.token_embedding;
        let first = Tensor::zeros((batch, 1, width), table.dtype(), table.device())?;
        let tokens = if count == 0 {
            first
        } else {
            let rows = lookup(table, &codes.contiguous()?.flatten_all()?)?;
            Tensor::cat(&[&first, &rows.reshape((batch, count, width))?], 1)?
        };
        let states = self.state_embedding.forward(states)?.unsqueeze(1)?;
        let positions = if count + 1 == most {
            self.position_embedding.clone()
        } else {
            self.position_embedding.narrow(1, 0, count + 1)?
        };
        let x = tokens.broadcast_add(&positions)?.broadcast_add(&states)?;
        let x = dropout.apply(&x, 0, self.config.dropout)?;
        self.trunk
            .forward(&x, &AttentionMask::default(), dropout, 1)
    }

    fn heads(&self, hidden: &Tensor) -> Result<Tensor> {
        let (batch, time, width) = hidden.dims3()?;
        let logits = hidden
            .reshape((batch * time, width))?
            .matmul(&self.head.t()?)?;
        Ok(logits.reshape((batch, time, self.config.codes))?)
    }
}
