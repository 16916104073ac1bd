//! CQL: conservative Q-learning.
//!
//! Kumar, Zhou, Tucker & Levine 2020, <https://arxiv.org/abs/2006.04779>; code corl-team/CORL @ eeeeef2
//! (`algorithms/offline/cql.py`), after young-geng/CQL @ 934b0e8.
//!
//! SAC with a regulariser that lowers Q-values of out-of-distribution actions:
//!
//! ```text
//! y        = r + γ (1 - terminated) min_i Q'_i(s', a'),  a' ~ π(s')
//! L(Q_i)   = mean (Q_i(s, a) - y)² + α mean (P_i(s) - Q_i(s, a))      (equation 4, CQL(H))
//! P_i(s)   = T ln Σ_k exp((Q_i(s, a_k) - ln μ(a_k)) / T)
//! L(π)     = mean (η ln π(ã | s) - min_i Q_i(s, ã)),  ã ~ π(s)
//! L(η)     = -ln η mean (ln π(ã | s) + H),  H = -A
//! target  <- (1 - rate) target + rate online
//! ```
//!
//! Of the a_k, n are uniform, n from π(s) and n from π(s'), all valued at s; μ is each one's own density, without gradient. All losses are
//! taken before any step. Options, [`Penalty`]: P without densities and with the data's action among the a_k, or the mean over
//! π(s), equation 2 of the paper with μ = π; the Lagrange version, where α is multiplied by exp(l), which grows while
//! P - Q is above a gap: L(l) = -½ Σ_i α exp(l) (mean (P_i - Q_i) - gap), and the gap is taken off in L(Q) too; the
//! largest of n values in y; the entropy in y. For its first `cloning_updates` the actor clones the data, as in the authors' code
//! (aviralkumar2907/CQL, `policy_eval_start`: the first 40 of 1,000 epochs), while the critics learn already:
//!
//! ```text
//! L(π)     = mean (η ln π(ã | s) - ln π(a | s))
//! ```
//!
//! `calibrate` makes it Cal-QL (Nakamoto et al. 2023, <https://arxiv.org/abs/2303.05479>; CORL's `algorithms/finetune/cal_ql.py`), for learning
//! that goes on online: in P the values of the policy's actions are not lowered below the Monte Carlo return from there,
//!
//! ```text
//! Q_i(s, a_k) -> max(Q_i(s, a_k), R(s)),  R(s) = Σ_t γ^t r_t  of the episode from s on   (equation 5.1)
//! ```
//!
//! The updates are Cal-QL's authors' (nakamotoo/Cal-QL @ ac6eafe, `JaxCQL/conservative_sac.py`) as well as CORL's; online it is theirs:
//! half of each batch is the data's, whole episodes are collected, each followed by as many updates as it has steps, and R is that of
//! collected episodes too. CORL, which learns after every step and knows no returns there, switches calibration off online.
//!
//! R of an episode that holds nothing but `failure_reward` and was broken off is r / (1 - γ), as the authors have it on antmaze
//! and on Adroit's binary tasks. Deviation: R of other episodes that were broken off is known where little of it is missing,
//! and where it is not, nothing is changed; the authors, whose tasks have none, take the sum up to there. They draw actions anew
//! for the loss of each network, clip the data's actions to ±0.99999 and leave out an episode that the data breaks off in. CORL's
//! last layers start larger.
//!
//! Of actions that are choices it is a double deep Q-network with the penalty in closed form ([`DiscreteCql`]).
//!
//! Deviations from CORL: every critic has the same layers (its second has three, whatever is asked for); the actor's first
//! values are orthogonal like the critics', as in young-geng's code; its BC phase takes the densities of the data's actions, where CORL's
//! `log_prob` takes those of new samples; densities at ±1 are finite. Actions are mapped to ±1 before anything sees them.

mod choices;

pub use choices::{DiscreteCql, DiscreteCqlSettings};

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::actor::ActorConfig;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::gaussian::{
    TanhCorrection, TanhGaussianActor, TanhGaussianActorConfig, clamp,
};
use trajformer_models::init::{Init, StackInit};
use trajformer_models::network::{Scalar, ScalarConfig};
use trajformer_models::params::StateVisitor;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{ActionFn, Explorer, InitContext, Learner, OffPolicy, Target, Trained};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::dataset::ActionKind;
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::mixing::Mixing;
use trajformer_data::transitions::{Batch, TransitionsConfig};
use trajformer_data::transitions_config::DataView;
use trajformer_models::rng::Rng;

/// Largest factor exp(l) of the Lagrange version.
const MAX_MULTIPLIER: f64 = 1e6;

const KEYS: Keys = Keys("algorithm.cql");

/// `[algorithm.cql]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CqlConfig {
    /// Weight α of the penalty.
    pub alpha: f64,
    /// What the penalty presses down.
    pub penalty: Penalty,
    /// n: actions of each kind that the penalty looks at, and the target with `max_backup`.
    pub actions: usize,
    /// Temperature T of the penalty.
    pub penalty_temperature: f64,
    /// Gap of the Lagrange version; without it α stays what it is.
    pub lagrange_gap: Option<f64>,
    /// Lower limit of P - Q, for each transition.
    pub gap_min: Option<f64>,
    /// Upper limit of P - Q.
    pub gap_max: Option<f64>,
    /// Whether the target takes the largest value of n actions, not that of one.
    pub max_backup: bool,
    /// Whether the target holds the entropy term -η ln π(a' | s').
    pub backup_entropy: bool,
    /// Cal-QL: whether Q-values of the policy's actions are clipped from below at the Monte Carlo return.
    pub calibrate: bool,
    /// Cal-QL, on tasks with a sparse reward: the environment's reward of every step of an episode that fails, 0 on antmaze and -1 on
    /// Adroit's binary tasks. An episode without another that was broken off is taken to go on failing without end. None:
    /// of such an episode the returns of its last steps are not known.
    pub failure_reward: Option<f32>,
    /// So many updates the actor clones the data at first.
    pub cloning_updates: u64,
    /// Whether the entropy's temperature η is learned, from 1 on.
    pub automatic_temperature: bool,
    /// Factor of η; η itself where it is not learned.
    pub temperature_scale: f64,
    /// Entropy H that η keeps up; minus the number of action dimensions if it is not given.
    pub target_entropy: Option<f64>,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate: target <- (1 - rate) * target + rate * online. In (0, 1].
    pub target_rate: f64,
    /// The target follows every so many updates.
    pub target_every: u64,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate for the actor and η.
    pub actor_learning_rate: f64,
    /// Adam's rate for the critics and the multiplier.
    pub critic_learning_rate: f64,
    /// Logarithms of the actor's standard deviations are limited to this.
    pub log_std_range: (f64, f64),
    /// First factor of these logarithms; it is learned, as their shift, which is -1 at first.
    pub log_std_scale: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<usize>,
    /// Hidden widths of the critics, where they differ from the actor's: five layers on antmaze in CORL.
    pub critic_hidden: Option<Vec<usize>>,
    /// First values of all networks: orthogonal, or PyTorch's with a small last layer.
    pub orthogonal_init: bool,
    /// How it sees the data; by default observations are normalized.
    #[serde(deserialize_with = "DataView::read_normalized")]
    pub data: DataView,
}

/// What the penalty presses down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Penalty {
    /// The logarithm of the sum over sampled actions, each divided by its density.
    ImportanceSampled,
    /// Log-sum-exp without importance weights, with the data's action among the actions.
    Logsumexp,
    /// The mean over the policy's actions.
    PolicyMean,
}

impl Default for CqlConfig {
    /// CORL's settings for locomotion (configs/offline/cql).
    fn default() -> Self {
        Self {
            alpha: 10.0,
            penalty: Penalty::ImportanceSampled,
            actions: 10,
            penalty_temperature: 1.0,
            lagrange_gap: None,
            gap_min: None,
            gap_max: None,
            max_backup: false,
            backup_entropy: false,
            calibrate: false,
            failure_reward: None,
            cloning_updates: 0,
            automatic_temperature: true,
            temperature_scale: 1.0,
            target_entropy: None,
            discount: 0.99,
            target_rate: 0.005,
            target_every: 1,
            batch_size: 256,
            actor_learning_rate: 3e-5,
            critic_learning_rate: 3e-4,
            log_std_range: (-20.0, 2.0),
            log_std_scale: 1.0,
            hidden: vec![256, 256, 256],
            critic_hidden: None,
            orthogonal_init: true,
            data: DataView::NORMALIZED,
        }
    }
}

impl CqlConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = KEYS;
        keys.shares(&[("discount", self.discount)])?;
        keys.target_rate(self.target_rate)?;
        if self.failure_reward.is_some() && self.discount == 1.0 {
            let expected = "less than 1, as an endless failure has no return (`failure_reward`)";
            return Err(keys.wrong("discount", self.discount, expected));
        }
        if self.target_every == 0 {
            return Err(keys.wrong("target_every", 0, "at least 1"));
        }
        keys.counts(&[("actions", self.actions, 1 << 10)])?;
        keys.networks(self.batch_size, &self.hidden, 3)?;
        keys.hidden("critic_hidden", self.critic_hidden())?;
        // Outputs of layers for every action that the penalty looks at, and their gradients, of two critics.
        let rows = [self.batch_size, 3 * self.actions + 1];
        let layers = self.critic_hidden().iter();
        let layers: Vec<[usize; 4]> = layers.map(|&w| [rows[0], rows[1], w, 4]).collect();
        let numbers: Vec<&[usize]> = layers.iter().map(|n| &n[..]).collect();
        keys.memory("`actions`, `critic_hidden` or `batch_size`", &numbers)?;
        keys.range("log_std_range", self.log_std_range)?;
        keys.range("gap_min", self.gap_range())?;
        keys.finite(&[
            (
                "failure_reward",
                f64::from(self.failure_reward.unwrap_or(0.0)),
            ),
            ("lagrange_gap", self.lagrange_gap.unwrap_or(0.0)),
            ("target_entropy", self.target_entropy.unwrap_or(0.0)),
            ("log_std_scale", self.log_std_scale),
        ])?;
        keys.positive(&[
            ("penalty_temperature", self.penalty_temperature),
            ("actor_learning_rate", self.actor_learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
        ])?;
        keys.not_negative(&[
            ("alpha", self.alpha),
            ("temperature_scale", self.temperature_scale),
        ])
    }

    /// Makes the algorithm.
    ///
    /// # Errors
    /// If the data holds no transition, or actions are choices and a key has a value that has no meaning for them.
    pub fn build(&self, build: Build<'_>) -> Result<Box<dyn Algorithm>> {
        let view = TransitionsConfig {
            returns_discount: self.discount,
            monte_carlo_returns: self.calibrate,
            failure_reward: self.failure_reward,
            table: "algorithm.cql",
            ..self.data.into()
        };
        let rows = self.batch_size;
        if build.bounds.kind() == ActionKind::Continuous {
            let built = OffPolicy::new(build, &view, rows, |start| Cql::new(self, start))?;
            return Ok(Box::new(built));
        }
        self.check_choices()?;
        let built = OffPolicy::new(build, &view, rows, |start| {
            DiscreteCql::new(self.of_choices(start)?, start)
        })?;
        Ok(Box::new(built))
    }

    /// Fails if a key is set that means nothing where actions are choices.
    fn check_choices(&self) -> Result<()> {
        let usual = Self::default();
        let changed = [
            ("penalty", self.penalty == Penalty::PolicyMean),
            (
                "penalty_temperature",
                self.penalty_temperature != usual.penalty_temperature,
            ),
            ("lagrange_gap", self.lagrange_gap.is_some()),
            ("gap_min", self.gap_min.is_some()),
            ("gap_max", self.gap_max.is_some()),
            ("max_backup", self.max_backup),
            ("backup_entropy", self.backup_entropy),
            ("calibrate", self.calibrate),
            ("failure_reward", self.failure_reward.is_some()),
            ("cloning_updates", self.cloning_updates > 0),
            ("target_entropy", self.target_entropy.is_some()),
            ("actions", self.actions != usual.actions),
            (
                "automatic_temperature",
                self.automatic_temperature != usual.automatic_temperature,
            ),
            (
                "temperature_scale",
                self.temperature_scale != usual.temperature_scale,
            ),
            (
                "actor_learning_rate",
                self.actor_learning_rate != usual.actor_learning_rate,
            ),
            ("log_std_range", self.log_std_range != usual.log_std_range),
            ("log_std_scale", self.log_std_scale != usual.log_std_scale),
        ];
        match changed.iter().find(|(_, changed)| *changed) {
            None => Ok(()),
            Some((key, _)) => {
                let expected = "left out: the data's actions are choices, for which CQL has neither actor nor samples";
                Err(KEYS.wrong(key, "set", expected))
            }
        }
    }

    /// What counts of it where actions are choices.
    ///
    /// # Errors
    /// If they are not.
    pub fn of_choices(&self, start: &InitContext<'_>) -> Result<DiscreteCqlSettings> {
        let (observation_dim, choices) = (start.observation_dim, start.required_choices()?);
        let hidden = self.critic_hidden().to_vec();
        let last = hidden.last().copied().unwrap_or(observation_dim);
        Ok(DiscreteCqlSettings {
            critics: CriticConfig {
                observation_dim,
                action_dim: choices,
                init: self.init(last, choices),
                hidden,
                members: 1,
                ..CriticConfig::default()
            },
            alpha: self.alpha,
            discount: self.discount,
            target_rate: self.target_rate,
            target_every: self.target_every,
            learning_rate: self.critic_learning_rate,
        })
    }

    fn critic_hidden(&self) -> &[usize] {
        self.critic_hidden.as_deref().unwrap_or(&self.hidden)
    }

    fn gap_range(&self) -> (f64, f64) {
        let (low, high) = (self.gap_min, self.gap_max);
        (low.unwrap_or(f64::MIN), high.unwrap_or(f64::MAX))
    }

    /// First values of a network whose last layer has these inputs and outputs.
    fn init(&self, inputs: usize, outputs: usize) -> StackInit {
        let hidden = if self.orthogonal_init {
            (Some(Init::Orthogonal(2f64.sqrt())), Some(Init::Zeros))
        } else {
            (None, None)
        };
        let last = if self.orthogonal_init {
            Init::Orthogonal(1e-2)
        } else {
            // xavier_uniform_ with a gain of 0.01
            Init::Uniform(1e-2 * (6.0 / (inputs + outputs) as f64).sqrt())
        };
        StackInit {
            weight: hidden.0,
            bias: hidden.1,
            last_weight: Some(last),
            last_bias: Some(Init::Zeros),
            ..StackInit::default()
        }
    }
}

/// The networks of CQL and their update.
pub struct Cql {
    config: CqlConfig,
    target_entropy: f64,
    actor: Trained<TanhGaussianActor>,
    critics: Trained<Critics>,
    target_critics: Target<Critics>,
    /// ln η, if it is learned.
    temperature: Option<Trained<Scalar>>,
    /// l of the Lagrange version.
    lagrange: Option<Trained<Scalar>>,
    updates: u64,
}

/// The random numbers of an update.
pub struct CqlDraws {
    /// Standard normals (B, A) of the actor's actions.
    pub policy: Tensor,
    /// Noise of the actions in the target: (1, B, A), or (n, B, A) with `max_backup`.
    pub next: Tensor,
    /// Uniform actions (n, B, A) in ±1.
    pub random: Tensor,
    /// Standard normals (n, B, A) of actions of π(s).
    pub current: Tensor,
    /// Noise of the actions of π(s').
    pub following: Tensor,
}

impl Cql {
    /// Makes the networks with the configuration's initial values; the target starts equal to the critics.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(config: &CqlConfig, start: &mut InitContext<'_>) -> Result<Self> {
        let (o, a) = (start.observation_dim, start.action_dim);
        let last = |hidden: &[usize], input: usize| hidden.last().copied().unwrap_or(input);
        let net = ActorConfig {
            observation_dim: o,
            action_dim: a,
            hidden: config.hidden.clone(),
            init: config.init(last(&config.hidden, o), 2 * a),
            ..ActorConfig::default()
        };
        let actor = TanhGaussianActorConfig {
            net,
            log_std_range: config.log_std_range,
            log_std_affine: Some((config.log_std_scale, -1.0)),
            correction: TanhCorrection::Exact,
        };
        let critics = CriticConfig {
            observation_dim: o,
            action_dim: a,
            hidden: config.critic_hidden().to_vec(),
            init: config.init(last(config.critic_hidden(), o + a), 1),
            ..CriticConfig::default()
        };
        let actor = Trained::new("actor", actor, start)?;
        let critics = Trained::new("critics", critics, start)?;
        let mut scalar = |wanted: bool, network, name, first| {
            if wanted {
                Trained::new(network, ScalarConfig { name, start: first }, start).map(Some)
            } else {
                Ok(None)
            }
        };
        let learned = config.automatic_temperature;
        let lagrange = config.lagrange_gap.is_some();
        Ok(Self {
            temperature: scalar(learned, "temperature", "log_alpha", 0.0)?,
            lagrange: scalar(lagrange, "lagrange", "log_alpha_prime", 1.0)?,
            config: config.clone(),
            target_entropy: config.target_entropy.unwrap_or(-(a as f64)),
            target_critics: Target::new(&critics)?,
            actor,
            critics,
            updates: 0,
        })
    }

    /// η (1), without gradient.
    fn temperature(&self) -> Result<Tensor> {
        let scale = self.config.temperature_scale;
        Ok(match &self.temperature {
            Some(log) => (log.detached.value.exp()? * scale)?,
            None => Tensor::full(scale, 1, self.actor.params.device())?
                .to_dtype(self.actor.params.dtype())?,
        })
    }

    /// mean (η ln π(ã | s) - min_i Q_i(s, ã)), or with ln π(a | s) in place of Q; and the mean of ln π(ã | s) without gradient.
    fn actor_loss(
        &self,
        batch: &Batch,
        noise: &Tensor,
        temperature: &Tensor,
        metrics: &mut Metrics,
    ) -> Result<(Tensor, Tensor)> {
        let policy = self.actor.net.distribution(&batch.observations)?;
        let (actions, log_probs) = policy.sample(noise)?; // (B, A), (B)
        let good = if self.updates < self.config.cloning_updates {
            policy.log_prob(&batch.actions)?
        } else {
            let critics = &self.critics.detached;
            critics.forward(&batch.observations, &actions)?.min(0)?
        }; // (B)
        let loss = (log_probs.broadcast_mul(temperature)? - good)?.mean_all()?;
        let log_prob = log_probs.mean_all()?.detach();
        metrics.push("actor_loss", &loss);
        metrics.push("entropy", &log_prob.neg()?);
        metrics.push("temperature", &temperature.squeeze(0)?);
        Ok((loss, log_prob))
    }

    /// y (B), without gradients.
    fn target(&self, batch: &Batch, noise: &Tensor, temperature: &Tensor) -> Result<Tensor> {
        let observations = &batch.next_observations;
        let policy = self.actor.detached.distribution(observations)?;
        let (actions, log_probs) = policy.sample(noise)?; // (n, B, A), (n, B)
        let q = values(self.target_critics.net()?, observations, &actions)?.min(0)?; // (n, B)
        let mut next_q = q.max(0)?; // (B)
        if self.config.backup_entropy {
            let best = q.argmax_keepdim(0)?; // (1, B)
            let log_probs = log_probs.contiguous()?.gather(&best, 0)?.squeeze(0)?;
            next_q = (next_q - log_probs.broadcast_mul(temperature)?)?;
        }
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_q * not_terminated)? * self.config.discount)?;
        Ok((&batch.rewards + future)?)
    }

    /// Actions (M, B, A) that the penalty looks at beside the data's, and their log-densities (M, B), both without
    /// gradients.
    fn proposals(&self, batch: &Batch, draws: &CqlDraws) -> Result<(Tensor, Tensor)> {
        let actor = &self.actor.detached;
        let policy = actor.distribution(&batch.observations)?;
        let (current, current_log_probs) = policy.sample(&draws.current)?; // (n, B, A), (n, B)
        if self.config.penalty == Penalty::PolicyMean {
            return Ok((current, current_log_probs));
        }
        let policy = actor.distribution(&batch.next_observations)?;
        let (following, following_log_probs) = policy.sample(&draws.following)?;
        let density = -(self.critics.config.action_dim as f64) * std::f64::consts::LN_2;
        let uniform = (current_log_probs.zeros_like()? + density)?;
        let actions = Tensor::cat(&[&draws.random, &following, &current], 0)?; // (3n, B, A)
        let log_probs = Tensor::cat(&[&uniform, &following_log_probs, &current_log_probs], 0)?;
        Ok((actions, log_probs))
    }

    /// Values (2, 1 + M, B) of the data's actions, uniform ones and the policy's: policy-action values are clipped from
    /// below at the Monte Carlo return (B) (Cal-QL).
    fn calibrated(&self, q: &Tensor, reached: &Tensor) -> Result<Tensor> {
        let uniform = match self.config.penalty {
            Penalty::PolicyMean => 0,
            _ => self.config.actions,
        };
        let others = q.narrow(1, 0, 1 + uniform)?;
        let of_policy = q.narrow(1, 1 + uniform, q.dim(1)? - 1 - uniform)?;
        Ok(Tensor::cat(
            &[&others, &of_policy.broadcast_maximum(reached)?],
            1,
        )?)
    }

    /// P_i(s) (2, B) of values (2, 1 + M, B), the data's action first, and log-densities (M, B) of the others.
    fn penalised(&self, q: &Tensor, log_probs: &Tensor) -> Result<Tensor> {
        let proposed = q.narrow(1, 1, log_probs.dim(0)?)?; // (2, M, B)
        let t = self.config.penalty_temperature;
        let soft_max = |q: &Tensor| Ok((logsumexp(&(q / t)?)? * t)?);
        match self.config.penalty {
            Penalty::ImportanceSampled => soft_max(&proposed.broadcast_sub(log_probs)?),
            Penalty::Logsumexp => soft_max(q),
            Penalty::PolicyMean => Ok(proposed.mean(1)?),
        }
    }

    /// Σ_i mean (Q_i(s, a) - y)² + α mean (P_i(s) - Q_i(s, a)); and the multiplier's loss, if there is one.
    fn critic_losses(
        &self,
        batch: &Batch,
        draws: &CqlDraws,
        temperature: &Tensor,
        metrics: &mut Metrics,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let config = &self.config;
        let target = self.target(batch, &draws.next, temperature)?; // (B)
        let (proposed, log_probs) = self.proposals(batch, draws)?; // (M, B, A), (M, B)
        let actions = Tensor::cat(&[&batch.actions.unsqueeze(0)?, &proposed], 0)?;
        let q = values(&self.critics.net, &batch.observations, &actions)?; // (2, 1 + M, B)
        let on_data = q.narrow(1, 0, 1)?.squeeze(1)?; // (2, B)
        let errors = on_data.broadcast_sub(&target)?;
        let td_loss = errors.sqr()?.mean(D::Minus1)?.sum_all()?;

        let q = match &batch.monte_carlo_returns {
            Some(reached) if config.calibrate => self.calibrated(&q, reached)?,
            _ => q,
        };
        let gaps = (self.penalised(&q, &log_probs)? - &on_data)?; // (2, B)
        let (low, high) = config.gap_range();
        let gaps = clamp(&gaps, low, high)?.mean(D::Minus1)?; // (2)
        metrics.push("gap", &gaps.mean_all()?);
        let (penalty, multiplier_loss) = match (&self.lagrange, config.lagrange_gap) {
            (Some(log), Some(gap)) => {
                let multiplier = clamp(&log.net.value.exp()?, 0.0, MAX_MULTIPLIER)?; // (1)
                let excess = ((gaps - gap)?.sum_all()? * config.alpha)?;
                let loss = (multiplier.squeeze(0)? * excess.detach())?;
                let penalty = (excess * multiplier.squeeze(0)?.detach())?;
                metrics.push("multiplier", &multiplier.squeeze(0)?);
                (penalty, Some((loss * -0.5)?))
            }
            _ => ((gaps.sum_all()? * config.alpha)?, None),
        };
        let loss = (&td_loss + &penalty)?;
        metrics.push("critic_loss", &loss);
        metrics.push("td_loss", &td_loss);
        metrics.push("penalty", &penalty);
        metrics.push("q_mean", &on_data.mean_all()?);
        Ok((loss, multiplier_loss))
    }
}

/// Values (N, M, B) of actions (M, B, A) at observations (B, O).
fn values(critics: &Critics, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
    let (m, b, a) = actions.dims3()?;
    let o = observations.dim(1)?;
    let observations = observations.unsqueeze(0)?.expand((m, b, o))?;
    let observations = observations.reshape((m * b, o))?;
    let q = critics.forward(&observations, &actions.reshape((m * b, a))?)?; // (N, M B)
    Ok(q.reshape(((), m, b))?)
}

/// ln Σ exp over the middle dimension of (N, M, B), without overflow: (N, B).
fn logsumexp(x: &Tensor) -> Result<Tensor> {
    let largest = x.detach().max_keepdim(1)?; // (N, 1, B)
    let sum = x.broadcast_sub(&largest)?.exp()?.sum(1)?;
    Ok((sum.log()? + largest.squeeze(1)?)?)
}

impl Learner for Cql {
    type Draws = CqlDraws;

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let own = |of: &Tensor, dim| of.narrow(dim, rows.start, rows.len());
        Ok(CqlDraws {
            policy: own(&draws.policy, 0)?,
            next: own(&draws.next, 1)?,
            random: own(&draws.random, 1)?,
            current: own(&draws.current, 1)?,
            following: own(&draws.following, 1)?,
        })
    }

    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<CqlDraws> {
        let (dtype, device) = (self.actor.params.dtype(), self.actor.params.device());
        let (n, a) = (self.config.actions, self.critics.config.action_dim);
        let mut normals = |count: usize| rng.normal_tensor((count, rows, a), dtype, device);
        let next = if self.config.max_backup { n } else { 1 };
        Ok(CqlDraws {
            policy: normals(1)?.squeeze(0)?,
            next: normals(next)?,
            current: normals(n)?,
            following: normals(n)?,
            random: rng.uniform_tensor(-1.0, 1.0, (n, rows, a), dtype, device)?,
        })
    }

    fn update(&mut self, batch: &Batch, draws: &CqlDraws) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        let (actor_rate, critic_rate) = (
            self.config.actor_learning_rate,
            self.config.critic_learning_rate,
        );
        let temperature = self.temperature()?;
        let (actor_loss, log_prob) =
            self.actor_loss(batch, &draws.policy, &temperature, &mut metrics)?;
        let (critic_loss, multiplier_loss) =
            self.critic_losses(batch, draws, &temperature, &mut metrics)?;

        if let (Some(multiplier), Some(loss)) = (&mut self.lagrange, multiplier_loss) {
            metrics.push("multiplier_loss", &loss);
            multiplier.minimize(&loss, critic_rate)?;
        }
        if let Some(temperature) = &mut self.temperature {
            let log = temperature.net.value.squeeze(0)?;
            let loss = (log * (log_prob + self.target_entropy)?)?.neg()?;
            metrics.push("temperature_loss", &loss);
            temperature.minimize(&loss, actor_rate)?;
        }
        // The actor's gradient passes the critics: its step comes before theirs.
        self.actor.minimize(&actor_loss, actor_rate)?;
        self.critics.minimize(&critic_loss, critic_rate)?;
        self.updates += 1;
        if self.updates.is_multiple_of(self.config.target_every) {
            self.target_critics
                .follow(&self.critics, self.config.target_rate)?;
        }
        Ok(metrics)
    }

    fn act(&self) -> Result<ActionFn> {
        self.actor.act()
    }

    fn explorer(&self) -> Explorer<'_> {
        Explorer::Drawn(&self.actor)
    }

    /// As the published scripts of Cal-QL.
    fn mixing(&self) -> Mixing {
        if self.config.calibrate {
            Mixing::RoundedDown(0.5)
        } else {
            Mixing::Uniform
        }
    }

    fn collects_episodes(&self) -> bool {
        self.config.calibrate
    }

    fn critics(&self) -> Option<&Critics> {
        Some(&self.critics.detached)
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)?;
        self.critics.visit(visitor)?;
        self.target_critics.visit(visitor)?;
        if let Some(temperature) = &mut self.temperature {
            temperature.visit(visitor)?;
        }
        if let Some(lagrange) = &mut self.lagrange {
            lagrange.visit(visitor)?;
        }
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }

    fn passes(&self) -> Vec<Passes> {
        let n = self.config.actions as f64;
        let next = if self.config.max_backup { n } else { 1.0 };
        let looked_at = match self.config.penalty {
            Penalty::PolicyMean => n,
            _ => 3.0 * n,
        };
        vec![
            // Samples at s' twice and at s.
            work::tanh_gaussian_actor(&self.actor.config)
                .forward(3.0)
                .train(1.0),
            work::critics(&self.critics.config)
                .forward(next)
                .train(1.0 + looked_at)
                .through(1.0),
        ]
    }
}
