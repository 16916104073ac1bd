//! [`Environment`]: where a policy is scored, as a trait; those that are built in are not here.

use crate::error::{Error, Result};

/// What an environment looks like from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvSpec {
    /// Registered name, e.g. `hopper-v4`.
    pub name: String,
    /// Numbers in an observation (O).
    pub observation_dim: usize,
    /// Numbers in an action (A).
    pub action_dim: usize,
    /// Lowest action (A).
    pub action_low: Vec<f32>,
    /// Highest action (A).
    pub action_high: Vec<f32>,
    /// Episodes are truncated after this many steps.
    pub max_episode_steps: usize,
}

/// What follows an action.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Observation after the action (O).
    pub observation: Vec<f32>,
    /// Reward of the action.
    pub reward: f32,
    /// The task ended (fell over, goal reached).
    pub terminated: bool,
    /// The time limit was reached.
    pub truncated: bool,
}

/// One copy of a simulated task.
pub trait Environment: Send {
    /// What it looks like.
    fn spec(&self) -> &EnvSpec;

    /// Starts an episode; the same seed gives the same start and the same randomness after it.
    ///
    /// # Errors
    /// If the simulator fails.
    fn reset(&mut self, seed: u64) -> Result<Vec<f32>>;

    /// Applies an action (A), in the environment's units. What lies outside the bounds is clamped.
    ///
    /// # Errors
    /// If the action has the wrong length or is not finite, or the simulator fails.
    fn step(&mut self, action: &[f32]) -> Result<Step>;

    /// A copy in the present state of the running episode, which goes on as this one would, to the last bit; `None` where the
    /// simulator can't be copied.
    fn fork(&self) -> Option<Box<dyn Environment>> {
        None
    }

    /// Starts an episode in the state that an observation (O) shows; what it does not show is as at a start without noise.
    /// `None` where the simulator can't be set or the observation does not tell enough; else what is observed there.
    ///
    /// # Errors
    /// If the observation has the wrong length, or the state can't be.
    fn reset_to(&mut self, observation: &[f32]) -> Result<Option<Vec<f32>>> {
        let _ = observation;
        Ok(None)
    }

    /// Where the running episode is to lead, as an observation (O), for policies that were trained
    /// with goals. `None`, in every episode, if the task is no place to reach.
    fn goal(&self) -> Option<Vec<f32>> {
        None
    }

    /// What episodes can be asked to do, in words: the wordings that data is collected with. Empty if
    /// the task has no words.
    fn instructions(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the episodes that start from now on about `instruction`, which may be worded in another way
    /// than [`instructions`](Self::instructions). A task without words takes any, and stays what it is.
    ///
    /// # Errors
    /// If the task has words and these say nothing to it.
    fn instruct(&mut self, instruction: &str) -> Result<()> {
        let _ = instruction;
        Ok(())
    }
}

/// Fails unless `observation` has as many numbers as the environment's.
///
/// # Errors
/// [`Error::Env`] with both.
pub fn check_observation(spec: &EnvSpec, observation: &[f32]) -> Result<()> {
    if observation.len() == spec.observation_dim {
        return Ok(());
    }
    Err(Error::Env {
        name: spec.name.clone(),
        problem: format!(
            "got an observation of {} numbers to start at, expected {}",
            observation.len(),
            spec.observation_dim
        ),
    })
}

/// Fails unless `action` has one finite number per dimension of the environment.
///
/// # Errors
/// [`Error::Env`] that says which number is wrong.
pub fn check_action(spec: &EnvSpec, action: &[f32]) -> Result<()> {
    let problem = if action.len() != spec.action_dim {
        format!(
            "got an action of {} numbers, expected {}",
            action.len(),
            spec.action_dim
        )
    } else if let Some(i) = action.iter().position(|a| !a.is_finite()) {
        format!("action {i} is {}, expected a finite number", action[i])
    } else {
        return Ok(());
    };
    Err(Error::Env {
        name: spec.name.clone(),
        problem,
    })
}
