//! The Reinformer's network and temperature, and their update, apart from where batches and random numbers come from.

use candle_core::Tensor;
use trajformer_models::dropout::Dropout;
use trajformer_models::health;
use trajformer_models::lamb::{Lamb, LambConfig};
use trajformer_models::optim::Schedule;
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::reinformer::{Reinformer as Network, ReturnContexts};
use trajformer_models::uploads::CachedUploads;

use super::config::ReinformerConfig;
use crate::offpolicy::Temperature;
use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::Result;
use trajformer_core::metrics::Metrics;
use trajformer_core::source::Stage;

/// (1 + ln 2π) / 2: entropy of a standard normal.
const NORMAL_ENTROPY: f64 = 1.418_938_533_204_672_7;

/// The network and its update, apart from where batches come from.
pub struct Learner {
    config: ReinformerConfig,
    params: Params,
    net: Network,
    optimizer: Option<Lamb>,
    temperature: Temperature,
}

/// What an update computes before it steps.
struct Losses {
    returns: Tensor,
    actions: Tensor,
    entropy: Tensor,
}

impl Learner {
    /// A learner that starts from these parameters, of observations and actions of these dimensions, with optimisers if it is to learn.
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &ReinformerConfig,
        (observation_dim, action_dim): (usize, usize),
        params: Params,
        stage: Stage,
    ) -> Result<Self> {
        let sizes = config.sizes(observation_dim, action_dim);
        let lamb = LambConfig {
            weight_decay: config.weight_decay,
            clip_norm: Some(config.clip_norm),
            ..LambConfig::default()
        };
        let target = config.target_entropy.unwrap_or(-(action_dim as f64));
        let temperature = Temperature::new(config.initial_temperature, target, &params, stage)?;
        Ok(Self {
            config: config.clone(),
            net: Network::new(&sizes, &mut params.tracked())?,
            optimizer: match stage {
                Stage::Learning => Some(Lamb::new(&params, lamb)?),
                Stage::Acting => None,
            },
            params,
            temperature,
        })
    }

    /// The network's parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Its settings.
    pub fn config(&self) -> &ReinformerConfig {
        &self.config
    }

    pub(super) fn net(&self) -> &Network {
        &self.net
    }

    pub(super) fn snapshot(&self) -> Result<Network> {
        let params = self.params.deep_copy(false)?;
        Ok(Network::new(self.net.config(), &mut params.detached())?)
    }

    /// One update on contexts (B, K, ..), of whose steps those count that are 1 in `mask` (B, K).
    ///
    /// # Errors
    /// If it was made to act alone, or a tensor operation fails.
    pub fn update(
        &mut self,
        contexts: &ReturnContexts,
        mask: &Tensor,
        dropout: Dropout,
    ) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.params.device());
        let losses = self.losses(contexts, mask, dropout)?;
        let loss = (&losses.returns + &losses.actions)?;
        let schedule = Schedule::Warmup {
            length: self.config.warmup_updates,
        };
        let optimizer = self.optimizer.as_mut().ok_or_else(opened_without_data)?;
        let rate = self.config.learning_rate * schedule.factor(optimizer.steps());
        let gradients = loss.backward()?;
        let norm = if health::may_step("model.", Some(&loss), &self.params, &gradients)? {
            optimizer.step(&gradients, rate)?
        } else {
            None
        };
        let mut metrics = Metrics::of_step(&loss, norm.as_ref());
        metrics.push("return_loss", &losses.returns);
        metrics.push("actor_loss", &losses.actions);
        self.temperature
            .step(&losses.entropy, self.config.temperature_learning_rate)?;
        metrics.push("entropy", &losses.entropy);
        metrics.push("temperature", &self.temperature.value()?);
        Ok(metrics)
    }

    /// The loss that the network steps down.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn loss(
        &self,
        contexts: &ReturnContexts,
        mask: &Tensor,
        dropout: Dropout,
    ) -> Result<Tensor> {
        let losses = self.losses(contexts, mask, dropout)?;
        Ok((losses.returns + losses.actions)?)
    }

    fn losses(&self, contexts: &ReturnContexts, mask: &Tensor, dropout: Dropout) -> Result<Losses> {
        let predicted = self.net.forward(contexts, dropout)?;
        let mask = mask.to_dtype(predicted.means.dtype())?; // (B, K)
        let count = mask.sum_all()?;
        let mean = |x: &Tensor| -> Result<Tensor> { Ok(((x * &mask)?.sum_all()? / &count)?) };
        let returns = contexts.returns.squeeze(2)?; // (B, K)
        let size = mean(&returns.abs()?)?;
        // Where all returns are 0 there is nothing to scale by.
        let size = (&size + size.eq(0.0)?.to_dtype(size.dtype())?)?;
        let gap = (returns - predicted.returns.squeeze(2)?)?.broadcast_div(&size)?;
        let below = gap.detach().lt(0.0)?.to_dtype(gap.dtype())?;
        let weight = (below - self.config.expectile)?.abs()?;
        let return_loss = mean(&(weight * gap.sqr()?)?)?;
        let log_std = &predicted.log_std; // (A)
        let actions = log_std.dims1()? as f64;
        let entropy = (log_std.sum_all()? + actions * NORMAL_ENTROPY)?;
        let scaled = (&contexts.actions - &predicted.means)?.broadcast_div(&log_std.exp()?)?;
        // ln N = -z² / 2 - ln σ - ln 2π / 2
        let normal = ((scaled.sqr()?.sum(2)? * -0.5)?.broadcast_sub(&log_std.sum_all()?)?
            - actions * (NORMAL_ENTROPY - 0.5))?;
        let temperature = self.temperature.value()?;
        let reward = (temperature * &entropy)?;
        Ok(Losses {
            returns: return_loss,
            actions: (mean(&normal)? + reward)?.neg()?,
            entropy,
        })
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.params.visit("model.", visitor)?;
        if let Some(optimizer) = &mut self.optimizer {
            optimizer.visit("training.optimizer.", visitor)?;
        }
        self.temperature.visit(visitor)?;
        let mut updates = self.optimizer.as_ref().map_or(0, Lamb::steps); // restored with the optimiser
        Ok(visitor.counter("training.updates", &mut updates)?)
    }
}
