//! `trajformer config`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use trajformer::config::{Departures, RunConfig};
use trajformer::error::Origin;

use crate::output::{self, say};

/// The `config` commands.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration with every default filled in.
    #[command(after_help = "Examples:\n  \
        trajformer config show configs/bc/hopper-medium.toml\n  \
        trajformer config show configs/bc/hopper-medium.toml --set train.updates=5000\n  \
        trajformer config show configs/bc/short/hopper-medium.toml --differences")]
    Show {
        /// Configuration file.
        config: PathBuf,
        /// Change a key: a TOML value, or a bare word as a string.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
        /// Print what differs from the file that it extends (of the authors' settings, for those in `short/`) and from the
        /// defaults, with the file that says so.
        #[arg(long)]
        differences: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Show {
        config,
        overrides,
        differences,
        json,
    } = command;
    if *differences {
        let mut found = Departures::load(config, overrides)?;
        for departure in found
            .from_extended
            .iter_mut()
            .chain(&mut found.from_defaults)
        {
            // As it is typed.
            if let Some(Origin::Overrides(texts)) = &mut departure.origin {
                texts
                    .iter_mut()
                    .for_each(|text| *text = format!("--set {text}"));
            }
        }
        if *json {
            say!("{}", serde_json::to_string(&found)?)?;
        } else {
            output::whole(&found)?;
        }
    } else {
        let config = RunConfig::load(config, overrides)?;
        if *json {
            say!("{}", serde_json::to_string(&config)?)?;
        } else {
            output::whole(config.to_toml()?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
