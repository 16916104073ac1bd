//! BEAR: bootstrapping error accumulation reduction.
//!
//! Kumar et al. 2019, <https://arxiv.org/abs/1906.00949>; takuseno/d3rlpy @ 38c34b6
//! (`d3rlpy/algos/qlearning/torch/bear_impl.py`) with three of its bugs corrected, beside the authors' code,
//! aviralkumar2907/BEAR @ f2e31c1.
//!
//! An explicit constraint: the policy's actions may differ from those of a behaviour model by a maximum mean discrepancy
//! of at most ε, so that they keep to its support.
//!
//! ```text
//! L(VAE)   = mean (tanh D(s, z) - a)² + w mean KL(N(μ, σ²), N(0, 1)),  μ, σ = E(s, a), z ~ N(μ, σ²)
//! y        = r + γ (1 - terminated) max_j (λ min_i Q'_i(s', a_j) + (1 - λ) max_i Q'_i(s', a_j)),  a_j ~ π(s'), j = 1..m
//! L(Q)     = Σ_i mean (Q_i(s, a) - y)²
//! MMD²     = mean k(x, x) + mean k(u, u) - 2 mean k(x, u), with n actions each, before their tanh:
//!            x = D(s, clip(N(0, 1), ±0.5)),  u ~ π(s),  k = exp(-|x - u|₁ / 2 σ)  or  exp(-|x - u|₂² / 2 σ)
//! L(π)     = mean α (√(MMD² + 1e-6) - ε) - mean min_i Q_i(s, tanh u);  without Q during the warm-up
//! L(α)     = -mean α (√(MMD² + 1e-6) - ε), after the warm-up; ln α clipped to -5..10
//! target  <- (1 - rate) target + rate online, of the critics, after each update
//! ```
//!
//! Acting draws actions and takes the one with the largest Q_1; with `acting_samples = 0`, and exported, it is tanh of π's mean.
//!
//! d3rlpy's bugs: the gradient of L(α) cancels the MMD's in the actor's loss; the tanh of D stands in the MMD and not
//! in L(VAE); α gets the actor's learning rate (tests/golden/bear.py shows them). The authors' code has a
//! target actor, Q averaged over the n actions, standard deviations of u clipped to 0.5 and an α that moves during the warm-up.
//! Deviation: actions are mapped to ±1 first; no entropy term, whose weight d3rlpy's reproduction sets to 1e-20.

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::ActorConfig;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::gaussian::{TanhCorrection, TanhGaussianActor, TanhGaussianActorConfig};
use trajformer_models::init::StackInit;
use trajformer_models::network::{Scalar, ScalarConfig};
use trajformer_models::params::StateVisitor;
use trajformer_models::vae::{Vae, VaeConfig};
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{
    ActionFn, CandidatePolicy, Choice, Explorer, InitContext, Learner, OffPolicy, PolicyParts,
    Target, Trained, repeated,
};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::policy::Policy;
use trajformer_data::batch::Batch;
use trajformer_data::transitions_config::{DataView, TransitionsConfig};
use trajformer_models::rng::Rng;

/// Bounds of the latents that actions are decoded from.
const LATENT_BOUND: f64 = 0.5;
/// Bounds of the latent's log standard deviation.
const LATENT_LOG_STD: (f64, f64) = (-4.0, 15.0);
/// Added to MMD² before the root, whose gradient is infinite at 0.
const MMD_EPSILON: f64 = 1e-6;
/// Bounds of ln α.
const LOG_MULTIPLIER: (f64, f64) = (-5.0, 10.0);

/// k of the maximum mean discrepancy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// exp(-|x - u|₁ / 2 σ)
    Laplacian,
    /// exp(-|x - u|₂² / 2 σ)
    Gaussian,
}

/// `[algorithm.bear]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BearConfig {
    /// k.
    pub kernel: Kernel,
    /// σ of the kernel.
    pub bandwidth: f64,
    /// ε: largest discrepancy.
    pub threshold: f64,
    /// Actions n of policy and behaviour model in the discrepancy.
    pub samples: usize,
    /// Actions m at s' that the target takes the best of.
    pub target_samples: usize,
    /// Actions that acting takes the best of; 0: tanh of the policy's mean instead.
    pub acting_samples: usize,
    /// λ in 0 to 1: weight of the smaller of both critics in the target.
    pub min_weight: f64,
    /// w: weight of the KL term in the VAE's loss.
    pub vae_kl_weight: f64,
    /// First updates, in which the actor follows the constraint alone.
    pub warmup_updates: u64,
    /// α at first.
    pub initial_multiplier: f64,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate of the critics' targets, in (0, 1].
    pub target_rate: f64,
    /// The standard deviation's logarithm is limited to these.
    pub log_std_range: (f64, f64),
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for the actor.
    pub actor_learning_rate: f64,
    /// Adam's rate for the critics.
    pub critic_learning_rate: f64,
    /// Adam's rate for the VAE.
    pub vae_learning_rate: f64,
    /// Adam's rate for ln α.
    pub multiplier_learning_rate: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// Widths of the hidden layers of the VAE's encoder and decoder.
    pub vae_hidden: Vec<usize>,
    /// How it sees the data; by default observations are as they are.
    #[serde(deserialize_with = "DataView::read_plain")]
    pub data: DataView,
}

impl Default for BearConfig {
    /// d3rlpy's `reproductions/offline/bear.py`.
    fn default() -> Self {
        Self {
            kernel: Kernel::Laplacian,
            bandwidth: 20.0,
            threshold: 0.05,
            samples: 4,
            target_samples: 10,
            acting_samples: 100,
            min_weight: 0.75,
            vae_kl_weight: 0.5,
            warmup_updates: 40_000,
            initial_multiplier: 1.0,
            discount: 0.99,
            target_rate: 0.005,
            log_std_range: (-20.0, 2.0),
            batch_size: 256,
            actor_learning_rate: 1e-4,
            critic_learning_rate: 3e-4,
            vae_learning_rate: 3e-4,
            multiplier_learning_rate: 1e-3,
            hidden: vec![256, 256],
            vae_hidden: vec![750, 750],
            data: DataView::PLAIN,
        }
    }
}

impl BearConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.bear");
        keys.shares(&[("discount", self.discount), ("min_weight", self.min_weight)])?;
        keys.target_rate(self.target_rate)?;
        let (low, high) = self.log_std_range;
        if !(low <= high && low.is_finite() && high.is_finite()) {
            let found = format_args!("[{low}, {high}]");
            return Err(keys.wrong("log_std_range", found, "a lower and an upper bound"));
        }
        keys.counts(&[
            ("samples", self.samples, 1 << 10),
            ("target_samples", self.target_samples, 1 << 10),
            ("batch_size", self.batch_size, 1 << 20),
        ])?;
        if self.acting_samples > 1 << 10 {
            return Err(keys.wrong("acting_samples", self.acting_samples, "at most 1024"));
        }
        let rows = self.batch_size * self.target_samples.max(self.samples);
        keys.networks(rows.min(1 << 20), &self.hidden, 3)?;
        keys.hidden("vae_hidden", &self.vae_hidden)?;
        keys.not_negative(&[
            ("threshold", self.threshold),
            ("vae_kl_weight", self.vae_kl_weight),
        ])?;
        keys.positive(&[
            ("bandwidth", self.bandwidth),
            ("initial_multiplier", self.initial_multiplier),
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
            ("vae_learning_rate", self.vae_learning_rate),
            ("multiplier_learning_rate", self.multiplier_learning_rate),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<impl Algorithm + use<>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            table: "algorithm.bear",
            ..self.data.into()
        };
        OffPolicy::new(build, &view, self.batch_size, |start| {
            Bear::new(self, start)
        })
    }
}

/// The random numbers of one update: standard normals.
pub struct BearDraws {
    /// Noise of the latents of the data's actions (B, L).
    pub vae: Tensor,
    /// Noise of the policy's actions at s' (m, B, A).
    pub next_actions: Tensor,
    /// Noise of the policy's action in the actor's value term (B, A).
    pub actor: Tensor,
    /// Noise of the behaviour model's latents (n, B, L).
    pub latents: Tensor,
    /// Noise of the policy's actions in the discrepancy (n, B, A).
    pub actions: Tensor,
}

/// The networks of BEAR and their update.
pub struct Bear {
    config: BearConfig,
    actor: Trained<TanhGaussianActor>,
    critics: Trained<Critics>,
    target_critics: Target<Critics>,
    vae: Trained<Vae>,
    /// ln α.
    multiplier: Trained<Scalar>,
    updates: u64,
}

impl Bear {
    /// Makes the networks with PyTorch's initial values; targets start equal to the critics.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &BearConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let (observation_dim, action_dim) = (start.observation_dim, start.action_dim);
        let actor = TanhGaussianActorConfig {
            net: ActorConfig {
                observation_dim,
                action_dim,
                hidden: config.hidden.clone(),
                ..ActorConfig::default()
            },
            log_std_range: config.log_std_range,
            log_std_affine: None,
            correction: TanhCorrection::Exact,
        };
        let critics = CriticConfig {
            observation_dim,
            action_dim,
            hidden: config.hidden.clone(),
            ..CriticConfig::default()
        };
        let vae = VaeConfig {
            observation_dim,
            action_dim,
            latent_dim: 2 * action_dim,
            hidden: config.vae_hidden.clone(),
            log_std_range: LATENT_LOG_STD,
            init: StackInit::default(),
        };
        let multiplier = ScalarConfig {
            name: "log_alpha_prime",
            start: config.initial_multiplier.ln(),
        };
        let critics = Trained::new("critics", critics, start)?;
        Ok(Self {
            config: config.clone(),
            actor: Trained::new("actor", actor, start)?,
            target_critics: Target::new(&critics)?,
            critics,
            vae: Trained::new("vae", vae, start)?,
            multiplier: Trained::new("lagrange", multiplier, start)?,
            updates: 0,
        })
    }

    /// mean (tanh D(s, z) - a)² + w mean KL.
    fn vae_loss(&self, batch: &Batch, noise: &Tensor, metrics: &mut Metrics) -> Result<Tensor> {
        let vae = &self.vae.net;
        let latent = vae.encode(&batch.observations, &batch.actions)?; // (B, L)
        let decoded = vae.decode(&batch.observations, &latent.sample(noise)?)?;
        let error = (decoded.tanh()? - &batch.actions)?.sqr()?.mean_all()?;
        let variance = (&latent.log_std * 2.0)?.exp()?;
        let kl = ((variance + latent.mean.sqr()?)? - (&latent.log_std * 2.0)?)?; // (B, L), +1, twice
        let kl = ((kl.mean_all()? - 1.0)? * 0.5)?;
        let loss = (error + (kl * self.config.vae_kl_weight)?)?;
        metrics.push("vae_loss", &loss);
        Ok(loss)
    }

    /// Σ_i mean (Q_i(s, a) - y)².
    fn critic_loss(&self, batch: &Batch, noise: &Tensor, metrics: &mut Metrics) -> Result<Tensor> {
        let (m, b, a) = noise.dims3()?;
        let policy = self.actor.detached.distribution(&batch.next_observations)?;
        let next_actions = policy.gaussian.sample(noise)?.tanh()?; // (m, B, A)
        let next_q = self.target_critics.net()?.forward(
            &repeated(&batch.next_observations, m)?,
            &next_actions.reshape((m * b, a))?,
        )?; // (2, m B)
        let weight = self.config.min_weight;
        let mixed = ((next_q.min(0)? * weight)? + (next_q.max(0)? * (1.0 - weight))?)?;
        let next_q = mixed.reshape((m, b))?.max(0)?; // (B)
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

    /// mean √(MMD² + 1e-6) between policy and behaviour model, with gradients to the policy.
    fn discrepancy(&self, batch: &Batch, draws: &BearDraws) -> Result<Tensor> {
        let (n, b, l) = draws.latents.dims3()?;
        let latents = draws.latents.clamp(-LATENT_BOUND, LATENT_BOUND)?;
        let behavior = (self.vae.detached)
            .decode(
                &repeated(&batch.observations, n)?,
                &latents.reshape((n * b, l))?,
            )?
            .reshape(draws.actions.shape())?; // (n, B, A)
        let policy = self.actor.net.distribution(&batch.observations)?;
        let actions = policy.gaussian.sample(&draws.actions)?; // (n, B, A)
        let mean = |x: &Tensor, y: &Tensor| self.mean_kernel(x, y);
        let within = (mean(&actions, &actions)? + mean(&behavior, &behavior)?)?;
        let squared = (within - (mean(&actions, &behavior)? * 2.0)?)?; // (B)
        Ok((squared + MMD_EPSILON)?.sqrt()?.mean_all()?)
    }

    /// Mean (B) of k over all pairs of x and y (n, B, A).
    fn mean_kernel(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let difference = x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?; // (n, n, B, A)
        let distance = match self.config.kernel {
            Kernel::Laplacian => difference.abs()?,
            Kernel::Gaussian => difference.sqr()?,
        };
        let exponent = (distance.sum(D::Minus1)? * (-0.5 / self.config.bandwidth))?;
        Ok(exponent.exp()?.mean(0)?.mean(0)?)
    }

    /// α (√(MMD² + 1e-6) - ε) - mean min_i Q_i(s, tanh u), and -α (√(MMD² + 1e-6) - ε) as a function of ln α.
    fn actor_and_multiplier_losses(
        &self,
        batch: &Batch,
        draws: &BearDraws,
        metrics: &mut Metrics,
    ) -> Result<(Tensor, Tensor)> {
        let discrepancy = self.discrepancy(batch, draws)?;
        let excess = (&discrepancy - self.config.threshold)?;
        let multiplier = self.multiplier.detached.value.exp()?.squeeze(0)?;
        let mut loss = (&multiplier * &excess)?;
        if self.updates > self.config.warmup_updates {
            let policy = self.actor.net.distribution(&batch.observations)?;
            let actions = policy.gaussian.sample(&draws.actor)?.tanh()?; // (B, A)
            let critics = &self.critics.detached;
            let q = critics.forward(&batch.observations, &actions)?.min(0)?;
            loss = (loss - q.mean_all()?)?;
        }
        metrics.push("actor_loss", &loss);
        metrics.push("mmd", &discrepancy);
        metrics.push("multiplier", &multiplier);
        let tracked = self.multiplier.net.value.exp()?.squeeze(0)?;
        Ok((loss, (tracked * excess.detach())?.neg()?))
    }
}

impl Learner for Bear {
    type Draws = BearDraws;

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<BearDraws> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let (n, m) = (self.config.samples, self.config.target_samples);
        let (a, l) = (self.vae.config.action_dim, self.vae.config.latent_dim);
        Ok(BearDraws {
            vae: rng.normal_tensor((rows, l), dtype, device)?,
            next_actions: rng.normal_tensor((m, rows, a), dtype, device)?,
            actor: rng.normal_tensor((rows, a), dtype, device)?,
            latents: rng.normal_tensor((n, rows, l), dtype, device)?,
            actions: rng.normal_tensor((n, rows, a), dtype, device)?,
        })
    }

    fn update(&mut self, batch: &Batch, draws: &BearDraws) -> Result<Metrics> {
        self.updates += 1;
        let mut metrics = Metrics::new();
        let config = &self.config;
        let loss = self.vae_loss(batch, &draws.vae, &mut metrics)?;
        self.vae.minimize(&loss, config.vae_learning_rate)?;
        let loss = self.critic_loss(batch, &draws.next_actions, &mut metrics)?;
        self.critics.minimize(&loss, config.critic_learning_rate)?;
        let (loss, multiplier_loss) =
            self.actor_and_multiplier_losses(batch, draws, &mut metrics)?;
        self.actor.minimize(&loss, config.actor_learning_rate)?;
        if self.updates > config.warmup_updates {
            self.multiplier
                .minimize(&multiplier_loss, config.multiplier_learning_rate)?;
            self.multiplier.limit(LOG_MULTIPLIER)?;
        }
        self.target_critics
            .follow(&self.critics, config.target_rate)?;
        Ok(metrics)
    }

    /// tanh of the policy's mean.
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
        self.vae.visit(visitor)?;
        self.multiplier.visit(visitor)?;
        self.target_critics.visit(visitor)?;
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }

    /// Those of an update after the warm-up.
    fn passes(&self) -> Vec<Passes> {
        let [samples, targets] =
            [self.config.samples, self.config.target_samples].map(|count| count as f64);
        vec![
            work::vae_encoder(&self.vae.config).train(1.0),
            // Its gradient goes on to the latents.
            work::vae_decoder(&self.vae.config)
                .train_through(1.0)
                .forward(samples),
            // Trained by the constraint and by the values.
            work::tanh_gaussian_actor(&self.actor.config)
                .forward(1.0)
                .train(2.0),
            work::critics(&self.critics.config)
                .forward(targets)
                .train(1.0)
                .through(1.0),
        ]
    }

    fn policy(&self, parts: PolicyParts) -> Result<Box<dyn Policy>> {
        if self.config.acting_samples == 0 {
            return Ok(Box::new(parts.around(self.act()?)));
        }
        Ok(Box::new(self.best_of_many(parts)?))
    }
}

impl Bear {
    /// The policy that samples `acting_samples` actions and takes the one with the largest Q_1.
    ///
    /// # Errors
    /// If the device fails.
    pub fn best_of_many(&self, parts: PolicyParts) -> Result<CandidatePolicy> {
        let (actor, critics) = (self.actor.snapshot()?, self.critics.snapshot()?);
        let critic = critics.member(0)?;
        let candidates = move |observations: &Tensor, noise: &Tensor| {
            let (s, e, a) = noise.dims3()?;
            let policy = actor.distribution(observations)?;
            let actions = policy.gaussian.sample(noise)?.tanh()?; // (S, E, A)
            let rows = repeated(observations, s)?;
            let values = critic.forward(&rows, &actions.reshape((s * e, a))?)?; // (1, S E)
            Ok((actions, values.reshape((s, e))?))
        };
        let sizes = (self.config.acting_samples, self.vae.config.action_dim);
        Ok(CandidatePolicy::new(
            parts,
            Box::new(candidates),
            sizes,
            Choice::Best,
        ))
    }
}
