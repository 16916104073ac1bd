//! Run directories: what a run keeps on disk, written so that a kill at any moment loses nothing.
//!
//! | file | what |
//! |---|---|
//! | `config.toml` | the resolved configuration |
//! | `config.json` | shapes and bounds; for models that other libraries know, their own keys |
//! | `model.safetensors` | networks only |
//! | `policy.safetensors` | what a policy needs beside them: normaliser, discretiser, bounds |
//! | `training.safetensors` | targets and optimiser |
//! | `state.toml` | written last: the update, the random stream, and the checksums of the three |
//! | `instructions.safetensors` | of a run that follows instructions: those it knows, with their embeddings |
//! | `metrics.csv`, `evaluations.csv` | rows past the checkpoint are cut on resume |
//! | `origin.json` | program, machine, time and command of its start |
//! | `train.lock` | empty; locked while a process trains the run |
//! | `checkpoints/` | kept checkpoints, each a run directory as this one was: see `kept.rs` |
//! | `unfinished` | while the run is made, before `config.toml` is there |
//!
//! The three tensor files are first written beside their place (`*.new`), then `state.toml` is
//! renamed into place, then they are. A reader takes, of each file and its `.new`, the one that
//! `state.toml` names. Every file that no other one names has its own checksum inside: see `seal.rs`.

mod beside;
mod changes;
mod create;
pub mod fingerprint;
pub mod folders;
mod instructions;
mod kept;
pub mod lost;
pub mod named;
pub mod nonfinite;
pub mod origin;
pub mod places;
mod published;
mod seal;
mod stopping;
mod tensors;
mod unchanged;
mod whole;

use crate::app::locks::lock_within;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trajformer_core::atomic::{sync_folder, write_atomically, write_synced};

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::app::config::RunConfig;
use crate::app::config::moved::current;
use crate::app::config::sections::TrainConfig;
pub use beside::{POLICY_FILE, load_policy, policy_action_dim, save_policy};
pub use changes::Change;
use fingerprint::DataFingerprint;
pub use folders::check_output;
use lost::Fault;
use seal::{Seal, UNSEALED, sealed};
pub use stopping::{EarlyStop, HeldOut};
pub use tensors::check_finite;
use tensors::{GROUPS, Loader, serialized};
use trajformer_core::algorithm::Algorithm;
use trajformer_core::dataset::ActionKind;
use trajformer_core::error::{Error, Result, shell_quoted};
use trajformer_core::nearest::did_you_mean;
use trajformer_core::stand_in;
use trajformer_models::rng::{Rng, RngState};

const FORMAT: u32 = 1;

/// The file that a process holds locked while it trains a run.
pub const LOCK: &str = "train.lock";
/// How long a lock is waited for: a process that this one is just starting holds a copy of its locks for a moment.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// What a run's networks see and do: enough to rebuild them without the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Numbers in an observation (O).
    pub observation_dim: usize,
    /// Numbers in an action (A); 1 of a choice.
    pub action_dim: usize,
    /// How many choices an action is one of; none of real numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_choices: Option<usize>,
    /// Lowest action that policies return (A).
    pub action_low: Vec<f32>,
    /// Highest action that policies return (A).
    pub action_high: Vec<f32>,
    /// The data's environment name, if it has one.
    pub env_name: Option<String>,
    /// The settings that the run was started with: see [`fingerprint::settings`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The data that it was started on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataFingerprint>,
    /// What that was called, by its files: `data.path` may change afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_name: Option<String>,
    /// CRC-32 of `instructions.safetensors`, of a run that follows instructions; filled in when the run is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

impl RunSpec {
    /// Shapes and bounds of a model that another library trained.
    pub fn of_import(observation_dim: usize, action_low: Vec<f32>, action_high: Vec<f32>) -> Self {
        Self {
            observation_dim,
            action_dim: action_low.len(),
            action_choices: None,
            action_low,
            action_high,
            env_name: None,
            settings: BTreeMap::new(),
            data: None,
            data_name: None,
            instructions: None,
        }
    }

    /// Numbers in an observation and in an action (O, A).
    pub fn dims(&self) -> (usize, usize) {
        (self.observation_dim, self.action_dim)
    }

    /// Whether actions are real numbers or choices.
    pub fn action_kind(&self) -> ActionKind {
        ActionKind::of_choices(self.action_choices)
    }
}

/// `state.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Format of the run directory.
    pub format: u32,
    /// Updates done.
    pub update: u64,
    /// Seconds spent training and evaluating.
    pub seconds: f64,
    /// State of the training stream.
    pub rng: String,
    /// Update and score (return where there is no score) of the best evaluation so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// An evaluation is due at this update and has not been made: the run was saved before it, and
    /// makes it when it is resumed.
    #[serde(
        default,
        alias = "evaluation_owed",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub evaluation_pending: bool,
    /// A copy of this checkpoint is to be kept and has not been made: a kill may have come between.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copy_pending: bool,
    /// Metrics since the last row of `metrics.csv`, as sum and count: of a run that was interrupted between two rows, whose next row has the mean
    /// of all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unlogged: BTreeMap<String, (f64, u64)>,
    /// Evaluations since the best one, counted where a run may stop early (`train.patience_evaluations`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub evaluations_without_gain: u64,
    /// The lowest loss on what is held out, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// Updates up to this one, in a row, in which a step was left out (`train.on_nonfinite = "skip"`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped_in_a_row: u64,
    /// What learning rates go by and the run changed on its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<Change>,
    /// CRC-32 of the tensor files that belong to this state.
    pub checksums: BTreeMap<String, String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The best evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After this many updates.
    pub update: u64,
    /// Mean normalised score, or mean return where there are no reference returns.
    pub score: f64,
}

/// A run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    /// Locked for as long as this lives; `None` for readers.
    _lock: Option<Arc<fs::File>>,
}

impl RunDir {
    /// Opens an existing run, or a kept checkpoint of one: `RUN@50000`, `RUN@best`, `RUN@last`.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let path = named::named(path)?;
        if !path.join("config.toml").is_file() {
            folders::check_configured(&path)?;
            return Err(Error::NoRun {
                problem: no_run(&path),
                path,
            });
        }
        Ok(Self { path, _lock: None })
    }

    /// Opens an existing run to train it: nobody else can meanwhile.
    ///
    /// # Errors
    /// If there is none, another process trains it, or it is a kept checkpoint, which stays as it is.
    pub fn open_to_train(path: &Path) -> Result<Self> {
        let run = Self::open(path)?;
        if places::run_of(run.path()).is_some() {
            return Err(run.occupied(
                "a kept checkpoint stays as it is: what goes on from it is a run in a folder of its own, so name one",
            ));
        }
        let run = run.locked("wait for its end")?;
        run.finish_creation()?;
        run.remove_unfinished()?;
        Ok(run)
    }

    /// Keeps others from training there; `advice` is for whoever finds that another process does.
    fn locked(self, advice: &str) -> Result<Self> {
        let path = self.file(LOCK);
        if Fault::at(&path) == Some(Fault::Folder) {
            return Err(self.fail(lost::said(&self.path, LOCK, Fault::Folder)));
        }
        let file = fs::File::create(&path).map_err(Error::io(&path))?;
        match lock_within(&file, LOCK_WAIT) {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::InTraining {
                    path: self.path.clone(),
                    advice: advice.to_owned(),
                });
            }
            Err(fs::TryLockError::Error(error)) => {
                tracing::warn!(
                    "{}: no lock ({error}): nothing stops a second process from training this run",
                    path.display()
                );
            }
        }
        Ok(Self {
            _lock: Some(Arc::new(file)),
            ..self
        })
    }

    fn occupied(&self, problem: impl Into<String>) -> Error {
        Error::Occupied {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    fn fail(&self, problem: impl Into<String>) -> Error {
        Error::Run {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The stored configuration.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn config(&self) -> Result<RunConfig> {
        folders::check_toml(&self.path)?;
        RunConfig::load_stored(&self.file("config.toml"))
    }

    /// Replaces the stored configuration.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn set_config(&self, config: &RunConfig) -> Result<()> {
        let text = format!(
            "# {UNSEALED}: a line that is changed here by hand is warned of\n{}",
            config.to_toml()?
        );
        write_atomically(&self.file("config.toml"), &sealed(text.into_bytes()))
    }

    /// What to say where `config.toml` is not as the run wrote it; `None` where it is, or an earlier version wrote it. What was learned
    /// with is compared with `config.json` wherever it counts; the other keys are taken as they stand.
    pub fn changed_config(&self) -> Option<String> {
        let bytes = folders::bytes_of(&self.path, "config.toml").ok()?;
        (Seal::of(&bytes) == Seal::Broken).then(|| {
            format!(
                "{}: a line was changed since the run wrote it, by hand or because the file is damaged: how long it trains and how it acts is \
                 taken from it as it stands",
                self.file("config.toml").display()
            )
        })
    }

    /// The stored shapes and bounds.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn spec(&self) -> Result<RunSpec> {
        let name = "config.json";
        let text = folders::text_of(&self.path, name)?;
        let remedy = || lost::remedy(&self.path, name, Fault::Damaged);
        let fail = |problem: String| Error::Run {
            path: self.path.clone(),
            problem,
        };
        let mut value: serde_json::Value = serde_json::from_str(&text).map_err(|e| {
            fail(format!(
                "{name}: {e}; it is damaged or was changed by hand: {}",
                remedy()
            ))
        })?;
        let own = value.get_mut("trajformer").map(serde_json::Value::take);
        let spec: RunSpec = serde_json::from_value(own.unwrap_or_default()).map_err(|e| {
            fail(format!(
                "{name}, key `trajformer`: {e}; it is damaged or was changed by hand: {}",
                remedy()
            ))
        })?;
        folders::check_seal(&self.path, name, &text)?;
        // Earlier versions spelled some keys in another way.
        let settings = spec.settings.into_iter();
        Ok(RunSpec {
            settings: settings
                .map(|(key, value)| (current(&key), value))
                .collect(),
            ..spec
        })
    }

    /// The stored state, or `None` before the first checkpoint.
    ///
    /// # Errors
    /// If it can't be read or is of another format.
    pub fn state(&self) -> Result<Option<RunState>> {
        let path = self.file("state.toml");
        if !path.exists() {
            return Ok(None);
        }
        let text = folders::text_of(&self.path, "state.toml")?;
        let fail = |problem: String| Error::Run {
            path: self.path.clone(),
            problem,
        };
        let state: RunState = toml::from_str(&text)
            .map_err(|e| fail(folders::toml_problem(&self.path, "state.toml", &text, &e)))?;
        folders::check_seal(&self.path, "state.toml", &text)?;
        if state.format != FORMAT {
            return Err(fail(format!(
                "state.toml has format {}, this build reads {FORMAT}",
                state.format
            )));
        }
        if let Some(update) = places::kept_update(&self.path)
            && update != state.update
        {
            return Err(fail(format!(
                "a kept checkpoint's folder that is called after update {update}, but its state.toml is of update {}: it was renamed or its \
                 files exchanged; give the folder its number back, or restore it from a copy",
                state.update
            )));
        }
        Ok(Some(state))
    }

    /// Writes a checkpoint; `state.checksums` and `state.rng` are filled in here.
    ///
    /// # Errors
    /// If a number of the algorithm's state is not finite, or the disk fails: the previous checkpoint
    /// stays whole.
    pub fn save(
        &self,
        algorithm: &mut dyn Algorithm,
        rng: &Rng,
        mut state: RunState,
    ) -> Result<()> {
        state.rng = rng.state().0;
        for (name, bytes) in serialized(algorithm, state.update, &self.path)? {
            write_synced(&self.file(&format!("{name}.new")), &bytes)?;
            state
                .checksums
                .insert(name, format!("{:08x}", crc32fast::hash(&bytes)));
        }
        sync_folder(&self.path);
        self.write_state(&state)?;
        sync_folder(&self.path);
        for name in state.checksums.keys() {
            let place = self.file(name);
            fs::rename(self.file(&format!("{name}.new")), &place).map_err(Error::io(&place))?;
        }
        Ok(())
    }

    /// Rewrites `state.toml` of the checkpoint of the same update with the evaluation's result, or that its copy is made; RNG state and
    /// checksums are kept.
    ///
    /// # Errors
    /// If there is no such checkpoint, or the disk fails.
    pub fn record(&self, state: RunState) -> Result<()> {
        match self.state()? {
            Some(saved) if saved.update == state.update => self.write_state(&RunState {
                rng: saved.rng,
                checksums: saved.checksums,
                ..state
            }),
            _ => Err(self.fail("state.toml was changed from outside while the run was training")),
        }
    }

    /// Writes into the checkpoint `state` what changes from it on; the state with it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn record_changes(&self, mut state: RunState, new: Vec<Change>) -> Result<RunState> {
        if !new.is_empty() {
            state.changed = changes::with(state.changed, new);
            self.write_state(&state)?;
        }
        Ok(state)
    }

    fn write_state(&self, state: &RunState) -> Result<()> {
        let text = toml::to_string(state).map_err(Error::internal)?;
        let text = format!("# {UNSEALED}: the checksum of this file\n{text}");
        write_atomically(&self.file("state.toml"), &sealed(text.into_bytes()))
    }

    /// What to say where there are tensors but no `state.toml`, which would say what they are; `None` where it is there, or the run has
    /// no checkpoint yet.
    pub fn lost_state(&self) -> Option<String> {
        let name = "state.toml";
        let mut tensors = GROUPS.iter().map(|group| format!("{group}.safetensors"));
        // In this order: a save that goes on puts `state.toml` in place before any of them.
        let found = tensors.find(|tensors| self.file(tensors).exists())?;
        let fault = Fault::at(&self.file(name)).filter(|fault| *fault == Fault::Missing)?;
        let of = match places::run_of(&self.path) {
            Some(_) => " of this kept checkpoint",
            None => "",
        };
        Some(format!(
            "{name}{of} {}, but {found} is there: {}; {}",
            fault.said(),
            lost::purpose(name),
            lost::remedy(&self.path, name, fault)
        ))
    }

    /// Fails if there are tensors but no `state.toml`, which would say what they are.
    ///
    /// # Errors
    /// If so: what to do.
    pub fn refuse_tensors_without_state(&self) -> Result<()> {
        match self.lost_state() {
            None => Ok(()),
            Some(problem) => Err(self.fail(problem)),
        }
    }

    /// The state of the checkpoint, which there must be.
    ///
    /// # Errors
    /// As [`Self::state`], and if there is none: because it is lost, or the run has no checkpoint yet.
    pub fn saved_state(&self) -> Result<RunState> {
        match self.state()? {
            Some(state) => Ok(state),
            None => {
                self.refuse_tensors_without_state()?;
                Err(Error::NoCheckpoint {
                    path: self.path.clone(),
                })
            }
        }
    }

    /// Restores the whole state for training; returns the random stream and the state.
    ///
    /// # Errors
    /// If there is no checkpoint, a file is damaged, or names or shapes don't fit.
    pub fn restore(&self, algorithm: &mut dyn Algorithm) -> Result<(Rng, RunState)> {
        let state = self.load_into(algorithm, &GROUPS)?;
        self.finish_renames(&state)?;
        let rng = Rng::from_state(&RngState(state.rng.clone()))
            .map_err(|problem| self.fail(format!("state.toml: `rng` is {problem}")))?;
        Ok((rng, state))
    }

    /// Restores what a policy needs: networks and what stands beside them.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn restore_policy(&self, algorithm: &mut dyn Algorithm) -> Result<RunState> {
        self.load_into(algorithm, &GROUPS[..2])
    }

    /// Completes a save that was killed after `state.toml` was in place: the next one would write
    /// over the only good copies.
    fn finish_renames(&self, state: &RunState) -> Result<()> {
        for (name, checksum) in &state.checksums {
            let (place, beside) = (self.file(name), self.file(&format!("{name}.new")));
            let Ok(bytes) = fs::read(&beside) else {
                continue;
            };
            if *checksum == format!("{:08x}", crc32fast::hash(&bytes)) {
                fs::rename(&beside, &place).map_err(Error::io(&place))?;
            }
        }
        Ok(())
    }

    fn load_into(&self, algorithm: &mut dyn Algorithm, groups: &[&str]) -> Result<RunState> {
        let state = self.saved_state()?;
        let mut loader = Loader {
            groups: BTreeMap::new(),
            folder: &self.path,
        };
        for group in groups {
            let bytes = self.tensor_file(&format!("{group}.safetensors"), &state)?;
            let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
            loader.groups.insert((*group).to_owned(), tensors);
        }
        algorithm.state(&mut loader)?;
        loader.finish()?;
        Ok(state)
    }

    /// The content of a tensor file that `state` names: the file, or the one beside it.
    fn tensor_file(&self, name: &str, state: &RunState) -> Result<Vec<u8>> {
        let expected = state.checksums.get(name);
        let mut stands_in = None;
        for candidate in [self.file(name), self.file(&format!("{name}.new"))] {
            let Ok(bytes) = fs::read(&candidate) else {
                continue;
            };
            if expected == Some(&format!("{:08x}", crc32fast::hash(&bytes))) {
                return Ok(bytes);
            }
            if let Some(problem) = stand_in::problem_of_binary(&bytes).filter(|_| !bytes.is_empty())
            {
                stands_in.get_or_insert_with(|| Error::data(&candidate, problem));
            }
        }
        if let Some(error) = stands_in {
            return Err(error);
        }
        Err(self.fail(lost::lost(&self.path, name).unwrap_or_else(|| {
            format!(
                "{name} is damaged or that of another update: state.toml names checksum {}; {}",
                expected.map_or("none", String::as_str),
                lost::remedy(&self.path, name, Fault::Damaged)
            )
        })))
    }
}

/// Whether a process trains the run in `folder` now, or makes one there; no where the file system knows no locks.
pub fn is_in_training(folder: &Path) -> bool {
    let lock = fs::File::open(folder.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// The folder beside a missing one that may be meant.
fn near_folder(path: &Path) -> String {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return String::new();
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names: Vec<String> = folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    did_you_mean(&name.to_string_lossy(), names.iter().map(String::as_str))
}

/// Why `path` is no run directory, and what may be meant.
fn no_run(path: &Path) -> String {
    if path.is_file() {
        return "a file, not a run directory: name the folder that holds it".to_owned();
    }
    if !path.exists() {
        let names: Vec<_> = path.components().collect();
        let hint = match path.to_str() {
            // What lies in a folder that is there, or begins as paths do, is no model's name.
            Some(text)
                if names.len() == 2
                    && path.is_relative()
                    && !text.starts_with('.')
                    && !path.parent().is_some_and(Path::is_dir) =>
            {
                format!("; if a model of the Hub is meant, it is named hf://{text}")
            }
            _ => near_folder(path),
        };
        return format!("there is no such folder, so not a run directory{hint}");
    }
    if let Some(first) = runs_inside(path).first() {
        return format!(
            "no config.toml: not a run directory, but it holds some; name one, e.g. {}",
            shell_quoted(first)
        );
    }
    if path.join("config.json").is_file() {
        "no config.toml: not a run directory, but a model of another library, which `evaluate`, `export` and \
         `data collect` open"
    .to_owned()
    } else {
        "no config.toml: not a run directory".to_owned()
    }
}

/// The run directories inside a folder, in the order of their names.
pub fn runs_inside(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut runs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("config.toml").is_file())
        .collect();
    runs.sort();
    runs
}

impl RunState {
    /// The state after `update` updates; stream and checksums are filled in when it is saved.
    pub fn new(update: u64, seconds: f64, best: Option<Best>) -> Self {
        let (rng, checksums) = (String::new(), BTreeMap::new());
        Self {
            format: FORMAT,
            update,
            seconds,
            rng,
            best,
            evaluation_pending: false,
            copy_pending: false,
            unlogged: BTreeMap::new(),
            evaluations_without_gain: 0,
            skipped_in_a_row: 0,
            held_out: None,
            changed: Vec::new(),
            checksums,
        }
    }

    /// Why a run of this configuration has stopped early here, if it has.
    pub fn early_stop(&self, config: &RunConfig) -> Option<EarlyStop> {
        let stop = self.out_of_patience(&config.train)?;
        (self.update < config.total_updates()).then_some(stop)
    }

    /// Whether nothing is left to do for a run of this configuration: it is [`trained`](Self::is_trained), and its copies are made.
    pub fn is_end_of(&self, config: &RunConfig) -> bool {
        !self.copy_pending && self.is_trained(config)
    }

    /// Whether its updates are done or it stopped early, and no evaluation is due.
    pub fn is_trained(&self, config: &RunConfig) -> bool {
        let is_whole = self.update == config.total_updates() && !self.evaluation_pending;
        is_whole || self.early_stop(config).is_some()
    }

    /// What keeps a run from training on from here, whatever its updates: scores or losses that have been no better for too long.
    pub fn out_of_patience(&self, train: &TrainConfig) -> Option<EarlyStop> {
        if self.evaluation_pending {
            return None;
        }
        stopping::out_of_patience(train, self.evaluations_without_gain, self.held_out)
    }
}
