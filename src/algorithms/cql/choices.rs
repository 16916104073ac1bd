//! [`DiscreteCql`]: CQL of actions that are choices, a double deep Q-network with a penalty.
//!
//! The paper's form for Atari (section 6), which its authors built on a distributional network; here as takuseno/d3rlpy @ 38c34b6 has it
//! (`DiscreteCQL`, `algos/qlearning/torch/cql_impl.py`), with one Q-function of one value per choice:
//!
//! ```text
//! a*       = argmax_a Q(s', a)
//! y        = r + γ (1 - terminated) Q'(s', a*)
//! L(Q)     = mean h(Q(s, a) - y) + α mean (ln Σ_b exp Q(s, b) - Q(s, a)),  h(x) = ½ x² if |x| < 1, else |x| - ½
//! target  <- (1 - rate) target + rate online, every `target_every` updates
//! ```
//!
//! There is no actor: it acts by the largest value. Online it explores by ε-greedy choices, `online.noise` being ε (default 0.1), and goes
//! on with the same update. d3rlpy's target is a copy that is made every 8,000 updates (`target_rate = 1`,
//! `target_every = 8000`), its rate 6.25e-5 and its α 1; with the keys of `[algorithm.cql]` both are reached. First values of the
//! network are those of the critics of real numbers.

use std::ops::Range;

use candle_core::{D, Tensor};
use trajformer_models::choices::{ChoiceCritics, best, chosen, epsilon_greedy, logsumexp};
use trajformer_models::critic::CriticConfig;
use trajformer_models::params::StateVisitor;
use trajformer_models::rng::Rng;
use trajformer_models::work::{self, Passes};

use crate::offpolicy::{ActionFn, InitContext, Learner, Target, Trained};
use trajformer_core::error::{Error, Result};
use trajformer_core::metrics::Metrics;
use trajformer_data::batch::Batch;

/// Share of choices that it makes at random online, where `online.noise` says no other.
const EXPLORATION: f64 = 0.1;

/// Sizes and settings of a [`DiscreteCql`]: the keys of `[algorithm.cql]` that count for choices.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscreteCqlSettings {
    /// The Q-function: one member, whose `action_dim` is the number of choices.
    pub critics: CriticConfig,
    /// Weight α of the penalty.
    pub alpha: f64,
    /// Discount γ in [0, 1].
    pub discount: f64,
    /// Polyak rate of the target, in (0, 1].
    pub target_rate: f64,
    /// The target follows every so many updates.
    pub target_every: u64,
    /// Adam's rate.
    pub learning_rate: f64,
}

/// The Q-function of CQL over choices and its update.
pub struct DiscreteCql {
    settings: DiscreteCqlSettings,
    critics: Trained<ChoiceCritics>,
    target_critics: Target<ChoiceCritics>,
    updates: u64,
}

impl DiscreteCql {
    /// Makes the network; the target starts equal to it.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(settings: DiscreteCqlSettings, start: &mut InitContext<'_>) -> Result<Self> {
        let critics = Trained::new("critics", settings.critics.clone(), start)?;
        Ok(Self {
            settings,
            target_critics: Target::new(&critics)?,
            critics,
            updates: 0,
        })
    }

    /// y (B), without gradients.
    fn target(&self, batch: &Batch) -> Result<Tensor> {
        let observations = &batch.next_observations;
        let actions = best(&values(&self.critics.detached, observations)?)?; // (B, 1)
        let next_q = chosen(&values(self.target_critics.net()?, observations)?, &actions)?; // (B)
        let not_terminated = (1.0 - &batch.terminated)?;
        let future = ((next_q * not_terminated)? * self.settings.discount)?;
        Ok((&batch.rewards + future)?)
    }
}

/// Values (B, C) of all choices.
fn values(critics: &ChoiceCritics, observations: &Tensor) -> Result<Tensor> {
    Ok(critics.values(observations)?.squeeze(0)?)
}

/// Huber's loss of each error: half its square below 1 in size, its size less a half above.
fn huber(errors: &Tensor) -> Result<Tensor> {
    let sizes = errors.abs()?;
    let large = sizes.detach().ge(1.0)?.to_dtype(errors.dtype())?;
    let square = (errors.sqr()? * 0.5)?;
    let linear = (sizes - 0.5)?;
    Ok(((square * (1.0 - &large)?)? + (linear * large)?)?)
}

impl Learner for DiscreteCql {
    /// None: all choices are looked at.
    type Draws = ();

    const SHARES: bool = true;

    fn share(draws: Self::Draws, rows: &Range<usize>) -> Result<Self::Draws> {
        let ((), _) = (draws, rows);
        Ok(())
    }

    const CHOOSES: bool = true;

    fn draw(&self, _rows: usize, _rng: &mut Rng) -> Result<()> {
        Ok(())
    }

    fn update(&mut self, batch: &Batch, (): &()) -> Result<Metrics> {
        let target = self.target(batch)?; // (B)
        let q = values(&self.critics.net, &batch.observations)?; // (B, C)
        let on_data = chosen(&q, &batch.actions)?; // (B)
        let td_loss = huber(&(&on_data - target)?)?.mean_all()?;
        let gap = (logsumexp(&q)? - &on_data)?.mean_all()?;
        let penalty = (&gap * self.settings.alpha)?;
        let loss = (&td_loss + &penalty)?;
        self.critics.minimize(&loss, self.settings.learning_rate)?;
        self.updates += 1;
        if self.updates.is_multiple_of(self.settings.target_every) {
            self.target_critics
                .follow(&self.critics, self.settings.target_rate)?;
        }
        let mut metrics = Metrics::new();
        metrics.push("critic_loss", &loss);
        metrics.push("td_loss", &td_loss);
        metrics.push("penalty", &penalty);
        metrics.push("gap", &gap);
        metrics.push("q_mean", &on_data.mean(D::Minus1)?);
        Ok(metrics)
    }

    /// The choice with the largest value.
    fn act(&self) -> Result<ActionFn> {
        let critics = self.critics.snapshot()?;
        Ok(Box::new(move |observations| {
            Ok(best(&values(&critics, observations)?)?)
        }))
    }

    fn explore(
        &self,
        observation: &Tensor,
        normals: &Tensor,
        noise: Option<f64>,
    ) -> Result<Option<Tensor>> {
        let epsilon = noise.unwrap_or(EXPLORATION);
        if epsilon > 1.0 {
            let problem = format!(
                "online.noise: {epsilon}, but for CQL of choices it is the share of random ones: 0 to 1"
            );
            return Err(Error::settings(problem));
        }
        let values = values(&self.critics.detached, observation)?;
        Ok(Some(epsilon_greedy(&values, normals, epsilon)?))
    }

    fn has_critics(&self) -> bool {
        true
    }

    fn action_values(&self, observations: &Tensor, actions: &Tensor) -> Result<Option<Tensor>> {
        let values = self.critics.detached.values(observations)?; // (1, B, C)
        Ok(Some(chosen(&values, actions)?))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.critics.visit(visitor)?;
        self.target_critics.visit(visitor)?;
        Ok(visitor.counter("training.updates", &mut self.updates)?)
    }

    fn passes(&self) -> Vec<Passes> {
        vec![
            work::choice_critics(&self.critics.config)
                .forward(2.0)
                .train(1.0),
        ]
    }
}
