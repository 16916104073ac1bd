//! `trajformer train`: one run or a series of seeds, Ctrl-C, and the report at the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use trajformer::compare::alike::{self, History};
use trajformer::config::RunConfig;
use trajformer::data::formats;
use trajformer::error::{Error, shell_quoted};
use trajformer::evaluate;
use trajformer::run::{self, Asked, Failure, RunOptions, Series};
use trajformer::trainer::Outcome;

use crate::cli::count;
use crate::commands::{hints, python_key, ranks, side_by_side};
use crate::output::{self, say};
use crate::process;
use crate::repeated;

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Configuration file, e.g. configs/td3_bc/hopper-medium.toml, which is what the authors ran, or the one of minutes in
    /// configs/td3_bc/short.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub config: Option<PathBuf>,
    /// Run directory to continue, bit for bit; with --out also a checkpoint that one keeps: RUN@50000, RUN@best.
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Change a key: a TOML value, or a bare word as a string. With --resume only how long the run is (train.updates,
    /// online.steps) and its rates fall (decay_updates, actor_decay_updates), which checkpoints it keeps (train.keep,
    /// train.keep_every_updates), when it stops early (train.patience_evaluations), and where it goes on (data.path,
    /// evaluate.python, device).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Train several seeds and report the aggregate: A up to but not including B, so that 0..3 is the seeds 0, 1 and 2, and 3..4 the
    /// seed 3 alone.
    #[arg(long, value_name = "A..B", conflicts_with = "resume")]
    pub seeds: Option<String>,
    /// Seeds that are trained side by side, each by a process of its own with a share of the threads; 1: one after the other, by all threads.
    /// Default: one per core, on a GPU 1. Results don't depend on it.
    #[arg(long, value_name = "N", value_parser = count, requires = "seeds")]
    pub jobs: Option<usize>,
    /// Run directory to make; with --seeds the folder that holds one per seed. Default: runs/ALGORITHM-NAME, by the
    /// configuration file's folder and name. With --resume: leave that run as it is, and go on from its checkpoint in this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// cpu, cuda, cuda:N or metal; default: the configuration's `device`.
    #[arg(long)]
    pub device: Option<String>,
    /// Python interpreter that runs environments of Gymnasium; default: the configuration's `evaluate.python`, else that of the
    /// active virtual environment, else python3.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// End with a checkpoint, as on Ctrl-C, when standard input closes: for programs that start this one, and that a training
    /// must not outlive, e.g. `sleep 60 | trajformer train --until-stdin-closes ...`.
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// Seeds that other processes train in the same folder meanwhile, or may have trained there.
    #[arg(long, value_name = "A..B", hide = true, requires = "seeds")]
    pub beside: Option<String>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Trains, reports, and says with which status to exit.
///
/// # Errors
/// If training fails or the report can't be written.
pub fn run(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    // Seeds side by side are processes that know nothing of each other.
    let ranks = match &args.seeds {
        None => ranks::of_job()?,
        Some(_) => None,
    };
    let options = RunOptions {
        interrupt: process::catch_interrupts(),
        ranks,
        ..RunOptions::default()
    };
    if options.ranks.as_ref().is_some_and(|ranks| ranks.rank() > 0) {
        // The first rank tells.
        return repeated::quietly(|| one_of_several(args, &options));
    }
    if args.until_stdin_closes {
        process::interrupt_when_stdin_closes(&options.interrupt);
    }
    let mut seeds_in = None;
    let mut series = Series::default();
    let overrides = overrides(args);
    if let Some(path) = &args.resume {
        if let Some(out) = &args.out {
            run::branch_with(path, out, &overrides)?;
        }
        let path = args.out.as_ref().unwrap_or(path);
        let outcome = run::resume_with(path, &overrides, &options)?;
        series.outcomes.push((path.clone(), outcome));
    } else if let Some(path) = &args.config {
        check_configuration(path)?;
        if args.seeds.is_some() {
            let names_seed = |text: &&String| text.split('=').next().map(str::trim) == Some("seed");
            if let Some(set) = overrides.iter().find(names_seed) {
                anyhow::bail!(
                    "`--set {set}`: `--seeds` gives every run its seed: leave out one of both"
                );
            }
        }
        let config = RunConfig::load(path, &overrides)?;
        let out = args.out.clone().unwrap_or_else(|| run::default_out(path));
        match &args.seeds {
            None => {
                let outcome = run::start_with(&config, &out, &options)?;
                series.outcomes.push((out, outcome));
            }
            Some(seeds) => {
                let seeds = run::parse_seeds(seeds).context("`--seeds`")?;
                seeds_in = Some((out.clone(), seeds.clone()));
                let beside = args.beside.as_deref().map(run::parse_seeds).transpose()?;
                let beside = beside.as_ref().unwrap_or(&seeds);
                let mut asked = run::check_series(&config, &out, beside, &options)?;
                let given = (args.jobs, &options.interrupt);
                series = match side_by_side::train((&config, path), &seeds, &out, given)? {
                    Some(failures) => {
                        let is_left = |seed: &&u64| failures.iter().all(|one| one.seed != **seed);
                        let whole: Vec<u64> = seeds.iter().filter(is_left).copied().collect();
                        let blank = RunOptions::default();
                        // What they told is told; nothing is trained here.
                        let mut series = repeated::quietly(|| {
                            run::series_so_far(&config, &out, &whole, &blank, &mut asked)
                        });
                        series.failures.extend(failures);
                        series
                    }
                    None => in_turn(&config, &out, &seeds, &options, &mut asked),
                };
            }
        }
    }
    let Series { outcomes, failures } = &series;
    let tried = outcomes.len() + failures.len();
    let wanted = seeds_in.as_ref().map_or(1, |(_, seeds)| seeds.len());
    let interrupted = tried < wanted && options.interrupt.is_set()
        || outcomes.iter().any(|(_, outcome)| outcome.interrupted);
    let report = Report {
        outcomes,
        failures,
        wanted,
        left: seeds_in.map(|(out, seeds)| left(outcomes, &out, &seeds)),
        interrupted,
    };
    let printed = report.print();
    if args.json {
        say!("{}", report.json())?;
    }
    printed?;
    let failed = report.failed();
    match (interrupted, failed) {
        (true, failed) => {
            failed
                .iter()
                .for_each(|text| output::complain(format_args!("error: {text}")));
            Ok(ExitCode::from(match &failed {
                None => process::status_of_interrupted(),
                Some(_) => process::INTERRUPTED,
            }))
        }
        (false, Some(failed)) => anyhow::bail!(failed),
        (false, None) => Ok(ExitCode::SUCCESS),
    }
}

/// The keys that the command sets.
fn overrides(args: &TrainArgs) -> Vec<String> {
    let mut overrides = args.overrides.clone();
    overrides.extend(args.device.iter().map(|device| format!("device={device}")));
    overrides.extend(python_key(args.python.as_deref()));
    overrides
}

/// Trains a run that the first of several ranks makes, or goes on with, and tells about.
fn one_of_several(args: &TrainArgs, options: &RunOptions<'_>) -> anyhow::Result<ExitCode> {
    let overrides = overrides(args);
    let trained = match (&args.resume, &args.config) {
        (Some(path), _) => run::resume_with(args.out.as_ref().unwrap_or(path), &overrides, options),
        (None, Some(path)) => {
            let config = RunConfig::load(path, &overrides)?;
            let out = args.out.clone().unwrap_or_else(|| run::default_out(path));
            run::start_with(&config, &out, options)
        }
        (None, None) => return Ok(ExitCode::SUCCESS),
    };
    match trained {
        Ok(outcome) if outcome.interrupted => Ok(ExitCode::from(process::status_of_interrupted())),
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(Error::OtherRank) => Ok(ExitCode::FAILURE),
        Err(error) => Err(error.into()),
    }
}

/// The seeds whose runs in `out` are not finished.
fn left(outcomes: &[(PathBuf, Outcome)], out: &Path, seeds: &[u64]) -> Vec<u64> {
    let finished = outcomes.iter().filter(|(_, outcome)| !outcome.interrupted);
    let finished: BTreeSet<&PathBuf> = finished.map(|(path, _)| path).collect();
    let is_left = |seed: &&u64| !finished.contains(&out.join(format!("seed-{seed}")));
    seeds.iter().filter(is_left).copied().collect()
}

/// Trains the seeds one after the other.
fn in_turn(
    config: &RunConfig,
    out: &Path,
    seeds: &[u64],
    options: &RunOptions<'_>,
    asked: &mut Asked,
) -> Series {
    repeated::begin();
    let series = run::series_beside(config, out, seeds, options, asked);
    for (text, count) in repeated::end() {
        output::complain(format_args!(
            "{count} of {} runs gave the warning that is shown once: {text}",
            seeds.len()
        ));
    }
    series
}

/// Says what to do with a run or a data set where a configuration is expected.
fn check_configuration(path: &Path) -> anyhow::Result<()> {
    let shown = shell_quoted(path);
    if path.join("config.toml").is_file() {
        anyhow::bail!(
            "{shown} is a run, expected a configuration file: `trajformer train --resume {shown}` goes on with it"
        );
    }
    // A pipe can be read once only.
    let is_data = (path.is_file() || path.is_dir()) && formats::detect(path).is_ok();
    if is_data {
        anyhow::bail!(
            "{shown} is a data set, expected a configuration file: `trajformer train configs/own-data/td3_bc.toml --set data.path={shown}` \
             learns from it; docs/data.md says more"
        );
    }
    if path.is_dir() {
        anyhow::bail!(
            "{shown} is a folder, expected a configuration file, e.g. configs/own-data/td3_bc.toml"
        );
    }
    Ok(())
}

/// Updates per second; of a run that was finished before, evaluations counted.
fn rate(outcome: &Outcome) -> f64 {
    if outcome.updates_per_s > 0.0 || outcome.seconds <= 0.0 {
        outcome.updates_per_s
    } else {
        outcome.update as f64 / outcome.seconds
    }
}

struct Report<'a> {
    outcomes: &'a [(PathBuf, Outcome)],
    failures: &'a [Failure],
    /// How many runs were asked for.
    wanted: usize,
    /// Of seeds those that are not finished.
    left: Option<Vec<u64>>,
    interrupted: bool,
}

impl Report<'_> {
    fn print(&self) -> anyhow::Result<()> {
        for (path, outcome) in self.outcomes {
            say!(
                "{}: {} updates in {:.0} s ({:.1} updates/s, evaluations counted)",
                path.display(),
                outcome.update,
                outcome.seconds,
                outcome.update as f64 / outcome.seconds.max(1e-9)
            )?;
            if let Some(evaluation) = &outcome.evaluation {
                say!("  last: {}", evaluation.summary())?;
            }
            if let Some(best) = &outcome.best {
                let (score, update) = (best.score, best.update);
                say!(
                    "  best evaluation: {score:.1} at update {update}, chosen by this number; the last is the result"
                )?;
            }
            if let Some(lowest) = &outcome.held_out {
                say!(
                    "  lowest loss on held-out episodes: {:.5} at update {}",
                    lowest.loss,
                    lowest.update
                )?;
            }
            if let Some(stop) = outcome.stopped_early {
                say!("  stopped early: {} (`{}`)", stop.reason(), stop.key())?;
            }
            if outcome.interrupted {
                say!(
                    "  interrupted; continue with: trajformer train --resume {}",
                    shell_quoted(path)
                )?;
            }
        }
        for warning in self.warnings() {
            output::complain(format_args!("warning: {warning}"));
        }
        let what = if self.normalized() { "score" } else { "return" };
        let seeds = self.counted().count();
        let scored = self
            .counted()
            .filter(|(_, outcome)| outcome.evaluation.is_some());
        let scored = scored.count();
        if 0 < scored && scored < seeds {
            say!(
                "no mean over seeds: {} of {seeds} have no score",
                seeds - scored
            )?;
        }
        if let (true, Some((mean, std))) = (seeds > 1, self.last(self.normalized())) {
            say!(
                "{what} {mean:.1} ± {std:.1} over {seeds} seeds (last evaluations; ± one standard deviation between seeds)"
            )?;
            if let Some(best) = self.best(self.normalized()) {
                say!(
                    "  best evaluation: {best:.1}, the mean over seeds of each run's highest; the last is the result"
                )?;
            }
        }
        if self.interrupted && self.wanted > 1 {
            let whole = self
                .outcomes
                .iter()
                .filter(|(_, outcome)| !outcome.interrupted);
            let (finished, wanted) = (whole.count(), self.wanted);
            say!(
                "interrupted: {finished} of {wanted} seeds are finished; the same command goes on"
            )?;
        }
        Ok(())
    }

    /// Which seeds failed and why, if any did.
    fn failed(&self) -> Option<String> {
        if self.failures.is_empty() {
            return None;
        }
        let line = |failure: &Failure| {
            let folder = failure.folder.display();
            let error = hints::of_library(&failure.error);
            format!("\n  seed {} ({folder}): {error}", failure.seed)
        };
        let lines: String = self.failures.iter().map(line).collect();
        Some(format!(
            "{} of {} seeds failed; the same command tries them again, once what is said of them is mended:{lines}",
            self.failures.len(),
            self.wanted
        ))
    }

    /// What is missing from tables, and which seeds were not trained as their configuration says, though they share a mean.
    fn warnings(&self) -> Vec<String> {
        let lost = self.outcomes.iter().flat_map(|(path, outcome)| {
            let rows = outcome.lost_rows.iter();
            rows.map(move |lost| format!("{}: {lost}", path.display()))
        });
        let histories: Vec<History<'_>> = self
            .counted()
            .map(|(path, outcome)| History::of_changes(path, &outcome.changed))
            .collect();
        let what = self.folder().map(|folder| folder.display().to_string());
        let about = alike::about(&what.unwrap_or_default(), &histories, &[]);
        lost.chain(about).collect()
    }

    /// The runs that numbers over seeds are of: an interrupted one has no result yet. A run alone says what it has.
    fn counted(&self) -> impl Iterator<Item = &(PathBuf, Outcome)> {
        let is_alone = self.wanted == 1;
        let outcomes = self.outcomes.iter();
        outcomes.filter(move |(_, outcome)| is_alone || !outcome.interrupted)
    }

    fn normalized(&self) -> bool {
        self.counted().all(|(_, outcome)| outcome.normalized)
    }

    /// Mean and standard deviation of the last scores or returns: over several seeds between seeds, of one run
    /// over its episodes. `None` unless every run has one.
    fn last(&self, normalized: bool) -> Option<(f64, f64)> {
        let number = |outcome: &Outcome| {
            let found = outcome.evaluation.as_ref()?;
            if normalized {
                found.score_mean.zip(found.score_std)
            } else {
                Some((found.return_mean, found.return_std))
            }
        };
        let numbers = self.counted().map(|(_, outcome)| number(outcome));
        let numbers = numbers.collect::<Option<Vec<(f64, f64)>>>()?;
        match numbers[..] {
            [] => None,
            [single] => Some(single),
            _ => {
                let means: Vec<f64> = numbers.iter().map(|pair| pair.0).collect();
                Some(evaluate::mean_std(&means))
            }
        }
    }

    /// The best evaluation: a run's highest score or return, of several seeds the mean of those, as `compare` has it. `None` if a run has
    /// none of this kind.
    fn best(&self, normalized: bool) -> Option<f64> {
        let of_run = |(_, outcome): &(PathBuf, Outcome)| {
            let best = outcome.best.filter(|_| outcome.normalized == normalized)?;
            Some(best.score)
        };
        let found: Option<Vec<f64>> = self.counted().map(of_run).collect();
        let found = found.filter(|scores| !scores.is_empty())?;
        Some(evaluate::mean_std(&found).0)
    }

    /// The run, or the folder of all seeds.
    fn folder(&self) -> Option<&Path> {
        let last = self.outcomes.last().map(|(path, _)| path);
        let path = last.or(self.failures.last().map(|failure| &failure.folder))?;
        match self.wanted {
            0..=1 => Some(path),
            _ => Some(path.parent().unwrap_or(path)),
        }
    }

    fn json(&self) -> serde_json::Value {
        let (last, folder) = (self.outcomes.last(), self.folder());
        let shown = |path: &Path| path.display().to_string();
        let (score, returns) = (self.last(true), self.last(false));
        let mut value = json!({
            "run": folder.map(shown),
            "runs": self.outcomes.iter().map(|(path, _)| shown(path)).collect::<Vec<_>>(),
            "updates": last.map(|(_, outcome)| outcome.update),
            "updates_per_s": last.map(|(_, outcome)| rate(outcome)),
            "seconds": self.outcomes.iter().fold(0.0, |sum, (_, outcome)| sum + outcome.seconds),
            "score_mean": score.map(|pair| pair.0),
            "score_std": score.map(|pair| pair.1),
            "score_best": self.best(true),
            "return_mean": returns.map(|pair| pair.0),
            "return_std": returns.map(|pair| pair.1),
            "return_best": self.best(false),
            "interrupted": self.interrupted,
        });
        let early = self
            .outcomes
            .iter()
            .filter(|(_, outcome)| outcome.stopped_early.is_some());
        if let Some(left) = self.left.as_ref().filter(|_| self.interrupted) {
            value["seeds_left"] = left.as_slice().into();
        }
        if early.clone().count() > 0 {
            value["stopped_early"] = early.map(|(path, _)| shown(path)).collect();
        }
        let warnings = self.warnings();
        if !warnings.is_empty() {
            value["warnings"] = warnings.into();
        }
        if !self.failures.is_empty() {
            let failed = self.failures.iter().map(|failure| {
                let (run, error) = (shown(&failure.folder), hints::of_library(&failure.error));
                json!({"seed": failure.seed, "run": run, "error": error})
            });
            value["failed"] = failed.collect();
        }
        value
    }
}
