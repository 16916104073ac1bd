//! `trajformer evaluate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use trajformer::config::Purpose;
use trajformer::fqe::FqeConfig;
use trajformer::instruct::{self, InstructionScore};
use trajformer::pretrained::Request;
use trajformer::scoring::{self, EvaluateRequest, Scores};
use trajformer::{Error, checkpoint, data, hub, report, run};

use crate::commands::collect;
use crate::output::{complain, say};
use crate::process;

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Run directory, a checkpoint that it keeps (RUN@50000, RUN@best), folder of a model of another library, or hf://ID.
    pub run: PathBuf,
    /// For a model of another library: data that it was trained on, which its statistics and bins come from.
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    /// Environment, or gym:ID for one of Gymnasium; default: the run's `evaluate.env`.
    #[arg(long)]
    pub env: Option<String>,
    /// Python interpreter that runs environments of Gymnasium; default: the run's `evaluate.python`, else that of the active
    /// virtual environment, else python3.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Episodes; default: the run's `evaluate.episodes`.
    #[arg(long)]
    pub episodes: Option<usize>,
    /// Seed of start states and of the policy; default: the run's `evaluate.seed`. With --off-policy that of critics, batches
    /// and resamples; default: 0.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Draw each action from the policy's distribution (Gaussian actors, FAST's tokens), which otherwise takes the mean or the
    /// likeliest, e.g. `evaluate RUN --sample --episodes 50`. Deterministic policies have none.
    #[arg(long, conflicts_with_all = ["instructions", "off_policy"])]
    pub sample: bool,
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
    #[arg(long, value_name = "DATA", conflicts_with_all = ["env", "python", "episodes", "record", "data"])]
    pub off_policy: Option<PathBuf>,
    /// Updates of fitted Q evaluation.
    #[arg(long, default_value_t = FqeConfig::default().updates, requires = "off_policy")]
    pub updates: u64,
    /// Discount of fitted Q evaluation.
    #[arg(long, default_value_t = FqeConfig::default().discount, requires = "off_policy")]
    pub discount: f64,
    /// Change a key of the stored configuration for this evaluation: `evaluate.*`, `device`, and what decides how the
    /// algorithm acts, e.g. planner settings. What training decided is refused, with a list of what can be set.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    if let Some(picture) = &args.picture {
        report::check_path(picture)?;
        checkpoint::check_output(picture)?;
    }
    if let Some(data) = &args.off_policy {
        return off_policy(args, data);
    }
    args.record.as_deref().map(data::check_new).transpose()?;
    let load = |path: &PathBuf| data::load(&data::resolved(std::slice::from_ref(path))?);
    let dataset = args.data.as_ref().map(load).transpose()?;
    let opening = Request {
        overrides: &args.overrides,
        data: dataset.as_ref(),
        env: args.env.as_deref(),
        purpose: Purpose::Evaluate,
    };
    let mut trained = run::open_with(&hub::local(&args.run)?, &opening)?;
    let request = EvaluateRequest {
        env: args.env.clone(),
        python: args.python.clone(),
        episodes: args.episodes,
        seed: args.seed,
        instructions: args.instructions.clone(),
        sample: args.sample,
        record: args.record.is_some(),
    };
    let settings = request.settings(&trained.config.evaluate);
    if settings.env.is_none() {
        anyhow::bail!("the run names no environment: give one with `--env`, e.g. --env hopper-v4");
    }
    if settings.episodes == 0 {
        settings.check()?;
        anyhow::bail!("0 episodes: ask for at least one with `--episodes`");
    }
    let found = scoring::evaluate(&mut trained, &request)?;
    // Neither loses the other: what was found is printed first, and kept even if it can't be printed.
    let json = args.json.then(|| found.json()).transpose()?;
    let printed = match &found.scores {
        Scores::Episodes(evaluation) if found.sampled => {
            say!("{}\n  actions were sampled", evaluation.summary())
        }
        Scores::Episodes(evaluation) => say!("{}", evaluation.summary()),
        Scores::Instructions(scores) => say_instructions(scores, args.picture.as_deref()),
    };
    let printed = printed.and_then(|()| json.map_or(Ok(()), |value| say!("{value}")));
    if let (Some(path), Some(dataset)) = (&args.record, &found.recorded) {
        collect::save(dataset, path)?;
    }
    printed?;
    Ok(ExitCode::SUCCESS)
}

fn say_instructions(scores: &[InstructionScore], picture: Option<&Path>) -> anyhow::Result<()> {
    for score in scores {
        let new = if score.known {
            ""
        } else {
            " (not in the data)"
        };
        let percent = 100.0 * score.success_rate;
        say!(
            "{percent:5.1} % of {} episodes: {}{new}",
            score.evaluation.episodes,
            score.instruction
        )?;
    }
    if let Some(path) = picture {
        instruct::draw(path, scores)?;
        say!("wrote {}", path.display())?;
    }
    Ok(())
}

fn off_policy(args: &EvaluateArgs, path: &Path) -> anyhow::Result<ExitCode> {
    let config = FqeConfig {
        updates: args.updates,
        discount: args.discount,
        seed: args.seed.unwrap_or_default(),
        interrupt: process::catch_interrupts_saying(
            "the estimate so far follows; once more ends at once without",
        ),
        ..FqeConfig::default()
    };
    let folder = hub::local(&args.run)?;
    let found = match run::judge(&folder, &args.overrides, path, &config) {
        Err(error @ Error::NothingYet { .. }) => {
            complain(error);
            return Ok(ExitCode::from(process::INTERRUPTED));
        }
        found => found?,
    };
    say!("{}", found.summary())?;
    if args.json {
        say!("{}", serde_json::to_string(&found)?)?;
    }
    if found.updates < found.planned_updates {
        return Ok(ExitCode::from(process::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}
