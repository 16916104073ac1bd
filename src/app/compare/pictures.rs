//! Pictures of a comparison: learning curves, intervals, performance profiles, probabilities of improvement.

use std::path::Path;
use std::str::FromStr;

use crate::app::compare::aggregates::{Estimate, OverTasks, Profile, names};
use crate::app::compare::comparison::Comparison;
use crate::app::compare::lines::Line;
use crate::app::compare::wording::{measure, shown_pairs};
use crate::report::curves::{self, Curves, Dots, Series};
use crate::report::intervals::{self, Colors, Column, Intervals, Mark};
use crate::report::panels::{self, Panel, Panels};
use trajformer_core::error::{Error, Result};

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plot {
    /// Scores while training, a chart per task.
    #[default]
    Curves,
    /// The numbers over seeds and tasks.
    Intervals,
    /// The share of runs above each score.
    Profiles,
    /// Probabilities that one scores higher than another.
    Improvement,
}

/// What learning curves are drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum X {
    /// Minutes of training.
    #[default]
    Time,
    /// Gradient updates.
    Updates,
}

impl FromStr for Plot {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "curves" => Ok(Self::Curves),
            "intervals" => Ok(Self::Intervals),
            "profiles" => Ok(Self::Profiles),
            "improvement" => Ok(Self::Improvement),
            _ => Err("expected curves, intervals, profiles or improvement".to_owned()),
        }
    }
}

impl FromStr for X {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "time" => Ok(Self::Time),
            "updates" => Ok(Self::Updates),
            _ => Err("expected updates or time".to_owned()),
        }
    }
}

impl Plot {
    fn title(self) -> &'static str {
        match self {
            Self::Curves => "Learning curves",
            Self::Intervals => "Last checkpoints",
            Self::Profiles => "Performance profiles",
            Self::Improvement => "Probability of improvement",
        }
    }
}

/// Draws one plot of `found`; `title` is over it instead of the plot's own.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, can't be written, or what is to be drawn is not there: some of the lines have normalised
/// scores and some have not, or there are no numbers over seeds and tasks.
pub fn draw_plot(
    path: &Path,
    title: Option<&str>,
    found: &Comparison,
    plot: Plot,
    x: X,
) -> Result<()> {
    let title = title.unwrap_or(plot.title());
    if plot == Plot::Curves {
        return draw_curves(path, title, &found.lines, x);
    }
    let Some(over) = &found.over_tasks else {
        let why = found.notes.join("; ");
        return Err(Error::Unsuitable(format!(
            "there are no numbers over seeds and tasks to draw: they need runs of several seeds or tasks in one comparison ({why})"
        )));
    };
    match plot {
        Plot::Intervals => draw_intervals(path, title, over),
        Plot::Profiles => draw_profiles(path, title, over),
        _ => draw_improvement(path, title, over),
    }
}

/// Draws the learning curves: scores over minutes of training, with bands of one standard deviation.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, can't be written, or some of the runs have
/// normalised scores and some have not.
pub fn draw(path: &Path, title: &str, lines: &[Line]) -> Result<()> {
    draw_curves(path, title, lines, X::Time)
}

fn draw_curves(path: &Path, title: &str, lines: &[Line], x: X) -> Result<()> {
    if lines
        .iter()
        .any(|line| line.normalized != lines[0].normalized)
    {
        return Err(Error::Unsuitable(
            "some of the runs have normalised scores and some only returns: they don't fit one \
             picture"
                .to_owned(),
        ));
    }
    let unknown = |line: &&Line| line.curve.iter().any(|point| point[1].is_nan());
    if let Some(line) = lines.iter().find(unknown).filter(|_| x == X::Time) {
        return Err(Error::NoSeconds {
            problem: format!(
                "the table of {} on {} does not say how many seconds training took (`seconds`): its curve can be drawn over updates only",
                line.name, line.task
            ),
        });
    }
    let what = match lines.first().map(measure) {
        Some("return") => "return",
        _ => "normalised score",
    };
    let subtitle = curves_subtitle(lines, what);
    let x_label = match x {
        X::Time => "training time (minutes)",
        X::Updates => "updates",
    };
    let mut tasks: Vec<&String> = Vec::new();
    for line in lines {
        if !tasks.contains(&&line.task) {
            tasks.push(&line.task);
        }
    }
    if tasks.len() <= 1 {
        let chart = Curves {
            title: title.to_owned(),
            subtitle,
            x_label: x_label.to_owned(),
            y_label: what.to_owned(),
            series: lines.iter().map(|line| series(line, x)).collect(),
            ..Curves::default()
        };
        return curves::draw(path, &chart);
    }
    let names = names(lines);
    let panel = |task: &&String| {
        let of_name = |name: &String| {
            let mut lines = lines.iter();
            let line = lines.find(|line| line.name == *name && line.task == **task);
            line.map_or_else(
                || Series::line(name.clone(), Vec::new()),
                |line| series(line, x),
            )
        };
        Panel {
            label: (*task).clone(),
            series: names.iter().map(of_name).collect(),
        }
    };
    let charts = Panels {
        title: title.to_owned(),
        subtitle,
        x_label: x_label.to_owned(),
        y_label: what.to_owned(),
        panels: tasks.iter().map(panel).collect(),
    };
    panels::draw(path, &charts)
}

/// Says what the bands are.
fn curves_subtitle(lines: &[Line], what: &str) -> String {
    let (one, several) = (
        lines.iter().any(|line| line.seeds == 1),
        lines.iter().any(|line| line.seeds > 1),
    );
    let over = match (several, one) {
        (true, true) => "seeds, where there is one seed over episodes",
        (true, false) => "seeds",
        _ => "episodes",
    };
    let single = lines.iter().any(|line| line.curve.len() == 1);
    let band = if single { "band or bar" } else { "band" };
    format!("mean {what} of each evaluation, {band}: ± one standard deviation over {over}")
}

fn series(line: &Line, x: X) -> Series {
    let place = |point: &[f64; 4]| match x {
        X::Time => point[1] / 60.0,
        X::Updates => point[0],
    };
    Series {
        label: line.name.clone(),
        points: line
            .curve
            .iter()
            .map(|point| (place(point), point[2]))
            .collect(),
        // A table may not say how far episodes of a run were apart.
        band: (line.curve.iter().all(|p| !p[3].is_nan())).then(|| {
            line.curve
                .iter()
                .map(|p| (p[2] - p[3], p[2] + p[3]))
                .collect()
        }),
        faint: Vec::new(),
        dots: Dots::Few,
    }
}

fn mark(found: &Estimate) -> Mark {
    Mark {
        value: found.value,
        ends: found.interval.map(|interval| (interval.low, interval.high)),
    }
}

/// What the runs are, and where the intervals come from.
fn subtitle(over: &OverTasks, what: &str, interval: &str) -> String {
    let tasks = match &over.tasks[..] {
        [task] => task.clone(),
        tasks => format!("{} tasks", tasks.len()),
    };
    let counts = || {
        over.groups
            .iter()
            .flat_map(|group| group.runs.iter().copied())
    };
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let seeds = match (least, most) {
        (1, 1) => return format!("{what}, {tasks}, one seed: no intervals"),
        _ if least == most => format!("{most} seeds"),
        _ => format!("{least} to {most} seeds"),
    };
    let samples = over.resamples;
    format!(
        "{what}, {tasks}, {seeds}; {interval}: 95 % of {samples} bootstrap samples of the seeds"
    )
}

fn draw_intervals(path: &Path, title: &str, over: &OverTasks) -> Result<()> {
    let column = |label: &str, marks: Vec<Option<Mark>>| Column {
        label: label.to_owned(),
        marks,
        decimals: 1,
        ..Column::default()
    };
    let groups = || over.groups.iter();
    let mut columns = vec![
        column(
            "interquartile mean",
            groups()
                .map(|group| Some(mark(&group.interquartile_mean)))
                .collect(),
        ),
        column(
            "mean",
            groups().map(|group| Some(mark(&group.mean))).collect(),
        ),
    ];
    if over.tasks.len() > 1 {
        columns.push(column(
            "median",
            groups().map(|group| Some(mark(&group.median))).collect(),
        ));
    }
    if over.normalized {
        let gaps = groups().map(|group| group.optimality_gap.as_ref().map(mark));
        columns.push(column("optimality gap (less is better)", gaps.collect()));
    }
    let what = if over.normalized {
        "normalised score"
    } else {
        "return"
    };
    let chart = Intervals {
        title: title.to_owned(),
        subtitle: subtitle(over, what, "bar"),
        rows: groups().map(|group| group.name.clone()).collect(),
        columns,
        colors: Colors::ByRow,
    };
    intervals::draw(path, &chart)
}

fn draw_profiles(path: &Path, title: &str, over: &OverTasks) -> Result<()> {
    let series = |profile: Profile| Series {
        points: steps(&profile.thresholds, &profile.shares),
        band: profile.band.map(|band| {
            let low: Vec<f64> = band.iter().map(|ends| ends.low).collect();
            let high: Vec<f64> = band.iter().map(|ends| ends.high).collect();
            let high = steps(&profile.thresholds, &high);
            let low = steps(&profile.thresholds, &low).into_iter();
            low.zip(high).map(|(low, high)| (low.1, high.1)).collect()
        }),
        label: profile.name,
        faint: Vec::new(),
        dots: Dots::None,
    };
    let what = if over.normalized {
        "normalised score"
    } else {
        "return"
    };
    let chart = Curves {
        title: title.to_owned(),
        subtitle: subtitle(over, "share of runs above each score", "band"),
        x_label: format!("{what} of the last checkpoint"),
        y_label: "share of runs with a higher score".to_owned(),
        series: over.profiles().into_iter().map(series).collect(),
        ..Curves::default()
    };
    curves::draw(path, &chart)
}

/// Corners of the line that keeps each value until the next place.
fn steps(places: &[f64], values: &[f64]) -> Vec<(f64, f64)> {
    let mut corners = Vec::new();
    for (index, (&place, &value)) in places.iter().zip(values).enumerate() {
        corners.push((place, value));
        if let Some(&next) = places.get(index + 1) {
            corners.push((next, value));
        }
    }
    corners
}

fn draw_improvement(path: &Path, title: &str, over: &OverTasks) -> Result<()> {
    if over.improvements.is_empty() {
        return Err(Error::Unsuitable(
            "a probability of improvement needs two groups of runs on one task".to_owned(),
        ));
    }
    let pairs: Vec<_> = shown_pairs(over)
        .into_iter()
        .map(|pair| &over.improvements[pair])
        .collect();
    let chart = Intervals {
        title: title.to_owned(),
        subtitle: subtitle(over, "a run of the first scores higher", "bar"),
        rows: pairs
            .iter()
            .map(|pair| format!("{} over {}", pair.better, pair.worse))
            .collect(),
        columns: vec![Column {
            label: "probability".to_owned(),
            marks: pairs
                .iter()
                .map(|pair| Some(mark(&pair.over_tasks)))
                .collect(),
            decimals: 2,
            reference: Some(0.5),
            range: Some((0.0, 1.0)),
        }],
        colors: Colors::One,
    };
    intervals::draw(path, &chart)
}
