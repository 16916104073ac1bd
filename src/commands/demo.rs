//! `trajformer demo`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use trajformer::error::shell_quoted;
use trajformer::{demo, report};

use crate::output::say;
use crate::process;

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

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    report::check_built()?;
    let result = match demo::demo(&args.out, &process::catch_interrupts()) {
        Err(trajformer::Error::Interrupted) => {
            let out = shell_quoted(&args.out);
            say!(
                "interrupted: what is done is kept; `trajformer demo --out {out}` goes on with it"
            )?;
            return Ok(ExitCode::from(process::INTERRUPTED));
        }
        result => result?,
    };
    say!("normalised scores: 0 is random actions, 100 a controller that knows the maze")?;
    say!("  planner            {:6.1}", result.planner_score)?;
    say!("  behaviour cloning  {:6.1}", result.bc_score)?;
    say!("  the data           {:6.1}", result.data_score)?;
    say!("  random actions     {:6.1}", result.random_score)?;
    say!("  controller         {:6.1}", result.controller_score)?;
    say!("pictures:")?;
    for picture in &result.pictures {
        say!("  {}", picture.display())?;
    }
    say!("{:.0} seconds", result.seconds)?;
    if args.json {
        say!("{}", serde_json::to_string(&result)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
