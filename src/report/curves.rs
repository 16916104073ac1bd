//! Learning curves: a quantity over updates, as a line with a band, of one or of several runs.

use std::path::Path;

pub use crate::report::axes::Scale;
use crate::report::axes::{Axis, BAND_ALPHA, Frame, Header, MARGIN, Mark};
use crate::report::canvas::{Canvas, render};
use crate::report::style::{Anchor, Font, MUTED, Rgb, SERIES, Stroke};
use trajformer_core::error::Result;

/// A line of more points is a curve.
const MOST_DOTS: usize = 40;

/// One line of a chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub label: String,
    /// Places from left to right; a place that is not finite interrupts the line.
    pub points: Vec<(f64, f64)>,
    /// Lower and upper edge of the band at each of `points`, e.g. mean ± standard deviation.
    pub band: Option<Vec<(f64, f64)>>,
    /// Faint thin lines behind: single runs, or the values before smoothing.
    pub faint: Vec<Vec<(f64, f64)>>,
    /// Whether `points` have dots.
    pub dots: Dots,
}

/// Which points of a line have dots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dots {
    /// Those of a line with few: they are measurements.
    #[default]
    Few,
    /// None: the line is computed.
    None,
}

impl Series {
    /// A plain line.
    pub fn line(label: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            label: label.into(),
            points,
            ..Self::default()
        }
    }

    /// Mean of several runs, a band of ± one standard deviation (n in the denominator) and the runs
    /// faintly behind it; only those x where every run has a value, in the first run's order.
    pub fn of_runs(label: impl Into<String>, runs: Vec<Vec<(f64, f64)>>) -> Self {
        let mut points = Vec::new();
        let mut band = Vec::new();
        for &(x, _) in runs.first().into_iter().flatten() {
            let at = |run: &Vec<(f64, f64)>| run.iter().find(|point| point.0 == x).map(|p| p.1);
            let Some(values) = runs.iter().map(at).collect::<Option<Vec<f64>>>() else {
                continue;
            };
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values
                .iter()
                .map(|value| (value - mean).powi(2))
                .sum::<f64>()
                / count;
            points.push((x, mean));
            band.push((mean - variance.sqrt(), mean + variance.sqrt()));
        }
        Self {
            label: label.into(),
            points,
            band: Some(band),
            faint: runs,
            dots: Dots::Few,
        }
    }

    /// Means over `2 * half_width + 1` neighbors (fewer at the ends), with the values themselves
    /// faintly behind: for losses.
    pub fn smoothed(label: impl Into<String>, points: Vec<(f64, f64)>, half_width: usize) -> Self {
        let mean = |index: usize| {
            let last = (index + half_width).min(points.len() - 1);
            let near = &points[index.saturating_sub(half_width)..=last];
            let sum: f64 = near.iter().map(|point| point.1).sum();
            (points[index].0, sum / near.len() as f64)
        };
        let means = (0..points.len()).map(mean).collect();
        Self {
            label: label.into(),
            points: means,
            band: None,
            faint: vec![points],
            dots: Dots::Few,
        }
    }
}

/// A dashed line across the chart, e.g. the mean return in the data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReferenceLine {
    /// Words beside its right end.
    pub label: String,
    /// Where it crosses the y axis.
    pub y: f64,
}

/// A chart of lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curves {
    /// What the chart shows, in a few words.
    pub title: String,
    /// One line below the title; may be empty.
    pub subtitle: String,
    /// What the x axis shows, with its unit.
    pub x_label: String,
    /// What the y axis shows, with its unit.
    pub y_label: String,
    /// Linear, or logarithmic for losses that fall by orders of magnitude.
    pub y_scale: Scale,
    /// The lines; the legend keeps their order.
    pub series: Vec<Series>,
    /// Values to compare with.
    pub reference_lines: Vec<ReferenceLine>,
}

/// Draws the chart, 900 x 540 pixels.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, chart: &Curves) -> Result<()> {
    let (width, height) = (900.0, 540.0);
    let header = Header {
        title: &chart.title,
        subtitle: &chart.subtitle,
        legend: legend(&chart.series),
    };
    let frame = frame(chart, &header, (width, height));
    render(path, (width, height), |canvas| {
        header.draw(canvas, width)?;
        frame.draw(canvas)?;
        frame.draw_labels(canvas, [&chart.x_label, &chart.y_label], MARGIN + 12.0)?;
        for line in &chart.reference_lines {
            draw_reference_line(canvas, &frame, line)?;
        }
        draw_all(canvas, &frame, &chart.series)?;
        label_reference_lines(canvas, &frame, &chart.reference_lines)
    })
}

/// A mark and a name for each of `series`.
pub(super) fn legend(series: &[Series]) -> Vec<(Mark, String)> {
    let mark = |(series, color): (&Series, Rgb)| {
        let stroke = Stroke::new(color, 2.5);
        let banded = series.band.as_ref().is_some_and(|band| !band.is_empty());
        let mark = if banded && series.points.len() == 1 {
            Mark::Bar(stroke)
        } else if banded {
            Mark::Band(stroke)
        } else {
            Mark::Line(stroke)
        };
        (mark, series.label.clone())
    };
    series
        .iter()
        .zip(SERIES.into_iter().cycle())
        .map(mark)
        .collect()
}

/// All lines, in front of all bands.
pub(super) fn draw_all(canvas: &mut Canvas<'_>, frame: &Frame, series: &[Series]) -> Result<()> {
    let colored = || series.iter().zip(SERIES.into_iter().cycle());
    for (series, color) in colored() {
        draw_behind(canvas, frame, series, color)?;
    }
    for (series, color) in colored() {
        draw_series(canvas, frame, series, color)?;
    }
    Ok(())
}

/// The axes that hold all points, bands and faint lines of `series`, and the values `also` of y.
pub(super) fn axes(
    series: &[Series],
    scale: Scale,
    also: impl Iterator<Item = f64>,
) -> (Axis, Axis) {
    let lines = || {
        series.iter().flat_map(|series| {
            std::iter::once(&series.points)
                .chain(&series.faint)
                .flatten()
                .copied()
        })
    };
    // A single point and its bar need space on both sides.
    let margin = if series.iter().any(|series| series.points.len() == 1) {
        0.05
    } else {
        0.0
    };
    let x = Axis::around(lines().map(|point| point.0), Scale::Linear, margin).with_ticks(8);
    let bands = series
        .iter()
        .flat_map(|series| series.band.iter().flatten());
    let values = lines()
        .map(|point| point.1)
        .chain(bands.flat_map(|&(low, high)| [low, high]))
        .chain(also);
    (x, Axis::around(values, scale, 0.06))
}

fn frame(chart: &Curves, header: &Header<'_>, (width, height): (f64, f64)) -> Frame {
    let references = chart.reference_lines.iter().map(|line| line.y);
    let (x, y) = axes(&chart.series, chart.y_scale, references);
    let labels = chart
        .reference_lines
        .iter()
        .map(|line| reference_font().width(&line.label));
    // SVG viewers may use a wider font than the built-in one.
    let beside = labels.map(|width| 1.1 * width).fold(12.0, f64::max);
    Frame {
        left: MARGIN + 32.0 + y.label_width(),
        top: header.height(width),
        right: width - MARGIN - beside,
        bottom: height - MARGIN - 44.0,
        x,
        y,
    }
}

/// Band and faint lines; of a single point the band is an error bar.
fn draw_behind(canvas: &mut Canvas<'_>, frame: &Frame, series: &Series, color: Rgb) -> Result<()> {
    if let (&[(x, _)], Some(&[(low, high)])) = (&series.points[..], series.band.as_deref()) {
        let (low, high) = (frame.place((x, low)), frame.place((x, high)));
        if low.1.is_finite() && high.1.is_finite() {
            let stroke = Stroke::new(color, 1.5);
            canvas.line(&[low, high], stroke)?;
            for (x, y) in [low, high] {
                canvas.line(&[(x - 5.0, y), (x + 5.0, y)], stroke)?;
            }
        }
    } else if let Some(band) = &series.band {
        let edge = |upper: bool| {
            let side = move |&(low, high): &(f64, f64)| if upper { high } else { low };
            series.points.iter().zip(band).map(move |(point, edges)| {
                let (x, y) = frame.place((point.0, side(edges)));
                // A lower edge without a place on a logarithmic axis lies below everything.
                (x, if y.is_nan() { frame.bottom } else { y })
            })
        };
        let corners: Vec<_> = edge(true).chain(edge(false).rev()).collect();
        if corners.iter().all(|(x, y)| x.is_finite() && y.is_finite()) {
            canvas.polygon(&corners, color, BAND_ALPHA)?;
        }
    }
    for run in &series.faint {
        canvas.line(&frame.places(run), Stroke::new(color, 1.0).alpha(0.35))?;
    }
    Ok(())
}

fn draw_series(canvas: &mut Canvas<'_>, frame: &Frame, series: &Series, color: Rgb) -> Result<()> {
    let places = frame.places(&series.points);
    canvas.line(&places, Stroke::new(color, 2.5))?;
    let dotted = series.dots == Dots::Few && places.len() <= MOST_DOTS;
    for &place in places.iter().filter(|place| place.1.is_finite() && dotted) {
        canvas.disc(place, 3.5, color)?;
    }
    Ok(())
}

fn draw_reference_line(canvas: &mut Canvas<'_>, frame: &Frame, line: &ReferenceLine) -> Result<()> {
    let y = frame.place((0.0, line.y)).1;
    let stroke = Stroke::new(MUTED, 1.5).dashed(7.0, 5.0);
    canvas.line(&[(frame.left, y), (frame.right, y)], stroke)
}

/// The lines' words, to the right of the chart, pushed apart where lines lie close together.
fn label_reference_lines(
    canvas: &mut Canvas<'_>,
    frame: &Frame,
    lines: &[ReferenceLine],
) -> Result<()> {
    let mut labels: Vec<(f64, &str)> = lines
        .iter()
        .map(|line| (frame.place((0.0, line.y)).1, line.label.as_str()))
        .filter(|(y, _)| y.is_finite())
        .collect();
    labels.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut lowest = f64::NEG_INFINITY;
    for (y, label) in labels {
        let y = y.max(lowest);
        lowest = y + 17.0;
        canvas.text(
            label,
            (frame.right + 8.0, y + 4.6),
            Anchor::Start,
            reference_font(),
        )?;
    }
    Ok(())
}

fn reference_font() -> Font {
    Font::new(13.0, MUTED)
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn runs_become_their_mean_and_deviation_where_all_of_them_have_a_value() {
        let runs = vec![
            vec![(0.0, 1.0), (1.0, 2.0), (2.0, 9.0)],
            vec![(0.0, 3.0), (1.0, 6.0)],
        ];
        let series = Series::of_runs("score", runs);
        assert_eq!(series.points, [(0.0, 2.0), (1.0, 4.0)]);
        assert_eq!(series.band, Some(vec![(1.0, 3.0), (2.0, 6.0)]));
    }

    #[test]
    fn smoothing_averages_over_the_neighbors_there_are() {
        let points = vec![(0.0, 3.0), (1.0, 0.0), (2.0, 6.0), (3.0, 0.0)];
        let series = Series::smoothed("loss", points, 1);
        assert_eq!(
            series.points,
            [(0.0, 1.5), (1.0, 3.0), (2.0, 2.0), (3.0, 3.0)]
        );
        assert!(Series::smoothed("loss", Vec::new(), 5).points.is_empty());
    }
}
