//! `trajformer choose`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use trajformer::choose::{self, ChooseOptions, wording};
use trajformer::fqe::FqeConfig;
use trajformer::{Error, checkpoint, hub};

use crate::cli::count;
use crate::commands::hints;
use crate::output::{complain, say, whole};
use crate::process;

/// Arguments of `choose`.
#[derive(Debug, Args)]
pub struct ChooseArgs {
    /// Runs to choose among, at least two: run directories, checkpoints that they keep (RUN@best), folders of seeds, each of which
    /// counts by itself, or folders of such folders.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Data to judge them by: a file, a folder or a public data set. Default: what they learned from, if it is the same.
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    /// Judge by so many episodes, drawn once for all runs. Default: all; 30 where a run remembers earlier steps (Decision Transformer, LaMo,
    /// FAST), 20 where one plans, which takes about 0.1 s per step.
    #[arg(long, value_name = "N", value_parser = count)]
    pub episodes: Option<usize>,
    /// Updates of each run's critics.
    #[arg(long, value_name = "N", default_value_t = FqeConfig::default().updates)]
    pub updates: u64,
    /// Critics per run, each with its own resample of the episodes, the same for all runs.
    #[arg(long, value_name = "N", default_value_t = FqeConfig::default().members, value_parser = count)]
    pub members: usize,
    /// Widths of the critics' hidden layers. Default: 64,64; 256,256 takes about ten times as long.
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = count)]
    pub hidden: Vec<usize>,
    /// Discount of the values.
    #[arg(long, default_value_t = FqeConfig::default().discount)]
    pub discount: f64,
    /// Seed of critics, batches, resamples and drawn episodes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also measure what the choice was worth: by the score of each run's last evaluation in its environment, beside other
    /// ways to choose.
    #[arg(long)]
    pub judge: bool,
    /// Also write the runs with all their numbers as comma-separated values.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &ChooseArgs) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.csv {
        checkpoint::check_output(path)?;
    }
    let defaults = FqeConfig::default();
    let hidden = if args.hidden.is_empty() {
        choose::HIDDEN.to_vec()
    } else {
        args.hidden.clone()
    };
    let options = ChooseOptions {
        data: args.data.clone(),
        episodes: args.episodes,
        fqe: FqeConfig {
            updates: args.updates,
            members: args.members,
            hidden,
            discount: args.discount,
            seed: args.seed,
            interrupt: process::catch_interrupts_saying(
                "the runs that are judged so far follow; once more ends at once without",
            ),
            ..defaults
        },
        judge: args.judge,
    };
    let folders = args.runs.iter().map(|run| hub::local(run));
    let folders = folders.collect::<trajformer::Result<Vec<PathBuf>>>()?;
    let choice = match choose::choose(&folders, &options) {
        Ok(choice) => choice,
        Err(error @ Error::NothingYet { .. }) => {
            complain(hints::of_library(&error));
            return Ok(ExitCode::from(process::INTERRUPTED));
        }
        Err(error) => return Err(error.into()),
    };
    whole(wording::report(&choice))?;
    if let Some(path) = &args.csv {
        wording::write_csv(&choice, path)?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        say!("{}", serde_json::to_string(&choice)?)?;
    }
    if choice.interrupted {
        return Ok(ExitCode::from(process::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}
