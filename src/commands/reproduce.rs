//! `trajformer reproduce`: papers' own configurations as a sweep, and a verdict per score.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use trajformer::bench::{UpdateOptions, Updates};
use trajformer::checkpoint::{check_output, fingerprint};
use trajformer::reproduce::{NAMES, Reproduction, Request, table};
use trajformer::run::parse_seeds;
use trajformer::sweep::{Line, write_table};

use crate::commands::sweep::show::duration;
use crate::commands::sweep::{Defaults, TrainingArgs, train, workers};
use crate::output::{complain, say, whole};

/// Width of the table's caption.
const WIDTH: usize = 110;
/// How long updates of an algorithm are timed.
const SECONDS: f64 = 0.1;
/// Stack of the threads that are timed: gradients of deep graphs recurse.
const STACK_BYTES: usize = 8 << 20;

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
    /// Seeds, A up to but not including B.
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
        complain("nothing was trained: add `--yes` to begin");
        return Ok(ExitCode::FAILURE);
    }
    let ended = train(&reproduction.plan, &args.training, &Defaults::default())?;
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
    for (data, file) in reproduction.data() {
        let is_there = if file.exists() { "there" } else { "MISSING" };
        say!(
            "  {:<28} {:>9} steps  {is_there}: {}",
            data.d4rl_name(),
            data.steps,
            file.display()
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
    let workers = workers(&args.training, &Defaults::default(), plan.runs.len());
    let device = workers
        .devices
        .first()
        .cloned()
        .unwrap_or_else(|| "cpu".to_owned());
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(workers.threads)
        .stack_size(STACK_BYTES)
        .build()?;
    let mut timed: BTreeMap<(String, usize), f64> = BTreeMap::new();
    complain("timing a few updates of every algorithm ...");
    let (mut seconds, mut episodes) = (0.0, 0);
    let mut by_algorithm: BTreeMap<&str, f64> = BTreeMap::new();
    for line in &plan.lines {
        let options = timing(line, &device)?;
        let key = (options.overrides.join(" "), options.observations);
        let per_update = match timed.get(&key) {
            Some(known) => *known,
            None => {
                let found = pool.install(|| seconds_per_update(&options))?;
                timed.insert(key, found);
                found
            }
        };
        let (updates, seeds) = (line.config.total_updates(), line.seeds.len());
        let needed = updates as f64 * per_update * seeds as f64;
        seconds += needed;
        let folder = line
            .source
            .iter()
            .nth(1)
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        *by_algorithm.entry(folder).or_default() += needed;
        let evaluate = &line.config.evaluate;
        episodes +=
            updates.div_ceil(evaluate.every_updates.max(1)) as usize * evaluate.episodes * seeds;
    }
    let mut parts: Vec<(&str, f64)> = by_algorithm.into_iter().collect();
    parts.sort_by(|left, right| right.1.total_cmp(&left.1));
    let parts: Vec<String> = parts
        .iter()
        .map(|(name, seconds)| format!("{name} {}", duration(*seconds)))
        .collect();
    say!(
        "Time on this machine, {} side by side with {} thread(s) each: about {} for the updates alone ({} one after the other: {}), and \
         {episodes} episodes of up to 1000 steps for the scores",
        workers.jobs,
        workers.threads,
        duration(seconds / workers.jobs as f64),
        duration(seconds),
        parts.join(", ")
    )
}

/// The mean time of an update, of as few as say something: those of the largest ensembles take seconds.
fn seconds_per_update(options: &UpdateOptions) -> trajformer::Result<f64> {
    // What is said of the data is said of made-up data.
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
        let mut updates = Updates::new(options)?;
        updates.step()?;
        let (begin, mut done) = (Instant::now(), 0);
        // Both of a pair: what happens at every second update has its share.
        while done == 0 || begin.elapsed().as_secs_f64() < options.seconds {
            updates.step()?;
            updates.step()?;
            done += 2;
        }
        Ok(begin.elapsed().as_secs_f64() / f64::from(done))
    })
}

/// How updates of a line are timed: its own settings, on made-up data of the robot's sizes.
fn timing(line: &Line, device: &str) -> anyhow::Result<UpdateOptions> {
    let algorithm = line.config.algorithm.name();
    let front = format!("algorithm.{algorithm}.");
    let settings = fingerprint::all_settings(&line.config)?;
    let overrides = settings
        .iter()
        .filter_map(|(key, value)| Some(format!("{}={value}", key.strip_prefix(&front)?)));
    let is_hopper = line
        .config
        .evaluate
        .env
        .as_deref()
        .is_some_and(|env| env.starts_with("hopper"));
    let (observations, actions) = if is_hopper { (11, 3) } else { (17, 6) };
    Ok(UpdateOptions {
        algorithm: algorithm.to_owned(),
        batch: None,
        observations,
        actions,
        overrides: overrides.collect(),
        device: device.to_owned(),
        seconds: SECONDS,
    })
}
