//! `trajformer hub`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use trajformer::{hub, publish};

use crate::output::{self, say};

/// The `hub` commands.
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Bring the cached copy of a model up to date, and print its folder.
    #[command(after_help = "Examples:\n  \
        trajformer hub pull edbeeching/decision-transformer-gym-hopper-medium\n  \
        trajformer hub pull openai-community/gpt2 --revision main\n\
        HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN mean what they do elsewhere.")]
    Pull {
        /// OWNER/NAME, with or without hf:// in front.
        id: String,
        /// Branch, tag or commit; default: main.
        #[arg(long)]
        revision: Option<String>,
        /// Print one JSON object, last on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Publish a run: configuration, networks, scores, and a model card.
    #[command(after_help = "Examples:\n  \
        trajformer hub push runs/decision_transformer-hopper-medium-short me/dt-hopper-medium --dry-run\n  \
        trajformer hub push runs/decision_transformer-hopper-medium-short me/dt-hopper-medium --private\n\
        A README.md in the run directory takes the place of the generated card. HF_TOKEN needs write permission.")]
    Push {
        /// Run directory.
        run: PathBuf,
        /// OWNER/NAME of the repository; it is made if it is not there.
        id: String,
        /// Branch; it is made if it is not there. Default: main.
        #[arg(long)]
        revision: Option<String>,
        /// A new repository is private.
        #[arg(long)]
        private: bool,
        /// Say what would be published, card included, and publish nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON object, last on standard output.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(command: &HubCommand) -> anyhow::Result<ExitCode> {
    match command {
        HubCommand::Pull { id, revision, json } => {
            let reference = hub::Reference::parse(id, revision.as_deref())?;
            let pulled = hub::pull(&reference)?;
            for (name, size) in &pulled.files {
                say!("{size:>12}  {name}")?;
            }
            say!("{}", pulled.folder.display())?;
            if *json {
                say!("{}", serde_json::to_string(&pulled)?)?;
            }
        }
        HubCommand::Push {
            run,
            id,
            revision,
            private,
            dry_run,
            json,
        } => {
            let reference = hub::Reference::parse(id, revision.as_deref())?;
            let (private, dry_run) = (*private, *dry_run);
            let pushed =
                publish::push(run, &reference, &publish::PushOptions { private, dry_run })?;
            if dry_run {
                output::whole(&pushed.card)?;
            }
            for (name, size) in &pushed.files {
                say!("{size:>12}  {name}")?;
            }
            if dry_run {
                say!("dry run: nothing was published at {}", pushed.url)?
            } else {
                say!("{}", pushed.url)?
            }
            if *json {
                say!("{}", serde_json::to_string(&pushed)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
