//! QT's networks and their update, apart from where batches and random numbers come from.

use candle_core::{DType, Device, Tensor};
use trajformer_models::decision_transformer::{
    Contexts, DecisionTransformer as Network, DecisionTransformerConfig as Sizes,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::network::Network as _;
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, WeightDecay, polyak_update};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::twin_critics::{TwinCritics, TwinCriticsConfig};
use trajformer_models::uploads::CachedUploads;

use super::config::{BACKUPS, Backup, QtConfig};
use crate::offpolicy::{StateNames, Target, Trained};
use trajformer_core::error::Result;
use trajformer_core::metrics::Metrics;
use trajformer_core::source::Stage;
use trajformer_models::rng::Rng;

/// Standard deviation of the noise on their last returns.
const BACKUP_NOISE: f64 = 0.1;
/// Where the critics' slow copies are saved, with the networks: they choose among candidates when acting.
const TARGET_CRITICS: &str = "model.target_critics.";

/// A batch of windows, padding on the left.
#[derive(Debug, Clone)]
pub struct Windows {
    /// Returns, observations, actions, time steps and mask (B, K, ..).
    pub contexts: Contexts,
    /// Rewards (B, K), 0 in padding.
    pub rewards: Tensor,
    /// Whether the task ended with the last step (B), 0 or 1.
    pub terminated: Tensor,
}

/// The random numbers of one update.
#[derive(Debug, Clone)]
pub struct Draws {
    /// Whether the actor climbs the first critic, divided by the size of the second; else the other way round.
    pub climbs_first: bool,
    /// Standard normals of the futures but the first, where the largest of several counts; the same for all windows.
    pub noise: Vec<f64>,
    /// Of the actor's slow copy.
    pub target_dropout: Dropout,
    /// Of the actor.
    pub dropout: Dropout,
}

impl Draws {
    /// Draws what an update by `config` needs.
    pub fn draw(config: &QtConfig, rng: &mut Rng) -> Self {
        let futures = if config.max_backup { BACKUPS - 1 } else { 0 };
        let noise = (0..futures).map(|_| rng.normal()).collect();
        let climbs_first = rng.uniform() > 0.5;
        let mut dropout = || {
            if config.dropout > 0.0 {
                Dropout::draw(rng)
            } else {
                Dropout::off()
            }
        };
        Self {
            climbs_first,
            noise,
            target_dropout: dropout(),
            dropout: dropout(),
        }
    }
}

/// The networks and their update.
pub struct Learner {
    config: QtConfig,
    actor: Trained<Network>,
    critics: Trained<TwinCritics>,
    slow_actor: Target<Network>,
    /// Parameters and network of the critics' slow copies.
    slow_critics: (Params, TwinCritics),
    /// Sums the rewards from each step on, discounted (K, K).
    sums: Tensor,
    /// Discount from each step to the last (K).
    discounts: Tensor,
    training_updates: u64,
    updates: u64,
}

impl Learner {
    /// A learner that starts from these parameters of actor and critics, of observations and actions of these dimensions, with
    /// optimisers if it is to learn; slow copies start equal to the networks.
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &QtConfig,
        (observation_dim, action_dim): (usize, usize),
        (actor, critics): (Params, Params),
        training_updates: u64,
        stage: Stage,
    ) -> Result<Self> {
        let adam = AdamConfig {
            clip_norm: Some(config.clip_norm),
            weight_decay: WeightDecay::Regularization,
            ..AdamConfig::default()
        };
        let (dtype, device) = (actor.dtype(), actor.device().clone());
        let sizes = config.sizes(observation_dim, action_dim);
        let decay = ParamGroup::decay(config.weight_decay);
        let actor = Trained::around(StateNames::of("actor"), sizes, actor, stage, |params| {
            Adam::new(params, adam, |_| decay)
        })?;
        let sizes = config.critic_sizes(observation_dim, action_dim);
        let critics =
            Trained::around(StateNames::of("critics"), sizes, critics, stage, |params| {
                Adam::new(params, adam, |_| ParamGroup::decay(0.0))
            })?;
        let slow = critics.params.deep_copy(false)?;
        let slow_net = TwinCritics::build(&critics.config, &mut slow.detached())?;
        let k = config.context_steps;
        let power = |steps: usize| config.discount.powi(steps as i32);
        let sum = |from: usize, step: usize| {
            if from >= step {
                power(from - step)
            } else {
                0.0
            }
        };
        let sums: Vec<f64> = (0..k)
            .flat_map(|from| (0..k).map(move |step| sum(from, step)))
            .collect();
        let discounts: Vec<f64> = (0..k).map(|step| power(k - 1 - step)).collect();
        Ok(Self {
            config: config.clone(),
            slow_actor: Target::new(&actor)?,
            slow_critics: (slow, slow_net),
            actor,
            critics,
            sums: Tensor::from_vec(sums, (k, k), &device)?.to_dtype(dtype)?,
            discounts: Tensor::from_vec(discounts, k, &device)?.to_dtype(dtype)?,
            training_updates,
            updates: 0,
        })
    }

    /// Its settings.
    pub fn config(&self) -> &QtConfig {
        &self.config
    }

    /// Where the networks live.
    pub fn device(&self) -> &Device {
        self.actor.params.device()
    }

    /// Parameters of the actor and of the critics.
    pub fn params(&self) -> (&Params, &Params) {
        (&self.actor.params, &self.critics.params)
    }

    /// Parameters of the slow copies of actor and critics.
    ///
    /// # Errors
    /// If it was made to act alone.
    pub fn slow_params(&self) -> Result<(&Params, &Params)> {
        Ok((self.slow_actor.params()?, &self.slow_critics.0))
    }

    pub(super) fn actor_sizes(&self) -> &Sizes {
        &self.actor.config
    }

    pub(super) fn critic_sizes(&self) -> &TwinCriticsConfig {
        &self.critics.config
    }

    /// The actor as it is now, for acting.
    ///
    /// # Errors
    /// If the device fails.
    pub fn actor(&self) -> Result<Network> {
        Ok(self.actor.snapshot()?.fixed()?)
    }

    /// The critics' slow copies as they are now.
    ///
    /// # Errors
    /// If the device fails.
    pub fn acting_critics(&self) -> Result<TwinCritics> {
        let params = self.slow_critics.0.deep_copy(false)?;
        Ok(TwinCritics::build(
            &self.critics.config,
            &mut params.detached(),
        )?)
    }

    /// One update: critics, actor, slow copies.
    ///
    /// # Errors
    /// If it was made to act alone, or a tensor operation fails.
    pub fn update(&mut self, windows: &Windows, draws: &Draws) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.device());
        let mut metrics = Metrics::new();
        let factor = self.rate_factor();
        let loss = self.critic_loss(windows, draws, &mut metrics)?;
        let rate = self.config.critic_learning_rate * factor;
        if let Some(norm) = self.critics.descend(&loss, rate)? {
            metrics.push("critic_gradient_norm", &norm);
        }
        let loss = self.actor_loss(windows, draws, &mut metrics)?;
        let rate = self.config.learning_rate * factor;
        if let Some(norm) = self.actor.descend(&loss, rate)? {
            metrics.push("gradient_norm", &norm);
        }
        let due = self.updates.is_multiple_of(self.config.average_every);
        if due && self.updates > self.config.average_from {
            follow(
                self.slow_actor.params()?,
                &self.actor.params,
                self.config.average_rate,
            )?;
        }
        polyak_update(
            &self.slow_critics.0,
            &self.critics.params,
            self.config.target_rate,
        )?;
        self.updates += 1;
        Ok(metrics)
    }

    /// Of the next update's learning rates.
    fn rate_factor(&self) -> f64 {
        let set = self.updates - self.updates % self.config.decay_every;
        self.config.decay_updates.cosine(set, self.training_updates)
    }

    /// Σ_i mean (Q_i(s_t, a_t) - y_t)² over the steps before each window's last, and over that one too where it ended a task and
    /// [terminal rewards](QtConfig::terminal_rewards) count. 0 if there is none.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn critic_loss(
        &self,
        windows: &Windows,
        draws: &Draws,
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let contexts = &windows.contexts;
        let targets = self.targets(windows, draws)?; // (B, K)
        let weights = self.trained_steps(windows, targets.dtype())?; // (B, K)
        let count = weights.sum_all()?.maximum(1.0)?;
        let mean =
            |values: &Tensor| -> Result<Tensor> { Ok(((values * &weights)?.sum_all()? / &count)?) };
        let (first, second) = self
            .critics
            .net
            .forward(&contexts.observations, &contexts.actions)?;
        let loss = (mean(&(first - &targets)?.sqr()?)? + mean(&(second - &targets)?.sqr()?)?)?;
        metrics.push("critic_loss", &loss);
        metrics.push("target_q_mean", &mean(&targets)?);
        Ok(loss)
    }

    /// 1 where a value is trained (B, K).
    fn trained_steps(&self, windows: &Windows, dtype: DType) -> Result<Tensor> {
        let mask = windows.contexts.mask.to_dtype(dtype)?;
        let k = mask.dim(1)?;
        let last = self.counted_ends(windows)?.unsqueeze(1)?; // (B, 1)
        Ok(Tensor::cat(&[mask.narrow(1, 0, k - 1)?, last], 1)?)
    }

    /// 1 for windows whose last reward counts (B).
    fn counted_ends(&self, windows: &Windows) -> Result<Tensor> {
        if self.config.terminal_rewards {
            Ok(windows.terminated.clone())
        } else {
            Ok(windows.terminated.zeros_like()?)
        }
    }

    /// What values should be (B, K), without gradients; meaningless in padding and at a last step that is not trained.
    fn targets(&self, windows: &Windows, draws: &Draws) -> Result<Tensor> {
        let values = self.futures(windows, draws)?; // (B, K)
        let (b, k) = values.dims2()?;
        let earlier = windows.rewards.narrow(1, 0, k - 1)?;
        let last = windows.rewards.narrow(1, k - 1, 1)?.squeeze(1)?; // (B)
        let last = (last * self.counted_ends(windows)?)?.unsqueeze(1)?; // (B, 1)
        let targets = match self.config.backup {
            Backup::Window => {
                let rewards = Tensor::cat(&[earlier, last], 1)?.matmul(&self.sums)?; // (B, K)
                let goes_on = (1.0 - &windows.terminated)?; // (B)
                let end = (values.narrow(1, k - 1, 1)?.squeeze(1)? * goes_on)?; // (B)
                let future = end.unsqueeze(1)?.broadcast_as((b, k))?;
                (rewards + future.broadcast_mul(&self.discounts)?)?
            }
            Backup::Step => {
                let next = (values.narrow(1, 1, k - 1)? * self.config.discount)?;
                Tensor::cat(&[(earlier + next)?, last], 1)?
            }
        };
        Ok(targets.detach())
    }

    /// The smaller of the slow critics' values of what the actor's slow copy does at each step (B, K).
    fn futures(&self, windows: &Windows, draws: &Draws) -> Result<Tensor> {
        let contexts = &windows.contexts;
        let (b, k, _) = contexts.observations.dims3()?;
        let futures = draws.noise.len() + 1;
        let slow_actor = self.slow_actor.net()?;
        if futures == 1 {
            let actions = slow_actor.forward(contexts, draws.target_dropout)?; // (B, K, A)
            return Ok(self
                .slow_critics
                .1
                .smaller(&contexts.observations, &actions)?);
        }
        let contexts = noisy(contexts, &draws.noise)?; // (B S, K, ..)
        let actions = slow_actor.forward(&contexts, draws.target_dropout)?;
        let (first, second) = self
            .slow_critics
            .1
            .forward(&contexts.observations, &actions)?;
        let largest = |values: Tensor| values.reshape((b, futures, k))?.max(1); // (B, K)
        Ok(largest(first)?.minimum(&largest(second)?)?)
    }

    /// w (mean (π_t - a_t)² + mean (ŝ_{t+1} - s_{t+1})²) - η mean Q_i(s_t, π_t) / mean |Q_j(s_t, π_t)| over all steps.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn actor_loss(
        &self,
        windows: &Windows,
        draws: &Draws,
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let contexts = &windows.contexts;
        let predicted = self.actor.net.predictions(contexts, draws.dropout)?;
        let mask = contexts.mask.to_dtype(predicted.actions.dtype())?; // (B, K)
        let k = mask.dim(1)?;
        let error = (&predicted.actions - &contexts.actions)?.sqr()?.mean(2)?; // (B, K)
        let action_loss = masked_mean(&error, &mask)?;
        let next = contexts.observations.narrow(1, 1, k - 1)?;
        let error = (predicted.observations.narrow(1, 0, k - 1)? - next)?
            .sqr()?
            .mean(2)?;
        let observation_loss = masked_mean(&error, &mask.narrow(1, 0, k - 1)?)?;
        let critics = &self.critics.detached;
        let (first, second) = critics.forward(&contexts.observations, &predicted.actions)?;
        let (climbed, other) = if draws.climbs_first {
            (first, second)
        } else {
            (second, first)
        };
        let scale = masked_mean(&other.abs()?, &mask)?.detach();
        let value = masked_mean(&climbed, &mask)?;
        let value_loss = (&value / scale)?.neg()?;
        let imitation = (&action_loss + &observation_loss)?;
        let loss =
            ((imitation * self.config.imitation_weight)? + (&value_loss * self.config.eta)?)?;
        metrics.push("actor_loss", &loss);
        metrics.push("action_loss", &action_loss);
        metrics.push("observation_loss", &observation_loss);
        metrics.push("value_loss", &value_loss);
        metrics.push("q_policy_mean", &value);
        Ok(loss)
    }

    /// Shows networks, slow copies, optimisers and the counter.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)?;
        self.critics.visit(visitor)?;
        self.slow_critics.0.visit(TARGET_CRITICS, visitor)?;
        self.slow_actor.visit(visitor)?;
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }
}

/// slow <- slow + rate (online - slow) for every parameter: what nothing trains stays as it is, to the last bit.
fn follow(slow: &Params, online: &Params, rate: f64) -> Result<()> {
    for (slow, online) in slow.iter().zip(online.iter()) {
        let value = slow.slot.tensor()?;
        let step = ((online.slot.tensor()? - &value)? * rate)?;
        slow.slot.set(&(value + step)?)?;
    }
    Ok(())
}

/// Mean of values (B, T) where `mask` (B, T) is 1; 0 if that is nowhere.
fn masked_mean(values: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let count = mask.sum_all()?.maximum(1.0)?;
    Ok(((values * mask)?.sum_all()? / count)?)
}

/// Each context several times (B S, K, ..): first as it is, then with these normals, times 0.1, on its last return.
fn noisy(contexts: &Contexts, normals: &[f64]) -> Result<Contexts> {
    let copies = normals.len() + 1;
    let b = contexts.mask.dim(0)?;
    let repeated = |x: &Tensor| -> Result<Tensor> {
        let (mut wide, mut long) = (x.dims().to_vec(), x.dims().to_vec());
        wide.insert(1, copies);
        long[0] *= copies;
        Ok(x.unsqueeze(1)?
            .broadcast_as(wide)?
            .contiguous()?
            .reshape(long)?)
    };
    let returns = &contexts.returns;
    let k = returns.dim(1)?;
    let noise = std::iter::once(0.0).chain(normals.iter().map(|normal| normal * BACKUP_NOISE));
    let noise = Tensor::from_iter(noise, returns.device())?.to_dtype(returns.dtype())?; // (S)
    let noise = noise
        .reshape((1, copies, 1))?
        .broadcast_as((b, copies, 1))?;
    let noise = noise.contiguous()?.reshape((b * copies, 1, 1))?;
    let returns = repeated(returns)?;
    let last = (returns.narrow(1, k - 1, 1)? + noise)?;
    Ok(Contexts {
        returns: Tensor::cat(&[returns.narrow(1, 0, k - 1)?, last], 1)?,
        observations: repeated(&contexts.observations)?,
        actions: repeated(&contexts.actions)?,
        timesteps: repeated(&contexts.timesteps)?,
        mask: repeated(&contexts.mask)?,
        instructions: None,
    })
}
