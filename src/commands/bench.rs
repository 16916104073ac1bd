//! `trajformer bench`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use trajformer::bench;
use trajformer::envs::GymOptions;
use trajformer::planning::Window;

use crate::cli::count;
use crate::output::say;

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
    /// Time a planner, which runs on the CPU: one episode; of the Trajectory Transformer with full context.
    #[command(after_help = "Examples:\n  \
        trajformer bench plan --observations 17 --actions 6 --beam 32 --horizon 5\n  \
        trajformer bench plan --algorithm tap --set embedding_per_head=32 --json\n  \
        trajformer bench plan --budget-ms 10 --decisions 10000 --json")]
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

/// Arguments of `bench plan`. The model has the authors' size; the Trajectory Transformer's: expand 2, k_obs 1, k_rew 1,
/// cdf_act 0.6.
#[derive(Debug, Args)]
pub struct BenchPlanArgs {
    /// trajectory_transformer or tap.
    #[arg(long, default_value = "trajectory_transformer")]
    pub algorithm: String,
    /// Numbers in an observation.
    #[arg(long, default_value_t = 17, value_parser = count)]
    pub observations: usize,
    /// Numbers in an action.
    #[arg(long, default_value_t = 6, value_parser = count)]
    pub actions: usize,
    /// Sequences that stay after each imagined transition or code; default: 32, of tap 64.
    #[arg(long, value_parser = count)]
    pub beam: Option<usize>,
    /// Transitions to imagine; default: 5, of tap 15.
    #[arg(long, value_parser = count)]
    pub horizon: Option<usize>,
    /// What the network sees of a long sequence; nothing to tap.
    #[arg(long, value_enum, default_value = "crop")]
    pub window: WindowArg,
    /// Change a key of the algorithm's table, e.g. layers=2.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Milliseconds that a plan may take: says how many plans took longer, e.g. --budget-ms 10.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub budget_ms: Option<f64>,
    /// With --budget-ms: make at least so many plans, one after the other in one episode.
    #[arg(long, value_name = "N", requires = "budget_ms", value_parser = count)]
    pub decisions: Option<usize>,
    /// For every measurement.
    #[command(flatten)]
    pub common: BenchArgs,
}

/// `--window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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
    /// Environment, e.g. halfcheetah-v4, or gym:ID.
    #[arg(long)]
    pub env: String,
    /// Python interpreter that runs environments of Gymnasium.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Copies that are stepped side by side.
    #[arg(long, default_value_t = 16, value_parser = count)]
    pub copies: usize,
    /// For every measurement.
    #[command(flatten)]
    pub common: BenchArgs,
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(command: &BenchCommand) -> anyhow::Result<ExitCode> {
    let common = command.common();
    let seconds = common.seconds;
    let report = match command {
        BenchCommand::Update(args) => bench::update(&bench::UpdateOptions {
            algorithm: args.algorithm.clone(),
            batch: args.batch,
            observations: args.observations,
            actions: args.actions,
            overrides: args.overrides.clone(),
            device: args.device.clone(),
            seconds,
        })?,
        BenchCommand::Critics(args) => bench::critics(&bench::CriticsOptions {
            members: args.members,
            hidden: args.hidden.clone(),
            batch: args.batch,
            observations: args.observations,
            actions: args.actions,
            device: args.device.clone(),
            seconds,
        })?,
        BenchCommand::Plan(args) => bench::plan(&bench::PlanOptions {
            algorithm: args.algorithm.clone(),
            observations: args.observations,
            actions: args.actions,
            beam: args.beam,
            horizon: args.horizon,
            window: args.window.into(),
            overrides: args.overrides.clone(),
            budget_ms: args.budget_ms,
            decisions: args.decisions.unwrap_or(0),
            seconds,
        })?,
        BenchCommand::Envs(args) => bench::steps(&bench::EnvOptions {
            env: args.env.clone(),
            gym: GymOptions::new(args.python.as_deref(), &[]),
            copies: args.copies,
            seconds,
        })?,
    };
    say!("{report}")?;
    if common.json {
        say!("{}", serde_json::to_string(&report)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a plan may take.
fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(found) if found > 0.0 && found <= 1e6 => Ok(found),
        _ => Err("expected a positive number of milliseconds, 1,000,000 at most".to_owned()),
    }
}

/// How long a measurement takes.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("expected a positive number of seconds, a day at most".to_owned()),
    }
}
