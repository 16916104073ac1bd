//! `cartpole-v1`: keep a pole upright on a cart by pushing it left or right, Gymnasium's exact equations.
//!
//! Source: Gymnasium 1.4.0, `classic_control/cartpole.py`, the same as in 0.29.1 (Barto, Sutton & Anderson 1983). The state is kept in
//! f64 and moved by Euler's method; observations (place, speed, angle, angular speed) are f32 as there. Actions are choices: 0 pushes
//! left, 1 right.

use trajformer_core::environment::{EnvSpec, Environment, Step};
use trajformer_core::environment::{check_action, check_observation};
use trajformer_core::error::Result;
use trajformer_models::rng::Rng;

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + 1.0;
/// Half of the pole's length.
const LENGTH: f64 = 0.5;
const FORCE: f64 = 10.0;
const SECONDS_PER_STEP: f64 = 0.02;
const FARTHEST: f64 = 2.4;
/// Twelve degrees.
const STEEPEST: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
/// Starts are within this of 0, in every number of the state.
const START: f64 = 0.05;

/// The cart with its pole. Reward 1 in every step, the last one included; it ends when the cart is more than 2.4 from the middle or the
/// pole more than 12 degrees from upright, and after 500 steps.
#[derive(Debug, Clone)]
pub struct CartPole {
    spec: EnvSpec,
    state: [f64; 4],
    steps: usize,
}

/// The cart as an environment; there is one, whatever `name` says.
pub(super) fn make(_name: &str) -> Result<Box<dyn Environment>> {
    Ok(Box::new(CartPole::new()))
}

impl Default for CartPole {
    fn default() -> Self {
        Self::new()
    }
}

impl CartPole {
    /// Upright in the middle; [`Environment::reset`] draws a start.
    pub fn new() -> Self {
        Self {
            spec: EnvSpec::of_choices("cartpole-v1", 4, 2, 500),
            state: [0.0; 4],
            steps: 0,
        }
    }

    /// Place, speed, angle from upright in radians, angular speed.
    pub fn state(&self) -> [f64; 4] {
        self.state
    }

    /// Replaces the state and starts counting steps anew.
    pub fn set_state(&mut self, state: [f64; 4]) {
        (self.state, self.steps) = (state, 0);
    }

    /// Pushes right or left for one step, and returns whether that was the end.
    pub fn push(&mut self, right: bool) -> bool {
        let [place, speed, angle, turning] = self.state;
        let force = if right { FORCE } else { -FORCE };
        let (sin, cos) = (angle.sin(), angle.cos());
        let pole = POLE_MASS * LENGTH;
        let temp = (force + pole * (turning * turning) * sin) / TOTAL_MASS;
        let turn = (GRAVITY * sin - cos * temp)
            / (LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS));
        let push = temp - pole * turn * cos / TOTAL_MASS;
        self.state = [
            place + SECONDS_PER_STEP * speed,
            speed + SECONDS_PER_STEP * push,
            angle + SECONDS_PER_STEP * turning,
            turning + SECONDS_PER_STEP * turn,
        ];
        self.state[0].abs() > FARTHEST || self.state[2].abs() > STEEPEST
    }

    fn observation(&self) -> Vec<f32> {
        self.state.iter().map(|&number| number as f32).collect()
    }
}

impl Environment for CartPole {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Every number of the state uniform in ±0.05.
    fn reset(&mut self, seed: u64) -> Result<Vec<f32>> {
        let mut rng = Rng::from_seed(seed);
        self.set_state([(); 4].map(|()| START * (2.0 * rng.uniform() - 1.0)));
        Ok(self.observation())
    }

    fn fork(&self) -> Option<Box<dyn Environment>> {
        Some(Box::new(self.clone()))
    }

    fn reset_to(&mut self, observation: &[f32]) -> Result<Option<Vec<f32>>> {
        check_observation(&self.spec, observation)?;
        let mut state = [0.0; 4];
        for (number, seen) in state.iter_mut().zip(observation) {
            *number = f64::from(*seen);
        }
        self.set_state(state);
        Ok(Some(self.observation()))
    }

    fn step(&mut self, action: &[f32]) -> Result<Step> {
        check_action(&self.spec, action)?;
        let terminated = self.push(action[0] == 1.0);
        self.steps += 1;
        Ok(Step {
            observation: self.observation(),
            reward: 1.0,
            terminated,
            truncated: self.steps >= self.spec.max_episode_steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_is_no_choice_is_refused() {
        let mut env = CartPole::new();
        env.reset(0).expect("reset");
        for action in [-1.0, 0.5, 2.0, f32::NAN] {
            let problem = env.step(&[action]).expect_err("no choice").to_string();
            assert!(problem.contains("cartpole-v1"), "{problem}");
            assert!(problem.contains("expected"), "{problem}");
        }
        assert_eq!(env.step(&[1.0]).expect("a choice").reward, 1.0);
    }

    #[test]
    fn an_episode_is_truncated_after_500_steps_where_the_pole_stands() {
        let mut env = CartPole::new();
        env.reset(3).expect("reset");
        for step in 1..=500 {
            // Towards where the pole falls: angle and angular speed decide.
            let [.., angle, turning] = env.state();
            let right = f32::from(u8::from(angle + 0.5 * turning > 0.0));
            let after = env.step(&[right]).expect("step");
            let ends = (after.terminated, after.truncated);
            assert_eq!(ends, (false, step == 500), "step {step}");
        }
    }
}
