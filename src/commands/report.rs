//! `trajformer report`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use trajformer::hub;
use trajformer::run_report::{self, ReportOptions};

use crate::output::say;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run directories, folders that hold one per seed, or hf://ID of published runs.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// The page to write; one that is there is replaced.
    #[arg(long, value_name = "FILE.html", default_value = "report.html")]
    pub out: PathBuf,
    /// Episodes to record of the first seed of each run, as `evaluate` makes them; 0: none. Default: 2 where this build has
    /// the run's environment.
    #[arg(long, value_name = "N")]
    pub episodes: Option<usize>,
    /// Data to show, in place of what the runs name; several are joined.
    #[arg(long, value_name = "DATA")]
    pub data: Vec<PathBuf>,
    /// Python interpreter for environments of Gymnasium, in place of the runs' own.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Heading; default: the runs' names.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub title: Option<String>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    run_report::check_place(&args.out)?;
    let folders = args.runs.iter().map(|run| hub::local(run));
    let folders: Vec<PathBuf> = folders.collect::<trajformer::Result<_>>()?;
    let options = ReportOptions {
        title: args.title.clone(),
        episodes: args.episodes,
        data: args.data.clone(),
        python: args.python.clone(),
    };
    let report = run_report::report(&folders, &options)?;
    run_report::write(&args.out, &report)?;
    let episodes: usize = report.runs.iter().map(|run| run.episodes.len()).sum();
    say!(
        "wrote {} (runs: {}, episodes: {episodes})",
        args.out.display(),
        report.runs.len()
    )?;
    if args.json {
        let value = json!({
            "report": args.out.display().to_string(),
            "runs": report.runs.len(),
            "episodes": episodes,
        });
        say!("{value}")?;
    }
    Ok(ExitCode::SUCCESS)
}
