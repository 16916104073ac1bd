//! `trajformer render`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use trajformer::config::Purpose;
use trajformer::pretrained::Request;
use trajformer::render::{self, RenderOptions, WIDTHS};
use trajformer::{hub, run};

use crate::cli::count;
use crate::output::say;

/// Arguments of `render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Run directory, folder of a model of another library, or hf://ID.
    pub run: PathBuf,
    /// The moving picture: a .gif, or an animated .png.
    #[arg(long, value_name = "FILE.gif|png")]
    pub out: PathBuf,
    /// Environment; default: the run's. Point mazes, the built-in robots and Gymnasium's (gym:ID) have pictures.
    #[arg(long)]
    pub env: Option<String>,
    /// Episodes, one after the other.
    #[arg(long, default_value = "1", value_parser = count)]
    pub episodes: usize,
    /// Seed of start states and of the policy; default: the run's `evaluate.seed`.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Steps per frame; default: 25 frames for a second of the environment's time, at most.
    #[arg(long, value_name = "N", value_parser = count)]
    pub every: Option<usize>,
    /// Width in pixels, 64 to 1920, e.g. --width 640.
    #[arg(long, default_value = "480", value_parser = width)]
    pub width: usize,
    /// Python interpreter for environments of Gymnasium, in place of the run's own.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Change a key of the stored configuration for this picture: evaluate.goal, device, planner settings.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

fn width(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(width) if WIDTHS.contains(&width) => Ok(width),
        _ => Err(format!(
            "expected {} to {} pixels",
            WIDTHS.start(),
            WIDTHS.end()
        )),
    }
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    render::check_place(&args.out)?;
    let request = Request {
        overrides: &args.overrides,
        purpose: Purpose::Evaluate,
        ..Request::default()
    };
    let mut trained = run::open_with(&hub::local(&args.run)?, &request)?;
    let evaluate = &mut trained.config.evaluate;
    evaluate.env = args.env.clone().or(evaluate.env.take());
    evaluate.python = args.python.clone().or(evaluate.python.take());
    evaluate.seed = args.seed.unwrap_or(evaluate.seed);
    let options = RenderOptions {
        episodes: args.episodes,
        every: args.every,
        width: args.width,
    };
    let rendered = render::render(&mut trained, &args.out, &options)?;
    for (number, (total, length)) in rendered.returns.iter().zip(&rendered.lengths).enumerate() {
        say!("episode {}: return {total:.1}, {length} steps", number + 1)?;
    }
    say!(
        "wrote {} ({} frames, {:.2} s each)",
        args.out.display(),
        rendered.frames,
        rendered.seconds_per_frame
    )?;
    if args.json {
        say!("{}", serde_json::to_string(&rendered)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
