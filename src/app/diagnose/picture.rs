//! A diagnosis as a picture.

use std::path::Path;

use crate::app::diagnose::aims::ActionErrors;
use crate::app::diagnose::codes::Codes;
use crate::app::diagnose::episodes::Arm;
use crate::app::diagnose::found::Diagnosis;
use crate::app::diagnose::tokens::Tokens;
use crate::report::figure;
use crate::report::figure::{Figure, Panel, Row, Shape};
use trajformer_core::error::Result;

/// Draws it.
///
/// # Errors
/// If the file can't be written or its ending is neither `.svg` nor `.png`.
pub fn draw(path: &Path, found: &Diagnosis, title: &str) -> Result<()> {
    let mut panels = vec![returns(found)];
    panels.extend(imagined(found));
    panels.extend(promised(found));
    panels.extend(tokens(found));
    panels.extend(codes(found));
    panels.extend(aims(found));
    panels.extend(actions(found));
    let figure = Figure {
        title: title.to_owned(),
        subtitle: format!(
            "{}{}; bars are 95 % intervals of means over episodes{}",
            found.env.as_deref().unwrap_or("no environment"),
            if found.env.is_none() || found.whole_episodes {
                String::new()
            } else {
                format!(", the first {} steps of episodes", found.steps)
            },
            match found.episodes {
                1 => ", of which one alone has none",
                _ => "",
            }
        ),
        panels,
    };
    figure::draw(path, &figure)
}

fn row(name: &str, arm: &Arm) -> Row {
    Row {
        label: name.to_owned(),
        value: arm.mean,
        ends: arm.interval.map(|interval| (interval.low, interval.high)),
    }
}

fn returns(found: &Diagnosis) -> Panel {
    let mut rows = Vec::new();
    if let Some(data) = found.data.first() {
        rows.push(row("data, best tenth", &data.best));
        rows.push(row("data", &data.all));
    }
    if let Some(through) = found.bins.as_ref().and_then(|bins| bins.through.as_ref()) {
        rows.push(row("other run", &through.plain));
        rows.push(row("other run, in bins", &through.binned));
    }
    let arms = [
        ("no search", &found.greedy),
        ("search in simulator", &found.simulated),
        ("as configured", &found.configured),
    ];
    let acted = arms
        .iter()
        .filter_map(|(name, arm)| Some((name, arm.as_ref()?)));
    rows.extend(acted.map(|(name, arm)| row(name, arm)));
    Panel {
        title: "Return".to_owned(),
        x_label: "return".to_owned(),
        y_label: String::new(),
        shape: Shape::Rows(rows),
    }
}

fn imagined(found: &Diagnosis) -> Option<Panel> {
    let errors = &found.imagination.as_ref()?.horizon;
    if errors.is_empty() {
        return None;
    }
    let observations = errors
        .iter()
        .filter_map(|e| Some((e.steps as f64, e.observation?)));
    let unchanged = errors
        .iter()
        .filter_map(|e| Some((e.steps as f64, e.unchanged?)));
    let rewards = errors
        .iter()
        .filter_map(|e| Some((e.steps as f64, e.reward?)));
    Some(Panel {
        title: "Errors of what is imagined".to_owned(),
        x_label: "steps after the plan".to_owned(),
        y_label: "standard deviations".to_owned(),
        shape: Shape::Lines {
            lines: vec![
                ("observations".to_owned(), observations.collect()),
                ("rewards".to_owned(), rewards.collect()),
                ("if nothing changed".to_owned(), unchanged.collect()),
            ],
            diagonal: false,
        },
    })
}

fn promised(found: &Diagnosis) -> Option<Panel> {
    let decisions = &found.imagination.as_ref()?.decisions;
    (!decisions.is_empty()).then(|| Panel {
        title: "What plans promise, and what comes".to_owned(),
        x_label: "predicted return".to_owned(),
        y_label: "realised return".to_owned(),
        shape: Shape::Points(
            decisions
                .iter()
                .map(|decision| (decision.predicted, decision.realized))
                .collect(),
        ),
    })
}

fn tokens(found: &Diagnosis) -> Option<Panel> {
    let first = found.tokens.first()?;
    let line = |part: &Tokens| {
        let dims = part.dimensions.iter().enumerate();
        let points = dims.filter(|(_, (_, told))| told.tokens > 0);
        let points = points.map(|(at, (_, told))| (at as f64, told.cross_entropy));
        (format!("{} data", part.data), points.collect())
    };
    let observed = first
        .dimensions
        .iter()
        .filter(|(name, _)| name.starts_with('o'));
    let count = observed.count();
    Some(Panel {
        title: "Cross entropy of tokens".to_owned(),
        x_label: format!(
            "dimension (observations to {}, actions to {}, reward, value)",
            count - 1,
            first.dimensions.len() - 3
        ),
        y_label: "nats".to_owned(),
        shape: Shape::Lines {
            lines: found.tokens.iter().map(line).collect(),
            diagonal: false,
        },
    })
}

fn codes(found: &Diagnosis) -> Option<Panel> {
    let first = found.codes.first()?;
    let line = |part: &Codes| {
        let dims = part.errors.iter().enumerate();
        let points = dims.map(|(dim, (_, error))| (dim as f64, *error));
        (format!("{} data", part.data), points.collect())
    };
    let observed = first
        .errors
        .iter()
        .filter(|(name, _)| name.starts_with('o'));
    Some(Panel {
        title: "Lost in the codes".to_owned(),
        x_label: format!(
            "dimension (observations to {}, actions to {}, reward, value)",
            observed.count() - 1,
            first.errors.len() - 3
        ),
        y_label: "standard deviations".to_owned(),
        shape: Shape::Lines {
            lines: found.codes.iter().map(line).collect(),
            diagonal: false,
        },
    })
}

fn aims(found: &Diagnosis) -> Option<Panel> {
    let ends = |pick: fn((f64, f64)) -> f64| -> Vec<(f64, f64)> {
        let aims = found.aims.iter();
        aims.filter_map(|aim| {
            let interval = aim.reached.interval?;
            Some((aim.asked, pick((interval.low, interval.high))))
        })
        .collect()
    };
    let reached = found.aims.iter().map(|aim| (aim.asked, aim.reached.mean));
    (!found.aims.is_empty()).then(|| Panel {
        title: "Return asked for, and reached".to_owned(),
        x_label: "asked for".to_owned(),
        y_label: "reached".to_owned(),
        shape: Shape::Lines {
            lines: vec![
                ("reached".to_owned(), reached.collect()),
                ("interval, lower end".to_owned(), ends(|(low, _)| low)),
                ("upper end".to_owned(), ends(|(_, high)| high)),
            ],
            diagonal: true,
        },
    })
}

fn actions(found: &Diagnosis) -> Option<Panel> {
    let line = |errors: &ActionErrors| {
        let dims = errors.dimensions.iter().enumerate();
        let points = dims.map(|(dim, error)| (dim as f64, error.error_rms));
        (format!("{} data", errors.data), points.collect())
    };
    // Choices have no errors in numbers.
    let measured = found.actions.iter();
    let measured: Vec<&ActionErrors> = measured
        .filter(|errors| !errors.dimensions.is_empty())
        .collect();
    (!measured.is_empty()).then(|| Panel {
        title: "Errors of actions along the data".to_owned(),
        x_label: "dimension of actions".to_owned(),
        y_label: "standard deviations".to_owned(),
        shape: Shape::Lines {
            lines: measured.into_iter().map(line).collect(),
            diagonal: false,
        },
    })
}
