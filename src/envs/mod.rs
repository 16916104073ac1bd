//! Environments: where a policy is scored. Training never needs one.

use crate::error::Result;

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

    /// Applies an action (A), in the environment's units.
    ///
    /// # Errors
    /// If the action has the wrong length or is not finite, or the simulator fails.
    fn step(&mut self, action: &[f32]) -> Result<Step>;
}
