//! The command line: names, help and examples of every command; nothing is done here.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::data::tokenizers::TokenizerKind;
use crate::data::{ColumnChoice, LoadOptions, formats};
use crate::planning::Window;

/// Offline reinforcement learning: logged experience in, policies, plans and scores out.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
#[command(after_help = "Examples:\n  \
    trajformer demo\n  \
    trajformer train configs/td3_bc/short/hopper-medium.toml --set data.path=hopper-medium.hdf5\n  \
    trajformer train --help")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads; default: RAYON_NUM_THREADS, else one per core. Results don't depend on it.
    #[arg(long, global = true, value_parser = threads)]
    pub threads: Option<NonZeroUsize>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Collect maze data, train a small Trajectory Transformer, plan with it, draw what happened.
    #[command(after_help = "Example:\n  trajformer demo --out runs/demo")]
    Demo(DemoArgs),
    /// Train one algorithm on logged experience.
    #[command(after_help = "Examples:\n  \
        trajformer train configs/td3_bc/short/hopper-medium.toml --set data.path=hopper-medium.hdf5\n  \
        trajformer train configs/bc/short/hopper-medium.toml --seeds 0..5\n  \
        trajformer train --resume runs/td3_bc-hopper-medium-short --set train.updates=200000\n\
        A build without the feature `mujoco` can train, but not score in MuJoCo:\n  \
        trajformer train configs/bc/short/hopper-medium.toml --set evaluate.episodes=0")]
    Train(TrainArgs),
    /// Score a trained run in an environment.
    #[command(after_help = "Examples:\n  \
        trajformer evaluate runs/td3_bc-hopper-medium-short --env hopper-v4 --episodes 20\n  \
        trajformer evaluate runs/td3_bc-hopper-medium-short --record rollouts.hdf5\n  \
        trajformer evaluate hf://edbeeching/decision-transformer-gym-hopper-medium --env hopper-v4\n  \
        trajformer evaluate hf://CarlCochet/trajectory-transformer-hopper-medium-v2 --env hopper-v4 --data \
        hopper-medium.hdf5\n  \
        trajformer evaluate runs/td3_bc-hopper-medium-short --off-policy hopper-medium.hdf5\n  \
        trajformer evaluate runs/trajectory_transformer-pointmaze-umaze-goal --set \
        'evaluate.goal=[3.5, 1.5, 0, 0]'\n  \
        trajformer evaluate runs/decision_transformer-pointmaze-rooms --instruction 'go to the upper left room' \
        --picture rooms.svg")]
    Evaluate(EvaluateArgs),
    /// Put runs side by side: a table, and their learning curves.
    #[command(after_help = "Examples:\n  \
        trajformer compare runs/bc-hopper-medium-short runs/td3_bc-hopper-medium-short --picture curves.svg\n  \
        trajformer compare runs/sac-hopper-medium-short runs/cql-hopper-medium-short --metric q_policy_mean --picture q.svg")]
    Compare(CompareArgs),
    /// Measure this build on this machine.
    #[command(
        subcommand,
        after_help = "Example:\n  trajformer bench update --algorithm td3_bc --threads 2"
    )]
    Bench(BenchCommand),
    /// Make one plan from a start state and compare it with what then happens.
    #[command(after_help = "Example:\n  \
        trajformer plan runs/trajectory_transformer-hopper-medium-short --picture plan.svg")]
    Plan(PlanArgs),
    /// Look at, convert and collect data.
    #[command(
        subcommand,
        after_help = "Example:\n  trajformer data info hopper-medium.hdf5"
    )]
    Data(DataCommand),
    /// Write a policy as an ONNX file, for other runtimes.
    #[command(after_help = "Examples:\n  \
        trajformer export runs/td3_bc-hopper-medium-short actor.onnx\n  \
        trajformer export hf://edbeeching/decision-transformer-gym-hopper-medium --format onnx dt.onnx\n\
        Observations and actions are in the environment's units: normaliser and bounds are inside.")]
    Export(ExportArgs),
    /// Fetch models from the Hugging Face Hub, and publish runs there.
    #[command(
        subcommand,
        after_help = "Example:\n  trajformer hub pull edbeeching/decision-transformer-gym-hopper-medium"
    )]
    Hub(HubCommand),
    /// Show configurations.
    #[command(
        subcommand,
        after_help = "Example:\n  trajformer config show configs/bc/short/hopper-medium.toml --differences"
    )]
    Config(ConfigCommand),
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for runs and pictures.
    #[arg(long, default_value = "runs/demo")]
    pub out: PathBuf,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Configuration file, e.g. configs/td3_bc/hopper-medium.toml, which is what the authors ran, or the one of minutes in
    /// configs/td3_bc/short.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub config: Option<PathBuf>,
    /// Run directory to continue, bit for bit.
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Change a key: a TOML value, or a bare word as a string. With --resume only how long the run is (train.updates,
    /// online.steps) and its rates fall (decay_updates, actor_decay_updates), and where it goes on (data.path, device).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Train several seeds, A up to but not including B, and report the aggregate.
    #[arg(long, value_name = "A..B", conflicts_with = "resume")]
    pub seeds: Option<String>,
    /// Run directory to make; with --seeds the folder that holds one per seed. Default: runs/ALGORITHM-NAME, by the
    /// configuration file's folder and name.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// cpu, cuda, cuda:N or metal; default: the configuration's `device`.
    #[arg(long)]
    pub device: Option<String>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Run directory, folder of a model of another library, or hf://ID.
    pub run: PathBuf,
    /// For a model of another library: data that it was trained on, which its statistics and bins come from.
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    /// Environment; default: the run's `evaluate.env`.
    #[arg(long)]
    pub env: Option<String>,
    /// Episodes; default: the run's `evaluate.episodes`.
    #[arg(long)]
    pub episodes: Option<usize>,
    /// Seed of start states and of the policy; default: the run's `evaluate.seed`. With --off-policy that of critics, batches
    /// and resamples; default: 0.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Keep the roll-outs as a data set; of a policy that aims at several returns those of the first.
    #[arg(long, value_name = "FILE.hdf5")]
    pub record: Option<PathBuf>,
    /// Tell the policy what to do, in words, and count how many episodes succeed; several are scored one after
    /// the other.
    #[arg(long = "instruction", value_name = "TEXT", conflicts_with_all = ["record", "off_policy"])]
    pub instructions: Vec<String>,
    /// Draw a path for each instruction in one maze.
    #[arg(long, value_name = "FILE.svg|png", requires = "instructions")]
    pub picture: Option<PathBuf>,
    /// Judge the run by this data instead of an environment: fitted Q evaluation, with an interval
    /// from resampled episodes.
    #[arg(long, value_name = "DATA", conflicts_with_all = ["env", "episodes", "record", "data"])]
    pub off_policy: Option<PathBuf>,
    /// Updates of fitted Q evaluation.
    #[arg(long, default_value_t = 10_000, requires = "off_policy")]
    pub updates: u64,
    /// Discount of fitted Q evaluation.
    #[arg(long, default_value_t = 0.99, requires = "off_policy")]
    pub discount: f64,
    /// Change a key of the stored configuration for this evaluation: `evaluate.*`, `device`, and what decides how the
    /// algorithm acts, e.g. planner settings. What training decided is refused, with a list of what can be set.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run directories, folders that hold one per seed, or hf://ID of published runs.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Draw scores over training time, or the metric over updates.
    #[arg(long, value_name = "FILE.svg|png")]
    pub picture: Option<PathBuf>,
    /// Instead of scores: a column of metrics.csv, e.g. q_policy_mean.
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// Title of the picture.
    #[arg(long, default_value = "Learning curves", requires = "picture")]
    pub title: String,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Run directory, folder of a model of another library, or hf://ID; of an algorithm that plans.
    pub run: PathBuf,
    /// Seed of the start state and of the sampled plans.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Draw what the model predicts beside what happens.
    #[arg(long, value_name = "FILE.svg|png")]
    pub picture: Option<PathBuf>,
    /// Change a key of the stored configuration for this plan: evaluate.env, evaluate.goal, device, planner settings.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// The `bench` commands.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Time an algorithm's updates on made-up data.
    #[command(after_help = "Examples:\n  \
        trajformer bench update --algorithm td3_bc\n  \
        trajformer bench update --algorithm decision_transformer --set dropout=0 --json")]
    Update(BenchUpdateArgs),
    /// Time updates of an ensemble of Q-functions alone.
    #[command(after_help = "Example:\n  \
        trajformer bench critics --members 10 --hidden 256,256,256 --batch 256")]
    Critics(BenchCriticsArgs),
    /// Time the Trajectory Transformer's planner, which runs on the CPU: one episode, full context.
    #[command(after_help = "Example:\n  \
        trajformer bench plan --observations 17 --actions 6 --beam 32 --horizon 5")]
    Plan(BenchPlanArgs),
    /// Time random steps of an environment.
    #[command(after_help = "Example:\n  trajformer bench envs --env halfcheetah-v4")]
    Envs(BenchEnvsArgs),
}

impl BenchCommand {
    /// What every one of them takes.
    pub fn common(&self) -> &BenchArgs {
        match self {
            Self::Update(args) => &args.common,
            Self::Critics(args) => &args.common,
            Self::Plan(args) => &args.common,
            Self::Envs(args) => &args.common,
        }
    }
}

/// Arguments of every `bench` command.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Measure for at least so long.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench update`. The sizes are those of halfcheetah.
#[derive(Debug, Args)]
pub struct BenchUpdateArgs {
    /// Algorithm, e.g. td3_bc.
    #[arg(long)]
    pub algorithm: String,
    /// Size of the batch; default: the algorithm's.
    #[arg(long, value_parser = count)]
    pub batch: Option<usize>,
    /// Numbers in an observation.
    #[arg(long, default_value_t = 17, value_parser = count)]
    pub observations: usize,
    /// Numbers in an action.
    #[arg(long, default_value_t = 6, value_parser = count)]
    pub actions: usize,
    /// Change a key of the algorithm's table, e.g. dropout=0.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// cpu, cuda, cuda:N or metal.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// For every measurement.
    #[command(flatten)]
    pub common: BenchArgs,
}

/// Arguments of `bench critics`.
#[derive(Debug, Args)]
pub struct BenchCriticsArgs {
    /// Q-functions.
    #[arg(long, default_value_t = 10, value_parser = count)]
    pub members: usize,
    /// Widths of the hidden layers.
    #[arg(long, value_delimiter = ',', default_value = "256,256,256", value_parser = count)]
    pub hidden: Vec<usize>,
    /// Size of the batch.
    #[arg(long, default_value_t = 256, value_parser = count)]
    pub batch: usize,
    /// Numbers in an observation.
    #[arg(long, default_value_t = 17, value_parser = count)]
    pub observations: usize,
    /// Numbers in an action.
    #[arg(long, default_value_t = 6, value_parser = count)]
    pub actions: usize,
    /// cpu, cuda, cuda:N or metal.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// For every measurement.
    #[command(flatten)]
    pub common: BenchArgs,
}

/// Arguments of `bench plan`. The model has the authors' size; expand 2, k_obs 1, k_rew 1, cdf_act
/// 0.6.
#[derive(Debug, Args)]
pub struct BenchPlanArgs {
    /// Numbers in an observation.
    #[arg(long, default_value_t = 17, value_parser = count)]
    pub observations: usize,
    /// Numbers in an action.
    #[arg(long, default_value_t = 6, value_parser = count)]
    pub actions: usize,
    /// Sequences that stay after each imagined transition.
    #[arg(long, default_value_t = 32, value_parser = count)]
    pub beam: usize,
    /// Transitions to imagine.
    #[arg(long, default_value_t = 5, value_parser = count)]
    pub horizon: usize,
    /// What the network sees of a long sequence.
    #[arg(long, value_enum, default_value = "crop")]
    pub window: WindowArg,
    /// For every measurement.
    #[command(flatten)]
    pub common: BenchArgs,
}

/// `--window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WindowArg {
    /// The last five transitions, as the authors' planner.
    Crop,
    /// Everything; nothing is computed twice.
    Grow,
}

impl From<WindowArg> for Window {
    fn from(window: WindowArg) -> Self {
        match window {
            WindowArg::Crop => Self::Crop,
            WindowArg::Grow => Self::Grow,
        }
    }
}

/// Arguments of `bench envs`.
#[derive(Debug, Args)]
pub struct BenchEnvsArgs {
    /// Environment, e.g. halfcheetah-v4.
    #[arg(long)]
    pub env: String,
    /// Copies that are stepped side by side.
    #[arg(long, default_value_t = 16, value_parser = count)]
    pub copies: usize,
    /// For every measurement.
    #[command(flatten)]
    pub common: BenchArgs,
}

/// The `data` commands.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Episodes, returns, dimensions, ends and warnings of a data set.
    #[command(after_help = "Example:\n  trajformer data info hopper-medium.hdf5")]
    Info {
        /// File or folder; several are joined.
        #[arg(required = true)]
        path: Vec<PathBuf>,
        /// How it is read.
        #[command(flatten)]
        read: ReadArgs,
        /// Print one JSON object, last on standard output.
        #[arg(long)]
        json: bool,
    },
    /// What a tokenizer makes of a data set: values used, round-trip errors, tokens per step.
    #[command(after_help = "Examples:\n  \
        trajformer data tokens hopper-medium.hdf5 --bins 100 --picture bins.svg\n  \
        trajformer data tokens hopper-medium.hdf5 --tokenizer fast --chunk 8 --save my-fast\n  \
        trajformer data tokens hopper-medium.hdf5 --tokenizer fast --load my-fast")]
    Tokens(TokensArgs),
    /// Write a data set in another format.
    #[command(about = format!("Write a data set in another format: {}", formats::written()), after_help = "Example:\n  trajformer data convert mine.npz mine-v0")]
    Convert {
        /// File or folder to read.
        input: PathBuf,
        /// File or folder to write.
        output: PathBuf,
        /// How it is read.
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Collect experience in an environment.
    #[command(after_help = "Examples:\n  \
        trajformer data collect --env pointmaze-umaze --policy waypoint --steps 20000 maze.hdf5\n  \
        trajformer data collect --env hopper-v4 --policy sac.npz --activation relu --output tanh \
        --sample --steps 100000 mine.hdf5\n  \
        trajformer data collect --env hopper-v4 --policy runs/td3_bc-hopper-medium-short --noise 0,0.1,0.3 --steps 100000 \
        mine.hdf5")]
    Collect(CollectArgs),
}

/// How data files are read: the keys of the same names in a configuration's table `[data]`.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// In files without time-outs, episodes that did not terminate end after so many steps; default: D4RL's limit, by the
    /// environment's or file's name, else 1000 in D4RL's layout.
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_episode_steps: Option<usize>,
    /// Where observations are dictionaries: the keys whose vectors are put side by side, with commas between.
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub observation_keys: Vec<String>,
    /// Columns of observations to keep, e.g. 0..27.
    #[arg(long, value_name = "COLUMNS")]
    pub observation_columns: Option<ColumnChoice>,
}

impl ReadArgs {
    /// The same for the readers.
    pub fn options(&self) -> LoadOptions {
        LoadOptions {
            max_episode_steps: self.max_episode_steps,
            observation_keys: self.observation_keys.clone(),
            observation_columns: self.observation_columns.clone(),
        }
    }
}

/// Arguments of `data tokens`.
#[derive(Debug, Args)]
pub struct TokensArgs {
    /// File or folder; several are joined.
    #[arg(required = true)]
    pub path: Vec<PathBuf>,
    /// How it is read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Bins per dimension of observations, actions and rewards (`quantile`, `uniform`), or tokens of actions: the nearest
    /// of many centres (`kmeans`), or cosine transform and merges (`fast`).
    #[arg(long, value_enum, default_value = "quantile")]
    pub tokenizer: TokenizerArg,
    /// Bins, centres, or FAST's vocabulary; default: 100, 64 or 1024.
    #[arg(long, value_name = "N", value_parser = count)]
    pub bins: Option<usize>,
    /// FAST: actions in a chunk; default: 8.
    #[arg(long, value_name = "STEPS", value_parser = count)]
    pub chunk: Option<usize>,
    /// FAST: factor of coefficients before they are rounded; default: 10.
    #[arg(long, value_parser = positive)]
    pub scale: Option<f64>,
    /// FAST: use the merges of this folder, or of hf://physical-intelligence/fast, instead of learning own ones.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["bins", "scale"])]
    pub load: Option<PathBuf>,
    /// FAST: write such a folder.
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Seed of what k-means draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Draw bins over the data, or what comes back from tokens over an episode.
    #[arg(long, value_name = "FILE.svg|png")]
    pub picture: Option<PathBuf>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// `--tokenizer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenizerArg {
    /// Bins that hold equally many steps.
    Quantile,
    /// Bins of equal width.
    Uniform,
    /// The nearest of many centres.
    Kmeans,
    /// Cosine transform and byte-pair merges of chunks.
    Fast,
}

impl From<TokenizerArg> for TokenizerKind {
    fn from(tokenizer: TokenizerArg) -> Self {
        match tokenizer {
            TokenizerArg::Quantile => Self::Quantile,
            TokenizerArg::Uniform => Self::Uniform,
            TokenizerArg::Kmeans => Self::KMeans,
            TokenizerArg::Fast => Self::Fast,
        }
    }
}

/// Arguments of `data collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// Environment.
    #[arg(long)]
    pub env: String,
    /// `random`, `zero`, in point mazes `waypoint` (to random places), `waypoint-once` (to one per episode) or `waypoint-goal` (to the maze's goal), an .npz file with a network's weights, a run directory, or hf://ID.
    #[arg(long)]
    pub policy: String,
    /// Standard deviation of noise on the actions, as a share of half their range; of several levels each
    /// episode takes the next.
    #[arg(long, value_delimiter = ',', value_name = "LEVEL,...")]
    pub noise: Vec<f64>,
    /// Draw the actions of an .npz policy from its distribution instead of taking its mean, or add noise to those of a
    /// waypoint policy. Runs have none: give --noise.
    #[arg(long)]
    pub sample: bool,
    /// Activation of an .npz policy's hidden layers, where no manifest.json beside it says it.
    #[arg(long, value_parser = ["relu", "tanh"])]
    pub activation: Option<String>,
    /// Output of an .npz policy, where no manifest.json beside it says it.
    #[arg(long, value_parser = ["tanh", "identity"])]
    pub output: Option<String>,
    /// Steps to collect.
    #[arg(long)]
    pub steps: usize,
    /// Seed of start states and of the policy.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// File or folder to write.
    pub out: PathBuf,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Run directory, folder of a model of another library, or hf://ID.
    pub run: PathBuf,
    /// Format of the file.
    #[arg(long, default_value = "onnx", value_parser = ["onnx"])]
    pub format: String,
    /// Change a key of the stored configuration that counts in the file, e.g. a Decision Transformer's `context_steps`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// File to write.
    #[arg(value_name = "FILE.onnx")]
    pub out: PathBuf,
}

/// The `hub` commands.
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Bring the cached copy of a model up to date, and print its folder.
    #[command(after_help = "Examples:\n  \
        trajformer hub pull edbeeching/decision-transformer-gym-hopper-medium\n  \
        trajformer hub pull openai-community/gpt2 --revision main\n\
        HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN mean what they do elsewhere.")]
    Pull {
        /// OWNER/NAME, with or without hf:// in front.
        id: String,
        /// Branch, tag or commit; default: main.
        #[arg(long)]
        revision: Option<String>,
        /// Print one JSON object, last on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Publish a run: configuration, networks, scores, and a model card.
    #[command(after_help = "Examples:\n  \
        trajformer hub push runs/decision_transformer-hopper-medium-short me/dt-hopper-medium --dry-run\n  \
        trajformer hub push runs/decision_transformer-hopper-medium-short me/dt-hopper-medium --private\n\
        A README.md in the run directory takes the place of the generated card. HF_TOKEN needs write permission.")]
    Push {
        /// Run directory.
        run: PathBuf,
        /// OWNER/NAME of the repository; it is made if it is not there.
        id: String,
        /// Branch; it is made if it is not there. Default: main.
        #[arg(long)]
        revision: Option<String>,
        /// A new repository is private.
        #[arg(long)]
        private: bool,
        /// Say what would be published, card included, and publish nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON object, last on standard output.
        #[arg(long)]
        json: bool,
    },
}

/// The `config` commands.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration with every default filled in.
    #[command(after_help = "Examples:\n  \
        trajformer config show configs/bc/hopper-medium.toml\n  \
        trajformer config show configs/bc/hopper-medium.toml --set train.updates=5000\n  \
        trajformer config show configs/bc/short/hopper-medium.toml --differences")]
    Show {
        /// Configuration file.
        config: PathBuf,
        /// Change a key: a TOML value, or a bare word as a string.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
        /// Print what differs from the file that it extends (of the authors' settings, for those in `short/`) and from the
        /// defaults, with the file that says so.
        #[arg(long)]
        differences: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// A number of threads: more than any processor has would only exhaust the system.
fn threads(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(threads) if threads.get() <= 1024 => Ok(threads),
        _ => Err("expected 1 to 1024".to_owned()),
    }
}

/// A size of a measurement.
fn count(text: &str) -> Result<usize, String> {
    const MOST: usize = 1 << 17;
    match text.parse::<usize>() {
        Ok(count) if (1..=MOST).contains(&count) => Ok(count),
        _ => Err(format!("expected 1 to {MOST}")),
    }
}

/// How long a measurement takes.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("expected a positive number of seconds, a day at most".to_owned()),
    }
}

/// A positive number.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a positive number".to_owned()),
    }
}
