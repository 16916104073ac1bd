//! `trajformer plan`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use trajformer::config::Purpose;
use trajformer::pretrained::Request;
use trajformer::{hub, preview, report, run};

use crate::commands::python_key;
use crate::output::say;

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
    /// Python interpreter that runs environments of Gymnasium; default: the run's `evaluate.python`, else that of the active
    /// virtual environment, else python3.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Change a key of the stored configuration for this plan: evaluate.env, evaluate.goal, device, planner settings.
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
pub fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    if args.picture.is_some() {
        report::check_built()?;
    }
    let mut overrides = args.overrides.clone();
    overrides.extend(python_key(args.python.as_deref()));
    let request = Request {
        overrides: &overrides,
        purpose: Purpose::Plan,
        ..Request::default()
    };
    let trained = run::open_with(&hub::local(&args.run)?, &request)?;
    let mut policy = trained.algorithm.policy()?;
    let preview = preview::preview(&mut *policy, &trained.config, args.seed)?;
    let (beams, horizon, _) = preview.imagined.observations.dims3()?;
    say!(
        "{beams} beams, {horizon} steps, planned in {:.3} s",
        preview.seconds
    )?;
    say!("step  predicted reward  real reward")?;
    let predicted = preview.imagined.rewards.get(0)?.to_vec1::<f32>()?;
    for (step, (predicted, real)) in predicted.iter().zip(&preview.rewards).enumerate() {
        say!("{:4}  {predicted:16.4}  {real:11.4}", step + 1)?;
    }
    if let Some(path) = &args.picture {
        preview.draw(path, &format!("A plan of {}", args.run.display()))?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        let value = json!({
            "seconds": preview.seconds,
            "beams": beams,
            "horizon": horizon,
            "predicted_rewards": predicted,
            "rewards": preview.rewards,
        });
        say!("{value}")?;
    }
    Ok(ExitCode::SUCCESS)
}
