//! [`DataView`] and [`TransitionsConfig`]: how value-based methods see a data set.

use serde::{Deserialize, Deserializer, Serialize};
use trajformer_core::error::Result;
use trajformer_core::keys::Keys;

/// What is done to rewards before learning.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardTransform {
    /// Nothing.
    #[default]
    None,
    /// Divided by the range of returns, times 1000: `1000 r / (max - min)`, as in CORL
    /// (`return_reward_range`) on locomotion data. Deviation: CORL cuts the q-learning view into
    /// episodes of 1000 rows, which drifts by one step per time-out; here returns are those of the
    /// true, complete episodes.
    ReturnRange,
    /// This is added: -1 on antmaze in CORL, so that every step but the last costs.
    Shift(f32),
    /// Multiplied by this.
    Scale(f32),
    /// `scale * r + shift`: 10 and -5 on antmaze in CORL's CQL.
    Affine {
        /// Factor.
        scale: f32,
        /// Added afterwards.
        shift: f32,
    },
}

/// `[algorithm.NAME.data]`: how a value-based method sees its data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DataView {
    /// Whether observations are normalized to mean 0 and standard deviation 1 (plus 1e-3) over the transitions that are kept.
    pub normalize_observations: bool,
    /// What is done to rewards before learning.
    pub rewards: RewardTransform,
    /// Whether the last steps of truncated episodes are kept, where the observation after them is known.
    pub keep_truncations: bool,
}

/// What a table says of a [`DataView`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    normalize_observations: Option<bool>,
    rewards: Option<RewardTransform>,
    keep_truncations: Option<bool>,
}

impl DataView {
    /// The data as it is.
    pub const PLAIN: Self = Self {
        normalize_observations: false,
        rewards: RewardTransform::None,
        keep_truncations: false,
    };

    /// The data with normalized observations.
    pub const NORMALIZED: Self = Self {
        normalize_observations: true,
        ..Self::PLAIN
    };

    /// Reads a table whose missing keys are those of [`PLAIN`](Self::PLAIN): for serde's `deserialize_with`.
    ///
    /// # Errors
    /// If a key is unknown or has a value of a wrong type.
    pub fn read_plain<'de, D: Deserializer<'de>>(table: D) -> std::result::Result<Self, D::Error> {
        Self::PLAIN.with(table)
    }

    /// Reads a table whose missing keys are those of [`NORMALIZED`](Self::NORMALIZED): for serde's `deserialize_with`.
    ///
    /// # Errors
    /// If a key is unknown or has a value of a wrong type.
    pub fn read_normalized<'de, D: Deserializer<'de>>(
        table: D,
    ) -> std::result::Result<Self, D::Error> {
        Self::NORMALIZED.with(table)
    }

    fn with<'de, D: Deserializer<'de>>(self, table: D) -> std::result::Result<Self, D::Error> {
        let given = Given::deserialize(table)?;
        Ok(Self {
            normalize_observations: given
                .normalize_observations
                .unwrap_or(self.normalize_observations),
            rewards: given.rewards.unwrap_or(self.rewards),
            keep_truncations: given.keep_truncations.unwrap_or(self.keep_truncations),
        })
    }

    /// Fails if observations are to be normalized, in the configuration of an algorithm that has no use for it.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn refuse_normalization(&self, keys: &Keys) -> Result<()> {
        if self.normalize_observations {
            let expected = "false: this algorithm sees observations as they are";
            return Err(keys.wrong("data.normalize_observations", true, expected));
        }
        Ok(())
    }

    /// Fails if last steps are to be kept, in the configuration of an algorithm that needs the action after every step.
    ///
    /// # Errors
    /// [`Error::Config`](trajformer_core::error::Error::Config) that names the key.
    pub fn refuse_truncations(&self, keys: &Keys) -> Result<()> {
        if self.keep_truncations {
            let expected = "false: this algorithm learns from the action after a step, and none follows a last one";
            return Err(keys.wrong("data.keep_truncations", true, expected));
        }
        Ok(())
    }
}

impl From<DataView> for TransitionsConfig {
    fn from(view: DataView) -> Self {
        Self {
            normalize_observations: view.normalize_observations,
            rewards: view.rewards,
            keep_truncations: view.keep_truncations,
            ..Self::default()
        }
    }
}

/// How a data set becomes [`Transitions`](crate::transitions::Transitions).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransitionsConfig {
    /// Whether observations are normalized, with statistics over the transitions that are kept.
    pub normalize_observations: bool,
    /// Added to the standard deviations; 1e-3 in TD3+BC's code and all that follow it.
    pub normalization_epsilon: f64,
    /// What is done to rewards.
    pub rewards: RewardTransform,
    /// Keep the last step of truncated episodes (and of the data) where the observation after it is
    /// known. Off in D4RL's view. With `next_actions` they stay dropped: no action follows.
    pub keep_truncations: bool,
    /// Whether what follows a step is needed; BC does without, and keeps all steps.
    pub next_step: bool,
    /// The table of the configuration that this is from, for messages.
    #[serde(skip)]
    pub table: &'static str,
    /// Also hold the action of the next step, as ReBRAC needs it.
    pub next_actions: bool,
    /// Batches also hold [`Batch::monte_carlo_returns`](crate::batch::Batch::monte_carlo_returns), as Cal-QL needs it.
    pub monte_carlo_returns: bool,
    /// For [`Batch::monte_carlo_returns`](crate::batch::Batch::monte_carlo_returns): the environment's reward of every step of an episode that fails. An episode that was broken
    /// off and holds no other is taken to go on like that without end.
    pub failure_reward: Option<f32>,
    /// Discount in [0, 1] of the returns that [`Transitions::sample_judged`](crate::transitions::Transitions::sample_judged) gives.
    pub returns_discount: f64,
}

impl Default for TransitionsConfig {
    fn default() -> Self {
        Self {
            normalize_observations: true,
            normalization_epsilon: 1e-3,
            rewards: RewardTransform::None,
            keep_truncations: false,
            next_step: true,
            table: "algorithm.NAME",
            next_actions: false,
            monte_carlo_returns: false,
            failure_reward: None,
            returns_discount: 0.99,
        }
    }
}
