//! `trajformer reproduce`: papers' own configurations as a sweep, and a verdict per score.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use trajformer::checkpoint::check_output;
use trajformer::data::formats::d4rl_hdf5;
use trajformer::reproduce::{NAMES, Reproduction, Request, table};
use trajformer::run::parse_seeds;
use trajformer::sweep::{Line, Plan, write_table};

use crate::commands::probe;
use crate::commands::sweep::children::Wanted;
use crate::commands::sweep::show::duration;
use crate::commands::sweep::{TrainingArgs, train, workers};
use crate::output::{complain, say, whole};

/// Width of the table's caption.
const WIDTH: usize = 110;
/// Arguments of `reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// What is reproduced: d4rl-locomotion (hopper, halfcheetah and walker2d; medium, medium-replay and medium-expert).
    pub name: String,
    /// Algorithms, as folders of configs/. Default: all that have published scores.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub algorithms: Vec<String>,
    /// Data sets, e.g. hopper-medium,walker2d-medium. Default: all nine.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub datasets: Vec<String>,
    /// Seeds: A up to but not including B, so that 0..3 is the seeds 0, 1 and 2.
    #[arg(long, value_name = "A..B", default_value = "0..5")]
    pub seeds: String,
    /// Updates of every run instead of the papers', for a trial: no score is comparable then.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub updates: Option<u64>,
    /// Folder of D4RL's files, under their own names (hopper_medium-v2.hdf5) or as configurations call them (hopper-medium.hdf5).
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Folder of all runs. Default: runs/NAME.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Begin; without it only what is needed is said.
    #[arg(long)]
    pub yes: bool,
    /// How runs are trained.
    #[command(flatten)]
    pub training: TrainingArgs,
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &ReproduceArgs) -> anyhow::Result<ExitCode> {
    let request = Request {
        name: args.name.clone(),
        algorithms: args.algorithms.clone(),
        datasets: args.datasets.clone(),
        seeds: parse_seeds(&args.seeds).context("`--seeds`")?,
        updates: args.updates,
        data_dir: args.data_dir.clone(),
    };
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(&args.name));
    let reproduction = Reproduction::new(&request, &out)?;
    let trains = args.training.trains();
    if trains || !args.yes {
        say_needs(&reproduction, args)?;
    }
    if trains && !args.yes {
        if args.training.json {
            say!("{}", planned(&reproduction))?;
        }
        complain("nothing was trained: add `--yes` to begin");
        return Ok(ExitCode::FAILURE);
    }
    let ended = train(&reproduction.plan, &args.training, &Wanted::default())?;
    let Some(mut ended) = ended else {
        return Ok(ExitCode::SUCCESS);
    };
    let judged = reproduction.judged()?;
    let text = table(&judged).text(WIDTH);
    whole(format!("\n{text}"))?;
    let mut sources = String::new();
    for (algorithm, source, note) in reproduction.sources() {
        let note = if note.is_empty() {
            String::new()
        } else {
            format!("; {note}")
        };
        sources.push_str(&format!("{algorithm}: {source}{note}\n"));
    }
    whole(&sources)?;
    let path = reproduction.plan.own_path("verdicts.txt");
    check_output(&path)?;
    write_table(&path, &format!("{text}\n{sources}"))?;
    say!("wrote {}", path.display())?;
    if args.training.json {
        ended.json["verdicts"] = serde_json::to_value(&judged)?;
        say!("{}", ended.json)?;
    }
    Ok(ended.code)
}

/// What would be trained and which data is not there, as JSON.
fn planned(reproduction: &Reproduction) -> serde_json::Value {
    let plan = &reproduction.plan;
    let missing = reproduction.data().into_iter();
    let missing = missing.filter(|(_, file)| !file.exists());
    serde_json::json!({
        "planned_runs": plan.runs.len(),
        "configurations": plan.lines.len(),
        "episodes": episodes(plan),
        "missing_data": missing.map(|(_, file)| file).collect::<Vec<_>>(),
    })
}

/// Episodes that the runs are scored by in all.
fn episodes(plan: &Plan) -> u64 {
    let of_line = |line: &Line| {
        line.config.evaluations() * line.config.evaluate.episodes as u64 * line.seeds.len() as u64
    };
    plan.lines.iter().map(of_line).sum()
}

/// What is needed, and how long it takes.
fn say_needs(reproduction: &Reproduction, args: &ReproduceArgs) -> anyhow::Result<()> {
    let plan = &reproduction.plan;
    say!(
        "{}: {} runs, {} configurations as their authors or CORL run them, seeds {}",
        NAMES[0],
        plan.runs.len(),
        plan.lines.len(),
        args.seeds
    )?;
    say!("Data, D4RL's of version 2 (`trajformer data pull NAME` fetches one):")?;
    let mut others = 0;
    for (data, file) in reproduction.data() {
        let there = match (file.exists(), d4rl_hdf5::rows(&file)) {
            (false, _) => "MISSING".to_owned(),
            (true, Ok(steps)) if !data.is_size(steps) => {
                others += 1;
                format!("there, with {steps} steps, NOT D4RL's")
            }
            (true, Ok(_)) => "there".to_owned(),
            (true, Err(error)) => format!("there, but can't be read ({error})"),
        };
        let (name, path) = (data.d4rl_name(), file.display());
        say!("  {name:<28} {:>9} steps  {there}: {path}", data.steps)?;
    }
    if others > 0 {
        say!(
            "  {others} of another size than D4RL's: no score of runs that learn from such data will be comparable"
        )?;
    }
    let robots = match trajformer::envs::make("hopper-v4") {
        Ok(_) => "found".to_owned(),
        Err(error) => format!("NOT found: {error}; `trajformer setup mujoco` installs it"),
    };
    say!("MuJoCo for the scores, {robots}; environments are -v4, D4RL's scores are of -v2")?;
    say!("Scores are compared with:")?;
    for (algorithm, source, note) in reproduction.sources() {
        let note = if note.is_empty() {
            String::new()
        } else {
            format!("; {note}")
        };
        say!("  {algorithm}: {source}{note}")?;
    }
    if let Some(updates) = args.updates {
        say!("Shortened to {updates} updates: no score will be comparable")?;
    }
    say_time(reproduction, args)
}

/// The time of all updates, from a few that are timed here.
fn say_time(reproduction: &Reproduction, args: &ReproduceArgs) -> anyhow::Result<()> {
    let plan = &reproduction.plan;
    let workers = workers(plan, &args.training, &Wanted::default(), plan.runs.len());
    let lines: Vec<&Line> = plan.lines.iter().collect();
    let timed = probe::seconds_per_update(&lines, &workers)?;
    let mut runs = Vec::new();
    for line in &plan.lines {
        let folder = line.source.iter().nth(1);
        let folder = folder.map(|name| name.to_string_lossy().into_owned());
        runs.push((folder.unwrap_or_default(), line, line.seeds.len()));
    }
    let (table, seconds) = probe::table(&runs, &timed);
    say!("Time of the updates alone on this machine, from a few of them:")?;
    whole(table.text(WIDTH))?;
    let all = match seconds {
        Some(seconds) => format!(
            "about {} with {} side by side, {} thread(s) each",
            duration(seconds / workers.jobs as f64),
            workers.jobs,
            workers.threads
        ),
        None => "known once the others are timed: the same command goes on with them".to_owned(),
    };
    say!(
        "In all: {all}; and {} episodes of up to 1000 steps for the scores",
        episodes(plan)
    )
}
