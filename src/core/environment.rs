//! [`Environment`]: where a policy is scored, as a trait; those that are built in are not here.

use crate::dataset::ActionKind;
use crate::error::{Error, Result};

/// What an environment looks like from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvSpec {
    /// Registered name, e.g. `hopper-v4`.
    pub name: String,
    /// Numbers in an observation (O).
    pub observation_dim: usize,
    /// Numbers in an action (A); 1 of a choice.
    pub action_dim: usize,
    /// Whether an action is a vector of real numbers or a choice.
    pub action_kind: ActionKind,
    /// Lowest action (A); 0 of a choice.
    pub action_low: Vec<f32>,
    /// Highest action (A); of a choice one less than there are.
    pub action_high: Vec<f32>,
    /// Episodes are truncated after this many steps.
    pub max_episode_steps: usize,
}

impl EnvSpec {
    /// An environment whose actions are choices among `count`.
    pub fn of_choices(
        name: &str,
        observation_dim: usize,
        count: usize,
        max_episode_steps: usize,
    ) -> Self {
        Self {
            name: name.to_owned(),
            observation_dim,
            action_dim: 1,
            action_kind: ActionKind::Discrete { count },
            action_low: vec![0.0],
            action_high: vec![count.saturating_sub(1) as f32],
            max_episode_steps,
        }
    }

    /// Fails unless a policy can act here that was made for observations and actions of these numbers and this kind; `whose` says
    /// what that is, e.g. `the data`.
    ///
    /// # Errors
    /// [`Error::Dimensions`] with both.
    pub fn check_fits(
        &self,
        (observation_dim, action_dim): (usize, usize),
        action_kind: ActionKind,
        whose: &str,
    ) -> Result<()> {
        let (found, expected) = (
            (self.observation_dim, self.action_dim),
            (observation_dim, action_dim),
        );
        if found == expected && action_kind.acts_in(self.action_kind) {
            return Ok(());
        }
        Err(Error::Dimensions {
            problem: format!(
                "environment `{}`: it has {} observations and {}, {whose} has {observation_dim} and {}; choose the \
                 environment that the data comes from (`evaluate.env`)",
                self.name,
                self.observation_dim,
                self.action_kind.said(self.action_dim),
                action_kind.said(action_dim)
            ),
            found,
            expected,
        })
    }
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

    /// Applies an action (A), in the environment's units. What lies outside the bounds is clamped; a choice is never changed.
    ///
    /// # Errors
    /// If the action has the wrong length, is not finite or is no such choice, or the simulator fails.
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

/// Fails unless `action` has one finite number per dimension of the environment, or is one of its choices.
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
    } else if let Some(count) = spec.action_kind.choices()
        && !is_choice(action[0], count)
    {
        format!(
            "the action is {}, expected a whole number in 0..{count}",
            action[0]
        )
    } else {
        return Ok(());
    };
    Err(Error::Env {
        name: spec.name.clone(),
        problem,
    })
}

/// Whether `action` is one of `count` choices: a whole number in 0..count.
pub fn is_choice(action: f32, count: usize) -> bool {
    action.fract() == 0.0 && action >= 0.0 && (action as usize) < count
}
