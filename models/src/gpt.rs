//! The causal transformer trunk that the Trajectory Transformer and the Decision Transformer share:
//! pre-norm blocks `x += attention(norm(x)); x += mlp(norm(x))` and a last norm.

use candle_core::{D, Tensor};

use crate::activation::Activation;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::linear::{Conv1D, Linear};
use crate::norm::{LayerNorm, softmax};
use crate::params::Scope;

/// Whose parameter names and weight layouts a trunk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// minGPT: `blocks.I.{ln1,ln2}`, `blocks.I.attn.{query,key,value,proj}`, `blocks.I.mlp.{0,2}`
    /// as (out, in), `ln_f`.
    MinGpt,
    /// GPT-2 in `transformers`: `h.I.{ln_1,ln_2}`, `h.I.attn.{c_attn,c_proj}`,
    /// `h.I.mlp.{c_fc,c_proj}` as (in, out), `ln_f`.
    Gpt2,
}

/// Sizes and settings of a [`Gpt`].
#[derive(Debug, Clone, PartialEq)]
pub struct GptConfig {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// D, width of the embedding.
    pub width: usize,
    /// Width of the hidden layer of each block's MLP.
    pub inner: usize,
    /// Its activation.
    pub activation: Activation,
    /// Dropout of attention weights.
    pub attention_dropout: f64,
    /// Dropout of what a block adds to the residual stream.
    pub residual_dropout: f64,
    /// Parameter names and layouts.
    pub layout: Layout,
}

/// What attention must not look at, beside later positions.
#[derive(Debug, Clone, Default)]
pub struct AttentionMask {
    /// Hides every column `period - 1`, `2 period - 1`, ... from every row, its own included: the
    /// value tokens of the Trajectory Transformer.
    pub hidden_period: Option<usize>,
    /// Keys that exist, (B, T) with 0 for padding. A row that sees no key gets zeros.
    pub valid: Option<Tensor>,
}

/// A causal transformer trunk.
#[derive(Debug, Clone)]
pub struct Gpt {
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: LayerNorm,
    pub(crate) config: GptConfig,
}

/// One block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) norm1: LayerNorm,
    pub(crate) attention: AttentionWeights,
    pub(crate) norm2: LayerNorm,
    pub(crate) mlp: MlpWeights,
}

/// Weights of self-attention, in one of two layouts.
#[derive(Debug, Clone)]
pub(crate) enum AttentionWeights {
    MinGpt {
        query: Linear,
        key: Linear,
        value: Linear,
        output: Linear,
    },
    Gpt2 {
        query_key_value: Conv1D,
        output: Conv1D,
    },
}

/// Weights of a block's MLP, in one of two layouts.
#[derive(Debug, Clone)]
pub(crate) enum MlpWeights {
    MinGpt { hidden: Linear, output: Linear },
    Gpt2 { hidden: Conv1D, output: Conv1D },
}

/// Epsilon of every norm: PyTorch's default, whatever configuration files say.
pub(crate) const NORM_EPSILON: f64 = 1e-5;
/// Standard deviation of initial weights: GPT-2's and minGPT's.
pub(crate) const DEVIATION: f64 = 0.02;

impl Gpt {
    /// Normal weights with deviation 0.02, zero biases.
    ///
    /// # Errors
    /// If the sizes don't fit each other or the scope's parameters don't fit.
    pub fn new(config: &GptConfig, scope: &mut Scope<'_>) -> Result<Self> {
        if config.heads == 0 || config.width == 0 || !config.width.is_multiple_of(config.heads) {
            let (width, heads) = (config.width, config.heads);
            let reason = format!("the width {width} must be a positive multiple of heads {heads}");
            return Err(Error::Config {
                what: "Gpt",
                reason,
            });
        }
        let list = match config.layout {
            Layout::MinGpt => "blocks",
            Layout::Gpt2 => "h",
        };
        let mut blocks = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            blocks.push(Block::new(config, &mut scope.sub(list).sub(i))?);
        }
        let norm = LayerNorm::new(config.width, NORM_EPSILON, &mut scope.sub("ln_f"))?;
        Ok(Self {
            blocks,
            norm,
            config: config.clone(),
        })
    }

    /// (B, T, D) -> (B, T, D), through all blocks and the last norm.
    ///
    /// Uses dropout sites `first_site` to `first_site + 3 layers - 1`.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(
        &self,
        x: &Tensor,
        mask: &AttentionMask,
        dropout: Dropout,
        first_site: u64,
    ) -> Result<Tensor> {
        let allowed = mask.allowed(x)?;
        let mut x = x.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            let site = first_site + 3 * i as u64;
            x = block.forward(&x, &allowed, &self.config, dropout, site)?;
        }
        self.norm.forward(&x)
    }
}

impl AttentionMask {
    /// 1 where row i may look at column j, else 0: (1, 1, T, T) or (B, 1, T, T), x's type.
    fn allowed(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, time, _) = x.dims3()?;
        let mut values = vec![0f32; time * time];
        for (row, columns) in values.chunks_mut(time.max(1)).enumerate() {
            for (column, value) in columns.iter_mut().enumerate().take(row + 1) {
                *value = if self.hides(column) { 0.0 } else { 1.0 };
            }
        }
        let causal = Tensor::from_vec(values, (1, 1, time, time), x.device())?;
        let causal = causal.to_dtype(x.dtype())?;
        match &self.valid {
            None => Ok(causal),
            Some(valid) => {
                let valid = valid
                    .ne(0f64)?
                    .to_dtype(x.dtype())?
                    .reshape((batch, 1, 1, time))?;
                Ok(causal.broadcast_mul(&valid)?)
            }
        }
    }

    /// Whether a column is hidden from every row.
    pub(crate) fn hides(&self, column: usize) -> bool {
        self.hidden_period
            .is_some_and(|period| column % period == period - 1)
    }
}

impl Block {
    fn new(config: &GptConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (width, inner) = (config.width, config.inner);
        let linear = |inputs, outputs, scope: &mut Scope<'_>| {
            Linear::with_init(inputs, outputs, Init::Normal(DEVIATION), Init::Zeros, scope)
        };
        let conv =
            |inputs, outputs, scope: &mut Scope<'_>| Conv1D::new(inputs, outputs, DEVIATION, scope);
        match config.layout {
            Layout::MinGpt => Ok(Self {
                norm1: LayerNorm::new(width, NORM_EPSILON, &mut scope.sub("ln1"))?,
                norm2: LayerNorm::new(width, NORM_EPSILON, &mut scope.sub("ln2"))?,
                attention: AttentionWeights::MinGpt {
                    key: linear(width, width, &mut scope.sub("attn").sub("key"))?,
                    query: linear(width, width, &mut scope.sub("attn").sub("query"))?,
                    value: linear(width, width, &mut scope.sub("attn").sub("value"))?,
                    output: linear(width, width, &mut scope.sub("attn").sub("proj"))?,
                },
                mlp: MlpWeights::MinGpt {
                    hidden: linear(width, inner, &mut scope.sub("mlp").sub(0))?,
                    output: linear(inner, width, &mut scope.sub("mlp").sub(2))?,
                },
            }),
            Layout::Gpt2 => Ok(Self {
                norm1: LayerNorm::new(width, NORM_EPSILON, &mut scope.sub("ln_1"))?,
                attention: AttentionWeights::Gpt2 {
                    query_key_value: conv(width, 3 * width, &mut scope.sub("attn").sub("c_attn"))?,
                    output: conv(width, width, &mut scope.sub("attn").sub("c_proj"))?,
                },
                norm2: LayerNorm::new(width, NORM_EPSILON, &mut scope.sub("ln_2"))?,
                mlp: MlpWeights::Gpt2 {
                    hidden: conv(width, inner, &mut scope.sub("mlp").sub("c_fc"))?,
                    output: conv(inner, width, &mut scope.sub("mlp").sub("c_proj"))?,
                },
            }),
        }
    }

    fn forward(
        &self,
        x: &Tensor,
        allowed: &Tensor,
        config: &GptConfig,
        dropout: Dropout,
        site: u64,
    ) -> Result<Tensor> {
        let attended = self.attend(&self.norm1.forward(x)?, allowed, config, dropout, site)?;
        let x = (x + dropout.apply(&attended, site + 1, config.residual_dropout)?)?;
        let normal = self.norm2.forward(&x)?;
        let added = match &self.mlp {
            MlpWeights::MinGpt { hidden, output } => {
                output.forward(&config.activation.forward(&hidden.forward(&normal)?)?)?
            }
            MlpWeights::Gpt2 { hidden, output } => {
                output.forward(&config.activation.forward(&hidden.forward(&normal)?)?)?
            }
        };
        Ok((x + dropout.apply(&added, site + 2, config.residual_dropout)?)?)
    }

    fn attend(
        &self,
        x: &Tensor,
        allowed: &Tensor,
        config: &GptConfig,
        dropout: Dropout,
        site: u64,
    ) -> Result<Tensor> {
        let (batch, time, width) = x.dims3()?;
        let split = |x: &Tensor| -> Result<Tensor> {
            let x = x.reshape((batch, time, config.heads, width / config.heads))?;
            Ok(x.transpose(1, 2)?.contiguous()?) // (B, heads, T, D / heads)
        };
        let (query, key, value) = match &self.attention {
            AttentionWeights::MinGpt {
                query, key, value, ..
            } => (query.forward(x)?, key.forward(x)?, value.forward(x)?),
            AttentionWeights::Gpt2 {
                query_key_value, ..
            } => {
                let all = query_key_value.forward(x)?; // (B, T, 3 D)
                let part = |i: usize| all.narrow(D::Minus1, i * width, width);
                (part(0)?, part(1)?, part(2)?)
            }
        };
        let scale = 1.0 / ((width / config.heads) as f64).sqrt();
        let scores = (split(&query)?.matmul(&split(&key)?.t()?)? * scale)?; // (B, heads, T, T)
        let hidden = ((allowed - 1.0)? * 1e9)?;
        // The product makes rows that see nothing zero; elsewhere hidden weights are 0 already.
        let weights = softmax(&scores.broadcast_add(&hidden)?)?.broadcast_mul(allowed)?;
        let weights = dropout.apply(&weights, site, config.attention_dropout)?;
        let mixed = weights.matmul(&split(&value)?)?; // (B, heads, T, D / heads)
        let mixed = mixed.transpose(1, 2)?.reshape((batch, time, width))?;
        match &self.attention {
            AttentionWeights::MinGpt { output, .. } => output.forward(&mixed),
            AttentionWeights::Gpt2 { output, .. } => output.forward(&mixed),
        }
    }
}
