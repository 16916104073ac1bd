//! [`report`]: runs as one page that needs nothing else: tables, learning curves, diagnostics, data, configurations, and
//! episodes that can be scrubbed. What the page gets is in [`contract`]; how it looks is in
//! [`page`](crate::report::page).

pub mod contract;
pub mod data_picture;
mod data_set;
pub(crate) mod episodes;
mod health;
mod runs;
mod thin;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::app::about::features;
use crate::app::checkpoint::check_output;
use crate::app::checkpoint::origin::Origin;
use crate::app::compare::tables::shortened;
use crate::app::config::sections::EvaluateConfig;
use crate::app::run;
use crate::envs;
use crate::report::page;
use contract::{FORMAT, Made, Report, Run};
use episodes::Recorded;
use runs::Named;
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};

/// Points of all curves of `metrics.csv` together, and of one.
const MOST_POINTS: usize = 40_000;
const POINTS_PER_CURVE: usize = 600;
/// Numbers of all plans together.
const MOST_PLAN_NUMBERS: usize = 80_000;
/// Episodes that are recorded of a run where nothing else is asked for.
const USUAL_EPISODES: usize = 2;
/// Letters of a name in a heading.
const LONGEST_NAME: usize = 60;
/// Episodes that are recorded of a run at most: each has its place in the page.
const MOST_EPISODES: usize = 20;

/// What is asked of a report; by default two episodes of each series, where they can be made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReportOptions {
    /// Its heading; default: the names of the series.
    pub title: Option<String>,
    /// Episodes to record of the first run of each series, in the environment of its evaluations; 0: none. Default: 2
    /// where the environment can be made.
    pub episodes: Option<usize>,
    /// Data to show in place of what the runs name.
    pub data: Vec<PathBuf>,
    /// Python interpreter for environments of Gymnasium, in place of the runs' own.
    pub python: Option<PathBuf>,
}

/// Collects a report of `runs`: run directories, or folders with one per seed.
///
/// # Errors
/// If there is no run, none can be read, data that is asked for can't be read, or episodes that are asked for can't be made.
pub fn report(runs: &[PathBuf], options: &ReportOptions) -> Result<Report> {
    if options.episodes.is_some_and(|count| count > MOST_EPISODES) {
        return Err(Error::Unsuitable(format!(
            "a report holds at most {MOST_EPISODES} episodes of each series; an evaluation can record any number"
        )));
    }
    let mut notes = Vec::new();
    let named = runs::open(runs, &mut notes)?;
    let Some(first) = named.first() else {
        return Err(Error::Unsuitable(
            "a report needs at least one run".to_owned(),
        ));
    };
    let curves = runs::curves(&named);
    let points = (MOST_POINTS / curves.max(1)).clamp(20, POINTS_PER_CURVE);
    let (series, mut all) = runs::collect(&named, points, &mut notes)?;
    notes.extend(runs::unequal(&named));
    for note in &notes {
        tracing::warn!("{note}");
    }
    if all.iter().any(|run| run.metrics.rows > points) {
        notes.push(format!(
            "Of each column of metrics.csv at most {points} points are kept, the lowest and highest of each stretch among them."
        ));
    }
    let folders = named.iter().flat_map(|named| &named.folders);
    let data = if options.data.is_empty() {
        let pairs: Vec<_> = folders.map(|folder| &folder.config).zip(&all).collect();
        data_set::of_runs(&pairs)
    } else {
        vec![data_set::given(
            &options.data,
            &first.folders[0].config,
            &all[0],
        )?]
    };
    let starts: Vec<usize> = series.iter().map(|series| series.runs[0]).collect();
    add_tokens(&named, (&starts, &options.data), &mut all, &mut notes);
    notes.extend(add_episodes(&named, &starts, options, &mut all)?);
    if all
        .iter()
        .flat_map(|run| &run.episodes)
        .any(|episode| episode.every > 1)
    {
        notes.push("Of long episodes about 200 steps are kept, evenly spaced.".to_owned());
    }
    let environments = all.iter().flat_map(|run| &run.episodes);
    let mazes: BTreeMap<_, _> = environments
        .filter_map(|episode| Some((episode.env.clone(), episodes::maze(&episode.env)?)))
        .collect();
    let names: Vec<&str> = series.iter().map(|series| series.name.as_str()).collect();
    Ok(Report {
        format: FORMAT,
        title: options.title.clone().unwrap_or_else(|| titled(&names)),
        made: Made {
            origin: Origin::now(),
            features: features(),
        },
        notes,
        series,
        runs: all,
        data,
        mazes,
    })
}

fn titled(names: &[&str]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| shortened(name, LONGEST_NAME))
        .collect();
    match &names[..] {
        [first, second, third, _, ..] => {
            format!("{first}, {second}, {third} and {} more", names.len() - 3)
        }
        _ => names.join(", "),
    }
}

/// Writes a report as a page; the file is there as a whole or not at all.
///
/// # Errors
/// If it can't be written.
pub fn write(path: &Path, report: &Report) -> Result<()> {
    let data = serde_json::to_value(report);
    let data = data.map_err(Error::internal)?;
    write_atomically(path, page::document(&report.title, &data).as_bytes())
}

/// Fails if a report can't be written to `path`, before long work begins.
///
/// # Errors
/// If it is a folder, a link, a device or a file of a run directory, or its folder can't be made or written to, or its name does not end
/// in `.html`.
pub fn check_place(path: &Path) -> Result<()> {
    if path.is_dir() {
        let problem = "a folder: name the file to write, e.g. report.html";
        return Err(Error::data(path, problem));
    }
    check_output(path)?;
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.unwrap_or_default().to_ascii_lowercase();
    if !["html", "htm"].contains(&ending.as_str()) {
        return Err(Error::data(
            path,
            "a report is a page of HTML: give a name that ends in .html",
        ));
    }
    Ok(())
}

/// Says of the first run of each series how well it tells tokens, if it tells any. A report has enough else to show where that is not known.
fn add_tokens(
    named: &[Named],
    (starts, given): (&[usize], &[PathBuf]),
    runs: &mut [Run],
    notes: &mut Vec<String>,
) {
    let mut read = tokens::Read::default();
    for (named, &start) in named.iter().zip(starts) {
        let folder = &named.folders[0];
        let has_weights = folder.lost_state().is_none() && runs[start].done > 0;
        if !has_weights || !tokens::tells_tokens(&folder.config) {
            continue;
        }
        match tokens::tokens(folder, given, &mut read) {
            Ok(found) => runs[start].tokens = found,
            Err(error) => {
                let problem = format!("{}: no accuracy of its tokens: {error}", runs[start].path);
                tracing::warn!("{problem}");
                notes.push(problem);
            }
        }
    }
}

/// Records episodes of the first run of each series, whose places in `runs` are `starts`; returns what is wrong with runs that can't be
/// opened, whose weights are damaged, say: the others are recorded.
fn add_episodes(
    named: &[Named],
    starts: &[usize],
    options: &ReportOptions,
    runs: &mut [Run],
) -> Result<Vec<String>> {
    let asked = options.episodes;
    let count = asked.unwrap_or(USUAL_EPISODES);
    if count == 0 {
        for &start in starts {
            runs[start].episodes_missing = Some("No episodes were asked for.".to_owned());
        }
        return Ok(Vec::new());
    }
    let mut recorded: Vec<(usize, Vec<Recorded>)> = Vec::new();
    let mut failed: Vec<(usize, Error)> = Vec::new();
    let mut unfit = None;
    for (named, &start) in named.iter().zip(starts) {
        let mut evaluate = named.folders[0].config.evaluation();
        if let Some(python) = &options.python {
            evaluate.python = Some(python.clone());
        }
        match can_record(&named.folders[0], &runs[start], &evaluate) {
            Ok(()) => {}
            Err(Error::Unsuitable(problem)) => {
                tracing::warn!("{problem}");
                runs[start].episodes_missing = Some(problem.clone());
                unfit = Some(Error::Unsuitable(problem));
                continue;
            }
            Err(error) => return Err(error),
        }
        let (path, name) = (&named.folders[0].path, named.folders[0].name());
        let env = runs[start].env.as_deref().unwrap_or_default();
        tracing::info!("{name}: recording {count} episodes of {env}");
        let rows = run::open(path, &[]).and_then(|mut trained| {
            trained.config.evaluate.python = evaluate.python;
            episodes::record(&mut trained, count)
        });
        match rows {
            Ok(rows) => recorded.push((start, rows)),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => failed.push((start, error)),
        }
    }
    if asked.is_some()
        && recorded.is_empty()
        && let Some(error) = failed.pop().map(|(_, error)| error).or(unfit)
    {
        return Err(error);
    }
    let planned = recorded.iter().flat_map(|(_, rows)| rows);
    let planned = planned.filter(|episode| episode.is_planned()).count();
    for (start, rows) in recorded {
        let thinned = rows
            .iter()
            .map(|row| row.thinned(MOST_PLAN_NUMBERS / planned.max(1)));
        runs[start].episodes = thinned.collect();
    }
    let mut notes = Vec::new();
    for (start, error) in failed {
        let problem = format!("{}: no episodes: {error}", runs[start].path);
        tracing::warn!("{problem}");
        runs[start].episodes_missing = Some(problem.clone());
        notes.push(problem);
    }
    Ok(notes)
}

/// Fails if a run can't act in the environment of its evaluations.
///
/// # Errors
/// [`Error::Unsuitable`]: why, and what to do.
fn can_record(folder: &runs::Folder, run: &Run, evaluate: &EvaluateConfig) -> Result<()> {
    let name = folder.name();
    let Some(env) = &run.env else {
        return Err(Error::Unsuitable(format!(
            "{name}: no episodes, the run names no environment: train it with `evaluate.env` set."
        )));
    };
    if let Some(lost) = folder.lost_state() {
        return Err(Error::Unsuitable(format!("{name}: no episodes: {lost}")));
    }
    if run.done == 0 {
        return Err(Error::Unsuitable(format!(
            "{name}: no episodes, the run has no checkpoint yet: train it first."
        )));
    }
    match envs::make_with(env, &evaluate.gym_options()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Unsuitable(format!("{name}: no episodes, {error}."))),
    }
}
