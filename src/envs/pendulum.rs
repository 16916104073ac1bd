//! `pendulum-v1`: swing up a pendulum with a weak motor, Gymnasium's exact equations.
//!
//! Source: Gymnasium 0.29.1, `classic_control/pendulum.py` (g = 10, m = l = 1, dt = 0.05). The
//! state is kept in f64; observations (cos, sin, angular velocity) are f32 as there. Actions are
//! torques in ±2, so a policy has to know the environment's bounds. Never terminates.

use trajformer_core::dataset::ActionKind;
use trajformer_core::environment::{EnvSpec, Environment, Step};
use trajformer_core::environment::{check_action, check_observation};
use trajformer_core::error::Result;
use trajformer_models::rng::Rng;

const MAX_SPEED: f64 = 8.0;
const MAX_TORQUE: f64 = 2.0;
const SECONDS_PER_STEP: f64 = 0.05;
const GRAVITY: f64 = 10.0;

/// The pendulum. Reward: -(angle² + 0.1 velocity² + 0.001 torque²), at most 0; 0 is upright.
#[derive(Debug, Clone)]
pub struct Pendulum {
    spec: EnvSpec,
    angle: f64,
    velocity: f64,
    steps: usize,
}

/// The pendulum as an environment; there is one, whatever `name` says.
pub(super) fn make(_name: &str) -> Result<Box<dyn Environment>> {
    Ok(Box::new(Pendulum::new()))
}

impl Default for Pendulum {
    fn default() -> Self {
        Self::new()
    }
}

impl Pendulum {
    /// Hanging still, upright; [`Environment::reset`] draws a start.
    pub fn new() -> Self {
        let spec = EnvSpec {
            name: "pendulum-v1".to_owned(),
            observation_dim: 3,
            action_dim: 1,
            action_kind: ActionKind::Continuous,
            action_low: vec![-MAX_TORQUE as f32],
            action_high: vec![MAX_TORQUE as f32],
            max_episode_steps: 200,
        };
        Self {
            spec,
            angle: 0.0,
            velocity: 0.0,
            steps: 0,
        }
    }

    /// Angle from upright in radians, not wrapped, and angular velocity in radians per second.
    pub fn state(&self) -> (f64, f64) {
        (self.angle, self.velocity)
    }

    /// Replaces angle and angular velocity and starts counting steps anew.
    pub fn set_state(&mut self, angle: f64, velocity: f64) {
        (self.angle, self.velocity, self.steps) = (angle, velocity, 0);
    }

    /// Applies a torque and returns the reward, both in f64.
    pub fn apply(&mut self, torque: f64) -> f64 {
        let torque = torque.clamp(-MAX_TORQUE, MAX_TORQUE);
        let wrapped = wrap_angle(self.angle);
        let cost =
            wrapped * wrapped + 0.1 * self.velocity * self.velocity + 0.001 * (torque * torque);
        let acceleration = 3.0 * GRAVITY / 2.0 * self.angle.sin() + 3.0 * torque;
        let velocity = self.velocity + acceleration * SECONDS_PER_STEP;
        self.velocity = velocity.clamp(-MAX_SPEED, MAX_SPEED);
        self.angle += self.velocity * SECONDS_PER_STEP;
        -cost
    }

    fn observation(&self) -> Vec<f32> {
        vec![
            self.angle.cos() as f32,
            self.angle.sin() as f32,
            self.velocity as f32,
        ]
    }
}

/// The angle in [-pi, pi).
fn wrap_angle(angle: f64) -> f64 {
    use std::f64::consts::{PI, TAU};
    (angle + PI).rem_euclid(TAU) - PI
}

impl Environment for Pendulum {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Angle uniform in ±pi, velocity uniform in ±1.
    fn reset(&mut self, seed: u64) -> Result<Vec<f32>> {
        let mut rng = Rng::from_seed(seed);
        let angle = (2.0 * rng.uniform() - 1.0) * std::f64::consts::PI;
        self.set_state(angle, 2.0 * rng.uniform() - 1.0);
        Ok(self.observation())
    }

    fn fork(&self) -> Option<Box<dyn Environment>> {
        Some(Box::new(self.clone()))
    }

    fn reset_to(&mut self, observation: &[f32]) -> Result<Option<Vec<f32>>> {
        check_observation(&self.spec, observation)?;
        let [cos, sin, velocity] = [0, 1, 2].map(|index| f64::from(observation[index]));
        self.set_state(sin.atan2(cos), velocity);
        Ok(Some(self.observation()))
    }

    fn step(&mut self, action: &[f32]) -> Result<Step> {
        check_action(&self.spec, action)?;
        let reward = self.apply(f64::from(action[0])) as f32;
        self.steps += 1;
        let truncated = self.steps >= self.spec.max_episode_steps;
        Ok(Step {
            observation: self.observation(),
            reward,
            terminated: false,
            truncated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_wrap_into_half_open_pi() {
        use std::f64::consts::PI;
        assert_eq!(wrap_angle(PI), -PI);
        assert!((wrap_angle(-3.5 * PI) - 0.5 * PI).abs() < 1e-12);
    }

    #[test]
    fn an_episode_is_truncated_after_200_steps_and_never_terminates() {
        let mut env = Pendulum::new();
        env.reset(0).expect("reset");
        for step in 1..=200 {
            let after = env.step(&[5.0]).expect("step");
            assert_eq!(
                (after.terminated, after.truncated),
                (false, step == 200),
                "step {step}"
            );
            assert!(after.reward <= 0.0 && after.observation[2].abs() <= 8.0);
        }
    }
}
