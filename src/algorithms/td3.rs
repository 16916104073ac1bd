//! TD3: twin delayed deep deterministic policy gradient.
//!
//! Fujimoto, van Hoof & Meger 2018, <https://arxiv.org/abs/1802.09477>; authors' code sfujim/TD3 @ 34770cc (`TD3.py`).
//!
//! Made for learning online; on data alone nothing keeps its policy near them, and it is here to compare with.
//!
//! ```text
//! y        = r + γ (1 - terminated) min_i Q'_i(s', clip(π'(s') + ε, ±1)),  ε = clip(σ N(0, 1), ±c)
//! L(Q_i)   = mean (Q_i(s, a) - y)²
//! L(π)     = -mean Q_1(s, π(s))
//! target  <- (1 - rate) target + rate online, together with each actor update
//! ```
//!
//! Deviation: actions are mapped to ±1 before anything sees them, where the authors scale the
//! actor's output by `max_action`. For ranges of ±1, all of D4RL's locomotion, it is the same.

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::{ActorConfig, DeterministicActor};
use trajformer_models::critic::{CriticConfig, Critics};
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

/// Standard deviation of the noise that it explores with, for a range of ±1: table 3 of the paper.
const EXPLORATION_NOISE: f64 = 0.1;

/// `[algorithm.td3]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Td3Config {
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate: target <- (1 - rate) * target + rate * online, after each actor update.
    /// In (0, 1]; 0.005 in TD3, table 3. Called tau there.
    pub target_rate: f64,
    /// Standard deviation of the noise on the target policy's actions, for a range of ±1.
    pub policy_noise: f64,
    /// The noise is clipped to plus or minus this.
    pub noise_clip: f64,
    /// The actor and all targets are updated every so many critic updates.
    pub policy_delay: u64,
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

impl Default for Td3Config {
    fn default() -> Self {
        Self {
            discount: 0.99,
            target_rate: 0.005,
            policy_noise: 0.2,
            noise_clip: 0.5,
            policy_delay: 2,
            batch_size: 256,
            actor_learning_rate: 3e-4,
            critic_learning_rate: 3e-4,
            hidden: vec![256, 256],
            data: DataView::PLAIN,
        }
    }
}

impl Td3Config {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.td3");
        keys.shares(&[("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        if self.policy_delay == 0 {
            return Err(keys.wrong("policy_delay", 0, "at least 1"));
        }
        keys.networks(self.batch_size, &self.hidden, 3)?;
        keys.positive(&[
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
        ])?;
        keys.not_negative(&[
            ("policy_noise", self.policy_noise),
            ("noise_clip", self.noise_clip),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<impl Algorithm + use<>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.td3",
            ..self.data.into()
        };
        OffPolicy::new(build, &view, self.batch_size, |start| Td3::new(self, start))
    }
}

/// The networks of TD3 and their update.
pub struct Td3 {
    config: Td3Config,
    actor: Trained<DeterministicActor>,
    critics: Trained<Critics>,
    target_actor: Target<DeterministicActor>,
    target_critics: Target<Critics>,
    updates: u64,
}

impl Td3 {
    /// Makes the networks with PyTorch's initial values; targets start equal to the networks.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &Td3Config, start: &mut InitContext<'_>) -> Result<Self> {
        let actor = ActorConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            ..ActorConfig::default()
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
            target_actor: Target::new(&actor)?,
            target_critics: Target::new(&critics)?,
            actor,
            critics,
            updates: 0,
        })
    }

    /// Σ_i mean (Q_i(s, a) - y)².
    fn critic_loss(&self, batch: &Batch, noise: &Tensor, metrics: &mut Metrics) -> Result<Tensor> {
        let clip = self.config.noise_clip;
        let noise = (noise * self.config.policy_noise)?.clamp(-clip, clip)?; // (B, A)
        let next_actions = self.target_actor.net()?.forward(&batch.next_observations)?;
        let next_actions = (next_actions + noise)?.clamp(-1.0, 1.0)?; // (B, A)
        let next_q = self
            .target_critics
            .net()?
            .forward(&batch.next_observations, &next_actions)?
            .min(0)?; // (B)
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_q * not_terminated)? * self.config.discount)?;
        let target = (&batch.rewards + future)?.detach(); // (B)
        let critics = &self.critics.net;
        let q = critics.forward(&batch.observations, &batch.actions)?; // (2, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_mean", &q.mean_all()?);
        Ok(loss)
    }

    /// -mean Q_1(s, π(s)).
    fn actor_loss(&self, batch: &Batch, metrics: &mut Metrics) -> Result<Tensor> {
        let actions = self.actor.net.forward(&batch.observations)?; // (B, A)
        let critic = self.critics.detached.member(0)?;
        let q = critic.forward(&batch.observations, &actions)?; // (1, B)
        let loss = q.mean_all()?.neg()?;
        metrics.push("actor_loss", &loss);
        Ok(loss)
    }
}

impl Learner for Td3 {
    /// Standard normals (B, A): the noise on target actions.
    type Draws = Tensor;

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        Ok(draws.narrow(0, rows.start, rows.len())?)
    }

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<Tensor> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let shape = (rows, self.actor.config.action_dim);
        Ok(rng.normal_tensor(shape, dtype, device)?)
    }

    fn update(&mut self, batch: &Batch, noise: &Tensor) -> Result<Metrics> {
        self.updates += 1;
        let mut metrics = Metrics::new();
        let rate = self.config.target_rate;
        let loss = self.critic_loss(batch, noise, &mut metrics)?;
        (self.critics).minimize(&loss, self.config.critic_learning_rate)?;
        if self.updates.is_multiple_of(self.config.policy_delay) {
            let loss = self.actor_loss(batch, &mut metrics)?;
            (self.actor).minimize(&loss, self.config.actor_learning_rate)?;
            self.target_critics.follow(&self.critics, rate)?;
            self.target_actor.follow(&self.actor, rate)?;
        }
        Ok(metrics)
    }

    fn act(&self) -> Result<ActionFn> {
        self.actor.act()
    }

    fn explorer(&self) -> Explorer<'_> {
        Explorer::Noisy(&self.actor, EXPLORATION_NOISE)
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
        let actor_updates = 1.0 / self.config.policy_delay as f64;
        vec![
            work::actor(&self.actor.config)
                .forward(1.0)
                .train(actor_updates),
            work::critics(&self.critics.config).forward(1.0).train(1.0),
            // The actor climbs the first critic alone.
            work::critic(&self.critics.config).through(actor_updates),
        ]
    }
}
