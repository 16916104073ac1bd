//! What value-based methods share: networks with their optimisers and targets ([`Trained`], [`Target`]), the
//! trait of a [`Learner`], and [`OffPolicy`], the algorithm around one: where batches come from, what is diagnosed, how
//! it acts and what is saved.
//!
//! Equations are not here: each method has its own in its own file of [`algorithms`](crate::algorithms).

mod trained;

pub use trained::{Start, Target, Trained};

use candle_core::{D, DType, Tensor};
use trajformer_models::params::StateVisitor;
use trajformer_models::uploads::CachedUploads;

use crate::algorithms::{Algorithm, Build, Work};
use crate::data::transitions::{Batch, Transitions, TransitionsConfig};
use crate::data::{ActionBounds, Normalizer};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::policy::{ActorPolicy, Policy};
use crate::rng::Rng;

/// Rows of the data that diagnostics are taken over.
const DIAGNOSED_ROWS: usize = 256;

/// From normalised observations (B, O) to actions (B, A) in ±1.
pub type Act = Box<dyn Fn(&Tensor) -> Result<Tensor> + Send>;

/// Networks and update of a value-based method, apart from where batches and random numbers come
/// from: both can be recorded ones.
pub trait Learner: Send {
    /// The random numbers of one update.
    type Draws;

    /// Draws those of an update on `rows` transitions (B).
    ///
    /// # Errors
    /// If the device fails.
    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<Self::Draws>;

    /// One update; nothing is read back from the device.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn update(&mut self, batch: &Batch, draws: &Self::Draws) -> Result<Metrics>;

    /// The policy's action without exploration; later updates do not change it.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn act(&self) -> Result<Act>;

    /// Values (N, B) of observations (B, O) and actions (B, A), without gradients; `None` for methods
    /// without critics.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn values(&self, observations: &Tensor, actions: &Tensor) -> Result<Option<Tensor>>;

    /// Shows networks, targets, optimisers and counters, as [`Algorithm::state`] says.
    ///
    /// # Errors
    /// What the visitor says.
    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()>;

    /// Operations on paper per transition of a batch, as [`Work`] counts them.
    fn flops_per_row(&self) -> Option<f64> {
        None
    }

    /// The policy that is evaluated; by default [`Self::act`].
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn policy(&self, surroundings: Surroundings) -> Result<Box<dyn Policy>> {
        let Surroundings {
            normalizer,
            bounds,
            device,
        } = surroundings;
        let policy = ActorPolicy::new(normalizer, bounds, device, self.act()?);
        Ok(Box::new(policy))
    }
}

/// What stands around an actor when it acts.
pub struct Surroundings {
    /// Of observations.
    pub normalizer: Normalizer,
    /// From ±1 to the environment's actions.
    pub bounds: ActionBounds,
    /// Where networks live.
    pub device: candle_core::Device,
}

/// A learner on a data set: the algorithm that the trainer sees.
pub struct OffPolicy<L> {
    data: Transitions,
    bounds: ActionBounds,
    batch_size: usize,
    learner: L,
}

impl<L: Learner> OffPolicy<L> {
    /// Prepares the data and makes the learner; actions are mapped to ±1 before it sees them.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete, or the learner can't be made.
    pub fn new(
        build: Build<'_>,
        view: &TransitionsConfig,
        batch_size: usize,
        learner: impl FnOnce(&mut Start<'_>) -> Result<L>,
    ) -> Result<Self> {
        let mut data = Transitions::new(build.data, view, build.device)?;
        data.actions = build.bounds.to_unit(&data.actions)?;
        if let Some(next) = &mut data.next_actions {
            *next = build.bounds.to_unit(next)?;
        }
        let learner = learner(&mut Start {
            observation_dim: build.data.observation_dim,
            action_dim: build.data.action_dim,
            dtype: DType::F32,
            device: build.device,
            rng: build.rng,
        })?;
        Ok(Self {
            data,
            bounds: build.bounds.clone(),
            batch_size,
            learner,
        })
    }
}

impl<L: Learner> Algorithm for OffPolicy<L> {
    /// Consumes `batch_size` transitions and the learner's draws.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let batch = self.data.sample(self.batch_size, rng)?; // (B, O), (B, A), ...
        let draws = self.learner.draw(self.batch_size, rng)?;
        let _cached = CachedUploads::hold(batch.rewards.device());
        self.learner.update(&batch, &draws)
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        self.learner.policy(Surroundings {
            normalizer: self.data.normalizer().clone(),
            bounds: self.bounds.clone(),
            device: self.data.rewards.device().clone(),
        })
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.data
            .normalizer()
            .visit("policy.normalizer.", visitor)?;
        self.bounds.visit("policy.action_bounds.", visitor)?;
        self.learner.state(visitor)
    }

    fn work(&self) -> Option<Work> {
        let per_row = self.learner.flops_per_row()?;
        Some(Work {
            product_flops: per_row * self.batch_size as f64,
            tokens: 0,
        })
    }

    /// `q_data_mean` and `q_policy_mean`: values of the data's and of the policy's actions, the mean of
    /// the ensemble's minima; `return_to_go_mean`: discounted rewards that the data collected from
    /// there on; values far above it are over-estimated. `q_spread`: deviation over the ensemble on
    /// the policy's actions. `action_distance`: root of the mean square of π(s) - a, for a range of ±1.
    fn diagnostics(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        let (batch, returns) = self.data.sample_judged(DIAGNOSED_ROWS, rng)?;
        let _cached = CachedUploads::hold(batch.rewards.device());
        let actions = self.learner.act()?(&batch.observations)?; // (B, A)
        let distance = (&actions - &batch.actions)?.sqr()?.mean_all()?.sqrt()?;
        metrics.push("action_distance", &distance);
        metrics.push("return_to_go_mean", &returns.mean_all()?);
        let values = |actions: &Tensor| self.learner.values(&batch.observations, actions);
        if let (Some(on_data), Some(on_policy)) = (values(&batch.actions)?, values(&actions)?) {
            metrics.push("q_data_mean", &on_data.min(0)?.mean_all()?);
            metrics.push("q_policy_mean", &on_policy.min(0)?.mean_all()?);
            let center = on_policy.mean_keepdim(0)?;
            let variance = on_policy.broadcast_sub(&center)?.sqr()?.mean(0)?; // (B)
            metrics.push("q_spread", &variance.sqrt()?.mean(D::Minus1)?);
        }
        Ok(metrics)
    }
}
