//! `trajformer sweep`: many runs from one file, side by side, and their table at the end.

pub mod children;
mod emit;
pub mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use trajformer::checkpoint;
use trajformer::compare::{self, wording};
use trajformer::device::open_device;
use trajformer::sweep::{Line, Plan, Shard, Standing, Standings, State, SweepFile};

use crate::cli::count;
use crate::commands::probe;
use crate::commands::sweep::children::{Fate, Wanted, Workers};
use crate::commands::sweep::show::{Estimate, Show, duration, runs_are};
use crate::output::{complain, say, whole};
use crate::process;

/// Letters in a line of a table.
const WIDTH: usize = 110;

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The sweep: algorithms, data sets, seeds and keys (docs/sweeps.md), e.g. sweeps/medium-replay.toml.
    pub file: PathBuf,
    /// Folder of all runs, OUT/NAME/seed-N. Default: the file's `out`, else runs/FILE.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Folder of the data files; their names stay those of the configurations. Default: the file's `data_dir`, else the
    /// configurations' own.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How runs are trained.
    #[command(flatten)]
    pub training: TrainingArgs,
}

/// How runs are trained: common to all commands that train many.
#[derive(Debug, Args)]
pub struct TrainingArgs {
    /// Processes side by side. Default: the file's `jobs`, else one per device, else one per core (or as --threads says), on a GPU 1.
    #[arg(long, value_name = "N", value_parser = count)]
    pub jobs: Option<usize>,
    /// Threads of each process. Default: the file's `threads`, else the cores divided among the processes.
    #[arg(long, value_name = "N", value_parser = count)]
    pub run_threads: Option<usize>,
    /// Devices that processes are spread over, e.g. cuda:0,cuda:1. Default: the file's `devices`, else each configuration's.
    #[arg(long, value_name = "DEVICE,...", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// Train only the I-th of N parts, counted from 1; the parts are the same whatever is finished. Default: what a Slurm array, an
    /// indexed job of Kubernetes (with --completions), MPI or srun say in the environment; 1/1: all of it.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// How many completions the indexed job of Kubernetes has that this is a pod of.
    #[arg(long, value_name = "N", value_parser = count)]
    pub completions: Option<usize>,
    /// Print the runs, what there is of them and how long the rest takes, and train nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: time a few updates of the algorithms that no run says the time of, some 20 seconds at most, e.g.
    /// `sweep sweep.toml --dry-run --measure`.
    #[arg(long, requires = "dry_run")]
    pub measure: bool,
    /// Write the unfinished runs as commands, one a line, and train nothing.
    #[arg(long, value_name = "FILE")]
    pub emit_commands: Option<PathBuf>,
    /// Write the unfinished runs as a job definition file of HyperQueue, and train nothing.
    #[arg(long, value_name = "FILE.toml")]
    pub emit_hyperqueue: Option<PathBuf>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

impl TrainingArgs {
    /// Whether anything is trained: else runs are listed or written down only.
    pub fn trains(&self) -> bool {
        !self.dry_run && self.emit_commands.is_none() && self.emit_hyperqueue.is_none()
    }
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &SweepArgs) -> anyhow::Result<ExitCode> {
    let mut file = SweepFile::read(&args.file)?;
    file.data_dir = args.data_dir.clone().or(file.data_dir);
    let out = args
        .out
        .clone()
        .or_else(|| file.out.clone())
        .unwrap_or_else(|| {
            let name = args.file.file_stem().unwrap_or_default();
            Path::new("runs").join(name)
        });
    let plan = Plan::of_file(&file, &out)?;
    let defaults = Wanted {
        jobs: file.jobs,
        threads: file.threads,
        devices: file.devices,
    };
    let ended = train(&plan, &args.training, &defaults)?;
    match ended {
        None => Ok(ExitCode::SUCCESS),
        Some(ended) => {
            if args.training.json {
                say!("{}", ended.json)?;
            }
            Ok(ended.code)
        }
    }
}

/// How a sweep ended.
pub struct Ended {
    /// Status to exit with.
    pub code: ExitCode,
    /// The runs, and their comparison.
    pub json: serde_json::Value,
}

/// Trains the runs of a plan that are not finished, and compares them; `None` if nothing was to be trained.
///
/// # Errors
/// If folders, data or environments are not as they must be, before any run starts; or the disk fails.
pub fn train(plan: &Plan, args: &TrainingArgs, defaults: &Wanted) -> anyhow::Result<Option<Ended>> {
    let shard = shard(args)?;
    plan.check_folders()?;
    let Standings {
        found: standings,
        damaged,
    } = plan.standings();
    for error in damaged.values() {
        complain(format_args!(
            "error: {error}; this run is left as it is, the others go on"
        ));
    }
    let own: Vec<usize> = (0..plan.runs.len()).filter(|at| shard.has(*at)).collect();
    let workers = workers(
        plan,
        args,
        defaults,
        own.iter().filter(|at| standings[*at].is_left()).count(),
    );
    let refused = || {
        let damaged = own.iter().filter(|at| damaged.contains_key(at)).count();
        (damaged > 0).then(|| anyhow::anyhow!("{} damaged", runs_are(damaged)))
    };
    if args.dry_run {
        list(plan, &own, &standings, &workers, args)?;
        plan.check_needs(&standings)?;
        return refused().map_or(Ok(None), Err);
    }
    for path in args.emit_commands.iter().chain(&args.emit_hyperqueue) {
        checkpoint::check_output(path)?;
    }
    plan.write_configs()?;
    if args.emit_commands.is_some() || args.emit_hyperqueue.is_some() {
        let left: Vec<usize> = own
            .iter()
            .copied()
            .filter(|at| standings[at].is_left())
            .collect();
        // They may be run on another machine, which has what is missing here.
        if let Err(missing) = plan.check_needs(&standings) {
            complain(format_args!("note: on this machine, {missing}"));
        }
        emit::emit(plan, &left, args, &workers)?;
        return refused().map_or(Ok(None), Err);
    }
    plan.check_needs(&standings)?;
    for device in workers.devices.iter().filter(|device| !is_built(device)) {
        open_device(device).context("`--devices`")?;
    }
    let interrupt = process::catch_interrupts();
    let left: Vec<usize> = in_order(plan, &own, &standings);
    complain(format_args!(
        "{}: {} runs of {} configurations, {} finished; {} side by side with {} {} each",
        plan.out.display(),
        own.len(),
        plan.lines.len(),
        own.iter().filter(|at| standings[*at].is_finished()).count(),
        workers.jobs,
        workers.threads,
        if workers.threads == 1 {
            "thread"
        } else {
            "threads"
        },
    ));
    let mut show = Show::new(plan, &own, standings, workers.jobs);
    let fates = children::train(plan, &left, &workers, &interrupt, &mut |event| {
        show.event(event)
    });
    show.finish();
    conclude(plan, &own, &fates?, interrupt.is_set()).map(Some)
}

/// Whether this build has the kind of device; it is not opened here, which would take memory of it.
fn is_built(device: &str) -> bool {
    let kind = device.split(':').next().unwrap_or_default();
    (cfg!(feature = "cuda") && kind == "cuda") || (cfg!(feature = "metal") && kind == "metal")
}

/// Unfinished runs, the first seed of every configuration before the second of any: tables of few seeds are whole early.
fn in_order(plan: &Plan, own: &[usize], standings: &BTreeMap<usize, Standing>) -> Vec<usize> {
    let mut left: Vec<usize> = own
        .iter()
        .copied()
        .filter(|at| standings[at].is_left())
        .collect();
    left.sort_by_key(|at| {
        let run = &plan.runs[*at];
        let place = plan
            .line(run)
            .seeds
            .iter()
            .position(|seed| *seed == run.seed);
        (place, run.line)
    });
    left
}

/// The part that this process has, and what says so.
fn shard(args: &TrainingArgs) -> anyhow::Result<Shard> {
    if let Some(text) = &args.shard {
        return Ok(Shard::parse(text)?);
    }
    let variable = |name: &str| std::env::var(name).ok();
    let found = Shard::of_environment(variable, args.completions).map_err(|error| {
        anyhow::anyhow!(
            "{error} (`--shard I/N` names the shard, `--shard 1/1` is all; `--completions N` is for indexed jobs of Kubernetes)"
        )
    })?;
    Ok(match found {
        Some(found) => {
            complain(format_args!(
                "shard {}, from {}",
                found.shard,
                found.variables.join(", ")
            ));
            found.shard
        }
        None => Shard::default(),
    })
}

/// How many processes, with how many threads, train `runs` runs of the plan; `defaults` are what the sweep's file says.
pub fn workers(plan: &Plan, args: &TrainingArgs, defaults: &Wanted, runs: usize) -> Workers {
    let devices = if args.devices.is_empty() {
        &defaults.devices
    } else {
        &args.devices
    };
    let wanted = Wanted {
        jobs: args.jobs.or(defaults.jobs),
        threads: args.run_threads.or(defaults.threads),
        devices: devices.clone(),
    };
    Workers::new(wanted, &plan.lines, runs)
}

/// The runs with what there is of them, and how long the rest takes.
fn list(
    plan: &Plan,
    own: &[usize],
    standings: &BTreeMap<usize, Standing>,
    workers: &Workers,
    args: &TrainingArgs,
) -> anyhow::Result<()> {
    for at in own {
        let standing = &standings[at];
        let word = match standing.state {
            State::Missing => "to do   ",
            State::Begun => "begun   ",
            State::Finished => "finished",
            State::Damaged => "DAMAGED ",
        };
        let score = standing.score;
        let score = score.map_or_else(String::new, |score| format!(", last score {score:.1}"));
        let (name, updates) = (plan.runs[*at].folder.display(), standing.updates);
        say!(
            "{word}  {name}: {updates} of {} updates{score}",
            standing.total
        )?;
    }
    let done = own.iter().filter(|at| standings[*at].is_finished()).count();
    let mut estimate = Estimate::new(plan, standings);
    let mut alone = "";
    if args.measure {
        let timed = measured(plan, own, standings, &estimate, workers)?;
        if !timed.is_empty() {
            alone = " for the updates alone";
        }
        estimate = estimate.or_timed(timed);
    }
    let seconds = estimate.seconds_left(own, plan);
    let seconds = seconds.map(|seconds| seconds / workers.jobs as f64);
    let left = match seconds {
        Some(seconds) => format!(
            "about {} left{alone} with {} side by side",
            duration(seconds),
            workers.jobs
        ),
        None if args.measure => "how long the rest takes is known once the others are timed: the same command goes on with them".to_owned(),
        None => "how long the rest takes is known once a run of each algorithm has begun; `--measure` times a few updates of each now"
            .to_owned(),
    };
    say!("{} runs, {done} finished, {left}", own.len())?;
    if args.json {
        let runs = own.iter().map(|at| described(plan, *at, &standings[at]));
        let runs: Vec<serde_json::Value> = runs.collect();
        let out = plan.out.display().to_string();
        say!(
            "{}",
            json!({ "out": out, "finished": done, "left": own.len() - done, "seconds_left": seconds, "runs": runs })
        )?;
    }
    Ok(())
}

/// Seconds per update of the lines of unfinished runs that nothing else says the time of, and a table of them.
fn measured(
    plan: &Plan,
    own: &[usize],
    standings: &BTreeMap<usize, Standing>,
    estimate: &Estimate<'_>,
    workers: &Workers,
) -> anyhow::Result<Vec<(usize, f64)>> {
    let mut left: BTreeMap<usize, usize> = BTreeMap::new();
    for at in own.iter().filter(|at| !standings[*at].is_finished()) {
        let line = plan.runs[*at].line;
        if estimate.is_unknown(line, plan) {
            *left.entry(line).or_default() += 1;
        }
    }
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let lines: Vec<&Line> = left.keys().map(|line| &plan.lines[*line]).collect();
    let timed = probe::seconds_per_update(&lines, workers)?;
    let name = |line: &Line| line.config.algorithm.name().to_owned();
    let rows = lines.iter().zip(left.values());
    let rows: Vec<(String, &Line, usize)> = rows
        .map(|(line, runs)| (name(line), *line, *runs))
        .collect();
    whole(probe::table(&rows, &timed).0.text(WIDTH))?;
    let found = left.keys().zip(timed);
    Ok(found
        .filter_map(|(line, seconds)| Some((*line, seconds?)))
        .collect())
}

/// A run and what there is of it.
fn described(plan: &Plan, at: usize, standing: &Standing) -> serde_json::Value {
    let run = &plan.runs[at];
    json!({
        "run": run.folder.display().to_string(),
        "line": plan.line(run).name,
        "seed": run.seed,
        "state": standing.state,
        "updates": standing.updates,
        "total_updates": standing.total,
        "seconds": standing.seconds,
        "last": standing.score,
    })
}

/// Says what failed and what is left, and compares what is there.
fn conclude(
    plan: &Plan,
    own: &[usize],
    fates: &[Fate],
    interrupted: bool,
) -> anyhow::Result<Ended> {
    let Standings { found, damaged } = plan.standings();
    let standings: Vec<Standing> = found.into_values().collect();
    let failed: Vec<(usize, &str)> = own
        .iter()
        .filter_map(|at| match &fates[*at] {
            Fate::Failed(why) => Some((*at, why.as_str())),
            _ => None,
        })
        .collect();
    let finished = own
        .iter()
        .filter(|at| standings[**at].is_finished())
        .count();
    let left = own.len() - finished;
    let elsewhere = standings
        .iter()
        .filter(|standing| !standing.is_finished())
        .count()
        - left;
    let compared = compare::compared(
        std::slice::from_ref(&plan.out),
        &compare::Options::default(),
    );
    match &compared {
        Ok(compared) if !interrupted => {
            let text = wording::report(compared, wording::Form::Text, false);
            whole(&text)?;
            for (name, text) in [
                ("compare.txt", text),
                ("compare.csv", wording::csv(compared)),
            ] {
                let path = plan.own_path(name);
                checkpoint::check_output(&path)?;
                trajformer::sweep::write_table(&path, &text)?;
                say!("wrote {}", path.display())?;
            }
        }
        Ok(_) => {}
        Err(error) => complain(format_args!("no comparison: {error}")),
    }
    say!(
        "{}: {finished} of {} runs finished",
        plan.out.display(),
        own.len()
    )?;
    if elsewhere > 0 {
        say!(
            "of other shards {} not finished; `trajformer compare {}` when all are",
            runs_are(elsewhere),
            trajformer::error::shell_quoted(&plan.out)
        )?;
    }
    for (at, why) in &failed {
        let (name, why) = (plan.name(&plan.runs[*at]), why.replace('\n', "\n    "));
        complain(format_args!(
            "error: {name} failed ({}): {why}",
            plan.log_path(&plan.runs[*at]).display()
        ));
    }
    let own_damaged: Vec<&trajformer::Error> =
        own.iter().filter_map(|at| damaged.get(at)).collect();
    for error in &own_damaged {
        complain(format_args!("error: {error}"));
    }
    let to_do = left - own_damaged.len();
    if to_do > 0 {
        let mended = match failed.len() {
            0 => "",
            _ => ", with those that failed once what is said of them is mended",
        };
        complain(format_args!(
            "{} left; the same command goes on{mended}",
            runs_are(to_do)
        ));
    }
    let runs = own.iter().map(|at| {
        let mut value = described(plan, *at, &standings[*at]);
        if let Fate::Failed(why) = &fates[*at] {
            value["error"] = why.as_str().into();
        }
        if let Some(error) = damaged.get(at) {
            value["error"] = error.to_string().into();
        }
        value
    });
    let json = json!({
        "out": plan.out.display().to_string(),
        "finished": finished,
        "left": left,
        "failed": failed.len(),
        "interrupted": interrupted,
        "runs": runs.collect::<Vec<_>>(),
        "compare": compared.ok().map(serde_json::to_value).transpose()?,
    });
    let code = match (interrupted, left) {
        (true, _) => ExitCode::from(process::INTERRUPTED),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    };
    Ok(Ended { code, json })
}
