//! [`Policy`]: something that acts, for a batch of episodes at once. Here are also the behaviors that
//! data is collected with; trained policies come from their algorithms.

use std::sync::Arc;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::planning::PlanningSummary;
use trajformer_models::rng::Rng;

/// What one row of a batch of episodes starts with.
#[derive(Debug, Clone)]
pub struct EpisodeStart {
    /// The row's own random stream: results don't depend on the other rows.
    pub rng: Rng,
    /// Return to aim at, in the environment's units; `None` for the policy's default.
    pub target_return: Option<f32>,
    /// Observation to reach (O), for policies that were trained with goals.
    pub goal: Option<Vec<f32>>,
    /// What to do, in words, for policies that were trained with instructions.
    pub instruction: Option<Arc<str>>,
}

impl EpisodeStart {
    /// With this random stream; the policy aims at its own target, and no goal or instruction is given.
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            target_return: None,
            goal: None,
            instruction: None,
        }
    }
}

/// A plan in the data's units: what the model expects to happen. W sequences, best first.
#[derive(Debug, Clone)]
pub struct Imagined {
    /// (W, horizon, O).
    pub observations: Tensor,
    /// (W, horizon, A).
    pub actions: Tensor,
    /// Rewards as sampled (W, horizon). The search itself counts what the distributions predict.
    pub rewards: Tensor,
    /// Values as sampled (W, horizon), in the same way.
    pub values: Tensor,
    /// What the search maximised (W).
    pub scores: Vec<f64>,
}

/// A behaviour that carries all it needs: networks, normaliser, action bounds, planner settings.
///
/// Rows are independent: finished ones are masked, and what a row does never depends on how many
/// run beside it: on the CPU to the last bit.
pub trait Policy: Send {
    /// Starts one episode per element.
    ///
    /// # Errors
    /// If a start asks for what the policy can't do.
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()>;

    /// Actions (E, A) in the environment's units for observations (E, O), f32 on the CPU. Rows with
    /// `active[row] == false` have ended: their observation is ignored, their action is anything.
    ///
    /// # Errors
    /// If shapes do not fit or the network fails.
    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor>;

    /// Tells what was done (E, A) after [`act`](Self::act), in the environment's units, where that is something else than what the
    /// policy said: it remembers this in its own action's place. Before [`observe`](Self::observe).
    ///
    /// # Errors
    /// If the shape does not fit.
    fn took(&mut self, actions: &Tensor) -> Result<()> {
        let _ = actions;
        Ok(())
    }

    /// A step of the past, in all rows: observations (E, O), what was done (E, A) and the rewards (E) that followed. The policy remembers it and
    /// need not say what it would have done.
    ///
    /// # Errors
    /// As [`act`](Self::act).
    fn recall(&mut self, observations: &Tensor, actions: &Tensor, rewards: &[f32]) -> Result<()> {
        self.act(observations, &vec![true; rewards.len()])?;
        self.took(actions)?;
        self.observe(rewards)
    }

    /// Tells the rewards (E) that followed the last actions; 0 for ended rows.
    ///
    /// # Errors
    /// If the length does not fit.
    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        let _ = rewards;
        Ok(())
    }

    /// What the policy expected of row `row` when it last planned; `None` for policies that do not
    /// plan.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn imagined(&self, row: usize) -> Result<Option<Imagined>> {
        let _ = row;
        Ok(None)
    }

    /// What its plans were since the episodes began, if each had a budget; `None` for policies that plan without one, or not at all.
    fn planning(&self) -> Option<PlanningSummary> {
        None
    }

    /// Plans once more from where the last plans were made, with the draws that they had and without a budget, and keeps what both
    /// promised for [`planning`](Self::planning). Nothing that it does later changes. Takes as long as such plans do, so nobody may wait for
    /// an action meanwhile.
    ///
    /// # Errors
    /// If the network fails.
    fn compare_plans(&mut self) -> Result<()> {
        Ok(())
    }

    /// The return that an episode aims at if it is told none: the first of [`Self::target_returns`], or one that the policy took from its
    /// data. `None` of policies that aim at none.
    fn usual_target(&self) -> Option<f32> {
        self.target_returns().first().copied()
    }

    /// Returns that an evaluation tries, each with its own episodes; the first is the result. Empty
    /// for policies that aim at no return.
    fn target_returns(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Whether an action depends on the present observation alone, and on chance where it [draws](Self::draws): not on
    /// earlier observations, rewards or a plan.
    fn is_memoryless(&self) -> bool {
        false
    }

    /// Whether an action depends on chance: on the row's random stream.
    fn draws(&self) -> bool {
        false
    }

    /// Whether every episode needs a goal: see [`EpisodeStart::goal`].
    fn needs_goal(&self) -> bool {
        false
    }

    /// Whether every episode needs an instruction: see [`EpisodeStart::instruction`].
    fn needs_instruction(&self) -> bool {
        false
    }
}

/// Fails if observations have another number of rows than episodes were begun.
///
/// # Errors
/// [`Error::Shape`] with both numbers.
pub fn check_rows(begun: usize, found: usize) -> Result<()> {
    if begun == found {
        return Ok(());
    }
    Err(Error::shape(
        "policy: observations",
        format_args!("{found} rows"),
        format_args!("{begun}, one for each episode that was begun"),
    ))
}
