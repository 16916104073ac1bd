//! Replays recorded MuJoCo transitions: sets the state from each observation, steps once, and prints
//! the largest differences from what was recorded.
//!
//! ```sh
//! cargo run --release --example replay -- transitions.npz hopper-v4
//! ```
//!
//! The file holds `observations`, `actions`, `rewards` and `next_observations`, one row per
//! transition. An observation is the state but for where the robot is along its track, which nothing
//! depends on, and for velocities that were cut off at ±10, whose transitions are left out.
//!
//! Gymnasium squares an action in the action's own type. Where all recorded actions are single
//! precision, the control cost is compared in single precision too; else rewards differ by 1e-7.

use std::collections::BTreeMap;
use std::path::Path;

use trajformer::data::formats::npz::{NpyArray, NpyValues, read_npz};
use trajformer::envs::Environment;
use trajformer::envs::mujoco::Mujoco;
use trajformer::{Error, Result};

/// Hopper and Walker2d observe velocities cut off here; no velocity is this number otherwise.
const CUT_OFF: f64 = 10.0;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [file, name] = words.as_slice() else {
        return Err(Error::settings(
            "expected a file and an environment, e.g. transitions.npz hopper-v4",
        ));
    };
    let path = Path::new(file);
    let mut env = Mujoco::new(name)?;
    let (o, a) = (env.spec().observation_dim, env.spec().action_dim);
    let arrays = read_npz(path)?;
    let observations = rows(path, &arrays, "observations", o)?;
    let actions = rows(path, &arrays, "actions", a)?;
    let rewards = rows(path, &arrays, "rewards", 1)?;
    let next_observations = rows(path, &arrays, "next_observations", o)?;
    let count = observations.len();
    if [actions.len(), rewards.len(), next_observations.len()] != [count; 3] {
        return Err(Error::data(path, "arrays of different lengths"));
    }

    let (positions, velocities) = env.state();
    let Some(hidden) = (positions.len() + velocities.len()).checked_sub(o) else {
        return Err(Error::data(
            path,
            format!("{name} observes more than its state"),
        ));
    };
    let observed_positions = positions.len() - hidden;
    let single = actions.iter().flatten().all(|&x| f64::from(x as f32) == x);
    let (mut replayed, mut largest) = (0, [0.0_f64; 2]);
    for row in 0..count {
        let (observed, velocities) = observations[row].split_at(observed_positions);
        if velocities.iter().any(|velocity| velocity.abs() == CUT_OFF) {
            continue;
        }
        let positions = [&vec![0.0; hidden], observed].concat();
        env.set_state(&positions, velocities)?;
        let step = env.exact_step(&actions[row])?;
        for (found, expected) in step.observation.iter().zip(&next_observations[row]) {
            largest[0] = largest[0].max((found - expected).abs());
        }
        let mut reward = step.reward;
        if single {
            let exact: f64 = actions[row].iter().map(|x| x * x).sum();
            let rounded: f32 = actions[row].iter().map(|&x| (x as f32).powi(2)).sum();
            reward += control_cost(name) * (exact - f64::from(rounded));
        }
        largest[1] = largest[1].max((reward - rewards[row][0]).abs());
        replayed += 1;
    }
    println!("{replayed} of {count} transitions replayed in {name}");
    println!("largest difference of an observation {:.1e}", largest[0]);
    println!("largest difference of a reward       {:.1e}", largest[1]);
    Ok(())
}

/// Cost of an action's squared length.
fn control_cost(name: &str) -> f64 {
    match name.split('-').next() {
        Some("halfcheetah") => 0.1,
        Some("ant") => 0.5,
        _ => 1e-3,
    }
}

/// Rows of an array of floats, `width` numbers each.
fn rows(
    path: &Path,
    arrays: &BTreeMap<String, NpyArray>,
    name: &str,
    width: usize,
) -> Result<Vec<Vec<f64>>> {
    let array = arrays
        .get(name)
        .ok_or_else(|| Error::data(path, format!("no array `{name}`")))?;
    let values: Vec<f64> = match &array.values {
        NpyValues::F64(values) => values.clone(),
        NpyValues::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
        _ => return Err(Error::data(path, format!("`{name}` holds no floats"))),
    };
    let found: usize = array.shape.iter().skip(1).product();
    if array.shape.is_empty() || found != width {
        let shape = &array.shape;
        return Err(Error::data(
            path,
            format!("`{name}` has the shape {shape:?}, expected {width} numbers in each row"),
        ));
    }
    Ok(values.chunks_exact(width).map(<[f64]>::to_vec).collect())
}
