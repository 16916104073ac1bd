//! SAC: soft actor-critic with two critics and a learned temperature.
//!
//! Haarnoja et al. 2018, <https://arxiv.org/abs/1812.05905>; code pranz24/pytorch-soft-actor-critic @ c180566
//! (`sac.py`, `model.py`), a widely used one in PyTorch.
//!
//! Made for learning online; on data alone nothing keeps its policy near them, and it is here to compare with.
//! With α the temperature and a, a' drawn from the policy π:
//!
//! ```text
//! y        = r + γ (1 - terminated) (min_i Q'_i(s', a') - α ln π(a' | s'))
//! L(Q_i)   = mean (Q_i(s, a_data) - y)²
//! L(π)     = mean (α ln π(a | s) - min_i Q_i(s, a))
//! L(ln α)  = -ln α mean (ln π(a | s) + H),  H = -A, with the a of L(π)
//! target  <- (1 - rate) target + rate online
//! ```
//!
//! The steps follow each other in this order: the actor's uses the critics after theirs, both use α before its own.
//! ([`sac_n`](crate::sac_n) with two members is CORL's variant: temperature, actor, critics.) ln π of an action
//! under its tanh is Σ ln N(u) - ln(1 - a² + 1e-6), as in that code: finite at the bounds, a little off near them.
//!
//! Deviations: actions are mapped to ±1 before anything sees them, where that code scales the actor's; α is
//! exp(ln α) from the first update on, where that code starts from a fixed 0.2; the temperature is learned by
//! default, as the paper has it.

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::ActorConfig;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::gaussian::{TanhCorrection, TanhGaussianActor, TanhGaussianActorConfig};
use trajformer_models::init::{Init, StackInit, xavier_bound};
use trajformer_models::network::{Scalar, ScalarConfig};
use trajformer_models::params::StateVisitor;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{ActionFn, Explorer, InitContext, Learner, OffPolicy, Target, Trained};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_data::transitions::{Batch, TransitionsConfig};
use trajformer_data::transitions_config::DataView;
use trajformer_models::rng::Rng;

/// `[algorithm.sac]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SacConfig {
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate: target <- (1 - rate) * target + rate * online, every `target_every` updates. In
    /// (0, 1].
    pub target_rate: f64,
    /// The target critics follow every so many updates.
    pub target_every: u64,
    /// First value of the temperature α.
    pub initial_temperature: f64,
    /// Whether the temperature is learned.
    pub automatic_temperature: bool,
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
    /// Limits of the logarithms of the policy's standard deviations.
    pub log_std_range: (f64, f64),
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// How it sees the data; by default observations are as they are.
    #[serde(deserialize_with = "DataView::read_plain")]
    pub data: DataView,
}

impl Default for SacConfig {
    /// The paper's table 1, as `main.py` has it.
    fn default() -> Self {
        Self {
            discount: 0.99,
            target_rate: 0.005,
            target_every: 1,
            initial_temperature: 1.0,
            automatic_temperature: true,
            target_entropy: None,
            batch_size: 256,
            actor_learning_rate: 3e-4,
            critic_learning_rate: 3e-4,
            temperature_learning_rate: 3e-4,
            log_std_range: (-20.0, 2.0),
            hidden: vec![256, 256],
            data: DataView::PLAIN,
        }
    }
}

impl SacConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.sac");
        keys.shares(&[("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        keys.networks(self.batch_size, &self.hidden, 3)?;
        if self.target_every == 0 {
            return Err(keys.wrong("target_every", 0, "at least 1"));
        }
        keys.range("log_std_range", self.log_std_range)?;
        keys.finite(&[("target_entropy", self.target_entropy.unwrap_or(0.0))])?;
        keys.positive(&[
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
            ("temperature_learning_rate", self.temperature_learning_rate),
            ("initial_temperature", self.initial_temperature),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<impl Algorithm + use<>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.sac",
            ..self.data.into()
        };
        OffPolicy::new(build, &view, self.batch_size, |start| Sac::new(self, start))
    }
}

/// The networks of SAC and their update.
pub struct Sac {
    config: SacConfig,
    target_entropy: f64,
    actor: Trained<TanhGaussianActor>,
    critics: Trained<Critics>,
    target_critics: Target<Critics>,
    temperature: Trained<Scalar>,
    updates: u64,
}

impl Sac {
    /// Makes the networks with the reference code's initial values, Xavier's.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &SacConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let width = config.hidden.last().copied();
        let width = width.unwrap_or(start.observation_dim);
        let actor_init = StackInit {
            // Of each of both heads on its own.
            last_weight: Some(Init::Uniform(xavier_bound(width + start.action_dim))),
            ..StackInit::xavier()
        };
        let actor = TanhGaussianActorConfig {
            net: ActorConfig {
                observation_dim: start.observation_dim,
                action_dim: start.action_dim,
                hidden: config.hidden.clone(),
                init: actor_init,
                ..ActorConfig::default()
            },
            log_std_range: config.log_std_range,
            log_std_affine: None,
            correction: TanhCorrection::Epsilon(1e-6),
        };
        let critics = CriticConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            members: 2,
            init: StackInit::xavier(),
            ..CriticConfig::default()
        };
        let temperature = ScalarConfig {
            name: "log_alpha",
            start: config.initial_temperature.ln(),
        };
        let critics = Trained::new("critics", critics, start)?;
        Ok(Self {
            target_entropy: (config.target_entropy).unwrap_or(-(start.action_dim as f64)),
            config: config.clone(),
            actor: Trained::new("actor", actor, start)?,
            target_critics: Target::new(&critics)?,
            critics,
            temperature: Trained::new("temperature", temperature, start)?,
            updates: 0,
        })
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
        let q = critics.forward(&batch.observations, &batch.actions)?; // (2, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_mean", &q.mean_all()?);
        Ok(loss)
    }

    /// mean (α ln π(a | s) - min_i Q_i(s, a)), and mean ln π(a | s).
    fn actor_loss(
        &self,
        batch: &Batch,
        (noise, temperature): (&Tensor, &Tensor),
        metrics: &mut Metrics,
    ) -> Result<(Tensor, Tensor)> {
        let policy = self.actor.net.distribution(&batch.observations)?;
        let (actions, log_probs) = policy.sample(noise)?; // (B, A), (B)
        let q = (self.critics.detached)
            .forward(&batch.observations, &actions)?
            .min(0)?; // (B)
        let loss = (log_probs.broadcast_mul(temperature)? - q)?.mean_all()?;
        let log_prob = log_probs.detach().mean_all()?;
        metrics.push("actor_loss", &loss);
        metrics.push("entropy", &log_prob.neg()?);
        Ok((loss, log_prob))
    }
}

/// Standard normals (B, A) for the actions of an update.
pub struct SacDraws {
    /// At s', for the critics' target.
    pub next: Tensor,
    /// At s, for actor and temperature.
    pub actor: Tensor,
}

impl Learner for Sac {
    type Draws = SacDraws;

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let own = |of: &Tensor, dim| of.narrow(dim, rows.start, rows.len());
        Ok(SacDraws {
            next: own(&draws.next, 0)?,
            actor: own(&draws.actor, 0)?,
        })
    }

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<SacDraws> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let shape = (rows, self.actor.config.net.action_dim);
        Ok(SacDraws {
            next: rng.normal_tensor(shape, dtype, device)?,
            actor: rng.normal_tensor(shape, dtype, device)?,
        })
    }

    fn update(&mut self, batch: &Batch, draws: &SacDraws) -> Result<Metrics> {
        self.updates += 1;
        let mut metrics = Metrics::new();
        let temperature = self.temperature.detached.value.exp()?; // (1)
        let loss = self.critic_loss(batch, (&draws.next, &temperature), &mut metrics)?;
        (self.critics).minimize(&loss, self.config.critic_learning_rate)?;

        let (loss, log_prob) =
            self.actor_loss(batch, (&draws.actor, &temperature), &mut metrics)?;
        (self.actor).minimize(&loss, self.config.actor_learning_rate)?;

        if self.config.automatic_temperature {
            let log_temperature = self.temperature.net.value.squeeze(0)?;
            let loss = (log_temperature * (log_prob + self.target_entropy)?)?.neg()?;
            metrics.push("temperature_loss", &loss);
            (self.temperature).minimize(&loss, self.config.temperature_learning_rate)?;
            metrics.push("temperature", &self.temperature.detached.value.exp()?);
        }
        if self.updates.is_multiple_of(self.config.target_every) {
            (self.target_critics).follow(&self.critics, self.config.target_rate)?;
        }
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
        self.temperature.visit(visitor)?;
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }

    fn passes(&self) -> Vec<Passes> {
        work::soft_actor_critic(&self.actor.config, &self.critics.config)
    }
}
