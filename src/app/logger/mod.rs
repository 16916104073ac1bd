//! [`Logger`]: where metrics and evaluations go: tables, TensorBoard events and the progress bar.

pub mod tensorboard;

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::app::checkpoint::{RunDir, RunState};
use crate::app::evaluate::Evaluation;
use crate::app::evaluations::{EvaluationRow, Evaluations, rows_of};
use crate::app::progress::{Progress, sparkline};
use crate::app::table::{self, CsvTable, Table};
use tensorboard::TensorBoard;
use trajformer_core::error::{Error, Result};
use trajformer_core::metrics::{Metrics, numbers};

/// Updates whose metrics wait on the device before they are read: it bounds the memory.
const MOST_UNREAD: usize = 1_000;

/// Collects metrics between two rows of `metrics.csv`, and writes evaluations beside them.
pub struct Logger {
    /// None where a run is kept in memory only.
    files: Option<Files>,
    pending: BTreeMap<Cow<'static, str>, Pending>,
    progress: Progress,
    /// What evaluations found so far, earlier calls included: scores, or returns where there are no scores.
    scores: Vec<f64>,
    /// The first means of the last row, for the bar.
    shown: String,
}

const METRICS: &str = "metrics.csv";
/// Columns that every table of metrics has.
const NEEDED: [&str; 1] = ["seconds"];

/// What the tables of a run hold, read once: to see whether they can be gone on with, and to go on with them.
#[derive(Debug, Default)]
pub struct Tables {
    metrics: Option<Table>,
    evaluations: Option<Table>,
}

impl Tables {
    /// Those of `run`.
    ///
    /// # Errors
    /// As [`table::to_resume`].
    pub fn read(run: &RunDir) -> Result<Self> {
        Ok(Self {
            metrics: table::to_resume(&run.file(METRICS), &NEEDED)?,
            evaluations: Evaluations::to_resume(run)?,
        })
    }

    /// Its evaluations, oldest first.
    ///
    /// # Errors
    /// As [`rows_of`].
    pub fn evaluations(&self) -> Result<Vec<EvaluationRow>> {
        self.evaluations.as_ref().map_or(Ok(Vec::new()), rows_of)
    }

    /// The updates of its rows of metrics, in their order.
    ///
    /// # Errors
    /// As [`Table::updates`].
    pub fn logged(&self) -> Result<Vec<u64>> {
        self.metrics.as_ref().map_or(Ok(Vec::new()), Table::updates)
    }
}

/// The tables and events of a run.
struct Files {
    metrics: CsvTable,
    evaluations: Evaluations,
    events: TensorBoard,
}

/// One metric since the last row.
#[derive(Default)]
struct Pending {
    /// Place among the metrics of an update: what comes first was computed first.
    place: usize,
    sum: f64,
    count: u64,
    unread: Vec<(u64, Tensor)>,
}

impl Logger {
    /// The logger of a run that has come to `state` of `updates`; later rows of its `tables` are cut,
    /// and an evaluation that is pending. Without a run nothing is written.
    ///
    /// # Errors
    /// If a table can't be written.
    pub fn open(
        run: Option<&RunDir>,
        tables: Tables,
        state: &RunState,
        updates: u64,
    ) -> Result<Self> {
        let update = state.update;
        // They are only shown: where they can't be read, training goes on.
        let rows = tables.evaluations().unwrap_or_default();
        let evaluated = update.saturating_sub(state.evaluation_pending.into());
        let files = |run: &RunDir| {
            Ok::<_, Error>(Files {
                metrics: CsvTable::resumed(&run.file(METRICS), tables.metrics, update)?,
                evaluations: Evaluations::resumed(run, tables.evaluations, evaluated)?,
                events: match update {
                    0 => TensorBoard::create(run.path())?,
                    _ => TensorBoard::resume(run.path(), update)?,
                },
            })
        };
        let files = run.map(files).transpose()?;
        let score = |row: &EvaluationRow| row.scores.unwrap_or(row.returns).0;
        let shown = rows.iter().filter(|row| row.update <= evaluated);
        Ok(Self {
            files,
            pending: pending_of(state),
            progress: Progress::of("updates", update, updates),
            scores: shown.map(score).collect(),
            shown: String::new(),
        })
    }

    /// Takes the metrics of one update. Those on the CPU are looked at at once; from another device they are seldom read.
    ///
    /// # Errors
    /// As [`check`](Self::check): of a device's metrics now and then.
    pub fn collect(&mut self, update: u64, metrics: Metrics) -> Result<()> {
        let mut full = false;
        for (place, (name, value)) in metrics.into_entries().into_iter().enumerate() {
            let pending = self.pending.entry(name.into()).or_default();
            pending.place = place;
            if value.device().is_cpu() && pending.unread.is_empty() {
                let number = numbers(&[&value])?[0];
                if !number.is_finite() {
                    return Err(Error::Training {
                        resumable: None,
                        update,
                        problem: format!("`{name}` is {number}"),
                    });
                }
                pending.sum += number;
                pending.count += 1;
                continue;
            }
            pending.unread.push((update, value));
            full |= pending.unread.len() >= MOST_UNREAD;
        }
        self.progress.set(update);
        if full { self.check() } else { Ok(()) }
    }

    /// Fails if a collected value is not finite: the first such one. Reads everything
    /// that has not been read.
    ///
    /// # Errors
    /// [`Error::Training`].
    pub fn check(&mut self) -> Result<()> {
        let mut bad: Option<((u64, usize), &str, f64)> = None;
        for (name, pending) in &mut self.pending {
            let unread = std::mem::take(&mut pending.unread);
            if unread.is_empty() {
                continue;
            }
            let tensors: Vec<&Tensor> = unread.iter().map(|(_, value)| value).collect();
            for ((update, _), value) in unread.iter().zip(numbers(&tensors)?) {
                let at = (*update, pending.place);
                if !value.is_finite() && bad.is_none_or(|(first, ..)| at < first) {
                    bad = Some((at, name, value));
                }
                pending.sum += value;
                pending.count += 1;
            }
        }
        match bad {
            None => Ok(()),
            Some(((update, _), name, value)) => Err(Error::Training {
                resumable: None,
                update,
                problem: format!(
                    "`{name}` is {value}. Lower the learning rate, or check the data's scale"
                ),
            }),
        }
    }

    /// Takes what can be said of the present state, for the row to come; it is read from the device, and need not be
    /// finite: values of critics that diverge are worth a look.
    ///
    /// # Errors
    /// If a value is not a scalar.
    pub fn diagnose(&mut self, metrics: &Metrics) -> Result<()> {
        for (name, value) in metrics.values()? {
            self.note(name, value);
        }
        Ok(())
    }

    /// Takes one number for the row to come, which has the mean of all since the last one.
    pub fn note(&mut self, name: &'static str, value: f64) {
        let pending = self.pending.entry(name.into()).or_default();
        pending.sum += value;
        pending.count += 1;
    }

    /// Sums and counts since the last row, for [`RunState::unlogged`].
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn unlogged(&mut self) -> Result<BTreeMap<String, (f64, u64)>> {
        self.check()?;
        let pending = self.pending.iter();
        let pending = pending.filter(|(_, pending)| pending.count > 0);
        Ok(pending
            .map(|(name, pending)| (name.to_string(), (pending.sum, pending.count)))
            .collect())
    }

    /// The means since the last row.
    fn means(&mut self) -> Result<Vec<(Cow<'static, str>, f64)>> {
        self.check()?;
        let pending = std::mem::take(&mut self.pending).into_iter();
        Ok(pending
            .map(|(name, pending)| (name, pending.sum / pending.count as f64))
            .collect())
    }

    /// Writes a row with the means since the last one.
    ///
    /// # Errors
    /// If a value is not finite, or the disk fails.
    pub fn write(&mut self, update: u64, seconds: f64) -> Result<()> {
        let means = self.means()?;
        if means.is_empty() {
            return Ok(());
        }
        let means: Vec<(&str, f64)> = means.iter().map(|(name, mean)| (&**name, *mean)).collect();
        if let Some(files) = &mut self.files {
            files.metrics(update, seconds, &means)?;
        }
        let shown: Vec<String> = means
            .iter()
            .take(3)
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        self.shown = shown.join("  ");
        self.say();
        Ok(())
    }

    /// Writes a row of what was measured at this update alone, between two rows of means, whose columns stay empty in it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write_apart(&mut self, update: u64, seconds: f64, found: &[(&str, f64)]) -> Result<()> {
        match &mut self.files {
            Some(files) => files.metrics(update, seconds, found),
            None => Ok(()),
        }
    }

    /// What is said beside the progress: the last score, the curve of scores on a terminal, and losses.
    fn say(&self) {
        let score = self.scores.last().map(|score| format!("score {score:.1}"));
        let score = score.unwrap_or_default();
        let parts = |sparks: &str| {
            let parts = [score.as_str(), sparks, self.shown.as_str()];
            let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            said.join("  ")
        };
        self.progress
            .say(parts(""), parts(&sparkline(&self.scores)));
    }

    /// Writes what an evaluation found.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn evaluation(&mut self, update: u64, seconds: f64, result: &Evaluation) -> Result<()> {
        if let Some(files) = &mut self.files {
            files.evaluation(update, seconds, result)?;
        }
        self.scores
            .push(result.score_mean.unwrap_or(result.return_mean));
        self.progress
            .aside(|| tracing::info!("update {update}: {}", result.summary()));
        self.say();
        Ok(())
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.progress.finish();
    }
}

/// What a run that goes on had not logged yet.
fn pending_of(state: &RunState) -> BTreeMap<Cow<'static, str>, Pending> {
    let unlogged = state.unlogged.iter();
    let pending = unlogged.map(|(name, (sum, count))| {
        let pending = Pending {
            sum: *sum,
            count: *count,
            ..Pending::default()
        };
        (name.clone().into(), pending)
    });
    pending.collect()
}

impl Files {
    /// A row of `metrics.csv`, and the same numbers as events.
    fn metrics(&mut self, update: u64, seconds: f64, means: &[(&str, f64)]) -> Result<()> {
        let mut cells = vec![("seconds", format!("{seconds:.3}"))];
        cells.extend(
            means
                .iter()
                .map(|(name, value)| (*name, format!("{value}"))),
        );
        self.metrics.append(update, &cells)?;
        for (name, value) in means {
            self.events
                .scalar(&format!("train/{name}"), update, *value)?;
        }
        self.events.flush()
    }

    /// A row of `evaluations.csv`, and its means as events.
    fn evaluation(&mut self, update: u64, seconds: f64, result: &Evaluation) -> Result<()> {
        if let Some(mean) = result.score_mean {
            self.events.scalar("evaluate/score_mean", update, mean)?;
        }
        self.events
            .scalar("evaluate/return_mean", update, result.return_mean)?;
        self.events.flush()?;
        self.evaluations.append(update, seconds, result)
    }
}
