//! [`ENVIRONMENTS`]: the environments by name, as a table.

use crate::envs::gym::{Gym, GymOptions, is_gym};
#[cfg(feature = "mujoco")]
use crate::envs::mujoco;
use crate::envs::reference::{ReferenceReturns, d4rl};
use crate::envs::{acrobot, cartpole, pendulum, pointmaze};
use trajformer_core::environment::Environment;
use trajformer_core::error::{Error, Result};
use trajformer_core::nearest::did_you_mean;

/// The environments: one line each. What a line names is in the environment's own file.
pub const ENVIRONMENTS: &[Entry] = &[
    maze("pointmaze-umaze"),
    maze("pointmaze-medium"),
    maze("pointmaze-large"),
    maze("pointmaze-rooms"),
    Entry::new("pendulum-v1", pendulum::make, not_measured),
    Entry::new("cartpole-v1", cartpole::make, not_measured),
    Entry::new("acrobot-v1", acrobot::make, not_measured),
    robot("hopper-v4"),
    robot("hopper-v5"),
    robot("halfcheetah-v4"),
    robot("halfcheetah-v5"),
    robot("walker2d-v4"),
    robot("walker2d-v5"),
    robot("ant-v4"),
    robot("ant-v5"),
];

const fn maze(name: &'static str) -> Entry {
    Entry::new(name, pointmaze::make, pointmaze::reference_for)
}

const fn robot(name: &'static str) -> Entry {
    Entry::new(name, mujoco::make, d4rl).with(MUJOCO)
}

const MUJOCO: Feature = Feature {
    name: "mujoco",
    is_built: cfg!(feature = "mujoco"),
};

/// Stands in the place of the robots in builds without them; [`Entry::make`] refuses before.
#[cfg(not(feature = "mujoco"))]
mod mujoco {
    use trajformer_core::environment::Environment;
    use trajformer_core::error::{Error, Result};

    pub(super) fn make(name: &str) -> Result<Box<dyn Environment>> {
        Err(Error::Env {
            name: name.to_owned(),
            problem: "not in this build".to_owned(),
        })
    }
}

/// A registered environment.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    name: &'static str,
    make: fn(&str) -> Result<Box<dyn Environment>>,
    reference: fn(&str) -> Option<ReferenceReturns>,
    feature: Option<Feature>,
}

/// What a build needs for some environments.
#[derive(Debug, Clone, Copy)]
struct Feature {
    name: &'static str,
    is_built: bool,
}

impl Entry {
    const fn new(
        name: &'static str,
        make: fn(&str) -> Result<Box<dyn Environment>>,
        reference: fn(&str) -> Option<ReferenceReturns>,
    ) -> Self {
        Self {
            name,
            make,
            reference,
            feature: None,
        }
    }

    const fn with(self, feature: Feature) -> Self {
        Self {
            feature: Some(feature),
            ..self
        }
    }

    /// Its name, in lower case.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether this build has it.
    pub fn is_built(&self) -> bool {
        self.feature.is_none_or(|feature| feature.is_built)
    }

    /// What its normalized score is measured against; `None` where nobody has measured any.
    pub fn reference(&self) -> Option<ReferenceReturns> {
        (self.reference)(self.name)
    }

    /// One copy of it.
    ///
    /// # Errors
    /// If this build lacks it, or its model can't be loaded.
    pub fn make(&self) -> Result<Box<dyn Environment>> {
        match self.feature {
            Some(feature) if !feature.is_built => Err(Error::Env {
                name: self.name.to_owned(),
                problem: format!(
                    "not in this build: build with `--features {}`, which is a default one; this build has {}",
                    feature.name,
                    names().join(", ")
                ),
            }),
            _ => (self.make)(self.name),
        }
    }
}

/// The reference of environments whose returns nobody has measured.
fn not_measured(_: &str) -> Option<ReferenceReturns> {
    None
}

/// Names that [`make`] takes in this build.
pub fn names() -> Vec<&'static str> {
    let built = ENVIRONMENTS.iter().filter(|entry| entry.is_built());
    built.map(Entry::name).collect()
}

/// The environment called `name`; case does not matter.
pub fn entry(name: &str) -> Option<&'static Entry> {
    let mut entries = ENVIRONMENTS.iter();
    entries.find(|entry| entry.name.eq_ignore_ascii_case(name))
}

/// Makes the environment called `name`; case does not matter (`Hopper-v4` is `hopper-v4`), the version
/// does. `gym:ID` is an environment of Gymnasium, with the options of [`GymOptions::default`].
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
    make_with(name, &GymOptions::default())
}

/// Makes the environment called `name` as [`make`] does, one of Gymnasium with these options.
///
/// # Errors
/// As [`make`], and if Python, Gymnasium or the environment can't be found there.
pub fn make_with(name: &str, options: &GymOptions) -> Result<Box<dyn Environment>> {
    if is_gym(name) {
        return Ok(Box::new(Gym::new(name, 1, options)?));
    }
    if let Some(entry) = entry(name) {
        return entry.make();
    }
    let mut problem = format!(
        "unknown; this build has {}, and every environment of Gymnasium as `gym:ID`",
        names().join(", ")
    );
    let mut missing: Vec<&Entry> = Vec::new();
    missing.extend(ENVIRONMENTS.iter().filter(|entry| !entry.is_built()));
    while let Some(feature) = missing.first().and_then(|entry| entry.feature) {
        let needs = |entry: &&&Entry| {
            entry
                .feature
                .is_some_and(|other| other.name == feature.name)
        };
        let names: Vec<&str> = missing
            .iter()
            .filter(needs)
            .map(|entry| entry.name)
            .collect();
        problem.push_str(&format!(
            "; built with `--features {}` also {}",
            feature.name,
            names.join(", ")
        ));
        missing.retain(|entry| !needs(&entry));
    }
    problem += &did_you_mean(name, ENVIRONMENTS.iter().map(Entry::name));
    Err(Error::Env {
        name: name.to_owned(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trajformer_core::dataset::ActionKind;

    #[test]
    fn every_name_makes_an_environment_of_that_name() {
        for name in names() {
            let mut env = make(name).expect(name);
            assert_eq!(env.spec().name, name);
            let observation = env.reset(1).expect("reset");
            assert_eq!(observation.len(), env.spec().observation_dim);
            assert_eq!(env.reset(1).expect("reset"), observation);
            let number = match env.spec().action_kind {
                ActionKind::Continuous => 0.5,
                ActionKind::Discrete { .. } => 1.0,
            };
            let action = vec![number; env.spec().action_dim];
            assert_eq!(
                env.step(&action).expect("step").observation.len(),
                observation.len()
            );
        }
    }

    #[test]
    fn every_maze_is_in_the_table_and_every_reference_is_its_environments_own() {
        for name in pointmaze::names() {
            assert!(entry(name).is_some(), "{name}");
        }
        let score = |name: &str| entry(name).expect(name).reference().map(|r| r.expert);
        assert_eq!(score("pointmaze-large"), Some(752.38));
        assert_eq!(score("Walker2d-v5"), Some(4592.3));
        assert_eq!(score("pendulum-v1"), None);
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
        assert!(problem.contains("--features mujoco") && problem.contains("pendulum-v1"));
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
