//! The causal transformer trunk that the Trajectory Transformer and the Decision Transformer share:
//! pre-norm blocks `x += attention(norm(x)); x += mlp(norm(x))` and a last norm.

pub mod blocks;
mod parts;

use blocks::Blocks;
use candle_core::{D, Tensor};

use crate::activation::Activation;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::kernels::attention_block::AttentionBlock;
use crate::kernels::mlp_block::MlpBlock;
use crate::kernels::packed::pack;
use crate::linear::{Conv1D, Linear};
use crate::norm::{Norm, softmax, unit_mean_square};
use crate::params::Scope;
use crate::precision::Precision;
pub(crate) use parts::silu;
pub use parts::{HiddenLayer, Parts, Scores};

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
    /// Precision of the blocks' matrix products.
    pub precision: Precision,
    /// What takes the place of GPT-2's parts, for [`Layout::MinGpt`] alone.
    pub parts: Parts,
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
    pub(crate) blocks: Blocks,
    pub(crate) norm: Norm,
}

/// One block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) norm1: Norm,
    pub(crate) attention: AttentionWeights,
    pub(crate) norm2: Norm,
    pub(crate) mlp: MlpWeights,
    /// Parameters of both halves as the fused operations take them, where they were packed once for all.
    packed: Option<[Tensor; 2]>,
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
    MinGpt {
        hidden: Linear,
        /// Of [`HiddenLayer::SwiGlu`].
        gate: Option<Linear>,
        output: Linear,
    },
    Gpt2 {
        hidden: Conv1D,
        output: Conv1D,
    },
}

/// Epsilon of every norm: PyTorch's default, whatever configuration files say.
pub(crate) const NORM_EPSILON: f64 = 1e-5;
/// Standard deviation of initial weights: GPT-2's and minGPT's.
pub(crate) const DEVIATION: f64 = 0.02;

impl Gpt {
    /// Normal weights with standard deviation 0.02, zero biases.
    ///
    /// # Errors
    /// If the sizes don't fit each other or the scope's parameters don't fit.
    pub fn new(config: &GptConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::with_output_deviation(config, DEVIATION, scope)
    }

    /// Makes a GPT like [`Self::new`], except that the weights of the layers that add to the residual stream, two in a block, start with
    /// standard deviation 0.02 / √(2 L) for L blocks: GPT-2's own rule (`_init_weights` in `transformers`), which minGPT and the
    /// Decision Transformer's authors do not follow.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_small_outputs(config: &GptConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let outputs = 2.0 * config.layers as f64;
        Self::with_output_deviation(config, DEVIATION / outputs.sqrt(), scope)
    }

    fn with_output_deviation(
        config: &GptConfig,
        output_deviation: f64,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let list = match config.layout {
            Layout::MinGpt => "blocks",
            Layout::Gpt2 => "h",
        };
        Ok(Self {
            blocks: Blocks::with_output_deviation(config, output_deviation, list, scope)?,
            norm: norm(config, &mut scope.sub("ln_f"))?,
        })
    }

    /// Copies the weights to where forward passes read them, once for all instead of in each pass: for a network
    /// whose parameters don't change any more. Later changes of them are not seen.
    ///
    /// # Errors
    /// If the device fails.
    pub fn fixed(mut self) -> Result<Self> {
        self.blocks.fix()?;
        Ok(self)
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
        let x = self.blocks.forward(x, mask, dropout, first_site)?;
        // The fused norm rounds in another order than the composed one: whoever composes the blocks composes it too.
        if self.blocks.fused(&x) {
            self.norm.forward(&x)
        } else {
            self.norm.forward_composed(&x)
        }
    }

    /// The slow twin, for every device.
    #[cfg(test)]
    pub(crate) fn forward_composed(
        &self,
        x: &Tensor,
        mask: &AttentionMask,
        dropout: Dropout,
        first_site: u64,
    ) -> Result<Tensor> {
        let x = self.blocks.forward_composed(x, mask, dropout, first_site)?;
        self.norm.forward_composed(&x)
    }
}

impl AttentionMask {
    /// 1 where row i may look at column j, else 0: (1, 1, T, T) or (B, 1, T, T), x's type.
    fn allowed(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, time, _) = x.dims3()?;
        let places = Tensor::arange(0, time as u32, x.device())?;
        // A hidden column lies behind every row.
        let columns = (0..time as u32).map(|column| {
            if self.hides(column as usize) {
                u32::MAX
            } else {
                column
            }
        });
        let columns = Tensor::from_iter(columns, x.device())?.reshape((1, time))?;
        let causal = columns.broadcast_le(&places.reshape((time, 1))?)?; // (T, T)
        let causal = causal.to_dtype(x.dtype())?.reshape((1, 1, time, time))?;
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

    /// Keys that no row sees: (T) or, with padding, (B T).
    fn hidden_keys(&self, x: &Tensor) -> Result<Vec<bool>> {
        let (batch, time, _) = x.dims3()?;
        let Some(valid) = &self.valid else {
            return Ok((0..time).map(|column| self.hides(column)).collect());
        };
        if valid.dims() != [batch, time] {
            let reason = format!("a mask {:?} for tokens {:?}", valid.dims(), [batch, time]);
            return Err(Error::Config {
                what: "Gpt",
                reason,
            });
        }
        let valid = valid.ne(0f64)?.flatten_all()?.to_vec1::<u8>()?;
        Ok(valid
            .iter()
            .enumerate()
            .map(|(i, v)| *v == 0 || self.hides(i % time))
            .collect())
    }

    /// Whether a column is hidden from every row.
    pub(crate) fn hides(&self, column: usize) -> bool {
        self.hidden_period
            .is_some_and(|period| column % period == period - 1)
    }
}

/// A norm of the configured kind.
fn norm(config: &GptConfig, scope: &mut Scope<'_>) -> Result<Norm> {
    Norm::new(config.parts.norm, config.width, NORM_EPSILON, scope)
}

impl Block {
    fn new(config: &GptConfig, output_deviation: f64, scope: &mut Scope<'_>) -> Result<Self> {
        let (width, inner) = (config.width, config.inner);
        let linear = |inputs, outputs, deviation, scope: &mut Scope<'_>| {
            Linear::with_init(inputs, outputs, Init::Normal(deviation), Init::Zeros, scope)
        };
        let conv = Conv1D::new;
        let (deviation, last) = (DEVIATION, output_deviation);
        match config.layout {
            Layout::MinGpt => Ok(Self {
                norm1: norm(config, &mut scope.sub("ln1"))?,
                norm2: norm(config, &mut scope.sub("ln2"))?,
                attention: AttentionWeights::MinGpt {
                    key: linear(width, width, deviation, &mut scope.sub("attn").sub("key"))?,
                    query: linear(width, width, deviation, &mut scope.sub("attn").sub("query"))?,
                    value: linear(width, width, deviation, &mut scope.sub("attn").sub("value"))?,
                    output: linear(width, width, last, &mut scope.sub("attn").sub("proj"))?,
                },
                mlp: MlpWeights::MinGpt {
                    hidden: linear(width, inner, deviation, &mut scope.sub("mlp").sub(0))?,
                    gate: match config.parts.hidden {
                        HiddenLayer::Plain => None,
                        HiddenLayer::SwiGlu => {
                            let mut scope = scope.sub("mlp");
                            Some(linear(width, inner, deviation, &mut scope.sub("gate"))?)
                        }
                    },
                    output: linear(inner, width, last, &mut scope.sub("mlp").sub(2))?,
                },
                packed: None,
            }),
            Layout::Gpt2 => Ok(Self {
                norm1: norm(config, &mut scope.sub("ln_1"))?,
                attention: AttentionWeights::Gpt2 {
                    query_key_value: conv(
                        width,
                        3 * width,
                        deviation,
                        &mut scope.sub("attn").sub("c_attn"),
                    )?,
                    output: conv(width, width, last, &mut scope.sub("attn").sub("c_proj"))?,
                },
                norm2: norm(config, &mut scope.sub("ln_2"))?,
                mlp: MlpWeights::Gpt2 {
                    hidden: conv(width, inner, deviation, &mut scope.sub("mlp").sub("c_fc"))?,
                    output: conv(inner, width, last, &mut scope.sub("mlp").sub("c_proj"))?,
                },
                packed: None,
            }),
        }
    }

    fn forward(
        &self,
        x: &Tensor,
        hidden: &[bool],
        config: &GptConfig,
        dropout: Dropout,
        site: u64,
    ) -> Result<Tensor> {
        let (_, time, width) = x.dims3()?;
        let inputs_first = config.layout == Layout::Gpt2;
        let attention = AttentionBlock {
            time,
            width,
            heads: config.heads,
            norm: config.parts.norm,
            scores: config.parts.scores,
            epsilon: NORM_EPSILON,
            inputs_first,
            hidden: hidden.to_vec(),
            attention_dropout: dropout.site(site, config.attention_dropout),
            dropout: dropout.site(site + 1, config.residual_dropout),
        };
        let [attention_weights, mlp_weights] = match &self.packed {
            Some(packed) => packed.clone(),
            None => [self.packed_attention()?, self.packed_mlp()?],
        };
        let x = attention.apply(x, &attention_weights)?;
        let mlp = MlpBlock {
            width,
            inner: config.inner,
            activation: config.activation,
            hidden: config.parts.hidden,
            norm: config.parts.norm,
            epsilon: NORM_EPSILON,
            inputs_first,
            dropout: dropout.site(site + 2, config.residual_dropout),
        };
        Ok(mlp.apply(&x, &mlp_weights)?)
    }

    /// The parameters of the attention half, in the order of [`AttentionBlock::apply`].
    fn packed_attention(&self) -> Result<Tensor> {
        let mut all = self.norm1.parameters();
        match &self.attention {
            AttentionWeights::MinGpt {
                query,
                key,
                value,
                output,
            } => {
                let inputs = [query, key, value];
                all.extend(inputs.iter().map(|linear| &linear.weight));
                all.extend(inputs.iter().filter_map(|linear| linear.bias.as_ref()));
                all.push(&output.weight);
                all.extend(output.bias.as_ref());
            }
            AttentionWeights::Gpt2 {
                query_key_value,
                output,
            } => {
                all.extend([&query_key_value.weight, &query_key_value.bias]);
                all.extend([&output.weight, &output.bias]);
            }
        }
        Ok(pack(&all)?)
    }

    /// The parameters of the MLP half, in the order of [`MlpBlock::apply`].
    fn packed_mlp(&self) -> Result<Tensor> {
        let mut all = self.norm2.parameters();
        match &self.mlp {
            MlpWeights::MinGpt {
                hidden,
                gate,
                output,
            } => {
                let inputs = || [hidden].into_iter().chain(gate);
                all.extend(inputs().map(|linear| &linear.weight));
                all.extend(inputs().filter_map(|linear| linear.bias.as_ref()));
                all.push(&output.weight);
                all.extend(output.bias.as_ref());
            }
            MlpWeights::Gpt2 { hidden, output } => {
                for conv in [hidden, output] {
                    all.extend([&conv.weight, &conv.bias]);
                }
            }
        }
        Ok(pack(&all)?)
    }

    fn forward_composed(
        &self,
        x: &Tensor,
        allowed: &Tensor,
        config: &GptConfig,
        dropout: Dropout,
        site: u64,
    ) -> Result<Tensor> {
        let attended = self.attend(
            &self.norm1.forward_composed(x)?,
            allowed,
            config,
            dropout,
            site,
        )?;
        let x = (x + dropout.apply(&attended, site + 1, config.residual_dropout)?)?;
        let (normal, precision) = (self.norm2.forward_composed(&x)?, config.precision);
        let added = match &self.mlp {
            MlpWeights::MinGpt {
                hidden,
                gate,
                output,
            } => {
                let hidden = hidden.forward_in(&normal, precision)?;
                let hidden = match gate {
                    None => config.activation.forward(&hidden)?,
                    Some(gate) => (hidden * silu(&gate.forward_in(&normal, precision)?)?)?,
                };
                output.forward_in(&hidden, precision)?
            }
            MlpWeights::Gpt2 { hidden, output } => {
                let hidden = hidden.forward_in(&normal, precision)?;
                output.forward_in(&config.activation.forward(&hidden)?, precision)?
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
        let precision = config.precision;
        let split = |x: &Tensor| -> Result<Tensor> {
            let x = x.reshape((batch, time, config.heads, width / config.heads))?;
            Ok(x.transpose(1, 2)?.contiguous()?) // (B, heads, T, D / heads)
        };
        let (query, key, value) = match &self.attention {
            AttentionWeights::MinGpt {
                query, key, value, ..
            } => (
                query.forward_in(x, precision)?,
                key.forward_in(x, precision)?,
                value.forward_in(x, precision)?,
            ),
            AttentionWeights::Gpt2 {
                query_key_value, ..
            } => {
                let all = query_key_value.forward_in(x, precision)?; // (B, T, 3 D)
                let part = |i: usize| all.narrow(D::Minus1, i * width, width);
                (part(0)?, part(1)?, part(2)?)
            }
        };
        let scores = config.parts.scores;
        let compared = |x: &Tensor| match scores {
            Scores::Plain => split(x),
            Scores::Cosine => unit_mean_square(&split(x)?, NORM_EPSILON),
        };
        let scale = 1.0 / ((width / config.heads) as f64).sqrt();
        let scores = precision.product(&compared(&query)?, &compared(&key)?.t()?)?;
        let scores = (scores * scale)?; // (B, heads, T, T)
        let hidden = ((allowed - 1.0)? * 1e9)?;
        // The product makes rows that see nothing zero; elsewhere hidden weights are 0 already.
        let weights = softmax(&scores.broadcast_add(&hidden)?)?.broadcast_mul(allowed)?;
        let weights = dropout.apply(&weights, site, config.attention_dropout)?;
        let mixed = precision.product(&weights, &split(&value)?)?; // (B, heads, T, D / heads)
        let mixed = mixed.transpose(1, 2)?.reshape((batch, time, width))?;
        match &self.attention {
            AttentionWeights::MinGpt { output, .. } => output.forward_in(&mixed, precision),
            AttentionWeights::Gpt2 { output, .. } => output.forward_in(&mixed, precision),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device};

    use super::*;
    use crate::kernels::spread::Spread;
    use crate::norm::NormKind;
    use crate::params::Params;
    use crate::rng::Rng;
    use crate::testing::{check_same_bits, largest_relative_difference};

    /// GPT-2's parts, each of the others, and all of the others.
    fn all_parts() -> [Parts; 5] {
        let plain = Parts::default();
        let (norm, scores, hidden) = (NormKind::Rms, Scores::Cosine, HiddenLayer::SwiGlu);
        [
            plain,
            Parts { norm, ..plain },
            Parts { scores, ..plain },
            Parts { hidden, ..plain },
            Parts {
                norm,
                scores,
                hidden,
            },
        ]
    }

    /// A network to compare.
    #[derive(Debug, Clone, Copy)]
    struct Kind {
        layout: Layout,
        parts: Parts,
        /// Whether its halves have so many parameters that threads share their products.
        wide: bool,
    }

    fn config(kind: Kind) -> GptConfig {
        let Kind {
            layout,
            parts,
            wide,
        } = kind;
        let (layers, width, inner) = if wide { (1, 512, 1024) } else { (2, 24, 40) };
        GptConfig {
            layers,
            heads: 2,
            width,
            inner,
            activation: if layout == Layout::MinGpt {
                Activation::Gelu
            } else {
                Activation::Relu
            },
            attention_dropout: 0.2,
            residual_dropout: 0.1,
            layout,
            precision: Precision::Full,
            parts,
        }
    }

    /// A trunk whose parameters are all far from zero.
    fn trunk(kind: Kind, dtype: DType) -> Result<(Params, Gpt)> {
        let mut params = Params::new(dtype, &Device::Cpu);
        let rng = &mut Rng::from_seed(4);
        let gpt = Gpt::new(&config(kind), &mut params.init(rng))?;
        for param in params.iter() {
            let noise = rng.normal_tensor(param.slot.shape(), dtype, &Device::Cpu)?;
            param.slot.set(&(param.slot.tensor()? + (noise * 0.2)?)?)?;
        }
        Ok((params, gpt))
    }

    /// Batch 5 (8 of wide networks) of 150 tokens: several row blocks, tasks and pieces; two rows see only some keys.
    fn inputs(kind: Kind, dtype: DType) -> Result<(candle_core::Var, AttentionMask, Tensor)> {
        let (batch, time, width) = (if kind.wide { 8 } else { 5 }, 150, config(kind).width);
        let padded = kind.layout == Layout::Gpt2;
        let rng = &mut Rng::from_seed(5);
        let x = rng.normal_tensor((batch, time, width), dtype, &Device::Cpu)?;
        let weights = rng.normal_tensor((batch, time, width), dtype, &Device::Cpu)?;
        let valid: Vec<u32> = (0..batch * time)
            .map(|i| u32::from(i / time != 2 || i % time >= 70))
            .collect();
        let mask = if padded {
            AttentionMask {
                hidden_period: None,
                valid: Some(Tensor::from_vec(valid, (batch, time), &Device::Cpu)?),
            }
        } else {
            AttentionMask {
                hidden_period: Some(7),
                valid: None,
            }
        };
        Ok((candle_core::Var::from_tensor(&x)?, mask, weights))
    }

    /// Output and all gradients of a weighted sum of the output.
    fn results(dtype: DType, kind: Kind, composed: bool) -> Result<Vec<Tensor>> {
        let (params, gpt) = trunk(kind, dtype)?;
        let (x, mask, weights) = inputs(kind, dtype)?;
        let dropout = Dropout::draw(&mut Rng::from_seed(6));
        let y = if composed {
            gpt.forward_composed(&x, &mask, dropout, 1)?
        } else {
            gpt.forward(&x, &mask, dropout, 1)?
        };
        let gradients = (&y * &weights)?.sum_all()?.backward()?;
        let vars = std::iter::once(&x).chain(params.iter().map(|p| p.slot.var()));
        let gradients = vars.filter_map(|var| gradients.get(var).cloned());
        Ok(std::iter::once(y).chain(gradients).collect())
    }

    fn kinds() -> impl Iterator<Item = Kind> {
        let kind = |layout, parts, wide| Kind {
            layout,
            parts,
            wide,
        };
        let small = all_parts().map(|parts| kind(Layout::MinGpt, parts, false));
        let [plain, .., other] = all_parts();
        small.into_iter().chain([
            kind(Layout::Gpt2, plain, false),
            kind(Layout::MinGpt, plain, true),
            kind(Layout::MinGpt, other, true),
            kind(Layout::Gpt2, plain, true),
        ])
    }

    #[test]
    fn threads_share_the_products_of_wide_networks_alone() -> Result<()> {
        for kind in kinds() {
            let (x, ..) = inputs(kind, DType::F32)?;
            let rows = x.elem_count() / x.dim(D::Minus1)?;
            let (_, gpt) = trunk(kind, DType::F32)?;
            for block in &gpt.blocks.list {
                for half in [block.packed_attention()?, block.packed_mlp()?] {
                    let spread = Spread::of(half.elem_count(), rows);
                    assert_eq!(spread == Spread::Products, kind.wide, "{kind:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn fused_blocks_equal_plain_tensor_operations() -> Result<()> {
        for kind in kinds() {
            // Rounding of sums over 750 and 1,200 rows.
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-4)] {
                let fused = results(dtype, kind, false)?;
                let composed = results(dtype, kind, true)?;
                assert_eq!(fused.len(), composed.len());
                for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                    let largest = composed.abs()?.max_all()?.to_dtype(DType::F64)?;
                    if largest.to_scalar::<f64>()? < 1e-3 {
                        continue; // The keys' bias: zero in exact arithmetic.
                    }
                    let difference = largest_relative_difference(fused, composed)?;
                    assert!(
                        difference < tolerance,
                        "{kind:?} {dtype:?} {i}: {difference:e}"
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn results_have_the_same_bits_for_any_number_of_threads() -> Result<()> {
        for kind in kinds() {
            check_same_bits(|| results(DType::F32, kind, false))?;
        }
        Ok(())
    }

    #[test]
    fn other_parts_are_refused_under_gpt2_names() {
        let mut params = Params::new(DType::F32, &Device::Cpu);
        let config = config(Kind {
            layout: Layout::Gpt2,
            parts: all_parts()[1],
            wide: false,
        });
        let refused = Gpt::new(&config, &mut params.init(&mut Rng::from_seed(4)));
        let text = refused.map(|_| ()).expect_err("no such GPT-2").to_string();
        assert!(text.contains("GPT-2"), "{text}");
    }
}
