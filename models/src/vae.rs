//! [`Vae`]: a conditional variational autoencoder of actions, the behaviour model of BCQ, BEAR and others.

use candle_core::{D, Tensor};

use crate::activation::Activation;
use crate::error::Result;
use crate::gaussian::{Gaussian, clamp};
use crate::init::StackInit;
use crate::mlp::{Mlp, widths};
use crate::params::Scope;

/// Sizes of a [`Vae`].
#[derive(Debug, Clone, PartialEq)]
pub struct VaeConfig {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// Numbers in a latent, L; twice A in BCQ and BEAR.
    pub latent_dim: usize,
    /// Widths of the hidden layers of encoder and decoder, e.g. `[750, 750]`.
    pub hidden: Vec<usize>,
    /// The latent's log standard deviation is limited to this; (-4, 15) in BCQ and BEAR.
    pub log_std_range: (f64, f64),
    /// Initial values.
    pub init: StackInit,
}

impl VaeConfig {
    /// Widths of the encoder's layers from input to output.
    pub(crate) fn encoder_sizes(&self) -> Vec<usize> {
        let inputs = self.observation_dim + self.action_dim;
        widths(inputs, &self.hidden, 2 * self.latent_dim)
    }

    /// Widths of the decoder's layers from input to output.
    pub(crate) fn decoder_sizes(&self) -> Vec<usize> {
        let inputs = self.observation_dim + self.latent_dim;
        widths(inputs, &self.hidden, self.action_dim)
    }
}

/// Encoder from `[observation, action]` to a normal distribution of latents, decoder from `[observation, latent]` to
/// an action; both perceptrons with ReLU, parameters `encoder.net.*` (2 L outputs: means, then log standard deviations) and
/// `decoder.net.*`.
#[derive(Debug, Clone)]
pub struct Vae {
    encoder: Mlp,
    decoder: Mlp,
    latent_dim: usize,
    log_std_range: (f64, f64),
}

impl Vae {
    /// Makes the VAE with the configuration's initial values.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &VaeConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let mut net = |name: &str, sizes: &[usize]| {
            let scope = &mut scope.sub(name);
            Mlp::with_init(sizes, Activation::Relu, config.init, &mut scope.sub("net"))
        };
        Ok(Self {
            encoder: net("encoder", &config.encoder_sizes())?,
            decoder: net("decoder", &config.decoder_sizes())?,
            latent_dim: config.latent_dim,
            log_std_range: config.log_std_range,
        })
    }

    /// Distribution of the latent (B, L) of observations (B, O) and actions (B, A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn encode(&self, observations: &Tensor, actions: &Tensor) -> Result<Gaussian> {
        let out = self
            .encoder
            .forward(&Tensor::cat(&[observations, actions], D::Minus1)?)?; // (B, 2 L)
        let log_std = out.narrow(D::Minus1, self.latent_dim, self.latent_dim)?;
        let (low, high) = self.log_std_range;
        Ok(Gaussian {
            mean: out.narrow(D::Minus1, 0, self.latent_dim)?,
            log_std: clamp(&log_std, low, high)?,
        })
    }

    /// Actions (B, A) before a tanh, of observations (B, O) and latents (B, L).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn decode(&self, observations: &Tensor, latents: &Tensor) -> Result<Tensor> {
        let x = Tensor::cat(&[observations, latents], D::Minus1)?;
        self.decoder.forward(&x)
    }
}
