//! The `trajformer` command: parse, ask the library, print results, exit.

mod cli;
mod commands;
mod output;
mod process;
mod repeated;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use trajformer_models::kernels::{memory, switch};

use crate::cli::Cli;

fn main() -> ExitCode {
    memory::keep_freed_blocks();
    let cli = Cli::parse();
    process::settle_threads(cli.threads);
    let asked = std::env::var("TRAJFORMER_LOG").ok();
    let asked = asked.and_then(|text| text.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    // What the network's crates write with the crate `log` is not collected, whatever is asked for: bytes of requests are
    // among it, and in them the token. What they log of failures is in our errors.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        // A log that can't be written must not end what it logs.
        .log_internal_errors(false)
        .with_filter(repeated::Once);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
    // Inside the pool, so that handing it work costs no switch of threads.
    let kernels = switch::check().map_err(anyhow::Error::msg);
    match kernels.and_then(|()| rayon::scope(|_| commands::run(&cli.command))) {
        Ok(code) => code,
        Err(error) => {
            let text = commands::hints::explained(&error, &cli.command);
            output::complain(format_args!("error: {text}"));
            ExitCode::FAILURE
        }
    }
}
