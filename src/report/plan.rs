//! One plan: what the model predicts beside what happens, in a small chart for each quantity.

use std::path::Path;

use crate::report::axes::{Axis, Frame, Header, MARGIN, Mark, Scale};
use crate::report::canvas::{Canvas, render};
use crate::report::style::{Anchor, BLUE, Font, MUTED, ORANGE, Stroke, TEXT, VERMILION};
use trajformer_core::error::Result;

/// One quantity over the steps of an episode; places are (step, value).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlanPanel {
    /// The quantity, with its unit: `reward`, `observation 3`, `height (m)`.
    pub label: String,
    /// Predictions of the plans that were not chosen.
    pub imagined: Vec<Vec<(f64, f64)>>,
    /// Predictions of the plan that was chosen.
    pub chosen: Vec<(f64, f64)>,
    /// What happened, before the plan and while it was carried out.
    pub real: Vec<(f64, f64)>,
}

/// A plan and its outcome.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What the picture shows, in a few words.
    pub title: String,
    /// One line below the title; may be empty.
    pub subtitle: String,
    /// What the x axes show.
    pub x_label: String,
    /// The step at which the plan was made, marked by an upright line.
    pub planned_at: Option<f64>,
    /// The quantities, three in a row.
    pub panels: Vec<PlanPanel>,
}

/// Draws the charts; 430 x 230 pixels each.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, plan: &Plan) -> Result<()> {
    let panel = (430.0, 230.0);
    let columns = plan.panels.len().clamp(1, 3);
    let rows = plan.panels.len().div_ceil(columns).max(1);
    let mut legend = vec![
        (Mark::Line(real_stroke()), "what happened".to_owned()),
        (
            Mark::Line(chosen_stroke()),
            "prediction of the chosen plan".to_owned(),
        ),
    ];
    if plan.panels.iter().any(|panel| !panel.imagined.is_empty()) {
        let stroke = imagined_stroke().alpha(0.8);
        legend.push((
            Mark::Line(stroke),
            "predictions of the other plans in the beam".to_owned(),
        ));
    }
    if plan.planned_at.is_some() {
        legend.push((Mark::Line(planned_stroke()), "the plan is made".to_owned()));
    }
    let header = Header {
        title: &plan.title,
        subtitle: &plan.subtitle,
        legend,
    };
    let width = (panel.0 * columns as f64 + 2.0 * MARGIN).max(header.width());
    let top = header.height(width);
    let height = top + panel.1 * rows as f64 + 40.0;
    // One x axis for all, so that the charts can be read across.
    let steps = plan.panels.iter().flat_map(|panel| {
        panel
            .imagined
            .iter()
            .flatten()
            .chain(&panel.chosen)
            .chain(&panel.real)
            .map(|point| point.0)
    });
    let x = Axis::around(steps.chain(plan.planned_at), Scale::Linear, 0.02)
        .with_ticks(6)
        .counting();
    render(path, (width, height), |canvas| {
        header.draw(canvas, width)?;
        for (index, quantity) in plan.panels.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let left = MARGIN + column as f64 * panel.0;
            let above = top + row as f64 * panel.1;
            let values = quantity.imagined.iter().flatten().chain(&quantity.chosen);
            let values = values.chain(&quantity.real).map(|point| point.1);
            let frame = Frame {
                left: left + 50.0,
                top: above + 30.0,
                right: left + panel.0 - 24.0,
                bottom: above + panel.1 - 36.0,
                x: x.clone(),
                y: Axis::around(values, Scale::Linear, 0.08).with_ticks(4),
            };
            draw_panel(canvas, &frame, quantity, plan.planned_at)?;
            if index + columns >= plan.panels.len() {
                let below = ((frame.left + frame.right) / 2.0, frame.bottom + 42.0);
                canvas.text(&plan.x_label, below, Anchor::Middle, Font::new(14.0, TEXT))?;
            }
        }
        Ok(())
    })
}

fn draw_panel(
    canvas: &mut Canvas<'_>,
    frame: &Frame,
    quantity: &PlanPanel,
    planned_at: Option<f64>,
) -> Result<()> {
    let title = (frame.left, frame.top - 12.0);
    canvas.text(
        &quantity.label,
        title,
        Anchor::Start,
        Font::bold(14.0, TEXT),
    )?;
    frame.draw(canvas)?;
    if let Some(step) = planned_at {
        let x = frame.place((step, 0.0)).0;
        canvas.line(&[(x, frame.top), (x, frame.bottom)], planned_stroke())?;
    }
    for prediction in &quantity.imagined {
        canvas.line(&frame.places(prediction), imagined_stroke())?;
    }
    canvas.line(&frame.places(&quantity.real), real_stroke())?;
    canvas.line(&frame.places(&quantity.chosen), chosen_stroke())
}

fn real_stroke() -> Stroke {
    Stroke::new(BLUE, 2.5)
}

fn chosen_stroke() -> Stroke {
    Stroke::new(VERMILION, 2.5).dashed(7.0, 6.0)
}

fn imagined_stroke() -> Stroke {
    Stroke::new(ORANGE, 1.2).alpha(0.45)
}

fn planned_stroke() -> Stroke {
    Stroke::new(MUTED, 1.5).dashed(2.0, 3.0)
}
