//! `acrobot-v1`: swing the tip of two hanging links above a line with a motor in the joint between them, Gymnasium's exact equations.
//!
//! Source: Gymnasium 1.4.0, `classic_control/acrobot.py`, the same as in 0.29.1, with the equations of Sutton & Barto's book, without noise. The
//! state is kept in f64 (starts are rounded to f32 as there) and moved by one step of the classical Runge-Kutta method; observations
//! (cos and sin of both angles, both angular velocities) are f32. Actions are choices: torques of -1, 0 and 1.

use std::f64::consts::PI;

use trajformer_core::environment::{EnvSpec, Environment, Step};
use trajformer_core::environment::{check_action, check_observation};
use trajformer_core::error::Result;
use trajformer_models::rng::Rng;

const SECONDS_PER_STEP: f64 = 0.2;
const GRAVITY: f64 = 9.8;
/// Of both links: lengths and masses of 1, centers of mass in the middle, moments of inertia of 1.
const LENGTH: f64 = 1.0;
const MASS: f64 = 1.0;
const CENTER: f64 = 0.5;
const INERTIA: f64 = 1.0;
const FASTEST: [f64; 2] = [4.0 * PI, 9.0 * PI];
/// Starts are within this of 0, in every number of the state.
const START: f64 = 0.1;

/// Both links. Reward -1 in every step, 0 in the one that brings the tip above the line, where it ends; it is truncated after 500 steps.
#[derive(Debug, Clone)]
pub struct Acrobot {
    spec: EnvSpec,
    state: [f64; 4],
    steps: usize,
}

/// The links as an environment; there is one pair, whatever `name` says.
pub(super) fn make(_name: &str) -> Result<Box<dyn Environment>> {
    Ok(Box::new(Acrobot::new()))
}

impl Default for Acrobot {
    fn default() -> Self {
        Self::new()
    }
}

impl Acrobot {
    /// Hanging still; [`Environment::reset`] draws a start.
    pub fn new() -> Self {
        Self {
            spec: EnvSpec::of_choices("acrobot-v1", 6, 3, 500),
            state: [0.0; 4],
            steps: 0,
        }
    }

    /// Angle of the first link from hanging down, angle of the second from the first, both in ±π; their angular velocities.
    pub fn state(&self) -> [f64; 4] {
        self.state
    }

    /// Replaces the state and starts counting steps anew.
    pub fn set_state(&mut self, state: [f64; 4]) {
        (self.state, self.steps) = (state, 0);
    }

    /// Applies a torque for one step, and returns whether that was the end.
    pub fn apply(&mut self, torque: f64) -> bool {
        let moved = runge_kutta(self.state, torque);
        let bound = |velocity: f64, most: f64| velocity.clamp(-most, most);
        self.state = [
            wrapped(moved[0]),
            wrapped(moved[1]),
            bound(moved[2], FASTEST[0]),
            bound(moved[3], FASTEST[1]),
        ];
        let [first, second, ..] = self.state;
        -first.cos() - (second + first).cos() > 1.0
    }

    fn observation(&self) -> Vec<f32> {
        let [first, second, turning, bending] = self.state;
        let numbers = [
            first.cos(),
            first.sin(),
            second.cos(),
            second.sin(),
            turning,
            bending,
        ];
        numbers.map(|number| number as f32).to_vec()
    }
}

/// The angle, turned by whole circles into ±π.
fn wrapped(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}

/// How the state changes per second.
fn slopes([first, second, turning, bending]: [f64; 4], torque: f64) -> [f64; 4] {
    // The order of operations is Gymnasium's.
    let arm = LENGTH * CENTER;
    let d1 = MASS * (CENTER * CENTER)
        + MASS * (LENGTH * LENGTH + CENTER * CENTER + 2.0 * LENGTH * CENTER * second.cos())
        + INERTIA
        + INERTIA;
    let d2 = MASS * (CENTER * CENTER + arm * second.cos()) + INERTIA;
    let phi2 = MASS * CENTER * GRAVITY * (first + second - PI / 2.0).cos();
    let phi1 = -MASS * arm * (bending * bending) * second.sin()
        - 2.0 * MASS * arm * bending * turning * second.sin()
        + (MASS * CENTER + MASS * LENGTH) * GRAVITY * (first - PI / 2.0).cos()
        + phi2;
    let pull = MASS * arm * (turning * turning) * second.sin();
    let bend = (torque + d2 / d1 * phi1 - pull - phi2)
        / (MASS * (CENTER * CENTER) + INERTIA - d2 * d2 / d1);
    let turn = -(d2 * bend + phi1) / d1;
    [turning, bending, turn, bend]
}

/// The state after one step.
fn runge_kutta(state: [f64; 4], torque: f64) -> [f64; 4] {
    let along = |slopes: [f64; 4], seconds: f64| -> [f64; 4] {
        std::array::from_fn(|i| state[i] + seconds * slopes[i])
    };
    let half = SECONDS_PER_STEP / 2.0;
    let k1 = slopes(state, torque);
    let k2 = slopes(along(k1, half), torque);
    let k3 = slopes(along(k2, half), torque);
    let k4 = slopes(along(k3, SECONDS_PER_STEP), torque);
    let sixth = SECONDS_PER_STEP / 6.0;
    std::array::from_fn(|i| state[i] + sixth * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]))
}

impl Environment for Acrobot {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Every number of the state uniform in ±0.1, rounded to f32.
    fn reset(&mut self, seed: u64) -> Result<Vec<f32>> {
        let mut rng = Rng::from_seed(seed);
        let start = [(); 4].map(|()| START * (2.0 * rng.uniform() - 1.0));
        self.set_state(start.map(|number| f64::from(number as f32)));
        Ok(self.observation())
    }

    fn fork(&self) -> Option<Box<dyn Environment>> {
        Some(Box::new(self.clone()))
    }

    fn reset_to(&mut self, observation: &[f32]) -> Result<Option<Vec<f32>>> {
        check_observation(&self.spec, observation)?;
        let at = |index: usize| f64::from(observation[index]);
        self.set_state([at(1).atan2(at(0)), at(3).atan2(at(2)), at(4), at(5)]);
        Ok(Some(self.observation()))
    }

    fn step(&mut self, action: &[f32]) -> Result<Step> {
        check_action(&self.spec, action)?;
        let terminated = self.apply(f64::from(action[0]) - 1.0);
        self.steps += 1;
        Ok(Step {
            observation: self.observation(),
            reward: if terminated { 0.0 } else { -1.0 },
            terminated,
            truncated: self.steps >= self.spec.max_episode_steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_wrap_by_whole_circles() {
        assert_eq!(wrapped(PI), PI);
        assert!((wrapped(3.5 * PI) + 0.5 * PI).abs() < 1e-12);
        assert!((wrapped(-3.5 * PI) - 0.5 * PI).abs() < 1e-12);
    }

    #[test]
    fn links_that_hang_still_stay_so_until_500_steps_are_over() {
        let mut env = Acrobot::new();
        for step in 1..=500 {
            let after = env.step(&[1.0]).expect("no torque");
            let ends = (after.terminated, after.truncated);
            assert_eq!(ends, (false, step == 500), "step {step}");
            assert_eq!(after.reward, -1.0);
        }
        assert!(env.state()[0].abs() < 1e-9);
    }
}
