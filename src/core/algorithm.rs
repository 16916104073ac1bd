//! [`Algorithm`]: what a learning rule is to the trainer, and what it is built from.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::encoder::EncoderFactory;
use trajformer_models::params::StateVisitor;
use trajformer_models::precision::Precision;
use trajformer_models::pretrained::Gpt2;
use trajformer_models::ranks::Ranks;
use trajformer_models::rng::Rng;
use trajformer_models::work::Passes;

use crate::clock::Clock;
use crate::corpus::{Corpus, CorpusConfig};
use crate::dataset::Dataset;
use crate::error::{Ability, Error, Result};
use crate::fast_files::FastFiles;
use crate::instructed_episodes::InstructedEpisodes;
use crate::metrics::Metrics;
use crate::mixing::DataShare;
use crate::normalizer::ActionBounds;
use crate::policy::Policy;
use crate::source::Source;

/// A learning rule: one call of [`update`](Self::update) is one gradient step of its paper.
pub trait Algorithm: Send {
    /// One gradient step on a batch drawn with `rng` from the data given when it was built. Its
    /// first line says what one step consumes.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics>;

    /// Whether updates from now on report the norms of their gradients (`actor_gradient_norm`, ...) where that costs a pass over
    /// them; methods that clip gradients know and report them anyway. Updates are the same to the last bit.
    fn watch_gradients(&mut self, is_watched: bool) {
        let _ = is_watched;
    }

    /// A snapshot that acts on its own; later updates do not change it.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn policy(&self) -> Result<Box<dyn Policy>>;

    /// A snapshot that draws each action from the policy's distribution, where [`Self::policy`] takes its mean or what is likeliest;
    /// `None` for policies that are deterministic, or that choose among plans of theirs.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn sampling_policy(&self) -> Result<Option<Box<dyn Policy>>> {
        Ok(None)
    }

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

    /// Takes episodes that it must never learn from, for [`Self::held_out_losses`]; they are seen as the training data is, with
    /// the statistics (normaliser, bins) of that. Asked once, before the first update of a process.
    ///
    /// # Errors
    /// If it has no loss that means something without a step, which is the default, or the episodes do not suit it.
    fn hold_out(&mut self, _data: &Dataset) -> Result<()> {
        Err(no_held_out_loss())
    }

    /// Losses of the present networks on the episodes of [`Self::hold_out`], without dropout and without a step, over the same
    /// rows at every call ([`held_out`](crate::held_out)). One of them is [`HELD_OUT_LOSS`](crate::held_out::HELD_OUT_LOSS).
    /// Empty if nothing was held out.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn held_out_losses(&self) -> Result<Vec<(&'static str, f64)>> {
        Ok(Vec::new())
    }

    /// What the critics expect (N) of actions (N, A) at observations (N, O), f32 on the CPU and in the environment's units:
    /// the lowest of the ensemble's Q-values, in the units that rewards have in training. `None` for algorithms without critics.
    ///
    /// # Errors
    /// If shapes do not fit or a tensor operation fails.
    fn action_values(&self, _observations: &Tensor, _actions: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Gives the clock that policies made from now on plan by, where a plan has a budget of time.
    fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        let _ = clock;
    }

    /// Gives the critic of another run that plans are scored with, as its `to_bytes` writes it, to algorithms that plan with one.
    ///
    /// # Errors
    /// If the bytes are no critic, or one of other observations or actions.
    fn set_critic(&mut self, critic: &[u8]) -> Result<()> {
        let _ = critic;
        Ok(())
    }

    /// Makes every update together with other ranks from now on, each on its share of the rows: the batch is as large as before, and the result the same
    /// to rounding.
    ///
    /// # Errors
    /// If it can't, which is the default, or the batch can't be cut into equal shares.
    fn set_ranks(&mut self, ranks: Arc<dyn Ranks>) -> Result<()> {
        let _ = ranks;
        Err(no_ranks())
    }

    /// `Some` if this algorithm can learn online.
    fn interactive(&mut self) -> Option<&mut dyn Interactive> {
        None
    }

    /// What it knows of instructions, if it is configured to follow them.
    fn instructed(&mut self) -> Option<&mut InstructedEpisodes> {
        None
    }

    /// `Some` if this algorithm initialises its transformer from a pretrained language model.
    fn pretrainable(&mut self) -> Option<&mut dyn Pretrainable> {
        None
    }

    /// What one update costs on paper, for benchmarks; `None` where nobody counted.
    fn work(&self) -> Option<Work> {
        None
    }

    /// The rule itself, for reports that look inside of one kind of it; `None` where nothing does.
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        None
    }

    /// Keys for `config.json`, where another library knows the model: its `model_type` and sizes.
    fn description(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::new()
    }
}

/// Said of algorithms whose losses mean nothing, or can't be known, without a step.
pub fn no_held_out_loss() -> Error {
    Error::unsupported(
        Ability::HeldOutLoss,
        "this algorithm has no loss that is known without a step (`bc`, `iql`, `decision_transformer` and `trajectory_transformer` have one): leave \
         `train.held_out_fraction` out",
    )
}

/// Said of algorithms that several ranks can't train together.
pub fn no_ranks() -> Error {
    Error::unsupported(
        Ability::Ranks,
        "several ranks can't train this algorithm together: start it without `mpirun`",
    )
}

/// An algorithm that can go on learning from its own experience.
pub trait Interactive {
    /// Fails if it can't, after all, or not as the phase asks for it.
    ///
    /// # Errors
    /// If the method has no actor that explores, or can't mix batches so.
    fn check(&self, phase: &OnlinePhase) -> Result<()>;

    /// Gets ready to collect and to learn online, if it is not; what was collected is shown by [`Algorithm::state`] from
    /// now on.
    ///
    /// # Errors
    /// If the device fails.
    fn prepare(&mut self, phase: &OnlinePhase) -> Result<()>;

    /// Whether whole episodes are collected, each when all updates were made that those before allow. Else an update follows each step.
    fn collects_episodes(&self) -> bool;

    /// Updates online that what was collected so far allows: as many as there are steps, but where a method counts by episodes.
    fn earned_updates(&self) -> u64;

    /// An action (A), in the environment's units, for an observation (O): from the policy's distribution, or with
    /// normal noise where it has none, of standard deviation `noise` (for a range of ±1) or the method's own. [`Self::learn`] of the
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

    /// Appends the outcome of the last action to the replay buffer; `last` marks the end of the episode.
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

/// What an algorithm knows of the online phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OnlinePhase {
    /// How batches are mixed.
    pub data_share: DataShare,
    /// Updates after those on the data alone, in most methods as many as steps in the environment: schedules may depend on it.
    pub steps: u64,
    /// Noise on actions that is asked for; none: the method's own.
    pub noise: Option<f64>,
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

/// The key `matmul` of sequence models: the type that the factors of a transformer's matrix products are rounded to.
/// Parameters, optimiser and everything else are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matmul {
    /// `"f32"`: factors are not rounded.
    #[default]
    F32,
    /// `"bf16"`: factors are rounded to bf16, for GPUs that have units for it. On the CPU it only costs time.
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

/// What one update costs on paper; [`work`](trajformer_models::work) counts it from networks' sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Floating-point operations of the matrix products that an update can't do without, forward and
    /// backward; a multiplication with its addition counts as two.
    pub product_flops: f64,
    /// Tokens that a sequence model reads; 0 for others.
    pub tokens: usize,
}

impl Work {
    /// Of an update on `rows` transitions or sequences, each of which takes these passes through networks and has so many
    /// tokens.
    pub fn of(passes: &[Passes], rows: usize, tokens: usize) -> Self {
        let per_row: f64 = passes.iter().map(Passes::flops).sum();
        Self {
            product_flops: per_row * rows as f64,
            tokens: rows * tokens,
        }
    }
}

/// What an algorithm is built from.
pub struct Build<'a> {
    /// What it learns from, or the shapes that it acts with once a stored state is loaded.
    pub source: Source<'a>,
    /// Range of the actions.
    pub bounds: &'a ActionBounds,
    /// The files of the FAST tokenizer that the configuration names, where it names one and data is learned from.
    pub fast: Option<&'a FastFiles>,
    /// An encoder of the caller's own in place of the hidden layers of actors, critics and V, if there is one.
    pub encoder: Option<&'a Arc<dyn EncoderFactory>>,
    /// Updates that the run makes on its data alone (`train.updates`): schedules may depend on it.
    pub training_updates: u64,
    /// Where networks and data live.
    pub device: &'a Device,
    /// Stream of the initial values.
    pub rng: &'a mut Rng,
}
