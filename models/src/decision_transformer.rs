//! The Decision Transformer (Chen et al. 2021): actions from returns to go, states and actions.
//!
//! The model of the authors' gym code (github.com/kzl/decision-transformer at e2d82e6,
//! gym/decision_transformer/models), with the parameter names and layouts of
//! `DecisionTransformerModel` in `transformers`, so that files open in both.

use candle_core::Tensor;

use crate::activation::Activation;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::gpt::{AttentionMask, DEVIATION, Gpt, GptConfig, Layout, NORM_EPSILON, Parts};
use crate::init::Init;
use crate::instruction::InstructionNetwork;
use crate::linear::{Linear, lookup};
use crate::norm::LayerNorm;
use crate::params::Scope;
use crate::precision::Precision;

/// Sizes and settings of a [`DecisionTransformer`].
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionTransformerConfig {
    /// O.
    pub observation_dim: usize,
    /// A; of choices their number.
    pub action_dim: usize,
    /// Whether actions are choices, which the network reads as rows of zeros with a 1 and predicts as logits.
    pub choices: bool,
    /// H, width of the embedding; 128 in the paper.
    pub hidden: usize,
    /// Blocks; 3 in the paper.
    pub layers: usize,
    /// Attention heads; 1 in the paper.
    pub heads: usize,
    /// Width of each block's hidden layer; 4 H in the paper.
    pub inner: usize,
    /// Activation of the blocks; ReLU in the authors' gym code.
    pub activation: Activation,
    /// Rows of the time-step table; time steps must be smaller. 1000 in the paper.
    pub max_timesteps: usize,
    /// Rows of the position table `wpe`, kept for the layout's sake; 1024 in `transformers`.
    pub positions: usize,
    /// Dropout of the embedded tokens; 0.1 in the authors' code.
    pub embedding_dropout: f64,
    /// Dropout of what blocks add; 0.1 in the authors' code.
    pub residual_dropout: f64,
    /// Dropout of attention weights; 0.1 in the authors' code.
    pub attention_dropout: f64,
    /// Precision of the blocks' matrix products.
    pub precision: Precision,
    /// E, numbers in the embedding of an instruction (of length 1), which is added to every state token through two
    /// linear layers; 0: the network reads none.
    pub instruction_dim: usize,
}

impl DecisionTransformerConfig {
    /// The paper's gym settings for these dimensions.
    pub fn paper(observation_dim: usize, action_dim: usize) -> Self {
        Self {
            observation_dim,
            action_dim,
            choices: false,
            hidden: 128,
            layers: 3,
            heads: 1,
            inner: 512,
            activation: Activation::Relu,
            max_timesteps: 1000,
            positions: 1024,
            embedding_dropout: 0.1,
            residual_dropout: 0.1,
            attention_dropout: 0.1,
            precision: Precision::Full,
            instruction_dim: 0,
        }
    }
}

/// A batch of contexts. Padding is wherever `mask` is 0 (on the left in the authors' code).
#[derive(Debug, Clone)]
pub struct Contexts {
    /// Returns to go (B, T, 1), scaled.
    pub returns: Tensor,
    /// Observations (B, T, O), normalised.
    pub observations: Tensor,
    /// Actions (B, T, A), of choices a 1 among zeros; the one to be predicted is not looked at.
    pub actions: Tensor,
    /// Time steps in the episode (B, T), u32.
    pub timesteps: Tensor,
    /// 1 for steps, 0 for padding (B, T).
    pub mask: Tensor,
    /// Embedding of each context's instruction (B, E), for networks with an `instruction_dim`.
    pub instructions: Option<Tensor>,
}

/// What the network predicts at every step; rows of padding are meaningless.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// Actions (B, T, A) in ±1, from the state token; logits of choices.
    pub actions: Tensor,
    /// Next observations (B, T, O), from the action token; untrained in the paper.
    pub observations: Tensor,
    /// Next returns to go (B, T, 1), from the action token; untrained in the paper.
    pub returns: Tensor,
}

/// The network.
#[derive(Debug, Clone)]
pub struct DecisionTransformer {
    pub(crate) embed_timestep: Tensor, // (max_timesteps, H)
    pub(crate) embed_return: Linear,
    pub(crate) embed_observation: Linear,
    pub(crate) embed_action: Linear,
    pub(crate) embed_instruction: InstructionNetwork,
    pub(crate) embed_norm: LayerNorm,
    pub(crate) trunk: Gpt,
    pub(crate) position: Tensor, // (H): row 0 of `wpe`, added to every token
    pub(crate) predict_observation: Linear,
    pub(crate) predict_action: Linear,
    pub(crate) predict_return: Linear,
    pub(crate) config: DecisionTransformerConfig,
}

impl DecisionTransformer {
    /// Makes the network with the authors' initial values: PyTorch's defaults outside the trunk (N(0, 1) for the
    /// time-step table), standard deviation 0.02 inside.
    ///
    /// `encoder.wte` (unused) and `encoder.wpe` (zero: the authors took positions out) are frozen
    /// and exist for files that `transformers` opens. It adds row 0 of `wpe` to every token, and so
    /// does this network: zero for models trained here, whatever it is for loaded ones.
    ///
    /// # Errors
    /// If a size makes no sense or the scope's parameters don't fit.
    pub fn new(config: &DecisionTransformerConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let sizes = [
            config.observation_dim,
            config.action_dim,
            config.hidden,
            config.inner,
        ];
        if sizes.contains(&0) || config.max_timesteps == 0 || config.positions == 0 {
            let reason = format!("dimensions and table sizes must be positive: {config:?}");
            return Err(Error::Config {
                what: "DecisionTransformer",
                reason,
            });
        }
        let (observation, action, hidden) =
            (config.observation_dim, config.action_dim, config.hidden);
        let trunk = GptConfig {
            layers: config.layers,
            heads: config.heads,
            width: hidden,
            inner: config.inner,
            activation: config.activation,
            attention_dropout: config.attention_dropout,
            residual_dropout: config.residual_dropout,
            layout: Layout::Gpt2,
            precision: config.precision,
            parts: Parts::default(),
        };
        let table = (config.max_timesteps, hidden);
        let embed_timestep =
            scope
                .sub("embed_timestep")
                .param("weight", table, Init::Normal(1.0).fill())?;
        let embed_return = Linear::new(1, hidden, &mut scope.sub("embed_return"))?;
        let embed_observation = Linear::new(observation, hidden, &mut scope.sub("embed_state"))?;
        let embed_action = Linear::new(action, hidden, &mut scope.sub("embed_action"))?;
        let embed_instruction =
            InstructionNetwork::new("DecisionTransformer", config.instruction_dim, hidden, scope)?;
        let embed_norm = LayerNorm::new(hidden, NORM_EPSILON, &mut scope.sub("embed_ln"))?;
        let mut encoder = scope.sub("encoder");
        let normal = Init::Normal(DEVIATION);
        encoder
            .sub("wte")
            .frozen("weight", (1, hidden), normal.fill())?;
        let positions = (config.positions, hidden);
        let position = encoder
            .sub("wpe")
            .frozen("weight", positions, Init::Zeros.fill())?;
        let trunk = Gpt::new(&trunk, &mut encoder)?;
        Ok(Self {
            embed_timestep,
            embed_return,
            embed_observation,
            embed_action,
            embed_instruction,
            embed_norm,
            trunk,
            position: position.get(0)?,
            predict_observation: Linear::new(hidden, observation, &mut scope.sub("predict_state"))?,
            predict_action: Linear::new(hidden, action, &mut scope.sub("predict_action").sub(0))?,
            predict_return: Linear::new(hidden, 1, &mut scope.sub("predict_return"))?,
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
    pub fn config(&self) -> &DecisionTransformerConfig {
        &self.config
    }

    /// Predicted actions (B, T, A) in ±1; logits (B, T, A) of choices.
    ///
    /// # Errors
    /// If a shape doesn't fit, a time step is too large, or the contexts have instructions and the network reads none, or the
    /// reverse.
    pub fn forward(&self, contexts: &Contexts, dropout: Dropout) -> Result<Tensor> {
        self.actions(&self.hidden(contexts, dropout)?)
    }

    /// All predictions.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn predictions(&self, contexts: &Contexts, dropout: Dropout) -> Result<Predictions> {
        let hidden = self.hidden(contexts, dropout)?;
        let at_action = token(&hidden, 2)?; // (B, T, H)
        Ok(Predictions {
            actions: self.actions(&hidden)?,
            observations: self.predict_observation.forward(&at_action)?,
            returns: self.predict_return.forward(&at_action)?,
        })
    }

    fn actions(&self, hidden: &Tensor) -> Result<Tensor> {
        let actions = self.predict_action.forward(&token(hidden, 1)?)?;
        Ok(if self.config.choices {
            actions
        } else {
            actions.tanh()?
        })
    }

    /// Hidden states (B, T, 3, H) of the tokens return, state, action of every step.
    fn hidden(&self, contexts: &Contexts, dropout: Dropout) -> Result<Tensor> {
        let (batch, time, _) = contexts.observations.dims3()?;
        let hidden = self.config.hidden;
        let timesteps = contexts.timesteps.flatten_all()?;
        let times = lookup(&self.embed_timestep, &timesteps)?;
        let times = times.reshape((batch, time, hidden))?;
        let mut states = self.embed_observation.forward(&contexts.observations)?; // (B, T, H)
        let instructions = contexts.instructions.as_ref();
        if let Some(asked) = self.embed_instruction.forward(instructions)? {
            states = states.broadcast_add(&asked)?;
        }
        let tokens = [
            (self.embed_return.forward(&contexts.returns)? + &times)?,
            (states + &times)?,
            (self.embed_action.forward(&contexts.actions)? + &times)?,
        ];
        let x = Tensor::stack(&tokens, 2)?.reshape((batch, 3 * time, hidden))?;
        let x = self.embed_norm.forward(&x)?.broadcast_add(&self.position)?;
        let x = dropout.apply(&x, 0, self.config.embedding_dropout)?;
        let valid = contexts.mask.unsqueeze(2)?.broadcast_as((batch, time, 3))?;
        let valid = Some(valid.contiguous()?.reshape((batch, 3 * time))?);
        let mask = AttentionMask {
            hidden_period: None,
            valid,
        };
        let x = self.trunk.forward(&x, &mask, dropout, 1)?;
        Ok(x.reshape((batch, time, 3, hidden))?)
    }
}

/// Token `index` of every step: (B, T, 3, H) -> (B, T, H).
fn token(hidden: &Tensor, index: usize) -> Result<Tensor> {
    Ok(hidden.narrow(2, index, 1)?.squeeze(2)?)
}
