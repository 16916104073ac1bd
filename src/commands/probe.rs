//! How long updates take on this machine, from a few that are timed on made-up data: what is said before anything is trained. It takes
//! some twenty seconds at most; what was timed is kept in the cache folder, so that the next call goes on from there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use trajformer::bench::{UpdateOptions, Updates};
use trajformer::checkpoint::fingerprint;
use trajformer::compare::tables::{Align, Table};
use trajformer::data::named::place;
use trajformer::sweep::{Line, write_table};
use trajformer::{about, envs};

use crate::commands::sweep::children::Workers;
use crate::commands::sweep::show::duration;
use crate::output::complain;

/// After so long no further configuration is timed.
const LONGEST: Duration = Duration::from_secs(15);
/// Batches that stand for larger ones, whose updates would take long.
const BATCHES: [usize; 2] = [8, 32];
/// Updates of which are expected to take no longer are timed as they are.
const SHORT_SECONDS: f64 = 0.2;
/// How long they are timed.
const SECONDS: f64 = 0.1;
/// Stack of the threads that are timed: gradients of deep graphs recurse.
const STACK_BYTES: usize = 8 << 20;
/// Numbers in an observation and an action where no environment says how many.
const USUAL_SIZES: (usize, usize) = (17, 6);

/// The mean seconds of an update of each of these configurations; `None` where the time did not suffice, or it can't be timed on made-up
/// data. Configurations of one algorithm that were not reached take the time of those that were.
pub fn seconds_per_update(lines: &[&Line], workers: &Workers) -> anyhow::Result<Vec<Option<f64>>> {
    let device = workers.devices.first().map_or("cpu", String::as_str);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(workers.threads)
        .stack_size(STACK_BYTES)
        .build()?;
    let timings = lines.iter().map(|line| Timing::of(line, device));
    let timings = timings.collect::<anyhow::Result<Vec<Timing>>>()?;
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let key = |timing: &Timing| {
        let commit = about::commit().unwrap_or("unknown");
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "{version} {commit} {build}; {} threads; {}",
            workers.threads, timing.key
        )
    };
    let mut known = kept();
    let (begin, before, mut is_said) = (Instant::now(), known.len(), false);
    // One of each algorithm first.
    let mut order: Vec<usize> = (0..timings.len()).collect();
    let place = |at: usize| {
        let own = &timings[at].options.algorithm;
        timings[..at]
            .iter()
            .filter(|other| other.options.algorithm == *own)
            .count()
    };
    order.sort_by_key(|at| place(*at));
    for at in order {
        let key = key(&timings[at]);
        if known.contains_key(&key) || begin.elapsed() > LONGEST {
            continue;
        }
        if !is_said {
            complain("timing a few updates of every algorithm, some 20 s at most ...");
            is_said = true;
        }
        // One that can't be timed is tried again, which is quick, and has no time.
        match pool.install(|| timings[at].seconds()) {
            Ok(seconds) => drop(known.insert(key, seconds)),
            Err(error) => complain(format_args!("{} can't be timed: {error}", lines[at].name)),
        }
    }
    if known.len() > before {
        keep(&known);
    }
    let own = |at: usize| known.get(&key(&timings[at])).copied();
    let of_algorithm = |name: &str| {
        let alike = (0..timings.len()).filter(|at| timings[*at].options.algorithm == name);
        let found: Vec<f64> = alike.filter_map(own).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    };
    let time = |at: usize| own(at).or_else(|| of_algorithm(&timings[at].options.algorithm));
    Ok((0..timings.len()).map(time).collect())
}

/// The times of lines with so many runs each, by algorithm, and their sum in seconds, one run after the other; `None` where one of them is not
/// known.
pub fn table(lines: &[(String, &Line, usize)], seconds: &[Option<f64>]) -> (Table, Option<f64>) {
    let columns = [
        ("algorithm", Align::Words),
        ("one update", Align::Numbers),
        ("one run", Align::Numbers),
        ("runs", Align::Numbers),
        ("in all", Align::Numbers),
    ];
    let columns = columns.map(|(name, align)| (name.to_owned(), align));
    let mut table = Table::new("", columns.to_vec());
    // Runs, updates of them, seconds of them.
    let mut sums: BTreeMap<&str, (usize, f64, Option<f64>)> = BTreeMap::new();
    for ((name, line, runs), seconds) in lines.iter().zip(seconds) {
        let updates = line.config.total_updates() as f64 * *runs as f64;
        let sum = sums.entry(name).or_insert((0, 0.0, Some(0.0)));
        sum.0 += runs;
        sum.1 += updates;
        sum.2 = sum.2.zip(*seconds).map(|(sum, one)| sum + one * updates);
    }
    let mut rows: Vec<_> = sums.into_iter().filter(|(_, sum)| sum.0 > 0).collect();
    let size = |sum: Option<f64>| sum.unwrap_or(f64::INFINITY);
    rows.sort_by(|left, right| size(right.1.2).total_cmp(&size(left.1.2)));
    let mut whole = Some(0.0);
    for (name, (runs, updates, seconds)) in rows {
        whole = whole.zip(seconds).map(|(whole, seconds)| whole + seconds);
        let said = |text: Option<String>| text.unwrap_or_else(|| "not timed".to_owned());
        table.push(vec![
            name.to_owned(),
            said(seconds.map(|seconds| milliseconds(seconds / updates.max(1.0)))),
            said(seconds.map(|seconds| duration(seconds / runs as f64))),
            runs.to_string(),
            said(seconds.map(duration)),
        ]);
    }
    (table, whole)
}

fn milliseconds(seconds: f64) -> String {
    let ms = 1e3 * seconds;
    let decimals = if ms < 10.0 { 1 } else { 0 };
    format!("{ms:.decimals$} ms")
}

/// What is timed of a line.
struct Timing {
    options: UpdateOptions,
    batch: Option<usize>,
    /// What the time depends on. Numbers with a decimal point, rates and coefficients, change no sizes.
    key: String,
}

impl Timing {
    fn of(line: &Line, device: &str) -> anyhow::Result<Self> {
        let algorithm = line.config.algorithm.name();
        let front = format!("algorithm.{algorithm}.");
        let settings = fingerprint::all_settings(&line.config)?;
        let (mut overrides, mut batch, mut sizes) = (Vec::new(), None, Vec::new());
        for (key, value) in &settings {
            let Some(key) = key.strip_prefix(&front) else {
                continue;
            };
            if key == "batch_size" {
                batch = value.parse().ok();
            } else {
                overrides.push(format!("{key}={value}"));
            }
            if !value.contains('.') {
                sizes.push(format!("{key}={value}"));
            }
        }
        let (observations, actions) = dimensions(line.config.evaluate.env.as_deref());
        Ok(Self {
            key: format!(
                "{algorithm} on {device}; {observations}, {actions}; {}",
                sizes.join(" ")
            ),
            options: UpdateOptions {
                algorithm: algorithm.to_owned(),
                batch: None,
                observations,
                actions,
                overrides,
                device: device.to_owned(),
                seconds: SECONDS,
            },
            batch,
        })
    }

    /// The mean time of an update. Where that is long it follows from those of two small batches: what is left without a batch, and
    /// what each row adds.
    fn seconds(&self) -> trajformer::Result<f64> {
        let Some(batch) = self.batch.filter(|batch| *batch > BATCHES[1]) else {
            return self.timed(self.batch);
        };
        let small = self.once(BATCHES[0])?;
        let [few, more] = BATCHES.map(|rows| rows as f64);
        if small * batch as f64 / few < SHORT_SECONDS {
            return self.timed(Some(batch));
        }
        let larger = self.once(BATCHES[1])?;
        let of_row = ((larger - small) / (more - few)).max(0.0);
        let expected = larger + of_row * (batch as f64 - more);
        if expected < SHORT_SECONDS {
            self.timed(Some(batch))
        } else {
            Ok(expected)
        }
    }

    /// The time of an update after a first one.
    fn once(&self, batch: usize) -> trajformer::Result<f64> {
        quietly(|| {
            let mut updates = self.begun(Some(batch))?;
            let begin = Instant::now();
            // Both of a pair: what happens at every second update has its share.
            updates.step()?;
            updates.step()?;
            Ok(begin.elapsed().as_secs_f64() / 2.0)
        })
    }

    fn timed(&self, batch: Option<usize>) -> trajformer::Result<f64> {
        quietly(|| {
            let mut updates = self.begun(batch)?;
            let (begin, mut done) = (Instant::now(), 0);
            while done == 0 || begin.elapsed().as_secs_f64() < self.options.seconds {
                updates.step()?;
                updates.step()?;
                done += 2;
            }
            Ok(begin.elapsed().as_secs_f64() / f64::from(done))
        })
    }

    fn begun(&self, batch: Option<usize>) -> trajformer::Result<Updates> {
        let options = UpdateOptions {
            batch,
            ..self.options.clone()
        };
        let mut updates = Updates::new(&options)?;
        updates.step()?;
        Ok(updates)
    }
}

/// What is said of the data is said of made-up data: it is not shown.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), work)
}

/// Numbers in an observation and an action of an environment, if it can be made here.
fn dimensions(env: Option<&str>) -> (usize, usize) {
    let Some(name) = env.filter(|name| !envs::gym::is_gym(name)) else {
        return USUAL_SIZES;
    };
    match envs::make(name) {
        Ok(env) => (env.spec().observation_dim, env.spec().action_dim),
        Err(_) if name.starts_with("hopper") => (11, 3),
        Err(_) => USUAL_SIZES,
    }
}

fn kept_path() -> PathBuf {
    place::caches().join("trajformer/timings.json")
}

/// What was timed before; nothing if that can't be read.
fn kept() -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(kept_path()).unwrap_or_default();
    let mut found: BTreeMap<String, f64> = serde_json::from_str(&text).unwrap_or_default();
    found.retain(|_, seconds| seconds.is_finite() && *seconds > 0.0);
    found
}

/// Keeps it for the next time; a cache that can't be written costs that time again, no more.
fn keep(known: &BTreeMap<String, f64>) {
    let path = kept_path();
    let folder = path.parent().map(std::fs::create_dir_all);
    let text = serde_json::to_string_pretty(known).unwrap_or_default();
    if !matches!(folder, Some(Ok(()))) || write_table(&path, &text).is_err() {
        tracing::debug!("{}: can't be written", path.display());
    }
}
