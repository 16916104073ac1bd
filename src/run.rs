//! Runs from start to end: the data flow on one page.
//!
//! ```text
//! file -> Dataset -> Algorithm::update ... -> Policy x Environment -> score
//! ```

use std::path::{Path, PathBuf};

use crate::algorithms::{Algorithm, Build};
use crate::checkpoint::{RunDir, RunSpec, RunState};
use crate::config::{RunConfig, open_device};
use crate::data::{self, ActionBounds, Dataset};
use crate::envs;
use crate::error::{Error, Result};
use crate::evaluate::Evaluator;
use crate::rng::Streams;
use crate::trainer::{Outcome, Training};

/// Trains a new run in the folder `out`.
///
/// # Errors
/// If configuration, data, environment or folder don't fit, or training fails.
pub fn start(config: &RunConfig, out: &Path) -> Result<Outcome> {
    let dataset = load_data(config)?;
    start_on(config, &dataset, out)
}

/// Trains a new run on a data set that is in memory already.
///
/// # Errors
/// As [`start`].
pub fn start_on(config: &RunConfig, dataset: &Dataset, out: &Path) -> Result<Outcome> {
    let mut evaluator = evaluator_for(config, dataset)?;
    let (action_low, action_high) = action_range(config, dataset)?;
    let streams = Streams::from_seed(config.seed);
    let device = open_device(&config.device)?;
    let mut algorithm = config.algorithm.build(Build {
        data: dataset,
        bounds: &ActionBounds::new(&action_low, &action_high, &device)?,
        device: &device,
        rng: &mut streams.stream("init"),
    })?;
    check_goal(evaluator.as_ref(), &*algorithm)?;
    let spec = RunSpec {
        observation_dim: dataset.observation_dim,
        action_dim: dataset.action_dim,
        action_low,
        action_high,
        env_name: dataset.env_name.clone(),
    };
    let run = RunDir::create(out, config, &spec, algorithm.description())?;
    Training {
        algorithm: &mut *algorithm,
        evaluator: evaluator.as_mut(),
        run: &run,
        train: &config.train,
        evaluate: &config.evaluate,
    }
    .run(&RunState::new(0, 0.0, None), &mut streams.stream("train"))
}

/// Continues a run, bit for bit. `overrides` may raise `train.updates`, nothing else.
///
/// # Errors
/// If the run or its data can't be read, another key would change, or training fails.
pub fn resume(path: &Path, overrides: &[String]) -> Result<Outcome> {
    let run = RunDir::open(path)?;
    let stored = run.config()?;
    let config = stored.with_overrides(overrides)?;
    let mut comparable = config.clone();
    comparable.train.updates = stored.train.updates;
    if comparable != stored {
        return Err(Error::Config(
            "`--resume` can change `train.updates` only; start a new run for other settings"
                .to_owned(),
        ));
    }
    let state = run.state()?;
    let done = state.as_ref().map_or(0, |state| state.update);
    if config.train.updates < done || (config.train.updates == done && !overrides.is_empty()) {
        return Err(Error::Config(format!(
            "`train.updates` is {}, but {done} updates are done; raise it with `--set \
             train.updates=N`",
            config.train.updates
        )));
    }
    let dataset = load_data(&config)?;
    let spec = run.spec()?;
    check_same_shape(&spec, &dataset, path)?;
    let mut evaluator = evaluator_for(&config, &dataset)?;
    let device = open_device(&config.device)?;
    let streams = Streams::from_seed(config.seed);
    let mut algorithm = config.algorithm.build(Build {
        data: &dataset,
        bounds: &ActionBounds::new(&spec.action_low, &spec.action_high, &device)?,
        device: &device,
        rng: &mut streams.stream("init"),
    })?;
    let (mut rng, state) = match state {
        Some(_) => run.restore(&mut *algorithm)?,
        // Killed before the first checkpoint: the run starts at its beginning.
        None => (streams.stream("train"), RunState::new(0, 0.0, None)),
    };
    if config != stored {
        run.set_config(&config)?;
    }
    Training {
        algorithm: &mut *algorithm,
        evaluator: evaluator.as_mut(),
        run: &run,
        train: &config.train,
        evaluate: &config.evaluate,
    }
    .run(&state, &mut rng)
}

/// A trained run, ready to act; made without its data.
pub struct TrainedRun {
    /// Its configuration, with the overrides it was opened with.
    pub config: RunConfig,
    /// Its shapes and bounds.
    pub spec: RunSpec,
    /// Its checkpoint's state.
    pub state: RunState,
    /// The algorithm with trained networks; its data is blank, so it can't train on.
    pub algorithm: Box<dyn Algorithm>,
}

/// Opens a trained run without its data. `overrides` may change how it acts (planner, targets), not
/// its networks.
///
/// # Errors
/// If it can't be read, or an override changes the networks' names or shapes.
pub fn open(path: &Path, overrides: &[String]) -> Result<TrainedRun> {
    let run = RunDir::open(path)?;
    let config = run.config()?.with_overrides(overrides)?;
    let spec = run.spec()?;
    let device = open_device(&config.device)?;
    let mut algorithm = config.algorithm.build(Build {
        data: &Dataset::blank(spec.observation_dim, spec.action_dim),
        bounds: &ActionBounds::new(&spec.action_low, &spec.action_high, &device)?,
        device: &device,
        rng: &mut Streams::from_seed(config.seed).stream("init"),
    })?;
    let state = run.restore_policy(&mut *algorithm)?;
    Ok(TrainedRun {
        config,
        spec,
        state,
        algorithm,
    })
}

/// Reads the data of a configuration.
///
/// # Errors
/// If there is no path, or a file can't be read.
pub fn load_data(config: &RunConfig) -> Result<Dataset> {
    if config.data.path.is_empty() {
        return Err(Error::Config(
            "`data.path` is not set: give a file or folder, e.g. `--set \
             data.path=hopper-medium.hdf5`"
                .to_owned(),
        ));
    }
    let dataset = data::load(&config.data.path)?;
    for warning in &dataset.warnings {
        tracing::warn!("{warning}");
    }
    Ok(dataset)
}

fn evaluator_for(config: &RunConfig, dataset: &Dataset) -> Result<Option<Evaluator>> {
    let evaluator = Evaluator::new(&config.evaluate)?;
    if let Some(evaluator) = &evaluator {
        evaluator.check_dimensions(dataset.observation_dim, dataset.action_dim)?;
        warn_of_other_version(dataset.env_name.as_deref(), &evaluator.spec().name);
    }
    Ok(evaluator)
}

/// Finds out before training, not at the first evaluation after it.
fn check_goal(evaluator: Option<&Evaluator>, algorithm: &dyn Algorithm) -> Result<()> {
    match evaluator {
        Some(evaluator) => evaluator.check_goal(&*algorithm.policy()?),
        None => Ok(()),
    }
}

/// Says so when the data's environment and the one asked for have different names.
pub fn warn_of_other_version(data: Option<&str>, asked: &str) {
    if let Some(data) = data
        && !data.eq_ignore_ascii_case(asked)
    {
        tracing::warn!("the data names the environment `{data}`, policies are scored in `{asked}`");
    }
}

fn check_same_shape(spec: &RunSpec, dataset: &Dataset, path: &Path) -> Result<()> {
    let found = (dataset.observation_dim, dataset.action_dim);
    if found == (spec.observation_dim, spec.action_dim) {
        return Ok(());
    }
    Err(Error::Run {
        path: path.to_path_buf(),
        problem: format!(
            "its data had {} observations and {} actions, the data at `data.path` now has {} and {}",
            spec.observation_dim, spec.action_dim, found.0, found.1
        ),
    })
}

/// Lowest and highest actions (A each): the configured range; else the environment's; else ±1 if all
/// data lies within; else the data's own.
fn action_range(config: &RunConfig, dataset: &Dataset) -> Result<(Vec<f32>, Vec<f32>)> {
    let dim = dataset.action_dim;
    if let Some((low, high)) = config.data.action_range {
        return Ok((vec![low; dim], vec![high; dim]));
    }
    if let Some(name) = &config.evaluate.env
        && let Ok(env) = envs::make(name)
        && env.spec().action_dim == dim
    {
        return Ok((
            env.spec().action_low.clone(),
            env.spec().action_high.clone(),
        ));
    }
    // Half-precision copies of clipped actions may lie a little outside.
    if dataset.actions.iter().all(|a| a.abs() <= 1.0 + 1e-3) {
        return Ok((vec![-1.0; dim], vec![1.0; dim]));
    }
    let (mut low, mut high) = (vec![f32::MAX; dim], vec![f32::MIN; dim]);
    for action in dataset.actions.chunks_exact(dim) {
        for (i, &value) in action.iter().enumerate() {
            (low[i], high[i]) = (low[i].min(value), high[i].max(value));
        }
    }
    tracing::warn!(
        "actions leave ±1 and no environment says their range: the data's own range is used; set \
         `data.action_range` if you know better"
    );
    Ok((low, high))
}

/// `A..B` as seeds A, A+1, ..., B-1.
///
/// # Errors
/// If it is not such a range, or empty.
pub fn parse_seeds(text: &str) -> Result<Vec<u64>> {
    let parsed = text
        .split_once("..")
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parsed {
        Some((first, end)) if first < end => Ok((first..end).collect()),
        _ => Err(Error::Config(format!(
            "`--seeds {text}`: expected A..B with A < B, e.g. 0..5"
        ))),
    }
}

/// `runs/<algorithm>-<data set>`, named after the configuration file's place.
pub fn default_out(config_path: &Path) -> PathBuf {
    let name = |path: Option<&std::ffi::OsStr>| {
        path.map_or_else(
            || "run".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    };
    let dataset = name(config_path.file_stem());
    let folder = config_path.parent().and_then(Path::file_name);
    PathBuf::from("runs").join(format!("{}-{dataset}", name(folder)))
}
