//! Small charts of several kinds on one sheet: rows with intervals, lines, points against a diagonal.

use std::path::Path;

use crate::report::axes::{Axis, Frame, Header, MARGIN, Scale};
use crate::report::canvas::{Canvas, render};
use crate::report::style::{Anchor, BLACK, BLUE, Font, GRID, MUTED, Rgb, SERIES, Stroke, TEXT};
use trajformer_core::error::Result;

/// Size of a chart in logical pixels, with its words.
const PANEL: (f64, f64) = (600.0, 330.0);
/// Points more than this have smaller dots.
const MANY: usize = 200;

/// A row of a chart of rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// What it is.
    pub label: String,
    /// Its number.
    pub value: f64,
    /// Ends of its interval.
    pub ends: Option<(f64, f64)>,
}

/// What a chart shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Numbers with intervals, from top to bottom.
    Rows(Vec<Row>),
    /// Named lines.
    Lines {
        /// Each with its places from left to right.
        lines: Vec<(String, Vec<(f64, f64)>)>,
        /// Whether the line of equal numbers is drawn.
        diagonal: bool,
    },
    /// Points, with the line of equal numbers.
    Points(Vec<(f64, f64)>),
}

/// One chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What the x axis shows, with its unit.
    pub x_label: String,
    /// What the y axis shows, with its unit; may be empty.
    pub y_label: String,
    /// What is drawn.
    pub shape: Shape,
}

/// Several charts, two in a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// What the charts show, in a few words.
    pub title: String,
    /// One line below the title; may be empty.
    pub subtitle: String,
    /// From left to right, then down.
    pub panels: Vec<Panel>,
}

/// Draws the charts.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, figure: &Figure) -> Result<()> {
    let header = Header {
        title: &figure.title,
        subtitle: &figure.subtitle,
        legend: Vec::new(),
    };
    let columns = figure.panels.len().clamp(1, 2);
    let rows = figure.panels.len().div_ceil(columns);
    let width = (PANEL.0 * columns as f64 + 2.0 * MARGIN).max(header.width());
    let top = header.height(width);
    render(
        path,
        (width, top + PANEL.1 * rows as f64 + MARGIN),
        |canvas| {
            header.draw(canvas, width)?;
            for (index, panel) in figure.panels.iter().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let place = (MARGIN + column as f64 * PANEL.0, top + row as f64 * PANEL.1);
                draw_panel(canvas, panel, place)?;
            }
            Ok(())
        },
    )
}

fn draw_panel(canvas: &mut Canvas<'_>, panel: &Panel, (left, top): (f64, f64)) -> Result<()> {
    let (x, y) = axes(&panel.shape);
    let space = match &panel.shape {
        Shape::Rows(rows) => {
            let font = Font::new(13.0, TEXT);
            let widths = rows.iter().map(|row| 1.08 * font.width(&row.label));
            widths.fold(0.0, f64::max) + 14.0
        }
        _ => y.label_width() + 38.0,
    };
    let frame = Frame {
        left: left + space,
        top: top + 52.0,
        right: left + PANEL.0 - 30.0,
        bottom: top + PANEL.1 - 58.0,
        x,
        y,
    };
    let title = Font::bold(15.0, TEXT);
    canvas.text(&panel.title, (left + 6.0, top + 22.0), Anchor::Start, title)?;
    let font = Font::new(13.0, TEXT);
    let below = ((frame.left + frame.right) / 2.0, frame.bottom + 42.0);
    canvas.text(&panel.x_label, below, Anchor::Middle, font)?;
    if let Shape::Rows(rows) = &panel.shape {
        return draw_rows(canvas, &frame, rows);
    }
    frame.draw(canvas)?;
    let beside = (left + 16.0, (frame.top + frame.bottom) / 2.0);
    canvas.upward_text(&panel.y_label, beside, font)?;
    match &panel.shape {
        Shape::Rows(_) => Ok(()),
        Shape::Lines { lines, diagonal } => {
            if *diagonal {
                draw_diagonal(canvas, &frame)?;
            }
            draw_lines(canvas, &frame, lines)
        }
        Shape::Points(points) => {
            draw_diagonal(canvas, &frame)?;
            let radius = if points.len() > MANY { 2.0 } else { 3.5 };
            for place in frame.places(points) {
                canvas.disc(place, radius, BLUE)?;
            }
            Ok(())
        }
    }
}

fn axes(shape: &Shape) -> (Axis, Axis) {
    let around = |values: Vec<f64>, margin: f64| {
        Axis::around(values.into_iter(), Scale::Linear, margin).with_ticks(5)
    };
    match shape {
        Shape::Rows(rows) => {
            let ends = rows.iter().flat_map(|row| {
                let (low, high) = row.ends.unwrap_or((row.value, row.value));
                [low, high, 0.0]
            });
            (around(ends.collect(), 0.06), around(vec![0.0, 1.0], 0.0))
        }
        Shape::Lines { lines, diagonal } => {
            let points = || lines.iter().flat_map(|(_, points)| points);
            let floor = (!diagonal).then_some(0.0);
            let y = points().map(|point| point.1).chain(floor);
            (
                around(points().map(|point| point.0).collect(), 0.02),
                around(y.collect(), 0.06),
            )
        }
        Shape::Points(points) => (
            around(points.iter().map(|point| point.0).collect(), 0.05),
            around(points.iter().map(|point| point.1).collect(), 0.05),
        ),
    }
}

/// The line of equal numbers, as far as both axes have them.
fn draw_diagonal(canvas: &mut Canvas<'_>, frame: &Frame) -> Result<()> {
    let (x_low, x_high) = frame.x.span();
    let (y_low, y_high) = frame.y.span();
    let (low, high) = (x_low.max(y_low), x_high.min(y_high));
    if low >= high {
        return Ok(());
    }
    let stroke = Stroke::new(MUTED, 1.5).dashed(6.0, 5.0);
    canvas.line(&frame.places(&[(low, low), (high, high)]), stroke)
}

fn draw_lines(
    canvas: &mut Canvas<'_>,
    frame: &Frame,
    lines: &[(String, Vec<(f64, f64)>)],
) -> Result<()> {
    let font = Font::new(13.0, TEXT);
    let mut place = frame.left;
    for ((name, points), color) in lines.iter().zip(SERIES) {
        let stroke = Stroke::new(color, 2.0);
        let places = frame.places(points);
        canvas.line(&places, stroke)?;
        for &dot in &places {
            canvas.disc(dot, 3.0, color)?;
        }
        let y = frame.top - 12.0;
        canvas.line(&[(place, y - 4.5), (place + 22.0, y - 4.5)], stroke)?;
        canvas.text(name, (place + 28.0, y), Anchor::Start, font)?;
        place += 28.0 + 1.1 * font.width(name) + 18.0;
    }
    Ok(())
}

fn draw_rows(canvas: &mut Canvas<'_>, frame: &Frame, rows: &[Row]) -> Result<()> {
    for (value, _) in &frame.x.ticks {
        let x = frame.place((*value, 0.0)).0;
        canvas.line(&[(x, frame.top), (x, frame.bottom)], Stroke::new(GRID, 1.0))?;
    }
    frame.draw_x_axis(canvas)?;
    let font = Font::new(13.0, TEXT);
    let step = (frame.bottom - frame.top) / rows.len().max(1) as f64;
    for (index, row) in rows.iter().enumerate() {
        let y = frame.top + step * (index as f64 + 0.5);
        canvas.text(&row.label, (frame.left - 8.0, y + 4.6), Anchor::End, font)?;
        let x = frame.place((row.value, 0.0)).0;
        if let Some((low, high)) = row.ends {
            let (low, high) = (frame.place((low, 0.0)).0, frame.place((high, 0.0)).0);
            draw_interval(canvas, (low, high), y, BLUE)?;
        }
        canvas.line(&[(x, y - 8.0), (x, y + 8.0)], Stroke::new(BLACK, 2.0))?;
    }
    Ok(())
}

fn draw_interval(
    canvas: &mut Canvas<'_>,
    (low, high): (f64, f64),
    y: f64,
    color: Rgb,
) -> Result<()> {
    let corners = [
        (low, y - 7.0),
        (high, y - 7.0),
        (high, y + 7.0),
        (low, y + 7.0),
    ];
    canvas.polygon(&corners, color, 0.4)
}
