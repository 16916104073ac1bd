//! SAC-RND: anti-exploration by random network distillation.
//!
//! Nikulin, Kurenkov, Tarasov & Kolesnikov 2023, <https://arxiv.org/abs/2301.13616>; authors' code tinkoff-ai/sac-rnd @
//! fc99672 (`offline_sac/algorithms/sac_rnd.py`, and `sac_rnd_betas.py` for two weights of the bonus).
//!
//! SAC that is paid to stay where a network f has learned, on the data, what a random network g gives:
//!
//! ```text
//! b(s, a)  = |f(s, a) - g(s, a)|² / d,  d the standard deviation of |f - g|² over all rows that f was trained on
//! L(f)     = mean |f(s, a) - g(s, a)|²                          in the first updates, then f, g and d stay
//! L(π)     = mean (α ln π(ã | s) + β₁ b(s, ã) - min_i Q_i(s, ã)),  ã ~ π(s)
//! L(α)     = α (H - H̄),  H = -mean ln π(ã | s)
//! y        = r + γ (1 - terminated) (min_i Q'_i(s', ã') - α ln π(ã' | s') - β₂ b(s', ã')),  ã' ~ π(s')
//! L(Q)     = Σ_i mean (Q_i(s, a) - y)²
//! target  <- (1 - rate) target + rate online
//! ```
//!
//! In this order; y comes from the actor after its step and from α before its own. f is bilinear in its first layer, g
//! scaled and shifted in its last hidden one ([`trajformer_models::rnd`]), as in all the authors' configurations; their other
//! networks are left out. Both see observations and actions reduced by their mean and divided by their standard deviation
//! over the data plus 1e-8.
//!
//! Deviation: the updates of f count as updates of the run.

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::ActorConfig;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::gaussian::{TanhCorrection, TanhGaussianActor, TanhGaussianActorConfig};
use trajformer_models::init::StackInit;
use trajformer_models::network::{Scalar, ScalarConfig};
use trajformer_models::params::StateVisitor;
use trajformer_models::rnd::RndConfig;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{
    ActionFn, Explorer, InitContext, Learner, OffPolicy, RndBonus, Target, Trained,
};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::Normalizer;
use trajformer_data::transitions::{Batch, TransitionsConfig};
use trajformer_data::transitions_config::DataView;
use trajformer_models::rng::Rng;

/// Added to the variance in layer norms: flax's default, a tenth of PyTorch's.
const NORM_EPSILON: f64 = 1e-6;
/// Added to the standard deviations that the bonus divides observations and actions by.
const SCALE_EPSILON: f64 = 1e-8;

/// `[algorithm.sac_rnd]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SacRndConfig {
    /// Weight of the bonus in the actor's loss, β₁.
    pub actor_penalty: f64,
    /// Weight of the bonus in the critics' targets, β₂; the same as β₁ on locomotion data.
    pub critic_penalty: f64,
    /// How many updates train the bonus before the rest begins.
    pub pretraining_updates: u64,
    /// Adam's rate for the predictor f.
    pub rnd_learning_rate: f64,
    /// Width of the hidden layers of f and g.
    pub rnd_hidden: usize,
    /// How many numbers f and g give.
    pub rnd_embedding: usize,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate: target <- (1 - rate) * target + rate * online, after each update. In (0, 1].
    pub target_rate: f64,
    /// α at first.
    pub initial_temperature: f64,
    /// H̄, the entropy that α steers to; minus the number of action dimensions if not given.
    pub target_entropy: Option<f64>,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for the actor.
    pub actor_learning_rate: f64,
    /// Adam's rate for the critics.
    pub critic_learning_rate: f64,
    /// Adam's rate for ln α.
    pub temperature_learning_rate: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// How many critics.
    pub members: usize,
    /// Whether each ReLU of the critics is followed by a layer norm.
    pub critic_layer_norm: bool,
    /// How it sees the data; by default observations are as they are.
    /// The authors multiply rewards of antmaze by 100. `normalize_observations` has no use here: observations stay as
    /// they are.
    #[serde(deserialize_with = "DataView::read_plain")]
    pub data: DataView,
}

impl Default for SacRndConfig {
    fn default() -> Self {
        Self {
            actor_penalty: 1.0,
            critic_penalty: 1.0,
            pretraining_updates: 1000,
            rnd_learning_rate: 3e-4,
            rnd_hidden: 256,
            rnd_embedding: 32,
            discount: 0.99,
            target_rate: 0.005,
            initial_temperature: 1.0,
            target_entropy: None,
            batch_size: 1024,
            actor_learning_rate: 1e-3,
            critic_learning_rate: 1e-3,
            temperature_learning_rate: 1e-3,
            hidden: vec![256, 256, 256],
            members: 2,
            critic_layer_norm: true,
            data: DataView::PLAIN,
        }
    }
}

impl SacRndConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.sac_rnd");
        keys.shares(&[("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        if self.pretraining_updates == 0 {
            return Err(keys.wrong("pretraining_updates", 0, "at least 1"));
        }
        keys.counts(&[
            ("members", self.members, 1024),
            ("rnd_hidden", self.rnd_hidden, 1 << 14),
            ("rnd_embedding", self.rnd_embedding, 1 << 14),
        ])?;
        self.data.refuse_normalization(&keys)?;
        keys.networks(self.batch_size, &self.hidden, 1 + self.members)?;
        if let Some(entropy) = self.target_entropy.filter(|entropy| !entropy.is_finite()) {
            return Err(keys.wrong("target_entropy", entropy, "a number"));
        }
        keys.positive(&[
            ("initial_temperature", self.initial_temperature),
            ("rnd_learning_rate", self.rnd_learning_rate),
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
            ("temperature_learning_rate", self.temperature_learning_rate),
        ])?;
        keys.not_negative(&[
            ("actor_penalty", self.actor_penalty),
            ("critic_penalty", self.critic_penalty),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<impl Algorithm + use<>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.sac_rnd",
            ..self.data.into()
        };
        OffPolicy::new_with_data(build, &view, self.batch_size, |start, data| {
            let scaled = |rows: &Tensor| {
                let (width, device) = (rows.dim(1)?, rows.device());
                let values = rows.flatten_all()?.to_vec1::<f32>()?;
                Normalizer::fit(&values, width, SCALE_EPSILON, device)
            };
            SacRnd::new(
                self,
                start,
                &scaled(data.observations())?,
                &scaled(data.actions())?,
            )
        })
    }
}

/// The networks of SAC-RND and their update.
pub struct SacRnd {
    config: SacRndConfig,
    target_entropy: f64,
    bonus: RndBonus,
    actor: Trained<TanhGaussianActor>,
    critics: Trained<Critics>,
    target_critics: Target<Critics>,
    temperature: Trained<Scalar>,
    updates: u64,
}

/// Standard normals (B, A) of one update.
pub struct SacRndDraws {
    /// For ã.
    pub actions: Tensor,
    /// For ã'.
    pub next_actions: Tensor,
}

impl SacRnd {
    /// Makes the networks with EDAC's initial values; `observations` and `actions` normalise the bonus's inputs.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(
        config: &SacRndConfig,
        start: &mut InitContext<'_>,
        observations: &Normalizer,
        actions: &Normalizer,
    ) -> Result<Self> {
        let (observation_dim, action_dim) = (start.observation_dim, start.action_dim);
        let actor = TanhGaussianActorConfig {
            net: ActorConfig {
                observation_dim,
                action_dim,
                hidden: config.hidden.clone(),
                init: StackInit::small_last(1e-3),
                ..ActorConfig::default()
            },
            log_std_range: (-5.0, 2.0),
            log_std_affine: None,
            correction: TanhCorrection::Exact,
        };
        let critics = CriticConfig {
            observation_dim,
            action_dim,
            hidden: config.hidden.clone(),
            members: config.members,
            norm_epsilon: config.critic_layer_norm.then_some(NORM_EPSILON),
            init: StackInit::small_last(3e-3),
            ..CriticConfig::default()
        };
        let temperature = ScalarConfig {
            name: "log_alpha",
            start: config.initial_temperature.ln(),
        };
        let rnd = RndConfig {
            observation_dim,
            action_dim,
            hidden: config.rnd_hidden,
            embedding: config.rnd_embedding,
        };
        let critics = Trained::new("critics", critics, start)?;
        Ok(Self {
            config: config.clone(),
            target_entropy: config.target_entropy.unwrap_or(-(action_dim as f64)),
            bonus: RndBonus::new(&rnd, start, observations, actions)?,
            actor: Trained::new("actor", actor, start)?,
            target_critics: Target::new(&critics)?,
            critics,
            temperature: Trained::new("temperature", temperature, start)?,
            updates: 0,
        })
    }

    /// mean (α ln π(ã | s) + β₁ b(s, ã) - min_i Q_i(s, ã)), and H.
    fn actor_loss(
        &self,
        batch: &Batch,
        noise: &Tensor,
        alpha: &Tensor,
        metrics: &mut Metrics,
    ) -> Result<(Tensor, Tensor)> {
        let policy = self.actor.net.distribution(&batch.observations)?;
        let (actions, log_probs) = policy.sample(noise)?; // (B, A), (B)
        let bonus = self.bonus.of(&batch.observations, &actions)?.mean_all()?;
        let critics = &self.critics.detached;
        let q = critics.forward(&batch.observations, &actions)?.min(0)?; // (B)
        let entropy = log_probs.mean_all()?.neg()?;
        let penalty = (&bonus * self.config.actor_penalty)?;
        let loss = ((penalty - (&entropy * alpha)?)? - q.mean_all()?)?;
        metrics.push("actor_loss", &loss);
        metrics.push("entropy", &entropy);
        metrics.push("rnd_bonus", &bonus);
        Ok((loss, entropy.detach()))
    }

    /// α (H - H̄).
    fn temperature_loss(&self, entropy: &Tensor, metrics: &mut Metrics) -> Result<Tensor> {
        let alpha = self.temperature.net.value.exp()?.mean_all()?;
        let loss = (&alpha * (entropy - self.target_entropy)?)?;
        metrics.push("temperature", &alpha);
        metrics.push("temperature_loss", &loss);
        Ok(loss)
    }

    /// Σ_i mean (Q_i(s, a) - y)².
    fn critic_loss(
        &self,
        batch: &Batch,
        noise: &Tensor,
        alpha: &Tensor,
        metrics: &mut Metrics,
    ) -> Result<Tensor> {
        let policy = self.actor.detached.distribution(&batch.next_observations)?;
        let (next_actions, log_probs) = policy.sample(noise)?; // (B, A), (B)
        let bonus = self.bonus.of(&batch.next_observations, &next_actions)?; // (B)
        let next_q = self
            .target_critics
            .net()?
            .forward(&batch.next_observations, &next_actions)?
            .min(0)?; // (B)
        let penalty = (bonus * self.config.critic_penalty)?;
        let next_q = ((next_q - log_probs.broadcast_mul(alpha)?)? - penalty)?;
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_q * not_terminated)? * self.config.discount)?;
        let target = (&batch.rewards + future)?.detach(); // (B)
        let critics = &self.critics.net;
        let q = critics.forward(&batch.observations, &batch.actions)?; // (N, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        metrics.push("critic_loss", &loss);
        metrics.push("q_min", &q.detach().min(0)?.mean_all()?);
        Ok(loss)
    }
}

impl Learner for SacRnd {
    type Draws = SacRndDraws;

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<SacRndDraws> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let shape = (rows, self.actor.config.net.action_dim);
        Ok(SacRndDraws {
            actions: rng.normal_tensor(shape, dtype, device)?,
            next_actions: rng.normal_tensor(shape, dtype, device)?,
        })
    }

    fn update(&mut self, batch: &Batch, draws: &SacRndDraws) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        let config = &self.config;
        self.updates += 1;
        if self.updates <= config.pretraining_updates {
            let rate = config.rnd_learning_rate;
            self.bonus.update(batch, rate, &mut metrics)?;
            return Ok(metrics);
        }
        let alpha = self.temperature.detached.value.exp()?.mean_all()?; // as it is before its step
        let (loss, entropy) = self.actor_loss(batch, &draws.actions, &alpha, &mut metrics)?;
        self.actor.minimize(&loss, config.actor_learning_rate)?;
        let loss = self.temperature_loss(&entropy, &mut metrics)?;
        self.temperature
            .minimize(&loss, config.temperature_learning_rate)?;
        let loss = self.critic_loss(batch, &draws.next_actions, &alpha, &mut metrics)?;
        self.critics.minimize(&loss, config.critic_learning_rate)?;
        self.target_critics
            .follow(&self.critics, config.target_rate)?;
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
        self.bonus.visit(visitor)?;
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }

    /// Those of an update after the pre-training.
    fn passes(&self) -> Vec<Passes> {
        let mut passes = work::soft_actor_critic(&self.actor.config, &self.critics.config);
        passes.extend([
            // The bonus of the targets' actions, and of the actor's, whose gradient passes the predictor.
            work::rnd_predictor(self.bonus.sizes())
                .forward(1.0)
                .through(1.0),
            work::rnd_target(self.bonus.sizes()).forward(2.0),
        ]);
        passes
    }
}
