//! BC: behaviour cloning, of all data or of its best fraction (BC-10%).
//!
//! A deterministic actor is fitted to the data's actions by least squares, as corl-team/CORL @
//! eeeeef2 does (`algorithms/offline/any_percent_bc.py`):
//!
//! ```text
//! L(π) = mean (π(s) - a)²,  mean over batch and action dimensions
//! ```
//!
//! Deviation: CORL cuts the data of BC-10% into episodes after it has dropped the transitions at
//! time-outs, so that episodes of full length run into each other; here the best fraction is taken
//! of the true episodes.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::{ActorConfig, DeterministicActor};
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup};
use trajformer_models::params::{Params, Scope, StateVisitor};
use trajformer_models::uploads::CachedUploads;

use crate::policies::actor::ActorPolicy;
use trajformer_core::algorithm::{Algorithm, Build, Work};
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::Policy;
use trajformer_core::source::Source;
use trajformer_data::batch::Batch;
use trajformer_data::transitions::{Transitions, best_fraction};
use trajformer_data::transitions_config::TransitionsConfig;
use trajformer_models::rng::Rng;

/// `[algorithm.bc]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BcConfig {
    /// Which fraction of the data is cloned: the episodes of the highest return. In (0, 1]; 0.1 is
    /// BC-10%.
    pub fraction: f64,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate.
    pub learning_rate: f64,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Whether observations are normalised to mean 0 and deviation 1 (plus 1e-3) over the data.
    pub normalize_observations: bool,
}

impl Default for BcConfig {
    fn default() -> Self {
        Self {
            fraction: 1.0,
            batch_size: 256,
            learning_rate: 3e-4,
            hidden: vec![256, 256],
            normalize_observations: true,
        }
    }
}

impl BcConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.bc");
        if !(self.fraction > 0.0 && self.fraction <= 1.0) {
            return Err(keys.wrong("fraction", self.fraction, "above 0, at most 1"));
        }
        keys.counts(&[("batch_size", self.batch_size, 1 << 20)])?;
        keys.hidden("hidden", &self.hidden)?;
        keys.positive(&[("learning_rate", self.learning_rate)])?;
        let batch: Vec<[usize; 3]> = self
            .hidden
            .iter()
            .map(|&w| [w, self.batch_size, 4])
            .collect();
        // A weight with its gradient and Adam's two moments.
        let weights: Vec<[usize; 3]> = self.hidden.windows(2).map(|w| [w[0], w[1], 4]).collect();
        let numbers: Vec<&[usize]> = batch.iter().chain(&weights).map(|n| &n[..]).collect();
        keys.memory("`hidden` or `batch_size`", &numbers)?;
        Ok(())
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition, no complete episode where a fraction is asked for, or its
    /// actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<Bc> {
        let options = TransitionsConfig {
            normalize_observations: self.normalize_observations,
            next_step: false,
            table: "algorithm.bc",
            ..TransitionsConfig::default()
        };
        let mut data = match build.source {
            Source::Train(all) if self.fraction < 1.0 => {
                let best = best_fraction(all, self.fraction)?;
                Transitions::new(&best, &options, build.device)?
            }
            source => Transitions::of_source(source, &options, build.device)?,
        };
        data.actions = build.bounds.to_unit(&data.actions)?;
        let mut params = Params::new(DType::F32, build.device);
        let (o, a) = build.source.dims();
        self.actor(o, a, &mut params.init(build.rng))?;
        Ok(Bc {
            normalizer: data.normalizer().clone(),
            data,
            bounds: build.bounds.clone(),
            learner: Learner::new(self, o, a, params)?,
        })
    }

    fn actor(&self, o: usize, a: usize, scope: &mut Scope<'_>) -> Result<DeterministicActor> {
        let hidden = self.hidden.clone();
        let config = ActorConfig {
            observation_dim: o,
            action_dim: a,
            hidden,
            ..ActorConfig::default()
        };
        Ok(DeterministicActor::new(&config, scope)?)
    }
}

/// Behaviour cloning on a data set.
pub struct Bc {
    data: Transitions,
    normalizer: Normalizer,
    bounds: ActionBounds,
    learner: Learner,
}

impl Algorithm for Bc {
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let batch = self.data.sample(self.learner.config.batch_size, rng)?; // (B, O), (B, A), ...
        self.learner.update(&batch)
    }

    fn work(&self) -> Option<Work> {
        let learner = &self.learner;
        let (o, a) = (learner.observation_dim, learner.action_dim);
        let hidden = learner.config.hidden.iter().copied();
        let sizes: Vec<usize> = std::iter::once(o).chain(hidden).chain([a]).collect();
        let product_flops = Work::forward_backward(&sizes) * learner.config.batch_size as f64;
        Some(Work {
            product_flops,
            tokens: 0,
        })
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        let learner = &self.learner;
        let params = learner.params.deep_copy(false)?;
        let (o, a) = (learner.observation_dim, learner.action_dim);
        let actor = learner.config.actor(o, a, &mut params.detached())?;
        let act = move |observations: &Tensor| Ok(actor.forward(observations)?);
        let device = params.device().clone();
        Ok(Box::new(ActorPolicy::new(
            self.normalizer.clone(),
            self.bounds.clone(),
            device,
            act,
        )))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        let learner = &mut self.learner;
        learner.params.visit("model.actor.", visitor)?;
        self.normalizer.visit("policy.normalizer.", visitor)?;
        self.bounds.visit("policy.action_bounds.", visitor)?;
        learner.optimizer.visit("training.optimizer.", visitor)?;
        Ok(())
    }
}

/// The network and its update, apart from where batches come from.
pub struct Learner {
    config: BcConfig,
    observation_dim: usize,
    action_dim: usize,
    params: Params,
    actor: DeterministicActor,
    optimizer: Adam,
}

impl Learner {
    /// A learner that starts from these parameters of [`DeterministicActor`].
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &BcConfig,
        observation_dim: usize,
        action_dim: usize,
        params: Params,
    ) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            observation_dim,
            action_dim,
            actor: config.actor(observation_dim, action_dim, &mut params.tracked())?,
            optimizer: Adam::new(&params, AdamConfig::default(), |_| ParamGroup::decay(0.0))?,
            params,
        })
    }

    /// The actor's parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// One update on a batch of B transitions.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn update(&mut self, batch: &Batch) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.params.device());
        let loss = self.loss(batch)?;
        self.optimizer
            .step(&loss.backward()?, self.config.learning_rate)?;
        let mut metrics = Metrics::new();
        metrics.push("actor_loss", &loss);
        Ok(metrics)
    }

    /// mean (π(s) - a)².
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let actions = self.actor.forward(&batch.observations)?; // (B, A)
        Ok((actions - &batch.actions)?.sqr()?.mean_all()?)
    }
}
