//! [`RunConfig`]: everything that decides a run.

use serde::{Deserialize, Serialize};

use crate::app::config::sections::{DataConfig, EvaluateConfig, Keep, OnlineConfig, TrainConfig};
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_core::error::{Error, Result};
use trajformer_core::keys::Keys;

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
    /// Name of the encoder, of the program that trains, that stands in for the hidden layers of actors, critics and V. Written by
    /// a run that is given one; only a program that has it trains or opens such a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
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

impl RunConfig {
    /// The resolved configuration as TOML: every key, defaults included.
    ///
    /// # Errors
    /// If a value has no TOML form (a NaN path, say).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::settings(error.to_string()))
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
                return Err(Error::config(key, 0, "at least 1"));
            }
        }
        if self.encoder.as_ref().is_some_and(String::is_empty) {
            return Err(Error::settings(
                "`encoder` is empty, expected the name of an encoder of your own program",
            ));
        }
        if self
            .data
            .path
            .iter()
            .any(|path| path.as_os_str().is_empty())
        {
            return Err(Error::settings(
                "`data.path` holds an empty name, expected files or folders",
            ));
        }
        if self.data.max_episode_steps == Some(0) {
            return Err(Error::config("data.max_episode_steps", 0, "at least 1"));
        }
        for (key, value) in [("seed", self.seed), ("evaluate.seed", self.evaluate.seed)] {
            if value > LARGEST_SEED {
                let expected = format_args!("at most {LARGEST_SEED}");
                return Err(Error::config(key, value, expected));
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
        if self.train.nonfinite_limit == 0 {
            let expected = "at least 1: updates in a row with a step that is left out";
            return Err(Keys("train").wrong("nonfinite_limit", 0, expected));
        }
        let held_out = self.train.held_out_fraction;
        if !(0.0..1.0).contains(&held_out) {
            let expected = "0 or above, below 1: the share of episodes to keep apart";
            return Err(Keys("train").wrong("held_out_fraction", held_out, expected));
        }
        self.evaluate.check()?;
        self.online.check()?;
        if self.online.steps > 0 && self.evaluate.env.is_none() {
            return Err(Error::settings(
                "`online.steps` is set, but no environment to act in: set `evaluate.env`",
            ));
        }
        self.check_keeping()?;
        self.algorithm.check()
    }

    /// Fails where `[train]` asks for scores that nothing makes, or for an end before learning online.
    fn check_keeping(&self) -> Result<()> {
        let scored = self.evaluate.env.is_some() && self.evaluate.episodes > 0;
        let refuse = |key: &str, problem: &str| {
            Err(Error::settings(format!(
                "`train.{key}` is set, but {problem}"
            )))
        };
        let no_score = "nothing scores the run: set `evaluate.env` and `evaluate.episodes`";
        if self.train.keep == Keep::Best && !scored {
            return refuse("keep = \"best\"", no_score);
        }
        let online =
            "a run that stopped early would never learn online: leave it out, or `online.steps`";
        if self.train.held_out_fraction == 0.0 {
            let nothing = "nothing is kept apart: set `train.held_out_fraction`";
            for (key, value) in [
                ("patience_held_out", self.train.patience_held_out),
                ("held_out_every_updates", self.train.held_out_every_updates),
            ] {
                if value > 0 {
                    return refuse(key, nothing);
                }
            }
        }
        if self.train.patience_held_out > 0 && self.online.steps > 0 {
            return refuse("patience_held_out", online);
        }
        match self.train.patience_evaluations {
            0 => Ok(()),
            _ if !scored => refuse("patience_evaluations", no_score),
            _ if self.evaluate.every_updates == 0 => refuse(
                "patience_evaluations",
                "there is one evaluation only, at the end: set `evaluate.every_updates`",
            ),
            _ if self.online.steps > 0 => refuse("patience_evaluations", online),
            _ => Ok(()),
        }
    }

    /// `[evaluate]` with what other tables decide: observations are made of the keys that the data's are made of, unless it
    /// names its own.
    pub fn evaluation(&self) -> EvaluateConfig {
        let mut config = self.evaluate.clone();
        if config.observation_keys.is_empty() {
            config
                .observation_keys
                .clone_from(&self.data.observation_keys);
        }
        config
    }

    /// How often the run is evaluated, if nothing stops it early: every `evaluate.every_updates`, after the updates on the data alone, and at the end.
    pub fn evaluations(&self) -> u64 {
        let (data, total) = (self.train.updates, self.total_updates());
        if self.evaluate.env.is_none() || self.evaluate.episodes == 0 || total == 0 {
            return 0;
        }
        let every = self.evaluate.every_updates;
        let is_regular = |update: u64| every > 0 && update.is_multiple_of(every);
        let regular = total.checked_div(every).unwrap_or(0);
        let ends = [
            Some(data).filter(|&data| data > 0 && data < total),
            Some(total),
        ];
        let more = ends.into_iter().flatten().filter(|&end| !is_regular(end));
        regular + more.count() as u64
    }

    /// Updates of the whole run: those on the data alone, and one per step of own experience.
    pub fn total_updates(&self) -> u64 {
        self.train.updates.saturating_add(self.online.steps)
    }
}
