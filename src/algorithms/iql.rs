//! IQL: implicit Q-learning.
//!
//! Kostrikov, Nair & Levine 2021, <https://arxiv.org/abs/2110.06169>; code corl-team/CORL @ eeeeef2
//! (`algorithms/offline/iql.py`), authors' code ikostrikov/implicit_q_learning @ 09d7002.
//!
//! Values are learned from actions of the data alone: V is an upper expectile of Q over them, and the policy clones
//! actions by their advantage.
//!
//! ```text
//! A(s, a)  = min_i Q'_i(s, a) - V(s)
//! L(V)     = mean |τ - 1(A < 0)| A²                                   (equation 5)
//! L(Q)     = mean_i mean (Q_i(s, a) - r - γ (1 - terminated) V(s'))²   (equation 6)
//! L(π)     = -mean w log π(a | s),  w = min(exp(β A), 100)             (equation 7)
//! target  <- (1 - rate) target + rate online, after each update of Q
//! ```
//!
//! Of actions that are choices Q has a value for each, and π is categorical: equations and everything else stay as they are. Neither the
//! authors nor CORL nor d3rlpy have this form; it is compared with PyTorch of our own.
//!
//! A deterministic actor has Σ (π(s) - a)² in the place of -log π.
//!
//! The actor's learning rate falls along half a cosine to 0 at the end of the updates on the data (`train.updates`), as in
//! both codes, whose `max_steps` and `T_max` are the training's own. Online it is the full rate: the authors fine-tune
//! without decay (`configs/antmaze_finetune_config.py`, from the first update on: `actor_decay_updates = "none"`); CORL's
//! scheduler lets it climb again along the same cosine (`algorithms/finetune/iql.py`), which is not offered.
//!
//! Which V: CORL takes w and Q's target from V before its step, the authors from V after it
//! (`learner.py`, `_update_jit`); [`ValueTiming`] chooses. The authors add both critics' losses up where CORL, and this file,
//! take the mean, which Adam hardly notices; they have a log standard deviation of at least -5, and dropout on some data, which is
//! not offered here.
//!
//! Deviations: actions are mapped to ±1 before anything sees them; first values are PyTorch's, as in CORL, where the authors' are
//! orthogonal.

use std::borrow::Cow;

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::{ActorConfig, DeterministicActor};
use trajformer_models::choices::{
    ActionCritics, CategoricalActor, ChoiceCritics, cross_entropies, drawn,
};
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::gaussian::{GaussianActor, GaussianActorConfig, Mean};
use trajformer_models::params::StateVisitor;
use trajformer_models::value::{StateValue, StateValueConfig};
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{
    ActionFn, InitContext, Learner, OffPolicy, SampleFn, Target, Trained, join,
};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::error::Result;
use trajformer_core::held_out::HELD_OUT_LOSS;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::schedules::DecayUpdates;
use trajformer_data::batch::Batch;
use trajformer_data::transitions_config::{DataView, TransitionsConfig};
use trajformer_models::rng::Rng;

/// Standard deviation of the noise that a deterministic actor explores with, for a range of ±1, and what it is clipped to: CORL's.
const EXPLORATION_NOISE: f64 = 0.03;
const EXPLORATION_CLIP: f64 = 0.5;

const KEYS: Keys = Keys("algorithm.iql");

/// `[algorithm.iql]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IqlConfig {
    /// Expectile τ of V, in 0 to 1: 0.5 is the mean over the data's actions, 1 their maximum.
    pub expectile: f64,
    /// Inverse temperature β of the weights exp(β A): 0 is behaviour cloning.
    pub beta: f64,
    /// Weights are limited to this.
    pub max_weight: f64,
    /// What the actor is.
    pub actor: ActorKind,
    /// Logarithms of the actor's standard deviations are limited to this; -5 at least in the authors' code.
    pub log_std_range: (f64, f64),
    /// Which V the weights and the critics' target come from.
    pub value_timing: ValueTiming,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate: target <- (1 - rate) * target + rate * online, after each update. In (0, 1].
    pub target_rate: f64,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for the actor, at first.
    pub actor_learning_rate: f64,
    /// Updates in which it falls to 0, along half a cosine: `"training"` for all that the run makes on its data, a number
    /// that is at least as large, or `"none"` (or 0): it stays. Online it is always the full rate.
    pub actor_decay_updates: DecayUpdates,
    /// Adam's rate for the critics.
    pub critic_learning_rate: f64,
    /// Adam's rate for V.
    pub value_learning_rate: f64,
    /// Widths of the hidden layers of actor, critics and V.
    pub hidden: Vec<usize>,
    /// How it sees the data; by default observations are normalized.
    /// The authors do not normalize observations; they scale rewards by the range of returns on locomotion, and shift
    /// those of antmaze by -1.
    #[serde(deserialize_with = "DataView::read_normalized")]
    pub data: DataView,
}

/// What the actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A normal distribution around the tanh of a network, with one standard deviation per action.
    Gaussian,
    /// The tanh of a network.
    Deterministic,
}

/// Which V the weights and the critics' target come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueTiming {
    /// The value network before this update's step, as in CORL.
    BeforeStep,
    /// The value network after this update's step, as in the authors' code.
    AfterStep,
}

impl Default for IqlConfig {
    fn default() -> Self {
        Self {
            expectile: 0.7,
            beta: 3.0,
            max_weight: 100.0,
            actor: ActorKind::Gaussian,
            log_std_range: (-20.0, 2.0),
            value_timing: ValueTiming::BeforeStep,
            discount: 0.99,
            target_rate: 0.005,
            batch_size: 256,
            actor_learning_rate: 3e-4,
            actor_decay_updates: DecayUpdates::Training,
            critic_learning_rate: 3e-4,
            value_learning_rate: 3e-4,
            hidden: vec![256, 256],
            data: DataView::NORMALIZED,
        }
    }
}

impl IqlConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = KEYS;
        keys.shares(&[("expectile", self.expectile), ("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        keys.networks(self.batch_size, &self.hidden, 4)?;
        keys.range("log_std_range", self.log_std_range)?;
        keys.positive(&[
            ("max_weight", self.max_weight),
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
            ("value_learning_rate", self.value_learning_rate),
        ])?;
        keys.not_negative(&[("beta", self.beta)])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition, or actions are choices and the actor is deterministic or `log_std_range` set.
    pub fn build(&self, build: Build<'_>) -> Result<Box<dyn Algorithm>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.iql",
            ..self.data.into()
        };
        let rows = self.batch_size;
        if build.bounds.kind() == ActionKind::Continuous {
            let built = OffPolicy::new(build, &view, rows, |start| Iql::new(self, start))?;
            return Ok(Box::new(built));
        }
        if self.actor == ActorKind::Deterministic {
            let expected = "left out: the data's actions are choices, and the actor is a distribution over them";
            return Err(KEYS.wrong("actor", "\"deterministic\"", expected));
        }
        if self.log_std_range != Self::default().log_std_range {
            let expected = "left out: the data's actions are choices, whose distribution has no standard deviation";
            let found = format!("{:?}", self.log_std_range);
            return Err(KEYS.wrong("log_std_range", found, expected));
        }
        let built = OffPolicy::new(build, &view, rows, |start| {
            DiscreteIql::of_choices(self, start)
        })?;
        Ok(Box::new(built))
    }
}

/// The networks of IQL and their update; C are critics of real numbers, or of choices.
pub struct Iql<C: ActionCritics = Critics> {
    config: IqlConfig,
    actor: Actor,
    critics: Trained<C>,
    value: Trained<StateValue>,
    target_critics: Target<C>,
    updates: u64,
    /// Updates on the data alone; later ones are online.
    training_updates: u64,
}

/// IQL of actions that are choices.
pub type DiscreteIql = Iql<ChoiceCritics>;

impl Iql {
    /// Makes the networks with PyTorch's initial values; the target starts equal to the critics.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &IqlConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let actor = Actor::new(config, start)?;
        Self::around(config, actor, start.action_dim, start)
    }
}

impl DiscreteIql {
    /// Makes the networks with PyTorch's initial values; the target starts equal to the critics.
    ///
    /// # Errors
    /// If a size is zero, or actions are no choices.
    pub fn of_choices(config: &IqlConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let choices = start.required_choices()?;
        let net = Actor::net(config, start.observation_dim, choices);
        let actor = Actor::Categorical(Trained::new("actor", net, start)?);
        Self::around(config, actor, choices, start)
    }
}

impl<C: ActionCritics> Iql<C> {
    /// Makes critics, V and targets beside the actor.
    fn around(
        config: &IqlConfig,
        actor: Actor,
        action_dim: usize,
        start: &mut InitContext<'_>,
    ) -> Result<Self> {
        let critics = CriticConfig {
            observation_dim: start.observation_dim,
            action_dim,
            hidden: config.hidden.clone(),
            ..CriticConfig::default()
        };
        let value = StateValueConfig {
            observation_dim: start.observation_dim,
            hidden: config.hidden.clone(),
            ..StateValueConfig::default()
        };
        let critics = Trained::new("critics", critics, start)?;
        let value = Trained::new("value", value, start)?;
        Ok(Self {
            config: config.clone(),
            target_critics: Target::new(&critics)?,
            actor,
            critics,
            value,
            updates: 0,
            training_updates: start.training_updates,
        })
    }

    /// mean |τ - 1(A < 0)| A² and A (B), without gradients, of the targets' smaller value (B).
    fn value_loss(
        &self,
        batch: &Batch,
        target_q: &Tensor,
        metrics: &mut Metrics,
    ) -> Result<(Tensor, Tensor)> {
        let values = self.value.net.forward(&batch.observations)?; // (B)
        let errors = (target_q - &values)?;
        let advantages = errors.detach();
        let negative = advantages.lt(0.0)?.to_dtype(advantages.dtype())?;
        let weights = (self.config.expectile - negative)?.abs()?;
        let loss = (weights * errors.sqr()?)?.mean_all()?;
        metrics.push("value_loss", &loss);
        metrics.push("value_mean", &values.mean_all()?);
        Ok((loss, advantages))
    }

    /// mean_i mean (Q_i(s, a) - r - γ (1 - terminated) V(s'))² of these V(s') (B).
    fn critic_loss(
        critics: &C,
        batch: &Batch,
        next_values: &Tensor,
        config: &IqlConfig,
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_values * not_terminated)? * config.discount)?;
        let target = (&batch.rewards + future)?; // (B)
        let q = critics.of_actions(&batch.observations, &batch.actions)?; // (2, B)
        let loss = q.broadcast_sub(&target)?.sqr()?.mean_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_mean", &q.mean_all()?);
        Ok(loss)
    }

    /// -mean w log π(a | s), w = min(exp(β A), 100), of these A (B).
    fn actor_loss(
        actor: &Actor,
        batch: &Batch,
        advantages: &Tensor,
        config: &IqlConfig,
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let weights = (advantages * config.beta)?.exp()?; // (B)
        let clipped = weights.gt(config.max_weight)?;
        let weights = weights.minimum(config.max_weight)?;
        let cloning = actor.cloning_losses(batch)?; // (B)
        let loss = (weights * cloning)?.mean_all()?;
        metrics.push("actor_loss", &loss);
        metrics.push("advantage_mean", &advantages.mean_all()?);
        let clipped = clipped.to_dtype(advantages.dtype())?.mean_all()?;
        metrics.push("clipped_weights", &clipped);
        Ok(loss)
    }

    /// V(s') (B), without gradients.
    fn next_values(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.value.detached.forward(&batch.next_observations)?)
    }

    /// The actor's rate at the next update, after so many.
    fn actor_learning_rate(&self, completed: u64) -> f64 {
        let decay = self.config.actor_decay_updates;
        self.config.actor_learning_rate * decay.cosine(completed, self.training_updates)
    }
}

impl<C: ActionCritics + Send + Sync> Learner for Iql<C> {
    const CHOOSES: bool = C::OF_CHOICES;

    /// None: everything is taken at actions of the data.
    type Draws = ();

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let ((), _) = (draws, rows);
        Ok(())
    }

    fn draw(&self, _: usize, _: &mut Rng) -> Result<()> {
        Ok(())
    }

    fn update(&mut self, batch: &Batch, (): &()) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        let (observations, actions) = (&batch.observations, &batch.actions);
        let target_q = self.target_critics.net()?;
        let target_q = target_q.of_actions(observations, actions)?;
        let target_q = target_q.min(0)?; // (B)
        let before = match self.config.value_timing {
            ValueTiming::BeforeStep => Some(self.next_values(batch)?),
            ValueTiming::AfterStep => None,
        };
        let (value_loss, advantages) = self.value_loss(batch, &target_q, &mut metrics)?;
        let value_rate = self.config.value_learning_rate;
        let (value_loss, advantages, next_values) = match before {
            Some(next_values) => (Some(value_loss), advantages, next_values),
            None => {
                self.value.minimize(&value_loss, value_rate)?;
                let values = self.value.detached.forward(observations)?;
                (None, (target_q - values)?, self.next_values(batch)?)
            }
        };

        let actor_rate = self.actor_learning_rate(self.updates);
        let Self {
            config,
            actor,
            critics,
            value,
            target_critics,
            updates,
            training_updates: _,
        } = self;
        // From here on neither looks at what the other changes.
        let ((), others) = join(
            observations.device(),
            || {
                let loss =
                    Self::critic_loss(&critics.net, batch, &next_values, config, &mut metrics)?;
                critics.minimize(&loss, config.critic_learning_rate)?;
                target_critics.follow(critics, config.target_rate)
            },
            || {
                if let Some(loss) = value_loss {
                    value.minimize(&loss, value_rate)?;
                }
                let mut metrics = Metrics::new();
                let loss = Self::actor_loss(actor, batch, &advantages, config, &mut metrics)?;
                actor.minimize(&loss, actor_rate)?;
                Ok(metrics)
            },
        )?;
        metrics.extend(others);
        *updates += 1;
        Ok(metrics)
    }

    fn held_out<'a>(&self, data: &'a Dataset) -> Result<Option<Cow<'a, Dataset>>> {
        Ok(Some(Cow::Borrowed(data)))
    }

    /// All three, of the same values, and the actor's, which decides how it acts, as the loss.
    fn losses(&self, batch: &Batch) -> Result<Metrics> {
        let mut parts = Metrics::new();
        let target = self.target_critics.net()?;
        let target_q = target
            .of_actions(&batch.observations, &batch.actions)?
            .min(0)?; // (B)
        let (value, advantages) = self.value_loss(batch, &target_q, &mut parts)?;
        let (config, next_values) = (&self.config, self.next_values(batch)?);
        let critics = &self.critics.detached;
        let critic = Self::critic_loss(critics, batch, &next_values, config, &mut parts)?;
        let actor = Self::actor_loss(&self.actor, batch, &advantages, config, &mut parts)?;
        let mut metrics = Metrics::new();
        metrics.push(HELD_OUT_LOSS, &actor);
        metrics.push("held_out_critic_loss", &critic);
        metrics.push("held_out_value_loss", &value);
        Ok(metrics)
    }

    fn act(&self) -> Result<ActionFn> {
        self.actor.act()
    }

    fn explore(
        &self,
        observation: &Tensor,
        normals: &Tensor,
        noise: Option<f64>,
    ) -> Result<Option<Tensor>> {
        let noise = noise.unwrap_or(EXPLORATION_NOISE);
        let action = self.actor.explore(observation, normals, noise)?; // (1, A)
        Ok(Some(if C::OF_CHOICES {
            action
        } else {
            action.clamp(-1.0, 1.0)?
        }))
    }

    fn sampler(&self) -> Result<Option<SampleFn>> {
        let actor = match &self.actor {
            Actor::Deterministic(_) => return Ok(None),
            Actor::Categorical(actor) => return actor.sampler().map(Some),
            Actor::Gaussian(actor) => actor.snapshot()?,
        };
        Ok(Some(Box::new(move |observations, normals| {
            let policy = actor.distribution(observations)?;
            Ok(policy.sample(normals)?.clamp(-1.0, 1.0)?)
        })))
    }

    fn has_critics(&self) -> bool {
        true
    }

    fn action_values(&self, observations: &Tensor, actions: &Tensor) -> Result<Option<Tensor>> {
        let critics = &self.critics.detached;
        Ok(Some(critics.of_actions(observations, actions)?))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)?;
        self.critics.visit(visitor)?;
        self.value.visit(visitor)?;
        self.target_critics.visit(visitor)?;
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }

    fn passes(&self) -> Vec<Passes> {
        let actor = match &self.actor {
            Actor::Gaussian(actor) => &actor.config.net,
            Actor::Deterministic(actor) => &actor.config,
            Actor::Categorical(actor) => &actor.config,
        };
        vec![
            work::state_value(&self.value.config)
                .forward(1.0)
                .train(1.0),
            C::passes(&self.critics.config).forward(1.0).train(1.0),
            work::actor(actor).train(1.0),
        ]
    }
}

/// Each kind of actor.
enum Actor {
    Gaussian(Trained<GaussianActor>),
    Deterministic(Trained<DeterministicActor>),
    /// Over choices.
    Categorical(Trained<CategoricalActor>),
}

impl Actor {
    fn net(config: &IqlConfig, observation_dim: usize, action_dim: usize) -> ActorConfig {
        ActorConfig {
            observation_dim,
            action_dim,
            hidden: config.hidden.clone(),
            ..ActorConfig::default()
        }
    }

    /// Of real numbers.
    fn new(config: &IqlConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let net = Self::net(config, start.observation_dim, start.action_dim);
        Ok(match config.actor {
            ActorKind::Deterministic => Self::Deterministic(Trained::new("actor", net, start)?),
            ActorKind::Gaussian => {
                let config = GaussianActorConfig {
                    net,
                    log_std_range: config.log_std_range,
                    mean: Mean::Tanh,
                };
                Self::Gaussian(Trained::new("actor", config, start)?)
            }
        })
    }

    /// -log π(a | s), or Σ (π(s) - a)² over the action's dimensions; (B).
    fn cloning_losses(&self, batch: &Batch) -> Result<Tensor> {
        let (observations, actions) = (&batch.observations, &batch.actions);
        Ok(match self {
            Self::Gaussian(actor) => {
                let policy = actor.net.distribution(observations)?;
                policy.log_prob(actions)?.neg()?
            }
            Self::Deterministic(actor) => {
                let errors = (actor.net.forward(observations)? - actions)?; // (B, A)
                errors.sqr()?.sum(D::Minus1)?
            }
            Self::Categorical(actor) => cross_entropies(&actor.net.logits(observations)?, actions)?,
        })
    }

    fn minimize(&mut self, loss: &Tensor, learning_rate: f64) -> Result<()> {
        match self {
            Self::Gaussian(actor) => actor.minimize(loss, learning_rate),
            Self::Deterministic(actor) => actor.minimize(loss, learning_rate),
            Self::Categorical(actor) => actor.minimize(loss, learning_rate),
        }
    }

    /// The mean, the only action, or the likeliest choice.
    fn act(&self) -> Result<ActionFn> {
        Ok(match self {
            Self::Gaussian(actor) => {
                let actor = actor.snapshot()?;
                Box::new(move |observations| Ok(actor.distribution(observations)?.mean))
            }
            Self::Deterministic(actor) => {
                let actor = actor.snapshot()?;
                Box::new(move |observations| Ok(actor.forward(observations)?))
            }
            Self::Categorical(actor) => actor.act()?,
        })
    }

    /// A sample (1, A) made with standard normals (1, A), or the only action with them as noise of this standard deviation, clipped.
    fn explore(&self, observation: &Tensor, normals: &Tensor, noise: f64) -> Result<Tensor> {
        Ok(match self {
            Self::Gaussian(actor) => actor.detached.distribution(observation)?.sample(normals)?,
            Self::Deterministic(actor) => {
                let noise = (normals * noise)?.clamp(-EXPLORATION_CLIP, EXPLORATION_CLIP)?;
                (actor.detached.forward(observation)? + noise)?
            }
            Self::Categorical(actor) => drawn(&actor.detached.logits(observation)?, normals)?,
        })
    }

    fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        match self {
            Self::Gaussian(actor) => actor.visit(visitor),
            Self::Deterministic(actor) => actor.visit(visitor),
            Self::Categorical(actor) => actor.visit(visitor),
        }
    }
}
