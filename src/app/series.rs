//! A run for each of several seeds, and where runs lie.

use std::path::{Path, PathBuf};

use crate::app::config::{LARGEST_SEED, RunConfig};
use crate::app::run::{RunOptions, start_or_resume};
use crate::app::trainer::Outcome;
use trajformer_core::error::{Error, Result};

/// What became of the runs of a series.
#[derive(Debug, Default)]
pub struct Series {
    /// The runs that were trained, or interrupted, in the order of their seeds.
    pub outcomes: Vec<(PathBuf, Outcome)>,
    /// Those that could not be.
    pub failures: Vec<Failure>,
}

/// A run that could not be trained.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// Why.
    pub error: Error,
}

/// Trains a run for every seed, each in its own folder inside `out`. Called again it goes on: a
/// finished seed is reported as it is, an unfinished one of the same configuration is resumed, one that failed is tried
/// again. A seed that fails (as a run can, or because its folder holds a run of another configuration)
/// does not keep the others from being trained. An interrupt ends the series early: fewer runs than seeds are there, or the
/// last is interrupted.
pub fn series(config: &RunConfig, out: &Path, seeds: &[u64], options: &RunOptions<'_>) -> Series {
    let mut series = Series::default();
    for &seed in seeds {
        if options.interrupt.is_set() {
            break;
        }
        let (config, folder) = (
            RunConfig {
                seed,
                ..config.clone()
            },
            out.join(format!("seed-{seed}")),
        );
        match start_or_resume(&config, &folder, options) {
            Ok(outcome) => series.outcomes.push((folder, outcome)),
            Err(Error::Interrupted) => break,
            Err(error) => {
                tracing::error!("seed {seed} failed ({}): {error}", folder.display());
                series.failures.push(Failure {
                    seed,
                    folder,
                    error,
                });
            }
        }
    }
    series
}

/// Most seeds of one series.
const MOST_SEEDS: u64 = 10_000;

/// `A..B` as seeds A, A+1, ..., B-1.
///
/// # Errors
/// If it is not such a range, empty, or too long.
pub fn parse_seeds(text: &str) -> Result<Vec<u64>> {
    let parsed: Option<(u64, u64)> = text
        .split_once("..")
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let wrong = |problem: &str| Err(Error::settings(format!("seeds `{text}`: {problem}")));
    match parsed {
        Some((first, end)) if first < end && end - first > MOST_SEEDS => wrong(&format!(
            "{} seeds, expected at most {MOST_SEEDS}",
            end - first
        )),
        Some((first, end)) if first < end && end - 1 > LARGEST_SEED => {
            wrong(&format!("expected seeds up to {LARGEST_SEED}"))
        }
        Some((first, end)) if first < end => Ok((first..end).collect()),
        _ => match text.trim().parse::<u64>() {
            Ok(count @ 1..=MOST_SEEDS) => wrong(&format!(
                "expected A..B with A < B: 0..{count} for {count} seeds, {count}..{} for the seed {count} alone",
                count + 1
            )),
            _ => wrong("expected A..B with A < B, e.g. 0..5"),
        },
    }
}

/// Folder of configurations of fewer updates than the authors', inside those of an algorithm.
const SHORT: &str = "short";

/// `runs/<algorithm>-<data set>`, named after the configuration file's place; `runs/<algorithm>-<data set>-short` for
/// `<algorithm>/short/<data set>.toml`.
pub fn default_out(config_path: &Path) -> PathBuf {
    let name = |path: Option<&std::ffi::OsStr>| {
        path.map_or_else(
            || "run".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    };
    let dataset = name(config_path.file_stem());
    let folder = config_path.parent();
    let above = folder.and_then(Path::parent).and_then(Path::file_name);
    let folder = folder.and_then(Path::file_name);
    PathBuf::from("runs").join(match (folder, above) {
        (Some(short), Some(algorithm)) if short == SHORT => {
            format!("{}-{dataset}-{SHORT}", name(Some(algorithm)))
        }
        _ => format!("{}-{dataset}", name(folder)),
    })
}
