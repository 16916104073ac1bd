//! [`Progress`]: how far work has come: a bar on a terminal; elsewhere a line of the log now and then, for files and batch systems.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Seconds between two lines, where the variable below does not say otherwise.
const SECONDS: f64 = 10.0;
/// Environment variable with the seconds between two lines.
const VARIABLE: &str = "TRAJFORMER_PROGRESS_SECONDS";
/// Most values of a [`sparkline`].
const SPARKS: usize = 16;

/// How long after a line on how far work has come the next one is: ten seconds, or what `TRAJFORMER_PROGRESS_SECONDS` says.
pub fn seconds_between_lines() -> Duration {
    let seconds = std::env::var(VARIABLE).ok();
    let seconds = seconds.and_then(|text| text.parse().ok());
    let seconds = seconds.filter(|seconds: &f64| (0.0..1e6).contains(seconds));
    Duration::from_secs_f64(seconds.unwrap_or(SECONDS))
}

/// How far a piece of work has come. On a terminal it is a bar on standard error; else it is lines of the log, at most one every
/// ten seconds (or every `TRAJFORMER_PROGRESS_SECONDS`), and none where the work is shorter than that.
pub struct Progress {
    bar: ProgressBar,
    /// What is counted, e.g. `updates`.
    unit: &'static str,
    lines: Mutex<Lines>,
}

/// What lines need to know.
struct Lines {
    begin: Instant,
    /// Done when the work began.
    first: u64,
    last: Instant,
    every: Duration,
    message: String,
}

impl Progress {
    /// Nothing is done yet, of so many updates.
    pub fn new(updates: u64) -> Self {
        Self::of("updates", 0, updates)
    }

    /// `done` are done already, of `total` updates, steps or whatever `unit` says.
    pub fn of(unit: &'static str, done: u64, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_position(done);
        bar.set_style(style(unit));
        bar.reset_eta();
        let begin = Instant::now();
        let lines = Lines {
            begin,
            first: done,
            last: begin,
            every: seconds_between_lines(),
            message: String::new(),
        };
        Self {
            bar,
            unit,
            lines: Mutex::new(lines),
        }
    }

    /// Whether there is no terminal for a bar.
    pub fn writes_lines(&self) -> bool {
        self.bar.is_hidden()
    }

    /// So many are done, of another total than before.
    pub fn set_of(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.set(done);
    }

    /// So many are done.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
        if !self.writes_lines() {
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now - lines.last < lines.every {
            return;
        }
        lines.last = now;
        let seconds = (now - lines.begin).as_secs_f64();
        let total = self.bar.length().unwrap_or(done);
        let mut text = line(self.unit, [lines.first, done, total], seconds);
        if !lines.message.is_empty() {
            let _ = write!(text, "; {}", lines.message);
        }
        drop(lines);
        tracing::info!("{text}");
    }

    /// What is said beside it: `brief` on lines, `wide` beside the bar.
    pub fn say(&self, brief: String, wide: String) {
        self.bar.set_message(wide);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.message = brief;
    }

    /// Does something that writes to the terminal, without the bar in between.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.bar.suspend(act)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(unit: &str) -> ProgressStyle {
    let template = format!(
        "{{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{elapsed}} elapsed, {{eta}} left  {{wide_msg}}"
    );
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// `300 of 1000 updates (30 %), 20.0/s, 35 s left`: `done` of `total`, after `seconds` in which all past `first` were done.
fn line(unit: &str, [first, done, total]: [u64; 3], seconds: f64) -> String {
    let share = 100.0 * done as f64 / total.max(1) as f64;
    let mut text = format!("{done} of {total} {unit} ({share:.0} %)");
    let rate = done.saturating_sub(first) as f64 / seconds;
    if rate > 0.0 && rate.is_finite() {
        let decimals = if rate < 10.0 { 2 } else { 0 };
        let left = total.saturating_sub(done) as f64 / rate;
        let _ = write!(text, ", {rate:.decimals$}/s, {} left", duration(left));
    }
    text
}

/// A number of seconds for people: `35 s`, `12 min`, `3 h 20 min`, `4 d 3 h`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..3_600 => format!("{} min", (whole + 30) / 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// The last of these values as a row of small bars, from the lowest to the highest; what is not finite is a dot.
pub fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = &values[values.len().saturating_sub(SPARKS)..];
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: &f64| {
        if !value.is_finite() {
            '·'
        } else if high > low {
            BARS[((value - low) / (high - low) * 7.0).round() as usize]
        } else {
            BARS[3]
        }
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_share_rate_and_time_left() {
        assert_eq!(
            line("updates", [0, 300, 1000], 15.0),
            "300 of 1000 updates (30 %), 20/s, 35 s left"
        );
        // What was done before counts for the share, not for the rate.
        assert_eq!(
            line("episodes", [40, 50, 100], 20.0),
            "50 of 100 episodes (50 %), 0.50/s, 100 s left"
        );
        assert_eq!(line("steps", [5, 5, 10], 3.0), "5 of 10 steps (50 %)");
        assert_eq!(line("steps", [0, 0, 0], 0.0), "0 of 0 steps (0 %)");
    }

    #[test]
    fn durations_are_said_in_two_units_at_most() {
        for (seconds, text) in [
            (0.2, "0 s"),
            (119.0, "119 s"),
            (150.0, "3 min"),
            (12_000.0, "3 h 20 min"),
            (360_000.0, "4 d 4 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn sparks_go_from_the_lowest_to_the_highest_of_the_last_values() {
        assert_eq!(sparkline(&[0.0, 7.0, 3.0]), "▁█▄");
        assert_eq!(sparkline(&[5.0, 5.0]), "▄▄");
        assert_eq!(sparkline(&[1.0, f64::NAN, 2.0]), "▁·█");
        let many: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(sparkline(&many).chars().count(), SPARKS);
        assert_eq!(sparkline(&[]), "");
    }
}
