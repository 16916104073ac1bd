//! The tables of a configuration below the algorithm's: `[data]`, `[train]`, `[online]`, `[evaluate]`.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::envs::GymOptions;
use crate::formats::columns::ColumnChoice;
use crate::formats::options::LoadOptions;
use trajformer_core::algorithm::OnlinePhase;
use trajformer_core::error::{Error, Result};
use trajformer_core::keys::Keys;
use trajformer_core::mixing::DataShare;

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
    /// Which checkpoints stay in the run's folder beside the last one: `"last"` for none, `"best"` for that of the best
    /// evaluation so far, `"all"` for every one that is written. With `"best"` and `"all"` one is written at every evaluation too.
    #[serde(skip_serializing_if = "Keep::is_last")]
    pub keep: Keep,
    /// A checkpoint is written and stays every so many updates, whatever `keep` says; 0: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub keep_every_updates: u64,
    /// Early stopping: training ends after so many evaluations in a row without a score (a return, where there are no scores)
    /// above the best one; 0: it never ends early. A checkpoint is written at every evaluation then.
    #[serde(skip_serializing_if = "is_zero")]
    pub patience_evaluations: u64,
    /// Share of the complete episodes, in [0, 1), that is kept apart to measure losses on; drawn from `seed`, as many as fit. Nothing is
    /// learned from them, normalisers and bins included. 0: none.
    #[serde(skip_serializing_if = "is_no_share")]
    pub held_out_fraction: f64,
    /// Losses on them are measured every so many updates; 0: for each row of `metrics.csv`.
    #[serde(skip_serializing_if = "is_zero")]
    pub held_out_every_updates: u64,
    /// Early stopping: training ends after so many of these losses (`held_out_loss`) in a row that are not below the lowest
    /// one; 0: it never ends early for them.
    #[serde(skip_serializing_if = "is_zero")]
    pub patience_held_out: u64,
    /// What is done where a gradient is NaN or infinite: `"stop"` ends training before the step is taken; `"skip"` leaves the step out, so that
    /// the network and its optimiser stay as they are, and goes on.
    #[serde(skip_serializing_if = "OnNonfinite::is_stop")]
    pub on_nonfinite: OnNonfinite,
    /// With `"skip"`: so many updates in a row with a step that is left out are one too many, and training ends; at least 1.
    #[serde(skip_serializing_if = "is_usual_limit")]
    pub nonfinite_limit: u64,
}

/// `train.on_nonfinite`: what is done where a gradient is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNonfinite {
    /// `"stop"`: training ends.
    #[default]
    Stop,
    /// `"skip"`: the step is left out.
    Skip,
}

impl OnNonfinite {
    /// Whether training ends.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
    fn is_stop(&self) -> bool {
        *self == Self::Stop
    }
}

/// Default of `train.nonfinite_limit`.
const NONFINITE_LIMIT: u64 = 10;

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
fn is_usual_limit(limit: &u64) -> bool {
    *limit == NONFINITE_LIMIT
}

/// `train.keep`: which checkpoints stay beside the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// `"last"`: none.
    #[default]
    Last,
    /// `"best"`: that of the best evaluation so far.
    Best,
    /// `"all"`: every one that is written.
    All,
}

impl Keep {
    /// Whether only the last checkpoint is kept.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
    fn is_last(&self) -> bool {
        *self == Self::Last
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
fn is_no_share(share: &f64) -> bool {
    *share == 0.0
}

impl TrainConfig {
    /// Updates between two measurements of losses on what is held out; `None` if nothing is.
    pub fn held_out_cadence(&self) -> Option<u64> {
        let every = match self.held_out_every_updates {
            0 => self.log_every_updates,
            every => every,
        };
        (self.held_out_fraction > 0.0).then_some(every)
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            updates: 100_000,
            checkpoint_every_updates: 5_000,
            log_every_updates: 500,
            keep: Keep::Last,
            keep_every_updates: 0,
            patience_evaluations: 0,
            held_out_fraction: 0.0,
            held_out_every_updates: 0,
            patience_held_out: 0,
            on_nonfinite: OnNonfinite::Stop,
            nonfinite_limit: NONFINITE_LIMIT,
        }
    }
}

/// `[online]`: learning from own experience in `evaluate.env`, after `train.updates` on the data alone. An update follows each step, on the
/// data and all steps so far; in Cal-QL as many as it has steps follow each episode, in the Online Decision Transformer
/// `updates_per_episode`, whatever its length.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnlineConfig {
    /// Updates online, and as many steps in the environment, but for the Online Decision Transformer, where an episode comes before each
    /// `updates_per_episode` of them; 0: none.
    pub steps: u64,
    /// Standard deviation of the noise on the actions of policies that have no distribution, for a range of ±1. Default: the method's own:
    /// 0.1 in TD3 and TD3+BC, 0.03 in IQL with a deterministic actor, none in ReBRAC. For CQL of choices the share of random ones, 0.1.
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

    /// What an algorithm receives of it.
    pub fn phase(&self) -> OnlinePhase {
        OnlinePhase {
            data_share: self.data_share,
            steps: self.steps,
            noise: self.noise,
        }
    }
}

/// Most steps in an environment: all of them are kept.
const MOST_STEPS: u64 = 100_000_000;

/// `[evaluate]`: where and how often policies are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Registered environment, e.g. `hopper-v4`, or `gym:ID` for one of Gymnasium, e.g. `gym:AntMaze_UMaze-v5`; none: no scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Python interpreter that runs environments of Gymnasium and has their packages. Relative paths start at the working
    /// directory. Default: that of the active virtual environment, else `python3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python: Option<PathBuf>,
    /// Where observations of an environment of Gymnasium are dictionaries: the keys whose numbers are put side by side, in this
    /// order. Default: `data.observation_keys`; without those all, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observation_keys: Vec<String>,
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
    /// Instructions that conditioned policies receive, one after the other over the episodes. Default: the
    /// environment's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            env: None,
            python: None,
            observation_keys: Vec::new(),
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
    /// How an environment of Gymnasium is run.
    pub fn gym_options(&self) -> GymOptions {
        GymOptions {
            python: self.python.clone(),
            observation_keys: self.observation_keys.clone(),
            ..GymOptions::default()
        }
    }

    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        if self.episodes > MOST_EPISODES {
            let expected = format_args!("at most {MOST_EPISODES}");
            return Err(Error::config("evaluate.episodes", self.episodes, expected));
        }
        if self
            .python
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            return Err(Error::settings(
                "`evaluate.python` is empty, expected the path of a Python interpreter",
            ));
        }
        if self.instructions.iter().any(|text| text.trim().is_empty()) {
            return Err(Error::settings(
                "`evaluate.instructions` holds an empty one: say in words what to do",
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

/// `data.action_range`: lowest and highest action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected [low, high], or a list with one [low, high] per dimension of the actions"
)]
pub enum ActionRange {
    /// One range for every dimension, e.g. `[-2.0, 2.0]`.
    Same((f32, f32)),
    /// A range for each dimension, e.g. `[[-2.0, 2.0], [0.0, 1.0]]`.
    Each(Vec<(f32, f32)>),
}

impl ActionRange {
    /// Fails where the lower number is not below the higher one.
    ///
    /// # Errors
    /// [`Error::Settings`] that names the dimension.
    pub fn check(&self) -> Result<()> {
        let fails = |(low, high): &(f32, f32)| !low.is_finite() || !high.is_finite() || low >= high;
        let (place, wrong) = match self {
            Self::Same(pair) if fails(pair) => (String::new(), pair),
            Self::Each(pairs) => match pairs.iter().position(fails) {
                Some(at) => (format!(" of action {at}"), &pairs[at]),
                None => return Ok(()),
            },
            Self::Same(_) => return Ok(()),
        };
        Err(Error::settings(format!(
            "`data.action_range`{place} is [{}, {}], expected [low, high]",
            wrong.0, wrong.1
        )))
    }

    /// Lowest and highest actions (A each) of A = `dim` dimensions.
    ///
    /// # Errors
    /// [`Error::Settings`] if it has another number of dimensions.
    pub fn of(&self, dim: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        match self {
            Self::Same((low, high)) => Ok((vec![*low; dim], vec![*high; dim])),
            Self::Each(pairs) if pairs.len() == dim => Ok(pairs.iter().copied().unzip()),
            Self::Each(pairs) => Err(Error::settings(format!(
                "`data.action_range` has {} pairs, but actions have {dim} dimensions",
                pairs.len()
            ))),
        }
    }
}
