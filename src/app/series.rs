//! A run for each of several seeds, and where runs lie.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::asked::Asked;
use crate::app::checkpoint::{RunDir, is_in_training, runs_inside};
use crate::app::compare::found::is_seed;
use crate::app::config::{LARGEST_SEED, RunConfig};
use crate::app::run::{RunOptions, so_far, start_or_resume_as, with_encoder};
use crate::app::trainer::Outcome;
use trajformer_core::error::{Error, Result};

/// Between two looks at seeds that other processes train.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

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
/// does not keep the others from being trained. One that another process trains now comes after the others, and is waited for. An interrupt
/// ends the series early: one run is interrupted, if any was being trained, and of the others those that are finished are there.
///
/// # Errors
/// If `out` is itself a run, or holds a seed of another configuration; nothing is trained then.
pub fn series(
    config: &RunConfig,
    out: &Path,
    seeds: &[u64],
    options: &RunOptions<'_>,
) -> Result<Series> {
    let mut asked = check_series(config, out, seeds, options)?;
    Ok(series_beside(config, out, seeds, options, &mut asked))
}

/// As [`series`], in a folder that [`check_series`] has looked at, where other processes may train, or have trained, other seeds.
pub fn series_beside(
    config: &RunConfig,
    out: &Path,
    seeds: &[u64],
    options: &RunOptions<'_>,
    asked: &mut Asked,
) -> Series {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    let mut queue: VecDeque<(usize, u64)> = seeds.iter().copied().enumerate().collect();
    let of_seed = |seed: u64| of_seed(config, out, seed);
    // How many of the queue were found in the hands of other processes, one after the other.
    let (mut busy, mut is_said) = (0, false);
    while let Some(&(place, seed)) = queue.front() {
        if options.interrupt.is_set() {
            break;
        }
        if busy == queue.len() {
            if !is_said {
                tracing::info!("{}: waiting", trained_elsewhere(out, &queue));
                is_said = true;
            }
            busy = 0;
            std::thread::sleep(LOOK_AGAIN);
        }
        let (config, folder) = of_seed(seed);
        let was_there = folder.join("config.toml").is_file();
        let trained = if is_in_training(&folder) {
            None
        } else {
            Some(start_or_resume_as(&config, &folder, options, asked))
        };
        match trained {
            Some(Err(Error::Interrupted)) => break,
            None | Some(Err(Error::InTraining { .. })) => {
                queue.rotate_left(1);
                busy += 1;
                continue;
            }
            // Another process has made it meanwhile.
            Some(Err(Error::RunExists { .. })) if !was_there => continue,
            Some(Ok(outcome)) => found.push((place, folder, outcome)),
            Some(Err(error)) => {
                tracing::error!("seed {seed} failed ({}): {error}", folder.display());
                failures.push(Failure {
                    seed,
                    folder,
                    error,
                });
            }
        }
        queue.pop_front();
        busy = 0;
    }
    // An interrupt takes nothing from those that were there before.
    let left: Vec<u64> = queue.iter().map(|(_, seed)| *seed).collect();
    let rest = series_so_far(config, out, &left, options, asked);
    failures.extend(rest.failures);
    for (folder, outcome) in rest.outcomes {
        let is_of = |(_, seed): &&(usize, u64)| of_seed(*seed).1 == folder;
        let place = queue.iter().find(is_of).map_or(0, |(place, _)| *place);
        found.push((place, folder, outcome));
    }
    found.sort_by_key(|(place, ..)| *place);
    let outcomes = found.into_iter();
    Series {
        outcomes: outcomes
            .map(|(_, folder, outcome)| (folder, outcome))
            .collect(),
        failures,
    }
}

/// What there is of the seeds of a series that nobody trains now, finished or not; nothing is trained. Those without a checkpoint are left out.
pub fn series_so_far(
    config: &RunConfig,
    out: &Path,
    seeds: &[u64],
    options: &RunOptions<'_>,
    asked: &mut Asked,
) -> Series {
    let mut series = Series::default();
    for &seed in seeds {
        let (config, folder) = of_seed(config, out, seed);
        if !folder.join("config.toml").is_file() || is_in_training(&folder) {
            continue;
        }
        let state = RunDir::open(&folder).and_then(|run| run.state());
        let seen = match state {
            Ok(None) => continue,
            Ok(Some(state)) if !state.is_end_of(&config) => {
                so_far(&config, &folder, options, asked)
            }
            _ => start_or_resume_as(&config, &folder, options, asked),
        };
        match seen {
            Ok(outcome) => series.outcomes.push((folder, outcome)),
            Err(error) => series.failures.push(Failure {
                seed,
                folder,
                error,
            }),
        }
    }
    series
}

/// The configuration of a seed, and its folder.
fn of_seed(config: &RunConfig, out: &Path, seed: u64) -> (RunConfig, PathBuf) {
    let config = RunConfig {
        seed,
        ..config.clone()
    };
    (config, out.join(format!("seed-{seed}")))
}

/// The seeds that other processes train.
fn trained_elsewhere(out: &Path, queue: &VecDeque<(usize, u64)>) -> String {
    let seeds: Vec<String> = queue.iter().map(|(_, seed)| seed.to_string()).collect();
    let (are, s) = if seeds.len() == 1 {
        ("is", "")
    } else {
        ("are", "s")
    };
    format!(
        "{}: the seed{s} {} {are} being trained by other processes",
        out.display(),
        seeds.join(", ")
    )
}

/// Fails if runs of seeds in `out` would be hidden by a run there, or mixed with seeds of another configuration; else what the seeds of the series
/// are held against, with the data that was read for it.
///
/// # Errors
/// If so.
pub fn check_series(
    config: &RunConfig,
    out: &Path,
    seeds: &[u64],
    options: &RunOptions<'_>,
) -> Result<Asked> {
    let config = &with_encoder(config, options);
    let occupied = |problem: String| Error::Occupied {
        path: out.to_path_buf(),
        problem,
    };
    let mut asked = Asked::on(options.data);
    if out.join("config.toml").exists() {
        return Err(occupied(
            "it is a run itself, which would hide runs of seeds inside it; choose another folder"
                .to_owned(),
        ));
    }
    for inside in runs_inside(out) {
        // One that can't be read keeps no other from training.
        let opened = RunDir::open(&inside).and_then(|run| {
            run.spec()?;
            Ok((run.config()?, run))
        });
        let (stored, run) = match opened {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("{error}; whether it is a seed of this configuration is not known");
                continue;
            }
        };
        if !is_seed(&inside) || seeds.contains(&stored.seed) {
            continue; // What is to be done about those that were asked for, each says for itself.
        }
        let config = RunConfig {
            seed: stored.seed,
            ..config.clone()
        };
        if let Some(misfits) = asked.misfits(&run, &config)? {
            return Err(occupied(format!(
                "it holds {}, a seed of another configuration ({misfits}); choose another folder, or give what it was trained with",
                inside.display()
            )));
        }
    }
    Ok(asked)
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
