//! The training loop: updates, logging, evaluation, checkpoints. It names no algorithm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::algorithms::Algorithm;
use crate::checkpoint::{Best, RunDir, RunState};
use crate::config::{EvaluateConfig, TrainConfig};
use crate::error::Result;
use crate::evaluate::{Evaluation, Evaluator};
use crate::metrics::Logger;
use crate::rng::Rng;

/// Set from outside (Ctrl-C) to stop after the current update; a checkpoint is written.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// How a training call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Updates done in all.
    pub update: u64,
    /// Updates per second of this call, evaluation and checkpoints not counted.
    pub updates_per_s: f64,
    /// Seconds of the whole run, earlier calls included.
    pub seconds: f64,
    /// The last evaluation of this call.
    pub evaluation: Option<Evaluation>,
    /// The best evaluation of the run.
    pub best: Option<Best>,
    /// Whether [`STOP`] ended it early.
    pub interrupted: bool,
}

/// What a run trains with.
pub struct Training<'a> {
    /// The learning rule.
    pub algorithm: &'a mut dyn Algorithm,
    /// Where policies are scored, if anywhere.
    pub evaluator: Option<&'a mut Evaluator>,
    /// Where everything is kept.
    pub run: &'a RunDir,
    /// `[train]`.
    pub train: &'a TrainConfig,
    /// `[evaluate]`.
    pub evaluate: &'a EvaluateConfig,
}

impl Training<'_> {
    /// Trains from `state` until `train.updates` are done, or [`STOP`] is set.
    ///
    /// # Errors
    /// If an update fails or its metrics are not finite (the last checkpoint stays), the
    /// environment fails, or the disk fails.
    pub fn run(&mut self, state: &RunState, rng: &mut Rng) -> Result<Outcome> {
        let mut logger = Logger::open(self.run, state.update, self.train.updates)?;
        let result = self.train(state, rng, &mut logger);
        logger.finish();
        result
    }

    fn train(&mut self, state: &RunState, rng: &mut Rng, logger: &mut Logger) -> Result<Outcome> {
        let begin = Instant::now();
        let seconds = |begin: Instant| state.seconds + begin.elapsed().as_secs_f64();
        let (mut update, mut best) = (state.update, state.best);
        let (mut evaluation, mut interrupted) = (None, false);
        let mut update_seconds = 0.0;
        while update < self.train.updates && !interrupted {
            let start = Instant::now();
            let metrics = self.algorithm.update(rng)?;
            update += 1;
            logger.collect(update, metrics);
            interrupted = STOP.load(Ordering::Relaxed);
            let last = update == self.train.updates || interrupted;
            let checkpoint_due = last || update.is_multiple_of(self.train.checkpoint_every_updates);
            if update.is_multiple_of(self.train.log_every_updates) || checkpoint_due {
                logger.write(update, seconds(begin))?;
            }
            update_seconds += start.elapsed().as_secs_f64();
            let every = self.evaluate.every_updates;
            let due = (every > 0 && update.is_multiple_of(every)) || update == self.train.updates;
            if let (true, false, Some(evaluator)) =
                (due, interrupted, self.evaluator.as_deref_mut())
            {
                let found = evaluator.run(&mut *self.algorithm.policy()?)?;
                logger.evaluation(update, seconds(begin), &found)?;
                let score = found.score_mean.unwrap_or(found.return_mean);
                if best.is_none_or(|best| score > best.score) {
                    best = Some(Best { update, score });
                }
                evaluation = Some(found);
            }
            if checkpoint_due {
                let state = RunState::new(update, seconds(begin), best);
                self.run.save(self.algorithm, rng, state)?;
            }
        }
        let done = (update - state.update) as f64;
        let updates_per_s = if done > 0.0 {
            done / update_seconds
        } else {
            0.0
        };
        let seconds = seconds(begin);
        Ok(Outcome {
            update,
            updates_per_s,
            seconds,
            evaluation,
            best,
            interrupted,
        })
    }
}
