//! Environments by name.

#[cfg(feature = "mujoco")]
use crate::envs::mujoco;
use crate::envs::{pendulum, pointmaze};
use trajformer_core::environment::Environment;
use trajformer_core::error::{Error, Result};

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
