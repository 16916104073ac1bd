//! Runs from start to end: the data flow on one page.
//!
//! ```text
//! file -> Dataset -> Algorithm::update ... -> Policy x Environment -> score
//! ```

use crate::app::prepare::{
    PreparedFor, check_goal, evaluator_for, interaction_for, load_data, prepare,
};
use crate::formats::files;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;

use crate::app::action_range;
use crate::app::checkpoint::fingerprint::{
    DataFingerprint, differences, free_overrides, listed, settings,
};
use crate::app::checkpoint::{RunDir, RunSpec, RunState};
use crate::app::config::{LARGEST_SEED, Purpose, RunConfig};
use crate::app::evaluate::Evaluator;
use crate::app::evaluations::Evaluations;
use crate::app::fqe;
use crate::app::fqe::FqeConfig;
use crate::app::online::interactive;
use crate::app::pretrained;
use crate::app::pretrained::Request;
use crate::app::trainer::{Outcome, Training};
use crate::envs;
use trajformer_core::algorithm::Algorithm;
use trajformer_core::dataset::Dataset;
use trajformer_core::device::open_device;
use trajformer_core::environment::EnvSpec;
use trajformer_core::error::{Error, Result};
use trajformer_core::interrupt::Interrupt;
use trajformer_core::normalizer::ActionBounds;
use trajformer_core::policy::Policy;
use trajformer_models::rng::Streams;

/// What a caller gives a run beside its configuration; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Stops it early, with a checkpoint.
    pub interrupt: Interrupt,
}

/// Trains a new run in the folder `out`.
///
/// # Errors
/// If configuration, data, environment or folder don't fit, or training fails.
pub fn start(config: &RunConfig, out: &Path) -> Result<Outcome> {
    start_with(config, out, &RunOptions::default())
}

/// Trains a new run in the folder `out`, with `options`.
///
/// # Errors
/// As [`start`].
pub fn start_with(config: &RunConfig, out: &Path, options: &RunOptions) -> Result<Outcome> {
    let dataset = load_data(config)?;
    start_on_with(config, &dataset, out, options)
}

/// Trains a new run on a data set that is in memory already.
///
/// # Errors
/// As [`start`].
pub fn start_on(config: &RunConfig, dataset: &Dataset, out: &Path) -> Result<Outcome> {
    start_on_with(config, dataset, out, &RunOptions::default())
}

fn start_on_with(
    config: &RunConfig,
    dataset: &Dataset,
    out: &Path,
    options: &RunOptions,
) -> Result<Outcome> {
    check_schedules(config)?;
    dataset.require_steps()?;
    let mut evaluator = evaluator_for(config, dataset, &options.interrupt)?;
    let spec = evaluator.as_ref().map(Evaluator::spec);
    let (action_low, action_high) = action_range::of_run(config, dataset, spec)?;
    let mut algorithm = prepare(
        config,
        (&action_low, &action_high),
        &open_device(&config.device)?,
        None,
        &PreparedFor::Training {
            data: dataset,
            evaluator: evaluator.as_ref(),
            resumed: false,
        },
    )?;
    check_goal(evaluator.as_ref(), &*algorithm)?;
    let mut interaction = interaction_for(config, &mut *algorithm)?;
    let spec = RunSpec {
        observation_dim: dataset.observation_dim,
        action_dim: dataset.action_dim,
        action_low,
        action_high,
        env_name: dataset.env_name.clone(),
        settings: settings(config)?,
        data: Some(DataFingerprint::of(dataset)),
    };
    let description = algorithm.description();
    let instructions = algorithm.instructed().map(|told| Arc::clone(told.known()));
    let run = RunDir::create(out, config, &spec, description, instructions.as_deref())?;
    Training {
        algorithm: &mut *algorithm,
        evaluator: evaluator.as_mut(),
        run: &run,
        train: &config.train,
        evaluate: &config.evaluate,
        total_updates: config.total_updates(),
        interaction: interaction.as_mut(),
        interrupt: &options.interrupt,
    }
    .run(
        &RunState::new(0, 0.0, None),
        &mut Streams::from_seed(config.seed).stream("train"),
    )
}

/// Continues a run, bit for bit; one that is finished already reports what it found and stays as it
/// is. `overrides` may change `train.updates`, `online.steps`, `data.path`, `device` and the length of a learning rate's
/// decay, nothing else. On another device the last bits are others from then on. A decay over the training's own updates is as long as they are now.
///
/// # Errors
/// If the run or its data can't be read, its configuration or data is not what it was started with,
/// another process trains it, or training fails.
pub fn resume(path: &Path, overrides: &[String]) -> Result<Outcome> {
    resume_with(path, overrides, &RunOptions::default())
}

/// Continues a run as [`resume`] does, with `options`.
///
/// # Errors
/// As [`resume`].
pub fn resume_with(path: &Path, overrides: &[String], options: &RunOptions) -> Result<Outcome> {
    let run = RunDir::open_to_train(path)?;
    let (stored, spec) = (run.config()?, run.spec()?);
    spec.check_settings(&stored, path)?;
    let config = stored.with_overrides(overrides)?;
    let changed = differences(&settings(&stored)?, &settings(&config)?);
    if !changed.is_empty() {
        return Err(Error::Config(format!(
            "`--resume` can change `train.updates`, `online.steps` and how long a learning rate decays \
             only (and `data.path` and `device`, for data and runs that have moved), but {}; start a new run for other \
             settings",
            listed(&changed)
        )));
    }
    let state = run.state()?;
    let done = state.as_ref().map_or(0, |state| state.update);
    let offline = stored.train.updates;
    if done > offline && config.train.updates != offline {
        return Err(Error::Config(format!(
            "`train.updates` is {}, but the run has learned online since update {offline}: only \
             `online.steps` can change",
            config.train.updates
        )));
    }
    let total = config.total_updates();
    if total < done {
        return Err(Error::Config(format!(
            "`train.updates` is {} and `online.steps` {}, but {done} updates are done; raise one with \
             `--set train.updates=N`",
            config.train.updates, config.online.steps
        )));
    }
    match &state {
        Some(state) if done == total && !state.evaluation_pending => {
            return finished(&run, &config, state);
        }
        Some(_) => {}
        None => run.refuse_tensors_without_state()?,
    }
    check_schedules(&config)?;
    let changed = Changed {
        stored: &stored,
        config: &config,
    };
    continue_run(&run, &changed, &spec, done, options)
}

/// What a finished run found: its last evaluation.
fn finished(run: &RunDir, config: &RunConfig, state: &RunState) -> Result<Outcome> {
    let env = config.evaluate.env.as_deref().unwrap_or_default();
    tracing::info!(
        "{}: all of its {} updates are done; raise them with `--set train.updates=N`",
        run.path().display(),
        state.update
    );
    Ok(Outcome {
        update: state.update,
        updates_per_s: 0.0,
        seconds: state.seconds,
        evaluation: Evaluations::last(run.path(), env)?,
        best: state.best,
        normalized: envs::score::reference_for(env).is_some(),
        interrupted: false,
    })
}

/// The configuration of a run that goes on: as it is kept, and as it is from now on.
struct Changed<'a> {
    stored: &'a RunConfig,
    config: &'a RunConfig,
}

fn continue_run(
    run: &RunDir,
    &Changed { stored, config }: &Changed<'_>,
    spec: &RunSpec,
    done: u64,
    options: &RunOptions,
) -> Result<Outcome> {
    let dataset = load_data(config).map_err(hint_at_working_directory)?;
    check_same_data(spec, &dataset, run.path())?;
    let mut evaluator = evaluator_for(config, &dataset, &options.interrupt)?;
    let device = open_device(&config.device).map_err(hint_at_other_device)?;
    if config.device != stored.device {
        tracing::warn!(
            "{}: goes on on `{}`, after `{}`: its numbers may differ in their last bits from those of a run on one device",
            run.path().display(),
            config.device,
            stored.device
        );
    }
    let stored_instructions = run.instructions()?;
    let unsaved = stored_instructions.is_none();
    let mut algorithm = prepare(
        config,
        (&spec.action_low, &spec.action_high),
        &device,
        stored_instructions,
        &PreparedFor::Training {
            data: &dataset,
            evaluator: evaluator.as_ref(),
            resumed: done > 0,
        },
    )?;
    // Of a run that was made by an earlier version, and killed before it had kept them.
    if let Some(told) = algorithm.instructed().filter(|_| unsaved) {
        run.save_instructions(told.known())?;
    }
    let mut interaction = interaction_for(config, &mut *algorithm)?;
    if done > config.train.updates {
        interactive(&mut *algorithm)?.prepare(&config.online.phase())?;
    }
    let (mut rng, state) = if done > 0 {
        run.restore(&mut *algorithm)?
    } else {
        // Killed before the first checkpoint: the run starts at its beginning.
        (
            Streams::from_seed(config.seed).stream("train"),
            RunState::new(0, 0.0, None),
        )
    };
    if config != stored {
        run.set_config(config)?;
    }
    Training {
        algorithm: &mut *algorithm,
        evaluator: evaluator.as_mut(),
        run,
        train: &config.train,
        evaluate: &config.evaluate,
        total_updates: config.total_updates(),
        interaction: interaction.as_mut(),
        interrupt: &options.interrupt,
    }
    .run(&state, &mut rng)
}

/// Fails where a schedule leaves the policy untrained, and says what else of schedules does not fit the run.
fn check_schedules(config: &RunConfig) -> Result<()> {
    for warning in config.algorithm.check_schedules(config.train.updates)? {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// A run goes on where it was, bit for bit, or elsewhere if that is asked for.
fn hint_at_other_device(error: Error) -> Error {
    match error {
        Error::NoDevice { name, problem } => Error::NoDevice {
            problem: format!(
                "{problem}: the run was trained there; `--set device=cpu` goes on on the CPU, with other last bits"
            ),
            name,
        },
        other => other,
    }
}

/// Relative paths of data are the likeliest reason why a run that trained does not find it again; else it is gone.
fn hint_at_working_directory(error: Error) -> Error {
    match error {
        Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            let way = "give the data's new place with `--set data.path=...`";
            let problem = if path.is_relative() {
                format!(
                    "{source}; `data.path` starts at the working directory: resume from the folder that \
                 the run was started in, or {way}"
                )
            } else {
                format!("{source}; training goes on with the run's data only: {way}")
            };
            Error::data(&path, problem)
        }
        other => other,
    }
}

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
/// again. A seed that fails (as [`start`] and [`resume`] do, or because its folder holds a run of another configuration)
/// does not keep the others from being trained. An interrupt ends the series early: fewer runs than seeds are there, or the
/// last is interrupted.
pub fn series(config: &RunConfig, out: &Path, seeds: &[u64], options: &RunOptions) -> Series {
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

/// Trains the run in `folder`: a new one, or the one that is there, if it was started with `config`. Its data may have
/// moved.
///
/// # Errors
/// As [`start`] and [`resume`], and if there is a run of another configuration.
pub fn start_or_resume(config: &RunConfig, folder: &Path, options: &RunOptions) -> Result<Outcome> {
    if !folder.join("config.toml").is_file() {
        return start_with(config, folder, options);
    }
    let stored = RunDir::open(folder)?.config()?;
    let changed = differences(&settings(&stored)?, &settings(config)?);
    if !changed.is_empty() {
        return Err(Error::Run {
            path: folder.to_path_buf(),
            problem: format!(
                "there is a run of another configuration already ({}); choose another folder with \
                 `--out`",
                listed(&changed)
            ),
        });
    }
    let mut overrides = free_overrides(config)?;
    let paths = config.data.path.iter();
    let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    if !paths.is_empty() {
        overrides.push(format!("data.path={}", toml::Value::from(paths)));
    }
    resume_with(folder, &overrides, options)
}

/// A trained run, ready to act; made without its data.
pub struct TrainedRun {
    /// Its configuration, with the overrides it was opened with.
    pub config: RunConfig,
    /// Its shapes and bounds.
    pub spec: RunSpec,
    /// Its checkpoint's state.
    pub state: RunState,
    /// The algorithm with trained networks. It holds neither data nor optimisers, so it can't train on.
    pub algorithm: Box<dyn Algorithm>,
}

/// Opens a trained run without its data. `overrides` may change where and how it acts (device, planner, targets), nothing
/// that training decided.
///
/// # Errors
/// If it can't be read, or an override sets a key that has no effect any more: the error says which have.
pub fn open(path: &Path, overrides: &[String]) -> Result<TrainedRun> {
    let request = Request {
        overrides,
        ..Request::default()
    };
    open_with(path, &request)
}

/// The same for a model of another library too ([`pretrained`]), which may need data or the environment.
///
/// # Errors
/// As [`open`], and if a run directory is given data.
pub fn open_with(path: &Path, request: &Request<'_>) -> Result<TrainedRun> {
    if !path.join("config.toml").is_file()
        && let Some(imported) = pretrained::open(path, request)?
    {
        return Ok(TrainedRun {
            config: imported.config,
            spec: imported.spec,
            state: RunState::new(0, 0.0, None),
            algorithm: imported.algorithm,
        });
    }
    let overrides = request.overrides;
    let run = RunDir::open(path)?;
    if request.data.is_some() {
        return Err(Error::Run {
            path: path.to_path_buf(),
            problem:
                "it is a run of ours, which has all that it needs: `--data` is for models of other \
                      libraries"
                    .to_owned(),
        });
    }
    let stored = run.config()?;
    let config = stored.opened_with(overrides, request.purpose, &[])?;
    let spec = run.spec()?;
    let device = acting_device(&config, overrides)?;
    let instructions = run.instructions()?;
    let known = instructions.is_some();
    let purpose = PreparedFor::Acting {
        observation_dim: spec.observation_dim,
        action_dim: spec.action_dim,
    };
    let range = (&spec.action_low[..], &spec.action_high[..]);
    let mut algorithm = prepare(&config, range, &device, instructions, &purpose)?;
    let state = run.restore_policy(&mut *algorithm)?;
    if algorithm.instructed().is_some() && !known {
        return Err(Error::Run {
            path: path.to_path_buf(),
            problem: "instructions.safetensors is missing: restore it from a copy".to_owned(),
        });
    }
    Ok(TrainedRun {
        config,
        spec,
        state,
        algorithm,
    })
}

/// The device that a run acts on: that of its training, where it can be used; the CPU in its place, which a warning says.
/// One that is asked for now is taken or refused.
fn acting_device(config: &RunConfig, overrides: &[String]) -> Result<Device> {
    let asked = |text: &String| {
        text.split('=')
            .next()
            .is_some_and(|key| key.trim() == "device")
    };
    match open_device(&config.device) {
        Err(error @ Error::NoDevice { .. }) if !overrides.iter().any(asked) => {
            tracing::warn!(
                "{error}; the run acts on the CPU in its place, which may change the last bits of what it does"
            );
            Ok(Device::Cpu)
        }
        other => other,
    }
}

/// The policy of a trained run for an environment, to collect data with.
///
/// # Errors
/// If the run can't be read, does not fit the environment, needs a goal, or is asked to `sample`.
pub fn policy(path: &Path, spec: &EnvSpec, sample: bool) -> Result<Box<dyn Policy>> {
    let trained = open(path, &[])?;
    let refuse = |problem: String| {
        Err(Error::Run {
            path: path.to_path_buf(),
            problem,
        })
    };
    let (o, a) = (trained.spec.observation_dim, trained.spec.action_dim);
    if (o, a) != (spec.observation_dim, spec.action_dim) {
        return refuse(format!(
            "it has {o} observations and {a} actions, `{}` has {} and {}",
            spec.name, spec.observation_dim, spec.action_dim
        ));
    }
    if sample {
        return refuse(
            "a run acts without sampling: leave `--sample` out, or give `--noise 0.1`".to_owned(),
        );
    }
    let policy = trained.algorithm.policy()?;
    if policy.needs_goal() {
        return refuse("it needs a goal for every episode, which collecting has not".to_owned());
    }
    Ok(policy)
}

/// Judges a trained run by data alone; see [`fqe`].
///
/// # Errors
/// If run or data can't be read or don't fit each other, or the run's policy is not memoryless.
pub fn judge(
    path: &Path,
    overrides: &[String],
    data: &Path,
    config: &FqeConfig,
) -> Result<fqe::Estimate> {
    let request = Request {
        overrides,
        purpose: Purpose::Judge,
        ..Request::default()
    };
    let trained = open_with(path, &request)?;
    let options = trained.config.data.load_options();
    let dataset = files::load_with(&[data.to_path_buf()], &options)?;
    let (o, a) = (trained.spec.observation_dim, trained.spec.action_dim);
    if (o, a) != (dataset.observation_dim, dataset.action_dim) {
        return Err(Error::Unsuitable(format!(
            "{} has {o} observations and {a} actions, {} has {} and {}",
            path.display(),
            data.display(),
            dataset.observation_dim,
            dataset.action_dim
        )));
    }
    let (low, high) = (&trained.spec.action_low, &trained.spec.action_high);
    let bounds = ActionBounds::new(low, high, &Device::Cpu)?;
    fqe::estimate(&mut *trained.algorithm.policy()?, &dataset, &bounds, config)
}

fn check_same_data(spec: &RunSpec, dataset: &Dataset, path: &Path) -> Result<()> {
    let refuse = |problem: String| {
        Err(Error::Run {
            path: path.to_path_buf(),
            problem,
        })
    };
    let found = (dataset.observation_dim, dataset.action_dim);
    if found != (spec.observation_dim, spec.action_dim) {
        return refuse(format!(
            "its data had {} observations and {} actions, the data at `data.path` now has {} and {}",
            spec.observation_dim, spec.action_dim, found.0, found.1
        ));
    }
    let Some(expected) = &spec.data else {
        return Ok(());
    };
    match expected.difference(&DataFingerprint::of(dataset)) {
        Some(problem) => refuse(problem),
        None => Ok(()),
    }
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
    let wrong = |problem: &str| Err(Error::Config(format!("`--seeds {text}`: {problem}")));
    match parsed {
        Some((first, end)) if first < end && end - first > MOST_SEEDS => wrong(&format!(
            "{} seeds, expected at most {MOST_SEEDS}",
            end - first
        )),
        Some((first, end)) if first < end && end - 1 > LARGEST_SEED => {
            wrong(&format!("expected seeds up to {LARGEST_SEED}"))
        }
        Some((first, end)) if first < end => Ok((first..end).collect()),
        _ => wrong("expected A..B with A < B, e.g. 0..5"),
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
