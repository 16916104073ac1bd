//! The `trajformer` command: parse, ask the library, print results, exit.

mod cli;
mod commands;
mod output;
mod process;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

use trajformer_models::kernels::{memory, switch};

use crate::cli::Cli;

fn main() -> ExitCode {
    memory::keep_freed_blocks();
    let cli = Cli::parse();
    process::settle_threads(cli.threads);
    let filter = tracing_subscriber::EnvFilter::try_from_env("TRAJFORMER_LOG")
        // What the crates of the network log of failures is in our error.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,ureq=off,rustls=off"));
    // Whatever is asked for, bytes of requests are not logged: the token is among them.
    let filter = match "ureq_proto=off".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        // A log that can't be written must not end what it logs.
        .log_internal_errors(false)
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
