//! BRAC: behaviour regularised actor critic.
//!
//! Wu, Tucker & Nachum 2019, <https://arxiv.org/abs/1911.11361>; authors' code `behavior_regularized_offline_rl` of
//! google-research as rail-berkeley/d4rl_evaluations @ c93b9d2 (`brac/`) has it: `bc_agent.py`, then
//! `brac_primal_agent.py` with the divergence `kl`.
//!
//! An explicit constraint: the KL divergence from a behaviour policy β, fitted first, is a penalty on the policy, and on the
//! values too:
//!
//! ```text
//! π(a|s)   = tanh N(μ(s), σ(s)²),  ln σ in -5..0 by a tanh; β the same
//! first:     L(β) = mean τ ln β(b|s) - ln β(clip(a)|s),  b ~ β(s);   L(τ) = mean τ (-ln β(b|s) - H),  H = -A
//! D(s)     = mean_j ln π(a_j|s) - ln β(clip(a_j)|s),  a_j ~ π(s), j = 1..n;  clip to ±(1 - 1e-3)
//! y        = r + γ (1 - terminated) (min_i Q'_i(s', a') - α D(s')),  a' ~ π(s');  BRAC-p: without D
//! L(Q)     = Σ_i mean (Q_i(s, a) - y)²
//! L(π)     = mean α D(s) - min_i Q_i(s, a),  a ~ π(s);  without Q during the warm-up
//! L(α)     = -mean α (D(s) - ε), if α is learned; α in 0..500
//! target  <- (1 - rate) target + rate online, before each update
//! ```
//!
//! τ and α stop at their bounds by a gradient of 0 towards the outside; where Adam's momentum carries them further, the bound
//! counts. Acting draws actions and takes the one with the largest Q_1.
//!
//! Deviations: one run instead of two programs; actions are mapped to ±1 first; targets start equal to the critics, the
//! authors' at other random values; PyTorch's Adam for Keras's, whose epsilon counts differently. Left out: the entropy term of π (0 in
//! the authors' defaults), the dual form with a discriminator, MMD and Wasserstein distance (the paper finds no clear order).

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
    Gaussian, TanhCorrection, TanhGaussian, TanhGaussianActor, TanhGaussianActorConfig, clamp,
};
use trajformer_models::init::StackInit;
use trajformer_models::network::{Scalar, ScalarConfig};
use trajformer_models::params::StateVisitor;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{
    ActionFn, CandidatePolicy, Choice, InitContext, Learner, OffPolicy, PolicyParts, SampleFn,
    Target, Trained, repeated,
};
use trajformer_core::policy::Policy;
use trajformer_models::rng::Rng;

/// ln σ lies between these, by a tanh.
const LOG_STD: (f64, f64) = (-5.0, 0.0);
/// Actions are moved to ± this before β's density is taken.
const ACTION_BOUND: f64 = 1.0 - 1e-3;
/// Bounds of α.
const PENALTY: (f64, f64) = (0.0, 500.0);
/// Bounds of τ.
const TEMPERATURE: (f64, f64) = (0.0, f64::INFINITY);

/// `[algorithm.brac]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BracConfig {
    /// α, or its first value.
    pub penalty: f64,
    /// Whether α is learned, as the multiplier of D = ε.
    pub train_penalty: bool,
    /// ε, if α is learned.
    pub target_divergence: f64,
    /// Whether values are penalised too: BRAC-v, the default of `brac_primal_agent.py`; else BRAC-p, the default of
    /// `train_brac.py`, which the configurations have.
    pub value_penalty: bool,
    /// Actions n that D is estimated from.
    pub samples: usize,
    /// Actions that acting takes the best of; 0: tanh μ instead.
    pub acting_samples: usize,
    /// First updates, in which only the behaviour policy is fitted.
    pub behavior_updates: u64,
    /// Updates after those, in which the policy follows the penalty alone; the authors' comparison makes it one more.
    pub warm_start_updates: u64,
    /// τ at first.
    pub behavior_temperature: f64,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate of the critics' targets, in (0, 1].
    pub target_rate: f64,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for the policy.
    pub actor_learning_rate: f64,
    /// Adam's rate for the critics.
    pub critic_learning_rate: f64,
    /// Adam's rate for β and τ.
    pub behavior_learning_rate: f64,
    /// Adam's rate for α.
    pub penalty_learning_rate: f64,
    /// Widths of the critics' hidden layers.
    pub hidden: Vec<usize>,
    /// Widths of the hidden layers of policy and behaviour policy.
    pub actor_hidden: Vec<usize>,
    /// How it sees the data; by default observations are as they are.
    #[serde(deserialize_with = "DataView::read_plain")]
    pub data: DataView,
}

impl Default for BracConfig {
    /// `scripts/train_brac.py`, with the value penalty that `brac_primal_agent.py` has by default.
    fn default() -> Self {
        Self {
            penalty: 1.0,
            train_penalty: false,
            target_divergence: 0.0,
            value_penalty: true,
            samples: 4,
            acting_samples: 10,
            behavior_updates: 1_000_000,
            warm_start_updates: 20_000,
            behavior_temperature: 1.0,
            discount: 0.99,
            target_rate: 0.005,
            batch_size: 256,
            actor_learning_rate: 3e-5,
            critic_learning_rate: 1e-3,
            behavior_learning_rate: 5e-4,
            penalty_learning_rate: 1e-5,
            hidden: vec![300, 300],
            actor_hidden: vec![200, 200],
            data: DataView::PLAIN,
        }
    }
}

impl BracConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.brac");
        keys.shares(&[("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        keys.counts(&[("samples", self.samples, 1 << 10)])?;
        if self.acting_samples > 1 << 10 {
            return Err(keys.wrong("acting_samples", self.acting_samples, "at most 1024"));
        }
        keys.networks(self.batch_size, &self.hidden, 3)?;
        keys.hidden("actor_hidden", &self.actor_hidden)?;
        keys.not_negative(&[
            ("penalty", self.penalty),
            ("behavior_temperature", self.behavior_temperature),
        ])?;
        if !self.target_divergence.is_finite() {
            return Err(keys.wrong("target_divergence", self.target_divergence, "a number"));
        }
        keys.positive(&[
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
            ("behavior_learning_rate", self.behavior_learning_rate),
            ("penalty_learning_rate", self.penalty_learning_rate),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<impl Algorithm + use<>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.brac",
            ..self.data.into()
        };
        OffPolicy::new(build, &view, self.batch_size, |start| {
            Brac::new(self, start)
        })
    }
}

/// The random numbers of one update: standard normals.
pub enum BracDraws {
    /// While β is fitted.
    Behavior {
        /// Noise of β's actions in its loss (B, A).
        actions: Tensor,
        /// Noise of β's actions in τ's loss (B, A).
        temperature: Tensor,
    },
    /// Afterwards.
    Policy {
        /// Noise of π's actions at s' (B, A).
        next_actions: Tensor,
        /// Noise of π's actions in D(s') (n, B, A), with a value penalty.
        next_divergence: Option<Tensor>,
        /// Noise of π's actions at s (B, A).
        actor: Tensor,
        /// Noise of π's actions in D(s) (n, B, A).
        divergence: Tensor,
        /// Noise of π's actions in α's D(s) (n, B, A), if α is learned.
        penalty: Option<Tensor>,
    },
}

/// The networks of BRAC and their update.
pub struct Brac {
    config: BracConfig,
    behavior: Trained<TanhGaussianActor>,
    /// τ.
    temperature: Trained<Scalar>,
    actor: Trained<TanhGaussianActor>,
    critics: Trained<Critics>,
    target_critics: Target<Critics>,
    /// α, if it is learned.
    penalty: Option<Trained<Scalar>>,
    updates: u64,
}

impl Brac {
    /// Makes the networks with Keras' initial values; targets start equal to the critics.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &BracConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let (observation_dim, action_dim) = (start.observation_dim, start.action_dim);
        let actor = TanhGaussianActorConfig {
            net: ActorConfig {
                observation_dim,
                action_dim,
                hidden: config.actor_hidden.clone(),
                init: StackInit::xavier(),
                ..ActorConfig::default()
            },
            // `distribution` limits it.
            log_std_range: (f64::NEG_INFINITY, f64::INFINITY),
            log_std_affine: None,
            correction: TanhCorrection::Exact,
        };
        let critics = CriticConfig {
            observation_dim,
            action_dim,
            hidden: config.hidden.clone(),
            init: StackInit::xavier(),
            ..CriticConfig::default()
        };
        let scalar = |name, start| ScalarConfig { name, start };
        let temperature = scalar("temperature", config.behavior_temperature);
        let penalty = if config.train_penalty {
            Some(Trained::new(
                "lagrange",
                scalar("penalty", config.penalty),
                start,
            )?)
        } else {
            None
        };
        let critics = Trained::new("critics", critics, start)?;
        Ok(Self {
            config: config.clone(),
            behavior: Trained::new("behavior", actor.clone(), start)?,
            temperature: Trained::new("behavior_temperature", temperature, start)?,
            actor: Trained::new("actor", actor, start)?,
            target_critics: Target::new(&critics)?,
            critics,
            penalty,
            updates: 0,
        })
    }

    /// Updates since β was fitted; `None` while it still is.
    fn policy_updates(&self) -> Option<u64> {
        self.updates.checked_sub(self.config.behavior_updates)
    }

    /// One step of β, then one of τ.
    fn update_behavior(
        &mut self,
        batch: &Batch,
        [actions, temperature]: [&Tensor; 2],
        metrics: &mut Metrics,
    ) -> Result<()> {
        let rate = self.config.behavior_learning_rate;
        let behavior = distribution(&self.behavior.net, &batch.observations)?;
        let (_, log_probs) = behavior.sample(actions)?; // (B)
        let of_data = behavior.log_prob(&clamp(&batch.actions, -ACTION_BOUND, ACTION_BOUND)?)?;
        let value = limited(&self.temperature.detached, TEMPERATURE)?; // (1)
        let loss = (log_probs.broadcast_mul(&value)? - of_data)?.mean_all()?;
        self.behavior.minimize(&loss, rate)?;
        metrics.push("behavior_loss", &loss);
        metrics.push("behavior_temperature", &value.squeeze(0)?);

        let behavior = distribution(&self.behavior.detached, &batch.observations)?;
        let (_, log_probs) = behavior.sample(temperature)?;
        let target_entropy = -(self.behavior.config.net.action_dim as f64);
        let slope = (log_probs.mean_all()?.neg()? - target_entropy)?;
        let loss = bounded_loss(&self.temperature.net, &slope, TEMPERATURE)?;
        self.temperature.minimize(&loss, rate)
    }

    /// α x
    fn penalized(&self, x: &Tensor) -> Result<Tensor> {
        match &self.penalty {
            Some(penalty) => Ok(x.broadcast_mul(&limited(&penalty.detached, PENALTY)?)?),
            None => Ok((x * self.config.penalty.clamp(PENALTY.0, PENALTY.1))?),
        }
    }

    /// D (B) of `policy` with standard normals (n, B, A).
    fn divergence(
        &self,
        policy: &TanhGaussianActor,
        observations: &Tensor,
        noise: &Tensor,
    ) -> Result<Tensor> {
        let (actions, log_probs) = distribution(policy, observations)?.sample(noise)?; // (n, B, A), (n, B)
        let actions = clamp(&actions, -ACTION_BOUND, ACTION_BOUND)?;
        let behavior = distribution(&self.behavior.detached, observations)?;
        Ok((log_probs - behavior.log_prob(&actions)?)?.mean(0)?)
    }

    /// Σ_i mean (Q_i(s, a) - y)².
    fn critic_loss(
        &self,
        batch: &Batch,
        next_actions: &Tensor,
        next_divergence: Option<&Tensor>,
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let observations = &batch.next_observations;
        let policy = distribution(&self.actor.detached, observations)?;
        let (next_actions, _) = policy.sample(next_actions)?; // (B, A)
        let targets = self.target_critics.net()?;
        let mut next_value = targets.forward(observations, &next_actions)?.min(0)?; // (B)
        if let Some(noise) = next_divergence {
            let divergence = self.divergence(&self.actor.detached, observations, noise)?;
            next_value = (next_value - self.penalized(&divergence)?)?;
        }
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_value * not_terminated)? * self.config.discount)?;
        let target = (&batch.rewards + future)?.detach(); // (B)
        let critics = &self.critics.net;
        let q = critics.forward(&batch.observations, &batch.actions)?; // (2, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_mean", &q.mean_all()?);
        Ok(loss)
    }

    /// mean α D(s) - min_i Q_i(s, a).
    fn actor_loss(
        &self,
        batch: &Batch,
        [noise, divergence]: [&Tensor; 2],
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let observations = &batch.observations;
        let divergence = self.divergence(&self.actor.net, observations, divergence)?; // (B)
        let mut loss = self.penalized(&divergence)?.mean_all()?;
        if self.policy_updates() > Some(self.config.warm_start_updates + 1) {
            let (actions, _) = distribution(&self.actor.net, observations)?.sample(noise)?;
            let q = self
                .critics
                .detached
                .forward(observations, &actions)?
                .min(0)?; // (B)
            loss = (loss - q.mean_all()?)?;
        }
        metrics.push("actor_loss", &loss);
        metrics.push("divergence", &divergence.mean_all()?);
        Ok(loss)
    }

    /// One step of α, if it is learned.
    fn update_penalty(
        &mut self,
        batch: &Batch,
        noise: Option<&Tensor>,
        metrics: &mut Metrics,
    ) -> Result<()> {
        let Some(noise) = noise else { return Ok(()) };
        let divergence = self.divergence(&self.actor.detached, &batch.observations, noise)?;
        let Some(penalty) = &mut self.penalty else {
            return Ok(());
        };
        let slope = (divergence.mean_all()?.neg()? + self.config.target_divergence)?;
        metrics.push("penalty", &limited(&penalty.detached, PENALTY)?.squeeze(0)?);
        let loss = bounded_loss(&penalty.net, &slope, PENALTY)?;
        penalty.minimize(&loss, self.config.penalty_learning_rate)
    }
}

/// The distribution of actions at observations (B, O).
fn distribution(actor: &TanhGaussianActor, observations: &Tensor) -> Result<TanhGaussian> {
    let TanhGaussian {
        gaussian: Gaussian { mean, log_std },
        correction,
    } = actor.distribution(observations)?;
    let (low, high) = LOG_STD;
    let log_std = (((log_std.tanh()? + 1.0)? * (0.5 * (high - low)))? + low)?;
    Ok(TanhGaussian {
        gaussian: Gaussian { mean, log_std },
        correction,
    })
}

/// A learned number as it counts (1).
fn limited(scalar: &Scalar, (low, high): (f64, f64)) -> Result<Tensor> {
    Ok(scalar.value.clamp(low, high)?)
}

/// Surrogate loss with gradient `slope`, zero where the step would leave the bounds.
fn bounded_loss(scalar: &Scalar, slope: &Tensor, (low, high): (f64, f64)) -> Result<Tensor> {
    let (value, slope) = (scalar.value.detach().squeeze(0)?, slope.detach());
    let falls = slope.gt(0.0)?.to_dtype(slope.dtype())?;
    let above = value.gt(low)?.to_dtype(slope.dtype())?;
    let below = value.lt(high)?.to_dtype(slope.dtype())?;
    let free = ((&falls * above)? + ((1.0 - &falls)? * below)?)?;
    Ok((scalar.value.squeeze(0)? * (slope * free)?)?)
}

impl Learner for Brac {
    type Draws = BracDraws;

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<BracDraws> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let (n, a) = (self.config.samples, self.actor.config.net.action_dim);
        let mut one = || rng.normal_tensor((rows, a), dtype, device);
        let (first, second) = (one()?, one()?);
        if self.updates < self.config.behavior_updates {
            return Ok(BracDraws::Behavior {
                actions: first,
                temperature: second,
            });
        }
        let mut several = || rng.normal_tensor((n, rows, a), dtype, device);
        Ok(BracDraws::Policy {
            next_actions: first,
            actor: second,
            divergence: several()?,
            next_divergence: self.config.value_penalty.then(&mut several).transpose()?,
            penalty: self.config.train_penalty.then(several).transpose()?,
        })
    }

    fn update(&mut self, batch: &Batch, draws: &BracDraws) -> Result<Metrics> {
        self.updates += 1;
        let mut metrics = Metrics::new();
        match draws {
            BracDraws::Behavior {
                actions,
                temperature,
            } => self.update_behavior(batch, [actions, temperature], &mut metrics)?,
            BracDraws::Policy {
                next_actions,
                next_divergence,
                actor,
                divergence,
                penalty,
            } => {
                let (critic_rate, actor_rate) = (
                    self.config.critic_learning_rate,
                    self.config.actor_learning_rate,
                );
                self.target_critics
                    .follow(&self.critics, self.config.target_rate)?;
                let next_divergence = next_divergence.as_ref();
                let loss = self.critic_loss(batch, next_actions, next_divergence, &mut metrics)?;
                self.critics.minimize(&loss, critic_rate)?;
                let loss = self.actor_loss(batch, [actor, divergence], &mut metrics)?;
                self.actor.minimize(&loss, actor_rate)?;
                self.update_penalty(batch, penalty.as_ref(), &mut metrics)?;
            }
        }
        Ok(metrics)
    }

    /// tanh of the policy's mean, or of the behaviour policy's while that is fitted.
    fn act(&self) -> Result<ActionFn> {
        match self.policy_updates() {
            None | Some(0) => self.behavior.act(),
            Some(_) => self.actor.act(),
        }
    }

    fn explore(
        &self,
        observation: &Tensor,
        normals: &Tensor,
        _: Option<f64>,
    ) -> Result<Option<Tensor>> {
        let policy = distribution(&self.actor.detached, observation)?;
        Ok(Some(policy.sample(normals)?.0)) // (1, A)
    }

    /// Of the behaviour policy while that is fitted.
    fn sampler(&self) -> Result<Option<SampleFn>> {
        let actor = match self.policy_updates() {
            None | Some(0) => self.behavior.snapshot()?,
            Some(_) => self.actor.snapshot()?,
        };
        Ok(Some(Box::new(move |observations, normals| {
            Ok(distribution(&actor, observations)?.sample(normals)?.0)
        })))
    }

    fn critics(&self) -> Option<&Critics> {
        Some(&self.critics.detached)
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.behavior.visit(visitor)?;
        self.temperature.visit(visitor)?;
        self.actor.visit(visitor)?;
        self.critics.visit(visitor)?;
        self.target_critics.visit(visitor)?;
        if let Some(penalty) = &mut self.penalty {
            penalty.visit(visitor)?;
        }
        // It says which of the two policies acts.
        Ok(visitor.counter("policy.updates", &mut self.updates)?)
    }

    /// Those of the next update: one that fits β, or one after that and the warm-up.
    fn passes(&self) -> Vec<Passes> {
        let actor = work::tanh_gaussian_actor(&self.actor.config);
        if self.updates < self.config.behavior_updates {
            return vec![actor.train(1.0)];
        }
        let divergences =
            1 + usize::from(self.config.value_penalty) + usize::from(self.config.train_penalty);
        vec![
            // Both policies' distributions for each D, and a'; with gradients, twice for the policy's loss.
            actor.forward((2 * divergences + 1) as f64).train(2.0),
            work::critics(&self.critics.config)
                .forward(1.0)
                .train(1.0)
                .through(1.0),
        ]
    }

    fn policy(&self, parts: PolicyParts) -> Result<Box<dyn Policy>> {
        let fitted = self.policy_updates().is_some_and(|updates| updates > 0);
        if self.config.acting_samples == 0 || !fitted {
            return Ok(Box::new(parts.around(self.act()?)));
        }
        Ok(Box::new(self.best_of_several(parts)?))
    }
}

impl Brac {
    /// The policy that samples `acting_samples` actions and takes the one with the largest Q_1.
    ///
    /// # Errors
    /// If the device fails.
    pub fn best_of_several(&self, parts: PolicyParts) -> Result<CandidatePolicy> {
        let (actor, critics) = (self.actor.snapshot()?, self.critics.snapshot()?);
        let critic = critics.member(0)?;
        let candidates = move |observations: &Tensor, noise: &Tensor| {
            let (s, e, a) = noise.dims3()?;
            let (actions, _) = distribution(&actor, observations)?.sample(noise)?; // (S, E, A)
            let rows = repeated(observations, s)?;
            let values = critic.forward(&rows, &actions.reshape((s * e, a))?)?; // (1, S E)
            Ok((actions, values.reshape((s, e))?))
        };
        let sizes = (self.config.acting_samples, self.actor.config.net.action_dim);
        Ok(CandidatePolicy::new(
            parts,
            Box::new(candidates),
            sizes,
            Choice::Best,
        ))
    }
}
