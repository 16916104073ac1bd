//! [`Progress`]: a bar on standard error, with updates per second and the time left.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar alone, for work that writes no tables.
pub struct Progress(ProgressBar);

impl Progress {
    /// Nothing is done yet, of so many updates.
    pub fn new(updates: u64) -> Self {
        Self(ProgressBar::new(updates).with_style(progress_style()))
    }

    /// So many are done.
    pub fn set(&self, updates: u64) {
        self.0.set_position(updates);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

pub(super) fn progress_style() -> ProgressStyle {
    let template =
        "{bar:30} {pos}/{len} updates  {per_sec}  {elapsed} elapsed, {eta} left  {wide_msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
