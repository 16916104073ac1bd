//! Environments of Gymnasium, `gym:ID`, in Python processes of the user's own interpreter.
//!
//! A process runs worker.py, which is in this program, makes copies of the environment there, and steps them for frames that
//! arrive on its standard input. An exception comes back with its traceback, a process that ends with its last words, and one
//! that hangs is ended after a while. [`Gym`] acts in boxes and by choices; [`Workers`] below it in what it is told.

mod options;
#[cfg_attr(not(unix), path = "no_process.rs")]
mod process;
mod spaces;
mod workers;

pub use options::{GymOptions, TIMEOUT_VARIABLE};
pub use spaces::{ActionSpace, ObservationSpace, Part, Spaces};
pub use workers::{Picture, Workers};

use spaces::PREFIX;
use trajformer_core::environment::{EnvSpec, Environment, Step, check_action};
use trajformer_core::error::{Error, Result};

/// The first version of MuJoCo whose Hopper and Ant move in another way.
const OTHER_PHYSICS: (u32, u32) = (3, 5);

/// Whether `name` is one of an environment of Gymnasium: `gym:ID`.
pub fn is_gym(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The id of an environment of Gymnasium's own, `Hopper-v5` of `gym:Hopper-v5`; none where `name` has no such prefix, or names
/// a module or arguments, with which it may be another task.
pub fn own_id(name: &str) -> Option<&str> {
    let id = name.strip_prefix(PREFIX)?;
    (!id.contains([':', '?'])).then_some(id)
}

/// Copies of an environment of Gymnasium. As an [`Environment`] it is its first copy.
pub struct Gym {
    workers: Workers,
    spec: EnvSpec,
}

impl Gym {
    /// `rows` copies of the environment `name`: see [`Workers::start`].
    ///
    /// # Errors
    /// As there, and if its actions are neither a box with finite bounds nor choices.
    pub fn new(name: &str, rows: usize, options: &GymOptions) -> Result<Self> {
        let mut workers = Workers::start(name, 1, options)?;
        let spaces = workers.spaces();
        let failed = |problem: String| Error::Env {
            name: name.to_owned(),
            problem,
        };
        let (action_low, action_high) = spaces.action.bounds().map_err(failed)?;
        if let Some(order) = spaces.observation.order() {
            tracing::info!(
                "{name}: observations are the numbers of these keys, side by side: {order}"
            );
        }
        if spaces.max_episode_steps.is_none() {
            tracing::warn!(
                "{name}: registered without a limit of steps: an episode ends when it says so, or never"
            );
        }
        warn_of_physics(name, spaces);
        let spec = EnvSpec {
            name: name.to_owned(),
            observation_dim: spaces.observation.size(),
            action_dim: action_low.len(),
            action_kind: spaces.action.kind(),
            action_low,
            action_high,
            max_episode_steps: spaces.max_episode_steps.unwrap_or(usize::MAX),
        };
        workers.resize(rows)?;
        Ok(Self { workers, spec })
    }

    /// What the first copy looks like now, where [`GymOptions::render`] was set.
    ///
    /// # Errors
    /// If the environment has no pictures, or its process fails.
    pub fn picture(&mut self) -> Result<Picture> {
        self.workers.render(0)
    }

    /// Seconds of a step, as the environment has its pictures shown; none where it does not say.
    pub fn seconds_per_step(&self) -> Option<f64> {
        Some(1.0 / self.workers.spaces().pictures_per_second?)
    }

    /// How many copies (E).
    pub fn rows(&self) -> usize {
        self.workers.len()
    }

    /// Makes it `rows` copies: the last ones go, or further ones are made.
    ///
    /// # Errors
    /// If there are to be none, or making or closing fails.
    pub fn resize(&mut self, rows: usize) -> Result<()> {
        self.workers.resize(rows)
    }

    /// Starts episodes in these rows, each from its own seed; their first observations (O each).
    ///
    /// # Errors
    /// If the environment or its process fails.
    pub fn reset_rows(&mut self, rows: &[usize], seeds: &[u64]) -> Result<Vec<Vec<f32>>> {
        self.workers.reset(rows, seeds)
    }

    /// Acts (E, A) in the rows with `active[row]`, all at the same time; what follows, and nothing in the others. What lies
    /// outside the bounds is clamped.
    ///
    /// # Errors
    /// If the sizes don't fit, an action of an active row is not finite, or the environment or its process fails.
    pub fn step_rows(&mut self, actions: &[f32], active: &[bool]) -> Result<Vec<Option<Step>>> {
        let width = self.spec.action_dim;
        let mut clamped = actions.to_vec();
        for (action, _) in clamped
            .chunks_mut(width)
            .zip(active)
            .filter(|(_, active)| **active)
        {
            check_action(&self.spec, action)?;
            let bounds = self.spec.action_low.iter().zip(&self.spec.action_high);
            for (number, (low, high)) in action.iter_mut().zip(bounds) {
                *number = number.clamp(*low, *high);
            }
        }
        self.workers.step(&clamped, active)
    }
}

impl Environment for Gym {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: u64) -> Result<Vec<f32>> {
        let mut found = self.reset_rows(&[0], &[seed])?;
        Ok(found.swap_remove(0))
    }

    fn step(&mut self, action: &[f32]) -> Result<Step> {
        check_action(&self.spec, action)?;
        let mut actions = action.to_vec();
        actions.resize(self.rows() * action.len(), 0.0);
        let active: Vec<bool> = (0..self.rows()).map(|row| row == 0).collect();
        let found = self.step_rows(&actions, &active)?;
        found
            .into_iter()
            .next()
            .flatten()
            .ok_or_else(|| Error::Env {
                name: self.spec.name.clone(),
                problem: "nothing followed the action".to_owned(),
            })
    }
}

/// Says so where scores are given against returns on another MuJoCo.
fn warn_of_physics(name: &str, spaces: &Spaces) {
    let Some(version) = spaces.versions.get("mujoco") else {
        return;
    };
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    let number = numbers.next().flatten().zip(numbers.next().flatten());
    let robot = own_id(name).is_some_and(|id| id.starts_with("Hopper-") || id.starts_with("Ant-"));
    if robot && number.is_some_and(|number| number >= OTHER_PHYSICS) {
        tracing::warn!(
            "{name} runs on MuJoCo {version}: from 3.5.0 on it moves in another way than where data and reference returns \
             come from (mujoco==3.3.7 has the old one)"
        );
    }
}
