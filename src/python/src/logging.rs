//! What the library reports, given to Python's `logging`.

use std::fmt::{Debug, Write};

use pyo3::types::{PyAnyMethods, PyModule};
use pyo3::{PyResult, Python};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Logger that everything goes to.
const LOGGER: &str = "trajformer";

/// Passes events of the library to Python's logger `trajformer`. To be called once; where the program has a subscriber already, that one stays.
pub fn pass_on() {
    // It fails if there is one.
    let _ = tracing::subscriber::set_global_default(ToPython);
}

struct ToPython;

impl Subscriber for ToPython {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("trajformer");
        ours && metadata.is_event() && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let method = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => "info",
        };
        // There is nobody to tell of a logger that fails, or of an interpreter that has ended.
        let _ = Python::try_attach(|py| -> PyResult<()> {
            let logger = PyModule::import(py, "logging")?.call_method1("getLogger", (LOGGER,))?;
            logger.call_method1(method, ("%s", line.0))?;
            Ok(())
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event as text.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string can't fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
