//! `trajformer export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use trajformer::{export, hub};

use crate::output::say;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Run directory, folder of a model of another library, or hf://ID.
    pub run: PathBuf,
    /// Format of the file.
    #[arg(long, value_enum, default_value = "onnx")]
    pub format: ExportFormat,
    /// Change a key of the stored configuration that counts in the file, e.g. a Decision Transformer's `context_steps`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// File to write.
    #[arg(value_name = "FILE.onnx")]
    pub out: PathBuf,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Open Neural Network Exchange.
    Onnx,
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let ExportFormat::Onnx = args.format;
    export::check_new(&args.out)?;
    let mut trained = export::open(&hub::local(&args.run)?, &args.overrides)?;
    let graph = export::write(&mut trained, &args.out)?;
    for input in &graph.inputs {
        say!("input   {} [batch, {}]", input.name, sizes(&input.dims))?;
    }
    say!(
        "output  {} [batch, {}]",
        graph.output.0,
        sizes(&graph.output.1)
    )?;
    say!("wrote {}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

fn sizes(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    dims.join(", ")
}
