//! `trajformer serve`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use trajformer::serve::{Address, ServeOptions, Server, Source};

use crate::output::say;
use crate::process;

/// Where the token may be, in the place of a file.
const TOKEN: &str = "TRAJFORMER_TOKEN";

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Run directories, RUN@NAME of kept checkpoints, folders of models of other libraries, or hf://ID; NAME=RUN serves one under another
    /// name than its folder's.
    #[arg(required = true, value_name = "[NAME=]RUN")]
    pub runs: Vec<String>,
    /// Where to listen: ADDRESS:PORT (port 0: a free one) or unix:PATH. Can be repeated. Beyond this machine a token is needed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen: Vec<Address>,
    /// File with the token that clients must send as `Authorization: Bearer TOKEN`; else the environment's TRAJFORMER_TOKEN, if it is set.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Milliseconds that the first request of a batch waits for others; 0: a batch is what has come while the one before was computed.
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = milliseconds)]
    pub batch_wait_ms: f64,
    /// Most observations that are acted at together.
    #[arg(long, value_name = "N", default_value_t = ServeOptions::default().batch_rows)]
    pub batch_rows: usize,
    /// Most observations that wait for a run; more are refused with status 503.
    #[arg(long, value_name = "N", default_value_t = ServeOptions::default().queue_rows)]
    pub queue_rows: usize,
    /// Most sessions, in which policies that remember act; more are refused with status 503.
    #[arg(long, value_name = "N", default_value_t = ServeOptions::default().sessions)]
    pub sessions: usize,
    /// Seconds after which a session ends that nobody uses.
    #[arg(long, value_name = "S", default_value_t = ServeOptions::default().session_idle.as_secs(), value_parser = seconds())]
    pub session_idle: u64,
    /// Open no session while the process holds more memory than this, in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub memory: Option<u64>,
    /// Largest body of a request, in KiB.
    #[arg(long, value_name = "KIB", default_value_t = (ServeOptions::default().body >> 10) as u64, value_parser = clap::value_parser!(u64).range(1..=1 << 21))]
    pub body: u64,
    /// Most connections; the one that was idle longest makes place for a new one.
    #[arg(long, value_name = "N", default_value_t = ServeOptions::default().connections)]
    pub connections: usize,
    /// Seconds that a connection may be idle, and the head of a request may take.
    #[arg(long, value_name = "S", default_value_t = ServeOptions::default().idle.as_secs(), value_parser = seconds())]
    pub idle: u64,
    /// Look for new checkpoints of the runs every so many seconds, and act with them: of runs that are training, say. Sessions that are open
    /// keep theirs.
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "1", require_equals = true, value_parser = seconds())]
    pub follow: Option<u64>,
    /// Change a key of the stored configurations that says how they act: targets, evaluate.goal, planner settings.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Up to a year.
fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=31_536_000)
}

fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(found) if (0.0..=1000.0).contains(&found) => Ok(found),
        _ => Err("expected milliseconds, 0 to 1000".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let sources: Result<Vec<Source>, _> = args.runs.iter().map(|one| Source::parse(one)).collect();
    let options = ServeOptions {
        sources: sources?,
        overrides: args.overrides.clone(),
        addresses: args.listen.clone(),
        token: token(args.token_file.as_deref())?,
        batch_wait: Duration::from_secs_f64(args.batch_wait_ms / 1000.0),
        batch_rows: args.batch_rows,
        queue_rows: args.queue_rows,
        sessions: args.sessions,
        session_idle: Duration::from_secs(args.session_idle),
        memory: args.memory.map(|mib| mib << 20),
        body: usize::try_from(args.body << 10).unwrap_or(usize::MAX),
        connections: args.connections,
        idle: Duration::from_secs(args.idle),
        follow: args.follow.map(Duration::from_secs),
        ..ServeOptions::default()
    };
    let server = Server::open(&options)?;
    let interrupt = process::catch_interrupts_saying(
        "what is under way is answered, nothing new is taken; once more ends at once",
    );
    for line in server.described() {
        say!("{line}")?;
    }
    for address in server.addresses()? {
        say!("listening at {address}")?;
    }
    server.run(&interrupt)?;
    say!("ended")?;
    Ok(ExitCode::SUCCESS)
}

/// The token of the file, else of the environment.
fn token(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{}: the token can't be read", path.display()))?;
            let token = text.trim();
            if token.lines().count() != 1 {
                anyhow::bail!("{}: expected one line, the token", path.display());
            }
            Ok(Some(token.to_owned()))
        }
        None => match std::env::var(TOKEN) {
            Ok(text) if text.trim().is_empty() => {
                anyhow::bail!("the environment's {TOKEN} is empty: give it the token, or unset it")
            }
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(_) => anyhow::bail!("the environment's {TOKEN} is not UTF-8"),
        },
    }
}
