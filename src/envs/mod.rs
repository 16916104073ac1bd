//! Environments: where a policy is scored. Training never needs one.
//!
//! [`make`] builds one by name, [`VectorEnv`] steps several on threads, [`score`] turns returns
//! into D4RL's normalised score. An own simulator implements [`Environment`].

#[cfg(feature = "mujoco")]
pub mod mujoco;
pub mod pendulum;
pub mod pointmaze;
pub mod rooms;
pub mod score;
mod vector;
pub mod waypoint;

pub use score::{ReferenceReturns, normalized_score, reference_for};
pub use vector::{VectorEnv, VectorStep};

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

/// Environments that are always there.
const BUILT_IN: [&str; 5] = [
    "pointmaze-umaze",
    "pointmaze-medium",
    "pointmaze-large",
    "pointmaze-rooms",
    "pendulum-v1",
];

/// Environments of the feature `mujoco`.
const MUJOCO: [&str; 8] = [
    "hopper-v4",
    "hopper-v5",
    "halfcheetah-v4",
    "halfcheetah-v5",
    "walker2d-v4",
    "walker2d-v5",
    "ant-v4",
    "ant-v5",
];

/// Names that [`make`] takes in this build.
pub fn names() -> Vec<&'static str> {
    let mujoco: &[&str] = if cfg!(feature = "mujoco") {
        &MUJOCO
    } else {
        &[]
    };
    BUILT_IN.iter().chain(mujoco).copied().collect()
}

/// The environment called `name`; case does not matter (`Hopper-v4` is `hopper-v4`), the version
/// does.
///
/// ```
/// let mut env = trajformer::envs::make("pointmaze-umaze")?;
/// let observation = env.reset(0)?;
/// assert_eq!(observation.len(), env.spec().observation_dim);
/// let step = env.step(&[1.0, 0.0])?;
/// assert!(!step.terminated);
/// # Ok::<(), trajformer::Error>(())
/// ```
///
/// # Errors
/// If the name is unknown, or needs a feature that this build lacks, or its model can't be loaded.
pub fn make(name: &str) -> Result<Box<dyn Environment>> {
    let lower = name.to_ascii_lowercase();
    if let Some(layout) = pointmaze::Layout::named(&lower) {
        return Ok(Box::new(pointmaze::PointMaze::new(layout)));
    }
    if lower == "pendulum-v1" {
        return Ok(Box::new(pendulum::Pendulum::new()));
    }
    if MUJOCO.contains(&lower.as_str()) {
        return make_mujoco(&lower);
    }
    let mut problem = format!("unknown; this build has {}", names().join(", "));
    if !cfg!(feature = "mujoco") {
        problem.push_str(&format!(
            "; built with `--features mujoco` also {} (run tests/setup-mujoco once before)",
            MUJOCO.join(", ")
        ));
    }
    Err(Error::Env {
        name: name.to_owned(),
        problem,
    })
}

#[cfg(feature = "mujoco")]
fn make_mujoco(name: &str) -> Result<Box<dyn Environment>> {
    Ok(Box::new(mujoco::Mujoco::new(name)?))
}

#[cfg(not(feature = "mujoco"))]
fn make_mujoco(name: &str) -> Result<Box<dyn Environment>> {
    let problem = format!(
        "not in this build: run tests/setup-mujoco once, then build with `--features mujoco`; this \
         build has {}",
        names().join(", ")
    );
    Err(Error::Env {
        name: name.to_owned(),
        problem,
    })
}

/// Refuses an action of the wrong length, or one that is not finite.
fn check_action(spec: &EnvSpec, action: &[f32]) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_makes_an_environment_of_that_name() {
        for name in BUILT_IN {
            let mut env = make(name).expect(name);
            assert_eq!(env.spec().name, name);
            let observation = env.reset(1).expect("reset");
            assert_eq!(observation.len(), env.spec().observation_dim);
            assert_eq!(env.reset(1).expect("reset"), observation);
            let action = vec![0.5; env.spec().action_dim];
            assert_eq!(
                env.step(&action).expect("step").observation.len(),
                observation.len()
            );
        }
    }

    #[test]
    fn unknown_names_are_answered_with_the_known_ones() {
        let problem = make("hoper-v4").err().expect("unknown").to_string();
        assert!(problem.contains("`hoper-v4`"), "{problem}");
        assert!(
            problem.contains("pendulum-v1") && problem.contains("hopper-v5"),
            "{problem}"
        );
    }

    #[cfg(not(feature = "mujoco"))]
    #[test]
    fn an_environment_of_a_missing_feature_says_how_to_build_it() {
        let problem = make("Hopper-v4").err().expect("not built in").to_string();
        assert!(problem.contains("--features mujoco") && problem.contains("setup-mujoco"));
    }

    #[test]
    fn actions_of_wrong_length_or_value_are_refused() {
        let mut env = make("pointmaze-umaze").expect("built in");
        env.reset(0).expect("reset");
        for action in [vec![], vec![0.0; 3], vec![0.0, f32::NAN]] {
            let problem = env.step(&action).expect_err("bad action").to_string();
            assert!(problem.contains("pointmaze-umaze") && problem.contains("expected"));
        }
    }
}
