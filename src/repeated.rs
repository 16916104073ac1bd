//! Warnings that several runs of one command give alike are shown once.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// How often each was given since [`begin`]; `None`: all are shown.
static GIVEN: Mutex<Option<BTreeMap<String, usize>>> = Mutex::new(None);

fn given() -> MutexGuard<'static, Option<BTreeMap<String, usize>>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a warning that was shown is not shown again.
pub fn begin() {
    *given() = Some(BTreeMap::new());
}

/// All are shown again; those that were given more than once, with how often.
pub fn end() -> Vec<(String, usize)> {
    let found = given().take().unwrap_or_default();
    found.into_iter().filter(|(_, count)| *count > 1).collect()
}

/// Keeps the second and further ones from what is shown.
pub struct Once;

impl<S> Filter<S> for Once {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        if *event.metadata().level() != Level::WARN {
            return true;
        }
        let mut text = Text::default();
        event.record(&mut text);
        match given().as_mut() {
            None => true,
            Some(given) => {
                let count = given.entry(text.0).or_default();
                *count += 1;
                *count == 1
            }
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
