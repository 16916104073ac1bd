//! A tokenizer and a data set: bins over the histogram of each dimension, or what comes back over what went in.

use std::path::Path;

use crate::report::axes::{Axis, Frame, Header, MARGIN, Mark, Scale};
use crate::report::canvas::{Canvas, render};
use crate::report::style::{Anchor, BLUE, Font, Rgb, Stroke, TEXT, VERMILION};
use trajformer_core::error::Result;

/// The data behind the edges.
const BAR: Rgb = Rgb(0xb9, 0xd4, 0xe6);

/// One dimension.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenPanel {
    /// Bins over a histogram.
    Bins {
        /// The dimension.
        label: String,
        /// Middles of equally wide bars and their heights, from left to right.
        histogram: Vec<(f64, f64)>,
        /// Edges of the bins.
        edges: Vec<f64>,
    },
    /// Numbers before and after; places are (step, value).
    Path {
        /// The dimension.
        label: String,
        /// What went in.
        original: Vec<(f64, f64)>,
        /// What came back.
        restored: Vec<(f64, f64)>,
    },
}

/// A tokenizer and a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenPicture {
    /// What the picture shows, in a few words.
    pub title: String,
    /// One line below the title; may be empty.
    pub subtitle: String,
    /// The dimensions, three in a row.
    pub panels: Vec<TokenPanel>,
}

/// Draws the charts; 430 x 210 pixels each.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, picture: &TokenPicture) -> Result<()> {
    let panel = (430.0, 210.0);
    let columns = picture.panels.len().clamp(1, 3);
    let rows = picture.panels.len().div_ceil(columns).max(1);
    let bins = picture
        .panels
        .iter()
        .any(|panel| matches!(panel, TokenPanel::Bins { .. }));
    let legend = if bins {
        vec![
            (
                Mark::Line(Stroke::new(BAR, 9.0)),
                "share of the steps".to_owned(),
            ),
            (Mark::Line(edge_stroke()), "edges of the bins".to_owned()),
        ]
    } else {
        vec![
            (Mark::Line(original_stroke()), "the data".to_owned()),
            (Mark::Line(restored_stroke()), "from its tokens".to_owned()),
        ]
    };
    let header = Header {
        title: &picture.title,
        subtitle: &picture.subtitle,
        legend,
    };
    let width = (panel.0 * columns as f64 + 2.0 * MARGIN).max(header.width());
    let top = header.height(width);
    let height = top + panel.1 * rows as f64 + if bins { 10.0 } else { 34.0 };
    render(path, (width, height), |canvas| {
        header.draw(canvas, width)?;
        for (index, shown) in picture.panels.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let (left, above) = (MARGIN + column as f64 * panel.0, top + row as f64 * panel.1);
            let (x, y) = axes(shown);
            let frame = Frame {
                left: left + 54.0,
                top: above + 30.0,
                right: left + panel.0 - 24.0,
                bottom: above + panel.1 - 36.0,
                x,
                y,
            };
            draw_panel(canvas, &frame, shown)?;
            if !bins && index + columns >= picture.panels.len() {
                let below = ((frame.left + frame.right) / 2.0, frame.bottom + 42.0);
                canvas.text("step", below, Anchor::Middle, Font::new(14.0, TEXT))?;
            }
        }
        Ok(())
    })
}

fn axes(panel: &TokenPanel) -> (Axis, Axis) {
    let around =
        |values: &mut dyn Iterator<Item = f64>, margin| Axis::around(values, Scale::Linear, margin);
    match panel {
        TokenPanel::Bins {
            histogram, edges, ..
        } => (
            around(&mut edges.iter().copied(), 0.02).with_ticks(5),
            around(&mut histogram.iter().map(|bar| bar.1).chain([0.0]), 0.0).with_ticks(3),
        ),
        TokenPanel::Path {
            original, restored, ..
        } => {
            let points = || original.iter().chain(restored);
            (
                around(&mut points().map(|point| point.0), 0.02).counting(),
                around(&mut points().map(|point| point.1), 0.08).with_ticks(4),
            )
        }
    }
}

fn draw_panel(canvas: &mut Canvas<'_>, frame: &Frame, panel: &TokenPanel) -> Result<()> {
    let (TokenPanel::Bins { label, .. } | TokenPanel::Path { label, .. }) = panel;
    let title = (frame.left, frame.top - 12.0);
    canvas.text(label, title, Anchor::Start, Font::bold(14.0, TEXT))?;
    frame.draw(canvas)?;
    match panel {
        TokenPanel::Bins {
            histogram, edges, ..
        } => {
            let half = match histogram[..] {
                [first, second, ..] => (second.0 - first.0) / 2.0,
                _ => 0.01,
            };
            for &(middle, share) in histogram {
                let (from, to) = (
                    frame.place((middle - half, share)),
                    frame.place((middle + half, 0.0)),
                );
                canvas.rectangle(from, to, BAR)?;
            }
            // Over the lower part only, so that the shape stays to be seen.
            let top = frame.bottom - 0.16 * (frame.bottom - frame.top);
            for &edge in edges {
                let x = frame.place((edge, 0.0)).0;
                canvas.line(&[(x, frame.bottom), (x, top)], edge_stroke())?;
            }
            frame.draw_x_axis(canvas)
        }
        TokenPanel::Path {
            original, restored, ..
        } => {
            canvas.line(&frame.places(original), original_stroke())?;
            canvas.line(&frame.places(restored), restored_stroke())
        }
    }
}

fn edge_stroke() -> Stroke {
    Stroke::new(VERMILION, 1.0).alpha(0.75)
}

fn original_stroke() -> Stroke {
    Stroke::new(BLUE, 2.5)
}

fn restored_stroke() -> Stroke {
    Stroke::new(VERMILION, 1.3)
}
