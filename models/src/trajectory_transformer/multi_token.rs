//! [`MultiToken`]: heads of a [`TrajectoryTransformer`] that predict several tokens from one position.
//!
//! From where the last number of an action stands, the head of that place predicts the reward as ever; beside it each of the O + 1
//! tokens after the reward, the value and the next observation, is predicted from the same hidden state h (C numbers, after the last
//! norm):
//!
//! ```text
//! logits_k = H_k (h + SiLU(W_k h + b_k)),    k = value, observation 0, ..., observation O - 1
//! ```
//!
//! H_k is the head that predicts that token from the position before it (shared, as Gloeckle et al. 2024 share the unembedding among
//! their heads, <https://arxiv.org/abs/2404.19737>); W_k (C, C) and b_k are its own: the residual layer of Medusa's heads (Cai et al. 2024,
//! <https://arxiv.org/abs/2401.10774>) in place of their whole transformer layer. They cost K C (C + V + 1) products once in each
//! transition, where the blocks cost 12 C² each for each of its D tokens. The tokens are predicted independently of each other.

use candle_core::{D, DType, Tensor};

use super::{TokenBatch, TrajectoryTransformer, TrajectoryTransformerConfig};
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::gpt::{DEVIATION, silu};
use crate::init::Init;
use crate::kernels::heads_loss::HeadsLoss;
use crate::kernels::switch::Kernel;
use crate::linear::Linear;
use crate::norm::log_softmax;
use crate::params::Scope;
use crate::precision::Precision;

/// The layers W_k, one after the other: `multi_token.weight` (K C, C) and `multi_token.bias` (K C), K = O + 1.
#[derive(Debug, Clone)]
pub(super) struct MultiToken {
    layers: Linear,
}

impl MultiToken {
    pub(super) fn new(config: &TrajectoryTransformerConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (width, count) = (config.embedding, config.observation_dim + 1);
        let (weight, bias) = (Init::Normal(DEVIATION), Init::Zeros);
        let scope = &mut scope.sub("multi_token");
        Ok(Self {
            layers: Linear::with_init(width, count * width, weight, bias, scope)?,
        })
    }

    /// What the heads read (n, K, C) of hidden states (n, C).
    fn states(&self, hidden: &Tensor, precision: Precision) -> Result<Tensor> {
        let (rows, width) = hidden.dims2()?;
        let own = silu(&self.layers.forward_in(hidden, precision)?)?;
        let own = own.reshape((rows, (), width))?;
        Ok(own.broadcast_add(&hidden.unsqueeze(1)?)?)
    }
}

/// Cross entropies of the targets in nats, without dropout or weights.
#[derive(Debug, Clone)]
pub struct CrossEntropies {
    /// Of each position's next token (B, T), whatever the mask says.
    pub next: Tensor,
    /// Of networks that predict several tokens at once: those (B, S, K) of S transitions, value first, then the next observation.
    pub multi_token: Option<Tensor>,
}

/// A training loss in its parts.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Of each position's next token: the authors' loss.
    pub next: Tensor,
    /// Of networks that predict several tokens at once: that of these predictions, before its weight.
    pub multi_token: Option<Tensor>,
}

impl Losses {
    /// What training minimises, where these predictions have this weight.
    ///
    /// # Errors
    /// If the device fails.
    pub fn sum(&self, multi_token_weight: f64) -> Result<Tensor> {
        match &self.multi_token {
            None => Ok(self.next.clone()),
            Some(more) => Ok((&self.next + (more * multi_token_weight)?)?),
        }
    }
}

impl TrajectoryTransformer {
    /// The training loss in its parts, scalars: weighted cross entropies of the targets that count, over B T positions.
    ///
    /// # Errors
    /// As [`Self::loss`].
    pub fn losses(&self, batch: &TokenBatch, dropout: Dropout) -> Result<Losses> {
        let hidden = self.hidden(&batch.inputs, batch.instructions.as_ref(), dropout)?; // (B, T, C)
        let fused = Kernel::HeadsLoss.takes(&hidden) && self.config.precision == Precision::Full;
        self.losses_of(&hidden, batch, fused)
    }

    /// [`Self::losses`] of hidden states (B, T, C), with fused operations or without.
    pub(super) fn losses_of(
        &self,
        hidden: &Tensor,
        batch: &TokenBatch,
        fused: bool,
    ) -> Result<Losses> {
        Ok(Losses {
            next: if fused {
                self.fused_loss(hidden, batch)?
            } else {
                self.composed_loss(hidden, batch)?
            },
            multi_token: match &self.multi_token {
                None => None,
                Some(heads) => Some(self.multi_token_loss(heads, hidden, batch, fused)?),
            },
        })
    }

    /// Cross entropies of the targets.
    ///
    /// # Errors
    /// As [`Self::loss`].
    pub fn cross_entropies(&self, batch: &TokenBatch) -> Result<CrossEntropies> {
        let hidden = self.hidden(&batch.inputs, batch.instructions.as_ref(), Dropout::off())?;
        Ok(CrossEntropies {
            next: cross_entropies(&self.heads(&hidden)?, &batch.targets)?,
            multi_token: match &self.multi_token {
                None => None,
                Some(heads) => {
                    let logits = self.multi_token_heads(heads, &hidden)?;
                    Some(cross_entropies(
                        &logits,
                        &self.multi_token_targets(&batch.targets)?,
                    )?)
                }
            },
        })
    }

    /// Logits (B, S, K, V + 1) of the K = O + 1 tokens after the reward, value first, of the S transitions of `tokens` (B, T)
    /// that have their whole action there, as [`Self::logits`] gives those of next tokens.
    ///
    /// # Errors
    /// If the network predicts no tokens but the next, and as [`Self::logits`].
    pub fn multi_token_logits(
        &self,
        tokens: &Tensor,
        instructions: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Some(heads) = &self.multi_token else {
            return Err(Error::Config {
                what: "TrajectoryTransformer",
                reason: "it predicts no tokens but the next".to_owned(),
            });
        };
        self.multi_token_heads(heads, &self.hidden(tokens, instructions, Dropout::off())?)
    }

    /// Which of these predictions count (B, S, K), 1 or 0, by a mask (B, T) of positions: those of tokens that count where they are
    /// predicted from the position before, if the position of the last action counts as well (that of a goal does not).
    ///
    /// # Errors
    /// If the shape doesn't fit.
    pub fn multi_token_mask(&self, mask: &Tensor) -> Result<Tensor> {
        let own = self.multi_token_targets(mask)?;
        let last = self.of_last_actions(&mask.unsqueeze(2)?)?; // (B, S, 1)
        Ok(own.broadcast_mul(&last)?)
    }

    /// Weight in the loss of prediction `index` of K.
    pub fn multi_token_weight(&self, index: usize) -> f64 {
        if index == 0 {
            self.config.value_weight
        } else {
            1.0
        }
    }

    /// S: transitions whose whole action is among `time` tokens.
    fn whole_actions(&self, time: usize) -> Result<usize> {
        let count = (time + 2) / self.config.transition_dim();
        if count > 0 {
            return Ok(count);
        }
        Err(Error::Config {
            what: "TrajectoryTransformer",
            reason: format!(
                "{time} tokens have no whole action, after which several are predicted"
            ),
        })
    }

    /// Of (B, T, n) what stands where the last number of an action does (B, S, n).
    fn of_last_actions(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, time, width) = x.dims3()?;
        let (period, count) = (self.config.transition_dim(), self.whole_actions(time)?);
        let missing = (count * period).saturating_sub(time);
        let x = match missing {
            0 => x.narrow(1, 0, count * period)?,
            _ => x.pad_with_zeros(1, 0, missing)?,
        };
        let x = x.reshape((batch, count, period, width))?;
        Ok(x.narrow(2, period - 3, 1)?.squeeze(2)?.contiguous()?)
    }

    /// Of what belongs to positions (B, T), targets or mask, what belongs to those that predict the K tokens after a reward from the
    /// positions before them (B, S, K); zeros past the window's end.
    ///
    /// # Errors
    /// If the tokens have no whole action.
    pub fn multi_token_targets(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, time) = x.dims2()?;
        let (period, count) = (self.config.transition_dim(), self.whole_actions(time)?);
        // The position of the first reward predicts its value.
        let (first, there) = (period - 2, time + 2 - period);
        let x = x.narrow(1, first, there)?;
        let x = x.pad_with_zeros(1, 0, count * period - there)?;
        let x = x.reshape((batch, count, period))?;
        Ok(x.narrow(2, 0, self.config.observation_dim + 1)?
            .contiguous()?)
    }

    /// The heads (K, V + 1, C) that predict these tokens from the positions before them.
    fn shared_heads(&self) -> Result<Tensor> {
        let (period, o) = (self.config.transition_dim(), self.config.observation_dim);
        let all = self.head()?;
        let first = all.narrow(0, period - 2, 2)?; // of value and observation 0
        match o {
            1 => Ok(first.contiguous()?),
            _ => Ok(Tensor::cat(&[first, all.narrow(0, 0, o - 1)?], 0)?),
        }
    }

    fn multi_token_heads(&self, heads: &MultiToken, hidden: &Tensor) -> Result<Tensor> {
        let hidden = self.of_last_actions(hidden)?;
        let (batch, count, width) = hidden.dims3()?;
        let states = heads.states(&hidden.reshape(((), width))?, self.config.precision)?;
        let states = states.transpose(0, 1)?.contiguous()?; // (K, B S, C)
        let logits = self
            .config
            .precision
            .product(&states, &self.shared_heads()?.t()?)?; // (K, B S, V + 1)
        let classes = self.config.bins + 1;
        let logits = logits.transpose(0, 1)?.contiguous()?;
        Ok(logits.reshape((batch, count, (), classes))?)
    }

    fn multi_token_loss(
        &self,
        heads: &MultiToken,
        hidden: &Tensor,
        of: &TokenBatch,
        fused: bool,
    ) -> Result<Tensor> {
        let (batch, time, width) = hidden.dims3()?;
        let share = 1.0 / (batch * time) as f64;
        let targets = self.multi_token_targets(&of.targets)?; // (B, S, K)
        let count = targets.dim(D::Minus1)?;
        let weights = (0..count).map(|index| share * self.multi_token_weight(index));
        let weights: Vec<f64> = weights.collect();
        let mask = self.multi_token_mask(&of.mask.to_dtype(hidden.dtype())?)?;
        if fused {
            let rows = self.of_last_actions(hidden)?.reshape(((), width))?;
            let states = heads.states(&rows, self.config.precision)?; // (B S, K, C)
            let mask = mask.to_dtype(DType::F64)?.flatten_all()?;
            let mask = mask.to_vec1::<f64>()?;
            let weights = mask.iter().zip(weights.iter().cycle());
            let what = HeadsLoss {
                targets: targets.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?,
                weights: weights.map(|(mask, weight)| mask * weight).collect(),
            };
            return Ok(what.apply(&states, &self.shared_heads()?)?);
        }
        let losses = cross_entropies(&self.multi_token_heads(heads, hidden)?, &targets)?;
        let weights = Tensor::from_vec(weights, count, &candle_core::Device::Cpu)?;
        let weights = weights
            .to_dtype(losses.dtype())?
            .to_device(losses.device())?;
        Ok((losses * mask.broadcast_mul(&weights)?)?.sum_all()?)
    }
}

/// Cross entropies (..) of targets (..) by logits (.., V + 1).
fn cross_entropies(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let targets = targets.unsqueeze(D::Minus1)?;
    let found = log_softmax(logits)?.gather(&targets, D::Minus1)?;
    Ok(found.squeeze(D::Minus1)?.neg()?)
}
