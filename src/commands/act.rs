//! `trajformer act`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use trajformer::act::{self, ActOptions, Recorded};
use trajformer::data::formats::npz;
use trajformer::pretrained::Request;
use trajformer::{checkpoint, data, hub, run};

use crate::output::say;
use crate::process;

/// Arguments of `act`.
#[derive(Debug, Args)]
pub struct ActArgs {
    /// Run directory, folder of a model of another library, or hf://ID.
    pub run: PathBuf,
    /// Observations: an .npy file, (N, O) or (B, T, O); an .npz file with `observations` and, for policies that remember,
    /// `actions`, `rewards` and `episode_starts`; or a data set.
    #[arg(long, value_name = "FILE.npz|npy|DATA")]
    pub observations: PathBuf,
    /// File to write: `actions`, float32, in the environment's units; (N, A) or (B, T, A).
    #[arg(long, value_name = "FILE.npz")]
    pub out: PathBuf,
    /// Only the action to take next: at the last observation of each episode, after all steps before it; (episodes, A). A planner
    /// then plans once per episode.
    #[arg(long)]
    pub last: bool,
    /// Seed of policies that draw, planners among them; default: the run's `evaluate.seed`.
    #[arg(long)]
    pub seed: Option<u64>,
    /// For a model of another library: data that it was trained on, which its statistics and bins come from.
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    /// Change a key of the stored configuration that says how it acts: targets, evaluate.goal, device, planner settings.
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
pub fn run(args: &ActArgs) -> anyhow::Result<ExitCode> {
    if args.out.extension().is_none_or(|ending| ending != "npz") {
        let name = args.out.display();
        anyhow::bail!("`--out` {name}: actions are written as NumPy's .npz: end the name in .npz");
    }
    checkpoint::check_output(&args.out)?;
    let place = |path: &PathBuf| path.canonicalize().ok();
    if place(&args.out).is_some() && place(&args.out) == place(&args.observations) {
        anyhow::bail!(
            "`--out` is the file of `--observations`, which would be lost: name another file"
        );
    }
    let dataset = args.data.as_deref().map(data::load_one).transpose()?;
    let request = Request {
        overrides: &args.overrides,
        data: dataset.as_ref(),
        ..Request::default()
    };
    let mut trained = run::open_with(&hub::local(&args.run)?, &request)?;
    let read = trained.config.data.load_options();
    let recorded = Recorded::read(&args.observations, &read)?;
    let options = ActOptions {
        last: args.last,
        seed: args.seed,
        interrupt: process::catch_interrupts_saying("no actions are written"),
    };
    let acted = match act::act(&mut trained, &recorded, &options) {
        Err(trajformer::Error::Interrupted) => {
            say!("interrupted: {} was not written", args.out.display())?;
            return Ok(ExitCode::from(process::INTERRUPTED));
        }
        acted => acted?,
    };
    npz::write_array(&args.out, "actions", &acted.shape, &acted.actions)?;
    let rows = recorded.rows();
    let how = match acted.episodes {
        _ if args.last && recorded.episodes.len() == 1 => {
            format!("the last of {rows} steps of one episode")
        }
        _ if args.last => {
            let episodes = recorded.episodes.len();
            format!("the last step of each of {episodes} episodes ({rows} steps)")
        }
        None => format!("{rows} rows, each by itself"),
        Some(1) => format!("{rows} steps of one episode"),
        Some(episodes) => format!("{rows} steps of {episodes} episodes"),
    };
    say!("{how}: {:?} actions in {:.1} s", acted.shape, acted.seconds)?;
    say!("wrote {}", args.out.display())?;
    if args.json {
        let value = json!({
            "actions": args.out.display().to_string(),
            "shape": acted.shape,
            "rows": rows,
            "episodes": acted.episodes,
            "algorithm": trained.config.algorithm.name(),
            "seconds": acted.seconds,
        });
        say!("{value}")?;
    }
    Ok(ExitCode::SUCCESS)
}
