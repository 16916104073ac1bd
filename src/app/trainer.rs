//! The training loop: updates, logging, evaluation, checkpoints. It names no algorithm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use trajformer_core::interrupt::Interrupt;

use trajformer_models::kernels::parallel;

use crate::app::checkpoint::nonfinite::NumericFault;
use crate::app::checkpoint::{Best, Change, EarlyStop, HeldOut, RunDir, RunState, check_finite};
use crate::app::config::sections::{EvaluateConfig, Keep, OnNonfinite, TrainConfig};
use crate::app::evaluate::{Evaluation, Evaluator};
use crate::app::logger::{Logger, Tables};
use crate::app::online::Interaction;
use crate::envs::score::reference_for;
use trajformer_core::algorithm::Algorithm;
use trajformer_core::error::{Error, Result, shell_quoted};
use trajformer_core::held_out::HELD_OUT_LOSS;
use trajformer_core::metrics::Metrics;
use trajformer_models::health::{self, Health};
use trajformer_models::ranks::Ranks;
use trajformer_models::rng::{Rng, Streams};

/// Updates before each row of metrics whose gradients' norms are its mean: more than one, as some networks wait for others.
const WATCHED_UPDATES: u64 = 10;

/// How a training call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Updates done in all.
    pub update: u64,
    /// Updates per second of this call, evaluation and checkpoints not counted.
    pub updates_per_s: f64,
    /// Seconds of the whole run, earlier calls included.
    pub seconds: f64,
    /// The last evaluation of this call; of a run that was finished before, its last one.
    pub evaluation: Option<Evaluation>,
    /// The best evaluation of the run.
    pub best: Option<Best>,
    /// Whether the best one's number is a normalised score; else it is a return.
    pub normalized: bool,
    /// Whether its [`Interrupt`] ended it early.
    pub interrupted: bool,
    /// Whether an evaluation was due at its end, and was broken off.
    pub evaluation_pending: bool,
    /// Why the run ended before all of its updates, if it did so of itself.
    pub stopped_early: Option<EarlyStop>,
    /// The lowest loss on the episodes that are kept apart, where there are any.
    pub held_out: Option<HeldOut>,
    /// What is missing from the run's tables: files and rows, and what is not known for it.
    pub lost_rows: Vec<String>,
    /// What learning rates go by and the run changed on its way.
    pub changed: Vec<Change>,
}

/// What a run trains with.
pub struct Training<'a> {
    /// The learning rule.
    pub algorithm: &'a mut dyn Algorithm,
    /// Where policies are scored, if anywhere.
    pub evaluator: Option<&'a mut Evaluator>,
    /// Where everything is kept; none: in memory only.
    pub run: Option<&'a RunDir>,
    /// What its tables hold already.
    pub tables: Tables,
    /// `[train]`.
    pub train: &'a TrainConfig,
    /// `[evaluate]`.
    pub evaluate: &'a EvaluateConfig,
    /// Updates of the whole run: those past `train.updates` learn from own experience too.
    pub total_updates: u64,
    /// Where that experience comes from, if there is to be any.
    pub interaction: Option<&'a mut Interaction>,
    /// Stops it early, with a checkpoint. The evaluator has its own.
    pub interrupt: &'a Interrupt,
    /// Those that make every update together. The first evaluates and writes; the others have neither `evaluator` nor `run`.
    pub ranks: Option<&'a Arc<dyn Ranks>>,
}

/// How far a call has come.
struct Progress {
    begin: Instant,
    /// Seconds of earlier calls.
    seconds_before: f64,
    update: u64,
    best: Option<Best>,
    evaluation: Option<Evaluation>,
    /// An evaluation is due at `update` and has not been made.
    evaluation_pending: bool,
    /// The checkpoint on the disk says that a copy of it is to be kept.
    copy_pending: bool,
    /// What the checkpoint on the disk has of a row that is still to come.
    unlogged: BTreeMap<String, (f64, u64)>,
    /// Evaluations since the best one, where they are counted.
    without_gain: u64,
    /// The lowest loss on what is held out.
    held_out: Option<HeldOut>,
    /// Updates in a row in which a step was left out.
    skipped_in_a_row: u64,
    /// What it changed on its way.
    changed: Vec<Change>,
    /// Update of the checkpoint on the disk.
    saved: Option<u64>,
}

impl Progress {
    fn from(state: &RunState) -> Self {
        Self {
            begin: Instant::now(),
            seconds_before: state.seconds,
            update: state.update,
            best: state.best,
            evaluation: None,
            evaluation_pending: state.evaluation_pending,
            copy_pending: state.copy_pending,
            unlogged: state.unlogged.clone(),
            without_gain: state.evaluations_without_gain,
            held_out: state.held_out,
            skipped_in_a_row: state.skipped_in_a_row,
            changed: state.changed.clone(),
            saved: (!state.checksums.is_empty()).then_some(state.update),
        }
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.begin.elapsed().as_secs_f64()
    }

    fn state(&self) -> RunState {
        RunState {
            evaluation_pending: self.evaluation_pending,
            copy_pending: self.copy_pending,
            unlogged: self.unlogged.clone(),
            evaluations_without_gain: self.without_gain,
            held_out: self.held_out,
            skipped_in_a_row: self.skipped_in_a_row,
            changed: self.changed.clone(),
            ..RunState::new(self.update, self.seconds(), self.best)
        }
    }
}

impl Training<'_> {
    /// Trains from `state` until `total_updates` are done, or it is interrupted.
    ///
    /// # Errors
    /// If an update fails or its metrics or weights are not finite (the last checkpoint stays), the
    /// environment fails, or the disk fails.
    pub fn run(&mut self, state: &RunState, rng: &mut Rng) -> Result<Outcome> {
        let tables = std::mem::take(&mut self.tables);
        let mut logger = Logger::open(self.run, tables, state, self.total_updates)?;
        let mut progress = Progress::from(state);
        let _workers = parallel::spin_workers();
        let skips = self.train.on_nonfinite == OnNonfinite::Skip;
        let health = Arc::new(Health::new(skips));
        let _watched = health::watched(Some(&health));
        let result = self.train(&mut progress, rng, &mut logger, &health);
        logger.finish();
        result.map_err(|error| self.stopped(error, &progress))
    }

    fn train(
        &mut self,
        at: &mut Progress,
        rng: &mut Rng,
        logger: &mut Logger,
        health: &Health,
    ) -> Result<Outcome> {
        let first = at.update;
        let (mut update_seconds, mut stopped) = (0.0, false);
        if at.evaluation_pending {
            self.evaluate(at, logger)?;
            stopped = self.any(at.evaluation_pending)?;
            self.record_evaluation(at)?;
        }
        if at.saved == Some(at.update) && !stopped {
            // A kill may have come between the checkpoint and its copy.
            self.keep(at)?;
        }
        while at.update < self.total_updates && !stopped && self.early_stop(at).is_none() {
            let start = Instant::now();
            if at.update >= self.train.updates {
                self.interact(at.update - self.train.updates, rng, logger)?;
            }
            self.algorithm
                .watch_gradients(self.row_is_near(at.update + 1));
            health.begin();
            let metrics = self.algorithm.update(rng);
            at.update += 1;
            let metrics = metrics.map_err(|error| self.unhealthy(at, health, error))?;
            let metrics = self.averaged(metrics, &mut stopped)?;
            if !self.is_skipped(at, health, logger)? {
                let collected = logger.collect(at.update, metrics);
                collected.map_err(|error| self.unhealthy(at, health, error))?;
            }
            let held_out = self.judge_held_out(at)?;
            let ends = self.early_stop(at).is_some();
            at.evaluation_pending =
                self.evaluation_is_due(at.update) || (ends && self.evaluator.is_some());
            let due = self.checkpoint_is_due(at.update) || ends;
            let save = due || stopped;
            // Where it is interrupted has no row of its own: the tables are those of a run that nothing disturbed.
            if ends || self.row_is_due(at.update) {
                // A stream of its own: looking more often never changes training.
                let mut rng = Streams::from_seed(0).numbered("diagnostics", at.update);
                logger.diagnose(&self.algorithm.diagnostics(&mut rng)?)?;
                held_out
                    .iter()
                    .for_each(|(name, value)| logger.note(name, *value));
                logger.write(at.update, at.seconds())?;
            } else if !held_out.is_empty() {
                logger.write_apart(at.update, at.seconds(), &held_out)?;
            }
            update_seconds += start.elapsed().as_secs_f64();
            if save {
                self.save(at, rng, logger)?;
            }
            if at.evaluation_pending && !stopped {
                logger.check()?;
                check_finite(self.algorithm, at.update)?;
                self.evaluate(at, logger)?;
                stopped = at.evaluation_pending;
                if save {
                    self.record_evaluation(at)?;
                } else if stopped {
                    self.save(at, rng, logger)?;
                }
            }
            if self.scores_are_due(at.update) {
                stopped = self.any(stopped)?;
            }
            if save && !at.evaluation_pending {
                self.keep(at)?;
            }
        }
        let early = self.early_stop(at);
        let stopped_early = early.filter(|_| at.update < self.total_updates);
        let done = (at.update - first) as f64;
        let env = self.evaluate.env.as_deref().unwrap_or_default();
        Ok(Outcome {
            update: at.update,
            updates_per_s: if done > 0.0 {
                done / update_seconds
            } else {
                0.0
            },
            seconds: at.seconds(),
            evaluation: at.evaluation.take(),
            best: at.best,
            normalized: reference_for(env).is_some(),
            interrupted: at.evaluation_pending
                || (at.update < self.total_updates && stopped_early.is_none()),
            evaluation_pending: at.evaluation_pending,
            stopped_early,
            held_out: at.held_out,
            lost_rows: Vec::new(),
            changed: at.changed.clone(),
        })
    }

    /// Whether a step of this update was left out: such an update has no metrics but `skipped_share`.
    fn is_skipped(&self, at: &mut Progress, health: &Health, logger: &mut Logger) -> Result<bool> {
        if self.train.on_nonfinite == OnNonfinite::Stop {
            return Ok(false);
        }
        let faults = health.faults();
        logger.note("skipped_share", f64::from(u8::from(!faults.is_empty())));
        let Some(first) = faults.first() else {
            at.skipped_in_a_row = 0;
            return Ok(false);
        };
        at.skipped_in_a_row += 1;
        let (row, limit) = (at.skipped_in_a_row, self.train.nonfinite_limit);
        if row >= limit {
            let problem = format!(
                "{first}: the step is left out, as in the {} updates before, and `train.nonfinite_limit` is {limit}",
                row - 1
            );
            let error = Error::Training {
                update: at.update,
                problem,
                resumable: None,
            };
            return Err(self.unhealthy(at, health, error));
        }
        tracing::warn!(
            "update {}: {first}: the step is left out ({row} in a row, {limit} end training)",
            at.update
        );
        Ok(true)
    }

    /// The error of an update that is not finite, with what it was made on; any other as it is.
    fn unhealthy(&self, at: &Progress, health: &Health, error: Error) -> Error {
        let problem = match error {
            Error::Training { problem, .. } => problem,
            Error::Models(trajformer_models::Error::NotFinite(fault)) => fault.to_string(),
            other => return other,
        };
        let report = NumericFault::new(at.update, &problem, health, at.saved);
        Error::Training {
            update: at.update,
            problem: format!(
                "{problem}{}",
                report.told(self.run, self.train.on_nonfinite)
            ),
            resumable: None,
        }
    }

    /// Own experience for the next update, with so many of them done online.
    fn interact(&mut self, updates: u64, rng: &mut Rng, logger: &mut Logger) -> Result<()> {
        let Some(interaction) = self.interaction.as_deref_mut() else {
            return Ok(());
        };
        if let Some(found) = interaction.collect(self.algorithm, updates, rng)? {
            logger.note("online_return_mean", found);
        }
        Ok(())
    }

    fn evaluation_is_due(&self, update: u64) -> bool {
        self.scores_are_due(update) && self.evaluator.is_some()
    }

    /// Whether the run evaluates after this update, if it evaluates: of several ranks the first does, and the others wait.
    fn scores_are_due(&self, update: u64) -> bool {
        let every = self.evaluate.every_updates;
        (every > 0 && update.is_multiple_of(every)) || self.is_an_end(update)
    }

    /// Whether this is so on any of the ranks that train together.
    fn any(&self, of: bool) -> Result<bool> {
        let Some(ranks) = self.ranks else {
            return Ok(of);
        };
        let mut count = [f64::from(u8::from(of))];
        ranks.sum_f64(&mut count)?;
        Ok(count[0] > 0.0)
    }

    /// An update's metrics, averaged over the ranks that made it together, and whether any of them was interrupted.
    fn averaged(&self, metrics: Metrics, stopped: &mut bool) -> Result<Metrics> {
        let interrupted = self.interrupt.is_set();
        let Some(ranks) = self.ranks else {
            *stopped = interrupted;
            return Ok(metrics);
        };
        let (names, mut numbers): (Vec<_>, Vec<f64>) = metrics.values()?.into_iter().unzip();
        numbers.push(f64::from(u8::from(interrupted)));
        ranks.sum_f64(&mut numbers)?;
        *stopped = numbers.pop().is_some_and(|count| count > 0.0);
        let count = ranks.count() as f64;
        let mut averaged = Metrics::new();
        for (name, sum) in names.into_iter().zip(numbers) {
            averaged.push(name, &Tensor::new(sum / count, &Device::Cpu)?);
        }
        Ok(averaged)
    }

    /// Of the updates on the data alone, or of all.
    fn is_an_end(&self, update: u64) -> bool {
        update == self.train.updates || update == self.total_updates
    }

    /// Whether a row of metrics follows this update, if nothing ends training before.
    fn row_is_due(&self, update: u64) -> bool {
        update.is_multiple_of(self.train.log_every_updates) || self.checkpoint_is_due(update)
    }

    /// Whether this update is one of the last few before such a row, over which norms of gradients are taken.
    fn row_is_near(&self, update: u64) -> bool {
        (update..update + WATCHED_UPDATES).any(|update| self.row_is_due(update))
    }

    fn checkpoint_is_due(&self, update: u64) -> bool {
        let train = self.train;
        // Of scores that decide what is kept, or how long is trained, none is lost with a kill.
        let scores_decide = train.keep != Keep::Last || train.patience_evaluations > 0;
        self.is_an_end(update)
            || update.is_multiple_of(train.checkpoint_every_updates)
            || self.is_kept_anyway(update)
            || (scores_decide && self.evaluation_is_due(update))
            // All ranks must know which updates are followed by a row.
            || (scores_decide && self.ranks.is_some() && self.scores_are_due(update))
    }

    /// Whether the checkpoint of this update is kept, whatever `train.keep` says.
    fn is_kept_anyway(&self, update: u64) -> bool {
        let every = self.train.keep_every_updates;
        every > 0 && update.is_multiple_of(every)
    }

    /// Keeps the checkpoint of this update, if it is one to keep, and no longer the one that was the best before.
    fn keep(&self, at: &mut Progress) -> Result<()> {
        let Some(run) = self.run.filter(|_| at.update > 0) else {
            return Ok(());
        };
        // It may be due to a run that goes on and keeps more than before.
        if at.copy_pending || self.copy_is_due(at) {
            run.keep_due(&at.state(), self.train.keep)?;
            at.copy_pending = false;
        }
        Ok(())
    }

    /// Whether a copy of the checkpoint of this update is to be kept.
    fn copy_is_due(&self, at: &Progress) -> bool {
        let is_kept = match self.train.keep {
            Keep::Last => false,
            Keep::Best => at.best.is_some_and(|best| best.update == at.update),
            Keep::All => self.checkpoint_is_due(at.update),
        };
        at.update > 0 && (is_kept || self.is_kept_anyway(at.update))
    }

    /// Why training ends here, if scores or losses have been no better for too long.
    fn early_stop(&self, at: &Progress) -> Option<EarlyStop> {
        at.state().out_of_patience(self.train)
    }

    /// Measures losses on what is held out, where that is due; none where it is not.
    fn judge_held_out(&self, at: &mut Progress) -> Result<Vec<(&'static str, f64)>> {
        let due = |every: u64| at.update.is_multiple_of(every) || self.is_an_end(at.update);
        if !self.train.held_out_cadence().is_some_and(due) {
            return Ok(Vec::new());
        }
        let found = self.algorithm.held_out_losses()?;
        for (name, value) in &found {
            if *name == HELD_OUT_LOSS {
                at.held_out = Some(HeldOut::after(at.held_out, at.update, *value));
            }
        }
        Ok(found)
    }

    fn save(&mut self, at: &mut Progress, rng: &Rng, logger: &mut Logger) -> Result<()> {
        at.unlogged = logger.unlogged()?;
        let Some(run) = self.run else {
            return check_finite(self.algorithm, at.update);
        };
        at.copy_pending = self.copy_is_due(at);
        run.save(self.algorithm, rng, at.state())?;
        at.saved = Some(at.update);
        Ok(())
    }

    /// Says in the checkpoint of this update what its evaluation found.
    fn record_evaluation(&self, at: &mut Progress) -> Result<()> {
        at.copy_pending = self.copy_is_due(at);
        match self.run {
            Some(run) => run.record(at.state()),
            None => Ok(()),
        }
    }

    /// Makes the evaluation that is due; it stays pending if it is interrupted.
    fn evaluate(&mut self, at: &mut Progress, logger: &mut Logger) -> Result<()> {
        let Some(evaluator) = self.evaluator.as_deref_mut() else {
            at.evaluation_pending = false;
            return Ok(());
        };
        let found = match evaluator.run(&mut *self.algorithm.policy()?) {
            Err(Error::Interrupted) => return Ok(()),
            other => other?,
        };
        logger.evaluation(at.update, at.seconds(), &found)?;
        let score = found.score_mean.unwrap_or(found.return_mean);
        if at.best.is_none_or(|best| score > best.score) {
            let update = at.update;
            at.best = Some(Best { update, score });
            at.without_gain = 0;
        } else if self.train.patience_evaluations > 0 {
            at.without_gain += 1;
        }
        at.evaluation = Some(found);
        at.evaluation_pending = false;
        Ok(())
    }

    /// The error with what is left on the disk.
    fn stopped(&self, error: Error, at: &Progress) -> Error {
        let folder = self
            .run
            .map_or_else(String::new, |run| shell_quoted(run.path()));
        let kept = match (self.run, at.saved) {
            (None, _) => "the run was in memory only, nothing of it is kept".to_owned(),
            (Some(_), None) => "no checkpoint was written before".to_owned(),
            (Some(_), Some(update)) => {
                format!("the checkpoint of update {update} in {folder} is kept")
            }
        };
        let (update, problem, resumable) = match error {
            Error::Training {
                update, problem, ..
            } => (update, problem, None),
            Error::Io { .. } => {
                let resumable = self.run.map(|run| run.path().to_path_buf());
                (at.update, error.to_string(), resumable)
            }
            other => (at.update, other.to_string(), None),
        };
        let hint = match (&resumable, at.saved) {
            (None, _) => "",
            (Some(_), None) => ", resume the run to begin it again",
            (Some(_), Some(_)) => ", resume the run to go on from it",
        };
        Error::Training {
            update,
            problem: format!("{problem}; {kept}{hint}"),
            resumable,
        }
    }
}
