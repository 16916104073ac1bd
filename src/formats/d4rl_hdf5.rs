//! D4RL's HDF5 layout: `observations`, `actions`, `rewards`, `terminals` and usually `timeouts`,
//! one row a step, and possibly `next_observations`, `instructions` (one text per episode: not D4RL's, but ours) and
//! `infos` (which is not read). `episode_starts` and `episode_lengths` count as in npz, where there are any.
//!
//! A file without `timeouts` is cut into episodes as D4RL's `qlearning_dataset` does it
//! (d4rl/\_\_init\_\_.py): an episode that did not terminate ends after as many steps as its environment allows.

use std::path::{Path, PathBuf};

use hdf5_pure::{AttrValue, FileBuilder};

use crate::formats::arrays;
use crate::formats::arrays::ArrayFile;
use crate::formats::ends;
use crate::formats::ends::{Cutting, Marks};
use crate::formats::flat;
use crate::formats::format::{Format, Place, Writer};
use crate::formats::hdf5::{add_flags, write_failed};
use crate::formats::hdf5_group::{Hdf5Group, is_hdf5};
use crate::formats::options::LoadOptions;
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::error::{Error, Result};

/// Steps of an episode where nothing says how many: those of D4RL's locomotion tasks.
const USUAL_LIMIT: usize = 1000;

/// The format.
pub const FORMAT: Format = Format {
    name: "D4RL",
    file: Some("HDF5"),
    folder: None,
    range_keys: "`action_low` and `action_high`",
    detect,
    read,
    writer: Some(Writer {
        endings: &["hdf5", "h5"],
        write: |data, path, _| write(data, path),
    }),
};

/// HDF5 files that no format above it in the table has taken.
fn detect(place: &Place<'_>) -> Result<Option<PathBuf>> {
    Ok(is_hdf5(place).then(|| place.path.to_path_buf()))
}

/// Reads a data set.
///
/// # Errors
/// Names the array, and the row where there is one.
pub fn read(path: &Path, options: &LoadOptions) -> Result<Dataset> {
    let mut file = Hdf5Group::open(path)?;
    let steps = flat::read_steps(&mut file, &options.observation_keys)?;
    let marks = Marks::read(&mut file, steps.count())?;
    let lasts = ends::lasts(&mut file, steps.count(), &marks)?;
    if marks.terminated.is_none() && lasts.is_none() {
        return Err(Error::data(file.path(), "array `terminals` is missing"));
    }
    let mut env_name = None;
    for name in ["env", "env_name", "env_id"] {
        env_name = env_name.or(file.text_attribute(name)?);
    }
    let cutting = Cutting {
        marks,
        lasts,
        options,
        default_limit: Some(USUAL_LIMIT),
        env_name,
    };
    let mut data = flat::assemble(&mut file, steps, &cutting)?;
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

/// How many steps a file has, by its rewards: nothing else is read.
///
/// # Errors
/// If it is no such file, or has no rewards.
pub fn rows(path: &Path) -> Result<usize> {
    let mut file = Hdf5Group::open(path)?;
    Ok(arrays::require(&mut file, &["rewards"])?.rows())
}

/// Writes a data set: float32, deflated; `next_observations` if the observation after the last step of any episode is
/// known, NaN where it is not.
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
        let mut values = Vec::with_capacity(data.observations.len());
        rows.for_each(|row| values.extend_from_slice(&row));
        add_f32("next_observations", &values, &observation_shape);
    }
    match data.action_kind {
        ActionKind::Continuous => {
            add_f32("actions", &data.actions, &[steps, data.action_dim as u64]);
        }
        ActionKind::Discrete { count } => {
            let choices = builder.create_dataset(flat::CHOICES);
            choices.with_i64_data(&[count as i64]).with_shape(&[1]);
            let actions: Vec<i64> = data.actions.iter().map(|&a| a as i64).collect();
            let dataset = builder.create_dataset("actions").with_i64_data(&actions);
            dataset
                .with_shape(&[steps])
                .with_chunks(&chunks(&[steps]))
                .with_deflate(4);
        }
    }
    if let Some((low, high)) = &data.action_bounds {
        for (name, values) in ends::BOUNDS.iter().zip([low, high]) {
            let dataset = builder.create_dataset(name).with_f32_data(values);
            dataset.with_shape(&[data.action_dim as u64]);
        }
    }
    if let Some(parts) = ends::episode_parts(data) {
        let dataset = builder.create_dataset(ends::PARTS).with_u8_data(&parts);
        dataset
            .with_shape(&[steps])
            .with_chunks(&chunks(&[steps]))
            .with_deflate(4);
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
