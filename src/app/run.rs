//! Runs from start to end: the data flow on one page.
//!
//! ```text
//! file -> Dataset -> Algorithm::update ... -> Policy x Environment -> score
//! ```

use crate::app::prepare::{
    ActionRange, PreparedFor, Recipe, Rule, check_encoder, check_goal, environment_misfits,
    evaluator_for, interaction_for, load_data, prepare,
};
use crate::formats::files;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;

use crate::app::action_range;
use crate::app::asked::Asked;
use crate::app::checkpoint::fingerprint::{
    DataFingerprint, Difference, all_settings, data_name, differences, free_overrides, is_free,
    listed, settings,
};
use crate::app::checkpoint::folders::check_configured;
use crate::app::checkpoint::lost::lost;
use crate::app::checkpoint::named::named;
use crate::app::checkpoint::{Change, EarlyStop, RunDir, RunSpec, RunState};
use crate::app::config::{Purpose, RunConfig, idle_keys};
use crate::app::critic;
use crate::app::datasets;
use crate::app::evaluate::Evaluator;
use crate::app::evaluations::Evaluations;
use crate::app::fqe;
use crate::app::fqe::FqeConfig;
use crate::app::from_data;
use crate::app::held_out;
use crate::app::imported;
use crate::app::imported::Request;
use crate::app::logger::Tables;
use crate::app::lost_rows::{lost_before, lost_of, lost_rows};
use crate::app::online::{Interaction, interactive};
use crate::app::ranks;
use crate::app::trainer::{Outcome, Training};
use crate::app::whole::check_whole;
use crate::envs;
use trajformer_core::algorithm::Algorithm;
use trajformer_core::dataset::Dataset;
use trajformer_core::device::open_device;
use trajformer_core::environment::EnvSpec;
use trajformer_core::error::{Ability, Error, Origin, Result};
use trajformer_core::interrupt::Interrupt;
use trajformer_core::normalizer::ActionBounds;
use trajformer_core::policy::Policy;
use trajformer_models::encoder::EncoderFactory;
use trajformer_models::ranks::Ranks;
use trajformer_models::rng::{Rng, Streams};

/// What a caller gives a run beside its configuration; by default nothing.
#[derive(Clone, Default)]
pub struct RunOptions<'a> {
    /// What is learned from, in place of the files that `data.path` names.
    pub data: Option<&'a Dataset>,
    /// A learning rule of the caller's own; the configuration has a table `[algorithm.custom]` then.
    pub rule: Option<Rule<'a>>,
    /// Makes encoders of the caller's own, in place of the hidden layers of actors, critics and V. The run keeps its name, and
    /// goes on and opens with an encoder of the same name only. BC and all value-based methods but EDAC take one.
    pub encoder: Option<Arc<dyn EncoderFactory>>,
    /// Stops it early, with a checkpoint.
    pub interrupt: Interrupt,
    /// Processes that make every update together, each with these options but for its own rank. The first writes the run and evaluates it.
    pub ranks: Option<Arc<dyn Ranks>>,
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
pub fn start_with(config: &RunConfig, out: &Path, options: &RunOptions<'_>) -> Result<Outcome> {
    let made = || -> Result<(Ready, Option<RunDir>)> {
        let mut ready = Ready::new(config, options)?;
        let run = if ranks::leads(options.ranks.as_ref()) {
            let made = RunDir::create(out, &ready.config, &ready.spec, &mut *ready.algorithm);
            Some(made?)
        } else {
            None
        };
        Ok((ready, run))
    };
    let (mut ready, run) = ranks::agreed(options.ranks.as_ref(), made())?;
    ready.train(run.as_ref(), options)
}

/// Trains a new run on a data set that is in memory already.
///
/// # Errors
/// As [`start`].
pub fn start_on(config: &RunConfig, dataset: &Dataset, out: &Path) -> Result<Outcome> {
    let options = RunOptions {
        data: Some(dataset),
        ..RunOptions::default()
    };
    start_with(config, out, &options)
}

/// A run that is ready for its next update: the data set that it was made from need not be kept, each algorithm has its own
/// copy of what it learns from.
pub(super) struct Ready {
    pub(super) config: RunConfig,
    pub(super) spec: RunSpec,
    pub(super) algorithm: Box<dyn Algorithm>,
    evaluator: Option<Evaluator>,
    interaction: Option<Interaction>,
    state: RunState,
    /// What the tables of a run that goes on hold.
    tables: Tables,
    pub(super) rng: Rng,
}

impl Ready {
    /// A new run.
    ///
    /// # Errors
    /// If configuration, data and environment don't fit each other.
    pub(super) fn new(config: &RunConfig, options: &RunOptions<'_>) -> Result<Self> {
        let config = &with_encoder(config, options);
        config.check()?;
        check_encoder(config, options.encoder.as_ref())?;
        check_schedules(config)?;
        critic::check_asked(config)?;
        for warning in idle_keys(config)? {
            tracing::warn!("{warning}");
        }
        let loaded;
        let dataset = match options.data {
            Some(dataset) => dataset,
            None => {
                loaded = load_data(config).map_err(hint_at_where_data_comes_from)?;
                &loaded
            }
        };
        dataset.require_steps()?;
        config.algorithm.check_takes_actions_of(dataset)?;
        let whole = dataset;
        let split = held_out::split(config, whole)?;
        let dataset = &*split.training;
        let config = &from_data::settled(config, dataset)?;
        let evaluator = evaluator_for(config, dataset, &options.interrupt)?;
        for warning in environment_misfits(config, dataset, evaluator.as_ref()) {
            tracing::warn!("{warning}");
        }
        let spec = evaluator.as_ref().map(Evaluator::spec);
        let action_kind = action_range::kind_of_run(config, whole, spec);
        let (action_low, action_high) = action_range::of_run(config, whole, spec)?;
        let mut algorithm = prepare(
            Recipe {
                config,
                rule: options.rule,
                encoder: options.encoder.as_ref(),
            },
            &ActionRange {
                kind: action_kind,
                low: &action_low,
                high: &action_high,
            },
            &open_device(&config.device)?,
            None,
            &PreparedFor::Training {
                data: dataset,
                evaluator: evaluator.as_ref(),
                resumed: false,
            },
        )?;
        split.give(&mut *algorithm)?;
        let fingerprint = DataFingerprint::of(whole);
        critic::give(&mut *algorithm, config, Some(&fingerprint))?;
        check_goal(evaluator.as_ref(), &*algorithm)?;
        let interaction = interaction_for(config, &mut *algorithm)?;
        let spec = RunSpec {
            observation_dim: dataset.observation_dim,
            action_dim: dataset.action_dim,
            action_choices: action_kind.choices(),
            action_low,
            action_high,
            env_name: dataset.env_name.clone(),
            settings: settings(config)?,
            data: Some(fingerprint),
            data_name: Some(data_name(&config.data.path)).filter(|name| !name.is_empty()),
            instructions: None,
        };
        ranks::give(options.ranks.as_ref(), config, &mut *algorithm)?;
        Ok(Self {
            spec,
            algorithm,
            evaluator,
            interaction,
            state: RunState::new(0, 0.0, None),
            tables: Tables::default(),
            rng: Streams::from_seed(config.seed).stream("train"),
            config: config.clone(),
        })
    }

    /// Trains to the end, in the folder of `run` or in memory.
    ///
    /// # Errors
    /// If training fails.
    pub(super) fn train(
        &mut self,
        run: Option<&RunDir>,
        options: &RunOptions<'_>,
    ) -> Result<Outcome> {
        Training {
            algorithm: &mut *self.algorithm,
            evaluator: self
                .evaluator
                .as_mut()
                .filter(|_| ranks::leads(options.ranks.as_ref())),
            run,
            tables: std::mem::take(&mut self.tables),
            train: &self.config.train,
            evaluate: &self.config.evaluate,
            total_updates: self.config.total_updates(),
            interaction: self.interaction.as_mut(),
            interrupt: &options.interrupt,
            ranks: options.ranks.as_ref(),
        }
        .run(&self.state, &mut self.rng)
    }
}

/// Continues a run, bit for bit; one that is finished already, or that stopped early, reports what it found and stays as it
/// is. `overrides` may change `train.updates`, `online.steps`, `data.path`, `evaluate.python`, `device` and the length of a
/// learning rate's decay, what is kept (`train.keep`, `train.keep_every_updates`) and when it stops early
/// (`train.patience_evaluations`, `train.patience_held_out`), what is done about gradients that are not finite (`train.on_nonfinite`, `train.nonfinite_limit`), or measures losses on what is held out, nothing else. On another device the last bits are others from then on. A decay over the training's own updates is as long as they are now.
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
pub fn resume_with(path: &Path, overrides: &[String], options: &RunOptions<'_>) -> Result<Outcome> {
    resume_as(path, overrides, options, &mut Asked::on(options.data))
}

/// As [`resume_with`], for whom `asked` has read data already.
fn resume_as(
    path: &Path,
    overrides: &[String],
    options: &RunOptions<'_>,
    asked: &mut Asked,
) -> Result<Outcome> {
    let mine = |asked: &mut Asked| resumed(path, overrides, options, asked);
    // The first rank writes what of the run changes before the others read it.
    let made = if ranks::leads(options.ranks.as_ref()) {
        let made = ranks::agreed(options.ranks.as_ref(), mine(asked))?;
        ranks::agreed(options.ranks.as_ref(), Ok(made))?
    } else {
        ranks::agreed(options.ranks.as_ref(), Ok(()))?;
        ranks::agreed(options.ranks.as_ref(), mine(asked))?
    };
    let Resumed { run, mut ready } = match made {
        Ok(ready) => ready,
        Err(finished) => return Ok(*finished),
    };
    let outcome = ready.train(
        Some(&run).filter(|_| ranks::leads(options.ranks.as_ref())),
        options,
    )?;
    Ok(Outcome {
        lost_rows: lost_rows(&run, &ready.config, run.state()?.as_ref()),
        ..outcome
    })
}

/// A run that goes on.
struct Resumed {
    run: RunDir,
    ready: Ready,
}

/// A run that is ready for its next update, or what it found, if it is finished.
fn resumed(
    path: &Path,
    overrides: &[String],
    options: &RunOptions<'_>,
    asked: &mut Asked,
) -> Result<std::result::Result<Resumed, Box<Outcome>>> {
    let leads = ranks::leads(options.ranks.as_ref());
    let run = if leads {
        RunDir::open_to_train(path)?
    } else {
        RunDir::open(path)?
    };
    let Continued {
        stored,
        config,
        spec,
        state,
        tables,
    } = continued(&run, overrides, options, asked)?;
    let read = (tables.evaluations(), tables.logged());
    if let Some(state) = state.as_ref().filter(|state| state.is_trained(&config)) {
        if state.copy_pending && leads {
            // A kill came between the last checkpoint and its copy.
            run.keep_due(state, stored.train.keep)?;
        }
        let state = &RunState {
            copy_pending: false,
            ..state.clone()
        };
        return Ok(Err(Box::new(Outcome {
            lost_rows: lost_of(&run, &config, Some(state), read),
            ..finished(&run, &config, state)?
        })));
    }
    for lost in lost_before(&run, &config, state.as_ref(), read) {
        tracing::warn!("{}: {lost}; it goes on without", path.display());
    }
    let done = state.as_ref().map_or(0, |state| state.update);
    check_schedules(&config)?;
    let of_rates = rates_changed(&stored, &config)?.into_iter();
    let of_rates: Vec<Difference> = of_rates.filter(|_| done > 0).collect();
    for warning in of_rates.iter().map(|one| lengthened(one, &config)) {
        tracing::warn!("{}: {warning}", path.display());
    }
    let changed = Changed {
        stored: &stored,
        config: &config,
        of_rates,
    };
    let mut ready = ready_to_continue(&run, changed, spec, done, options)?;
    if leads {
        ready.tables = tables;
    }
    Ok(Ok(Resumed { run, ready }))
}

/// A run that can be gone on with.
struct Continued {
    /// Its configuration as it is kept.
    stored: RunConfig,
    /// The same from now on.
    config: RunConfig,
    spec: RunSpec,
    state: Option<RunState>,
    tables: Tables,
}

/// What `run` goes on with, where `overrides` leave it the run that it is and its files are whole. Nothing of it is changed.
fn continued(
    run: &RunDir,
    overrides: &[String],
    options: &RunOptions<'_>,
    asked: &mut Asked,
) -> Result<Continued> {
    let path = run.path();
    let (stored, spec) = (run.config()?, run.spec()?);
    spec.check_settings(&stored, path)?;
    if let Some(changed) = run.changed_config() {
        tracing::warn!("{changed}");
    }
    let config = stored.with_overrides(overrides)?;
    let changed = differences(&settings(&stored)?, &settings(&config)?);
    if !changed.is_empty() {
        return Err(Error::settings(format!(
            "a run that is resumed can change `train.updates`, `online.steps`, how long a learning rate decays, what is kept \
             and when it stops early only (and `data.path`, `evaluate.python` and `device`, for data and runs that have moved), but {}; start a new run for other \
             settings",
            listed(&changed)
        )));
    }
    // Its evaluations act, and a configuration that is stored anew would leave the key out.
    check_acting(&config, &stored, run)?;
    let state = run.state()?;
    let done = state.as_ref().map_or(0, |state| state.update);
    let offline = stored.train.updates;
    if done > offline && stored.online.steps > 0 && config.train.updates != offline {
        return Err(Error::settings(format!(
            "`train.updates` is {}, but the run has learned online since update {offline}: only \
             `online.steps` can change",
            config.train.updates
        )));
    }
    let total = config.total_updates();
    if total < done {
        return Err(Error::settings(format!(
            "`train.updates` is {} and `online.steps` {}, but {done} updates are done; raise one",
            config.train.updates, config.online.steps
        )));
    }
    // What is given must be what was learned from, though nothing may be left to learn.
    if let Some(dataset) = options.data {
        check_same_data(&spec, dataset, path)?;
    }
    // Before anything of the run is changed, or it is taken for finished.
    let tables = check_whole(run, state.as_ref())?;
    if let Some(misfits) = asked.changed_on_its_way(&stored, &config, &spec, state.as_ref())? {
        let is_end = state.as_ref().is_some_and(|state| state.is_end_of(&config));
        let what = if is_end {
            "it is finished"
        } else {
            "it goes on"
        };
        return Err(Error::Run {
            path: path.to_path_buf(),
            problem: format!(
                "{what} with what it was started with, and is asked for something else ({misfits}); give the old value, or start a new run"
            ),
        });
    }
    Ok(Continued {
        stored,
        config,
        spec,
        state,
        tables,
    })
}

const UPDATES: &str = "train.updates";

/// What a run changes that its learning rates go by: their decay, or its number of updates where a schedule is as long.
fn rates_changed(stored: &RunConfig, config: &RunConfig) -> Result<Vec<Difference>> {
    let by_length = !config.algorithm.keys_of_length().is_empty();
    let of_rates = |key: &str| {
        (key == UPDATES && by_length) || (is_free(key) && key.ends_with("decay_updates"))
    };
    let mut changed = differences(&all_settings(stored)?, &all_settings(config)?);
    changed.retain(|one| of_rates(&one.key));
    Ok(changed)
}

/// What to say of a run that goes on with another number of updates, or another decay of its learning rates, than it was started with: its past
/// was trained at the old rates.
fn lengthened(one: &Difference, config: &RunConfig) -> String {
    if one.key != UPDATES {
        return format!("{one} from here on: what is done was trained at the rates of before");
    }
    let keys = config.algorithm.keys_of_length();
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    let (before, now) = (&one.before, &one.now);
    format!(
        "`{UPDATES}` was {before} and is {now}: {} goes by it, so that learning rates are others from here on than they would have been, \
         and what is done was not trained at the rates of a run of {now} updates",
        keys.join(", ")
    )
}

/// What a finished run found: its last evaluation.
fn finished(run: &RunDir, config: &RunConfig, state: &RunState) -> Result<Outcome> {
    let folder = run.path().display();
    if let Some(stop) = state.early_stop(config) {
        let without_gain = match stop {
            EarlyStop::Scores => {
                format!(
                    "{} evaluations without a better score",
                    state.evaluations_without_gain
                )
            }
            EarlyStop::HeldOut => {
                let lowest = state.held_out.map_or(0, |lowest| lowest.without_gain);
                format!("{lowest} losses on held-out episodes without a lower one")
            }
        };
        tracing::info!(
            "{folder}: it stopped early, after {} of {} updates and {without_gain}; raise `{}` for more, or set it to 0",
            state.update,
            config.total_updates(),
            stop.key()
        );
    } else {
        tracing::info!(
            "{folder}: all of its {} updates are done; raise `train.updates` for more",
            state.update
        );
    }
    as_it_is(run, config, state)
}

/// What a run has found until its checkpoint, as its files have it.
pub(super) fn as_it_is(run: &RunDir, config: &RunConfig, state: &RunState) -> Result<Outcome> {
    let env = config.evaluate.env.as_deref().unwrap_or_default();
    Ok(Outcome {
        update: state.update,
        updates_per_s: 0.0,
        seconds: state.seconds,
        evaluation: Evaluations::last(run.path(), env)?,
        best: state.best,
        normalized: envs::score::reference_for(env).is_some(),
        interrupted: !state.is_end_of(config),
        evaluation_pending: state.evaluation_pending,
        stopped_early: state.early_stop(config),
        held_out: state.held_out,
        lost_rows: Vec::new(),
        changed: state.changed.clone(),
    })
}

/// Makes the run `out` that goes on from a checkpoint of another: `RUN@50000`, `RUN@best`, `RUN@last` or `RUN`. It has all
/// that the other has logged and kept until then; trained to the same end, with [`resume`], it has the same bits. The other
/// stays as it is.
///
/// # Errors
/// If the checkpoint can't be gone on with, because something of it is missing, say, or something is at `out` already: nothing is left at `out`
/// then.
pub fn branch(from: &Path, out: &Path) -> Result<()> {
    branch_with(from, out, &[])
}

/// As [`branch`], of a run that will be resumed with these `overrides`, as [`resume`] takes them: they are looked at before.
///
/// # Errors
/// As [`branch`], and if the run can't be resumed with them.
pub fn branch_with(from: &Path, out: &Path, overrides: &[String]) -> Result<()> {
    let run = RunDir::open(from)?;
    run.saved_state()?;
    continued(
        &run,
        overrides,
        &RunOptions::default(),
        &mut Asked::default(),
    )?;
    run.branch(out)
}

/// The configuration of a run that goes on: as it is kept, and as it is from now on.
struct Changed<'a> {
    stored: &'a RunConfig,
    config: &'a RunConfig,
    /// What learning rates go by.
    of_rates: Vec<Difference>,
}

fn ready_to_continue(
    run: &RunDir,
    Changed {
        stored,
        config,
        of_rates,
    }: Changed<'_>,
    spec: RunSpec,
    done: u64,
    options: &RunOptions<'_>,
) -> Result<Ready> {
    let loaded;
    let dataset = match options.data {
        Some(dataset) => dataset,
        None => {
            loaded = load_data(config).map_err(hint_at_working_directory)?;
            &loaded
        }
    };
    check_same_data(&spec, dataset, run.path())?;
    let split = held_out::split(config, dataset)?;
    let dataset = &*split.training;
    let evaluator = evaluator_for(config, dataset, &options.interrupt)?;
    let in_file = config.device == stored.device;
    let device = open_device(&config.device).map_err(|error| {
        hint_at_other_device(error, &stored.device).said_by(in_file.then(|| file_of(run)))
    })?;
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
        Recipe {
            config,
            rule: options.rule,
            encoder: options.encoder.as_ref(),
        },
        &ActionRange::of(&spec),
        &device,
        stored_instructions,
        &PreparedFor::Training {
            data: dataset,
            evaluator: evaluator.as_ref(),
            resumed: done > 0,
        },
    )?;
    // Of a run that was made by an earlier version, and killed before it had kept them.
    if let Some(told) = algorithm.instructed().filter(|_| unsaved) {
        run.save_instructions(told.known())?;
    }
    split.give(&mut *algorithm)?;
    let interaction = interaction_for(config, &mut *algorithm)?;
    if done > config.train.updates {
        interactive(&mut *algorithm)?.prepare(&config.online.phase())?;
    }
    let (rng, state) = if done > 0 {
        run.restore(&mut *algorithm)?
    } else {
        // Killed before the first checkpoint: the run starts at its beginning.
        critic::give(&mut *algorithm, config, spec.data.as_ref())?;
        (
            Streams::from_seed(config.seed).stream("train"),
            RunState::new(0, 0.0, None),
        )
    };
    ranks::give(options.ranks.as_ref(), config, &mut *algorithm)?;
    // Before the configuration: whoever finds that changed finds what it was.
    let changes = of_rates.into_iter();
    let changes = changes.map(|one| Change::after(done, one)).collect();
    let state = run.record_changes(state, changes)?;
    if config != stored || run.changed_config().is_some() {
        run.set_config(config)?;
    }
    Ok(Ready {
        config: config.clone(),
        spec,
        algorithm,
        evaluator,
        interaction,
        state,
        tables: Tables::default(),
        rng,
    })
}

/// The configuration of a new run: it names the encoder that the run is given.
pub(super) fn with_encoder(config: &RunConfig, options: &RunOptions<'_>) -> RunConfig {
    let given = options.encoder.as_ref().map(|encoder| encoder.name());
    RunConfig {
        encoder: config.encoder.clone().or(given),
        ..config.clone()
    }
}

/// Fails where a schedule leaves the policy untrained, and says what else of schedules does not fit the run.
fn check_schedules(config: &RunConfig) -> Result<()> {
    for warning in config.algorithm.check_schedules(config.train.updates)? {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// A run goes on where it was trained before, bit for bit, or elsewhere if that is asked for.
fn hint_at_other_device(error: Error, trained_on: &str) -> Error {
    match error {
        Error::NoDevice { name, problem } => Error::NoDevice {
            problem: if name == trained_on {
                format!(
                    "{problem}: the run was trained there; `device = \"cpu\"` goes on on the CPU, with other last bits"
                )
            } else {
                format!("{problem}: the run was trained on `{trained_on}`, where it can go on")
            },
            name,
        },
        other => other,
    }
}

/// A file that is not there: the key that names it, and what to do.
fn hint_at_where_data_comes_from(error: Error) -> Error {
    match error {
        Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            let place = if path.is_relative() {
                "`data.path` starts at the working directory"
            } else {
                "so says `data.path`"
            };
            let problem = format!(
                "{source}; {place}. docs/data.md says where data sets come from and how your own are written"
            );
            Error::DataMissing { path, problem }
        }
        other => other,
    }
}

/// Relative paths of data are the likeliest reason why a run that trained does not find it again; else it is gone.
fn hint_at_working_directory(error: Error) -> Error {
    match error {
        Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            let way = "give its new place in `data.path`";
            let problem = if path.is_relative() {
                format!(
                    "{source}; `data.path` starts at the working directory: resume from the folder that \
                 the run was started in, or {way}"
                )
            } else {
                format!("{source}; training goes on with the run's data only: {way}")
            };
            Error::DataMoved { path, problem }
        }
        other => other,
    }
}

/// Trains the run in `folder`: a new one, or the one that is there, if it was started with `config`. Its data may have
/// moved.
///
/// # Errors
/// As [`start`] and [`resume`], and if there is a run of another configuration.
pub fn start_or_resume(
    config: &RunConfig,
    folder: &Path,
    options: &RunOptions<'_>,
) -> Result<Outcome> {
    start_or_resume_as(config, folder, options, &mut Asked::on(options.data))
}

/// As [`start_or_resume`], for whom `asked` has read data already.
pub(super) fn start_or_resume_as(
    config: &RunConfig,
    folder: &Path,
    options: &RunOptions<'_>,
    asked: &mut Asked,
) -> Result<Outcome> {
    if !folder.join("config.toml").is_file() {
        check_configured(folder)?;
        return start_with(config, folder, options);
    }
    let config = &with_encoder(config, options);
    check_asked(&RunDir::open(folder)?, config, asked)?;
    let mut overrides = free_overrides(config)?;
    let paths = config.data.path.iter();
    let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    if !paths.is_empty() {
        overrides.push(format!("data.path={}", toml::Value::from(paths)));
    }
    resume_as(folder, &overrides, options, asked)
}

/// What a run in `folder` that is not trained now has found until its checkpoint.
///
/// # Errors
/// If it can't be read, or is one of another configuration than `config`.
pub(super) fn so_far(
    config: &RunConfig,
    folder: &Path,
    options: &RunOptions<'_>,
    asked: &mut Asked,
) -> Result<Outcome> {
    let (run, config) = (RunDir::open(folder)?, with_encoder(config, options));
    check_asked(&run, &config, asked)?;
    let state = run.saved_state()?;
    Ok(Outcome {
        lost_rows: lost_rows(&run, &config, Some(&state)),
        ..as_it_is(&run, &config, &state)?
    })
}

/// Fails if a run is not the one that `config` asks for.
fn check_asked(run: &RunDir, config: &RunConfig, asked: &mut Asked) -> Result<()> {
    match asked.misfits(run, config)? {
        None => Ok(()),
        Some(misfits) => Err(Error::Occupied {
            path: run.path().to_path_buf(),
            problem: format!(
                "there is a run of another configuration already ({misfits}); choose another folder, or give what it was trained with"
            ),
        }),
    }
}

/// A trained run, ready to act: opened without its data, or trained in memory.
pub struct TrainedRun {
    /// Its configuration, with the overrides it was opened with.
    pub config: RunConfig,
    /// Its shapes and bounds.
    pub spec: RunSpec,
    /// Its checkpoint's state.
    pub state: RunState,
    /// The algorithm with trained networks; it can't train on where it was opened without data.
    pub algorithm: Box<dyn Algorithm>,
}

impl TrainedRun {
    /// The policy with actions drawn from its distribution.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it has none: a deterministic policy, or one that plans.
    pub fn sampling_policy(&self) -> Result<Box<dyn Policy>> {
        let policy = self.algorithm.sampling_policy()?;
        policy.ok_or_else(|| {
            let problem = format!(
                "the policy of this run ({}) has no distribution to sample actions from: it is deterministic, or chooses among \
                 plans",
                self.config.algorithm.name()
            );
            Error::unsupported(Ability::Sampling, problem)
        })
    }
}

/// Opens a trained run without its data, or a checkpoint that it keeps: `RUN@50000`, `RUN@best`, `RUN@last`. `overrides` may change where and how it acts (device, planner, targets), nothing
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

/// Opens what [`open`] opens, and models of other libraries, which may need data or the environment.
///
/// # Errors
/// As [`open`], and if a run directory is given data.
pub fn open_with(path: &Path, request: &Request<'_>) -> Result<TrainedRun> {
    open_by(path, request, &RunOptions::default())
}

/// Opens a trained run whose learning rule or encoder is the caller's own: that of `options`, as it was trained with. Nothing else
/// of `options` counts, data is not needed; `overrides` as for [`open`].
///
/// # Errors
/// As [`open`], and if the encoder is not the run's.
pub fn open_custom(
    path: &Path,
    overrides: &[String],
    options: &RunOptions<'_>,
) -> Result<TrainedRun> {
    let request = Request {
        overrides,
        ..Request::default()
    };
    open_by(path, &request, options)
}

fn open_by(path: &Path, request: &Request<'_>, options: &RunOptions<'_>) -> Result<TrainedRun> {
    let path = &named(path)?;
    if !path.join("config.toml").is_file()
        && let Some(mut imported) = imported::open(path, request)?
    {
        imported.config.algorithm.check_acting()?;
        critic::check_asked(&imported.config)?;
        critic::give(&mut *imported.algorithm, &imported.config, None)?;
        check_encoder(&imported.config, options.encoder.as_ref())?;
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
            problem: "it is a run of ours, which has all that it needs: data is given to models of other libraries only"
                .to_owned(),
        });
    }
    let (stored, spec) = (run.config()?, run.spec()?);
    spec.check_trained(&stored, path)?;
    if let Some(changed) = run.changed_config() {
        tracing::warn!("{changed}");
    }
    let config = stored.opened_with(overrides, request.purpose, &[])?;
    check_acting(&config, &stored, &run)?;
    let in_file = config.device == stored.device;
    let device = acting_device(&config, overrides)
        .map_err(|error| error.said_by(in_file.then(|| file_of(&run))))?;
    let instructions = run.instructions()?;
    let known = instructions.is_some();
    let purpose = PreparedFor::Acting {
        observation_dim: spec.observation_dim,
        action_dim: spec.action_dim,
    };
    let range = &ActionRange::of(&spec);
    let recipe = Recipe {
        config: &config,
        rule: options.rule,
        encoder: options.encoder.as_ref(),
    };
    let mut algorithm = prepare(recipe, range, &device, instructions, &purpose)?;
    let state = run.restore_policy(&mut *algorithm)?;
    // The run has its own; one that is named now takes its place.
    if critic::named_by(&config) != critic::named_by(&stored) {
        critic::check_asked(&config)?;
        critic::give(&mut *algorithm, &config, spec.data.as_ref())?;
    }
    if algorithm.instructed().is_some() && !known {
        let problem = lost(run.path(), "instructions.safetensors");
        return Err(Error::Run {
            path: path.to_path_buf(),
            problem: problem.unwrap_or_default(),
        });
    }
    Ok(TrainedRun {
        config,
        spec,
        state,
        algorithm,
    })
}

/// Fails where a key that decides how a run acts asks for what its networks have not: as `config` has it, which may be what the run has
/// `stored`.
fn check_acting(config: &RunConfig, stored: &RunConfig, run: &RunDir) -> Result<()> {
    let in_file = stored.algorithm.check_acting().is_err();
    let checked = config.algorithm.check_acting();
    checked.map_err(|error| error.said_by(in_file.then(|| file_of(run))))
}

/// What says the keys of a run that is there.
fn file_of(run: &RunDir) -> Origin {
    Origin::File(run.file("config.toml").display().to_string())
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
/// If the run can't be read, does not fit the environment, needs a goal, or has no distribution to `sample` from.
pub fn policy(path: &Path, spec: &EnvSpec, sample: bool) -> Result<Box<dyn Policy>> {
    let trained = open(path, &[])?;
    let (o, a) = trained.spec.dims();
    let kind = trained.spec.action_kind();
    if spec.check_fits((o, a), kind, "the run").is_err() {
        let (path, expected) = (path.display(), (spec.observation_dim, spec.action_dim));
        return Err(Error::Dimensions {
            problem: format!(
                "run {path}: it has {o} observations and {}, `{}` has {} and {}",
                kind.said(a),
                spec.name,
                expected.0,
                spec.action_kind.said(expected.1)
            ),
            found: (o, a),
            expected,
        });
    }
    let policy = if sample {
        trained.sampling_policy()?
    } else {
        trained.algorithm.policy()?
    };
    if policy.needs_goal() {
        let problem = format!(
            "run {}: it needs a goal for every episode, which collecting has not",
            path.display()
        );
        return Err(Error::unsupported(Ability::Goals, problem));
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
    let paths = datasets::resolved(&[data.to_path_buf()])?;
    let dataset = files::load_with(&paths, &options)?;
    let (o, a) = trained.spec.dims();
    let (own, given) = (trained.spec.action_kind(), dataset.action_kind);
    let found = (dataset.observation_dim, dataset.action_dim);
    if (o, a) != found || !given.acts_in(own) {
        return Err(Error::Dimensions {
            problem: format!(
                "{} has {o} observations and {}, {} has {} and {}",
                path.display(),
                own.said(a),
                data.display(),
                found.0,
                given.said(found.1)
            ),
            found,
            expected: (o, a),
        });
    }
    let (low, high) = (&trained.spec.action_low, &trained.spec.action_high);
    let bounds = ActionBounds::of_kind(own, low, high, &Device::Cpu)?;
    fqe::estimate(&mut *trained.algorithm.policy()?, &dataset, &bounds, config)
}

fn check_same_data(spec: &RunSpec, dataset: &Dataset, path: &Path) -> Result<()> {
    let found = (dataset.observation_dim, dataset.action_dim);
    let (had, kinds) = (spec.dims(), (spec.action_kind(), dataset.action_kind));
    if found != had || !kinds.1.acts_in(kinds.0) {
        return Err(Error::Dimensions {
            problem: format!(
                "run {}: its data had {} observations and {}, the data at `data.path` now has {} and {}",
                path.display(),
                had.0,
                kinds.0.said(had.1),
                found.0,
                kinds.1.said(found.1)
            ),
            found,
            expected: had,
        });
    }
    let Some(expected) = &spec.data else {
        return Ok(());
    };
    match expected.difference(&DataFingerprint::of(dataset)) {
        Some(problem) => Err(Error::Run {
            path: path.to_path_buf(),
            problem,
        }),
        None => Ok(()),
    }
}
