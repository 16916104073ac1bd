//! Networks over actions that are choices: [`CategoricalActor`], [`ChoiceCritics`], and what is computed from their outputs.
//!
//! C is the number of choices. An action is a row of one number (B, 1), a whole one in 0..C, in the type of the networks.

use std::sync::Arc;

use candle_core::{D, DType, Tensor};

use crate::actor::ActorConfig;
use crate::critic::{CriticConfig, Critics};
use crate::encoder::{EncoderFactory, Net};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::params::Scope;
use crate::work::{self, Passes};

/// A policy over choices: logits from an MLP with ReLU; parameters `net.0.weight` (out, in), `net.0.bias`, `net.2.weight`, ... With an
/// encoder its parameters are `encoder.*`, as the factory names them, and `head.weight` (C, H), `head.bias`.
#[derive(Debug, Clone)]
pub struct CategoricalActor {
    net: Net,
}

impl CategoricalActor {
    /// Logits (B, C) of observations (B, O).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn logits(&self, observations: &Tensor) -> Result<Tensor> {
        self.net.forward(observations)
    }

    /// The likeliest choice (B, 1) at observations (B, O); the first of several.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn mode(&self, observations: &Tensor) -> Result<Tensor> {
        best(&self.logits(observations)?)
    }
}

impl Network for CategoricalActor {
    /// `action_dim` is C; `max_action` counts for nothing.
    type Config = ActorConfig;

    fn build(config: &ActorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let net = config.net(1, scope)?;
        Ok(Self { net })
    }

    fn with_encoder(config: ActorConfig, encoder: &Arc<dyn EncoderFactory>) -> ActorConfig {
        ActorConfig {
            encoder: Some(Arc::clone(encoder)),
            ..config
        }
    }
}

/// N Q-functions of an observation with a value for each choice: perceptrons with ReLU; parameters `i.net.0.weight` (out, in),
/// `i.net.0.bias`, `i.net.2.weight`, ..., i from 0 on. With an encoder each member has its own: `i.encoder.*`, `i.head.weight`, `i.head.bias`.
#[derive(Debug, Clone)]
pub struct ChoiceCritics {
    members: Vec<Net>,
}

impl ChoiceCritics {
    /// Values (N, B, C) of all choices at observations (B, O).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn values(&self, observations: &Tensor) -> Result<Tensor> {
        let values = self.members.iter().map(|net| net.forward(observations));
        Ok(Tensor::stack(&values.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

impl Network for ChoiceCritics {
    /// `action_dim` is C; there are no norms.
    type Config = CriticConfig;

    fn build(config: &CriticConfig, scope: &mut Scope<'_>) -> Result<Self> {
        if config.members == 0 {
            let reason = "needs at least one member".to_owned();
            return Err(Error::Config {
                what: "ChoiceCritics",
                reason,
            });
        }
        let net = of_choices(config);
        let members = (0..config.members).map(|i| net.net(1, &mut scope.sub(i)));
        Ok(Self {
            members: members.collect::<Result<_>>()?,
        })
    }

    fn with_encoder(config: CriticConfig, encoder: &Arc<dyn EncoderFactory>) -> CriticConfig {
        Critics::with_encoder(config, encoder)
    }
}

/// The network of one of the critics: an actor's, before its tanh.
fn of_choices(config: &CriticConfig) -> ActorConfig {
    ActorConfig {
        observation_dim: config.observation_dim,
        action_dim: config.action_dim,
        hidden: config.hidden.clone(),
        norm_epsilon: config.norm_epsilon,
        init: config.init,
        encoder: config.encoder.clone(),
        ..ActorConfig::default()
    }
}

/// Critics of real numbers or of choices, for what needs the values of given actions alone.
pub trait ActionCritics: Network<Config = CriticConfig> {
    /// Whether actions are choices.
    const OF_CHOICES: bool;

    /// Values (N, B) of actions (B, A) at observations (B, O).
    ///
    /// # Errors
    /// If the shapes don't fit, or an action is no such choice.
    fn of_actions(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor>;

    /// All members with these sizes.
    fn passes(config: &CriticConfig) -> Passes;
}

impl ActionCritics for Critics {
    const OF_CHOICES: bool = false;

    fn of_actions(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        self.forward(observations, actions)
    }

    fn passes(config: &CriticConfig) -> Passes {
        work::critics(config)
    }
}

impl ActionCritics for ChoiceCritics {
    const OF_CHOICES: bool = true;

    fn of_actions(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        chosen(&self.values(observations)?, actions)
    }

    fn passes(config: &CriticConfig) -> Passes {
        work::choice_critics(config)
    }
}

impl ChoiceCritics {
    /// Widths of a member's layers from input to output.
    pub(crate) fn sizes(config: &CriticConfig) -> Vec<usize> {
        of_choices(config).sizes(1)
    }
}

/// The numbers (.., B) at actions (B, 1), of numbers for all choices (.., B, C).
///
/// # Errors
/// If an action is not below C, or the shapes don't fit.
pub fn chosen(numbers: &Tensor, actions: &Tensor) -> Result<Tensor> {
    let mut shape = numbers.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = 1;
    }
    let index = actions.detach().to_dtype(DType::U32)?;
    let index = index.broadcast_as(shape)?.contiguous()?;
    let found = numbers.contiguous()?.gather(&index, D::Minus1)?;
    Ok(found.squeeze(D::Minus1)?)
}

/// The choice with the largest number (.., 1) of numbers (.., C), in their type; the first of several.
///
/// # Errors
/// If a tensor operation fails.
pub fn best(numbers: &Tensor) -> Result<Tensor> {
    let best = numbers.argmax_keepdim(D::Minus1)?;
    Ok(best.to_dtype(numbers.dtype())?)
}

/// ln Σ exp over the last dimension, without overflow: (..).
///
/// # Errors
/// If a tensor operation fails.
pub fn logsumexp(numbers: &Tensor) -> Result<Tensor> {
    let largest = numbers.detach().max_keepdim(D::Minus1)?;
    let sum = numbers.broadcast_sub(&largest)?.exp()?.sum(D::Minus1)?;
    Ok((sum.log()? + largest.squeeze(D::Minus1)?)?)
}

/// -ln p(a | s) (.., B) of actions (B, 1), of logits (.., B, C).
///
/// # Errors
/// If an action is not below C, or the shapes don't fit.
pub fn cross_entropies(logits: &Tensor, actions: &Tensor) -> Result<Tensor> {
    Ok((logsumexp(logits)? - chosen(logits, actions)?)?)
}

/// Choices (.., E, 1) drawn from the distribution of logits (E, C) with standard normals (.., E, 1): the first choice up to which the
/// probabilities add up to more than the normal's place in its distribution.
///
/// # Errors
/// If the shapes don't fit.
pub fn drawn(logits: &Tensor, normals: &Tensor) -> Result<Tensor> {
    let choices = logits.dim(D::Minus1)?;
    let probabilities = logits
        .broadcast_sub(&logsumexp(logits)?.unsqueeze(D::Minus1)?)?
        .exp()?;
    let below = probabilities.cumsum(D::Minus1)?; // (E, C)
    let places = (((normals * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?; // (.., E, 1)
    let passed = places.broadcast_ge(&below)?.to_dtype(logits.dtype())?; // (.., E, C)
    let choice = passed.sum_keepdim(D::Minus1)?;
    // Probabilities that add up to less than a place by rounding.
    Ok(choice.minimum((choices - 1) as f64)?)
}

/// The choice with the largest of values (E, C), but with probability ε any of them, each as likely: (E, 1), made with standard normals
/// (E, 1).
///
/// # Errors
/// If the shapes don't fit.
pub fn epsilon_greedy(values: &Tensor, normals: &Tensor, epsilon: f64) -> Result<Tensor> {
    let choices = values.dim(D::Minus1)?;
    let greedy = (one_hot(&best(values)?, choices)? * (1.0 - epsilon))?;
    drawn(&(greedy + epsilon / choices as f64)?.log()?, normals)
}

/// Rows of zeros with a 1 (.., C) at actions (.., 1), in their type; all zeros where an action is no choice.
///
/// # Errors
/// If a tensor operation fails.
pub fn one_hot(actions: &Tensor, choices: usize) -> Result<Tensor> {
    let numbers = Tensor::arange(0u32, choices as u32, actions.device())?;
    let same = actions.broadcast_eq(&numbers.to_dtype(actions.dtype())?)?;
    Ok(same.to_dtype(actions.dtype())?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn an_epsilon_greedy_choice_is_the_best_one_but_for_its_share() -> Result<()> {
        let count = 20_000;
        let values = Tensor::new(&[[-1.0f64, 2.0, 1.9]], &Device::Cpu)?;
        let values = values.broadcast_as((count, 3))?.contiguous()?;
        let normals = Rng::from_seed(6).normal_tensor((count, 1), DType::F64, &Device::Cpu)?;
        for epsilon in [0.0, 0.3, 1.0] {
            let chosen = epsilon_greedy(&values, &normals, epsilon)?;
            let chosen = chosen.flatten_all()?.to_vec1::<f64>()?;
            for choice in 0..3 {
                let expected = epsilon / 3.0 + if choice == 1 { 1.0 - epsilon } else { 0.0 };
                let found = chosen
                    .iter()
                    .filter(|&&one| one == f64::from(choice))
                    .count();
                let found = found as f64 / count as f64;
                // Five standard deviations of a share of 20,000.
                assert!(
                    (found - expected).abs() < 0.018,
                    "{epsilon} {choice}: {found}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn draws_have_the_frequencies_of_the_distribution() -> Result<()> {
        let probabilities = [0.5, 0.125, 0.375];
        let logits: Vec<f64> = probabilities.iter().map(|p: &f64| p.ln() + 3.0).collect();
        let count = 20_000;
        let logits = Tensor::new(&logits[..], &Device::Cpu)?.reshape((1, 3))?;
        let logits = logits.broadcast_as((count, 3))?.contiguous()?;
        let normals = Rng::from_seed(4).normal_tensor((1, count, 1), DType::F64, &Device::Cpu)?;
        let drawn = drawn(&logits, &normals)?.flatten_all()?.to_vec1::<f64>()?;
        for (choice, p) in probabilities.iter().enumerate() {
            let found = drawn.iter().filter(|&&d| d == choice as f64).count() as f64;
            let deviation = (p * (1.0 - p) / count as f64).sqrt();
            let off = (found / count as f64 - p).abs();
            assert!(off < 4.0 * deviation, "{choice}: off by {off}");
        }
        Ok(())
    }

    #[test]
    fn extreme_draws_and_logits_stay_among_the_choices() -> Result<()> {
        let logits = Tensor::new(&[[0f32, -1e4, 0.0], [1e4, 0.0, 1e4]], &Device::Cpu)?;
        for (normal, expected) in [(-40f32, [0f32, 0.0]), (40.0, [2.0, 2.0])] {
            let normals = Tensor::full(normal, (2, 1), &Device::Cpu)?;
            let drawn = drawn(&logits, &normals)?.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(drawn, expected, "{normal}");
        }
        let actions = Tensor::new(&[[1f32], [0.0]], &Device::Cpu)?;
        let losses = cross_entropies(&logits, &actions)?.to_vec1::<f32>()?;
        assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
        assert!((losses[1] - 2f32.ln()).abs() < 1e-3, "{losses:?}");
        let beyond = Tensor::new(&[[3f32], [0.0]], &Device::Cpu)?;
        assert!(
            chosen(&logits, &beyond).is_err(),
            "there is no fourth choice"
        );
        Ok(())
    }
}
