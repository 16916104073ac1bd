//! Warnings that several runs of one command give alike are shown once, and what was told already not again.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// What is shown.
enum Shown {
    /// Everything.
    All,
    /// Each warning once; how often each was given since [`begin`].
    Once(BTreeMap<String, usize>),
    /// Errors.
    Errors,
}

static SHOWN: Mutex<Shown> = Mutex::new(Shown::All);

fn shown() -> MutexGuard<'static, Shown> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a warning that was shown is not shown again.
pub fn begin() {
    *shown() = Shown::Once(BTreeMap::new());
}

/// All are shown again; those that were given more than once, with how often.
pub fn end() -> Vec<(String, usize)> {
    match std::mem::replace(&mut *shown(), Shown::All) {
        Shown::Once(found) => found.into_iter().filter(|(_, count)| *count > 1).collect(),
        _ => Vec::new(),
    }
}

/// Does what another process has told about already: only errors are shown.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    *shown() = Shown::Errors;
    let found = work();
    *shown() = Shown::All;
    found
}

/// Keeps the second and further ones from what is shown.
pub struct Once;

impl<S> Filter<S> for Once {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let level = *event.metadata().level();
        match &mut *shown() {
            Shown::Once(given) if level == Level::WARN => {
                let mut text = Text::default();
                event.record(&mut text);
                let count = given.entry(text.0).or_default();
                *count += 1;
                *count == 1
            }
            Shown::Errors => level == Level::ERROR,
            _ => true,
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}
