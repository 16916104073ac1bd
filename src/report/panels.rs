//! Learning curves of the same algorithms on several tasks: a chart per task, side by side.

use std::path::Path;

use crate::report::axes::{Frame, Header, MARGIN, Mark};
use crate::report::canvas::{Canvas, render};
use crate::report::curves::{Scale, Series, axes, draw_all, legend};
use crate::report::style::{Anchor, Font, TEXT};
use trajformer_core::error::Result;

/// Charts beside each other.
const COLUMNS: usize = 3;
/// Height of a chart's plot in logical pixels.
const PLOT: f64 = 210.0;
/// Space for a chart's name above it, and for its axis below.
const ABOVE: f64 = 30.0;
const BELOW: f64 = 66.0;

/// One chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// Its name, e.g. the task.
    pub label: String,
    /// Its lines: in every panel the same number with the same names, without points where there is nothing to draw.
    pub series: Vec<Series>,
}

/// Several charts with one legend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panels {
    /// What the charts show, in a few words.
    pub title: String,
    /// One line below the title; may be empty.
    pub subtitle: String,
    /// What the x axes show, with their unit.
    pub x_label: String,
    /// What the y axes show, with their unit.
    pub y_label: String,
    /// From left to right, then down.
    pub panels: Vec<Panel>,
}

/// Draws the charts, up to three in a row, at least 900 pixels wide.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, charts: &Panels) -> Result<()> {
    let columns = match charts.panels.len() {
        4 => 2, // no hole
        count => count.clamp(1, COLUMNS),
    };
    let rows = charts.panels.len().div_ceil(columns);
    let header = Header {
        title: &charts.title,
        subtitle: &charts.subtitle,
        legend: named_once(charts),
    };
    let width = header
        .width()
        .max(if columns < COLUMNS { 900.0 } else { 1240.0 });
    let top = header.height(width);
    let height = top + rows as f64 * (ABOVE + PLOT + BELOW) + MARGIN / 2.0;
    let left = MARGIN + 26.0;
    let step = (width - MARGIN - left) / columns as f64;
    render(path, (width, height), |canvas| {
        header.draw(canvas, width)?;
        for (index, panel) in charts.panels.iter().enumerate() {
            let (column, row) = ((index % columns) as f64, (index / columns) as f64);
            let place = (left + column * step, top + row * (ABOVE + PLOT + BELOW));
            draw_panel(canvas, charts, panel, (place, step))?;
        }
        Ok(())
    })
}

/// The legend: a name has a band if it has one in any chart.
fn named_once(charts: &Panels) -> Vec<(Mark, String)> {
    let Some(first) = charts.panels.first() else {
        return Vec::new();
    };
    let with_band = |at: usize| {
        let mut all = charts
            .panels
            .iter()
            .filter_map(|panel| panel.series.get(at));
        let banded = |series: &&Series| series.band.as_ref().is_some_and(|band| !band.is_empty());
        all.find(banded).unwrap_or(&first.series[at]).clone()
    };
    legend(&(0..first.series.len()).map(with_band).collect::<Vec<_>>())
}

/// One chart in a column that begins at a place and has a width.
fn draw_panel(
    canvas: &mut Canvas<'_>,
    charts: &Panels,
    panel: &Panel,
    ((left, top), width): ((f64, f64), f64),
) -> Result<()> {
    let (x, y) = axes(&panel.series, Scale::Linear, std::iter::empty());
    let (x, y) = (x.with_ticks(4), y.with_ticks(5));
    let frame = Frame {
        left: left + 12.0 + y.label_width(),
        top: top + ABOVE,
        right: left + width - 22.0,
        bottom: top + ABOVE + PLOT,
        x,
        y,
    };
    let middle = (frame.left + frame.right) / 2.0;
    canvas.text(
        &panel.label,
        (middle, frame.top - 10.0),
        Anchor::Middle,
        Font::bold(14.0, TEXT),
    )?;
    frame.draw(canvas)?;
    let font = Font::new(13.0, TEXT);
    canvas.text(
        &charts.x_label,
        (middle, frame.bottom + 42.0),
        Anchor::Middle,
        font,
    )?;
    if left < 2.0 * MARGIN + 26.0 {
        let place = (MARGIN + 10.0, (frame.top + frame.bottom) / 2.0);
        canvas.upward_text(&charts.y_label, place, Font::new(14.0, TEXT))?;
    }
    draw_all(canvas, &frame, &panel.series)
}
