//! `trajformer diagnose`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use trajformer::config::Purpose;
use trajformer::diagnose::{self, DiagnoseOptions, Other, Worth};
use trajformer::pretrained::Request;
use trajformer::{TrainedRun, data, hub, report, run};

use crate::cli::count;
use crate::commands::python_key;
use crate::output::{say, whole};
use crate::process;

/// Arguments of `diagnose`.
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// Run directory, a checkpoint that it keeps (RUN@best), folder of a model of another library, or hf://ID; of a sequence model:
    /// trajectory_transformer, decision_transformer, online_dt, qt, reinformer, lamo, fast, tap.
    pub run: PathBuf,
    /// Environment; default: the run's `evaluate.env`, e.g. --env hopper-v4.
    #[arg(long)]
    pub env: Option<String>,
    /// Further data to hold it against, best episodes that it has not learned from, e.g. --data held-out.hdf5. What it learned
    /// from is found by its `data.path`. A model of another library takes its statistics and bins from it.
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    /// Also score another run as it is and with its actions rounded to this run's bins, e.g. --through runs/td3_bc-hopper-medium:
    /// what bins cost any policy.
    #[arg(long, value_name = "RUN")]
    pub through: Option<PathBuf>,
    /// Episodes of everything that acts, from the same starts.
    #[arg(long, value_name = "N", default_value_t = DiagnoseOptions::default().episodes, value_parser = count)]
    pub episodes: usize,
    /// Plans of each search, over all episodes: episodes are cut where they would need more.
    #[arg(long, value_name = "N", default_value_t = DiagnoseOptions::default().decisions, value_parser = count)]
    pub decisions: usize,
    /// What the ends of the search in the simulator are worth: what the model says, or nothing, which leaves the true rewards of
    /// the horizon.
    #[arg(long, value_name = "WORTH", default_value = "model")]
    pub ends: Ends,
    /// Seed of starts and policies; default: the run's `evaluate.seed`.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Draw returns, errors of what is imagined, promises and tokens.
    #[arg(long, value_name = "FILE.svg|png")]
    pub picture: Option<PathBuf>,
    /// Python interpreter that runs environments of Gymnasium, which can't be saved and restored: their parts are left out.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Change a key of the stored configuration for this diagnosis: evaluate.goal, device, planner settings.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Print one JSON object with all numbers, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// What ends of a search in the simulator are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ends {
    /// The model's value token.
    Model,
    /// Nothing.
    Nothing,
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &DiagnoseArgs) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.picture {
        report::check_path(path)?;
    }
    let mut overrides = args.overrides.clone();
    overrides.extend(python_key(args.python.as_deref()));
    let folder = hub::local(&args.run)?;
    // A folder without a configuration is a model of another library; what is no folder is a checkpoint that a run keeps.
    let is_own = !folder.is_dir() || folder.join("config.toml").is_file();
    let fitted = match &args.data {
        Some(path) if !is_own => Some(data::load_one(path)?),
        _ => None,
    };
    let open = |request: &Request<'_>| run::open_with(&folder, request);
    let mut trained = open(&Request {
        overrides: &overrides,
        data: fitted.as_ref(),
        env: args.env.as_deref(),
        purpose: Purpose::Evaluate,
    })?;
    if let Some(env) = &args.env {
        trained.config.evaluate.env = Some(env.clone());
    }
    diagnose::check(&trained)?;
    let logged = diagnose::logged(&trained, args.data.as_deref())?;
    let other = args.through.as_ref().map(|path| -> anyhow::Result<Other> {
        Ok(Other {
            name: path.display().to_string(),
            run: run::open(&hub::local(path)?, &[])?,
        })
    });
    let other = other.transpose()?;
    let options = DiagnoseOptions {
        episodes: args.episodes,
        decisions: args.decisions,
        seed: args.seed,
        worth: match args.ends {
            Ends::Model => Worth::Model,
            Ends::Nothing => Worth::Nothing,
        },
        interrupt: process::catch_interrupts_saying(
            "what is finished follows; once more ends at once without",
        ),
    };
    say_budget(&trained, &options)?;
    let found = diagnose::diagnose(&mut trained, &logged, other.as_ref(), &options)?;
    let json = args
        .json
        .then(|| serde_json::to_string(&found))
        .transpose()?;
    whole(diagnose::page(&found))?;
    if let Some(path) = &args.picture {
        let title = format!("Where the score of {} goes", args.run.display());
        diagnose::draw(path, &found, &title)?;
        say!("wrote {}", path.display())?;
    }
    if let Some(json) = json {
        say!("{json}")?;
    }
    if found.interrupted {
        return Ok(ExitCode::from(process::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

fn say_budget(trained: &TrainedRun, options: &DiagnoseOptions) -> anyhow::Result<()> {
    let steps = diagnose::steps_of(trained, options)?;
    let name = trained.config.algorithm.name();
    say!("{}\n", diagnose::budget(options, name, steps))
}
