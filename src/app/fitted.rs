//! [`fit`]: a run that is trained in memory, and what a [`TrainedRun`] can do.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::app::checkpoint::{RunDir, RunState};
use crate::app::config::RunConfig;
use crate::app::evaluate::Evaluation;
use crate::app::run::{Ready, RunOptions, TrainedRun};
use crate::app::scoring;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::{Rng, RngState, Streams};

/// Trains on a data set, in memory: nothing is written, until [`TrainedRun::save`] is called. The bits are those of a run
/// on disk with the same configuration.
///
/// # Errors
/// If configuration, data and environment don't fit each other, or training fails.
pub fn fit(dataset: &Dataset, config: &RunConfig) -> Result<TrainedRun> {
    let options = RunOptions {
        data: Some(dataset),
        ..RunOptions::default()
    };
    fit_with(config, &options)
}

/// Trains in memory as [`fit`] does, with `options`. A training that is interrupted returns what it has learned so far:
/// `state.update` says how far it came.
///
/// # Errors
/// As [`fit`].
pub fn fit_with(config: &RunConfig, options: &RunOptions<'_>) -> Result<TrainedRun> {
    let mut ready = Ready::new(config, options)?;
    let outcome = ready.train(None, options)?;
    let state = RunState {
        rng: ready.rng.state().0,
        evaluation_pending: outcome.evaluation_pending,
        held_out: outcome.held_out,
        ..RunState::new(outcome.update, outcome.seconds, outcome.best)
    };
    Ok(TrainedRun {
        config: ready.config,
        spec: ready.spec,
        state,
        algorithm: ready.algorithm,
    })
}

impl TrainedRun {
    /// Scores the policy as the table `[evaluate]` of `config` says. A policy that follows instructions is told the
    /// environment's.
    ///
    /// # Errors
    /// If `evaluate.env` names no environment or `evaluate.episodes` is 0, or the policy does not fit the environment.
    pub fn evaluate(&mut self) -> Result<Evaluation> {
        let mut evaluator = scoring::evaluator(&self.config.evaluation())?;
        scoring::get_ready(self, &evaluator)?;
        evaluator.run(&mut *self.policy()?)
    }

    /// What acts: for whole episodes, several at a time, in your own loop.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn policy(&self) -> Result<Box<dyn Policy>> {
        self.algorithm.policy()
    }

    /// The action (A), in the environment's units, at an observation (O), of a policy that looks at the present observation
    /// alone. It makes a policy for each call: for more than a few, keep one ([`Self::policy`]).
    ///
    /// # Errors
    /// If the observation has another size, or the policy remembers earlier steps, needs a goal or an instruction.
    pub fn act(&self, observation: &[f32]) -> Result<Vec<f32>> {
        let expected = self.spec.observation_dim;
        if observation.len() != expected {
            return Err(Error::Unsuitable(format!(
                "the observation has {} numbers, the run's have {expected}",
                observation.len()
            )));
        }
        let mut policy = self.policy()?;
        if !policy.is_memoryless() {
            return Err(Error::unsupported(
                Ability::Memoryless,
                "this run's policy acts by what it has seen in an episode so far: take its policy and begin an episode",
            ));
        }
        let rng = Streams::from_seed(self.config.evaluate.seed).numbered("policy", 0);
        policy.begin(&[EpisodeStart::new(rng)])?;
        let observation = Tensor::from_slice(observation, (1, expected), &Device::Cpu)?;
        let actions = policy.act(&observation, &[true])?; // (1, A)
        Ok(actions.flatten_all()?.to_vec1()?)
    }

    /// Writes a run that was trained in memory as a run directory, which opens as any other, and which training can go on
    /// with where its data is given.
    ///
    /// # Errors
    /// If the run was opened from a folder, the folder `path` holds a run or a part of one already, or the disk fails.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let rng = Rng::from_state(&RngState(self.state.rng.clone()));
        let (Ok(rng), true) = (rng, self.state.checksums.is_empty()) else {
            return Err(Error::Run {
                path: path.to_path_buf(),
                problem: "only a run that was trained in memory is saved; this one was opened from its folder: copy that"
                    .to_owned(),
            });
        };
        let run = RunDir::create(path, &self.config, &self.spec, &mut *self.algorithm)?;
        run.save(&mut *self.algorithm, &rng, self.state.clone())
    }
}
