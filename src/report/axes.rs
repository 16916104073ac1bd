//! A chart's frame: ranges, round ticks, labels, the title block and the legend.

use crate::report::canvas::Canvas;
use crate::report::style::{Anchor, Font, GRID, MUTED, Point, Stroke, TEXT};
use trajformer_core::error::Result;

/// Space around a picture, in logical pixels.
pub(super) const MARGIN: f64 = 24.0;
/// How strongly a band covers what is behind it.
pub(super) const BAND_ALPHA: f64 = 0.2;
/// Size of the words along an axis.
const TICK_FONT: f64 = 13.0;

/// How numbers become lengths along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Scale {
    /// Equal steps are equal lengths.
    #[default]
    Linear,
    /// Equal factors are equal lengths; numbers that are not above zero are left out.
    Log,
}

impl Scale {
    /// The number that lengths along the axis are proportional to; NaN where there is none.
    fn length(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log if value > 0.0 => value.log10(),
            Self::Log => f64::NAN,
        }
    }
}

/// One axis: what it spans and where its ticks are.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64, // low < high, both after `scale`
    scale: Scale,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that spans `values`, plus the share `margin` of their range at either end.
    pub fn around(values: impl Iterator<Item = f64>, scale: Scale, margin: f64) -> Self {
        let lengths = values
            .map(|value| scale.length(value))
            .filter(|length| length.is_finite());
        let (mut low, mut high) = lengths
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), length| {
                (low.min(length), high.max(length))
            });
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low <= 1e-12 * high.abs().max(low.abs()) {
            let half = if scale == Scale::Log {
                0.5
            } else {
                (0.1 * high.abs()).max(0.5)
            };
            (low, high) = (low - half, high + half);
        }
        let space = margin * (high - low);
        let (low, high) = (low - space, high + space);
        Self {
            low,
            high,
            scale,
            ticks: Vec::new(),
        }
        .with_ticks(6)
    }

    /// This axis with about `wanted` ticks at round numbers.
    pub fn with_ticks(mut self, wanted: usize) -> Self {
        self.ticks = match self.scale {
            Scale::Linear => linear_ticks(self.low, self.high, wanted),
            Scale::Log => log_ticks(self.low, self.high, wanted),
        };
        self
    }

    /// This axis with ticks at whole numbers only: for counts.
    pub fn counting(mut self) -> Self {
        self.ticks.retain(|(value, _)| value.fract() == 0.0);
        for (value, label) in &mut self.ticks {
            *label = without_zeros(&number(*value, 1.0, value.abs()));
        }
        self
    }

    /// Share of the axis below `value`; 0 at its lower end, 1 at its upper end.
    pub fn share(&self, value: f64) -> f64 {
        (self.scale.length(value) - self.low) / (self.high - self.low)
    }

    /// The numbers at its ends.
    pub fn span(&self) -> (f64, f64) {
        match self.scale {
            Scale::Linear => (self.low, self.high),
            Scale::Log => (10_f64.powf(self.low), 10_f64.powf(self.high)),
        }
    }

    /// Width of the widest tick label, in logical pixels.
    pub fn label_width(&self) -> f64 {
        let font = Font::new(TICK_FONT, MUTED);
        self.ticks
            .iter()
            .map(|(_, label)| font.width(label))
            .fold(0.0, f64::max)
    }
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64, wanted: usize) -> Vec<(f64, String)> {
    let rough = (high - low) / wanted.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let span = |step: f64| {
        (
            (low / step - 1e-9).ceil() as i64,
            (high / step + 1e-9).floor() as i64,
        )
    };
    // The largest step that leaves almost as many ticks as wanted.
    let enough = |step: &f64| span(*step).1 - span(*step).0 + 2 >= wanted as i64;
    let steps = [10.0, 5.0, 2.0, 1.0].map(|factor| factor * power);
    let step = steps.into_iter().find(enough).unwrap_or(power);
    let (first, last) = span(step);
    let largest = low.abs().max(high.abs());
    (first..=last)
        .map(|index| {
            let value = index as f64 * step;
            (value, number(value, step, largest))
        })
        .collect()
}

/// Ticks at powers of ten, and at 2 and 5 times those where there is room; `low`, `high` are log10.
fn log_ticks(low: f64, high: f64, wanted: usize) -> Vec<(f64, String)> {
    let decades = high - low;
    let every = (decades / wanted.max(1) as f64).ceil().max(1.0) as i32;
    let factors: &[f64] = if decades < 3.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let mut ticks = Vec::new();
    for exponent in (low.floor() as i32)..=(high.ceil() as i32) {
        if exponent.rem_euclid(every) != 0 {
            continue;
        }
        for factor in factors {
            let value = factor * 10_f64.powi(exponent);
            let inside = value.log10() >= low - 1e-9 && value.log10() <= high + 1e-9;
            if inside {
                ticks.push((value, number(value, value, value)));
            }
        }
    }
    ticks
}

/// A number as people write it: `0.05`, `−3`, `12,000` as `12k`; `step` sets the decimals.
fn number(value: f64, step: f64, largest: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e9).contains(&largest) {
        return format!("{value:.0e}").replace('-', "−");
    }
    let (divisor, unit) = match largest {
        l if l >= 1e6 => (1e6, "M"),
        l if l >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(step / divisor).log10() - 1e-9).ceil().max(0.0) as usize;
    format!("{:.decimals$}{unit}", value / divisor).replace('-', "−")
}

/// `10k` for `10.000k`.
fn without_zeros(label: &str) -> String {
    let end = label
        .find(|c: char| c.is_alphabetic())
        .unwrap_or(label.len());
    let (digits, unit) = label.split_at(end);
    if digits.contains('.') {
        format!(
            "{}{unit}",
            digits.trim_end_matches('0').trim_end_matches('.')
        )
    } else {
        label.to_owned()
    }
}

/// The area of a chart and its two axes.
pub(super) struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: Axis,
    pub y: Axis,
}

impl Frame {
    /// Where a pair of values lies on the sheet; NaN where a scale has no place for it.
    pub fn place(&self, (x, y): (f64, f64)) -> Point {
        (
            self.left + self.x.share(x) * (self.right - self.left),
            self.bottom - self.y.share(y) * (self.bottom - self.top),
        )
    }

    /// The places of many pairs.
    pub fn places(&self, values: &[(f64, f64)]) -> Vec<Point> {
        values.iter().map(|&pair| self.place(pair)).collect()
    }

    /// Grid lines, axis lines, ticks and their labels.
    pub fn draw(&self, canvas: &mut Canvas<'_>) -> Result<()> {
        let font = Font::new(TICK_FONT, MUTED);
        for (value, label) in &self.y.ticks {
            let y = self.bottom - self.y.share(*value) * (self.bottom - self.top);
            canvas.line(&[(self.left, y), (self.right, y)], Stroke::new(GRID, 1.0))?;
            canvas.text(label, (self.left - 8.0, y + 4.6), Anchor::End, font)?;
        }
        self.draw_x_axis(canvas)
    }

    /// The lower axis line with its ticks and their labels.
    pub fn draw_x_axis(&self, canvas: &mut Canvas<'_>) -> Result<()> {
        let line = Stroke::new(MUTED, 1.0);
        canvas.line(&[(self.left, self.bottom), (self.right, self.bottom)], line)?;
        for (value, label) in &self.x.ticks {
            let x = self.left + self.x.share(*value) * (self.right - self.left);
            canvas.line(&[(x, self.bottom), (x, self.bottom + 5.0)], line)?;
            let font = Font::new(TICK_FONT, MUTED);
            canvas.text(label, (x, self.bottom + 20.0), Anchor::Middle, font)?;
        }
        Ok(())
    }

    /// What the axes show, with units; `y_label` runs upwards at the sheet's place `x`.
    pub fn draw_labels(&self, canvas: &mut Canvas<'_>, labels: [&str; 2], x: f64) -> Result<()> {
        let font = Font::new(14.0, TEXT);
        let middle = (
            (self.left + self.right) / 2.0,
            (self.top + self.bottom) / 2.0,
        );
        canvas.text(
            labels[0],
            (middle.0, self.bottom + 44.0),
            Anchor::Middle,
            font,
        )?;
        canvas.upward_text(labels[1], (x, middle.1), font)
    }
}

/// The mark before a legend's words.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    Line(Stroke),
    /// A line on a band of its color.
    Band(Stroke),
    /// A point with an error bar.
    Bar(Stroke),
    Start,
    End,
    Goal,
    Reward,
}

/// Title, subtitle and legend; gives the height they take, or would take.
pub(super) struct Header<'a> {
    pub title: &'a str,
    /// One line below the title; may be empty.
    pub subtitle: &'a str,
    pub legend: Vec<(Mark, String)>,
}

impl Header<'_> {
    const MARK_WIDTH: f64 = 30.0;
    const ROW: f64 = 24.0;

    fn legend_font() -> Font {
        Font::new(14.0, TEXT)
    }

    /// Lower left end of every legend entry's words' baseline, for a sheet of this width.
    fn entries(&self, width: f64) -> Vec<Point> {
        let mut place = (MARGIN, MARGIN + 20.0 + Self::ROW + 4.0);
        if !self.subtitle.is_empty() {
            place.1 += 22.0;
        }
        let mut places = Vec::new();
        for (_, label) in &self.legend {
            // SVG viewers may use a wider font than the built-in one.
            let needed = Self::MARK_WIDTH + 8.0 + 1.1 * Self::legend_font().width(label);
            if place.0 > MARGIN && place.0 + needed > width - MARGIN {
                place = (MARGIN, place.1 + Self::ROW);
            }
            places.push(place);
            place.0 += needed + 20.0;
        }
        places
    }

    /// Where the picture below may begin, in logical pixels from the top.
    pub fn height(&self, width: f64) -> f64 {
        let above = MARGIN + if self.subtitle.is_empty() { 20.0 } else { 42.0 };
        self.entries(width).last().map_or(above, |place| place.1) + 18.0
    }

    /// Width that the title and the subtitle need.
    pub fn width(&self) -> f64 {
        let title = Font::bold(20.0, TEXT).width(self.title);
        title.max(Font::new(14.0, MUTED).width(self.subtitle)) + 2.0 * MARGIN
    }

    /// Draws it at the top of a sheet of this width.
    pub fn draw(&self, canvas: &mut Canvas<'_>, width: f64) -> Result<()> {
        let baseline = MARGIN + 16.0;
        canvas.text(
            self.title,
            (MARGIN, baseline),
            Anchor::Start,
            Font::bold(20.0, TEXT),
        )?;
        let subtitle = (MARGIN, baseline + 23.0);
        if !self.subtitle.is_empty() {
            canvas.text(
                self.subtitle,
                subtitle,
                Anchor::Start,
                Font::new(14.0, MUTED),
            )?;
        }
        for ((mark, label), (x, y)) in self.legend.iter().zip(self.entries(width)) {
            draw_mark(canvas, *mark, (x, y - 5.0))?;
            let words = (x + Self::MARK_WIDTH + 8.0, y);
            canvas.text(label, words, Anchor::Start, Self::legend_font())?;
        }
        Ok(())
    }
}

/// A legend's mark; `place` is the middle of its left side.
fn draw_mark(canvas: &mut Canvas<'_>, mark: Mark, (x, y): Point) -> Result<()> {
    let (right, middle) = (x + Header::MARK_WIDTH, x + Header::MARK_WIDTH / 2.0);
    match mark {
        Mark::Line(stroke) => canvas.line(&[(x, y), (right, y)], stroke),
        Mark::Band(stroke) => {
            let corners = [
                (x, y - 7.0),
                (right, y - 7.0),
                (right, y + 7.0),
                (x, y + 7.0),
            ];
            canvas.polygon(&corners, stroke.color, BAND_ALPHA)?;
            canvas.line(&[(x, y), (right, y)], stroke)
        }
        Mark::Bar(stroke) => {
            let bar = [(middle, y - 8.0), (middle, y + 8.0)];
            canvas.line(
                &bar,
                Stroke {
                    width: 1.5,
                    ..stroke
                },
            )?;
            canvas.disc((middle, y), 3.5, stroke.color)
        }
        Mark::Start => super::marks::draw_start(canvas, (middle, y)),
        Mark::End => super::marks::draw_end(canvas, (middle, y)),
        Mark::Goal => super::marks::draw_goal(canvas, (middle, y)),
        Mark::Reward => super::marks::draw_reward(canvas, (middle, y)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Axis, Scale};

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers_with_the_decimals_they_need() {
        let check = |low: f64, high: f64, scale, expected: &[&str]| {
            let axis = Axis::around([low, high].into_iter(), scale, 0.0);
            assert_eq!(labels(&axis), expected, "{low} to {high}");
        };
        check(
            0.0,
            1.0,
            Scale::Linear,
            &["0", "0.2", "0.4", "0.6", "0.8", "1.0"],
        );
        check(-3.0, 2.0, Scale::Linear, &["−3", "−2", "−1", "0", "1", "2"]);
        check(
            0.0,
            25_000.0,
            Scale::Linear,
            &["0", "5k", "10k", "15k", "20k", "25k"],
        );
        check(0.01, 100.0, Scale::Log, &["0.01", "0.1", "1", "10", "100"]);
        check(0.1, 3.0, Scale::Log, &["0.1", "0.2", "0.5", "1", "2"]);
    }

    #[test]
    fn counts_have_no_decimals_that_say_nothing() {
        let axis = Axis::around([0.0, 25_000.0].into_iter(), Scale::Linear, 0.0).counting();
        assert_eq!(labels(&axis), ["0", "5000", "10k", "15k", "20k", "25k"]);
        let axis = Axis::around([0.0, 50_000.0].into_iter(), Scale::Linear, 0.0).counting();
        assert!(labels(&axis).contains(&"10k"), "{:?}", labels(&axis));
    }

    #[test]
    fn axes_exist_for_no_values_for_one_and_for_values_that_are_not_finite() {
        for values in [
            vec![],
            vec![7.0],
            vec![0.0],
            vec![f64::NAN, 2.0, f64::INFINITY],
        ] {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = Axis::around(values.iter().copied(), scale, 0.05);
                assert!(axis.low < axis.high && axis.low.is_finite() && axis.high.is_finite());
                assert!(!axis.ticks.is_empty(), "{values:?} {scale:?}");
            }
        }
    }

    #[test]
    fn a_logarithmic_axis_gives_equal_factors_equal_lengths_and_zero_no_place() {
        let axis = Axis::around([1.0, 100.0].into_iter(), Scale::Log, 0.0);
        assert!((axis.share(10.0) - 0.5).abs() < 1e-12); // log10 of a power of ten is exact
        assert!(axis.share(0.0).is_nan());
    }
}
