//! `trajformer compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use trajformer::{compare, hub};

use crate::output::say;

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

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.metric {
        return compare_metric(args, name);
    }
    let lines = compare::compare(&local_runs(args)?)?;
    say!("updates  seconds  last                          best     run")?;
    for line in &lines {
        // Each line says what its numbers are: a run without reference returns has no scores.
        let what = if line.normalized { "score" } else { "return" };
        let last = format!("{what} {:.1} ± {:.1}", line.last, line.last_std);
        let (update, seconds, best) = (line.update, line.seconds, line.best);
        say!(
            "{update:7}  {seconds:7.0}  {last:<28}  {best:<7.1}  {}",
            line.run.display()
        )?;
    }
    if let Some(path) = &args.picture {
        compare::draw(path, &args.title, &lines)?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        say!("{}", json!({ "runs": lines }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn local_runs(args: &CompareArgs) -> anyhow::Result<Vec<PathBuf>> {
    let folders = args.runs.iter().map(|run| hub::local(run));
    Ok(folders.collect::<trajformer::Result<_>>()?)
}

fn compare_metric(args: &CompareArgs, name: &str) -> anyhow::Result<ExitCode> {
    let lines = compare::metric::metric(&local_runs(args)?, name)?;
    say!("updates  {name:<14}  largest         data's return   run")?;
    for line in &lines {
        let data = line.return_to_go.map(|value| format!("{value:.4}"));
        say!(
            "{:7}  {:<14.4}  {:<14.4}  {:<14}  {}",
            line.update,
            line.last,
            line.largest,
            data.unwrap_or_else(|| "-".to_owned()),
            line.run.display()
        )?;
    }
    if let Some(path) = &args.picture {
        compare::metric::draw(path, &args.title, name, &lines)?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        say!("{}", json!({ "metric": name, "runs": lines }))?;
    }
    Ok(ExitCode::SUCCESS)
}
