//! `trajformer compare`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use trajformer::compare::comparison::{RESAMPLES, Sort, parse_label};
use trajformer::compare::pictures::{Plot, X, draw_plot};
use trajformer::compare::wording::{self, Form};
use trajformer::compare::{self, Options, score_tables};
use trajformer::{checkpoint, hub, report};

use crate::cli::count;
use crate::output::{complain, say, whole};

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run directories, folders that hold one per seed, folders of such folders, hf://ID of published runs, or tables of scores (FILE.csv).
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// One line for all runs with one value of this key, per task (data set and environment); `algorithm`, or any key of the
    /// configuration. Repeatable. Default: a line per run or folder of seeds.
    #[arg(long, value_name = "KEY", conflicts_with = "metric")]
    pub by: Vec<String>,
    /// Configuration keys with a column; `all`: all that differ. Default: the first four that differ.
    #[arg(
        long,
        value_name = "KEY,...",
        value_delimiter = ',',
        conflicts_with = "metric"
    )]
    pub keys: Vec<String>,
    /// Other names for lines, e.g. a=ours. Lines of one name on several tasks are summed up together.
    #[arg(long, value_name = "NAME=LABEL,...", value_delimiter = ',', value_parser = parse_label, conflicts_with = "metric")]
    pub labels: Vec<(String, String)>,
    /// Another name for one line; may hold commas. Repeatable.
    #[arg(long, value_name = "NAME=LABEL", value_parser = parse_label, conflicts_with = "metric")]
    pub label: Vec<(String, String)>,
    /// Order of the lines: name, algorithm, task, last, best, updates or seconds; scores from high to low. Default: as named.
    #[arg(long, value_name = "COLUMN", conflicts_with = "metric")]
    pub sort: Option<Sort>,
    /// Bootstrap samples of every interval.
    #[arg(long, value_name = "N", default_value_t = RESAMPLES, value_parser = count, conflicts_with = "metric")]
    pub resamples: usize,
    /// Draw scores over training time, or what --plot says, or the metric over updates.
    #[arg(long, value_name = "FILE.svg|png")]
    pub picture: Option<PathBuf>,
    /// What is drawn: curves, intervals, profiles or improvement. Default: curves.
    #[arg(
        long,
        value_name = "PLOT",
        requires = "picture",
        conflicts_with = "metric"
    )]
    pub plot: Option<Plot>,
    /// What curves are drawn over: updates or time. Default: time.
    #[arg(long, value_name = "AXIS", requires = "picture", conflicts_with_all = ["metric"])]
    pub x: Option<X>,
    /// Instead of scores: a column of metrics.csv, e.g. q_policy_mean.
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// Title of the picture. Default: what it shows.
    #[arg(long, requires = "picture")]
    pub title: Option<String>,
    /// Also write the lines with all their numbers as comma-separated values; `-`: to standard output instead of the tables.
    #[arg(long, value_name = "FILE", conflicts_with = "metric")]
    pub csv: Option<PathBuf>,
    /// Also write the numbers over runs and tasks as comma-separated values: mean, median, interquartile mean, optimality gap and
    /// probabilities of improvement, with their intervals.
    #[arg(long, value_name = "FILE", conflicts_with = "metric")]
    pub aggregates: Option<PathBuf>,
    /// Also write every evaluation of every run as comma-separated values: a table that `compare` reads in the runs' place.
    #[arg(long, value_name = "FILE.csv", conflicts_with = "metric")]
    pub evaluations: Option<PathBuf>,
    /// Print tables as Markdown; with --by a row per task and a column per group.
    #[arg(long, conflicts_with_all = ["latex", "metric"])]
    pub markdown: bool,
    /// Print tables as LaTeX, for `booktabs`; with --by a row per task and a column per group.
    #[arg(long, conflicts_with = "metric")]
    pub latex: bool,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.picture {
        report::check_path(path)?;
    }
    let files = args.csv.iter().filter(|path| **path != Path::new("-"));
    if let Some(path) = args
        .evaluations
        .as_ref()
        .filter(|path| !score_tables::is_table(path))
    {
        anyhow::bail!(
            "`--evaluations {}`: a table of scores is a file that ends in .csv",
            path.display()
        );
    }
    let outputs: Vec<&PathBuf> = files
        .chain(&args.aggregates)
        .chain(&args.picture)
        .chain(&args.evaluations)
        .collect();
    for (at, path) in outputs.iter().enumerate() {
        checkpoint::check_output(path)?;
        let place = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        if outputs[..at]
            .iter()
            .any(|other| place(other) == place(path))
        {
            anyhow::bail!(
                "{} is to be written twice: give each output a file of its own",
                path.display()
            );
        }
        if args
            .runs
            .iter()
            .any(|run| run.is_file() && place(run) == place(path))
        {
            anyhow::bail!(
                "{} is read here and would be written over: choose another file",
                path.display()
            );
        }
    }
    if let Some(name) = &args.metric {
        return compare_metric(args, name);
    }
    let plot = args.plot.unwrap_or_default();
    if args.x.is_some() && plot != Plot::Curves {
        anyhow::bail!("`--x` is the axis of curves: leave it out, or draw `--plot curves`");
    }
    let options = Options {
        by: args.by.clone(),
        keys: args.keys.clone(),
        labels: [&args.labels[..], &args.label[..]].concat(),
        sort: args.sort,
        resamples: args.resamples,
    };
    let found = compare::compared(&local_runs(args)?, &options)?;
    if let (Some(path), None) = (&args.aggregates, &found.over_tasks) {
        let reasons = found.notes.join("; ");
        let reasons = if reasons.is_empty() {
            "one run is no sample".to_owned()
        } else {
            reasons
        };
        anyhow::bail!(
            "`--aggregates {}`: there are no numbers over runs and tasks: {reasons}",
            path.display()
        );
    }
    if let Some(path) = &args.picture {
        let title = args.title.as_deref();
        draw_plot(path, title, &found, plot, args.x.unwrap_or_default())?;
    }
    let to_output = args.csv.as_deref() == Some(Path::new("-"));
    if to_output {
        whole(wording::csv(&found))?;
        found
            .notes
            .iter()
            .for_each(|note| complain(format_args!("note: {note}")));
    } else {
        let form = match (args.markdown, args.latex) {
            (true, _) => Form::Markdown,
            (_, true) => Form::Latex,
            _ => Form::Text,
        };
        whole(wording::report(&found, form, !args.by.is_empty()))?;
    }
    let written = args.csv.as_ref().filter(|_| !to_output);
    if let Some(path) = written {
        wording::write_csv(&found, path)?;
    }
    let aggregates = args.aggregates.as_ref().zip(found.over_tasks.as_ref());
    if let Some((path, over)) = aggregates {
        wording::write_aggregates(over, path)?;
    }
    if let Some(path) = &args.evaluations {
        score_tables::write(&found.cells, path)?;
    }
    for path in written
        .into_iter()
        .chain(&args.aggregates)
        .chain(&args.evaluations)
        .chain(&args.picture)
    {
        // What is printed stays a table that can be pasted.
        if to_output || args.markdown || args.latex {
            complain(format_args!("wrote {}", path.display()));
        } else {
            say!("wrote {}", path.display())?;
        }
    }
    if args.json {
        let mut value = serde_json::to_value(&found)?;
        if let (Plot::Profiles, Some(over)) = (plot, &found.over_tasks) {
            value["profiles"] = serde_json::to_value(over.profiles())?;
        }
        say!("{value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn local_runs(args: &CompareArgs) -> anyhow::Result<Vec<PathBuf>> {
    let folders = args.runs.iter().map(|run| hub::local(run));
    Ok(folders.collect::<trajformer::Result<_>>()?)
}

fn compare_metric(args: &CompareArgs, name: &str) -> anyhow::Result<ExitCode> {
    let lines = compare::metric::metric(&local_runs(args)?, name)?;
    say!("updates  {name:<14}  largest         data's return   run")?;
    for line in &lines {
        let data = line.return_to_go.map(|value| format!("{value:.4}"));
        say!(
            "{:7}  {:<14.4}  {:<14.4}  {:<14}  {}",
            line.update,
            line.last,
            line.largest,
            data.unwrap_or_else(|| "-".to_owned()),
            line.run.display()
        )?;
    }
    for line in lines.iter().filter(|line| line.left_out > 0) {
        complain(format_args!(
            "note: {}: {} values of `{name}` are NaN or infinite and left out",
            line.run.display(),
            line.left_out
        ));
    }
    if let Some(path) = &args.picture {
        let title = args.title.as_deref().unwrap_or("Learning curves");
        compare::metric::draw(path, title, name, &lines)?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        say!("{}", json!({ "metric": name, "runs": lines }))?;
    }
    Ok(ExitCode::SUCCESS)
}
