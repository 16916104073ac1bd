//! Random network distillation of pairs of observation and action: [`RndPredictor`] is trained to give what
//! [`RndTarget`], a random network, gives on the data; elsewhere it does not.
//!
//! Both mix the two inputs by products, which tells pairs apart that concatenation hardly does (Nikulin et al. 2023,
//! section 4; tinkoff-ai/sac-rnd @ fc99672, offline_sac/nn.py: `TorchBilinearFirstMLP`, `FilmLastMLP`).

use candle_core::{D, Tensor};

use crate::activation::Activation;
use crate::error::Result;
use crate::init::{Init, StackInit};
use crate::linear::Linear;
use crate::mlp::{Mlp, widths};
use crate::network::Network;
use crate::params::Scope;

/// Sizes of [`RndPredictor`] and [`RndTarget`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RndConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// H, the width of three hidden layers.
    pub hidden: usize,
    /// How many numbers are predicted.
    pub embedding: usize,
}

impl RndConfig {
    /// Widths of the predictor's layers from the products of actions and observations to what is predicted.
    pub(crate) fn predictor_sizes(&self) -> Vec<usize> {
        let inputs = self.action_dim * self.observation_dim;
        widths(inputs, &[self.hidden; 3], self.embedding)
    }

    /// Widths of the target's layers from the action to what is predicted.
    pub(crate) fn target_sizes(&self) -> Vec<usize> {
        widths(self.action_dim, &[self.hidden; 3], self.embedding)
    }

    /// Widths of the target's layer from the observation to the factors and shifts of the last hidden layer.
    pub(crate) fn film_sizes(&self) -> [usize; 2] {
        [self.observation_dim, 2 * self.hidden]
    }
}

/// An MLP whose first layer is bilinear, a W s + b: linear in the products of each action with each observation;
/// parameters `net.0.weight` (H, A O), ..., `net.6.bias`.
#[derive(Debug, Clone)]
pub struct RndPredictor {
    net: Mlp,
}

impl RndPredictor {
    /// (B, embedding) of normalised observations (B, O) and actions (B, A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        let products = actions
            .unsqueeze(2)?
            .broadcast_mul(&observations.unsqueeze(1)?)?; // (B, A, O)
        self.net.forward(&products.flatten_from(1)?)
    }
}

impl Network for RndPredictor {
    type Config = RndConfig;

    fn build(config: &RndConfig, scope: &mut Scope<'_>) -> Result<Self> {
        // The authors' fan-in of the first layer is A.
        let init = StackInit {
            first: Some(Init::Linear(config.action_dim)),
            ..StackInit::default()
        };
        let sizes = config.predictor_sizes();
        let net = Mlp::with_init(&sizes, Activation::Relu, init, &mut scope.sub("net"))?;
        Ok(Self { net })
    }
}

/// An MLP of the action whose last hidden layer is scaled and shifted by a linear layer of the observation
/// (FiLM): parameters `net.0`, ..., `net.6` and `film.weight` (2H, O), `film.bias`: H factors, then H shifts.
#[derive(Debug, Clone)]
pub struct RndTarget {
    net: Mlp,
    film: Linear,
    last: Linear,
}

impl RndTarget {
    /// (B, embedding) of normalised observations (B, O) and actions (B, A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        let film = self.film.forward(observations)?.chunk(2, D::Minus1)?; // (B, H) each
        let hidden = self.net.forward(actions)?; // (B, H)
        let hidden = ((hidden * &film[0])? + &film[1])?;
        self.last.forward(&Activation::Relu.forward(&hidden)?)
    }
}

impl Network for RndTarget {
    type Config = RndConfig;

    fn build(config: &RndConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (sizes, [observation, film]) = (config.target_sizes(), config.film_sizes());
        let before_film = &sizes[..sizes.len() - 1];
        Ok(Self {
            net: Mlp::new(before_film, Activation::Relu, &mut scope.sub("net"))?,
            last: Linear::new(
                config.hidden,
                config.embedding,
                &mut scope.sub("net").sub(6),
            )?,
            film: Linear::new(observation, film, &mut scope.sub("film"))?,
        })
    }
}
