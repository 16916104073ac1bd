//! ReBRAC: revisiting the minimalist approach to offline reinforcement learning.
//!
//! Tarasov, Kurenkov, Nikulin & Kolesnikov 2023, <https://arxiv.org/abs/2305.09836>; code corl-team/CORL @ eeeeef2
//! (`algorithms/offline/rebrac.py`).
//!
//! TD3 that stays close to the data twice, in the actor's loss and in the critics' targets, with
//! layer norm in deeper critics and large batches:
//!
//! ```text
//! ã'       = clip(π'(s') + ε, ±1),  ε = clip(σ N(0, 1), ±c)
//! y        = r + γ (1 - terminated) (min_i Q'_i(s', ã') - β₂ |ã' - a'|²)
//! L(Q)     = Σ_i mean (Q_i(s, a) - y)²
//! L(π)     = mean (β₁ |π(s) - a|² - λ min_i Q_i(s, π(s))),  λ = 1 / mean |min_i Q_i(s, π(s))|
//! target  <- (1 - rate) target + rate online, together with each actor update
//! ```
//!
//! a' is the data's next action, |·|² the sum over the action's dimensions. As in the authors' code, updates are
//! counted from 0, the first of them with an actor update, and the target actor follows the actor as it was
//! *before* the step of that update, the target critics as they are after theirs.
//!
//! Online it is CORL's fine-tuning (`algorithms/finetune/rebrac.py`): half of each batch is the data's, β₂ is 0, so that next actions of
//! collected steps are not needed, and β₁ falls in a line over `online.steps` to a share of it. It explores without noise.
//!
//! Deviation: the authors count anew every 1000 updates; the same where `policy_delay` divides 1000. Not offered, as every
//! configuration of the fine-tuning leaves them off: steps without updates at first, new optimisers, targets of at least the
//! data's returns (`num_warmup_steps`, `reset_opts`, `use_calibration`). A step that ends the task at the time limit is an end
//! here, and a mere time-out in CORL.

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::{ActorConfig, DeterministicActor};
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::init::StackInit;
use trajformer_models::params::StateVisitor;
use trajformer_models::ranks;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{ActionFn, Explorer, InitContext, Learner, OffPolicy, Target, Trained};
use trajformer_core::algorithm::{Algorithm, Build, OnlinePhase};
use trajformer_core::error::{Error, Result};
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::mixing::Mixing;
use trajformer_data::transitions::{Batch, TransitionsConfig};
use trajformer_data::transitions_config::DataView;
use trajformer_models::rng::Rng;

/// Added to the variance in layer norms: flax's default, a tenth of PyTorch's.
const NORM_EPSILON: f64 = 1e-6;

/// Standard deviation of the noise that it explores with: none in any of CORL's configurations.
const EXPLORATION_NOISE: f64 = 0.0;

/// `[algorithm.rebrac]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebracConfig {
    /// Weight of the actor's distance from the data, β₁; table 11 of the paper has one for each data set.
    pub actor_penalty: f64,
    /// Weight of the next action's distance from the data in the critics' targets, β₂; 0 online.
    pub critic_penalty: f64,
    /// Online β₁ falls to this share of it, in [0, 1]: in a line that would reach 0 at the last of `online.steps`. Called
    /// `min_decay_coef` by CORL.
    pub online_penalty_share: f64,
    /// Whether the actor's value term is divided by its mean size, λ.
    pub normalize_q: bool,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate: target <- (1 - rate) * target + rate * online, with each actor update.
    /// In (0, 1]. Called tau by the authors.
    pub target_rate: f64,
    /// Standard deviation of the noise on the target policy's actions, for a range of ±1.
    pub policy_noise: f64,
    /// The noise is clipped to plus or minus this.
    pub noise_clip: f64,
    /// The actor and all targets are updated every so many critic updates, from the first on.
    pub policy_delay: u64,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for the actor.
    pub actor_learning_rate: f64,
    /// Adam's rate for the critics.
    pub critic_learning_rate: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// Whether each ReLU of the critics is followed by a layer norm.
    pub critic_layer_norm: bool,
    /// Whether each ReLU of the actor is.
    pub actor_layer_norm: bool,
    /// How it sees the data; by default observations are as they are.
    /// The authors multiply rewards of antmaze by 100. `keep_truncations` has no use here: the action after a step is
    /// needed.
    #[serde(deserialize_with = "DataView::read_plain")]
    pub data: DataView,
}

impl Default for RebracConfig {
    fn default() -> Self {
        Self {
            actor_penalty: 0.01,
            critic_penalty: 0.01,
            online_penalty_share: 0.5,
            normalize_q: true,
            discount: 0.99,
            target_rate: 0.005,
            policy_noise: 0.2,
            noise_clip: 0.5,
            policy_delay: 2,
            batch_size: 1024,
            actor_learning_rate: 1e-3,
            critic_learning_rate: 1e-3,
            hidden: vec![256, 256, 256],
            critic_layer_norm: true,
            actor_layer_norm: false,
            data: DataView::PLAIN,
        }
    }
}

impl RebracConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.rebrac");
        keys.shares(&[
            ("discount", self.discount),
            ("online_penalty_share", self.online_penalty_share),
        ])?;
        keys.target_rate(self.target_rate)?;
        if self.policy_delay == 0 {
            return Err(keys.wrong("policy_delay", 0, "at least 1"));
        }
        self.data.refuse_truncations(&keys)?;
        keys.networks(self.batch_size, &self.hidden, 3)?;
        keys.positive(&[
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
        ])?;
        keys.not_negative(&[
            ("actor_penalty", self.actor_penalty),
            ("critic_penalty", self.critic_penalty),
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
            next_actions: true,
            returns_discount: self.discount,
            table: "algorithm.rebrac",
            ..self.data.into()
        };
        OffPolicy::new(build, &view, self.batch_size, |start| {
            Rebrac::new(self, start)
        })
    }
}

/// The networks of ReBRAC and their update.
pub struct Rebrac {
    config: RebracConfig,
    actor: Trained<DeterministicActor>,
    critics: Trained<Critics>,
    target_actor: Target<DeterministicActor>,
    target_critics: Target<Critics>,
    updates: u64,
    /// Updates on the data alone; later ones are online.
    training_updates: u64,
    /// Steps online, from when on it learns there.
    online_steps: Option<u64>,
}

impl Rebrac {
    /// Makes the networks with EDAC's initial values; targets start equal to the networks.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &RebracConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let actor = ActorConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            norm_epsilon: config.actor_layer_norm.then_some(NORM_EPSILON),
            init: StackInit::small_last(1e-3),
            ..ActorConfig::default()
        };
        let critics = CriticConfig {
            observation_dim: start.observation_dim,
            action_dim: start.action_dim,
            hidden: config.hidden.clone(),
            norm_epsilon: config.critic_layer_norm.then_some(NORM_EPSILON),
            init: StackInit::small_last(3e-3),
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
            training_updates: start.training_updates,
            online_steps: None,
        })
    }

    /// β₁ of this update.
    fn actor_penalty(&self) -> f64 {
        let share = match self.online_steps {
            None => 1.0,
            Some(steps) => {
                let left = (self.training_updates + steps).saturating_sub(self.updates);
                (left as f64 / steps.max(1) as f64).clamp(self.config.online_penalty_share, 1.0)
            }
        };
        self.config.actor_penalty * share
    }

    /// β₂ |ã' - a'|² (B) of the target policy's actions ã' (B, A); `None` online.
    fn critic_penalty(&self, batch: &Batch, next_actions: &Tensor) -> Result<Option<Tensor>> {
        if self.online_steps.is_some() {
            return Ok(None);
        }
        let Some(data_actions) = &batch.next_actions else {
            let reason = "ReBRAC needs the data's next actions in a batch";
            return Err(Error::Internal(reason.to_owned()));
        };
        let distance = squared_distance(next_actions, data_actions)?;
        Ok(Some((distance * self.config.critic_penalty)?))
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
        let next_q = match self.critic_penalty(batch, &next_actions)? {
            Some(penalty) => (next_q - penalty)?,
            None => next_q,
        };
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_q * not_terminated)? * self.config.discount)?;
        let target = (&batch.rewards + future)?.detach(); // (B)
        let critics = &self.critics.net;
        let q = critics.forward(&batch.observations, &batch.actions)?; // (2, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_min", &q.detach().min(0)?.mean_all()?);
        Ok(loss)
    }

    /// mean (β₁ |π(s) - a|² - λ min_i Q_i(s, π(s))).
    fn actor_loss(&self, batch: &Batch, metrics: &mut Metrics) -> Result<Tensor> {
        let actions = self.actor.net.forward(&batch.observations)?; // (B, A)
        let critics = &self.critics.detached;
        let q = critics.forward(&batch.observations, &actions)?.min(0)?; // (B)
        let cloning_loss = squared_distance(&actions, &batch.actions)?.mean_all()?;
        let mut value_term = q.mean_all()?;
        if self.config.normalize_q {
            value_term = (value_term * ranks::mean(&q.abs()?.mean_all()?)?.recip()?)?;
        }
        let loss = ((&cloning_loss * self.actor_penalty())? - value_term)?;
        metrics.push("actor_loss", &loss);
        metrics.push("cloning_loss", &cloning_loss);
        Ok(loss)
    }
}

/// Σ (a - b)² over the dimensions of actions (B, A).
fn squared_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok((a - b)?.sqr()?.sum(D::Minus1)?)
}

impl Learner for Rebrac {
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
        let mut metrics = Metrics::new();
        let config = &self.config;
        let loss = self.critic_loss(batch, noise, &mut metrics)?;
        self.critics.minimize(&loss, config.critic_learning_rate)?;
        if self.updates.is_multiple_of(config.policy_delay) {
            let loss = self.actor_loss(batch, &mut metrics)?;
            // Before the actor's step: see above.
            self.target_actor.follow(&self.actor, config.target_rate)?;
            self.actor.minimize(&loss, config.actor_learning_rate)?;
            self.target_critics
                .follow(&self.critics, config.target_rate)?;
        }
        self.updates += 1;
        Ok(metrics)
    }

    fn act(&self) -> Result<ActionFn> {
        self.actor.act()
    }

    fn explorer(&self) -> Explorer<'_> {
        Explorer::Noisy(&self.actor, EXPLORATION_NOISE)
    }

    /// As CORL, which rounds the number of collected rows down.
    fn mixing(&self) -> Mixing {
        Mixing::RoundedUp(0.5)
    }

    fn go_online(&mut self, phase: &OnlinePhase) {
        self.online_steps = Some(phase.steps);
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
            work::critics(&self.critics.config)
                .forward(1.0)
                .train(1.0)
                .through(actor_updates),
        ]
    }
}
