//! [`PlanConfig`]: the settings of a search.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::planning::budget::Budget;
use crate::planning::sampling::Filter;
use trajformer_core::error::{Error, Result};
use trajformer_core::keys::Keys;

/// What a search maximises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Predicted rewards plus the predicted value of what follows.
    #[default]
    Return,
    /// Log-likelihood of the tokens: imitation, or goal-reaching where the network takes a goal.
    Likelihood,
}

/// Where the value of what follows an imagined sequence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanValue {
    /// The network's value tokens.
    #[default]
    Model,
    /// The Q-functions of the run that `planner.critic` names, in the place of the last reward and what follows it.
    Critic,
}

impl PlanValue {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
    fn is_model(&self) -> bool {
        *self == Self::Model
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, clippy::ref_option)] // serde calls it with a reference
fn is_not_false(set: &Option<bool>) -> bool {
    *set != Some(false)
}

/// What the network sees of a long sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// The last `max_context_transitions` transitions, the current one included: the authors'.
    /// Every imagined transition moves the window, so it is computed again.
    #[default]
    Crop,
    /// Everything: context and plan must fit the window that the network was trained with. Faster:
    /// nothing is computed twice.
    Grow,
}

/// Beam search settings. Defaults: the base of the authors' `config/offline.py`, commit 8834a6e, which the
/// README there puts above the numbers in the paper; after a semicolon what it has for single data sets, which their files in
/// `configs/trajectory_transformer` set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanConfig {
    /// Transitions to imagine. 15; 5 for halfcheetah-medium and -medium-replay, walker2d-medium-expert and ant, 20 for
    /// walker2d-medium-replay.
    pub horizon: usize,
    /// Sequences that stay after each imagined transition. 128; 32 for all of halfcheetah and walker2d-medium-replay.
    pub beam_width: usize,
    /// Actions tried from each of them. 2.
    pub n_expand: usize,
    /// Observation tokens: the most likely `k_obs` only; 0: all. 1.
    pub k_obs: usize,
    /// Action tokens: the most likely `k_act` only; 0: all. 0; 40 for walker2d-medium-replay.
    pub k_act: usize,
    /// Reward and value tokens: the most likely `k_rew` only; 0: all. 1.
    pub k_rew: usize,
    /// Observation tokens in the lower tail with this share of the probability are left out; 0: none.
    pub cdf_obs: f64,
    /// Action tokens in the lower tail with this share of the probability are left out; 0: none. 0.6; 0 for
    /// walker2d-medium-replay, where `k_act` takes its place.
    pub cdf_act: f64,
    /// Reward and value tokens in that tail are left out; 0: none. 0.
    pub cdf_rew: f64,
    /// Rewards and values are this percentile, in (0, 1), of the predicted distributions; by default
    /// their expectation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
    /// Transitions that the network sees: in a crop the current one counts, in a growing window
    /// these are the ones before it. 5.
    pub max_context_transitions: usize,
    /// Whether past transitions are seen at all. true.
    pub prefix_context: bool,
    /// Logits are divided by this. 1: their planner leaves it at that, what it samples with can do it.
    pub temperature: f64,
    /// Environment steps that follow one plan, the authors' `plan_freq`. 1.
    pub plan_every_steps: usize,
    /// What happens to long sequences.
    pub window: Window,
    /// What is maximised.
    pub objective: Objective,
    /// Of networks that predict value and next observation from an action's last number (`multi_token`): whether plans by return take
    /// them from there, observations greedily, with A + 1 sequential steps for a transition in place of O + A + 2. Not set: wherever
    /// the network does. `true` is the same, but an error where it does not; it is not written down.
    #[serde(skip_serializing_if = "is_not_false")]
    pub multi_token: Option<bool>,
    /// Where the value of what follows an imagined sequence comes from.
    #[serde(skip_serializing_if = "PlanValue::is_model")]
    pub value: PlanValue,
    /// Folder of a trained run of IQL, whose Q-functions `value = "critic"` takes. The run keeps a copy of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critic: Option<PathBuf>,
    /// Milliseconds that the plan of one episode may take, by the clock of whoever lets it act; by default it takes what it takes.
    /// Searches are as wide as the time allows, and cut where it ends: results depend on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<f64>,
    /// Tokens that may be sampled for the plan of one episode: the same on every machine. A whole search samples
    /// `beam_width` ((A + 2) `n_expand` `horizon` + O (`horizon` - 1)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_tokens: Option<u64>,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            horizon: 15,
            beam_width: 128,
            n_expand: 2,
            k_obs: 1,
            k_act: 0,
            k_rew: 1,
            cdf_obs: 0.0,
            cdf_act: 0.6,
            cdf_rew: 0.0,
            percentile: None,
            max_context_transitions: 5,
            prefix_context: true,
            temperature: 1.0,
            plan_every_steps: 1,
            window: Window::Crop,
            objective: Objective::Return,
            multi_token: None,
            value: PlanValue::Model,
            critic: None,
            budget_ms: None,
            budget_tokens: None,
        }
    }
}

impl PlanConfig {
    /// What a plan may cost, if that is limited.
    pub fn budget(&self) -> Option<Budget> {
        let time = self.budget_ms.map(|ms| Budget::Seconds(ms / 1e3));
        time.or(self.budget_tokens.map(Budget::Tokens))
    }

    fn check_budget(&self, keys: &Keys) -> Result<()> {
        if let Some(ms) = self.budget_ms {
            keys.positive(&[("budget_ms", ms)])?;
        }
        if let Some(0) = self.budget_tokens {
            return Err(keys.wrong("budget_tokens", 0, "at least 1"));
        }
        if self.budget_ms.is_some() && self.budget_tokens.is_some() {
            return Err(Error::settings(
                "planner.budget_ms and planner.budget_tokens both limit a plan: leave one out",
            ));
        }
        if self.budget().is_some() && self.objective == Objective::Likelihood {
            return Err(Error::settings(
                "planner.objective = \"likelihood\" has no budget: leave out planner.budget_ms and planner.budget_tokens, or \
                 plan by \"return\"",
            ));
        }
        Ok(())
    }

    /// Fails where observations are to be drawn that the network predicts at once, each number by itself: draws of single numbers need
    /// not fit each other.
    ///
    /// # Errors
    /// Saying what to do.
    pub fn check_multi_token(&self) -> Result<()> {
        let greedy = self.k_obs == 1 && self.cdf_obs == 0.0;
        if greedy || self.multi_token == Some(false) || self.objective == Objective::Likelihood {
            return Ok(());
        }
        Err(Error::settings(format!(
            "planner.k_obs is {} and planner.cdf_obs {}, but the network predicts the numbers of an observation at once, each by \
             itself, and plans take the likeliest (`multi_token`): set planner.k_obs = 1 and planner.cdf_obs = 0, or \
             planner.multi_token = false, which draws one after the other",
            self.k_obs, self.cdf_obs
        )))
    }

    /// Checks ranges, and that a growing window fits `window_transitions`.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn check(&self, window_transitions: usize) -> Result<()> {
        let keys = Keys("algorithm.trajectory_transformer.planner");
        keys.counts(&[
            ("horizon", self.horizon, 10_000),
            ("beam_width", self.beam_width, 1 << 16),
            ("n_expand", self.n_expand, 1 << 16),
            (
                "max_context_transitions",
                self.max_context_transitions,
                10_000,
            ),
            ("plan_every_steps", self.plan_every_steps, 10_000),
        ])?;
        let shares = [
            ("cdf_obs", self.cdf_obs),
            ("cdf_act", self.cdf_act),
            ("cdf_rew", self.cdf_rew),
        ];
        if let Some((key, value)) = shares.iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            return Err(keys.wrong(key, value, "0 (off) to below 1"));
        }
        let outside = |level: &f64| !(*level > 0.0 && *level < 1.0);
        if let Some(level) = self.percentile.filter(outside) {
            return Err(keys.wrong("percentile", level, "between 0 and 1"));
        }
        keys.positive(&[("temperature", self.temperature)])?;
        self.check_budget(&keys)?;
        if self.value == PlanValue::Critic && self.critic.is_none() {
            return Err(Error::NotSet {
                key: "algorithm.trajectory_transformer.planner.critic".to_owned(),
                problem: "planner.value = \"critic\" takes the values of a trained run of IQL: name its folder".to_owned(),
            });
        }
        if self.value == PlanValue::Critic && self.objective == Objective::Likelihood {
            return Err(Error::settings(
                "planner.objective = \"likelihood\" looks at no values: leave out planner.value, or plan by \"return\"",
            ));
        }
        if self.plan_every_steps > self.horizon {
            let expected = format!("at most `horizon` ({})", self.horizon);
            return Err(keys.wrong("plan_every_steps", self.plan_every_steps, expected));
        }
        let context = if self.prefix_context {
            self.max_context_transitions
        } else {
            0
        };
        if self.window == Window::Grow && context + self.horizon > window_transitions {
            return Err(Error::settings(format!(
                "planner.window = \"grow\" needs max_context_transitions ({context}) + horizon ({}) \
                 <= window_transitions ({window_transitions}): train with a longer window, plan \
                 shorter, or use \"crop\"",
                self.horizon
            )));
        }
        Ok(())
    }

    pub(super) fn filter(&self, top_k: usize, cdf: f64) -> Filter {
        Filter {
            top_k,
            cdf,
            temperature: self.temperature,
        }
    }
}
