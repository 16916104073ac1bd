//! Learning rules, one file each, and the registry that the configuration chooses from.

mod memory;

use crate::{
    awac, bc, bear, brac, cql, crr, decision_transformer, edac, fast, iql, lamo, online_dt, qt,
    rebrac, reinformer, sac, sac_n, sac_rnd, tap, td3, td3_bc, trajectory_transformer,
};
use serde::{Deserialize, Serialize};
use trajformer_core::algorithm::Algorithm;
use trajformer_core::algorithm::Build;

use crate::trajectory_transformer::RateSchedule;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::keys::Keys;
use trajformer_core::schedules::DecayUpdates;

/// One row of the registry.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// Name in configurations and folders.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// Which actions it learns from.
    pub actions: Actions,
}

/// Which actions an algorithm learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actions {
    /// Real numbers alone.
    Continuous,
    /// Real numbers, and choices in a form of its own.
    Both,
}

/// What a `build` gave, as a trait object: one that takes both kinds of actions has one for each.
macro_rules! built {
    (Continuous, $built:expr) => {
        Ok(Box::new($built?))
    };
    (Both, $built:expr) => {
        $built
    };
}

macro_rules! registry {
    ($($variant:ident($config:path) = $name:literal, $title:literal, $paper:literal, $actions:ident;)+) => {
        /// The table `[algorithm.NAME]` of a configuration.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[allow(clippy::large_enum_variant)] // a program holds a few
        pub enum AlgorithmConfig {
            $(#[doc = $title] #[serde(rename = $name)] $variant($config),)+
            /// A learning rule of the program that uses this library.
            #[serde(rename = "custom")]
            Custom(CustomConfig),
        }

        /// Every algorithm.
        pub const ALGORITHMS: &[Registered] =
            &[$(Registered { name: $name, title: $title, paper: $paper, actions: Actions::$actions }),+];

        impl AlgorithmConfig {
            /// Registered name, e.g. `td3_bc`.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ Self::Custom(_) => CustomConfig::NAME }
            }

            /// Its table in a configuration, e.g. `algorithm.td3_bc`.
            pub fn keys(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => concat!("algorithm.", $name),)+
                    Self::Custom(_) => "algorithm.custom",
                }
            }

            /// Fails if a value is out of range.
            ///
            /// # Errors
            /// [`Error::Config`] that names the key.
            pub fn check(&self) -> Result<()> {
                match self {
                    $(Self::$variant(config) => config.check(),)+
                    Self::Custom(config) => config.check(),
                }
            }

            /// Makes the algorithm.
            ///
            /// # Errors
            /// If the data does not suit it, or an encoder is given that has no place in it.
            pub fn build(&self, build: Build<'_>) -> Result<Box<dyn Algorithm>> {
                if let Some(data) = build.source.data() {
                    self.check_takes_actions_of(data)?;
                }
                if let Some(encoder) = build.encoder {
                    self.check_takes_encoder(&encoder.name())?;
                }
                match self {
                    $(Self::$variant(config) => built!($actions, config.build(build)),)+
                    Self::Custom(config) => Err(config.unknown()),
                }
            }
        }
    };
}

registry! {
    Awac(awac::AwacConfig) = "awac", "AWAC", "https://arxiv.org/abs/2006.09359", Continuous;
    Bc(bc::BcConfig) = "bc", "Behaviour cloning", "https://arxiv.org/abs/1805.01954", Both;
    Bear(bear::BearConfig) = "bear", "BEAR", "https://arxiv.org/abs/1906.00949", Continuous;
    Brac(brac::BracConfig) = "brac", "BRAC", "https://arxiv.org/abs/1911.11361", Continuous;
    Cql(cql::CqlConfig) = "cql", "CQL", "https://arxiv.org/abs/2006.04779", Both;
    Crr(crr::CrrConfig) = "crr", "CRR", "https://arxiv.org/abs/2006.15134", Continuous;
    DecisionTransformer(decision_transformer::DecisionTransformerConfig) =
        "decision_transformer", "Decision Transformer", "https://arxiv.org/abs/2106.01345", Both;
    Edac(edac::EdacConfig) = "edac", "EDAC", "https://arxiv.org/abs/2110.01548", Continuous;
    Fast(fast::FastConfig) = "fast", "FAST", "https://arxiv.org/abs/2501.09747", Continuous;
    Iql(iql::IqlConfig) = "iql", "IQL", "https://arxiv.org/abs/2110.06169", Both;
    Lamo(lamo::LamoConfig) = "lamo", "LaMo", "https://arxiv.org/abs/2310.20587", Continuous;
    OnlineDt(online_dt::OnlineDtConfig) =
        "online_dt", "Online Decision Transformer", "https://arxiv.org/abs/2202.05607", Continuous;
    Qt(qt::QtConfig) = "qt", "QT", "https://arxiv.org/abs/2405.17098", Continuous;
    Rebrac(rebrac::RebracConfig) = "rebrac", "ReBRAC", "https://arxiv.org/abs/2305.09836", Continuous;
    Reinformer(reinformer::ReinformerConfig) =
        "reinformer", "Reinformer", "https://arxiv.org/abs/2405.08740", Continuous;
    Sac(sac::SacConfig) = "sac", "SAC", "https://arxiv.org/abs/1812.05905", Continuous;
    SacN(sac_n::SacNConfig) = "sac_n", "SAC-N", "https://arxiv.org/abs/2110.01548", Continuous;
    SacRnd(sac_rnd::SacRndConfig) = "sac_rnd", "SAC-RND", "https://arxiv.org/abs/2301.13616", Continuous;
    Tap(tap::TapConfig) = "tap", "TAP", "https://arxiv.org/abs/2208.10291", Continuous;
    Td3(td3::Td3Config) = "td3", "TD3", "https://arxiv.org/abs/1802.09477", Continuous;
    Td3Bc(td3_bc::Td3BcConfig) = "td3_bc", "TD3+BC", "https://arxiv.org/abs/2106.06860", Continuous;
    TrajectoryTransformer(trajectory_transformer::TrajectoryTransformerConfig) =
        "trajectory_transformer", "Trajectory Transformer", "https://arxiv.org/abs/2106.02039", Both;
}

/// `[algorithm.custom]`: a learning rule that is not among [`ALGORITHMS`]. The program that has it gives it to the run as a
/// function; the run keeps these keys, so that it goes on with the settings that it was started with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CustomConfig {
    /// What it is called, e.g. `my_awr`.
    pub name: String,
    /// Whatever decides how it learns: numbers, words, lists and tables, whose meaning is the program's.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

impl CustomConfig {
    /// The word for it in place of an algorithm's name.
    pub const NAME: &str = "custom";

    /// The table in a configuration.
    const KEYS: Keys = Keys("algorithm.custom");

    /// Fails if it has no name.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        if self.name.is_empty() {
            let expected = "the name of a learning rule of your own program";
            return Err(Self::KEYS.wrong("name", "empty", expected));
        }
        Ok(())
    }

    /// A number of its settings.
    ///
    /// # Errors
    /// [`Error::Config`] if it is missing or is no number.
    pub fn number(&self, key: &str) -> Result<f64> {
        let value = self.settings.get(key);
        value.and_then(serde_json::Value::as_f64).ok_or_else(|| {
            let found = value.map_or_else(|| "not set".to_owned(), ToString::to_string);
            Error::config(
                format!("algorithm.custom.settings.{key}"),
                found,
                "a number",
            )
        })
    }

    /// Said where the program that has the rule is not the one that runs.
    fn unknown(&self) -> Error {
        let problem = format!(
            "the learning rule `{}` belongs to another program, which has to train or open this run",
            self.name
        );
        Error::unsupported(Ability::Rule, problem)
    }
}

impl AlgorithmConfig {
    /// Fails if it can't learn from the actions of `data`.
    ///
    /// # Errors
    /// [`Error::Unsuitable`], naming the file, and the algorithms that can.
    pub fn check_takes_actions_of(&self, data: &Dataset) -> Result<()> {
        let registered = ALGORITHMS.iter().find(|row| row.name == self.name());
        match registered.map(|row| row.actions) {
            Some(Actions::Continuous) => {}
            Some(Actions::Both) | None => return Ok(()),
        }
        let others = ALGORITHMS.iter().filter(|row| row.actions == Actions::Both);
        let others: Vec<String> = others.map(|row| format!("`{}`", row.name)).collect();
        data.require_continuous_actions(&format!("`{}`", self.name()))
            .map_err(|error| match error {
                Error::Unsuitable(problem) if !others.is_empty() => {
                    Error::Unsuitable(format!("{problem}; {} take choices", others.join(", ")))
                }
                error => error,
            })
    }

    /// Fails if an encoder of the caller's own, of this name, can't stand in for the hidden layers of its networks.
    ///
    /// # Errors
    /// [`Error::Encoder`] that says why, and what to do.
    pub fn check_takes_encoder(&self, name: &str) -> Result<()> {
        const TRANSFORMER: &str = "its network is a transformer, which has no perceptron whose hidden layers it could stand in for";
        let problem = match self {
            Self::Awac(_)
            | Self::Bc(_)
            | Self::Bear(_)
            | Self::Brac(_)
            | Self::Cql(_)
            | Self::Crr(_)
            | Self::Custom(_)
            | Self::Iql(_)
            | Self::Rebrac(_)
            | Self::Sac(_)
            | Self::SacN(_)
            | Self::SacRnd(_)
            | Self::Td3(_)
            | Self::Td3Bc(_) => return Ok(()),
            Self::Edac(_) => {
                "its loss differentiates gradients of the critics, which is written out for perceptrons alone"
            }
            Self::DecisionTransformer(_)
            | Self::Fast(_)
            | Self::Lamo(_)
            | Self::OnlineDt(_)
            | Self::Qt(_)
            | Self::Reinformer(_)
            | Self::Tap(_)
            | Self::TrajectoryTransformer(_) => TRANSFORMER,
        };
        Err(Error::Encoder {
            name: name.to_owned(),
            problem: format!(
                "`{}` can't be trained with it: {problem}; leave the encoder out, or choose BC or a value-based method \
                 other than EDAC",
                self.name()
            ),
        })
    }

    /// The folder, or `hf://ID`, of the FAST tokenizer that it names, whose files go into [`Build::fast`].
    pub fn fast_tokenizer(&self) -> Option<&str> {
        match self {
            Self::Fast(config) => config.tokenizer.as_deref(),
            _ => None,
        }
    }

    /// Whether its policies aim at returns, which an episode can be given.
    pub fn aims_at_returns(&self) -> bool {
        matches!(
            self,
            Self::DecisionTransformer(_) | Self::Lamo(_) | Self::OnlineDt(_) | Self::Qt(_)
        )
    }

    /// Keys of its table, and tables inside of it, that decide how a trained run acts and can be changed for it; all others
    /// are training's.
    pub fn acting_keys(&self) -> &'static [&'static str] {
        match self {
            Self::Bear(_) | Self::Brac(_) => &["acting_samples"],
            Self::Crr(_) => &["weighted_acting", "samples"],
            Self::DecisionTransformer(_) => {
                &["target_returns", "context_steps", "return_scale", "matmul"]
            }
            Self::Fast(_) => &["execute_steps", "temperature", "constrained"],
            Self::Lamo(_) => &["target_returns", "context_steps", "return_scale"],
            Self::OnlineDt(_) => &["target_returns", "acting_context_steps", "return_scale"],
            Self::Qt(_) => &[
                "target_returns",
                "context_steps",
                "return_scale",
                "candidates",
                "candidate_noise",
                "candidate_returns",
                "critic_return",
                "choice",
                "matmul",
            ],
            Self::Reinformer(_) => &["context_steps"],
            Self::Tap(_) | Self::TrajectoryTransformer(_) => &["planner", "discount"],
            _ => &[],
        }
    }

    /// Fails where a key that decides how it acts asks for what its networks have not: for trained networks, which stay as they are.
    ///
    /// # Errors
    /// Naming the key, and what to do.
    pub fn check_acting(&self) -> Result<()> {
        match self {
            Self::TrajectoryTransformer(config) => config.check_acting(),
            _ => Ok(()),
        }
    }

    /// As [`Self::check_acting`], of networks that are still to be trained.
    ///
    /// # Errors
    /// Naming the key, and what to do.
    pub fn check_will_act(&self) -> Result<()> {
        match self {
            Self::TrajectoryTransformer(config) => config.check_will_act(),
            _ => Ok(()),
        }
    }

    /// Keys that are set and not written down, because they only ask for what is done anyway, as `KEY=VALUE`.
    pub fn unwritten(&self) -> Vec<String> {
        match self {
            Self::TrajectoryTransformer(config) if config.planner.multi_token == Some(true) => {
                vec![format!("{}.planner.multi_token=true", self.keys())]
            }
            _ => Vec::new(),
        }
    }

    /// Keys whose schedules are as long as the training on data (`train.updates`), or a share of it, whatever that is.
    pub fn keys_of_length(&self) -> Vec<String> {
        let key = |key: &str| vec![format!("{}.{key}", self.keys())];
        match self {
            Self::Iql(config) if config.actor_decay_updates == DecayUpdates::Training => {
                key("actor_decay_updates")
            }
            Self::Qt(config) if config.decay_updates == DecayUpdates::Training => {
                key("decay_updates")
            }
            Self::TrajectoryTransformer(config)
                if config.schedule == RateSchedule::WarmupStableDecay =>
            {
                key("decay_fraction")
            }
            _ => Vec::new(),
        }
    }

    /// Compares its schedules with the updates that a run makes on its data (`train.updates`): what a user should know,
    /// one sentence each.
    ///
    /// # Errors
    /// [`Error::Config`], naming the key, where the policy would not be trained at all, or not from
    /// some update on.
    pub fn check_schedules(&self, updates: u64) -> Result<Vec<String>> {
        let keys = Keys(self.keys());
        // A phase before the policy learns what it is for.
        let phase = |key: &str, value: u64, what: &str| {
            if value < updates {
                Vec::new()
            } else {
                vec![format!(
                    "`{}.{key}` is {value} and `train.updates` {updates}: {what}",
                    self.keys()
                )]
            }
        };
        let needs_more = |key: &str, value: u64, then: &str| {
            if value < updates {
                Ok(())
            } else {
                let expected = format!("less than `train.updates` ({updates}): {then}");
                Err(keys.wrong(key, value, expected))
            }
        };
        let delay = |updates_per_step: u64| {
            if updates_per_step <= updates {
                Ok(Vec::new())
            } else {
                let expected =
                    format!("at most `train.updates` ({updates}): the actor would take no step");
                Err(keys.wrong("policy_delay", updates_per_step, expected))
            }
        };
        const WARM_UP: &str = "the rate never reaches its full value";
        match self {
            Self::Iql(config) => match config.actor_decay_updates {
                decay @ DecayUpdates::Updates(length) if decay.ends_before(updates) => {
                    let expected = format!(
                        "\"training\", or at least `train.updates` ({updates}): the actor would not \
                         learn from update {length} on"
                    );
                    Err(keys.wrong("actor_decay_updates", length, expected))
                }
                _ => Ok(Vec::new()),
            },
            Self::Qt(config) => match config.decay_updates {
                decay @ DecayUpdates::Updates(length) if decay.ends_before(updates) => {
                    let expected = format!(
                        "\"training\", or at least `train.updates` ({updates}): nothing would be learned from update \
                         {length} on"
                    );
                    Err(keys.wrong("decay_updates", length, expected))
                }
                _ => Ok(Vec::new()),
            },
            Self::DecisionTransformer(config) => {
                Ok(phase("warmup_updates", config.warmup_updates, WARM_UP))
            }
            Self::Lamo(config) => Ok(phase("warmup_updates", config.warmup_updates, WARM_UP)),
            Self::Reinformer(config) => Ok(phase("warmup_updates", config.warmup_updates, WARM_UP)),
            Self::Bear(config) => Ok(phase(
                "warmup_updates",
                config.warmup_updates,
                "in them the actor follows the constraint alone, never the critics",
            )),
            Self::Cql(config) => Ok(phase(
                "cloning_updates",
                config.cloning_updates,
                "in them the actor clones, and never follows the critics",
            )),
            Self::Brac(config) => {
                let policy_from = config.behavior_updates;
                needs_more(
                    "behavior_updates",
                    policy_from,
                    "the updates after them train the policy",
                )?;
                let first = policy_from.saturating_add(config.warm_start_updates);
                Ok(if first < updates {
                    Vec::new()
                } else {
                    vec![format!(
                        "`{}.behavior_updates` ({policy_from}) and `warm_start_updates` ({}) are all of `train.updates` \
                     ({updates}): the actor never follows the critics in them",
                        self.keys(),
                        config.warm_start_updates
                    )]
                })
            }
            Self::SacRnd(config) => {
                needs_more(
                    "pretraining_updates",
                    config.pretraining_updates,
                    "the updates after them train the policy",
                )?;
                Ok(Vec::new())
            }
            Self::Tap(config) => {
                needs_more(
                    "autoencoder_updates",
                    config.autoencoder_updates,
                    "the updates after them train the prior that it plans with",
                )?;
                Ok(Vec::new())
            }
            Self::Td3(config) => delay(config.policy_delay),
            Self::Td3Bc(config) => delay(config.policy_delay),
            Self::Rebrac(config) => delay(config.policy_delay),
            _ => Ok(Vec::new()),
        }
    }
}
