//! Hopper, HalfCheetah, Walker2d and Ant on real MuJoCo (feature `mujoco`), whose library is opened when the first robot is made.
//!
//! Source: Gymnasium 0.29.1, `envs/mujoco/*_v4.py`, and Gymnasium 1.4.0, `envs/mujoco/*_v5.py`, on
//! MuJoCo 3.3.7. Observations, rewards, healthy ranges, frame skip and the 1000-step limit are
//! theirs, step by step (tests/golden/gymnasium_rollouts.py). The reset noise has their distribution, drawn
//! from our own streams: the same seed gives another start than in Gymnasium.
//!
//! What -v5 changed: the healthy reward is paid only while healthy (-v4 pays it in the step that
//! falls as well); Walker2d has another model file (its right foot's friction); Ant observes the
//! contact forces and pays for them. As in Gymnasium, actions outside ±1 are clamped by the motors
//! but cost what was asked for, and Ant's speed is that of its torso's body frame, which MuJoCo
//! updates at the start of a substep.

mod layout;
mod library;
pub mod offscreen;
pub mod places;

use std::path::Path;

use self::library::{Data, Model};
use self::offscreen::{Offscreen, View};
use self::places::Places;
use trajformer_core::dataset::ActionKind;
use trajformer_core::environment::{EnvSpec, Environment, Step};
use trajformer_core::environment::{check_action, check_observation};
use trajformer_core::error::{Error, Result};
use trajformer_models::rng::Rng;

/// Which state counts as healthy; leaving it ends the episode.
#[derive(Debug, Clone, Copy)]
enum Healthy {
    /// Always.
    Always,
    /// Height qpos[1] and pitch qpos[2] within open intervals, and everything from qpos[2] on
    /// within ±`state`.
    Upright {
        height: (f64, f64),
        pitch: f64,
        state: f64,
    },
    /// Height qpos[2] within a closed interval, everything finite.
    Above { height: (f64, f64) },
}

/// What distinguishes the robots.
#[derive(Debug, Clone, Copy)]
struct Robot {
    model: &'static str,
    frame_skip: usize,
    /// Leading positions that are not observed: where along the track it is.
    hidden_positions: usize,
    /// Observed velocities are clamped to ± this.
    velocity_limit: f64,
    control_cost: f64,
    healthy_reward: f64,
    healthy: Healthy,
    /// Scale of the reset noise.
    noise: f64,
    /// Reset noise of velocities: normal if set, else uniform.
    normal_velocities: bool,
    /// Speed from the frame of the first body instead of qpos[0].
    speed_of_body: bool,
    /// Cost of squared contact forces, each clamped to ±1, which are then observed; 0 for neither.
    contact_cost: f64,
    /// The healthy reward is paid whatever happens, as -v4 does.
    always_pays_healthy: bool,
}

const HOPPER: Robot = Robot {
    model: "hopper.xml",
    frame_skip: 4,
    hidden_positions: 1,
    velocity_limit: 10.0,
    control_cost: 1e-3,
    healthy_reward: 1.0,
    healthy: Healthy::Upright {
        height: (0.7, f64::INFINITY),
        pitch: 0.2,
        state: 100.0,
    },
    noise: 5e-3,
    normal_velocities: false,
    speed_of_body: false,
    contact_cost: 0.0,
    always_pays_healthy: true,
};

const WALKER2D: Robot = Robot {
    model: "walker2d.xml",
    healthy: Healthy::Upright {
        height: (0.8, 2.0),
        pitch: 1.0,
        state: f64::INFINITY,
    },
    ..HOPPER
};

const HALFCHEETAH: Robot = Robot {
    model: "half_cheetah.xml",
    frame_skip: 5,
    velocity_limit: f64::INFINITY,
    control_cost: 0.1,
    healthy_reward: 0.0,
    healthy: Healthy::Always,
    noise: 0.1,
    normal_velocities: true,
    ..HOPPER
};

const ANT: Robot = Robot {
    model: "ant.xml",
    hidden_positions: 2,
    control_cost: 0.5,
    healthy_reward: 1.0,
    healthy: Healthy::Above { height: (0.2, 1.0) },
    speed_of_body: true,
    ..HALFCHEETAH
};

fn robot(name: &str) -> Option<Robot> {
    Some(match name {
        "hopper-v4" => HOPPER,
        "hopper-v5" => Robot {
            always_pays_healthy: false,
            ..HOPPER
        },
        "walker2d-v4" => WALKER2D,
        "walker2d-v5" => Robot {
            model: "walker2d_v5.xml",
            always_pays_healthy: false,
            ..WALKER2D
        },
        "halfcheetah-v4" | "halfcheetah-v5" => HALFCHEETAH,
        "ant-v4" => ANT,
        "ant-v5" => Robot {
            contact_cost: 5e-4,
            always_pays_healthy: false,
            ..ANT
        },
        _ => return None,
    })
}

/// The robot called `name` as an environment.
pub(super) fn make(name: &str) -> Result<Box<dyn Environment>> {
    Ok(Box::new(Mujoco::new(name)?))
}

/// Opens a file as MuJoCo's library.
///
/// # Errors
/// If it can't be opened, or is another version than 3.3.7: what is wrong.
pub fn check_library(path: &Path) -> std::result::Result<(), String> {
    library::check(path)
}

/// What follows an action, in full precision.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactStep {
    /// Observation after the action (O).
    pub observation: Vec<f64>,
    /// Reward of the action.
    pub reward: f64,
    /// The robot is not healthy any more.
    pub terminated: bool,
    /// The time limit was reached.
    pub truncated: bool,
}

/// A robot in MuJoCo.
pub struct Mujoco {
    spec: EnvSpec,
    robot: Robot,
    data: Data,
    /// Simulated seconds per step.
    seconds_per_step: f64,
    steps: usize,
}

impl Mujoco {
    /// The robot `name`, e.g. `hopper-v4`, standing at its initial position without noise.
    ///
    /// # Errors
    /// If there is no such robot, or the library or its model file can't be found or loaded.
    pub fn new(name: &str) -> Result<Self> {
        let robot = robot(name).ok_or_else(|| Error::Env {
            name: name.to_owned(),
            problem: "no MuJoCo robot has this name".to_owned(),
        })?;
        let failed = |problem: String| Error::Mujoco {
            name: name.to_owned(),
            problem,
        };
        let model = Model::load(&Places::from_environment(), robot.model).map_err(failed)?;
        let contacts = if robot.contact_cost > 0.0 {
            6 * (model.bodies() - 1)
        } else {
            0
        };
        let positions = model.initial_positions().len();
        let range = model.action_ranges();
        let spec = EnvSpec {
            name: name.to_owned(),
            observation_dim: positions - robot.hidden_positions + model.velocities() + contacts,
            action_dim: range.len(),
            action_kind: ActionKind::Continuous,
            action_low: range.iter().map(|r| r[0] as f32).collect(),
            action_high: range.iter().map(|r| r[1] as f32).collect(),
            max_episode_steps: 1000,
        };
        let seconds_per_step = model.timestep() * robot.frame_skip as f64;
        let mut env = Self {
            spec,
            robot,
            data: Data::new(model).map_err(failed)?,
            seconds_per_step,
            steps: 0,
        };
        env.data.forward();
        Ok(env)
    }

    /// Whether a robot has this name, in lower case.
    pub fn is_known(name: &str) -> bool {
        robot(name).is_some()
    }

    /// Positions (qpos) and velocities (qvel).
    pub fn state(&self) -> (Vec<f64>, Vec<f64>) {
        (self.data.qpos().to_vec(), self.data.qvel().to_vec())
    }

    /// Forgets everything, sets positions and velocities, and starts counting steps anew: what
    /// follows depends on this state and the actions alone.
    ///
    /// # Errors
    /// If the lengths are not the model's.
    pub fn set_state(&mut self, positions: &[f64], velocities: &[f64]) -> Result<()> {
        let expected = (self.data.qpos().len(), self.data.qvel().len());
        if (positions.len(), velocities.len()) != expected {
            let problem = format!(
                "a state has {} positions and {} velocities, got {} and {}",
                expected.0,
                expected.1,
                positions.len(),
                velocities.len()
            );
            return Err(Error::Env {
                name: self.spec.name.clone(),
                problem,
            });
        }
        self.data.reset();
        self.data.qpos_mut().copy_from_slice(positions);
        self.data.qvel_mut().copy_from_slice(velocities);
        self.data.forward();
        self.steps = 0;
        Ok(())
    }

    /// Simulated seconds per step.
    pub fn seconds_per_step(&self) -> f64 {
        self.seconds_per_step
    }

    /// Positions (qpos) of states that are expected to follow the present one, from their observations (T, O). Where the robot
    /// is along its track is not observed: it follows from the velocities.
    ///
    /// # Errors
    /// If an observation has the wrong length.
    pub fn expected_positions(&self, observations: &[Vec<f32>]) -> Result<Vec<Vec<f64>>> {
        let hidden = self.robot.hidden_positions;
        let (positions, velocities) = (self.data.qpos(), self.data.qvel());
        let observed = positions.len() - hidden;
        let mut track = positions[..hidden].to_vec();
        let mut expected = Vec::with_capacity(observations.len());
        for observation in observations {
            if observation.len() < observed + velocities.len() {
                return Err(Error::shape(
                    format!("environment `{}`: expected observation", self.spec.name),
                    observation.len(),
                    self.spec.observation_dim,
                ));
            }
            for (place, velocity) in track.iter_mut().zip(&observation[observed..]) {
                *place += f64::from(*velocity) * self.seconds_per_step;
            }
            let rest = observation[..observed].iter().map(|&p| f64::from(p));
            expected.push(track.iter().copied().chain(rest).collect());
        }
        Ok(expected)
    }

    /// What draws pictures of `width` x `height` pixels of this robot, from its side, going along with it.
    ///
    /// # Errors
    /// If the system has no EGL with OpenGL: what to install.
    pub fn offscreen(&self, width: usize, height: usize) -> Result<Offscreen> {
        let track = self.robot.hidden_positions;
        // Ant runs in the plane.
        let view = if track > 1 {
            View {
                distance: 5.0,
                elevation: -30.0,
                height: 0.5,
                track,
            }
        } else {
            View {
                distance: 3.6,
                elevation: -8.0,
                height: 0.7,
                track,
            }
        };
        Offscreen::new(self.data.model(), view, (width, height)).map_err(|problem| Error::Env {
            name: self.spec.name.clone(),
            problem,
        })
    }

    /// The observation of the present state, in full precision (O).
    pub fn exact_observation(&self) -> Vec<f64> {
        let limit = self.robot.velocity_limit;
        let mut observation = Vec::with_capacity(self.spec.observation_dim);
        observation.extend_from_slice(&self.data.qpos()[self.robot.hidden_positions..]);
        observation.extend(self.data.qvel().iter().map(|v| v.clamp(-limit, limit)));
        if self.robot.contact_cost > 0.0 {
            let forces = self.data.cfrc_ext()[1..].iter().flatten(); // the world's are left out
            observation.extend(forces.map(|f| f.clamp(-1.0, 1.0)));
        }
        observation
    }

    /// Applies an action (A) in full precision.
    ///
    /// # Errors
    /// If the action has the wrong length.
    pub fn exact_step(&mut self, action: &[f64]) -> Result<ExactStep> {
        if action.len() != self.spec.action_dim {
            let (found, expected) = (action.len(), self.spec.action_dim);
            let problem = format!("got an action of {found} numbers, expected {expected}");
            return Err(Error::Env {
                name: self.spec.name.clone(),
                problem,
            });
        }
        let before = self.track_position();
        self.data.ctrl_mut().copy_from_slice(action);
        for _ in 0..self.robot.frame_skip {
            self.data.step();
        }
        let speed = (self.track_position() - before) / self.seconds_per_step;
        let healthy = self.is_healthy();
        let paid = healthy || self.robot.always_pays_healthy;
        let mut cost = self.robot.control_cost * action.iter().map(|a| a * a).sum::<f64>();
        if self.robot.contact_cost > 0.0 {
            self.data.rne_post_constraint(); // computes the contact forces
            let forces = self.data.cfrc_ext().iter().flatten();
            let squares: f64 = forces.map(|f| f.clamp(-1.0, 1.0).powi(2)).sum();
            cost += self.robot.contact_cost * squares;
        }
        self.steps += 1;
        Ok(ExactStep {
            observation: self.exact_observation(),
            reward: speed + if paid { self.robot.healthy_reward } else { 0.0 } - cost,
            terminated: !healthy,
            truncated: self.steps >= self.spec.max_episode_steps,
        })
    }

    fn track_position(&self) -> f64 {
        if self.robot.speed_of_body {
            self.data.xpos()[1][0]
        } else {
            self.data.qpos()[0]
        }
    }

    fn is_healthy(&self) -> bool {
        let (positions, velocities) = (self.data.qpos(), self.data.qvel());
        match self.robot.healthy {
            Healthy::Always => true,
            Healthy::Upright {
                height,
                pitch,
                state,
            } => {
                let rest = positions[2..].iter().chain(velocities);
                height.0 < positions[1]
                    && positions[1] < height.1
                    && positions[2].abs() < pitch
                    && rest.into_iter().all(|v| v.abs() < state)
            }
            Healthy::Above { height } => {
                let finite = positions.iter().chain(velocities).all(|v| v.is_finite());
                finite && height.0 <= positions[2] && positions[2] <= height.1
            }
        }
    }
}

impl Environment for Mujoco {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: u64) -> Result<Vec<f32>> {
        let mut rng = Rng::from_seed(seed);
        let Robot {
            noise,
            normal_velocities,
            ..
        } = self.robot;
        let uniform = |rng: &mut Rng| noise * (2.0 * rng.uniform() - 1.0);
        let initial = self.data.model().initial_positions();
        let positions: Vec<f64> = initial.iter().map(|p| p + uniform(&mut rng)).collect();
        let velocities: Vec<f64> = (0..self.data.qvel().len())
            .map(|_| {
                if normal_velocities {
                    noise * rng.normal()
                } else {
                    uniform(&mut rng)
                }
            })
            .collect();
        self.set_state(&positions, &velocities)?;
        Ok(self
            .exact_observation()
            .into_iter()
            .map(|v| v as f32)
            .collect())
    }

    fn fork(&self) -> Option<Box<dyn Environment>> {
        let data = self.data.copied().ok()?;
        Some(Box::new(Self {
            spec: self.spec.clone(),
            data,
            ..*self
        }))
    }

    /// The place along the track, which is not observed, is 0. Velocities are as they are observed, cut at ±10 where they are
    /// for the robot.
    fn reset_to(&mut self, observation: &[f32]) -> Result<Option<Vec<f32>>> {
        check_observation(&self.spec, observation)?;
        let hidden = self.robot.hidden_positions;
        let observed = self.data.qpos().len() - hidden;
        let numbers = observation.iter().map(|&x| f64::from(x));
        let positions: Vec<f64> = std::iter::repeat_n(0.0, hidden)
            .chain(numbers.clone().take(observed))
            .collect();
        let velocities = numbers.skip(observed).take(self.data.qvel().len());
        self.set_state(&positions, &velocities.collect::<Vec<f64>>())?;
        let found = self.exact_observation();
        Ok(Some(found.into_iter().map(|x| x as f32).collect()))
    }

    fn step(&mut self, action: &[f32]) -> Result<Step> {
        check_action(&self.spec, action)?;
        let action: Vec<f64> = action.iter().map(|&a| f64::from(a)).collect();
        let exact = self.exact_step(&action)?;
        Ok(Step {
            observation: exact.observation.into_iter().map(|v| v as f32).collect(),
            reward: exact.reward as f32,
            terminated: exact.terminated,
            truncated: exact.truncated,
        })
    }
}
