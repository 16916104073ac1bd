//! The commands: each file has a command's arguments and what it does with them, which is to ask the library and to
//! print what it found.

pub mod act;
pub mod bench;
pub mod choose;
pub mod collect;
pub mod compare;
pub mod config;
pub mod dashboard;
pub mod data;
pub mod data_sets;
pub mod demo;
pub mod diagnose;
pub mod evaluate;
pub mod export;
pub mod hints;
pub mod hub;
pub mod plan;
pub mod probe;
mod ranks;
pub mod render;
pub mod report;
pub mod reproduce;
#[cfg(feature = "serve")]
pub mod serve;
#[cfg(feature = "mujoco")]
pub mod setup;
pub mod shell;
pub mod side_by_side;
pub mod sweep;
pub mod train;
pub mod watch;

use std::path::Path;
use std::process::ExitCode;

use crate::cli::Command;

/// `--python PATH` as the key that it sets.
fn python_key(path: Option<&Path>) -> Option<String> {
    path.map(|path| format!("evaluate.python={}", path.display()))
}

/// Runs a command; the status to exit with.
///
/// # Errors
/// What failed, and where.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Train(args) => train::run(args),
        Command::Watch(args) => watch::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Act(args) => act::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Choose(args) => choose::run(args),
        Command::Report(args) => report::run(args),
        Command::Sweep(args) => sweep::run(args),
        Command::Reproduce(args) => reproduce::run(args),
        Command::Render(args) => render::run(args),
        Command::Bench(command) => bench::run(command),
        Command::Plan(args) => plan::run(args),
        Command::Diagnose(args) => diagnose::run(args),
        Command::Data(command) => data::run(command),
        Command::Export(args) => export::run(args),
        Command::Hub(command) => hub::run(command),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        #[cfg(feature = "mujoco")]
        Command::Setup(command) => setup::run(command),
        Command::Config(command) => config::run(command),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
    }
}
