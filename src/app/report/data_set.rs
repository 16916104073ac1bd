//! What runs learned from, as a report shows it.

use std::path::{Path, PathBuf};

use crate::app::checkpoint::fingerprint::DataFingerprint;
use crate::app::config::RunConfig;
use crate::app::datasets;
use crate::app::report::contract::{DataSet, Dimension, Histogram, Run};
use crate::app::report::thin::{histogram, rounded};
use crate::formats::files;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;
use trajformer_core::statistics::mean_std;
use trajformer_data::info::info;

/// Dimensions that are shown, of observations and of actions.
const MOST_DIMENSIONS: usize = 60;
const MOST_ACTIONS: usize = 32;

/// The data sets that these runs name, each once. One that can't be read says why; a report has enough else to show.
pub(super) fn of_runs(runs: &[(&RunConfig, &Run)]) -> Vec<DataSet> {
    let mut seen: Vec<&[PathBuf]> = Vec::new();
    // The same data may have several names.
    let mut shown: Vec<DataFingerprint> = Vec::new();
    let mut found = Vec::new();
    for (config, run) in runs {
        let paths = &config.data.path[..];
        if paths.is_empty() || seen.contains(&paths) {
            continue;
        }
        seen.push(paths);
        let loaded = datasets::resolved(paths)
            .and_then(|paths| files::load_with(&paths, &config.data.load_options()));
        found.push(match loaded {
            Ok(dataset) => {
                let fingerprint = DataFingerprint::of(&dataset);
                if shown.contains(&fingerprint) {
                    continue;
                }
                shown.push(fingerprint);
                described(name(paths), &dataset, run)
            }
            Err(error) => DataSet {
                missing: Some(format!(
                    "{error}; a relative path starts at the working directory."
                )),
                ..blank(name(paths))
            },
        });
    }
    found
}

/// The data set in `paths`, which is to be shown in place of those that the runs name.
///
/// # Errors
/// If it can't be read or holds no step.
pub(super) fn given(paths: &[PathBuf], config: &RunConfig, run: &Run) -> Result<DataSet> {
    let resolved = datasets::resolved(paths)?;
    let dataset = files::load_with(&resolved, &config.data.load_options())?;
    dataset.require_steps()?;
    Ok(described(name(paths), &dataset, run))
}

fn name(paths: &[PathBuf]) -> String {
    let name = |path: &PathBuf| {
        let last = path.file_name().map(Path::new).unwrap_or(path);
        last.display().to_string()
    };
    paths.iter().map(name).collect::<Vec<_>>().join(" + ")
}

fn blank(name: String) -> DataSet {
    DataSet {
        name,
        missing: None,
        info: None,
        returns: None,
        lengths: None,
        rewards: None,
        observations: Vec::new(),
        actions: Vec::new(),
    }
}

fn described(name: String, data: &Dataset, run: &Run) -> DataSet {
    let mut info = info(data);
    if let Some(expected) = &run.data
        && let (Some(steps), Some(episodes)) = (expected.steps, expected.episodes)
        && let Some(checksum) = &expected.checksum
    {
        let found = DataFingerprint::of(data);
        if (found.steps, found.episodes) != (steps, episodes) {
            info.warnings.push(format!(
                "{} was trained on {steps} steps in {episodes} episodes; this has {} in {}",
                run.path, found.steps, found.episodes
            ));
        } else if &found.checksum != checksum {
            info.warnings.push(format!(
                "{} was trained on data with checksum {checksum}; this has as many steps and episodes, but checksum {}",
                run.path, found.checksum
            ));
        }
    }
    let whole = data.episodes.iter().filter(|episode| episode.is_complete());
    // One bar for each choice.
    let bars = info.action_counts.clone().map(|counts| Histogram {
        low: -0.5,
        high: counts.len() as f64 - 0.5,
        counts,
    });
    DataSet {
        returns: histogram(data.returns().into_iter()),
        lengths: histogram(whole.map(|episode| episode.steps as f64)),
        rewards: histogram(data.rewards.iter().map(|&reward| f64::from(reward))),
        observations: (0..data.observation_dim.min(MOST_DIMENSIONS))
            .map(|dim| dimension(&data.observations, dim, data.observation_dim, |_| None))
            .collect(),
        actions: (0..data.action_dim.min(MOST_ACTIONS))
            .map(|dim| {
                dimension(&data.actions, dim, data.action_dim, |values| {
                    bars.clone().or_else(|| histogram(values.iter().copied()))
                })
            })
            .collect(),
        info: Some(info),
        ..blank(name)
    }
}

fn dimension(
    values: &[f32],
    dim: usize,
    width: usize,
    hist: impl Fn(&[f64]) -> Option<Histogram>,
) -> Dimension {
    let own = values.iter().skip(dim).step_by(width);
    let own: Vec<f64> = own.map(|&value| f64::from(value)).collect();
    let (mean, std) = mean_std(&own);
    Dimension {
        dim,
        min: rounded(own.iter().copied().fold(f64::INFINITY, f64::min)),
        max: rounded(own.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        mean: rounded(mean),
        std: rounded(std),
        hist: hist(&own),
    }
}
