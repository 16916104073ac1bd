//! `trajformer setup`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use trajformer::setup::{self, SetupOptions};

use crate::output::say;

/// The `setup` commands.
#[derive(Debug, Subcommand)]
pub enum SetupCommand {
    /// Install MuJoCo 3.3.7 and the models of hopper, halfcheetah, walker2d and ant, for scores in them.
    #[command(after_help = "Examples:\n  \
        trajformer setup mujoco\n  \
        trajformer setup mujoco --from wheels\n  \
        trajformer setup mujoco --from mujoco-3.3.7-*.whl gymnasium-0.29.1-*.whl gymnasium-1.4.0-*.whl\n  \
        trajformer setup mujoco --to /usr/local/lib/mujoco-3.3.7\n\
        Takes the library and five model files from Python's package index, without Python. PIP_INDEX_URL or pip's own\n\
        configuration names another index. On a machine with a network, the wheels come with\n  \
        pip download --no-deps --dest wheels mujoco==3.3.7 gymnasium==0.29.1\n  \
        pip download --no-deps --dest wheels gymnasium==1.4.0")]
    Mujoco {
        /// Wheels, folders with wheels, or a folder as this command makes it, in place of the package index.
        #[arg(long, num_args = 1.., value_name = "PATH")]
        from: Vec<PathBuf>,
        /// Folder for `lib`, `models` and `licenses`; default: the user's own, where the program looks by itself.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Print one JSON object, last on standard output.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(command: &SetupCommand) -> anyhow::Result<ExitCode> {
    let SetupCommand::Mujoco { from, to, json } = command;
    let (from, to) = (from.clone(), to.clone());
    let installed = setup::mujoco(&SetupOptions { from, to })?;
    let folder = installed.folder.display();
    if installed.written.is_empty() {
        say!("MuJoCo 3.3.7 and its models are in {folder} already")?;
    } else {
        for file in &installed.written {
            say!("{}", file.display())?;
        }
        for source in &installed.sources {
            say!("from {source}")?;
        }
        say!("MuJoCo 3.3.7 and its models are in {folder}, their licences beside them")?;
    }
    if !installed.is_found {
        say!("a program that doesn't look there finds them with TRAJFORMER_MUJOCO_LIB={folder}")?;
    }
    if *json {
        say!("{}", serde_json::to_string(&installed)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
