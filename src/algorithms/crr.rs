//! CRR: critic regularised regression.
//!
//! Wang et al. 2020, <https://arxiv.org/abs/2006.15134>; takuseno/d3rlpy @ 38c34b6
//! (`d3rlpy/algos/qlearning/torch/crr_impl.py`), since the authors published their code in another form only
//! (google-deepmind/acme @ 770bc75: one critic, targets copied every so many updates, actions by the mode).
//!
//! Behaviour cloning of those actions that the critics find better than the policy's own, an implicit constraint:
//!
//! ```text
//! π(a|s)   = N(tanh μ(s), σ(s)²), samples clipped to ±1
//! y        = r + γ (1 - terminated) min_i Q'_i(s', a'),  a' ~ π'(s')
//! L(Q)     = Σ_i mean (Q_i(s, a) - y)²
//! A(s, a)  = Q(s, a) - mean_j Q(s, a_j)  or  Q(s, a) - max_j Q(s, a_j),  a_j ~ π(s), j = 1..m;  Q = mean_i Q_i
//! L(π)     = -mean f(s, a) ln π(a|s),  f = 1[A > 0]  or  min(exp(A / β), f_max)
//! target  <- (1 - rate) target + rate online, every so many updates
//! ```
//!
//! Acting draws m actions and takes one with probability proportional to exp Q (the paper's critic weighted policy), or
//! the mean.
//!
//! Deviations: actions are mapped to ±1 first. The target policy starts equal to the policy: d3rlpy leaves it at other
//! random values. The paper's critic is distributional.

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_core::algorithm::Algorithm;
use trajformer_core::algorithm::Build;
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_data::batch::Batch;
use trajformer_data::transitions_config::{DataView, TransitionsConfig};
use trajformer_models::actor::ActorConfig;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::gaussian::{
    Gaussian, TanhCorrection, TanhGaussianActor, TanhGaussianActorConfig,
};
use trajformer_models::params::StateVisitor;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{
    ActionFn, CandidatePolicy, Choice, InitContext, Learner, OffPolicy, PolicyParts, SampleFn,
    Target, Trained, repeated,
};
use trajformer_core::policy::Policy;
use trajformer_models::rng::Rng;

/// What an action's advantage becomes in the actor's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// 1 if it is positive, else 0 (equation 3).
    Binary,
    /// exp(A / β), at most `max_weight` (equation 4).
    Exponential,
}

/// Over what of the policy's actions an advantage is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// The mean of their values.
    Mean,
    /// The largest.
    Max,
}

/// `[algorithm.crr]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrrConfig {
    /// Weight of an action in the actor's loss.
    pub weight: Weight,
    /// What its value is compared with.
    pub advantage: Advantage,
    /// β of exponential weights; 1 in the paper.
    pub temperature: f64,
    /// Upper bound of exponential weights; 20 in the paper.
    pub max_weight: f64,
    /// Actions m that the policy's value is estimated from, in training and for weighted acting.
    pub samples: usize,
    /// Draw m actions and take one by its value when acting; else take the mean.
    pub weighted_acting: bool,
    /// Critics N: 1 in d3rlpy. Targets take the smallest of their values, advantages and acting the mean.
    pub members: usize,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate of both targets, in (0, 1]; 1 copies.
    pub target_rate: f64,
    /// Targets move every so many updates: 1 with a small rate; 100 with rate 1 in the paper.
    pub target_every_updates: u64,
    /// The standard deviation's logarithm is limited to these.
    pub log_std_range: (f64, f64),
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for the actor.
    pub actor_learning_rate: f64,
    /// Adam's rate for the critics.
    pub critic_learning_rate: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// How it sees the data; by default observations are as they are.
    #[serde(deserialize_with = "DataView::read_plain")]
    pub data: DataView,
}

impl Default for CrrConfig {
    /// d3rlpy's `reproductions/offline/crr.py`, and its `CRRConfig` where that says nothing.
    fn default() -> Self {
        Self {
            weight: Weight::Binary,
            advantage: Advantage::Mean,
            temperature: 1.0,
            max_weight: 20.0,
            samples: 4,
            weighted_acting: true,
            members: 1,
            discount: 0.99,
            target_rate: 0.005,
            target_every_updates: 1,
            log_std_range: (-20.0, 2.0),
            batch_size: 256,
            actor_learning_rate: 3e-4,
            critic_learning_rate: 3e-4,
            hidden: vec![256, 256],
            data: DataView::PLAIN,
        }
    }
}

impl CrrConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.crr");
        keys.shares(&[("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        if self.target_every_updates == 0 {
            return Err(keys.wrong("target_every_updates", 0, "at least 1"));
        }
        let (low, high) = self.log_std_range;
        if !(low <= high && low.is_finite() && high.is_finite()) {
            let found = format_args!("[{low}, {high}]");
            return Err(keys.wrong("log_std_range", found, "a lower and an upper bound"));
        }
        keys.counts(&[
            ("samples", self.samples, 1 << 10),
            ("members", self.members, 1_000),
        ])?;
        let rows = self.batch_size.saturating_mul(1 + self.samples);
        keys.counts(&[("batch_size", self.batch_size, 1 << 20)])?;
        keys.networks(rows.min(1 << 20), &self.hidden, self.members + 1)?;
        keys.positive(&[
            ("temperature", self.temperature),
            ("max_weight", self.max_weight),
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<impl Algorithm + use<>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.crr",
            ..self.data.into()
        };
        OffPolicy::new(build, &view, self.batch_size, |start| Crr::new(self, start))
    }
}

/// The random numbers of one update: standard normals.
pub struct CrrDraws {
    /// Noise of the target policy's actions at s' (B, A).
    pub next_actions: Tensor,
    /// Noise of the policy's actions at s (S, B, A).
    pub actions: Tensor,
}

/// The networks of CRR and their update.
pub struct Crr {
    config: CrrConfig,
    actor: Trained<TanhGaussianActor>,
    critics: Trained<Critics>,
    target_actor: Target<TanhGaussianActor>,
    target_critics: Target<Critics>,
    updates: u64,
}

impl Crr {
    /// Makes the networks with PyTorch's initial values; targets start equal to the networks.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &CrrConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let actor = TanhGaussianActorConfig {
            net: ActorConfig {
                observation_dim: start.observation_dim,
                action_dim: start.action_dim,
                hidden: config.hidden.clone(),
                ..ActorConfig::default()
            },
            log_std_range: config.log_std_range,
            log_std_affine: None,
            correction: TanhCorrection::Exact,
        };
        let critics = CriticConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            members: config.members,
            ..CriticConfig::default()
        };
        let actor = Trained::new("actor", actor, start)?;
        let critics = Trained::new("critics", critics, start)?;
        Ok(Self {
            config: config.clone(),
            target_actor: Target::new(&actor)?,
            target_critics: Target::new(&critics)?,
            actor,
            critics,
            updates: 0,
        })
    }

    /// Σ_i mean (Q_i(s, a) - y)².
    fn critic_loss(&self, batch: &Batch, noise: &Tensor, metrics: &mut Metrics) -> Result<Tensor> {
        let next_actions = sample(self.target_actor.net()?, &batch.next_observations, noise)?; // (B, A)
        let next_q = self
            .target_critics
            .net()?
            .forward(&batch.next_observations, &next_actions)?
            .min(0)?; // (B)
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_q * not_terminated)? * self.config.discount)?;
        let target = (&batch.rewards + future)?.detach(); // (B)
        let critics = &self.critics.net;
        let q = critics.forward(&batch.observations, &batch.actions)?; // (N, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_mean", &q.mean_all()?);
        Ok(loss)
    }

    /// f(s, a) (B), without gradients.
    fn weights(&self, batch: &Batch, noise: &Tensor) -> Result<Tensor> {
        let critics = &self.critics.detached;
        let actions = sample(&self.actor.detached, &batch.observations, noise)?; // (S, B, A)
        let values = values_of(critics, &batch.observations, &actions)?; // (N, S, B)
        let values = values.mean(0)?; // (S, B)
        let value = match self.config.advantage {
            Advantage::Mean => values.mean(0)?,
            Advantage::Max => values.max(0)?,
        }; // (B)
        let q = critics.forward(&batch.observations, &batch.actions)?;
        let advantages = (q.mean(0)? - value)?; // (B)
        let weights = match self.config.weight {
            Weight::Binary => advantages.gt(0.0)?.to_dtype(advantages.dtype())?,
            Weight::Exponential => {
                let weights = (advantages / self.config.temperature)?.exp()?;
                weights.clamp(0.0, self.config.max_weight)?
            }
        };
        Ok(weights.detach())
    }

    /// -mean f(s, a) ln π(a|s).
    fn actor_loss(&self, batch: &Batch, noise: &Tensor, metrics: &mut Metrics) -> Result<Tensor> {
        let weights = self.weights(batch, noise)?; // (B)
        let policy = distribution(&self.actor.net, &batch.observations)?;
        let log_probs = policy.log_prob(&batch.actions)?; // (B)
        let loss = (&log_probs * &weights)?.mean_all()?.neg()?;
        metrics.push("actor_loss", &loss);
        metrics.push("weight_mean", &weights.mean_all()?);
        metrics.push("log_prob_mean", &log_probs.mean_all()?);
        Ok(loss)
    }
}

/// N(tanh μ, σ²) at observations (B, O).
fn distribution(actor: &TanhGaussianActor, observations: &Tensor) -> Result<Gaussian> {
    let Gaussian { mean, log_std } = actor.distribution(observations)?.gaussian;
    Ok(Gaussian {
        mean: mean.tanh()?,
        log_std,
    })
}

/// Actions (.., B, A) from standard normals (.., B, A), clipped to ±1.
fn sample(actor: &TanhGaussianActor, observations: &Tensor, noise: &Tensor) -> Result<Tensor> {
    let actions = distribution(actor, observations)?.sample(noise)?;
    Ok(actions.clamp(-1.0, 1.0)?)
}

/// Values (N, S, B) of actions (S, B, A) at observations (B, O).
fn values_of(critics: &Critics, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
    let (s, b, a) = actions.dims3()?;
    let flat = actions.reshape((s * b, a))?;
    let values = critics.forward(&repeated(observations, s)?, &flat)?; // (N, S B)
    let members = values.dim(0)?;
    Ok(values.reshape((members, s, b))?)
}

impl Learner for Crr {
    type Draws = CrrDraws;

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let own = |of: &Tensor, dim| of.narrow(dim, rows.start, rows.len());
        Ok(CrrDraws {
            next_actions: own(&draws.next_actions, 0)?,
            actions: own(&draws.actions, 1)?,
        })
    }

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<CrrDraws> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let (s, a) = (self.config.samples, self.actor.config.net.action_dim);
        Ok(CrrDraws {
            next_actions: rng.normal_tensor((rows, a), dtype, device)?,
            actions: rng.normal_tensor((s, rows, a), dtype, device)?,
        })
    }

    fn update(&mut self, batch: &Batch, draws: &CrrDraws) -> Result<Metrics> {
        self.updates += 1;
        let mut metrics = Metrics::new();
        let loss = self.critic_loss(batch, &draws.next_actions, &mut metrics)?;
        self.critics
            .minimize(&loss, self.config.critic_learning_rate)?;
        let loss = self.actor_loss(batch, &draws.actions, &mut metrics)?;
        self.actor
            .minimize(&loss, self.config.actor_learning_rate)?;
        if self
            .updates
            .is_multiple_of(self.config.target_every_updates)
        {
            let rate = self.config.target_rate;
            self.target_critics.follow(&self.critics, rate)?;
            self.target_actor.follow(&self.actor, rate)?;
        }
        Ok(metrics)
    }

    /// The mean of the policy.
    fn act(&self) -> Result<ActionFn> {
        self.actor.act()
    }

    fn explore(
        &self,
        observation: &Tensor,
        normals: &Tensor,
        _: Option<f64>,
    ) -> Result<Option<Tensor>> {
        sample(&self.actor.detached, observation, normals).map(Some) // (1, A)
    }

    fn sampler(&self) -> Result<Option<SampleFn>> {
        let actor = self.actor.snapshot()?;
        Ok(Some(Box::new(move |observations, normals| {
            sample(&actor, observations, normals)
        })))
    }

    fn critics(&self) -> Option<&Critics> {
        Some(&self.critics.detached)
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)?;
        self.critics.visit(visitor)?;
        self.target_actor.visit(visitor)?;
        self.target_critics.visit(visitor)?;
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }

    fn passes(&self) -> Vec<Passes> {
        let judged = (1 + self.config.samples) as f64;
        vec![
            work::tanh_gaussian_actor(&self.actor.config)
                .forward(2.0)
                .train(1.0),
            work::critics(&self.critics.config)
                .forward(1.0 + judged)
                .train(1.0),
        ]
    }

    fn policy(&self, parts: PolicyParts) -> Result<Box<dyn Policy>> {
        if !self.config.weighted_acting {
            return Ok(Box::new(parts.around(self.act()?)));
        }
        Ok(Box::new(self.weighted_policy(parts)?))
    }
}

impl Crr {
    /// The critic weighted policy: one of m actions, by the mean of its values.
    ///
    /// # Errors
    /// If the device fails.
    pub fn weighted_policy(&self, parts: PolicyParts) -> Result<CandidatePolicy> {
        let (actor, critics) = (self.actor.snapshot()?, self.critics.snapshot()?);
        let candidates = move |observations: &Tensor, noise: &Tensor| {
            let actions = sample(&actor, observations, noise)?; // (S, E, A)
            let values = values_of(&critics, observations, &actions)?.mean(0)?; // (S, E)
            Ok((actions, values))
        };
        let sizes = (self.config.samples, self.actor.config.net.action_dim);
        Ok(CandidatePolicy::new(
            parts,
            Box::new(candidates),
            sizes,
            Choice::Weighted,
        ))
    }
}
