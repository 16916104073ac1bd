//! BC: behaviour cloning, of all data or of its best fraction (BC-10%).
//!
//! A deterministic actor is fitted to the data's actions by least squares, as corl-team/CORL @
//! eeeeef2 does (`algorithms/offline/any_percent_bc.py`):
//!
//! ```text
//! L(π) = mean (π(s) - a)²,  mean over batch and action dimensions
//! ```
//!
//! Of actions that are choices a categorical actor is fitted by cross-entropy, as takuseno/d3rlpy @ 38c34b6 does
//! (`DiscreteBC` without its penalty on logits, `beta = 0`); it acts by the likeliest choice:
//!
//! ```text
//! L(π) = -mean ln π(a | s)
//! ```
//!
//! Deviation: CORL cuts the data of BC-10% into episodes after it has dropped the transitions at
//! time-outs, so that episodes of full length run into each other; here the best fraction is taken
//! of the true episodes.

use std::borrow::Cow;

use std::ops::Range;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use trajformer_models::actor::{ActorConfig, DeterministicActor};
use trajformer_models::choices::{CategoricalActor, cross_entropies};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{ActionFn, InitContext, Learner, OffPolicy, SampleFn, StateNames, Trained};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::error::Result;
use trajformer_core::held_out::HELD_OUT_LOSS;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::source::Source;
use trajformer_data::batch::Batch;
use trajformer_data::transitions::best_fraction;
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
    /// Whether observations are normalised to mean 0 and standard deviation 1 (plus 1e-3) over the data.
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
    /// If the data holds no transition, or no complete episode where a fraction is asked for.
    pub fn build(&self, build: Build<'_>) -> Result<Box<dyn Algorithm>> {
        let view = TransitionsConfig {
            normalize_observations: self.normalize_observations,
            next_step: false,
            table: "algorithm.bc",
            ..TransitionsConfig::default()
        };
        let best;
        let source = match build.source {
            Source::Train(all) if self.fraction < 1.0 => {
                best = best_fraction(all, self.fraction)?;
                Source::Train(&best)
            }
            source => source,
        };
        let build = Build { source, ..build };
        let rows = self.batch_size;
        Ok(match build.bounds.kind() {
            ActionKind::Continuous => Box::new(OffPolicy::new(build, &view, rows, |start| {
                Bc::new(self, start)
            })?),
            ActionKind::Discrete { .. } => Box::new(OffPolicy::new(build, &view, rows, |start| {
                DiscreteBc::new(self, start)
            })?),
        })
    }
}

/// The actor of behaviour cloning and its update.
pub struct Bc {
    config: BcConfig,
    actor: Trained<DeterministicActor>,
}

impl Bc {
    /// With the configuration's initial values.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &BcConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let actor = ActorConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            ..ActorConfig::default()
        };
        Ok(Self {
            config: config.clone(),
            actor: Trained::named(StateNames::alone("model.actor."), actor, start)?,
        })
    }

    /// The actor's parameters.
    pub fn params(&self) -> &Params {
        &self.actor.params
    }

    /// mean (π(s) - a)².
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn loss(&self, batch: &Batch) -> Result<Tensor> {
        Self::loss_of(&self.actor.net, batch)
    }

    fn loss_of(actor: &DeterministicActor, batch: &Batch) -> Result<Tensor> {
        let actions = actor.forward(&batch.observations)?; // (B, A)
        Ok((actions - &batch.actions)?.sqr()?.mean_all()?)
    }
}

impl Learner for Bc {
    type Draws = ();

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let ((), _) = (draws, rows);
        Ok(())
    }

    /// Nothing: an update depends on the batch alone.
    fn draw(&self, _rows: usize, _rng: &mut Rng) -> Result<()> {
        Ok(())
    }

    fn update(&mut self, batch: &Batch, (): &()) -> Result<Metrics> {
        let loss = self.loss(batch)?;
        self.actor.minimize(&loss, self.config.learning_rate)?;
        let mut metrics = Metrics::new();
        metrics.push("actor_loss", &loss);
        Ok(metrics)
    }

    /// Their best fraction, as of the data that is learned from.
    fn held_out<'a>(&self, data: &'a Dataset) -> Result<Option<Cow<'a, Dataset>>> {
        best_of(&self.config, data).map(Some)
    }

    fn losses(&self, batch: &Batch) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        metrics.push(HELD_OUT_LOSS, &Self::loss_of(&self.actor.detached, batch)?);
        Ok(metrics)
    }

    fn act(&self) -> Result<ActionFn> {
        self.actor.act()
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)
    }

    fn passes(&self) -> Vec<Passes> {
        vec![work::actor(&self.actor.config).train(1.0)]
    }
}

/// The episodes that are learned from, or of episodes that are kept apart those like them: the best fraction.
fn best_of<'a>(config: &BcConfig, data: &'a Dataset) -> Result<Cow<'a, Dataset>> {
    Ok(if config.fraction < 1.0 {
        Cow::Owned(best_fraction(data, config.fraction)?)
    } else {
        Cow::Borrowed(data)
    })
}

/// The categorical actor of behaviour cloning and its update, for actions that are choices.
pub struct DiscreteBc {
    config: BcConfig,
    actor: Trained<CategoricalActor>,
}

impl DiscreteBc {
    /// With the configuration's initial values.
    ///
    /// # Errors
    /// If a size is zero, or actions are no choices.
    pub fn new(config: &BcConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let actor = ActorConfig {
            observation_dim: start.observation_dim,
            action_dim: start.required_choices()?,
            hidden: config.hidden.clone(),
            ..ActorConfig::default()
        };
        Ok(Self {
            config: config.clone(),
            actor: Trained::new("actor", actor, start)?,
        })
    }
}

impl Learner for DiscreteBc {
    type Draws = ();

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let ((), _) = (draws, rows);
        Ok(())
    }

    const CHOOSES: bool = true;

    /// Nothing: an update depends on the batch alone.
    fn draw(&self, _rows: usize, _rng: &mut Rng) -> Result<()> {
        Ok(())
    }

    fn update(&mut self, batch: &Batch, (): &()) -> Result<Metrics> {
        let logits = self.actor.net.logits(&batch.observations)?; // (B, C)
        let loss = cross_entropies(&logits, &batch.actions)?.mean_all()?;
        self.actor.minimize(&loss, self.config.learning_rate)?;
        let mut metrics = Metrics::new();
        metrics.push("actor_loss", &loss);
        Ok(metrics)
    }

    fn act(&self) -> Result<ActionFn> {
        self.actor.act()
    }

    fn held_out<'a>(&self, data: &'a Dataset) -> Result<Option<Cow<'a, Dataset>>> {
        best_of(&self.config, data).map(Some)
    }

    fn losses(&self, batch: &Batch) -> Result<Metrics> {
        let logits = self.actor.detached.logits(&batch.observations)?; // (B, C)
        let loss = cross_entropies(&logits, &batch.actions)?.mean_all()?;
        let mut metrics = Metrics::new();
        metrics.push(HELD_OUT_LOSS, &loss);
        Ok(metrics)
    }

    fn sampler(&self) -> Result<Option<SampleFn>> {
        self.actor.sampler().map(Some)
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)
    }

    fn passes(&self) -> Vec<Passes> {
        vec![work::actor(&self.actor.config).train(1.0)]
    }
}
