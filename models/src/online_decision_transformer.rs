//! The network of the Online Decision Transformer (Zheng et al. 2022): distributions of actions from returns to go, states and actions.
//!
//! The model of the authors' code (facebookresearch/online-dt @ c376fa1, `decision_transformer/models`), with their parameter names and
//! layouts, but for `encoder`, which is their `transformer`. What nothing trains or reads there, heads for states and returns and a table
//! of time steps, is left out.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::decision_transformer::Contexts;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::gaussian::{Gaussian, TanhCorrection, TanhGaussian};
use crate::gpt::{AttentionMask, Gpt, GptConfig, Layout, NORM_EPSILON, Parts};
use crate::init::Init;
use crate::linear::{Linear, lookup};
use crate::norm::LayerNorm;
use crate::params::Scope;
use crate::precision::Precision;

/// What ln σ lies between: a tanh is stretched to it.
const LOG_STD: (f64, f64) = (-5.0, 2.0);

/// Sizes and settings of an [`OnlineDecisionTransformer`].
#[derive(Debug, Clone, PartialEq)]
pub struct OnlineDecisionTransformerConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// H, width of the embedding; 512 in the paper.
    pub hidden: usize,
    /// Blocks; 4 in the paper.
    pub layers: usize,
    /// Attention heads; divides `hidden`. 4 in the paper.
    pub heads: usize,
    /// Rows of a table of time steps, which is added to all tokens of a step; time steps must be smaller. `None`: none, as in the paper.
    pub timesteps: Option<usize>,
    /// Dropout of the embedded tokens, of attention weights and of what blocks add; 0.1 in the authors' code.
    pub dropout: f64,
}

/// The network.
#[derive(Debug, Clone)]
pub struct OnlineDecisionTransformer {
    embed_timestep: Option<Tensor>, // (timesteps, H)
    embed_return: Linear,
    embed_observation: Linear,
    embed_action: Linear,
    embed_norm: LayerNorm,
    trunk: Gpt,
    mean: Linear,
    log_std: Linear,
    config: OnlineDecisionTransformerConfig,
}

impl OnlineDecisionTransformer {
    /// Makes the network with the authors' initial values: PyTorch's defaults outside the trunk (N(0, 1) for the table of time steps),
    /// standard deviation 0.02 inside, orthogonal weights without biases in both heads.
    ///
    /// # Errors
    /// If a size makes no sense or the scope's parameters don't fit.
    pub fn new(config: &OnlineDecisionTransformerConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (o, a, hidden) = (config.observation_dim, config.action_dim, config.hidden);
        if [o, a, hidden].contains(&0) || config.timesteps == Some(0) {
            let reason = format!("dimensions and table sizes must be positive: {config:?}");
            return Err(Error::Config {
                what: "OnlineDecisionTransformer",
                reason,
            });
        }
        let trunk = GptConfig {
            layers: config.layers,
            heads: config.heads,
            width: hidden,
            inner: 4 * hidden,
            activation: Activation::Relu,
            attention_dropout: config.dropout,
            residual_dropout: config.dropout,
            layout: Layout::Gpt2,
            precision: Precision::Full,
            parts: Parts::default(),
        };
        let embed_timestep = match config.timesteps {
            Some(rows) => Some(scope.sub("embed_ordering").param(
                "weight",
                (rows, hidden),
                Init::Normal(1.0).fill(),
            )?),
            None => None,
        };
        let embed_return = Linear::new(1, hidden, &mut scope.sub("embed_return"))?;
        let embed_observation = Linear::new(o, hidden, &mut scope.sub("embed_state"))?;
        let embed_action = Linear::new(a, hidden, &mut scope.sub("embed_action"))?;
        let embed_norm = LayerNorm::new(hidden, NORM_EPSILON, &mut scope.sub("embed_ln"))?;
        let trunk = Gpt::new(&trunk, &mut scope.sub("encoder"))?;
        let mut actor = scope.sub("predict_action");
        let mut head = |name: &str| {
            let init = Init::Orthogonal(1.0);
            Linear::with_init(hidden, a, init, Init::Zeros, &mut actor.sub(name))
        };
        Ok(Self {
            embed_timestep,
            embed_return,
            embed_observation,
            embed_action,
            embed_norm,
            trunk,
            mean: head("mu")?,
            log_std: head("log_std")?,
            config: config.clone(),
        })
    }

    /// The network for acting: its parameters are read now, once for all ([`Gpt::fixed`]).
    ///
    /// # Errors
    /// If the device fails.
    pub fn fixed(mut self) -> Result<Self> {
        self.trunk = self.trunk.fixed()?;
        Ok(self)
    }

    /// Its sizes and settings.
    pub fn config(&self) -> &OnlineDecisionTransformerConfig {
        &self.config
    }

    /// The distribution of the action at every step (B, T, A), from the state's token; rows of padding are meaningless.
    ///
    /// # Errors
    /// If a shape doesn't fit, a time step is too large, or the contexts have instructions.
    pub fn distribution(&self, contexts: &Contexts, dropout: Dropout) -> Result<TanhGaussian> {
        let (batch, time, _) = contexts.observations.dims3()?;
        let hidden = self.config.hidden;
        if contexts.instructions.is_some() {
            return Err(Error::Config {
                what: "OnlineDecisionTransformer",
                reason: "it reads no instructions".to_owned(),
            });
        }
        let mut tokens = [
            self.embed_return.forward(&contexts.returns)?, // (B, T, H)
            self.embed_observation.forward(&contexts.observations)?,
            self.embed_action.forward(&contexts.actions)?,
        ];
        if let Some(table) = &self.embed_timestep {
            let times = lookup(table, &contexts.timesteps.flatten_all()?)?;
            let times = times.reshape((batch, time, hidden))?;
            for token in &mut tokens {
                *token = (&*token + &times)?;
            }
        }
        let x = Tensor::stack(&tokens, 2)?.reshape((batch, 3 * time, hidden))?;
        let x = self.embed_norm.forward(&x)?;
        let x = dropout.apply(&x, 0, self.config.dropout)?;
        let valid = contexts.mask.unsqueeze(2)?.broadcast_as((batch, time, 3))?;
        let mask = AttentionMask {
            hidden_period: None,
            valid: Some(valid.contiguous()?.reshape((batch, 3 * time))?),
        };
        let x = self.trunk.forward(&x, &mask, dropout, 1)?;
        let x = x.reshape((batch, time, 3, hidden))?;
        let states = x.narrow(2, 1, 1)?.squeeze(2)?.contiguous()?; // (B, T, H)
        let (low, high) = LOG_STD;
        let log_std = (self.log_std.forward(&states)?.tanh()? + 1.0)?;
        Ok(TanhGaussian {
            gaussian: Gaussian {
                mean: self.mean.forward(&states)?,
                log_std: ((log_std * (0.5 * (high - low)))? + low)?,
            },
            correction: TanhCorrection::Exact,
        })
    }
}
