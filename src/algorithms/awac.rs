//! AWAC: advantage-weighted actor-critic.
//!
//! Nair, Gupta, Dalal & Levine 2020, <https://arxiv.org/abs/2006.09359>; code corl-team/CORL @ eeeeef2
//! (`algorithms/offline/awac.py`).
//!
//! Critics learn the policy's value as in SAC without entropy; the policy clones the data's actions by their advantage over its
//! own.
//!
//! ```text
//! y        = r + γ (1 - terminated) min_i Q'_i(s', a'),  a' ~ π(s')
//! L(Q_i)   = mean (Q_i(s, a) - y)²
//! A(s, a)  = min_i Q_i(s, a) - min_i Q_i(s, ã),  ã ~ π(s)
//! L(π)     = -mean w log π(a | s),  w = min(exp(A / λ), 100)          (equation 6 without its normaliser)
//! target  <- (1 - rate) target + rate online, after each update
//! ```
//!
//! π is a normal distribution around a network's output, with one standard deviation per action; its samples are clipped to ±1, its
//! density is not. The paper divides the weights by their sum over the batch; CORL limits them instead, as here.
//!
//! Deviations: actions are mapped to ±1 before anything sees them; acting clips the mean to ±1, where CORL leaves that to the
//! environment.

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::ActorConfig;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::gaussian::{GaussianActor, GaussianActorConfig, Mean};
use trajformer_models::params::StateVisitor;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{ActionFn, InitContext, Learner, OffPolicy, SampleFn, Target, Trained};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_data::batch::Batch;
use trajformer_data::transitions_config::{DataView, TransitionsConfig};
use trajformer_models::rng::Rng;

/// `[algorithm.awac]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwacConfig {
    /// Temperature λ of the weights exp(A / λ): the larger, the nearer to behaviour cloning.
    pub lambda: f64,
    /// Weights are limited to this.
    pub max_weight: f64,
    /// Logarithms of the actor's standard deviations are limited to this.
    pub log_std_range: (f64, f64),
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate: target <- (1 - rate) * target + rate * online, after each update. In (0, 1].
    pub target_rate: f64,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for actor and critics.
    pub learning_rate: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// How it sees the data; by default observations are normalized.
    /// CORL shifts rewards of antmaze by -1.
    #[serde(deserialize_with = "DataView::read_normalized")]
    pub data: DataView,
}

impl Default for AwacConfig {
    /// CORL's settings for locomotion (configs/offline/awac).
    fn default() -> Self {
        Self {
            lambda: 0.3333,
            max_weight: 100.0,
            log_std_range: (-20.0, 2.0),
            discount: 0.99,
            target_rate: 0.005,
            batch_size: 256,
            learning_rate: 3e-4,
            hidden: vec![256, 256, 256],
            data: DataView::NORMALIZED,
        }
    }
}

impl AwacConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.awac");
        keys.shares(&[("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        keys.networks(self.batch_size, &self.hidden, 3)?;
        keys.range("log_std_range", self.log_std_range)?;
        keys.positive(&[
            ("lambda", self.lambda),
            ("max_weight", self.max_weight),
            ("learning_rate", self.learning_rate),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<impl Algorithm + use<>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.awac",
            ..self.data.into()
        };
        OffPolicy::new(build, &view, self.batch_size, |start| {
            Awac::new(self, start)
        })
    }
}

/// The networks of AWAC and their update.
pub struct Awac {
    config: AwacConfig,
    actor: Trained<GaussianActor>,
    critics: Trained<Critics>,
    target_critics: Target<Critics>,
}

/// The random numbers of an update: standard normals.
pub struct AwacDraws {
    /// (B, A), of the target's actions.
    pub next: Tensor,
    /// (B, A), of the actions that the data's are compared with.
    pub policy: Tensor,
}

impl Awac {
    /// Makes the networks with PyTorch's initial values; the target starts equal to the critics.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &AwacConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let net = ActorConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            ..ActorConfig::default()
        };
        let actor = GaussianActorConfig {
            net,
            log_std_range: config.log_std_range,
            mean: Mean::Linear,
        };
        let critics = CriticConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            ..CriticConfig::default()
        };
        let actor = Trained::new("actor", actor, start)?;
        let critics = Trained::new("critics", critics, start)?;
        Ok(Self {
            config: config.clone(),
            target_critics: Target::new(&critics)?,
            actor,
            critics,
        })
    }

    /// Samples (B, A) of the policy in ±1, without gradients.
    fn sample(&self, observations: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let policy = self.actor.detached.distribution(observations)?;
        Ok(policy.sample(noise)?.clamp(-1.0, 1.0)?)
    }

    /// Σ_i mean (Q_i(s, a) - y)².
    fn critic_loss(&self, batch: &Batch, noise: &Tensor, metrics: &mut Metrics) -> Result<Tensor> {
        let next_actions = self.sample(&batch.next_observations, noise)?; // (B, A)
        let next_q = self
            .target_critics
            .net()?
            .forward(&batch.next_observations, &next_actions)?
            .min(0)?; // (B)
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_q * not_terminated)? * self.config.discount)?;
        let target = (&batch.rewards + future)?; // (B)
        let critics = &self.critics.net;
        let q = critics.forward(&batch.observations, &batch.actions)?; // (2, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_mean", &q.mean_all()?);
        Ok(loss)
    }

    /// -mean w log π(a | s), w = min(exp(A / λ), 100).
    fn actor_loss(&self, batch: &Batch, noise: &Tensor, metrics: &mut Metrics) -> Result<Tensor> {
        let observations = &batch.observations;
        // One pass serves the sample, which is a constant, and the likelihood.
        let policy = self.actor.net.distribution(observations)?;
        let sampled = policy.sample(noise)?.clamp(-1.0, 1.0)?.detach(); // (B, A)
        let critics = &self.critics.detached;
        let q = |actions: &Tensor| critics.forward(observations, actions); // (2, B)
        let advantages = (q(&batch.actions)?.min(0)? - q(&sampled)?.min(0)?)?; // (B)
        let weights = (&advantages / self.config.lambda)?.exp()?;
        let clipped = weights.gt(self.config.max_weight)?;
        let weights = weights.minimum(self.config.max_weight)?;
        let log_probs = policy.log_prob(&batch.actions)?; // (B)
        let loss = (weights * log_probs)?.mean_all()?.neg()?;
        metrics.push("actor_loss", &loss);
        metrics.push("advantage_mean", &advantages.mean_all()?);
        let clipped = clipped.to_dtype(advantages.dtype())?.mean_all()?;
        metrics.push("clipped_weights", &clipped);
        Ok(loss)
    }
}

impl Learner for Awac {
    type Draws = AwacDraws;

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let own = |of: &Tensor, dim| of.narrow(dim, rows.start, rows.len());
        Ok(AwacDraws {
            next: own(&draws.next, 0)?,
            policy: own(&draws.policy, 0)?,
        })
    }

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<AwacDraws> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let shape = (rows, self.critics.config.action_dim);
        let mut normals = || rng.normal_tensor(shape, dtype, device);
        Ok(AwacDraws {
            next: normals()?,
            policy: normals()?,
        })
    }

    fn update(&mut self, batch: &Batch, draws: &AwacDraws) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        let learning_rate = self.config.learning_rate;
        let loss = self.critic_loss(batch, &draws.next, &mut metrics)?;
        self.critics.minimize(&loss, learning_rate)?;
        let loss = self.actor_loss(batch, &draws.policy, &mut metrics)?;
        self.actor.minimize(&loss, learning_rate)?;
        self.target_critics
            .follow(&self.critics, self.config.target_rate)?;
        Ok(metrics)
    }

    fn act(&self) -> Result<ActionFn> {
        let actor = self.actor.snapshot()?;
        Ok(Box::new(move |observations| {
            let policy = actor.distribution(observations)?;
            Ok(policy.mean.clamp(-1.0, 1.0)?)
        }))
    }

    fn explore(
        &self,
        observation: &Tensor,
        normals: &Tensor,
        _: Option<f64>,
    ) -> Result<Option<Tensor>> {
        self.sample(observation, normals).map(Some) // (1, A)
    }

    fn sampler(&self) -> Result<Option<SampleFn>> {
        let actor = self.actor.snapshot()?;
        Ok(Some(Box::new(move |observations, normals| {
            let policy = actor.distribution(observations)?;
            Ok(policy.sample(normals)?.clamp(-1.0, 1.0)?)
        })))
    }

    fn critics(&self) -> Option<&Critics> {
        Some(&self.critics.detached)
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)?;
        self.critics.visit(visitor)?;
        self.target_critics.visit(visitor)
    }

    fn passes(&self) -> Vec<Passes> {
        vec![
            work::actor(&self.actor.config.net).forward(1.0).train(1.0),
            // The targets, and both values of an advantage.
            work::critics(&self.critics.config).forward(3.0).train(1.0),
        ]
    }
}
