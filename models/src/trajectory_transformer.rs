//! The Trajectory Transformer (Janner, Li and Levine 2021): a GPT over discretised trajectories.
//!
//! Exactly the model of the authors' code (github.com/jannerm/trajectory-transformer at 8834a6e,
//! trajectory/models/transformers.py), with its parameter names. A transition is D = O + A + 2
//! tokens: observation, action, reward, value. Every position of a transition has tokens and an
//! output head of its own; value tokens are never attended to.
//!
//! Settings that are not the paper's ([`Recipe`]) say so; the defaults of all are the authors'.

mod multi_token;
mod positions;

use candle_core::{DType, Tensor};

use crate::activation::Activation;
use crate::decoder::DecoderShape;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::gpt::{AttentionMask, DEVIATION, Gpt, GptConfig, Layout, Parts};
use crate::init::Init;
use crate::instruction::InstructionNetwork;
use crate::kernels::heads_loss::HeadsLoss;
use crate::norm::log_softmax;
use crate::params::Scope;
use crate::precision::Precision;
use multi_token::MultiToken;
pub use multi_token::{CrossEntropies, Losses};
pub use positions::Positions;
use positions::Tables;

/// Sizes and settings of a [`TrajectoryTransformer`].
#[derive(Debug, Clone, PartialEq)]
pub struct TrajectoryTransformerConfig {
    /// O, tokens per observation.
    pub observation_dim: usize,
    /// A, tokens per action.
    pub action_dim: usize,
    /// V, values of a token; token V is the termination token. 100 in the paper.
    pub bins: usize,
    /// Blocks; 4 in the paper.
    pub layers: usize,
    /// Attention heads; 4 in the paper.
    pub heads: usize,
    /// Width of the embedding; 32 per head in the paper.
    pub embedding: usize,
    /// Transitions in the window, at least 1; 10 in the paper. The longest input is this times D
    /// minus 1 tokens.
    pub window_transitions: usize,
    /// Dropout of the embeddings; 0.1 in the paper.
    pub embedding_dropout: f64,
    /// Dropout of what blocks add; 0.1 in the paper.
    pub residual_dropout: f64,
    /// Dropout of attention weights; 0.1 in the paper.
    pub attention_dropout: f64,
    /// Weight of action tokens in the loss (observations have 1); 5 in the authors' code.
    pub action_weight: f64,
    /// Weight of reward tokens in the loss; 1 in the authors' code.
    pub reward_weight: f64,
    /// Weight of value tokens in the loss; 1 in the authors' code.
    pub value_weight: f64,
    /// Factor of the loss of [`Recipe::multi_token`]'s predictions, beside those of their kinds.
    pub multi_token_weight: f64,
    /// Precision of the matrix products of blocks and heads.
    pub precision: Precision,
    /// Activation of the blocks' hidden layers: `Gelu` in the paper.
    pub activation: Activation,
    /// Parts that may be others than the paper's.
    pub recipe: Recipe,
    /// E, numbers in the embedding of an instruction (of length 1), which is added to every token through two
    /// linear layers; 0: the network reads none, as the paper's.
    pub instruction_dim: usize,
}

/// Parts of a [`TrajectoryTransformer`] that may be others than the paper's; the default has the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recipe {
    /// Norms and scores of the blocks.
    pub parts: Parts,
    /// What is added to tokens' embeddings so that they know where they stand.
    pub positions: Positions,
    /// Whether the head that predicts the tokens of a place has their embeddings for its weights (Press and Wolf 2017,
    /// <https://arxiv.org/abs/1608.05859>) instead of weights of its own.
    pub tied_heads: bool,
    /// Whether value and next observation are predicted from the last action at once, too, beside the reward: multi-token prediction
    /// (Gloeckle et al. 2024, <https://arxiv.org/abs/2404.19737>), by which a plan needs A + 1 sequential steps for a transition.
    pub multi_token: bool,
}

impl TrajectoryTransformerConfig {
    /// D: tokens per transition, O + A + 2.
    pub fn transition_dim(&self) -> usize {
        self.observation_dim + self.action_dim + 2
    }

    /// The longest input in tokens: `window_transitions * D - 1`.
    pub fn block_size(&self) -> usize {
        (self.window_transitions * self.transition_dim()).saturating_sub(1)
    }

    /// What a [`Decoder`](crate::decoder::Decoder) of such a network must be told.
    pub fn decoder_shape(&self) -> DecoderShape {
        DecoderShape {
            transition_tokens: self.transition_dim(),
            bins: self.bins,
            heads: self.heads,
            activation: self.activation,
            recipe: self.recipe,
        }
    }
}

/// A batch of windows to learn, of T tokens each: the whole window for T = [`block_size`](TrajectoryTransformerConfig::block_size).
#[derive(Debug, Clone)]
pub struct TokenBatch {
    /// Tokens 0..=V without offsets, (B, T) u32.
    pub inputs: Tensor,
    /// The tokens one position later, (B, T) u32.
    pub targets: Tensor,
    /// 1 where a position counts, else 0, (B, T) of any type; aligned with the inputs, as in the authors' code.
    pub mask: Tensor,
    /// Embedding of each window's instruction (B, E), for networks with an `instruction_dim`.
    pub instructions: Option<Tensor>,
}

/// The network.
#[derive(Debug, Clone)]
pub struct TrajectoryTransformer {
    pub(crate) token_embedding: Tensor, // (V D + 1, embedding); the last row is termination
    positions: Tables,
    pub(crate) trunk: Gpt,
    /// (D, V + 1, embedding), where it is not made of embeddings.
    own_head: Option<Tensor>,
    multi_token: Option<MultiToken>,
    pub(crate) embed_instruction: InstructionNetwork,
    pub(crate) config: TrajectoryTransformerConfig,
}

impl TrajectoryTransformer {
    /// Makes the network with the authors' initial values: normal with standard deviation 0.02 for tokens and linear weights,
    /// zero positions and biases, U(±1/√embedding) for the heads.
    ///
    /// # Errors
    /// If a size makes no sense or the scope's parameters don't fit.
    pub fn new(config: &TrajectoryTransformerConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let sizes = [
            config.observation_dim,
            config.action_dim,
            config.bins,
            config.embedding,
        ];
        if sizes.contains(&0) || config.window_transitions == 0 {
            let reason = format!("dimensions, bins and window must be positive: {config:?}");
            return Err(Error::Config {
                what: "TrajectoryTransformer",
                reason,
            });
        }
        let (width, transition) = (config.embedding, config.transition_dim());
        let tokens = config.bins * transition + 1;
        let trunk = GptConfig {
            layers: config.layers,
            heads: config.heads,
            width,
            inner: config.recipe.parts.hidden.inner(width),
            activation: config.activation,
            attention_dropout: config.attention_dropout,
            residual_dropout: config.residual_dropout,
            layout: Layout::MinGpt,
            precision: config.precision,
            parts: config.recipe.parts,
        };
        let normal = Init::Normal(DEVIATION);
        Ok(Self {
            token_embedding: scope.sub("tok_emb").param(
                "weight",
                (tokens, width),
                normal.fill(),
            )?,
            positions: Tables::new(
                config.recipe.positions,
                (config.window_transitions, transition),
                width,
                scope,
            )?,
            trunk: Gpt::new(&trunk, scope)?,
            own_head: if config.recipe.tied_heads {
                None
            } else {
                let shape = (transition, config.bins + 1, width);
                let fill = Init::Linear(width).fill();
                Some(scope.sub("head").param("weight", shape, fill)?)
            },
            embed_instruction: InstructionNetwork::new(
                "TrajectoryTransformer",
                config.instruction_dim,
                width,
                scope,
            )?,
            multi_token: if config.recipe.multi_token {
                Some(MultiToken::new(config, scope)?)
            } else {
                None
            },
            config: config.clone(),
        })
    }

    /// Its sizes and settings.
    pub fn config(&self) -> &TrajectoryTransformerConfig {
        &self.config
    }

    /// Whether the authors' optimiser applies weight decay to the parameter `name`: to the weights
    /// of linear layers and heads, not to embeddings, norms and biases.
    pub fn decays(name: &str) -> bool {
        let layers = ["attn.", "mlp.", "head.", "multi_token."];
        name.ends_with(".weight") && layers.iter().any(|layer| name.contains(layer))
    }

    /// Whether the parameter `name` is a matrix of a block: what Muon is for.
    pub fn is_matrix(name: &str) -> bool {
        name.ends_with(".weight") && ["attn.", "mlp."].iter().any(|p| name.contains(p))
    }

    /// Logits (B, T, V + 1) for tokens (B, T) of type u32, 0..=V, without offsets: position p
    /// predicts token p + 1. The first token belongs to the first observation dimension.
    /// `instructions` are the embeddings (B, E) of the windows' instructions, for networks that read them.
    ///
    /// # Errors
    /// If T is longer than the window, a shape doesn't fit, or there are instructions and the network reads none, or the
    /// reverse.
    pub fn logits(&self, tokens: &Tensor, instructions: Option<&Tensor>) -> Result<Tensor> {
        self.heads(&self.hidden(tokens, instructions, Dropout::off())?)
    }

    /// The training loss, a scalar: cross entropy of the targets, each times the weight of its kind and its mask,
    /// meaned over all B T positions, masked ones too; of networks that predict several tokens at once plus the same of these,
    /// times their weight.
    ///
    /// # Errors
    /// If a shape doesn't fit, or the batch has instructions and the network reads none, or the reverse.
    pub fn loss(&self, batch: &TokenBatch, dropout: Dropout) -> Result<Tensor> {
        self.losses(batch, dropout)?
            .sum(self.config.multi_token_weight)
    }

    /// Weight in the loss of the token that the position `position` predicts.
    pub fn weight(&self, position: usize) -> f64 {
        let (config, transition) = (&self.config, self.config.transition_dim());
        match (position + 1) % transition {
            place if place < config.observation_dim => 1.0,
            place if place < transition - 2 => config.action_weight,
            place if place == transition - 2 => config.reward_weight,
            _ => config.value_weight,
        }
    }

    fn fused_loss(&self, hidden: &Tensor, of: &TokenBatch) -> Result<Tensor> {
        let (batch, time, _) = hidden.dims3()?;
        let share = 1.0 / (batch * time) as f64;
        let mask = of.mask.to_dtype(DType::F64)?.flatten_all()?;
        let mask = mask.to_vec1::<f64>()?;
        let weights = self.weights(time)?.to_vec1::<f64>()?;
        let weights = mask
            .iter()
            .zip(weights.iter().cycle())
            .map(|(m, w)| m * w * share)
            .collect();
        let targets = of.targets.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?;
        Ok(HeadsLoss { targets, weights }.apply(hidden, &self.head()?)?)
    }

    /// The slow twin of [`Self::fused_loss`], for every device.
    fn composed_loss(&self, hidden: &Tensor, of: &TokenBatch) -> Result<Tensor> {
        let (batch, time, _) = hidden.dims3()?;
        let logits = self.heads(hidden)?; // (B, T, V + 1)
        let weights = self
            .weights(time)?
            .to_dtype(logits.dtype())?
            .to_device(logits.device())?;
        let weights = of.mask.to_dtype(logits.dtype())?.broadcast_mul(&weights)?; // (B, T)
        let log_probabilities = log_softmax(&logits)?.gather(&of.targets.unsqueeze(2)?, 2)?;
        let weighted = (log_probabilities.squeeze(2)? * weights)?;
        Ok((weighted.sum_all()? * (-1.0 / (batch * time) as f64))?)
    }

    /// Loss weights (T) of the tokens that positions 0..T predict.
    fn weights(&self, time: usize) -> Result<Tensor> {
        let weights: Vec<f64> = (0..time).map(|position| self.weight(position)).collect();
        Ok(Tensor::from_vec(weights, time, &candle_core::Device::Cpu)?)
    }

    /// Hidden states (B, T, embedding) of tokens (B, T), after the last norm.
    fn hidden(
        &self,
        tokens: &Tensor,
        instructions: Option<&Tensor>,
        dropout: Dropout,
    ) -> Result<Tensor> {
        let (_, time) = tokens.dims2()?;
        if time == 0 || time > self.config.block_size() {
            let limit = self.config.block_size();
            let reason = format!("{time} tokens, the window takes 1 to {limit}");
            return Err(Error::Config {
                what: "TrajectoryTransformer",
                reason,
            });
        }
        let x = self.embed(tokens, instructions, dropout)?;
        let hidden_period = Some(self.config.transition_dim());
        self.trunk.forward(
            &x,
            &AttentionMask {
                hidden_period,
                valid: None,
            },
            dropout,
            1,
        )
    }

    /// Token plus position embeddings, and what the instruction adds (B, T, embedding), after dropout.
    fn embed(
        &self,
        tokens: &Tensor,
        instructions: Option<&Tensor>,
        dropout: Dropout,
    ) -> Result<Tensor> {
        let (_, time) = tokens.dims2()?;
        let embedded = if tokens.device().is_cpu() {
            self.embedded_by_row(tokens)?
        } else {
            self.embedded_by_place(tokens)?
        };
        let mut x = embedded.broadcast_add(&self.positions.rows(time)?)?; // (B, T, embedding)
        if let Some(asked) = self.embed_instruction.forward(instructions)? {
            x = x.broadcast_add(&asked)?;
        }
        dropout.apply(&x, 0, self.config.embedding_dropout)
    }

    /// Tokens (B, T) as rows of the token table (B, T, embedding).
    fn embedded_by_row(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, time) = tokens.dims2()?;
        let rows = self.rows(tokens)?.flatten_all()?;
        let embedded = self.token_embedding.index_select(&rows, 0)?;
        Ok(embedded.reshape((batch, time, self.config.embedding))?)
    }

    /// The embedding as one product per position with one-hot tokens: on a GPU the gradient of
    /// `index_select` is a loop over all tokens, one after the other.
    fn embedded_by_place(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, time) = tokens.dims2()?;
        let (bins, transition) = (self.config.bins, self.config.transition_dim());
        let missing = time.next_multiple_of(transition) - time;
        let places = tokens
            .to_dtype(DType::U32)?
            .pad_with_zeros(1, 0, missing)?
            .reshape(((), transition, 1))?
            .transpose(0, 1)?; // (D, B groups, 1)
        let values = Tensor::arange(0, bins as u32 + 1, tokens.device())?.reshape((1, 1, ()))?;
        let one_hot = places
            .broadcast_eq(&values)?
            .to_dtype(self.token_embedding.dtype())?;
        let tables = self.tables(0)?;
        let embedded = one_hot.matmul(&tables)?; // (D, B groups, embedding)
        from_places(&embedded, batch, time)
    }

    /// Embeddings of all tokens of each place, the place `first` leading (D, V + 1, embedding).
    fn tables(&self, first: usize) -> Result<Tensor> {
        let (bins, transition) = (self.config.bins, self.config.transition_dim());
        let (table, width) = (&self.token_embedding, self.config.embedding);
        let own = table.narrow(0, 0, bins * transition)?;
        let own = own.reshape((transition, bins, width))?;
        let own = match first {
            0 => own,
            _ => {
                let rest = transition - first;
                Tensor::cat(&[own.narrow(0, first, rest)?, own.narrow(0, 0, first)?], 0)?
            }
        };
        let end = table.narrow(0, bins * transition, 1)?.unsqueeze(0)?;
        let end = end.broadcast_as((transition, 1, width))?;
        Ok(Tensor::cat(&[own, end], 1)?)
    }

    /// Weights of the heads (D, V + 1, embedding): the one at a place predicts the tokens of the next.
    fn head(&self) -> Result<Tensor> {
        match &self.own_head {
            Some(head) => Ok(head.clone()),
            None => self.tables(1),
        }
    }

    /// Rows (B, T) of the token table: tokens plus V times the place in the transition; the
    /// termination token has one row for all places.
    fn rows(&self, tokens: &Tensor) -> Result<Tensor> {
        let (_, time) = tokens.dims2()?;
        let (bins, transition) = (self.config.bins, self.config.transition_dim());
        let tokens = tokens.to_dtype(DType::U32)?;
        let offsets: Vec<u32> = (0..time)
            .map(|p| ((p % transition) * bins) as u32)
            .collect();
        let offsets = Tensor::from_vec(offsets, (1, time), tokens.device())?;
        let ends = tokens.ge(bins as u32)?;
        let last = Tensor::full((bins * transition) as u32, tokens.shape(), tokens.device())?;
        Ok(ends.where_cond(&last, &tokens.broadcast_add(&offsets)?)?)
    }

    /// Logits (B, T, V + 1) of hidden states (B, T, embedding): place p mod D has head p mod D.
    fn heads(&self, hidden: &Tensor) -> Result<Tensor> {
        let (batch, time, width) = hidden.dims3()?;
        let transition = self.config.transition_dim();
        let missing = time.next_multiple_of(transition) - time;
        let padded = match missing {
            0 => hidden.clone(),
            _ => hidden.pad_with_zeros(1, 0, missing)?,
        };
        let places = padded
            .reshape(((), transition, width))?
            .transpose(0, 1)?
            .contiguous()?; // (D, B groups, embedding)
        let logits = self.config.precision.product(&places, &self.head()?.t()?)?; // (D, B groups, V + 1)
        from_places(&logits, batch, time)
    }
}

/// (D, B groups, ..) -> (B, T, ..): back from places to positions.
fn from_places(places: &Tensor, batch: usize, time: usize) -> Result<Tensor> {
    let (_, _, width) = places.dims3()?;
    let positions = places.transpose(0, 1)?.contiguous()?;
    Ok(positions.reshape((batch, (), width))?.narrow(1, 0, time)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::gpt::{HiddenLayer, Scores};
    use crate::norm::NormKind;
    use crate::params::Params;
    use crate::rng::Rng;
    use crate::testing::{check_same_bits, largest_relative_difference};

    fn config() -> TrajectoryTransformerConfig {
        TrajectoryTransformerConfig {
            observation_dim: 3,
            action_dim: 2,
            bins: 11,
            layers: 1,
            heads: 2,
            embedding: 8,
            window_transitions: 4,
            embedding_dropout: 0.2,
            residual_dropout: 0.1,
            attention_dropout: 0.1,
            action_weight: 5.0,
            reward_weight: 2.0,
            value_weight: 0.5,
            precision: Precision::Full,
            instruction_dim: 0,
            activation: Activation::Gelu,
            recipe: Recipe::default(),
            multi_token_weight: 0.7,
        }
    }

    /// Windows of 24 tokens end inside a transition of 7.
    fn tokens(batch: usize, rng: &mut Rng) -> Result<Tensor> {
        let tokens: Vec<u32> = (0..batch * 24).map(|_| rng.below(12) as u32).collect();
        Ok(Tensor::from_vec(tokens, (batch, 24), &Device::Cpu)?)
    }

    /// The paper's network, and one with each part that is not the paper's.
    fn configs() -> Vec<TrajectoryTransformerConfig> {
        let with = |change: &dyn Fn(&mut TrajectoryTransformerConfig)| {
            let mut config = config();
            change(&mut config);
            config
        };
        vec![
            config(),
            with(&|config| config.activation = Activation::SquaredRelu),
            with(&|config| config.recipe.parts.scores = Scores::Cosine),
            with(&|config| config.recipe.parts.norm = NormKind::Rms),
            with(&|config| config.recipe.positions = Positions::StepAndDimension),
            with(&|config| config.recipe.tied_heads = true),
            with(&|config| config.recipe.parts.hidden = HiddenLayer::SwiGlu),
            with(&|config| config.recipe.multi_token = true),
            with(&|config| {
                config.recipe.multi_token = true;
                config.recipe.tied_heads = true;
            }),
        ]
    }

    /// Loss and gradients with dropout.
    fn results(
        dtype: DType,
        config: &TrajectoryTransformerConfig,
        composed: bool,
    ) -> Result<Vec<Tensor>> {
        let rng = &mut Rng::from_seed(8);
        let mut params = Params::new(dtype, &Device::Cpu);
        let network = TrajectoryTransformer::new(config, &mut params.init(rng))?;
        for param in params.iter() {
            let noise = rng.normal_tensor(param.slot.shape(), dtype, &Device::Cpu)?;
            param.slot.set(&(param.slot.tensor()? + (noise * 0.1)?)?)?;
        }
        let (batch, time) = (5, 24);
        let (inputs, targets) = (tokens(batch, rng)?, tokens(batch, rng)?);
        let mask: Vec<u32> = (0..batch * time).map(|i| u32::from(i % 17 != 0)).collect();
        let batch = TokenBatch {
            inputs,
            targets,
            mask: Tensor::from_vec(mask, (batch, time), &Device::Cpu)?,
            instructions: None,
        };
        let dropout = Dropout::draw(&mut Rng::from_seed(9));
        let loss = if composed {
            let x = network.embed(&batch.inputs, None, dropout)?;
            let hidden_period = Some(config.transition_dim());
            let mask_of = AttentionMask {
                hidden_period,
                valid: None,
            };
            let hidden = network.trunk.forward_composed(&x, &mask_of, dropout, 1)?;
            network.losses_of(&hidden, &batch, false)?.sum(0.7)?
        } else {
            network.loss(&batch, dropout)?
        };
        let gradients = (&loss * 3.0)?.backward()?;
        let gradients = params
            .iter()
            .filter_map(|p| gradients.get(p.slot.var()).cloned());
        Ok(std::iter::once(loss).chain(gradients).collect())
    }

    #[test]
    fn fused_trunk_and_loss_equal_plain_tensor_operations() -> Result<()> {
        for config in &configs() {
            // Rounding of sums over 120 tokens.
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-4)] {
                let fused = results(dtype, config, false)?;
                let composed = results(dtype, config, true)?;
                assert_eq!(fused.len(), composed.len());
                for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                    let largest = composed.abs()?.max_all()?.to_dtype(DType::F64)?;
                    if largest.to_scalar::<f64>()? < 1e-6 {
                        continue; // The keys' bias: zero in exact arithmetic.
                    }
                    let difference = largest_relative_difference(fused, composed)?;
                    assert!(
                        difference < tolerance,
                        "{config:?} {dtype:?} {i}: {difference:e}"
                    );
                }
            }
            check_same_bits(|| results(DType::F32, config, false))?;
        }
        Ok(())
    }

    #[test]
    fn cross_entropies_times_weights_and_mask_are_the_loss() -> Result<()> {
        let rng = &mut Rng::from_seed(8);
        let mut params = Params::new(DType::F64, &Device::Cpu);
        let network = TrajectoryTransformer::new(&config(), &mut params.init(rng))?;
        let mask: Vec<u32> = (0..5 * 24).map(|i| u32::from(i % 17 != 0)).collect();
        let batch = TokenBatch {
            inputs: tokens(5, rng)?,
            targets: tokens(5, rng)?,
            mask: Tensor::from_vec(mask, (5, 24), &Device::Cpu)?,
            instructions: None,
        };
        let losses = network.cross_entropies(&batch)?.next.to_vec2::<f64>()?;
        let mask = batch.mask.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let mut sum = 0.0;
        for (losses, mask) in losses.iter().zip(&mask) {
            for (position, (loss, counts)) in losses.iter().zip(mask).enumerate() {
                sum += loss * counts * network.weight(position);
            }
        }
        let loss = network.loss(&batch, Dropout::off())?.to_scalar::<f64>()?;
        // Rounding of a sum of 120 numbers.
        assert!((sum / 120.0 / loss - 1.0).abs() < 1e-13, "{sum} {loss}");
        Ok(())
    }

    #[test]
    fn both_ways_to_embed_tokens_give_the_same_rows_and_gradients() -> Result<()> {
        let rng = &mut Rng::from_seed(8);
        let mut params = Params::new(DType::F64, &Device::Cpu);
        let network = TrajectoryTransformer::new(&config(), &mut params.init(rng))?;
        let inputs = tokens(5, rng)?;
        let upstream = rng.normal_tensor((5, 24, 8), DType::F64, &Device::Cpu)?;
        let table = &params.get("tok_emb.weight").expect("the table").slot;
        let gradient = |embedded: &Tensor| -> Result<Tensor> {
            let gradients = (embedded * &upstream)?.sum_all()?.backward()?;
            Ok(table.gradient(&gradients)?.expect("a gradient"))
        };
        let by_row = network.embedded_by_row(&inputs)?;
        let by_place = network.embedded_by_place(&inputs)?;
        assert!(largest_relative_difference(&by_row, &by_place)? < 1e-15);
        let (by_row, by_place) = (gradient(&by_row)?, gradient(&by_place)?);
        // Rounding of sums over at most 120 tokens.
        assert!(largest_relative_difference(&by_row, &by_place)? < 1e-14);
        Ok(())
    }
}
