//! A bar for what goes over the network.

use indicatif::{ProgressBar, ProgressStyle};

/// One bar on standard error, if that is a terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::no_length();
        let template = "{msg:28!} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// What is shown as being transferred.
    pub(super) fn name(&self, name: &str) {
        self.0.set_message(name.to_owned());
        self.0.set_position(0);
    }

    /// How many bytes there are in all, where that is known.
    pub(super) fn length(&self, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.0.set_length(bytes);
        }
    }

    /// How many bytes have been transferred.
    pub(super) fn position(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Whether nobody sees it.
    pub(super) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
