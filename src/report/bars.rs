//! Scores of several agents as horizontal bars with error bars.

use std::path::Path;

use crate::report::axes::{Axis, Frame, Header, MARGIN, Scale};
use crate::report::canvas::{Canvas, render};
use crate::report::curves::ReferenceLine;
use crate::report::style::{Anchor, BLACK, BLUE, Font, MUTED, Rgb, Stroke, TEXT};
use trajformer_core::error::Result;

/// Bars that are there for comparison.
const QUIET: Rgb = Rgb(0xa3, 0xac, 0xb8);

/// Which bars the eye should find first.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Emphasis {
    /// There for comparison.
    #[default]
    Quiet,
    /// What the picture is about.
    Strong,
}

/// One agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bar {
    /// Its name.
    pub label: String,
    /// Its score.
    pub value: f64,
    /// Half the length of the error bar, in the score's unit.
    pub error: Option<f64>,
    /// How it is shown.
    pub emphasis: Emphasis,
}

/// A chart of bars.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bars {
    /// What the chart shows, in a few words.
    pub title: String,
    /// One line below the title, e.g. what the error bars are; may be empty.
    pub subtitle: String,
    /// What the lengths mean, with their unit.
    pub value_label: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
    /// Values to compare with, as dashed upright lines; `y` is the value.
    pub reference_lines: Vec<ReferenceLine>,
}

/// Draws the chart, 900 pixels wide.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, chart: &Bars) -> Result<()> {
    const ROW: f64 = 46.0;
    let width = 900.0;
    let header = Header {
        title: &chart.title,
        subtitle: &chart.subtitle,
        legend: Vec::new(),
    };
    let above = if chart.reference_lines.is_empty() {
        0.0
    } else {
        20.0
    };
    let top = header.height(width) + above;
    let bottom = top + ROW * chart.bars.len() as f64 + 6.0;
    let height = bottom + 44.0 + MARGIN;
    let name = Font::bold(15.0, TEXT);
    let names = chart
        .bars
        .iter()
        .map(|bar| 1.08 * name.width(&bar.label))
        .fold(0.0, f64::max);
    let words = chart
        .bars
        .iter()
        .map(|bar| 1.08 * name.width(&score(bar)))
        .fold(60.0, f64::max);
    let ends = chart.bars.iter().flat_map(|bar| {
        let error = bar.error.unwrap_or(0.0);
        [bar.value - error, bar.value + error, 0.0]
    });
    let ends = ends.chain(chart.reference_lines.iter().map(|line| line.y));
    let frame = Frame {
        left: MARGIN + names + 14.0,
        top,
        right: width - MARGIN - 10.0 - words,
        bottom,
        x: Axis::around(ends, Scale::Linear, 0.02),
        y: Axis::around([0.0, 1.0].into_iter(), Scale::Linear, 0.0),
    };
    render(path, (width, height), |canvas| {
        header.draw(canvas, width)?;
        frame.draw_x_axis(canvas)?;
        let below = ((frame.left + frame.right) / 2.0, frame.bottom + 44.0);
        canvas.text(
            &chart.value_label,
            below,
            Anchor::Middle,
            Font::new(14.0, TEXT),
        )?;
        for (index, bar) in chart.bars.iter().enumerate() {
            let y = frame.top + ROW * (index as f64 + 0.5) + 3.0;
            draw_bar(canvas, &frame, bar, y)?;
        }
        for line in &chart.reference_lines {
            let x = frame.place((line.y, 0.0)).0;
            let stroke = Stroke::new(MUTED, 1.5).dashed(7.0, 5.0);
            canvas.line(&[(x, frame.top), (x, frame.bottom)], stroke)?;
            let font = Font::new(13.0, MUTED);
            canvas.text(&line.label, (x, frame.top - 8.0), Anchor::Middle, font)?;
        }
        let zero = frame.place((0.0, 0.0)).0;
        canvas.line(
            &[(zero, frame.top), (zero, frame.bottom)],
            Stroke::new(BLACK, 1.0),
        )
    })
}

fn draw_bar(canvas: &mut Canvas<'_>, frame: &Frame, bar: &Bar, y: f64) -> Result<()> {
    let strong = bar.emphasis == Emphasis::Strong;
    let color = if strong { BLUE } else { QUIET };
    let font = if strong {
        Font::bold(15.0, TEXT)
    } else {
        Font::new(15.0, TEXT)
    };
    canvas.text(&bar.label, (frame.left - 14.0, y + 5.3), Anchor::End, font)?;
    if !bar.value.is_finite() {
        let place = (frame.place((0.0, 0.0)).0 + 8.0, y + 5.3);
        return canvas.text("no score", place, Anchor::Start, Font::new(15.0, MUTED));
    }
    let (zero, end) = (frame.place((0.0, 0.0)).0, frame.place((bar.value, 0.0)).0);
    canvas.rectangle((zero.min(end), y - 14.0), (zero.max(end), y + 14.0), color)?;
    let mut farthest = end.max(zero);
    if let Some(error) = bar.error.filter(|error| error.is_finite()) {
        let low = frame.place((bar.value - error, 0.0)).0;
        let high = frame.place((bar.value + error, 0.0)).0;
        let stroke = Stroke::new(BLACK, 1.5);
        canvas.line(&[(low, y), (high, y)], stroke)?;
        for x in [low, high] {
            canvas.line(&[(x, y - 5.0), (x, y + 5.0)], stroke)?;
        }
        farthest = farthest.max(high);
    }
    canvas.text(&score(bar), (farthest + 10.0, y + 5.3), Anchor::Start, font)
}

/// The score in words.
fn score(bar: &Bar) -> String {
    let words = match bar.error.filter(|error| error.is_finite()) {
        Some(error) => format!("{:.1} ± {error:.1}", bar.value),
        None => format!("{:.1}", bar.value),
    };
    words.replace('-', "−")
}
