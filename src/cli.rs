//! The command line: the names of the commands, with help and examples. Their arguments are with the commands.

use std::num::NonZeroUsize;

use clap::{Parser, Subcommand};

use crate::commands::act::ActArgs;
use crate::commands::bench::BenchCommand;
use crate::commands::choose::ChooseArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::config::ConfigCommand;
use crate::commands::data::DataCommand;
use crate::commands::demo::DemoArgs;
use crate::commands::diagnose::DiagnoseArgs;
use crate::commands::evaluate::EvaluateArgs;
use crate::commands::export::ExportArgs;
use crate::commands::hub::HubCommand;
use crate::commands::plan::PlanArgs;
use crate::commands::render::RenderArgs;
use crate::commands::report::ReportArgs;
use crate::commands::reproduce::ReproduceArgs;
#[cfg(feature = "serve")]
use crate::commands::serve::ServeArgs;
#[cfg(feature = "mujoco")]
use crate::commands::setup::SetupCommand;
use crate::commands::shell::{CompletionsArgs, ManArgs};
use crate::commands::sweep::SweepArgs;
use crate::commands::train::TrainArgs;
use crate::commands::watch::WatchArgs;

/// Offline reinforcement learning: logged experience in, policies, plans and scores out.
#[derive(Debug, Parser)]
#[command(version, long_version = trajformer::about::description(), about, max_term_width = 100)]
#[command(after_help = "Examples:\n  \
    trajformer demo\n  \
    trajformer data pull hopper-medium-v2\n  \
    trajformer train configs/td3_bc/short/hopper-medium.toml\n  \
    trajformer train --help")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads; default: RAYON_NUM_THREADS, else one per core. Results don't depend on it.
    #[arg(long, global = true, value_parser = threads)]
    pub threads: Option<NonZeroUsize>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Collect maze data, train a small Trajectory Transformer, plan with it, draw what happened.
    #[command(after_help = "Example:\n  trajformer demo --out runs/demo")]
    Demo(DemoArgs),
    /// Train one algorithm on logged experience.
    #[command(after_help = "Examples:\n  \
        trajformer train configs/td3_bc/short/hopper-medium.toml --set data.path=hopper-medium.hdf5\n  \
        trajformer train configs/bc/short/hopper-medium.toml --seeds 0..5\n  \
        trajformer train --resume runs/td3_bc-hopper-medium-short --set train.updates=200000\n  \
        trajformer train --resume runs/td3_bc-hopper-medium-short@50000 --out runs/branch\n\
        Without MuJoCo (`trajformer setup mujoco` installs it) it trains, but can't score in hopper and the like:\n  \
        trajformer train configs/bc/short/hopper-medium.toml --set evaluate.episodes=0")]
    Train(TrainArgs),
    /// Watch runs while they train: a dashboard of curves, rates and time left in the terminal.
    #[command(after_help = "Examples:\n  \
        trajformer watch runs/td3_bc-hopper-medium-short\n  \
        trajformer watch runs\n  \
        trajformer watch runs --once > status.txt\n\
        It reads the files of the runs and changes nothing. q quits, the arrows show more curves. Rates are updates per second,\n\
        evaluations counted: over the last ten rows of metrics.csv while a run trains, over the whole run after that, as `train`\n\
        says at its end.")]
    Watch(WatchArgs),
    /// Score a trained run in an environment.
    #[command(after_help = "Examples:\n  \
        trajformer evaluate runs/td3_bc-hopper-medium-short --env hopper-v4 --episodes 20\n  \
        trajformer evaluate runs/td3_bc-hopper-medium-short@best --sample\n  \
        trajformer evaluate runs/td3_bc-hopper-medium-short --record rollouts.hdf5\n  \
        trajformer evaluate runs/td3_bc-hopper-medium-short --env gym:Hopper-v5 --python .venv/bin/python\n  \
        trajformer evaluate hf://edbeeching/decision-transformer-gym-hopper-medium --env hopper-v4\n  \
        trajformer evaluate hf://CarlCochet/trajectory-transformer-hopper-medium-v2 --env hopper-v4 --data \
        hopper-medium.hdf5\n  \
        trajformer evaluate runs/td3_bc-hopper-medium-short --off-policy hopper-medium.hdf5\n  \
        trajformer evaluate runs/trajectory_transformer-pointmaze-umaze-goal --set \
        'evaluate.goal=[3.5, 1.5, 0, 0]'\n  \
        trajformer evaluate runs/decision_transformer-pointmaze-rooms --instruction 'go to the upper left room' \
        --picture rooms.svg")]
    Evaluate(EvaluateArgs),
    /// What a trained run would do at recorded observations: no environment is needed.
    #[command(after_help = "Examples:\n  \
        trajformer act runs/td3_bc-hopper-medium-short --observations states.npy --out actions.npz\n  \
        trajformer act runs/decision_transformer-hopper-medium-short --observations episodes.npz --out actions.npz\n  \
        trajformer act runs/trajectory_transformer-hopper-medium-short --observations so-far.npz --out next.npz --last\n\
        Policies that remember need the history: `actions` and `rewards` beside the observations, and `episode_starts` where there are\n\
        several episodes. At each step they are told what was really done before. docs/policies.md has the table of arrays.")]
    Act(ActArgs),
    /// Serve trained runs over HTTP: observations in, actions out.
    #[cfg(feature = "serve")]
    #[command(after_help = "Examples:\n  \
        trajformer serve runs/td3_bc-hopper-medium-short\n  \
        trajformer serve hopper=runs/td3_bc-hopper-medium-short --follow --listen 127.0.0.1:9000\n  \
        trajformer serve runs/decision_transformer-hopper-medium-short --listen unix:/run/user/1000/policy.sock\n  \
        trajformer serve runs/a runs/b --listen 0.0.0.0:8000 --token-file token.txt\n\
        docs/serving.md has the requests; GET /openapi.json describes them.")]
    Serve(ServeArgs),
    /// Put runs side by side: a table, statistics over seeds and tasks, and pictures of them.
    #[command(after_help = "Examples:\n  \
        trajformer compare runs/bc-hopper-medium-short runs/td3_bc-hopper-medium-short --picture curves.svg\n  \
        trajformer compare results --by algorithm --sort last\n  \
        trajformer compare results --by algorithm --latex > table.tex\n  \
        trajformer compare results --by algorithm --picture intervals.svg --plot intervals\n  \
        trajformer compare results --by algorithm --by algorithm.td3_bc.alpha --csv scores.csv\n  \
        trajformer compare runs/a runs/b --labels a=ours,b=baseline --x updates --picture curves.png\n  \
        trajformer compare runs/sac-hopper-medium-short runs/cql-hopper-medium-short --metric q_policy_mean --picture q.svg\n\
        Runs of one task have the same data and environment. The last evaluation is the result; the best one was chosen by\n\
        its own score. docs/running.md says how the statistics are computed.")]
    Compare(CompareArgs),
    /// Say which run to deploy, from data alone: every run's value with its uncertainty, and what a wrong choice would cost.
    #[command(after_help = "Examples:\n  \
        trajformer choose runs/bc-hopper-medium-short runs/td3_bc-hopper-medium-short\n  \
        trajformer choose results/medium-replay --data hopper-medium-replay-v2 --updates 5000 --members 10 --hidden 64,64\n  \
        trajformer choose runs/decision_transformer-hopper-medium-short runs/td3_bc-hopper-medium-short@best --episodes 50\n  \
        trajformer choose results --judge --csv choice.csv\n\
        All runs are judged on the same resamples of the data's episodes by fitted Q evaluation, so that their differences are paired.\n\
        docs/policies.md says how, and how far such a choice was off where it was measured.")]
    Choose(ChooseArgs),
    /// Write runs as one page to open in a browser: curves, diagnostics, data, configurations, and episodes to scrub.
    #[command(after_help = "Examples:\n  \
        trajformer report runs/bc-hopper-medium-short runs/td3_bc-hopper-medium-short --out report.html\n  \
        trajformer report runs/demo/planner --episodes 4 --title 'Planning in a maze'")]
    Report(ReportArgs),
    /// Train many runs from one file, side by side: algorithms x data sets x seeds x any keys; then compare them.
    #[command(after_help = "Examples:\n  \
        trajformer sweep sweeps/medium-replay.toml --data-dir data --dry-run\n  \
        trajformer sweep sweeps/medium-replay.toml --data-dir data --out results/medium-replay\n  \
        trajformer sweep sweep.toml --jobs 8 --run-threads 2\n  \
        trajformer sweep sweep.toml --devices cuda:0,cuda:1\n  \
        trajformer sweep sweep.toml --shard 1/3\n  \
        trajformer sweep sweep.toml --emit-hyperqueue job.toml\n\
        The same command goes on after a kill: finished runs are skipped, failed ones tried again. docs/sweeps.md describes the file.")]
    Sweep(SweepArgs),
    /// Train papers' own configurations and put each score beside the published one, with a verdict.
    #[command(after_help = "Examples:\n  \
        trajformer reproduce d4rl-locomotion --data-dir data\n  \
        trajformer reproduce d4rl-locomotion --algorithms td3_bc,iql --datasets hopper-medium --data-dir data --yes\n  \
        trajformer reproduce d4rl-locomotion --algorithms bc --updates 1000 --seeds 0..2 --data-dir data --yes\n\
        Without --yes it says what it needs and how long it takes. Verdicts compare means by Welch's 95 % interval.")]
    Reproduce(ReproduceArgs),
    /// Draw episodes of a run as a moving picture: the ball in its maze or the robot, and what a planner imagines.
    #[command(after_help = "Examples:\n  \
        trajformer render runs/demo/planner --out maze.gif\n  \
        trajformer render runs/td3_bc-hopper-medium-short --out hopper.gif --episodes 2 --seed 7\n  \
        trajformer render runs/trajectory_transformer-hopper-medium-short --out plan.png --width 640 --every 2\n\
        Robots are drawn by MuJoCo (`trajformer setup mujoco`) through EGL, on a GPU or in software.")]
    Render(RenderArgs),
    /// Measure this build on this machine.
    #[command(
        subcommand,
        after_help = "Example:\n  trajformer bench update --algorithm td3_bc --threads 2"
    )]
    Bench(BenchCommand),
    /// Make one plan from a start state, or from a step of a data set, and compare it with what happens.
    #[command(after_help = "Examples:\n  \
        trajformer plan runs/trajectory_transformer-hopper-medium-short --picture plan.svg\n  \
        trajformer plan runs/trajectory_transformer-hopper-medium-short --data hopper-medium.hdf5 --episode 3 --step 100 \
        --picture plan.svg")]
    Plan(PlanArgs),
    /// Say where the score of a sequence model goes: bins, imitation, imagination, search, aiming.
    #[command(after_help = "Examples:\n  \
        trajformer diagnose runs/trajectory_transformer-hopper-medium-replay-short --picture where.svg\n  \
        trajformer diagnose runs/trajectory_transformer-hopper-medium-replay-short --data held-out.hdf5 --episodes 20 \
        --decisions 5000\n  \
        trajformer diagnose runs/trajectory_transformer-hopper-medium-replay-short --through \
        runs/td3_bc-hopper-medium-replay-short\n  \
        trajformer diagnose runs/decision_transformer-hopper-medium-short --json\n\
        It ends within minutes; Ctrl-C gives what is finished. docs/diagnose.md says how to read it.")]
    Diagnose(DiagnoseArgs),
    /// Fetch, look at, convert and collect data.
    #[command(
        subcommand,
        after_help = "Example:\n  trajformer data info hopper-medium.hdf5"
    )]
    Data(DataCommand),
    /// Write a policy as an ONNX file, for other runtimes.
    #[command(after_help = "Examples:\n  \
        trajformer export runs/td3_bc-hopper-medium-short actor.onnx\n  \
        trajformer export hf://edbeeching/decision-transformer-gym-hopper-medium --format onnx dt.onnx\n\
        Observations and actions are in the environment's units: normaliser and bounds are inside.")]
    Export(ExportArgs),
    /// Fetch models from the Hugging Face Hub, and publish runs there.
    #[command(
        subcommand,
        after_help = "Example:\n  trajformer hub pull edbeeching/decision-transformer-gym-hopper-medium"
    )]
    Hub(HubCommand),
    /// Install what scores need.
    #[cfg(feature = "mujoco")]
    #[command(subcommand, after_help = "Example:\n  trajformer setup mujoco")]
    Setup(SetupCommand),
    /// Show configurations.
    #[command(
        subcommand,
        after_help = "Example:\n  trajformer config show configs/bc/short/hopper-medium.toml --differences"
    )]
    Config(ConfigCommand),
    /// Print what completes commands in a shell.
    #[command(after_help = "Examples:\n  \
        trajformer completions bash > ~/.local/share/bash-completion/completions/trajformer\n  \
        trajformer completions zsh > ~/.zfunc/_trajformer\n  \
        trajformer completions fish > ~/.config/fish/completions/trajformer.fish")]
    Completions(CompletionsArgs),
    /// Write manual pages, one per command.
    #[command(
        after_help = "Example:\n  trajformer man ~/.local/share/man/man1 && man trajformer-train"
    )]
    Man(ManArgs),
}

/// A number of threads: more than any processor has would only exhaust the system.
fn threads(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(threads) if threads.get() <= 1024 => Ok(threads),
        _ => Err("expected 1 to 1024".to_owned()),
    }
}

/// A size or a length, for arguments of commands.
///
/// # Errors
/// If it is no number from 1 to 131072.
pub fn count(text: &str) -> Result<usize, String> {
    const MOST: usize = 1 << 17;
    match text.parse::<usize>() {
        Ok(count) if (1..=MOST).contains(&count) => Ok(count),
        _ => Err(format!("expected 1 to {MOST}")),
    }
}
