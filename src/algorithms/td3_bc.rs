//! TD3+BC: a minimalist approach to offline reinforcement learning.
//!
//! Fujimoto & Gu 2021, <https://arxiv.org/abs/2106.06860>; authors' code sfujim/TD3_BC @ 8791ad7,
//! with which corl-team/CORL @ eeeeef2 (`algorithms/offline/td3_bc.py`) agrees to the last bit.
//!
//! TD3 with a behaviour cloning term in the actor's loss:
//!
//! ```text
//! y        = r + γ (1 - terminated) min_i Q'_i(s', clip(π'(s') + ε, ±1)),  ε = clip(σ N(0, 1), ±c)
//! L(Q_i)   = mean (Q_i(s, a) - y)²
//! L(π)     = -λ mean Q_1(s, π(s)) + mean (π(s) - a)²,  λ = α / mean |Q_1(s, π(s))|
//! target  <- (1 - rate) target + rate online, together with each actor update
//! ```
//!
//! Deviation: actions are mapped to ±1 before anything sees them, where the authors scale the
//! actor's output by `max_action`. For ranges of ±1, all of D4RL's locomotion, it is the same.

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::{ActorConfig, DeterministicActor};
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, polyak_update};
use trajformer_models::params::{Params, Scope, StateVisitor};
use trajformer_models::uploads::CachedUploads;

use super::{Algorithm, Build, Work};
use crate::data::transitions::{Batch, Transitions, TransitionsConfig};
use crate::data::{ActionBounds, Normalizer};
use crate::error::Result;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::policy::{ActorPolicy, Policy};
use crate::rng::Rng;

/// `[algorithm.td3_bc]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Td3BcConfig {
    /// Strength of the value term against cloning, α: λ = α / mean |Q|. 2.5 in the paper's table 3.
    pub alpha: f64,
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
    /// Adam's rate for actor and critics.
    pub learning_rate: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// Whether observations are normalised to mean 0 and deviation 1 (plus 1e-3) over the data.
    pub normalize_observations: bool,
}

impl Default for Td3BcConfig {
    fn default() -> Self {
        Self {
            alpha: 2.5,
            discount: 0.99,
            target_rate: 0.005,
            policy_noise: 0.2,
            noise_clip: 0.5,
            policy_delay: 2,
            batch_size: 256,
            learning_rate: 3e-4,
            hidden: vec![256, 256],
            normalize_observations: true,
        }
    }
}

impl Td3BcConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.td3_bc");
        if !(0.0..=1.0).contains(&self.discount) {
            return Err(keys.wrong("discount", self.discount, "0 to 1"));
        }
        if !(self.target_rate > 0.0 && self.target_rate <= 1.0) {
            return Err(keys.wrong("target_rate", self.target_rate, "above 0, at most 1"));
        }
        if self.policy_delay == 0 {
            return Err(keys.wrong("policy_delay", 0, "at least 1"));
        }
        keys.counts(&[("batch_size", self.batch_size, 1 << 20)])?;
        keys.hidden("hidden", &self.hidden)?;
        keys.positive(&[("learning_rate", self.learning_rate)])?;
        keys.not_negative(&[
            ("alpha", self.alpha),
            ("policy_noise", self.policy_noise),
            ("noise_clip", self.noise_clip),
        ])?;
        // Three networks: outputs of layers; weights with gradients, two moments and targets.
        let batch: Vec<[usize; 3]> = self
            .hidden
            .iter()
            .map(|&w| [w, self.batch_size, 12])
            .collect();
        let weights: Vec<[usize; 3]> = self.hidden.windows(2).map(|w| [w[0], w[1], 15]).collect();
        let numbers: Vec<&[usize]> = batch.iter().chain(&weights).map(|n| &n[..]).collect();
        keys.memory("`hidden` or `batch_size`", &numbers)?;
        Ok(())
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<Td3Bc> {
        let options = TransitionsConfig {
            normalize_observations: self.normalize_observations,
            ..TransitionsConfig::default()
        };
        let mut data = Transitions::new(build.data, &options, build.device)?;
        data.actions = build.bounds.to_unit(&data.actions)?;
        let (observation_dim, action_dim) = (build.data.observation_dim, build.data.action_dim);
        let mut params = [(); 2].map(|()| Params::new(DType::F32, build.device));
        self.actor(observation_dim, action_dim, &mut params[0].init(build.rng))?;
        self.critics(observation_dim, action_dim, &mut params[1].init(build.rng))?;
        let [actor, critics] = params;
        let learner = Learner::new(self, observation_dim, action_dim, actor, critics)?;
        Ok(Td3Bc {
            normalizer: data.normalizer().clone(),
            data,
            bounds: build.bounds.clone(),
            learner,
        })
    }

    fn actor(&self, o: usize, a: usize, scope: &mut Scope<'_>) -> Result<DeterministicActor> {
        let hidden = self.hidden.clone();
        let config = ActorConfig {
            observation_dim: o,
            action_dim: a,
            hidden,
            max_action: 1.0,
        };
        Ok(DeterministicActor::new(&config, scope)?)
    }

    fn critics(&self, o: usize, a: usize, scope: &mut Scope<'_>) -> Result<Critics> {
        let hidden = self.hidden.clone();
        let config = CriticConfig {
            observation_dim: o,
            action_dim: a,
            hidden,
            members: 2,
        };
        Ok(Critics::new(&config, scope)?)
    }
}

/// TD3+BC on a data set.
pub struct Td3Bc {
    data: Transitions,
    normalizer: Normalizer,
    bounds: ActionBounds,
    learner: Learner,
}

impl Algorithm for Td3Bc {
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let batch = self.data.sample(self.learner.config.batch_size, rng)?; // (B, O), (B, A), ...
        let noise = rng.normal_tensor(
            batch.actions.shape(),
            batch.actions.dtype(),
            batch.actions.device(),
        )?;
        self.learner.update(&batch, &noise)
    }

    fn work(&self) -> Option<Work> {
        let learner = &self.learner;
        let (o, a) = (learner.observation_dim, learner.action_dim);
        let sizes = |inputs: usize, outputs: usize| -> Vec<usize> {
            let hidden = learner.config.hidden.iter().copied();
            std::iter::once(inputs)
                .chain(hidden)
                .chain([outputs])
                .collect()
        };
        let (actor, critic) = (sizes(o, a), sizes(o + a, 1));
        let targets = Work::forward(&actor) + 2.0 * Work::forward(&critic);
        // Through the critic the actor's gradient passes every layer, to the actions.
        let actor_update = Work::forward_backward(&actor) + 2.0 * Work::forward(&critic);
        let per_row = targets
            + 2.0 * Work::forward_backward(&critic)
            + actor_update / learner.config.policy_delay as f64;
        let product_flops = per_row * learner.config.batch_size as f64;
        Some(Work {
            product_flops,
            tokens: 0,
        })
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        let learner = &self.learner;
        let params = learner.actor_params.deep_copy(false)?;
        let (o, a) = (learner.observation_dim, learner.action_dim);
        let actor = learner.config.actor(o, a, &mut params.detached())?;
        let act = move |observations: &Tensor| Ok(actor.forward(observations)?);
        let device = params.device().clone();
        Ok(Box::new(ActorPolicy::new(
            self.normalizer.clone(),
            self.bounds.clone(),
            device,
            act,
        )))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.normalizer.visit("policy.normalizer.", visitor)?;
        self.bounds.visit("policy.action_bounds.", visitor)?;
        let learner = &mut self.learner;
        learner.actor_params.visit("model.actor.", visitor)?;
        learner.critic_params.visit("model.critics.", visitor)?;
        learner
            .target_actor_params
            .visit("training.target_actor.", visitor)?;
        learner
            .target_critic_params
            .visit("training.target_critics.", visitor)?;
        learner
            .actor_optimizer
            .visit("training.actor_optimizer.", visitor)?;
        learner
            .critic_optimizer
            .visit("training.critic_optimizer.", visitor)?;
        visitor.counter("training.updates", &mut learner.updates)?;
        Ok(())
    }
}

/// The networks and their update, apart from where batches come from.
pub struct Learner {
    config: Td3BcConfig,
    observation_dim: usize,
    action_dim: usize,
    actor_params: Params,
    critic_params: Params,
    target_actor_params: Params,
    target_critic_params: Params,
    actor: DeterministicActor,
    critics: Critics,
    frozen_critic: Critics,
    target_actor: DeterministicActor,
    target_critics: Critics,
    actor_optimizer: Adam,
    critic_optimizer: Adam,
    updates: u64,
}

impl Learner {
    /// A learner that starts from these parameters of [`DeterministicActor`] and [`Critics`] with
    /// two members; its targets start equal to them.
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &Td3BcConfig,
        observation_dim: usize,
        action_dim: usize,
        actor_params: Params,
        critic_params: Params,
    ) -> Result<Self> {
        let (o, a) = (observation_dim, action_dim);
        let target_actor_params = actor_params.deep_copy(false)?;
        let target_critic_params = critic_params.deep_copy(false)?;
        Ok(Self {
            config: config.clone(),
            observation_dim,
            action_dim,
            actor: config.actor(o, a, &mut actor_params.tracked())?,
            critics: config.critics(o, a, &mut critic_params.tracked())?,
            frozen_critic: config
                .critics(o, a, &mut critic_params.detached())?
                .member(0)?,
            target_actor: config.actor(o, a, &mut target_actor_params.detached())?,
            target_critics: config.critics(o, a, &mut target_critic_params.detached())?,
            actor_optimizer: plain_adam(&actor_params)?,
            critic_optimizer: plain_adam(&critic_params)?,
            actor_params,
            critic_params,
            target_actor_params,
            target_critic_params,
            updates: 0,
        })
    }

    /// Parameters of actor, critics, target actor and target critics.
    pub fn params(&self) -> [&Params; 4] {
        [
            &self.actor_params,
            &self.critic_params,
            &self.target_actor_params,
            &self.target_critic_params,
        ]
    }

    /// One update on a batch of B transitions with standard normals `noise` (B, A).
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn update(&mut self, batch: &Batch, noise: &Tensor) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.actor_params.device());
        self.updates += 1;
        let mut metrics = Metrics::new();
        self.update_critics(batch, noise, &mut metrics)?;
        if self.updates.is_multiple_of(self.config.policy_delay) {
            let rate = self.config.target_rate;
            let loss = self.actor_loss(batch, &mut metrics)?;
            self.actor_optimizer
                .step(&loss.backward()?, self.config.learning_rate)?;
            polyak_update(&self.target_critic_params, &self.critic_params, rate)?;
            polyak_update(&self.target_actor_params, &self.actor_params, rate)?;
        }
        Ok(metrics)
    }

    /// The critics' part of [`Self::update`].
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn update_critics(
        &mut self,
        batch: &Batch,
        noise: &Tensor,
        metrics: &mut Metrics,
    ) -> Result<()> {
        let loss = self.critic_loss(batch, noise, metrics)?;
        self.critic_optimizer
            .step(&loss.backward()?, self.config.learning_rate)?;
        Ok(())
    }

    /// Σ_i mean (Q_i(s, a) - y)².
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn critic_loss(
        &self,
        batch: &Batch,
        noise: &Tensor,
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let clip = self.config.noise_clip;
        let noise = (noise * self.config.policy_noise)?.clamp(-clip, clip)?; // (B, A)
        let next_actions = self.target_actor.forward(&batch.next_observations)?;
        let next_actions = (next_actions + noise)?.clamp(-1.0, 1.0)?; // (B, A)
        let next_q = self
            .target_critics
            .forward(&batch.next_observations, &next_actions)?
            .min(0)?; // (B)
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_q * not_terminated)? * self.config.discount)?;
        let target = (&batch.rewards + future)?.detach(); // (B)
        let q = self.critics.forward(&batch.observations, &batch.actions)?; // (2, B)
        let loss = q
            .broadcast_sub(&target)?
            .sqr()?
            .mean(D::Minus1)?
            .sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_mean", &q.mean_all()?);
        Ok(loss)
    }

    /// -λ mean Q_1(s, π(s)) + mean (π(s) - a)².
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn actor_loss(&self, batch: &Batch, metrics: &mut Metrics) -> Result<Tensor> {
        let actions = self.actor.forward(&batch.observations)?; // (B, A)
        let q = self.frozen_critic.forward(&batch.observations, &actions)?; // (1, B)
        let scale = q.abs()?.mean_all()?.detach().recip()?;
        let value_term = ((q.mean_all()? * scale)? * self.config.alpha)?;
        let cloning_loss = (actions - &batch.actions)?.sqr()?.mean_all()?;
        let loss = (&cloning_loss - value_term)?;
        metrics.push("actor_loss", &loss);
        metrics.push("cloning_loss", &cloning_loss);
        Ok(loss)
    }
}

fn plain_adam(params: &Params) -> Result<Adam> {
    Ok(Adam::new(params, AdamConfig::default(), |_| {
        ParamGroup::decay(0.0)
    })?)
}
