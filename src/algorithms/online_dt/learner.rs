//! The network with its optimiser and the temperature, and one update of both.

use candle_core::Tensor;
use trajformer_models::decision_transformer::Contexts;
use trajformer_models::dropout::Dropout;
use trajformer_models::health;
use trajformer_models::lamb::{Lamb, LambConfig};
use trajformer_models::online_decision_transformer::OnlineDecisionTransformer as Network;
use trajformer_models::optim::Schedule;
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::uploads::CachedUploads;

use super::config::OnlineDtConfig;
use crate::offpolicy::Temperature;
use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::Result;
use trajformer_core::metrics::Metrics;
use trajformer_core::source::Stage;

/// The network and its update, apart from where batches and random numbers come from.
pub struct Learner {
    config: OnlineDtConfig,
    params: Params,
    net: Network,
    /// The network without gradients to its parameters. It sees every update.
    detached: Network,
    optimizer: Option<Lamb>,
    temperature: Temperature,
}

/// What an update computes before it steps; scalars.
struct Losses {
    /// What the network steps down.
    all: Tensor,
    /// Mean negative log-likelihood of the actions.
    likelihood: Tensor,
    /// Mean entropy, by one draw for each step.
    entropy: Tensor,
}

impl Learner {
    /// A learner that starts from these parameters, of observations and actions of these dimensions, with optimisers if it is to learn.
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &OnlineDtConfig,
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
            detached: Network::new(&sizes, &mut params.detached())?,
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
    pub fn config(&self) -> &OnlineDtConfig {
        &self.config
    }

    /// The network as it is now, without gradients.
    pub fn network(&self) -> &Network {
        &self.detached
    }

    pub(super) fn snapshot(&self) -> Result<Network> {
        let params = self.params.deep_copy(false)?;
        Ok(Network::new(self.net.config(), &mut params.detached())?.fixed()?)
    }

    /// One update of network and temperature on contexts (B, K, ..) whose actions lie inside of ±1, with standard normals (B, K, A).
    ///
    /// # Errors
    /// If it was made to act alone, or a tensor operation fails.
    pub fn update(
        &mut self,
        contexts: &Contexts,
        normals: &Tensor,
        dropout: Dropout,
    ) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.params.device());
        let losses = self.losses(contexts, normals, dropout)?;
        let schedule = Schedule::Warmup {
            length: self.config.warmup_updates,
        };
        let optimizer = self.optimizer.as_mut().ok_or_else(opened_without_data)?;
        let rate = self.config.learning_rate * schedule.factor(optimizer.steps());
        let gradients = losses.all.backward()?;
        let norm = if health::may_step("model.", Some(&losses.all), &self.params, &gradients)? {
            optimizer.step(&gradients, rate)?
        } else {
            None
        };
        let mut metrics = Metrics::of_step(&losses.all, norm.as_ref());
        self.temperature
            .step(&losses.entropy, self.config.temperature_learning_rate)?;
        metrics.push("actor_loss", &losses.likelihood);
        metrics.push("entropy", &losses.entropy);
        metrics.push("temperature", &self.temperature.value()?);
        Ok(metrics)
    }

    /// The loss that the network steps down.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn loss(&self, contexts: &Contexts, normals: &Tensor, dropout: Dropout) -> Result<Tensor> {
        Ok(self.losses(contexts, normals, dropout)?.all)
    }

    fn losses(&self, contexts: &Contexts, normals: &Tensor, dropout: Dropout) -> Result<Losses> {
        let policy = self.net.distribution(contexts, dropout)?;
        let taken = policy.log_prob(&contexts.actions)?; // (B, K)
        let (_, drawn) = policy.sample(normals)?; // (B, K)
        let mask = contexts.mask.to_dtype(taken.dtype())?;
        let count = mask.sum_all()?;
        // Neither likelihood nor entropy means anything where nothing was done.
        let mean = |x: &Tensor| -> Result<Tensor> { Ok(((x * &mask)?.sum_all()? / &count)?) };
        let (likelihood, entropy) = (mean(&taken)?, mean(&drawn)?.neg()?);
        let all = (&likelihood + (self.temperature.value()? * &entropy)?)?.neg()?;
        Ok(Losses {
            all,
            likelihood: likelihood.neg()?,
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
