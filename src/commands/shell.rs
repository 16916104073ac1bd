//! `trajformer completions` and `trajformer man`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use trajformer::checkpoint::check_output;

use crate::cli::Cli;
use crate::output::{self, say};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder for the pages; it is made if it is not there. Pages that are there are replaced.
    pub folder: PathBuf,
}

/// Prints what completes commands.
///
/// # Errors
/// If standard output can't be written.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "trajformer", &mut text);
    output::whole(String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual pages.
///
/// # Errors
/// If the folder or a page can't be written.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: the folder can't be made", folder.display()))?;
    let mut command = Cli::command();
    command.build();
    let written = pages(&command, folder)?;
    say!("wrote {written} pages into {}", folder.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command, and those of the commands inside it; how many.
fn pages(command: &clap::Command, folder: &std::path::Path) -> anyhow::Result<usize> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    check_output(&path)?;
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .and_then(|()| std::fs::write(&path, page))
        .with_context(|| format!("{}: the page can't be written", path.display()))?;
    let inside = command.get_subcommands();
    let inside = inside.filter(|inside| inside.get_name() != "help" && !inside.is_hide_set());
    let counts = inside.map(|inside| pages(inside, folder));
    counts.sum::<anyhow::Result<usize>>().map(|count| count + 1)
}
