//! SAC-N: soft actor-critic whose targets are the minimum over a large ensemble of critics.
//!
//! An, Moon, Kim & Song 2021, <https://arxiv.org/abs/2110.01548>; code corl-team/CORL @ eeeeef2
//! (`algorithms/offline/sac_n.py`).
//!
//! The minimum over many critics is low where they disagree, which is where there is no data: nothing else
//! keeps the policy there. With α the temperature and a, a' drawn from the policy π anew for each line:
//!
//! ```text
//! L(ln α)  = -ln α mean (ln π(a | s) + H),  H = -A
//! L(π)     = mean (α ln π(a | s) - min_i Q_i(s, a))
//! y        = r + γ (1 - terminated) (min_i Q'_i(s', a') - α ln π(a' | s'))
//! L(Q_i)   = mean (Q_i(s, a_data) - y)²
//! target  <- (1 - rate) target + rate online
//! ```
//!
//! The three steps follow each other in this order, and each uses what the one before it made. ln π of an
//! action under its tanh is Σ ln N(u) - ln(1 - a² + 1e-6), as in CORL's code: finite at the bounds, a little off near them.
//!
//! Deviations: the authors' own code (snu-mllab/EDAC) computes all three losses before the first step;
//! CORL's order is taken, whose scores are published. First values are the authors' unless asked otherwise
//! ([`EnsembleStart`]). Actions are mapped to ±1 before anything sees them.

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::ActorConfig;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::gaussian::{
    TanhCorrection, TanhGaussian, TanhGaussianActor, TanhGaussianActorConfig,
};
use trajformer_models::network::{Scalar, ScalarConfig};
use trajformer_models::params::StateVisitor;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{
    ActionFn, EnsembleStart, Explorer, InitContext, Learner, OffPolicy, Target, Trained,
};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_data::transitions::{Batch, TransitionsConfig};
use trajformer_data::transitions_config::DataView;
use trajformer_models::rng::Rng;

/// Logarithms of standard deviations are limited to this; -20..2 in SAC.
const LOG_STD_RANGE: (f64, f64) = (-5.0, 2.0);

/// `[algorithm.sac_n]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SacNConfig {
    /// Critics, N: 10 on halfcheetah, 20 on walker2d, 200 to 500 on hopper.
    pub members: usize,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate: target <- (1 - rate) * target + rate * online, after each update. In (0, 1].
    pub target_rate: f64,
    /// Entropy H that the temperature steers to; default minus the number of action dimensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_entropy: Option<f64>,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for the actor.
    pub actor_learning_rate: f64,
    /// Adam's rate for the critics.
    pub critic_learning_rate: f64,
    /// Adam's rate for the logarithm of the temperature.
    pub temperature_learning_rate: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// Whose first values the networks have: `"authors"` or `"corl"`, whose published scores started from theirs.
    pub initialization: EnsembleStart,
    /// How it sees the data; by default observations are as they are.
    #[serde(deserialize_with = "DataView::read_plain")]
    pub data: DataView,
}

impl Default for SacNConfig {
    /// CORL's `TrainConfig`, except the initial values, which are the authors'.
    fn default() -> Self {
        Self {
            members: 10,
            discount: 0.99,
            target_rate: 0.005,
            target_entropy: None,
            batch_size: 256,
            actor_learning_rate: 3e-4,
            critic_learning_rate: 3e-4,
            temperature_learning_rate: 3e-4,
            hidden: vec![256, 256, 256],
            initialization: EnsembleStart::Authors,
            data: DataView::PLAIN,
        }
    }
}

impl SacNConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.sac_n");
        keys.counts(&[("members", self.members, 10_000)])?;
        keys.shares(&[("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        keys.networks(self.batch_size, &self.hidden, self.members + 1)?;
        keys.finite(&[("target_entropy", self.target_entropy.unwrap_or(0.0))])?;
        keys.positive(&[
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
            ("temperature_learning_rate", self.temperature_learning_rate),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<impl Algorithm + use<>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.sac_n",
            ..self.data.into()
        };
        OffPolicy::new(build, &view, self.batch_size, |start| {
            SacN::new(self, start)
        })
    }
}

/// The networks of SAC-N and their update.
pub struct SacN {
    config: SacNConfig,
    target_entropy: f64,
    actor: Trained<TanhGaussianActor>,
    critics: Trained<Critics>,
    target_critics: Target<Critics>,
    temperature: Trained<Scalar>,
}

impl SacN {
    /// Makes the networks with the configuration's initial values; the temperature starts at 1.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &SacNConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let actor = TanhGaussianActorConfig {
            net: ActorConfig {
                observation_dim: start.observation_dim,
                action_dim: start.action_dim,
                hidden: config.hidden.clone(),
                init: config.initialization.actor(),
                ..ActorConfig::default()
            },
            log_std_range: LOG_STD_RANGE,
            log_std_affine: None,
            correction: TanhCorrection::Epsilon(1e-6),
        };
        let critics = CriticConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            members: config.members,
            init: config.initialization.critics(),
            ..CriticConfig::default()
        };
        let temperature = ScalarConfig {
            name: "log_alpha",
            start: 0.0,
        };
        let critics = Trained::new("critics", critics, start)?;
        Ok(Self {
            target_entropy: (config.target_entropy).unwrap_or(-(start.action_dim as f64)),
            config: config.clone(),
            actor: Trained::new("actor", actor, start)?,
            target_critics: Target::new(&critics)?,
            critics,
            temperature: Trained::new("temperature", temperature, start)?,
        })
    }

    /// -ln α mean (ln π(a | s) + H), with gradients to the temperature alone.
    fn temperature_loss(
        &self,
        policy: &TanhGaussian,
        noise: &Tensor,
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let (_, log_probs) = policy.sample(noise)?; // (B)
        let surplus = (log_probs.detach().mean_all()? + self.target_entropy)?;
        let loss = (self.temperature.net.value.squeeze(0)? * surplus)?.neg()?;
        metrics.push("temperature_loss", &loss);
        Ok(loss)
    }

    /// mean (α ln π(a | s) - min_i Q_i(s, a)).
    fn actor_loss(
        &self,
        batch: &Batch,
        (policy, noise, temperature): (&TanhGaussian, &Tensor, &Tensor),
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let (actions, log_probs) = policy.sample(noise)?; // (B, A), (B)
        let q = self
            .critics
            .detached
            .forward(&batch.observations, &actions)?; // (N, B)
        let loss = (log_probs.broadcast_mul(temperature)? - q.min(0)?)?.mean_all()?;
        metrics.push("actor_loss", &loss);
        metrics.push("entropy", &log_probs.mean_all()?.neg()?);
        Ok(loss)
    }

    /// Σ_i mean (Q_i(s, a) - y)².
    fn critic_loss(
        &self,
        batch: &Batch,
        (noise, temperature): (&Tensor, &Tensor),
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let next_policy = self.actor.detached.distribution(&batch.next_observations)?;
        let (next_actions, log_probs) = next_policy.sample(noise)?; // (B, A), (B)
        let next_q = self
            .target_critics
            .net()?
            .forward(&batch.next_observations, &next_actions)?
            .min(0)?; // (B)
        let next_q = (next_q - log_probs.broadcast_mul(temperature)?)?;
        let future = ((next_q * (1.0 - &batch.terminated)?)? * self.config.discount)?;
        let target = (&batch.rewards + future)?; // (B)
        let critics = &self.critics.net;
        let q = critics.forward(&batch.observations, &batch.actions)?; // (N, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_mean", &q.mean_all()?);
        Ok(loss)
    }
}

/// Standard normals (B, A) for the actions of each of an update's steps.
pub struct SacNDraws {
    /// At s, for the temperature.
    pub temperature: Tensor,
    /// At s, for the actor.
    pub actor: Tensor,
    /// At s', for the critics' target.
    pub next: Tensor,
}

impl Learner for SacN {
    type Draws = SacNDraws;

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let own = |of: &Tensor, dim| of.narrow(dim, rows.start, rows.len());
        Ok(SacNDraws {
            temperature: own(&draws.temperature, 0)?,
            actor: own(&draws.actor, 0)?,
            next: own(&draws.next, 0)?,
        })
    }

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<SacNDraws> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let shape = (rows, self.actor.config.net.action_dim);
        Ok(SacNDraws {
            temperature: rng.normal_tensor(shape, dtype, device)?,
            actor: rng.normal_tensor(shape, dtype, device)?,
            next: rng.normal_tensor(shape, dtype, device)?,
        })
    }

    fn update(&mut self, batch: &Batch, draws: &SacNDraws) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        let policy = self.actor.net.distribution(&batch.observations)?;
        let loss = self.temperature_loss(&policy, &draws.temperature, &mut metrics)?;
        (self.temperature).minimize(&loss, self.config.temperature_learning_rate)?;
        let temperature = self.temperature.detached.value.exp()?; // (1)
        metrics.push("temperature", &temperature);

        let on_policy = (&policy, &draws.actor, &temperature);
        let loss = self.actor_loss(batch, on_policy, &mut metrics)?;
        (self.actor).minimize(&loss, self.config.actor_learning_rate)?;

        let loss = self.critic_loss(batch, (&draws.next, &temperature), &mut metrics)?;
        (self.critics).minimize(&loss, self.config.critic_learning_rate)?;
        (self.target_critics).follow(&self.critics, self.config.target_rate)?;
        Ok(metrics)
    }

    fn act(&self) -> Result<ActionFn> {
        self.actor.act()
    }

    fn explorer(&self) -> Explorer<'_> {
        Explorer::Drawn(&self.actor)
    }

    fn critics(&self) -> Option<&Critics> {
        Some(&self.critics.detached)
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)?;
        self.critics.visit(visitor)?;
        self.target_critics.visit(visitor)?;
        self.temperature.visit(visitor)
    }

    fn passes(&self) -> Vec<Passes> {
        work::soft_actor_critic(&self.actor.config, &self.critics.config)
    }
}
