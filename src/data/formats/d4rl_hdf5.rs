//! D4RL's HDF5 layout: `observations`, `actions`, `rewards`, `terminals` and usually `timeouts`,
//! one row a step, and possibly `next_observations`, `instructions` (one text per episode: not D4RL's, but ours) and
//! `infos` (which is not read).
//!
//! A file without `timeouts` is cut into episodes as D4RL's `qlearning_dataset` does it
//! (d4rl/\_\_init\_\_.py): an episode that did not terminate ends after `max_episode_steps`.

use std::path::Path;

use hdf5_pure::{AttrValue, FileBuilder};

use super::arrays::{ArrayFile, find, read_flags};
use super::flat;
use super::hdf5::{Hdf5Group, add_flags, write_failed};
use crate::data::dataset::{ActionKind, Dataset, Episode};
use crate::error::{Error, Result};

/// Reads a data set.
///
/// # Errors
/// Names the array, and the row where there is one.
pub fn read(path: &Path, max_episode_steps: usize) -> Result<Dataset> {
    let mut file = Hdf5Group::open(path)?;
    let steps = flat::read_steps(&mut file)?;
    let (episodes, warning) = episodes(&mut file, steps.count(), max_episode_steps)?;
    let mut data = flat::assemble(&mut file, steps, episodes)?;
    data.warnings.extend(warning);
    for name in ["env", "env_name", "env_id"] {
        data.env_name = data.env_name.or(file.text_attribute(name)?);
    }
    if let Some(texts) = file.texts(flat::INSTRUCTIONS)? {
        flat::instruct(&mut data, path, texts)?;
    }
    let scores = (
        file.number_attribute("ref_min_score")?,
        file.number_attribute("ref_max_score")?,
    );
    data.reference_returns = scores.0.zip(scores.1);
    Ok(data)
}

fn episodes(
    file: &mut Hdf5Group,
    steps: usize,
    max_episode_steps: usize,
) -> Result<(Vec<Episode>, Option<String>)> {
    let mut flags = |names: &[&str]| -> Result<Option<Vec<bool>>> {
        find(file, names)?
            .map(|info| read_flags(file, &info, steps))
            .transpose()
    };
    let terminals = flags(&["terminals", "terminations"])?;
    let timeouts = flags(&["timeouts", "truncations"])?;
    let Some(terminals) = terminals else {
        return Err(Error::data(file.path(), "array `terminals` is missing"));
    };
    if let Some(timeouts) = timeouts {
        let end = |i: usize| (terminals[i] || timeouts[i]).then_some((terminals[i], timeouts[i]));
        return Ok((flat::cut(steps, end), None));
    }
    let mut timeouts = vec![false; steps];
    let mut length = 0;
    for step in 0..steps {
        length += 1;
        timeouts[step] = !terminals[step] && length == max_episode_steps;
        if terminals[step] || timeouts[step] {
            length = 0;
        }
    }
    let warning = format!(
        "{}: there are no `timeouts`: episodes that did not terminate are cut after \
         {max_episode_steps} steps, as D4RL does it",
        file.path().display()
    );
    let end = |i: usize| (terminals[i] || timeouts[i]).then_some((terminals[i], timeouts[i]));
    Ok((flat::cut(steps, end), Some(warning)))
}

/// Writes a data set: float32, deflated; `next_observations` if the observation after the last step
/// of every episode is known.
///
/// # Errors
/// If the file can't be written.
pub fn write(data: &Dataset, path: &Path) -> Result<()> {
    let mut builder = FileBuilder::new();
    let steps = data.steps() as u64;
    let observation_shape = [steps, data.observation_dim as u64];
    let mut add_f32 = |name: &str, values: &[f32], shape: &[u64]| {
        let dataset = builder
            .create_dataset(name)
            .with_f32_data(values)
            .with_shape(shape);
        dataset
            .with_chunks(&chunks(shape))
            .with_shuffle()
            .with_deflate(4);
    };
    add_f32("observations", &data.observations, &observation_shape);
    add_f32("rewards", &data.rewards, &[steps]);
    if let Some(rows) = flat::next_observations(data) {
        let values: Vec<f32> = rows.flatten().copied().collect();
        add_f32("next_observations", &values, &observation_shape);
    }
    match data.action_kind {
        ActionKind::Continuous => {
            add_f32("actions", &data.actions, &[steps, data.action_dim as u64]);
        }
        ActionKind::Discrete { .. } => {
            let actions: Vec<i64> = data.actions.iter().map(|&a| a as i64).collect();
            let dataset = builder.create_dataset("actions").with_i64_data(&actions);
            dataset
                .with_shape(&[steps])
                .with_chunks(&chunks(&[steps]))
                .with_deflate(4);
        }
    }
    let (terminated, truncated) = flat::flags(data);
    for (name, flags) in [("terminals", terminated), ("timeouts", truncated)] {
        add_flags(builder.create_dataset(name), &flags).map_err(write_failed(path))?;
    }
    if let Some(texts) = flat::instructions(data) {
        builder
            .create_dataset(flat::INSTRUCTIONS)
            .with_vlen_strings(&texts);
    }
    if let Some(env_name) = &data.env_name {
        builder.set_attr("env", AttrValue::String(env_name.clone()));
    }
    if let Some((random, expert)) = data.reference_returns {
        builder.set_attr("ref_min_score", AttrValue::F64(random));
        builder.set_attr("ref_max_score", AttrValue::F64(expert));
    }
    builder.write(path).map_err(write_failed(path))
}

/// Chunks of about 64 KiB.
fn chunks(shape: &[u64]) -> Vec<u64> {
    let width: u64 = shape.iter().skip(1).product();
    let rows = (16_384 / width.max(1)).clamp(1, shape[0].max(1));
    std::iter::once(rows)
        .chain(shape.iter().skip(1).copied())
        .collect()
}
