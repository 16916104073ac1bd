//! A data set at a glance: how returns, lengths and rewards are spread, and the range of each dimension.

use std::path::Path;

use crate::report::axes::{Axis, Frame, Header, MARGIN, Mark, Scale};
use crate::report::canvas::{Canvas, render};
use crate::report::style::{Anchor, BLUE, Font, MUTED, Point, Rgb, Stroke, TEXT};
use trajformer_core::error::Result;

/// Bars, and what lies within a standard deviation.
const BAR: Rgb = Rgb(0x7f, 0xb2, 0xd3);

/// How often which numbers occur.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spread {
    /// What is counted, in a few words.
    pub label: String,
    /// What the numbers are, with their unit.
    pub value_label: String,
    /// What is counted, e.g. `episodes`.
    pub count_label: String,
    /// Left end of the first bar and right end of the last.
    pub ends: (f64, f64),
    /// Heights of bars of equal width; none if there is nothing to count.
    pub counts: Vec<usize>,
    /// Names of the bars, where they stand for choices and not for numbers.
    pub bar_names: Vec<String>,
}

/// The numbers of one dimension.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Range {
    /// Lowest.
    pub low: f64,
    /// Highest.
    pub high: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
}

/// The ranges of several dimensions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranges {
    /// What they are of.
    pub label: String,
    /// By dimension.
    pub dimensions: Vec<Range>,
}

/// A data set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataPicture {
    /// What the picture shows, in a few words.
    pub title: String,
    /// One line below the title; may be empty.
    pub subtitle: String,
    /// Histograms, three in a row.
    pub spreads: Vec<Spread>,
    /// Charts of ranges below them, each as wide as the picture.
    pub ranges: Vec<Ranges>,
}

/// Size of a histogram, with its labels, and height of a chart of ranges.
const PANEL: Point = (400.0, 264.0);
const RANGES: f64 = 280.0;

/// Draws the picture, 1248 pixels wide.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, picture: &DataPicture) -> Result<()> {
    const COLUMNS: usize = 3;
    let header = Header {
        title: &picture.title,
        subtitle: &picture.subtitle,
        legend: vec![
            (Mark::Line(range_stroke()), "lowest to highest".to_owned()),
            (
                Mark::Line(Stroke::new(BAR, 9.0)),
                "mean ± standard deviation".to_owned(),
            ),
        ],
    };
    let width = (PANEL.0 * COLUMNS as f64 + 2.0 * MARGIN).max(header.width());
    let top = header.height(width);
    let rows = picture.spreads.len().div_ceil(COLUMNS);
    let below = top + rows as f64 * PANEL.1;
    let height = below + picture.ranges.len() as f64 * RANGES;
    render(path, (width, height), |canvas| {
        header.draw(canvas, width)?;
        for (index, spread) in picture.spreads.iter().enumerate() {
            let (row, column) = (index / COLUMNS, index % COLUMNS);
            let place = (MARGIN + column as f64 * PANEL.0, top + row as f64 * PANEL.1);
            draw_spread(canvas, spread, place)?;
        }
        for (index, ranges) in picture.ranges.iter().enumerate() {
            let above = below + index as f64 * RANGES;
            draw_ranges(canvas, ranges, above, width)?;
        }
        Ok(())
    })
}

fn range_stroke() -> Stroke {
    Stroke::new(MUTED, 2.0)
}

fn draw_spread(canvas: &mut Canvas<'_>, spread: &Spread, (left, above): Point) -> Result<()> {
    let (low, high) = spread.ends;
    let most = spread.counts.iter().copied().max().unwrap_or(0);
    let mut y = Axis::around([0.0, 1.06 * most as f64].into_iter(), Scale::Linear, 0.0);
    y = y.with_ticks(4);
    // Large counts have whole numbers of hundreds at their ticks.
    if most < 100 {
        y = y.counting();
    }
    let mut x = Axis::around([low, high].into_iter(), Scale::Linear, 0.02).with_ticks(4);
    if !spread.bar_names.is_empty() {
        let width = (high - low) / spread.counts.len().max(1) as f64;
        let names = some(&spread.bar_names)
            .map(|(bar, name)| (low + (bar as f64 + 0.5) * width, name.clone()));
        x.ticks = names.collect();
    }
    let frame = Frame {
        left: left + 62.0,
        top: above + 32.0,
        right: left + PANEL.0 - 14.0,
        bottom: above + PANEL.1 - 58.0,
        x,
        y,
    };
    name(canvas, &spread.label, &frame)?;
    if spread.counts.is_empty() {
        let middle = (
            (frame.left + frame.right) / 2.0,
            (frame.top + frame.bottom) / 2.0,
        );
        return canvas.text(
            "nothing to count",
            middle,
            Anchor::Middle,
            Font::new(14.0, MUTED),
        );
    }
    frame.draw(canvas)?;
    let bins = spread.counts.len() as f64;
    // Where all numbers are one, the bar stands around it.
    let (first, step) = if high > low {
        (low, (high - low) / bins)
    } else {
        (low - 0.05 * low.abs().max(1.0), 0.1 * low.abs().max(1.0))
    };
    for (bin, &count) in spread.counts.iter().enumerate() {
        let start = first + bin as f64 * step;
        let (from, to) = (
            frame.place((start, count as f64)),
            frame.place((start + step, 0.0)),
        );
        // A line between bars, where there is room for it.
        let gap = match to.0 - from.0 {
            width if !spread.bar_names.is_empty() => 0.12 * width,
            width if width > 4.0 => 0.5,
            _ => 0.0,
        };
        if count > 0 {
            canvas.rectangle((from.0 + gap, from.1), (to.0 - gap, to.1), BAR)?;
        }
    }
    frame.draw_x_axis(canvas)?;
    frame.draw_labels(
        canvas,
        [&spread.value_label, &spread.count_label],
        left + 12.0,
    )
}

/// About twenty of many, evenly spread, with their places.
fn some<T>(all: &[T]) -> impl Iterator<Item = (usize, &T)> {
    all.iter()
        .enumerate()
        .step_by(all.len().div_ceil(20).max(1))
}

fn name(canvas: &mut Canvas<'_>, label: &str, frame: &Frame) -> Result<()> {
    let place = (frame.left, frame.top - 12.0);
    canvas.text(label, place, Anchor::Start, Font::bold(15.0, TEXT))
}

fn draw_ranges(canvas: &mut Canvas<'_>, ranges: &Ranges, above: f64, width: f64) -> Result<()> {
    let count = ranges.dimensions.len();
    let ends = ranges
        .dimensions
        .iter()
        .flat_map(|range| [range.low, range.high]);
    let dimensions = [-0.6, count as f64 - 0.4].into_iter();
    let mut x = Axis::around(dimensions, Scale::Linear, 0.0);
    let numbers: Vec<usize> = (0..count).collect();
    let ticks = some(&numbers).map(|(dim, number)| (dim as f64, number.to_string()));
    x.ticks = ticks.collect();
    let frame = Frame {
        left: MARGIN + 62.0,
        top: above + 32.0,
        right: width - MARGIN - 14.0,
        bottom: above + RANGES - 58.0,
        x,
        y: Axis::around(ends, Scale::Linear, 0.04).with_ticks(5),
    };
    name(canvas, &ranges.label, &frame)?;
    frame.draw(canvas)?;
    let step = (frame.right - frame.left) / count.max(1) as f64;
    let thick = (0.45 * step).clamp(2.0, 18.0);
    for (dim, range) in ranges.dimensions.iter().enumerate() {
        let at = |value: f64| frame.place((dim as f64, value));
        canvas.line(&[at(range.low), at(range.high)], range_stroke())?;
        for end in [range.low, range.high] {
            let (x, y) = at(end);
            canvas.line(
                &[(x - thick / 2.0, y), (x + thick / 2.0, y)],
                range_stroke(),
            )?;
        }
        let (x, top) = at(range.mean + range.std);
        let (_, bottom) = at(range.mean - range.std);
        let (top, bottom) = (top.max(frame.top), bottom.min(frame.bottom));
        canvas.rectangle(
            (x - thick / 2.0, top),
            (x + thick / 2.0, bottom.max(top + 1.0)),
            BAR,
        )?;
        let (x, y) = at(range.mean);
        let mark = Stroke::new(BLUE, 2.0);
        canvas.line(&[(x - thick / 2.0, y), (x + thick / 2.0, y)], mark)?;
    }
    frame.draw_labels(canvas, ["dimension", "value"], MARGIN + 12.0)
}
