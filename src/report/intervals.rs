//! Numbers with intervals: a row per algorithm or pair, a column per number.

use std::path::Path;

use crate::report::axes::{Axis, Frame, Header, MARGIN, Scale};
use crate::report::canvas::{Canvas, render};
use crate::report::style::{Anchor, BLACK, BLUE, Font, GRID, MUTED, Rgb, SERIES, Stroke, TEXT};
use trajformer_core::error::Result;

/// Height of a row in logical pixels.
const ROW: f64 = 44.0;
/// Half the height of an interval's bar.
const BAR: f64 = 9.0;

/// A number, with an interval where there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mark {
    /// The number.
    pub value: f64,
    /// Lower and upper end.
    pub ends: Option<(f64, f64)>,
}

/// One number of every row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// What the number is.
    pub label: String,
    /// One per row; `None` where there is no number.
    pub marks: Vec<Option<Mark>>,
    /// Digits after the point.
    pub decimals: usize,
    /// A value to compare with, as a dashed upright line.
    pub reference: Option<f64>,
    /// The axis' ends; default: what the numbers need.
    pub range: Option<(f64, f64)>,
}

/// How rows are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Colors {
    /// Each row has the color that curves of the same order have.
    #[default]
    ByRow,
    /// All rows have one.
    One,
}

/// A chart of intervals.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Intervals {
    /// What the chart shows, in a few words.
    pub title: String,
    /// One line below the title, e.g. what the intervals are; may be empty.
    pub subtitle: String,
    /// Names of the rows, from top to bottom.
    pub rows: Vec<String>,
    /// From left to right.
    pub columns: Vec<Column>,
    /// How rows are told apart.
    pub colors: Colors,
}

/// Draws the chart, at least 900 pixels wide.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, chart: &Intervals) -> Result<()> {
    let header = Header {
        title: &chart.title,
        subtitle: &chart.subtitle,
        legend: Vec::new(),
    };
    let name = Font::bold(15.0, TEXT);
    // SVG viewers may use a wider font than the built-in one.
    let names = chart
        .rows
        .iter()
        .map(|row| 1.08 * name.width(row))
        .fold(0.0, f64::max);
    let left = MARGIN + names + 14.0;
    let count = chart.columns.len().max(1) as f64;
    let label = Font::bold(14.0, TEXT);
    let labels = chart
        .columns
        .iter()
        .map(|column| 1.08 * label.width(&column.label) + 30.0);
    let column = labels.fold(200.0, f64::max);
    let width = header
        .width()
        .max(900.0)
        .max(left + column * count + MARGIN);
    let top = header.height(width) + 24.0;
    let bottom = top + ROW * chart.rows.len() as f64 + 4.0;
    let step = (width - MARGIN - left) / count;
    let colors = SERIES.into_iter().cycle();
    let color_of = |color: Rgb| {
        if chart.colors == Colors::One {
            BLUE
        } else {
            color
        }
    };
    render(path, (width, bottom + 30.0 + MARGIN / 2.0), |canvas| {
        header.draw(canvas, width)?;
        for (index, row) in chart.rows.iter().enumerate() {
            let y = top + ROW * (index as f64 + 0.5);
            canvas.text(row, (left - 14.0, y + 5.3), Anchor::End, name)?;
        }
        for (index, column) in chart.columns.iter().enumerate() {
            let from = left + index as f64 * step;
            let frame = Frame {
                left: from + 8.0,
                top,
                right: from + step - 16.0,
                bottom,
                x: axis(column),
                y: Axis::around([0.0, 1.0].into_iter(), Scale::Linear, 0.0),
            };
            draw_column_behind(canvas, &frame, column)?;
            for (row, (mark, color)) in column.marks.iter().zip(colors.clone()).enumerate() {
                let y = top + ROW * (row as f64 + 0.5);
                match mark {
                    Some(mark) => draw_mark(
                        canvas,
                        &frame,
                        (mark, column.decimals),
                        (y, color_of(color)),
                    )?,
                    None => {
                        let middle = (frame.left + frame.right) / 2.0;
                        canvas.text(
                            "-",
                            (middle, y + 5.0),
                            Anchor::Middle,
                            Font::new(14.0, MUTED),
                        )?;
                    }
                }
            }
        }
        Ok(())
    })
}

fn axis(column: &Column) -> Axis {
    if let Some((low, high)) = column.range {
        return Axis::around([low, high].into_iter(), Scale::Linear, 0.02).with_ticks(4);
    }
    let marks = column.marks.iter().flatten();
    let values = marks.flat_map(|mark| {
        let (low, high) = mark.ends.unwrap_or((mark.value, mark.value));
        [mark.value, low, high]
    });
    Axis::around(values.chain(column.reference), Scale::Linear, 0.1).with_ticks(4)
}

/// Grid, axis, name and reference of a column.
fn draw_column_behind(canvas: &mut Canvas<'_>, frame: &Frame, column: &Column) -> Result<()> {
    let upright = |x: f64| [(x, frame.top), (x, frame.bottom)];
    for (value, _) in &frame.x.ticks {
        let x = frame.place((*value, 0.0)).0;
        canvas.line(&upright(x), Stroke::new(GRID, 1.0))?;
    }
    frame.draw_x_axis(canvas)?;
    let middle = (frame.left + frame.right) / 2.0;
    let label = (middle, frame.top - 12.0);
    canvas.text(&column.label, label, Anchor::Middle, Font::bold(14.0, TEXT))?;
    if let Some(reference) = column.reference {
        let x = frame.place((reference, 0.0)).0;
        canvas.line(&upright(x), Stroke::new(MUTED, 1.5).dashed(7.0, 5.0))?;
    }
    Ok(())
}

/// The interval as a pale bar, the number as a line across it, and in digits above.
fn draw_mark(
    canvas: &mut Canvas<'_>,
    frame: &Frame,
    (mark, decimals): (&Mark, usize),
    (y, color): (f64, Rgb),
) -> Result<()> {
    let x = frame.place((mark.value, 0.0)).0;
    let y = y + 5.0;
    match mark.ends {
        Some((low, high)) => {
            let (low, high) = (frame.place((low, 0.0)).0, frame.place((high, 0.0)).0);
            let corners = [
                (low, y - BAR),
                (high, y - BAR),
                (high, y + BAR),
                (low, y + BAR),
            ];
            canvas.polygon(&corners, color, 0.4)?;
            canvas.line(&[(x, y - BAR), (x, y + BAR)], Stroke::new(BLACK, 2.0))?;
        }
        None => canvas.disc((x, y), 5.0, color)?,
    }
    let digits = format!("{:.decimals$}", mark.value).replace('-', "−");
    canvas.text(
        &digits,
        (x, y - BAR - 4.0),
        Anchor::Middle,
        Font::new(12.0, TEXT),
    )
}
