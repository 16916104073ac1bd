//! [`Telemetry`]: counts and times in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::locked::lock;
use crate::app::memory;

/// Upper bounds of the classes of seconds.
const SECONDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// Upper bounds of the classes of rows in a batch.
const ROWS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

/// What has happened since the server began.
#[derive(Default)]
pub(super) struct Telemetry {
    /// By route and status.
    requests: Mutex<BTreeMap<(String, u16), Histogram>>,
    /// By model.
    batches: Mutex<BTreeMap<String, Histogram>>,
    /// By model and result.
    reloads: Mutex<BTreeMap<(String, &'static str), u64>>,
    pub sessions_begun: AtomicU64,
    /// That nobody used.
    pub sessions_expired: AtomicU64,
    pub connections: AtomicU64,
    /// Closed to make place for others, the one that was idle longest first.
    pub connections_evicted: AtomicU64,
    /// Closed at once: all others were busy.
    pub connections_refused: AtomicU64,
}

/// What is counted elsewhere, now.
pub(super) struct Gauges {
    pub sessions: usize,
    pub connections: usize,
    /// Name, update, rows that wait.
    pub models: Vec<(String, u64, usize)>,
}

#[derive(Debug, Clone, Default)]
struct Histogram {
    classes: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    fn add(&mut self, bounds: &[f64], value: f64) {
        self.classes.resize(bounds.len(), 0);
        for (class, bound) in self.classes.iter_mut().zip(bounds) {
            *class += u64::from(value <= *bound);
        }
        self.sum += value;
        self.count += 1;
    }

    fn write(&self, text: &mut String, name: &str, labels: &str, bounds: &[f64]) {
        for (class, bound) in self.classes.iter().zip(bounds) {
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {class}");
        }
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{name}_sum{{{labels}}} {}", self.sum);
        let _ = writeln!(text, "{name}_count{{{labels}}} {}", self.count);
    }
}

impl Telemetry {
    /// Counts a request: `route` as the server knows it, never as the client wrote it.
    pub(super) fn request(&self, route: &str, status: u16, took: Duration) {
        let mut requests = lock(&self.requests);
        let seconds = requests.entry((route.to_owned(), status)).or_default();
        seconds.add(&SECONDS, took.as_secs_f64());
    }

    pub(super) fn batch(&self, model: &str, rows: usize) {
        let mut batches = lock(&self.batches);
        let sizes = batches.entry(model.to_owned()).or_default();
        sizes.add(&ROWS, rows as f64);
    }

    pub(super) fn reload(&self, model: &str, result: &'static str) {
        *lock(&self.reloads)
            .entry((model.to_owned(), result))
            .or_default() += 1;
    }

    /// All of it.
    pub(super) fn text(&self, now: &Gauges) -> String {
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "trajformer_request_seconds";
        head(
            &mut text,
            name,
            "histogram",
            "Seconds from a request's head to its answer, by route and status.",
        );
        for ((route, status), seconds) in lock(&self.requests).iter() {
            let labels = format!("route=\"{}\",status=\"{status}\"", escaped(route));
            seconds.write(&mut text, name, &labels, &SECONDS);
        }
        let name = "trajformer_batch_rows";
        head(
            &mut text,
            name,
            "histogram",
            "Observations that were acted at together.",
        );
        for (model, rows) in lock(&self.batches).iter() {
            let labels = format!("model=\"{}\"", escaped(model));
            rows.write(&mut text, name, &labels, &ROWS);
        }
        let name = "trajformer_model_update";
        head(
            &mut text,
            name,
            "gauge",
            "Update of the checkpoint that acts.",
        );
        for (model, update, _) in &now.models {
            let _ = writeln!(text, "{name}{{model=\"{}\"}} {update}", escaped(model));
        }
        let name = "trajformer_waiting_rows";
        head(
            &mut text,
            name,
            "gauge",
            "Observations that wait for a batch.",
        );
        for (model, _, waiting) in &now.models {
            let _ = writeln!(text, "{name}{{model=\"{}\"}} {waiting}", escaped(model));
        }
        let name = "trajformer_reloads_total";
        head(&mut text, name, "counter", "Checkpoints opened anew.");
        for ((model, result), count) in lock(&self.reloads).iter() {
            let _ = writeln!(
                text,
                "{name}{{model=\"{}\",result=\"{result}\"}} {count}",
                escaped(model)
            );
        }
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let numbers = [
            (
                "trajformer_sessions",
                "gauge",
                "Sessions open.",
                now.sessions as u64,
            ),
            (
                "trajformer_sessions_begun_total",
                "counter",
                "Sessions opened.",
                of(&self.sessions_begun),
            ),
            (
                "trajformer_sessions_expired_total",
                "counter",
                "Sessions ended that nobody used.",
                of(&self.sessions_expired),
            ),
            (
                "trajformer_connections",
                "gauge",
                "Connections open.",
                now.connections as u64,
            ),
            (
                "trajformer_connections_total",
                "counter",
                "Connections accepted.",
                of(&self.connections),
            ),
            (
                "trajformer_connections_evicted_total",
                "counter",
                "Idle connections closed to make place for others.",
                of(&self.connections_evicted),
            ),
            (
                "trajformer_connections_refused_total",
                "counter",
                "Connections closed at once: all others were busy.",
                of(&self.connections_refused),
            ),
        ];
        for (name, kind, help, value) in numbers {
            head(&mut text, name, kind, help);
            let _ = writeln!(text, "{name} {value}");
        }
        if let Some(bytes) = memory::resident() {
            let name = "process_resident_memory_bytes";
            head(&mut text, name, "gauge", "Memory of the process.");
            let _ = writeln!(text, "{name} {bytes}");
        }
        text
    }
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_cumulative_and_labels_escaped() {
        let telemetry = Telemetry::default();
        telemetry.request("/a\"b", 200, Duration::from_millis(3));
        telemetry.request("/a\"b", 200, Duration::from_secs(60));
        let now = Gauges {
            sessions: 2,
            connections: 3,
            models: vec![("m".to_owned(), 7, 1)],
        };
        let text = telemetry.text(&now);
        for line in [
            "trajformer_request_seconds_bucket{route=\"/a\\\"b\",status=\"200\",le=\"0.0025\"} 0",
            "trajformer_request_seconds_bucket{route=\"/a\\\"b\",status=\"200\",le=\"0.005\"} 1",
            "trajformer_request_seconds_bucket{route=\"/a\\\"b\",status=\"200\",le=\"10\"} 1",
            "trajformer_request_seconds_bucket{route=\"/a\\\"b\",status=\"200\",le=\"+Inf\"} 2",
            "trajformer_request_seconds_count{route=\"/a\\\"b\",status=\"200\"} 2",
            "trajformer_model_update{model=\"m\"} 7",
            "trajformer_sessions 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
