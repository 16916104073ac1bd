//! Learning rules, one file each, and the registry that the configuration chooses from.

pub mod awac;
pub mod bc;
pub mod bear;
pub mod brac;
pub mod cql;
pub mod crr;
pub mod decision_transformer;
pub mod edac;
pub mod fast;
pub mod iql;
pub mod lamo;
pub mod rebrac;
pub mod sac;
pub mod sac_n;
pub mod sac_rnd;
pub mod td3;
pub mod td3_bc;
pub mod trajectory_transformer;

use candle_core::Device;
use serde::{Deserialize, Serialize};
use trajformer_models::params::StateVisitor;
use trajformer_models::precision::Precision;
use trajformer_models::pretrained::Gpt2;

use crate::data::{ActionBounds, DataShare, Dataset};
use crate::error::Result;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::rng::Rng;
use crate::schedules::DecayUpdates;
use crate::text::{Corpus, CorpusConfig, InstructedEpisodes};

/// A learning rule: one call of [`update`](Self::update) is one gradient step of its paper.
pub trait Algorithm: Send {
    /// One gradient step on a batch drawn with `rng` from the data given when it was built. Its
    /// first line says what one step consumes.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics>;

    /// A snapshot that acts on its own; later updates do not change it.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn policy(&self) -> Result<Box<dyn Policy>>;

    /// Shows the whole state to `visitor`: networks under `model.`, what a policy needs beside them
    /// (normaliser, discretiser, bounds) under `policy.`, targets and optimiser under `training.`.
    ///
    /// # Errors
    /// What the visitor says.
    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()>;

    /// What can be said of the present state beside an update's metrics, over data drawn with `rng`: asked
    /// for once per row of `metrics.csv`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn diagnostics(&mut self, _rng: &mut Rng) -> Result<Metrics> {
        Ok(Metrics::new())
    }

    /// The same algorithm as one that can learn online, if it can.
    fn interactive(&mut self) -> Option<&mut dyn Interactive> {
        None
    }

    /// What it knows of instructions, if it is configured to follow them.
    fn instructed(&mut self) -> Option<&mut InstructedEpisodes> {
        None
    }

    /// The same algorithm as one whose trunk starts from a language model's, if it is configured to.
    fn pretrainable(&mut self) -> Option<&mut dyn Pretrainable> {
        None
    }

    /// What one update costs on paper, for benchmarks; `None` where nobody counted.
    fn work(&self) -> Option<Work> {
        None
    }

    /// Keys for `config.json`, where another library knows the model: its `model_type` and sizes.
    fn description(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::new()
    }
}

/// An algorithm that can go on learning from its own experience.
pub trait Interactive {
    /// Fails if it can't, after all.
    ///
    /// # Errors
    /// If the method has no actor that explores.
    fn check(&self) -> Result<()>;

    /// Gets ready to collect and to learn online, if it is not; what was collected is shown by [`Algorithm::state`] from
    /// now on.
    ///
    /// # Errors
    /// If the device fails.
    fn prepare(&mut self, phase: &OnlinePhase) -> Result<()>;

    /// Whether whole episodes are collected, each followed by as many updates as it has steps. Else an update follows each step.
    fn collects_episodes(&self) -> bool;

    /// Steps collected so far.
    fn collected(&self) -> u64;

    /// An action (A), in the environment's units, for an observation (O): from the policy's distribution, or with
    /// normal noise where it has none, of deviation `noise` (for a range of ±1) or the method's own. [`Self::learn`] of the
    /// step has to follow.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn explore(
        &mut self,
        observation: &[f32],
        noise: Option<f64>,
        rng: &mut Rng,
    ) -> Result<Vec<f32>>;

    /// Adds the step that followed the last action to what is learned from; `last` if the episode goes on no further.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn learn(&mut self, step: &Step<'_>, last: bool) -> Result<()>;

    /// Number of the episode that runs, and its actions so far in the environment's units.
    ///
    /// # Errors
    /// If the device fails.
    fn running(&self) -> Result<(u64, Vec<Vec<f32>>)>;
}

/// What an algorithm is told of the part of a run that is online.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OnlinePhase {
    /// How batches are mixed.
    pub data_share: DataShare,
    /// Steps in the environment, and updates after those on the data alone: schedules may depend on it.
    pub steps: u64,
}

/// An algorithm whose trunk starts from a language model's.
pub trait Pretrainable {
    /// Where that lies: a folder, or `hf://ID`.
    fn source(&self) -> &str;

    /// Sets the trunk's weights, before the first update.
    ///
    /// # Errors
    /// If it has other sizes than the configuration, or weights are missing or don't fit.
    fn set_trunk(&mut self, gpt2: &Gpt2) -> Result<()>;

    /// Text that is learned beside the data, where the configuration has it.
    fn text(&self) -> Option<&CorpusConfig>;

    /// Sets that text: before the first update, and again when a run is resumed.
    fn set_text(&mut self, text: Corpus);
}

/// What followed an action.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Observation after it (O).
    pub observation: &'a [f32],
    /// Its reward, as the environment gives it.
    pub reward: f32,
    /// Whether the task ended.
    pub terminated: bool,
}

/// `matmul`: the type that factors of a transformer's matrix products are rounded to. Parameters,
/// optimiser and everything else are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matmul {
    /// Nothing is rounded.
    #[default]
    F32,
    /// To bf16: for GPUs that have units for it. On the CPU it only costs time.
    Bf16,
}

impl From<Matmul> for Precision {
    fn from(matmul: Matmul) -> Self {
        match matmul {
            Matmul::F32 => Self::Full,
            Matmul::Bf16 => Self::Bf16,
        }
    }
}

/// What one update costs on paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Floating-point operations of the matrix products that an update can't do without, forward and
    /// backward; a multiplication with its addition counts as two.
    pub product_flops: f64,
    /// Tokens that a sequence model reads; 0 for others.
    pub tokens: usize,
}

impl Work {
    /// Sizes of a multilayer perceptron's layers, input and output included.
    pub fn layers(inputs: usize, hidden: &[usize], outputs: usize) -> Vec<usize> {
        let hidden = hidden.iter().copied();
        std::iter::once(inputs)
            .chain(hidden)
            .chain([outputs])
            .collect()
    }

    /// Operations per row of a multilayer perceptron's forward pass; `sizes` are those of its
    /// layers, input and output included.
    pub fn forward(sizes: &[usize]) -> f64 {
        let weights: usize = sizes.windows(2).map(|pair| pair[0] * pair[1]).sum();
        2.0 * weights as f64
    }

    /// Operations per row of its forward pass and of the gradients of all weights: all layers but
    /// the first pass a gradient on.
    pub fn forward_backward(sizes: &[usize]) -> f64 {
        2.0 * Self::forward(sizes) + Self::forward(&sizes[1..])
    }

    /// Operations of a causal transformer's blocks, forward and backward, for `batch` sequences of
    /// `length` tokens. Of attention only the half that is seen counts.
    pub fn transformer(layers: usize, width: usize, batch: usize, length: usize) -> f64 {
        let weights = (12 * width * width * length) as f64;
        let attention = (width * length * (length + 1)) as f64; // scores and sums, half of each
        3.0 * 2.0 * (batch * layers) as f64 * (weights + attention)
    }
}

/// What an algorithm is built from.
pub struct Build<'a> {
    /// What it learns from. To rebuild a stored run without its data this is
    /// [`Dataset::blank`]: a few zero steps of the right shape, before the state is loaded.
    pub data: &'a Dataset,
    /// Range of the actions.
    pub bounds: &'a ActionBounds,
    /// Updates that the run makes on its data alone (`train.updates`): schedules may depend on it.
    pub training_updates: u64,
    /// Where networks and data live.
    pub device: &'a Device,
    /// Stream of the initial values.
    pub rng: &'a mut Rng,
}

/// One row of the registry.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// Name in configurations and folders.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
}

macro_rules! registry {
    ($($variant:ident($config:path) = $name:literal, $title:literal, $paper:literal;)+) => {
        /// The table `[algorithm.NAME]` of a configuration.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum AlgorithmConfig {
            $(#[doc = $title] #[serde(rename = $name)] $variant($config),)+
        }

        /// Every algorithm.
        pub const ALGORITHMS: &[Registered] =
            &[$(Registered { name: $name, title: $title, paper: $paper }),+];

        impl AlgorithmConfig {
            /// Registered name, e.g. `td3_bc`.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name),+ }
            }

            /// Its table in a configuration, e.g. `algorithm.td3_bc`.
            pub fn keys(&self) -> &'static str {
                match self { $(Self::$variant(_) => concat!("algorithm.", $name)),+ }
            }

            /// Fails if a value is out of range.
            ///
            /// # Errors
            /// [`Error::Config`](crate::Error::Config) that names the key.
            pub fn check(&self) -> Result<()> {
                match self { $(Self::$variant(config) => config.check()),+ }
            }

            /// Makes the algorithm.
            ///
            /// # Errors
            /// If the data does not suit it.
            pub fn build(&self, build: Build<'_>) -> Result<Box<dyn Algorithm>> {
                match self { $(Self::$variant(config) => Ok(Box::new(config.build(build)?))),+ }
            }
        }
    };
}

registry! {
    Awac(awac::AwacConfig) = "awac", "AWAC", "https://arxiv.org/abs/2006.09359";
    Bc(bc::BcConfig) = "bc", "Behaviour cloning", "https://arxiv.org/abs/1805.01954";
    Bear(bear::BearConfig) = "bear", "BEAR", "https://arxiv.org/abs/1906.00949";
    Brac(brac::BracConfig) = "brac", "BRAC", "https://arxiv.org/abs/1911.11361";
    Cql(cql::CqlConfig) = "cql", "CQL", "https://arxiv.org/abs/2006.04779";
    Crr(crr::CrrConfig) = "crr", "CRR", "https://arxiv.org/abs/2006.15134";
    DecisionTransformer(decision_transformer::DecisionTransformerConfig) =
        "decision_transformer", "Decision Transformer", "https://arxiv.org/abs/2106.01345";
    Edac(edac::EdacConfig) = "edac", "EDAC", "https://arxiv.org/abs/2110.01548";
    Fast(fast::FastConfig) = "fast", "FAST", "https://arxiv.org/abs/2501.09747";
    Iql(iql::IqlConfig) = "iql", "IQL", "https://arxiv.org/abs/2110.06169";
    Lamo(lamo::LamoConfig) = "lamo", "LaMo", "https://arxiv.org/abs/2310.20587";
    Rebrac(rebrac::RebracConfig) = "rebrac", "ReBRAC", "https://arxiv.org/abs/2305.09836";
    Sac(sac::SacConfig) = "sac", "SAC", "https://arxiv.org/abs/1812.05905";
    SacN(sac_n::SacNConfig) = "sac_n", "SAC-N", "https://arxiv.org/abs/2110.01548";
    SacRnd(sac_rnd::SacRndConfig) = "sac_rnd", "SAC-RND", "https://arxiv.org/abs/2301.13616";
    Td3(td3::Td3Config) = "td3", "TD3", "https://arxiv.org/abs/1802.09477";
    Td3Bc(td3_bc::Td3BcConfig) = "td3_bc", "TD3+BC", "https://arxiv.org/abs/2106.06860";
    TrajectoryTransformer(trajectory_transformer::TrajectoryTransformerConfig) =
        "trajectory_transformer", "Trajectory Transformer", "https://arxiv.org/abs/2106.02039";
}

impl AlgorithmConfig {
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
            Self::TrajectoryTransformer(_) => &["planner", "discount"],
            _ => &[],
        }
    }

    /// Compares its schedules with the updates that a run makes on its data (`train.updates`): what a user should know,
    /// one sentence each.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), naming the key, where the policy would not be trained at all, or not from
    /// some update on.
    pub fn check_schedules(&self, updates: u64) -> Result<Vec<String>> {
        let keys = Keys(self.keys());
        // A phase before the policy learns what it is for.
        let phase = |key: &str, value: u64, what: &str| match value < updates {
            true => Vec::new(),
            false => vec![format!(
                "`{}.{key}` is {value} and `train.updates` {updates}: {what}",
                self.keys()
            )],
        };
        let needs_more = |key: &str, value: u64, then: &str| match value < updates {
            true => Ok(()),
            false => {
                let expected = format!("less than `train.updates` ({updates}): {then}");
                Err(keys.wrong(key, value, expected))
            }
        };
        let delay = |updates_per_step: u64| match updates_per_step <= updates {
            true => Ok(Vec::new()),
            false => {
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
            Self::DecisionTransformer(config) => {
                Ok(phase("warmup_updates", config.warmup_updates, WARM_UP))
            }
            Self::Lamo(config) => Ok(phase("warmup_updates", config.warmup_updates, WARM_UP)),
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
                Ok(match first < updates {
                    true => Vec::new(),
                    false => vec![format!(
                        "`{}.behavior_updates` ({policy_from}) and `warm_start_updates` ({}) are all of `train.updates` \
                         ({updates}): the actor never follows the critics in them",
                        self.keys(),
                        config.warm_start_updates
                    )],
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
            Self::Td3(config) => delay(config.policy_delay),
            Self::Td3Bc(config) => delay(config.policy_delay),
            Self::Rebrac(config) => delay(config.policy_delay),
            _ => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_on_paper_equals_a_count_by_hand() {
        // 2 -> 3 -> 1: 9 weights; backward: 9 for the weights, 3 for the gradient of the hidden layer.
        assert_eq!(Work::forward(&[2, 3, 1]), 18.0);
        assert_eq!(Work::forward_backward(&[2, 3, 1]), 42.0);
        // Width 1, two tokens: 12 weights each; three pairs of tokens, a score and a sum each.
        assert_eq!(Work::transformer(1, 1, 1, 2), 6.0 * (24.0 + 6.0));
    }
}
