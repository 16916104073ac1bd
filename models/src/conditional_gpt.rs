//! [`ConditionalGpt`]: a GPT over sequences of tokens of one vocabulary that begin with an embedding of a vector.
//!
//! A minGPT trunk (github.com/karpathy/minGPT, the Trajectory Transformer's). Position 0 holds the condition, linearly
//! embedded, position p the p-th token; every position predicts the token that follows, and class V is the end. A network that
//! is conditioned on an instruction adds what it makes of the instruction to the condition.

use candle_core::{DType, Device, Tensor};

use crate::activation::Activation;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::gpt::{AttentionMask, DEVIATION, Gpt, GptConfig, Layout, Parts};
use crate::init::Init;
use crate::instruction::InstructionNetwork;
use crate::kernels::heads_loss::HeadsLoss;
use crate::kernels::switch::Kernel;
use crate::linear::{Linear, lookup};
use crate::norm::log_softmax;
use crate::params::Scope;
use crate::precision::Precision;

/// Sizes and settings of a [`ConditionalGpt`].
#[derive(Debug, Clone, PartialEq)]
pub struct ConditionalGptConfig {
    /// O, numbers in a condition.
    pub inputs: usize,
    /// E, numbers in the embedding of an instruction (of length 1) that stands behind each condition; 0: there is none.
    pub instruction_dim: usize,
    /// V, values of a token; V as a target is the end.
    pub vocabulary: usize,
    /// Tokens in the longest sequence, its end left out.
    pub most_tokens: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// D, width of the embedding.
    pub embedding: usize,
    /// Dropout of embeddings, of what blocks add, and of attention weights.
    pub dropout: f64,
    /// Precision of the matrix products of blocks and head.
    pub precision: Precision,
}

/// Sequences to learn: T = longest of them and its end.
#[derive(Debug, Clone)]
pub struct ConditionalBatch {
    /// What each begins with, (B, O), or (B, O + E) with instructions.
    pub conditions: Tensor,
    /// Tokens without the last position, (B, T - 1) u32; 0 where there is none.
    pub inputs: Tensor,
    /// What follows each position, (B, T) u32: the tokens, then the end; anything behind it.
    pub targets: Tensor,
    /// 1 up to the end, then 0, (B, T) f32.
    pub mask: Tensor,
}

/// The network.
#[derive(Debug, Clone)]
pub struct ConditionalGpt {
    condition: Linear,
    embed_instruction: InstructionNetwork,
    token_embedding: Tensor,    // (V, D)
    position_embedding: Tensor, // (1, most_tokens + 1, D)
    trunk: Gpt,
    head: Tensor, // (1, V + 1, D)
    config: ConditionalGptConfig,
}

impl ConditionalGpt {
    /// minGPT's initial values: normal with standard deviation 0.02, zero positions and biases; PyTorch's default for the layer that
    /// embeds the condition, which minGPT has not.
    ///
    /// # Errors
    /// If a size makes no sense or the scope's parameters don't fit.
    pub fn new(config: &ConditionalGptConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (width, vocabulary) = (config.embedding, config.vocabulary);
        if [config.inputs, vocabulary, width, config.most_tokens].contains(&0) {
            let reason = format!("sizes must be positive: {config:?}");
            return Err(Error::Config {
                what: "ConditionalGpt",
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
            precision: config.precision,
            parts: Parts::default(),
        };
        let normal = Init::Normal(DEVIATION);
        Ok(Self {
            condition: Linear::new(config.inputs, width, &mut scope.sub("condition"))?,
            embed_instruction: InstructionNetwork::new(
                "ConditionalGpt",
                config.instruction_dim,
                width,
                scope,
            )?,
            token_embedding: scope.sub("tok_emb").param(
                "weight",
                (vocabulary, width),
                normal.fill(),
            )?,
            position_embedding: scope.param(
                "pos_emb",
                (1, config.most_tokens + 1, width),
                Init::Zeros.fill(),
            )?,
            trunk: Gpt::new(&trunk, scope)?,
            head: scope
                .sub("head")
                .param("weight", (1, vocabulary + 1, width), normal.fill())?,
            config: config.clone(),
        })
    }

    /// Its sizes and settings.
    pub fn config(&self) -> &ConditionalGptConfig {
        &self.config
    }

    /// Whether minGPT's optimiser applies weight decay to the parameter `name`: to the weights of linear layers, not to
    /// embeddings, norms and biases.
    pub fn decays(name: &str) -> bool {
        let linear = ["attn.", "mlp.", "head.", "condition."];
        name.ends_with(".weight") && linear.iter().any(|part| name.contains(part))
    }

    /// Logits (B, T, V + 1) of what follows the condition (B, O + E) and each of the tokens (B, T - 1), u32.
    ///
    /// # Errors
    /// If T is longer than the positions or a shape doesn't fit.
    pub fn logits(&self, conditions: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        self.classes(&self.hidden(conditions, tokens, Dropout::off())?)
    }

    /// The training loss, a scalar: cross entropy of the targets, the mean over the positions with mask 1.
    ///
    /// # Errors
    /// If a shape doesn't fit.
    pub fn loss(&self, batch: &ConditionalBatch, dropout: Dropout) -> Result<Tensor> {
        let hidden = self.hidden(&batch.conditions, &batch.inputs, dropout)?; // (B, T, D)
        if Kernel::HeadsLoss.takes(&hidden) && self.config.precision == Precision::Full {
            self.fused_loss(&hidden, batch)
        } else {
            self.composed_loss(&hidden, batch)
        }
    }

    fn fused_loss(&self, hidden: &Tensor, batch: &ConditionalBatch) -> Result<Tensor> {
        let mask = batch.mask.to_dtype(DType::F64)?.flatten_all()?;
        let mask = mask.to_vec1::<f64>()?;
        let count: f64 = mask.iter().sum();
        let weights = mask.iter().map(|mask| mask / count).collect();
        let targets = batch.targets.flatten_all()?.to_vec1()?;
        Ok(HeadsLoss { targets, weights }.apply(hidden, &self.head)?)
    }

    /// The slow twin of [`Self::fused_loss`], for every device.
    fn composed_loss(&self, hidden: &Tensor, batch: &ConditionalBatch) -> Result<Tensor> {
        let logits = self.classes(hidden)?; // (B, T, V + 1)
        let mask = batch.mask.to_dtype(logits.dtype())?; // (B, T)
        let own = log_softmax(&logits)?.gather(&batch.targets.unsqueeze(2)?, 2)?;
        let total = (own.squeeze(2)? * &mask)?.sum_all()?;
        Ok((total.neg()? / mask.sum_all()?)?)
    }

    /// Hidden states (B, T, D), after the last norm.
    fn hidden(&self, conditions: &Tensor, tokens: &Tensor, dropout: Dropout) -> Result<Tensor> {
        let (batch, count) = tokens.dims2()?;
        let (width, most) = (self.config.embedding, self.config.most_tokens);
        let (inputs, told) = (self.config.inputs, self.config.instruction_dim);
        if count > most || conditions.dims() != [batch, inputs + told] {
            let found = conditions.dims();
            let reason = format!("conditions {found:?}, {batch} x {count} tokens, {most} at most");
            return Err(Error::Config {
                what: "ConditionalGpt",
                reason,
            });
        }
        let observed = conditions.narrow(1, 0, inputs)?;
        let mut first = self.condition.forward(&observed)?.unsqueeze(1)?; // (B, 1, D)
        let told = (told > 0).then(|| conditions.narrow(1, inputs, told));
        if let Some(asked) = self.embed_instruction.forward(told.transpose()?.as_ref())? {
            first = (first + asked)?;
        }
        let x = match count {
            0 => first,
            _ => {
                let tokens = lookup(&self.token_embedding, &tokens.flatten_all()?)?;
                Tensor::cat(&[first, tokens.reshape((batch, count, width))?], 1)?
            }
        }; // (B, T, D)
        let positions = self.position_embedding.narrow(1, 0, count + 1)?;
        let x = x.broadcast_add(&positions)?;
        let x = dropout.apply(&x, 0, self.config.dropout)?;
        self.trunk
            .forward(&x, &AttentionMask::default(), dropout, 1)
    }

    /// Logits (B, T, V + 1) of hidden states (B, T, D).
    fn classes(&self, hidden: &Tensor) -> Result<Tensor> {
        let (batch, time, width) = hidden.dims3()?;
        let rows = hidden.reshape((batch * time, width))?;
        let head = self.head.squeeze(0)?.t()?;
        let logits = self.config.precision.product(&rows, &head)?;
        Ok(logits.reshape((batch, time, ()))?)
    }
}

impl ConditionalBatch {
    /// A batch from tokens: `sequences` (B), without their ends, which are the token `end`.
    ///
    /// # Errors
    /// If there are none or a tensor can't be made.
    pub fn new(
        conditions: Tensor,
        sequences: &[&[u32]],
        end: u32,
        device: &Device,
    ) -> Result<Self> {
        let longest = sequences.iter().map(|s| s.len()).max().unwrap_or(0);
        let (batch, time) = (sequences.len(), longest + 1);
        let mut inputs = Vec::with_capacity(batch * longest);
        let mut targets = Vec::with_capacity(batch * time);
        let mut mask = Vec::with_capacity(batch * time);
        for sequence in sequences {
            let (own, rest) = (sequence.len(), longest - sequence.len());
            inputs.extend_from_slice(sequence);
            inputs.extend(std::iter::repeat_n(0, rest));
            targets.extend_from_slice(sequence);
            targets.extend(std::iter::repeat_n(end, rest + 1));
            mask.extend((0..time).map(|at| f32::from(u8::from(at <= own))));
        }
        Ok(Self {
            conditions,
            inputs: Tensor::from_vec(inputs, (batch, longest), device)?,
            targets: Tensor::from_vec(targets, (batch, time), device)?,
            mask: Tensor::from_vec(mask, (batch, time), device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::Cache;
    use crate::decoder::conditional::ConditionalDecoder;
    use crate::params::Params;
    use crate::rng::Rng;
    use crate::testing::largest_relative_difference;

    fn network(dtype: DType) -> Result<(Params, ConditionalGpt)> {
        let config = ConditionalGptConfig {
            inputs: 3,
            instruction_dim: 2,
            vocabulary: 9,
            most_tokens: 7,
            layers: 2,
            heads: 2,
            embedding: 16,
            dropout: 0.1,
            precision: Precision::Full,
        };
        let mut params = Params::new(dtype, &Device::Cpu);
        let rng = &mut Rng::from_seed(2);
        ConditionalGpt::new(&config, &mut params.init(rng))?;
        for param in params.iter() {
            let noise = rng.normal_tensor(param.slot.shape(), dtype, &Device::Cpu)?;
            param.slot.set(&(param.slot.tensor()? + (noise * 0.3)?)?)?;
        }
        let network = ConditionalGpt::new(&config, &mut params.tracked())?;
        Ok((params, network))
    }

    fn conditions(rows: usize, dtype: DType) -> Result<Tensor> {
        Ok(Rng::from_seed(3).normal_tensor((rows, 5), dtype, &Device::Cpu)?)
    }

    #[test]
    fn both_losses_agree_and_padding_counts_in_neither() -> Result<()> {
        let (params, network) = network(DType::F64)?;
        let sequences: [&[u32]; 3] = [&[1, 8, 3], &[], &[2, 2, 2, 2, 5]];
        let end = 9;
        let batch =
            ConditionalBatch::new(conditions(3, DType::F64)?, &sequences, end, &Device::Cpu)?;
        let dropout = Dropout::draw(&mut Rng::from_seed(1));
        let hidden = network.hidden(&batch.conditions, &batch.inputs, dropout)?;
        let losses = [
            network.fused_loss(&hidden, &batch)?,
            network.composed_loss(&hidden, &batch)?,
        ];
        let gradients = losses.each_ref().map(|loss| loss.backward());
        let [fused, composed] = gradients;
        let (fused, composed) = (fused?, composed?);
        assert!(largest_relative_difference(&losses[0], &losses[1])? < 1e-13);
        for param in params.iter() {
            let of = |all| param.slot.gradient(all).map(|g| g.expect("a gradient"));
            let difference = largest_relative_difference(&of(&fused)?, &of(&composed)?)?;
            // A key's bias has no gradient but rounding.
            let fine = difference < 1e-12 || param.name.ends_with("key.bias");
            assert!(fine, "{}: {difference:e}", param.name);
        }
        // The mean over 4 + 1 + 6 positions is that of the sequences one by one.
        let mut total = 0.0;
        for (row, sequence) in sequences.iter().enumerate() {
            let condition = batch.conditions.narrow(0, row, 1)?;
            let alone = ConditionalBatch::new(condition, &[sequence], end, &Device::Cpu)?;
            let loss = network.loss(&alone, Dropout::off())?.to_scalar::<f64>()?;
            total += loss * (sequence.len() + 1) as f64;
        }
        let together = network.loss(&batch, Dropout::off())?.to_scalar::<f64>()?;
        assert!((together - total / 11.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn the_decoder_gives_the_networks_logits_while_sequences_are_dropped() -> Result<()> {
        let (params, network) = network(DType::F64)?;
        let decoder = ConditionalDecoder::<f64>::new(&params.tensors()?, 2)?;
        let conditions = conditions(3, DType::F64)?;
        let tokens: [[u32; 7]; 3] = [[1, 8, 3, 0, 4, 4, 6], [0; 7], [7, 2, 1, 0, 5, 8, 8]];
        let (mut cache, mut found) = (Cache::default(), Vec::new());
        let numbers = conditions.flatten_all()?.to_vec1::<f64>()?;
        decoder.begin(&mut cache, &numbers, &mut found)?;
        let mut rows = vec![0, 1, 2];
        for count in 0..=7 {
            let prefix: Vec<u32> = tokens.iter().flat_map(|t| t[..count].to_vec()).collect();
            let prefix = Tensor::from_vec(prefix, (3, count), &Device::Cpu)?;
            let expected = network.logits(&conditions, &prefix)?.narrow(1, count, 1)?;
            let expected = expected.squeeze(1)?.to_vec2::<f64>()?;
            for (found, &row) in found.chunks(10).zip(&rows) {
                let pairs = found.iter().zip(&expected[row]);
                let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-9, "{count} tokens, row {row}: {worst:e}");
            }
            if count == 7 {
                break;
            }
            if count == 2 {
                rows = vec![2, 0];
                cache.gather(&[2, 0]);
            }
            let next: Vec<u32> = rows.iter().map(|&row| tokens[row][count]).collect();
            decoder.extend(&mut cache, &next, &mut found)?;
        }
        assert!(decoder.extend(&mut cache, &[0, 0], &mut found).is_err());
        Ok(())
    }
}
