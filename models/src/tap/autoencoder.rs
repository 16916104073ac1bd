//! [`Autoencoder`]: a vector-quantised autoencoder of trajectories, whose decoder knows the first state.
//!
//! The authors' `VQContinuousVAE` with `VQStepWiseTransformer` and pooling. One transition is one token: observation, action, reward
//! and value, normalised, and whether the episode is over. A causal transformer reads them, the maximum over every few steps becomes a
//! code, the nearest of the codebook, and a second causal transformer makes the steps of a code out of it and of the first
//! state. Observations are predicted as differences to that state.
//!
//! Both transformers hide every step whose number is a multiple of O + A + 2 (counted from 1) from attention: the authors took
//! over the mask of the Trajectory Transformer, where these columns are values. Hopper's windows of 24 steps have one such step, the 16th;
//! those of halfcheetah and walker2d have none.

use candle_core::{D, DType, Device, Tensor};

use super::codebook::Codebook;
use crate::activation::Activation;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::gpt::blocks::Blocks;
use crate::gpt::{AttentionMask, DEVIATION, GptConfig, Layout, NORM_EPSILON, Parts};
use crate::init::Init;
use crate::linear::{Linear, lookup};
use crate::network::Network;
use crate::norm::{LayerNorm, log_softmax};
use crate::params::Scope;
use crate::precision::Precision;

/// Weights of the terms of an [`Autoencoder`]'s loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossWeights {
    /// Of the first two numbers of an observation; the others have 1.
    pub position: f64,
    /// Of the numbers of an action.
    pub action: f64,
    /// Of rewards.
    pub reward: f64,
    /// Of values.
    pub value: f64,
    /// Of the error of the first action, once more.
    pub first_action: f64,
    /// Of the error of the mean of all rewards.
    pub sum_reward: f64,
    /// Of the error of the last value, once more.
    pub last_value: f64,
}

impl Default for LossWeights {
    /// The authors'.
    fn default() -> Self {
        Self {
            position: 1.0,
            action: 5.0,
            reward: 1.0,
            value: 1.0,
            first_action: 0.0,
            sum_reward: 0.0,
            last_value: 0.0,
        }
    }
}

/// Sizes and settings of an [`Autoencoder`].
#[derive(Debug, Clone, PartialEq)]
pub struct AutoencoderConfig {
    /// O, numbers of an observation.
    pub observation_dim: usize,
    /// A, numbers of an action.
    pub action_dim: usize,
    /// K, codes; 512 in the paper.
    pub codes: usize,
    /// Numbers of a code; 512 in the authors' code.
    pub code_width: usize,
    /// Transitions that share a code; 3 in the paper.
    pub latent_steps: usize,
    /// Blocks of encoder and decoder each; 4 in the paper.
    pub layers: usize,
    /// Attention heads; 4 in the paper.
    pub heads: usize,
    /// Width of the embedding; 512 in the authors' code.
    pub embedding: usize,
    /// Transitions in a window: a positive multiple of `latent_steps`; 24 in the authors' code.
    pub window_transitions: usize,
    /// Dropout of the encoder's embeddings, attention weights and what blocks add; 0.1 in the authors' code.
    pub dropout: f64,
    /// Whether the decoder sees the first state, which it adds to the observations in any case.
    pub state_conditional: bool,
    /// Of the loss.
    pub weights: LossWeights,
}

impl AutoencoderConfig {
    /// Numbers of a transition: O + A, reward and value.
    pub fn joined_dim(&self) -> usize {
        self.observation_dim + self.action_dim + 2
    }

    /// Codes of a window.
    pub fn window_codes(&self) -> usize {
        self.window_transitions / self.latent_steps
    }

    /// What attention hides, of the authors' mask.
    pub fn mask(&self) -> AttentionMask {
        AttentionMask {
            hidden_period: Some(self.joined_dim()),
            valid: None,
        }
    }

    pub(super) fn blocks(&self) -> GptConfig {
        GptConfig {
            layers: self.layers,
            heads: self.heads,
            width: self.embedding,
            inner: 4 * self.embedding,
            activation: Activation::Gelu,
            attention_dropout: self.dropout,
            residual_dropout: self.dropout,
            layout: Layout::MinGpt,
            precision: Precision::Full,
            parts: Parts::default(),
        }
    }
}

/// A batch of windows of T transitions.
#[derive(Debug, Clone)]
pub struct StepBatch {
    /// Observation, action, reward and value, normalised; past the end of an episode what zeros are when normalised,
    /// (B, T, O + A + 2).
    pub joined: Tensor,
    /// 1 past the end of an episode, else 0, (B, T, 1).
    pub terminals: Tensor,
    /// 0 at steps that no episode reaches, else 1, (B, T, 1).
    pub mask: Tensor,
}

impl StepBatch {
    /// The first observations (B, O).
    ///
    /// # Errors
    /// If there are no steps.
    pub fn states(&self, observation_dim: usize) -> Result<Tensor> {
        let first = self.joined.narrow(1, 0, 1)?.squeeze(1)?;
        Ok(first.narrow(1, 0, observation_dim)?.contiguous()?)
    }

    /// The same numbers in another type.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        Ok(Self {
            joined: self.joined.to_dtype(dtype)?,
            terminals: self.terminals.to_dtype(dtype)?,
            mask: self.mask.to_dtype(dtype)?,
        })
    }
}

/// What a batch costs, scalars.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Weighted squared errors, the cross entropy of the ends, and the extra terms.
    pub reconstruction: Tensor,
    /// How far features are from their codes.
    pub commitment: Tensor,
    /// Codes of the windows (B, T / `latent_steps`), u32.
    pub codes: Tensor,
}

/// The network.
#[derive(Debug, Clone)]
pub struct Autoencoder {
    encoder: Blocks,
    decoder: Blocks,
    codebook: Tensor,           // (K, code width), never with gradients
    position_embedding: Tensor, // (1, T, embedding), of both transformers
    embed: Linear,
    predict: Linear,
    cast_embed: Linear,
    latent_mixing: Linear,
    norm: LayerNorm,
    config: AutoencoderConfig,
}

impl Network for Autoencoder {
    type Config = AutoencoderConfig;

    fn build(config: &AutoencoderConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }
}

impl Autoencoder {
    /// Makes the network with the authors' initial values: normal with standard deviation 0.02 for weights, zero positions and biases,
    /// U(±1/K) for the codebook.
    ///
    /// # Errors
    /// If a size makes no sense or the scope's parameters don't fit.
    pub fn new(config: &AutoencoderConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let sizes = [
            config.observation_dim,
            config.action_dim,
            config.codes,
            config.code_width,
            config.latent_steps,
            config.window_transitions,
        ];
        let fits = || {
            config
                .window_transitions
                .is_multiple_of(config.latent_steps)
        };
        if sizes.contains(&0) || !fits() {
            let reason =
                format!("sizes must be positive, and windows hold whole codes: {config:?}");
            return Err(Error::Config {
                what: "Autoencoder",
                reason,
            });
        }
        let (width, blocks) = (config.embedding, config.blocks());
        let (step, steps) = (config.joined_dim() + 1, config.window_transitions);
        let mixed = config.code_width + config.observation_dim;
        let linear = |inputs, outputs, scope: &mut Scope<'_>| {
            Linear::with_init(inputs, outputs, Init::Normal(DEVIATION), Init::Zeros, scope)
        };
        let bound = 1.0 / config.codes as f64;
        let codes = (config.codes, config.code_width);
        Ok(Self {
            encoder: Blocks::new(&blocks, "encoder", scope)?,
            codebook: scope.sub("codebook").frozen(
                "embedding",
                codes,
                Init::Uniform(bound).fill(),
            )?,
            decoder: Blocks::new(&blocks, "decoder", scope)?,
            position_embedding: scope.param("pos_emb", (1, steps, width), Init::Zeros.fill())?,
            embed: linear(step, width, &mut scope.sub("embed"))?,
            predict: linear(width, step, &mut scope.sub("predict"))?,
            cast_embed: linear(width, config.code_width, &mut scope.sub("cast_embed"))?,
            latent_mixing: linear(mixed, width, &mut scope.sub("latent_mixing"))?,
            norm: LayerNorm::new(width, NORM_EPSILON, &mut scope.sub("ln_f"))?,
            config: config.clone(),
        })
    }

    /// Its sizes and settings.
    pub fn config(&self) -> &AutoencoderConfig {
        &self.config
    }

    /// Features (B, T / `latent_steps`, code width) of a batch.
    ///
    /// # Errors
    /// If a shape doesn't fit.
    pub fn features(&self, batch: &StepBatch, dropout: Dropout) -> Result<Tensor> {
        let steps = Tensor::cat(&[&batch.joined, &batch.terminals], 2)?; // (B, T, O + A + 3)
        let positions = self.positions(steps.dim(1)?)?;
        let x = self.embed.forward(&steps)?.broadcast_add(&positions)?;
        let x = dropout.apply(&x, 0, self.config.dropout)?; // (B, T, embedding)
        let x = self.encoder.forward(&x, &self.config.mask(), dropout, 1)?;
        let (batch, _, width) = x.dims3()?;
        let pooled = x
            .reshape((batch, (), self.config.latent_steps, width))?
            .max(2)?; // (B, T / latent steps, embedding)
        self.cast_embed.forward(&pooled)
    }

    /// The nearest codes (B, T / `latent_steps`), u32, of features; the first of several that are equally near.
    ///
    /// # Errors
    /// If the shape doesn't fit.
    pub fn nearest(&self, features: &Tensor) -> Result<Tensor> {
        let (batch, time, width) = features.dims3()?;
        let flat = features.detach().reshape((batch * time, width))?;
        // |x - c|² without |x|², which all codes share.
        let norms = self.codebook.sqr()?.sum(1)?; // (K)
        let products = (flat.matmul(&self.codebook.t()?)? * -2.0)?;
        let distances = products.broadcast_add(&norms)?; // (B T / latent steps, K)
        Ok(distances.argmin(D::Minus1)?.reshape((batch, time))?)
    }

    /// Codes of a batch, as [`nearest`](Self::nearest), without dropout.
    ///
    /// # Errors
    /// If a shape doesn't fit.
    pub fn encode(&self, batch: &StepBatch) -> Result<Tensor> {
        self.nearest(&self.features(batch, Dropout::off())?)
    }

    /// Rows of the codebook (B, N, code width), as they are now, for codes (B, N).
    ///
    /// # Errors
    /// If a code is out of range.
    pub fn vectors(&self, codes: &Tensor) -> Result<Tensor> {
        let (batch, count) = codes.dims2()?;
        let rows = lookup(&self.codebook, &codes.flatten_all()?)?;
        Ok(rows.reshape((batch, count, self.config.code_width))?)
    }

    /// Transitions (B, N `latent_steps`, O + A + 3) of code vectors (B, N, code width) and first observations (B, O): the last number is
    /// the logit of the probability that the episode is over.
    ///
    /// # Errors
    /// If a shape doesn't fit, or there are more codes than a window has.
    pub fn decode(&self, vectors: &Tensor, states: &Tensor, dropout: Dropout) -> Result<Tensor> {
        let (batch, count, _) = vectors.dims3()?;
        let (o, steps) = (self.config.observation_dim, self.config.latent_steps);
        let state = states.unsqueeze(1)?; // (B, 1, O)
        let seen = if self.config.state_conditional {
            state.broadcast_as((batch, count, o))?
        } else {
            state.zeros_like()?.broadcast_as((batch, count, o))?
        };
        let mixed = Tensor::cat(&[&seen.contiguous()?, vectors], 2)?;
        let mixed = self.latent_mixing.forward(&mixed)?; // (B, N, embedding)
        let repeated = mixed
            .unsqueeze(2)?
            .broadcast_as((batch, count, steps, self.config.embedding))?
            .reshape((batch, count * steps, self.config.embedding))?;
        let x = repeated.broadcast_add(&self.positions(count * steps)?)?;
        let site = 1 + self.encoder.sites();
        let x = self
            .decoder
            .forward(&x, &self.config.mask(), dropout, site)?;
        let found = self.predict.forward(&self.norm.forward(&x)?)?; // (B, N latent steps, O + A + 3)
        let rest = found.dim(2)? - o;
        let observations = found.narrow(2, 0, o)?.broadcast_add(&state)?;
        Ok(Tensor::cat(
            &[&observations, &found.narrow(2, o, rest)?],
            2,
        )?)
    }

    /// What a batch costs. `codebook` follows the features on the way, if there is one: the decoder gets the codes' vectors from
    /// before, and the commitment is to those from after, as in the authors' code.
    ///
    /// # Errors
    /// If a shape doesn't fit.
    pub fn losses(
        &self,
        batch: &StepBatch,
        codebook: Option<&Codebook>,
        dropout: Dropout,
    ) -> Result<Losses> {
        let features = self.features(batch, dropout)?;
        let codes = self.nearest(&features)?;
        let vectors = self.vectors(&codes)?.detach();
        if let Some(codebook) = codebook {
            codebook.follow(&features.detach(), &codes)?;
        }
        // Straight through: the value of the code, the gradient of the feature.
        let passed = (vectors + (&features - features.detach())?)?;
        let states = batch.states(self.config.observation_dim)?;
        let found = self.decode(&passed, &states, dropout)?;
        let now = self.vectors(&codes)?.detach();
        Ok(Losses {
            reconstruction: self.reconstruction(&found, batch)?,
            commitment: (features - now)?.sqr()?.mean_all()?,
            codes,
        })
    }

    /// The authors' reconstruction loss of what was decoded: squared errors, each with its weight and masks, meaned over all numbers,
    /// masked ones too, plus the cross entropy of the ends, plus the extra terms.
    fn reconstruction(&self, found: &Tensor, batch: &StepBatch) -> Result<Tensor> {
        let (config, weights) = (&self.config, &self.config.weights);
        let (o, a, joined) = (
            config.observation_dim,
            config.action_dim,
            config.joined_dim(),
        );
        let predicted = found.narrow(2, 0, joined)?; // (B, T, O + A + 2)
        let errors = (&predicted - &batch.joined)?;
        let counted = (batch.terminals.affine(-1.0, 1.0)? * &batch.mask)?; // (B, T, 1)
        let weighted = errors
            .sqr()?
            .broadcast_mul(&self.weights(found.dtype(), found.device())?)?
            .broadcast_mul(&counted)?;
        let mut loss = weighted.mean_all()?;
        let mut add = |weight: f64, error: Tensor| -> Result<()> {
            loss = (&loss + (error.sqr()?.mean_all()? * weight)?)?;
            Ok(())
        };
        // Terms of weight 0 cost nothing and are not computed.
        if weights.first_action > 0.0 {
            add(
                weights.first_action,
                errors.narrow(1, 0, 1)?.narrow(2, o, a)?,
            )?;
        }
        if weights.sum_reward > 0.0 {
            add(weights.sum_reward, errors.narrow(2, o + a, 1)?.mean(1)?)?;
        }
        if weights.last_value > 0.0 {
            let last = errors.dim(1)? - 1;
            add(
                weights.last_value,
                errors.narrow(1, last, 1)?.narrow(2, o + a + 1, 1)?,
            )?;
        }
        // Logits (0, z) of "goes on" and "over".
        let logit = found.narrow(2, joined, 1)?;
        let log = log_softmax(&Tensor::cat(&[&logit.zeros_like()?, &logit], 2)?)?; // (B, T, 2)
        let target = Tensor::cat(&[&batch.terminals.affine(-1.0, 1.0)?, &batch.terminals], 2)?;
        let entropy = ((log * target)?.sum(2)?.mean_all()? * -1.0)?;
        Ok((loss + entropy)?)
    }

    /// Weights (1, 1, O + A + 2) of squared errors.
    fn weights(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        let (config, of) = (&self.config, &self.config.weights);
        let weight = |at: usize| match at {
            0 | 1 if at < config.observation_dim => of.position,
            _ if at < config.observation_dim => 1.0,
            _ if at < config.joined_dim() - 2 => of.action,
            _ if at == config.joined_dim() - 2 => of.reward,
            _ => of.value,
        };
        let weights: Vec<f64> = (0..config.joined_dim()).map(weight).collect();
        let weights = Tensor::from_vec(weights, (1, 1, ()), &Device::Cpu)?;
        Ok(weights.to_dtype(dtype)?.to_device(device)?)
    }

    /// Positions (1, `count`, embedding) of the first steps.
    fn positions(&self, count: usize) -> Result<Tensor> {
        let most = self.config.window_transitions;
        if count == 0 || count > most {
            let reason = format!("{count} steps, the window takes 1 to {most}");
            return Err(Error::Config {
                what: "Autoencoder",
                reason,
            });
        }
        if count == most {
            Ok(self.position_embedding.clone())
        } else {
            Ok(self.position_embedding.narrow(1, 0, count)?)
        }
    }
}
