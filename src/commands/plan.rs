//! `trajformer plan`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use trajformer::config::Purpose;
use trajformer::pretrained::Request;
use trajformer::preview::{LoggedStep, Preview};
use trajformer::{Dataset, TrainedRun, checkpoint, data, hub, preview, report, run};

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
    /// Plan from a step of this data set instead of an environment's start state, after the steps before it, and compare with what was
    /// logged. A model of another library takes its statistics and bins from it.
    #[arg(long, value_name = "DATA", conflicts_with = "python")]
    pub data: Option<PathBuf>,
    /// With --data: the row to plan from, counted from 0 over the whole data set. Default: 0.
    #[arg(long, value_name = "N", requires = "data")]
    pub row: Option<usize>,
    /// With --data: the episode to plan in, counted from 0.
    #[arg(long, value_name = "E", requires = "data", conflicts_with = "row")]
    pub episode: Option<usize>,
    /// With --episode: the step to plan from, counted from 0. Default: 0.
    #[arg(long, value_name = "S", requires = "episode")]
    pub step: Option<usize>,
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
    if let Some(picture) = &args.picture {
        report::check_path(picture)?;
        checkpoint::check_output(picture)?;
    }
    let mut overrides = args.overrides.clone();
    overrides.extend(python_key(args.python.as_deref()));
    let folder = hub::local(&args.run)?;
    let preview = match &args.data {
        None => {
            let trained = opened(&folder, &overrides, None)?;
            let mut policy = trained.algorithm.policy()?;
            preview::preview(&mut *policy, &trained.config, args.seed)?
        }
        Some(path) => from_data(args, &folder, &overrides, path)?,
    };
    let (beams, horizon, _) = preview.imagined.observations.dims3()?;
    say!(
        "{beams} beams, {horizon} steps, planned in {:.3} s",
        preview.seconds
    )?;
    if let Some(planning) = &preview.planning {
        say!("{}", planning.lines())?;
    }
    let real = match preview.logged {
        None => "real",
        Some(LoggedStep { episode, step }) => {
            say!("from step {step} of episode {episode} of the data")?;
            "logged"
        }
    };
    say!("step  predicted reward  {real} reward")?;
    let predicted = preview.imagined.rewards.get(0)?.to_vec1::<f32>()?;
    for (step, (predicted, real)) in predicted.iter().zip(preview.rewards_after()).enumerate() {
        say!("{:4}  {predicted:16.4}  {real:11.4}", step + 1)?;
    }
    if let Some(path) = &args.picture {
        preview.draw(path, &format!("A plan of {}", args.run.display()))?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        let mut value = json!({
            "seconds": preview.seconds,
            "beams": beams,
            "horizon": horizon,
            "predicted_rewards": predicted,
            "rewards": preview.rewards_after(),
        });
        if let Some(planning) = &preview.planning {
            value["planning"] = serde_json::to_value(planning)?;
        }
        if let Some(LoggedStep { episode, step }) = preview.logged {
            value["episode"] = episode.into();
            value["step"] = step.into();
        }
        say!("{value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn opened(
    folder: &Path,
    overrides: &[String],
    data: Option<&Dataset>,
) -> anyhow::Result<TrainedRun> {
    let request = Request {
        overrides,
        data,
        purpose: Purpose::Plan,
        ..Request::default()
    };
    Ok(run::open_with(folder, &request)?)
}

fn from_data(
    args: &PlanArgs,
    folder: &Path,
    overrides: &[String],
    path: &Path,
) -> anyhow::Result<Preview> {
    let path = &data::resolved(&[path.to_path_buf()])?.remove(0);
    let (trained, dataset) = if folder.join("config.toml").is_file() {
        let trained = opened(folder, overrides, None)?;
        let read = trained.config.data.load_options();
        (trained, data::load_with(std::slice::from_ref(path), &read)?)
    } else {
        let dataset = data::load_one(path)?;
        (opened(folder, overrides, Some(&dataset))?, dataset)
    };
    let (had, found) = (
        (trained.spec.observation_dim, trained.spec.action_dim),
        (dataset.observation_dim, dataset.action_dim),
    );
    if had != found {
        anyhow::bail!(
            "{}: it has {} observations and {} actions, the run {} and {}: give data that looks like the run's own",
            path.display(),
            found.0,
            found.1,
            had.0,
            had.1
        );
    }
    let place = match args.episode {
        Some(episode) => LoggedStep {
            episode,
            step: args.step.unwrap_or(0),
        },
        None => LoggedStep::of_row(&dataset, args.row.unwrap_or(0))?,
    };
    let mut policy = trained.algorithm.policy()?;
    let config = &trained.config;
    Ok(preview::preview_logged(
        &mut *policy,
        config,
        &dataset,
        place,
        args.seed,
    )?)
}
