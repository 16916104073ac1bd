//! [`RunConfig`]: everything that decides a run, read from TOML, edited with `--set`, stored
//! resolved in the run directory.
//!
//! Unknown keys are errors. Every struct has documented defaults, so a file holds differences only.

mod departures;
mod layers;
mod opened;
mod table;
mod words;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::action_range::ActionRange;
use crate::algorithms::{AlgorithmConfig, OnlinePhase};
use crate::data::{ColumnChoice, DataShare, LoadOptions};
use crate::error::{Error, Result};
use crate::keys::Keys;
pub use departures::{Departure, Departures};
use layers::Layers;
pub use opened::Purpose;
pub(crate) use table::apply_override;
use table::from_layers;

/// The largest seed: what TOML can store.
pub const LARGEST_SEED: u64 = i64::MAX as u64;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of initial weights, batches, noise and dropout.
    #[serde(default)]
    pub seed: u64,
    /// `cpu`, `cuda`, `cuda:N` or `metal`.
    #[serde(default = "cpu")]
    pub device: String,
    /// What is learned from.
    #[serde(default)]
    pub data: DataConfig,
    /// How long, and what is kept.
    #[serde(default)]
    pub train: TrainConfig,
    /// Learning from own experience after `train.updates`.
    #[serde(default)]
    pub online: OnlineConfig,
    /// Where and how often policies are scored.
    #[serde(default)]
    pub evaluate: EvaluateConfig,
    /// The learning rule: one table, e.g. `[algorithm.td3_bc]`.
    pub algorithm: AlgorithmConfig,
}

fn cpu() -> String {
    "cpu".to_owned()
}

/// `[data]`: what is learned from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A file or folder, or a list of them that is joined into one data set. Relative paths start
    /// at the working directory.
    #[serde(deserialize_with = "one_or_many")]
    pub path: Vec<PathBuf>,
    /// Lowest and highest action, of every dimension (`[-2.0, 2.0]`) or of each (`[[-2.0, 2.0], [0.0, 1.0]]`). Default:
    /// those of `evaluate.env`; without it those that the data set carries (Minari's `action_space`); else, of each
    /// dimension, ±1 if the data fills it, else what the data covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_range: Option<ActionRange>,
    /// Steps after which an episode ends that did not terminate, for files that don't mark time-outs. Default: D4RL's
    /// own limit where the environment or file has a name of D4RL's; else 1000 for D4RL's layout, none for npz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_episode_steps: Option<usize>,
    /// Where observations are dictionaries: the keys whose vectors are put side by side, in this order, e.g.
    /// `["observation", "desired_goal"]`; those inside of others with a slash.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observation_keys: Vec<String>,
    /// Columns of observations that are kept, e.g. `"0..27"`: of Ant's 111 those without contact forces. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observation_columns: Option<ColumnChoice>,
    /// Share of the complete episodes that is learned from, in (0, 1]; drawn from `seed`, as many as fit. Default: all. For
    /// results with little data: 0.1, 0.01 and 0.005 in LaMo's (its `--sample_ratio`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_ratio: Option<f64>,
}

impl DataConfig {
    /// How the files are read.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            max_episode_steps: self.max_episode_steps,
            observation_keys: self.observation_keys.clone(),
            observation_columns: self.observation_columns.clone(),
        }
    }
}

/// `[train]`: how long, and what is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Gradient steps on the data. Schedules that are `"training"` long are as long as this.
    pub updates: u64,
    /// A checkpoint is written every so many updates, and at the end.
    pub checkpoint_every_updates: u64,
    /// A row of `metrics.csv` is the mean over so many updates.
    pub log_every_updates: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            updates: 100_000,
            checkpoint_every_updates: 5_000,
            log_every_updates: 500,
        }
    }
}

/// `[online]`: learning from own experience in `evaluate.env`, after `train.updates` on the data alone, with as many updates as
/// steps, on the data and all steps so far. An update follows each step, in Cal-QL as many as it has steps each episode.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnlineConfig {
    /// Steps in the environment, and as many updates; 0: none.
    pub steps: u64,
    /// Deviation of the noise on the actions of policies that have no distribution, for a range of ±1. Default: the method's own:
    /// 0.1 in TD3 and TD3+BC, 0.03 in IQL with a deterministic actor, none in ReBRAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Share of each batch that comes from the data: `"method"` for the method's own, half in Cal-QL and ReBRAC and uniform in all
    /// others; `"uniform"`, where each transition, of the data or collected, is as likely as any other; or a number in 0 to 1.
    #[serde(skip_serializing_if = "DataShare::is_method")]
    pub data_share: DataShare,
}

impl OnlineConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("online");
        keys.not_negative(&[("noise", self.noise.unwrap_or(0.0))])?;
        if let DataShare::Share(share) = self.data_share {
            keys.shares(&[("data_share", share)])?;
        }
        match self.steps {
            0..=MOST_STEPS => Ok(()),
            steps => Err(keys.wrong("steps", steps, format_args!("at most {MOST_STEPS}"))),
        }
    }

    /// What an algorithm is told of it.
    pub fn phase(&self) -> OnlinePhase {
        OnlinePhase {
            data_share: self.data_share,
            steps: self.steps,
        }
    }
}

/// Most steps in an environment: all of them are kept.
const MOST_STEPS: u64 = 100_000_000;

/// `[evaluate]`: where and how often policies are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Registered environment, e.g. `hopper-v4`; none: no scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Scores are taken every so many updates and at the end; 0: only at the end.
    pub every_updates: u64,
    /// Episodes of one evaluation; 0: never evaluate.
    pub episodes: usize,
    /// Seed of start states and of the policy's own randomness: the same at every evaluation.
    pub seed: u64,
    /// Observation to reach, for policies that were trained with goals: one number per dimension.
    /// Default: the environment's own goal. Rewards and scores stay the environment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Vec<f32>>,
    /// What policies that follow instructions are told, one after the other over the episodes. Default: the
    /// environment's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            env: None,
            every_updates: 0,
            episodes: 10,
            seed: 42,
            goal: None,
            instructions: Vec::new(),
        }
    }
}

/// Most episodes of one evaluation: each has its own copy of the environment.
const MOST_EPISODES: usize = 100_000;

impl EvaluateConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        if self.episodes > MOST_EPISODES {
            return Err(Error::Config(format!(
                "`evaluate.episodes` is {}, expected at most {MOST_EPISODES}",
                self.episodes
            )));
        }
        if self.instructions.iter().any(|text| text.trim().is_empty()) {
            return Err(Error::Config(
                "`evaluate.instructions` holds an empty one: say in words what to do".to_owned(),
            ));
        }
        Ok(())
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<PathBuf>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<PathBuf>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a path or a list of paths")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
            Ok(vec![PathBuf::from(text)])
        }
        fn visit_seq<S: serde::de::SeqAccess<'de>>(
            self,
            mut sequence: S,
        ) -> std::result::Result<Self::Value, S::Error> {
            let mut paths = Vec::new();
            while let Some(path) = sequence.next_element::<PathBuf>()? {
                paths.push(path);
            }
            Ok(paths)
        }
    }
    deserializer.deserialize_any(Visitor)
}

impl RunConfig {
    /// Reads `path`, with the files that it extends, and applies `overrides` (`key.sub=value`, in order).
    ///
    /// # Errors
    /// If a file can't be read, is not TOML, holds an unknown key or a value of a wrong type or range,
    /// files extend each other in a circle or change the algorithm, or an override is malformed.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        from_layers(&mut Layers::read(path)?, overrides)
    }

    /// Reads a configuration from TOML text, which can't extend a file.
    ///
    /// # Errors
    /// If it is not TOML, holds an unknown key, or a value of a wrong type or range.
    pub fn parse(text: &str) -> Result<Self> {
        from_layers(&mut Layers::parse(text)?, &[])
    }

    /// The configuration with `overrides` applied.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn with_overrides(&self, overrides: &[String]) -> Result<Self> {
        let table = toml::Table::try_from(self).map_err(|e| Error::Config(e.to_string()))?;
        from_layers(&mut Layers::from(table), overrides)
    }

    /// The resolved configuration as TOML: every key, defaults included.
    ///
    /// # Errors
    /// If a value has no TOML form (a NaN path, say).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Config(e.to_string()))
    }

    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("train.updates", self.train.updates),
            (
                "train.checkpoint_every_updates",
                self.train.checkpoint_every_updates,
            ),
            ("train.log_every_updates", self.train.log_every_updates),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(Error::Config(format!("`{key}` is 0, expected at least 1")));
            }
        }
        if self
            .data
            .path
            .iter()
            .any(|path| path.as_os_str().is_empty())
        {
            return Err(Error::Config(
                "`data.path` holds an empty name, expected files or folders".to_owned(),
            ));
        }
        if self.data.max_episode_steps == Some(0) {
            return Err(Error::Config(
                "`data.max_episode_steps` is 0, expected at least 1".to_owned(),
            ));
        }
        for (key, value) in [("seed", self.seed), ("evaluate.seed", self.evaluate.seed)] {
            if value > LARGEST_SEED {
                return Err(Error::Config(format!(
                    "`{key}` is {value}, expected at most {LARGEST_SEED}"
                )));
            }
        }
        if let Some(range) = &self.data.action_range {
            range.check()?;
        }
        if let Some(ratio) = self.data.sample_ratio
            && !(ratio > 0.0 && ratio <= 1.0)
        {
            let expected = "above 0, at most 1: the share of episodes to learn from";
            return Err(Keys("data").wrong("sample_ratio", ratio, expected));
        }
        self.evaluate.check()?;
        self.online.check()?;
        if self.online.steps > 0 && self.evaluate.env.is_none() {
            return Err(Error::Config(
                "`online.steps` is set, but no environment to act in: set `evaluate.env`"
                    .to_owned(),
            ));
        }
        self.algorithm.check()
    }

    /// Updates of the whole run: those on the data alone, and one per step of own experience.
    pub fn total_updates(&self) -> u64 {
        self.train.updates.saturating_add(self.online.steps)
    }
}

/// Opens the device called `name`: `cpu`, `cuda`, `cuda:N` or `metal`.
///
/// # Errors
/// If the name is unknown; [`Error::NoDevice`] if the build lacks the feature, or there is no such device.
pub fn open_device(name: &str) -> Result<candle_core::Device> {
    use candle_core::Device;
    let unknown = || {
        Error::Config(format!(
            "device `{name}`: expected `cpu`, `cuda`, `cuda:N` or `metal`"
        ))
    };
    let unusable = |problem: String| Error::NoDevice {
        name: name.to_owned(),
        problem,
    };
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let index: usize = index.parse().map_err(|_| unknown())?;
    let (is_built, open): (bool, fn(usize) -> candle_core::Result<Device>) = match (kind, index) {
        ("cpu", 0) => return Ok(Device::Cpu),
        ("cuda", _) => (cfg!(feature = "cuda"), Device::new_cuda),
        ("metal", _) => (cfg!(feature = "metal"), Device::new_metal),
        _ => return Err(unknown()),
    };
    match is_built {
        true => open(index).map_err(|error| unusable(error.to_string())),
        false => Err(unusable(format!(
            "this build can't use it; build with `--features {kind}`"
        ))),
    }
}
