//! Bars for what goes over the network, and the sizes that the server announced.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hf_hub::progress::{DownloadEvent, FileStatus, ProgressEvent, ProgressHandler, UploadEvent};
use indicatif::{ProgressBar, ProgressStyle};

/// One bar on standard error, if that is a terminal.
#[derive(Clone)]
pub(super) struct Bars(Arc<Shown>);

struct Shown {
    bar: ProgressBar,
    sizes: Mutex<HashMap<String, u64>>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::no_length();
        let template = "{msg:28!} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let sizes = Mutex::new(HashMap::new());
        Self(Arc::new(Shown { bar, sizes }))
    }

    /// What is shown as being transferred.
    pub(super) fn name(&self, name: &str) {
        self.0.bar.set_message(name.to_owned());
        self.0.bar.set_position(0);
    }

    /// The size of a file that its server announced, in bytes; `None` if it did not.
    pub(super) fn announced(&self, name: &str) -> Option<u64> {
        let sizes = self.0.sizes.lock();
        let sizes = sizes.unwrap_or_else(PoisonError::into_inner);
        sizes.get(name).copied().filter(|&size| size > 0)
    }

    pub(super) fn end(&self) {
        self.0.bar.finish_and_clear();
    }
}

impl ProgressHandler for Bars {
    fn on_progress(&self, event: &ProgressEvent) {
        let bar = &self.0.bar;
        match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                for file in files {
                    let sizes = self.0.sizes.lock();
                    let mut sizes = sizes.unwrap_or_else(PoisonError::into_inner);
                    sizes.insert(file.filename.clone(), file.total_bytes);
                    bar.set_length(file.total_bytes);
                    if file.status != FileStatus::Started {
                        bar.set_position(file.bytes_completed);
                    }
                }
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress {
                bytes_completed,
                total_bytes,
                ..
            })
            | ProgressEvent::Upload(UploadEvent::Progress {
                bytes_completed,
                total_bytes,
                ..
            }) => {
                bar.set_length(*total_bytes);
                bar.set_position(*bytes_completed);
            }
            _ => {}
        }
    }
}
