//! Behavior policies by name or file: what `data collect` collects with.

pub mod file;
pub mod noise;
pub mod simple;
pub mod waypoint;

use std::path::Path;

use crate::app::behaviors::file::{FilePolicy, FilePolicyOptions};
use crate::app::behaviors::simple::{ConstantPolicy, RandomPolicy};
use crate::app::behaviors::waypoint::{Goals, WaypointPolicy};
use crate::envs::pointmaze::Layout;
use trajformer_core::dataset::ActionKind;
use trajformer_core::environment::EnvSpec;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::nearest::did_you_mean;
use trajformer_core::policy::Policy;

/// Standard deviation of the noise on the waypoint controller's forces when it samples.
const WAYPOINT_NOISE: f64 = 0.3;

/// The policies that have names.
const BUILT_IN: [&str; 5] = [
    "random",
    "zero",
    "waypoint",
    "waypoint-once",
    "waypoint-goal",
];

/// What [`behavior`] takes, for help texts.
pub const NAMES: &str = "random, zero, waypoint (a point maze, towards random places), \
                         waypoint-once (towards one random place per episode), waypoint-goal (towards the maze's goal), or an .npz file";

/// The policy `name` for an environment: one of [`NAMES`], or the path of an `.npz` file (layout:
/// [`FilePolicy`]). `options.sample` adds noise where a policy has any; the rest is for files.
///
/// # Errors
/// If there is no such policy or file, or it does not fit the environment.
pub fn behavior(
    name: &str,
    spec: &EnvSpec,
    options: &FilePolicyOptions,
) -> Result<Box<dyn Policy>> {
    let waypoint = |goals: Goals| -> Result<Box<dyn Policy>> {
        let layout = Layout::named(&spec.name).ok_or_else(|| Error::Env {
            name: spec.name.clone(),
            problem: format!("policy `{name}` knows point mazes only"),
        })?;
        let noise = if options.sample { WAYPOINT_NOISE } else { 0.0 };
        Ok(Box::new(WaypointPolicy::new(layout, goals, noise)))
    };
    if options.sample && matches!(name, "random" | "zero") {
        let problem = format!(
            "policy `{name}` has no distribution to sample from: take its actions as they are"
        );
        return Err(Error::unsupported(Ability::Sampling, problem));
    }
    if spec.action_kind != ActionKind::Continuous && (name == "zero" || name.ends_with(".npz")) {
        let problem = format!(
            "policy `{name}` acts with real numbers, and `{}` takes choices: collect with `random`, or with a run",
            spec.name
        );
        return Err(Error::Unsuitable(problem));
    }
    match name {
        "random" => Ok(Box::new(RandomPolicy::new(spec))),
        "zero" => Ok(Box::new(ConstantPolicy::new(vec![0.0; spec.action_dim]))),
        "waypoint" => waypoint(Goals::Random),
        "waypoint-once" => waypoint(Goals::RandomOnce),
        "waypoint-goal" => waypoint(Goals::Fixed),
        file if file.ends_with(".npz") => {
            Ok(Box::new(FilePolicy::load(Path::new(file), spec, options)?))
        }
        _ => Err(Error::Unknown {
            name: name.to_owned(),
            problem: format!(
                "unknown policy `{name}`; there are {NAMES}{}",
                did_you_mean(name, BUILT_IN)
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envs;

    #[test]
    fn sampling_is_refused_where_there_is_nothing_to_sample_from() {
        let env = envs::make("pendulum-v1").expect("built in");
        let options = FilePolicyOptions {
            sample: true,
            ..FilePolicyOptions::default()
        };
        for name in ["random", "zero"] {
            let refused = behavior(name, env.spec(), &options).err().expect(name);
            assert!(
                refused
                    .to_string()
                    .contains("no distribution to sample from"),
                "{refused}"
            );
        }
    }

    #[test]
    fn unknown_and_unsuitable_policies_are_refused_with_a_hint() {
        let env = envs::make("pendulum-v1").expect("built in");
        for (name, hint) in [("rando", "waypoint-goal"), ("waypoint", "point mazes only")] {
            let refused = behavior(name, env.spec(), &FilePolicyOptions::default());
            let problem = refused.err().expect(name).to_string();
            assert!(
                problem.contains(name) && problem.contains(hint),
                "{problem}"
            );
        }
    }
}
