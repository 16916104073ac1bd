//! [`evaluate`]: scores a trained run, whatever kind of policy it has.

use std::path::PathBuf;

use serde::Serialize;

use crate::app::config::sections::EvaluateConfig;
use crate::app::evaluate::{Evaluation, Evaluator};
use crate::app::instruct;
use crate::app::instruct::InstructionScore;
use crate::app::prepare;
use crate::app::run::TrainedRun;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// What is asked of an evaluation; what is left out is as the run's table `[evaluate]` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvaluateRequest {
    /// Environment.
    pub env: Option<String>,
    /// Python interpreter that runs environments of Gymnasium.
    pub python: Option<PathBuf>,
    /// Episodes.
    pub episodes: Option<usize>,
    /// Seed of start states and of the policy.
    pub seed: Option<u64>,
    /// Score the run once for each of these instructions, over the same start states; none: once.
    pub instructions: Vec<String>,
    /// Draw actions from the policy's distribution, where it otherwise takes their mean or the likeliest. Not with
    /// `instructions`.
    pub sample: bool,
    /// Keep the episodes as a data set; of a policy that aims at several returns, those of the first. Not with
    /// `instructions`.
    pub record: bool,
}

impl EvaluateRequest {
    /// The settings of the evaluation of a run that has `stored` ones.
    pub fn settings(&self, stored: &EvaluateConfig) -> EvaluateConfig {
        let mut settings = stored.clone();
        settings.env = self.env.clone().or(settings.env);
        settings.python = self.python.clone().or(settings.python);
        settings.episodes = self.episodes.unwrap_or(settings.episodes);
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings
    }
}

/// What an evaluation found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The scores.
    pub scores: Scores,
    /// The seed that start states and the policy were drawn from.
    pub seed: u64,
    /// Whether actions were drawn from the policy's distribution.
    pub sampled: bool,
    /// The episodes, if they were to be recorded.
    pub recorded: Option<Dataset>,
}

/// Scores of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Scores {
    /// Over all episodes.
    Episodes(Evaluation),
    /// For each instruction.
    Instructions(Vec<InstructionScore>),
}

impl Found {
    /// One JSON object with stable names: the fields of [`Evaluation`], or `instructions` with one [`InstructionScore`]
    /// each; `seed`; and `sampled`, whether actions were drawn from the policy's
    /// distribution.
    ///
    /// # Errors
    /// If a number can't be written as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        let value = serde_json::to_value(&self.scores);
        let value = value.map_err(|error| Error::Internal(format!("as JSON: {error}")))?;
        let mut value = match self.scores {
            Scores::Episodes(_) => value,
            Scores::Instructions(_) => serde_json::json!({ "instructions": value }),
        };
        value["seed"] = self.seed.into();
        value["sampled"] = self.sampled.into();
        Ok(value)
    }
}

/// The evaluator for these settings.
///
/// # Errors
/// If no environment or no episodes are asked for, or the environment can't be made.
pub(super) fn evaluator(settings: &EvaluateConfig) -> Result<Evaluator> {
    Evaluator::new(settings)?.ok_or_else(|| {
        Error::settings(
            "nothing to evaluate: set `evaluate.env` to an environment and `evaluate.episodes` to 1 or more",
        )
    })
}

/// Gets a run ready to be scored by `evaluator`: gives a policy that follows instructions the evaluator's, and warns of
/// data of another version of the environment.
///
/// # Errors
/// If the run does not fit the environment, or an instruction can't be encoded.
pub(super) fn get_ready(run: &mut TrainedRun, evaluator: &Evaluator) -> Result<()> {
    evaluator.check_dimensions(run.spec.dims(), run.spec.action_kind())?;
    if run.algorithm.instructed().is_some() {
        instruct::teach(run, &evaluator.instructions())?;
    }
    prepare::warn_of_other_version(run.spec.env_name.as_deref(), &evaluator.spec().name);
    Ok(())
}

/// Runs the episodes that are asked for. A policy that follows instructions is told the environment's own, or those asked
/// for, which it need not have seen; data of another version of the environment is warned of.
///
/// # Errors
/// If no environment or no episodes are asked for, the run does not fit the environment, `record` is asked for together
/// with `instructions`, or an episode fails.
pub fn evaluate(run: &mut TrainedRun, request: &EvaluateRequest) -> Result<Found> {
    let settings = request.settings(&run.config.evaluation());
    let mut evaluator = evaluator(&settings)?.with_progress();
    let seed = settings.seed;
    if !request.instructions.is_empty() {
        if request.record {
            return Err(Error::settings(
                "episodes that follow given instructions can't be recorded: leave out one of both",
            ));
        }
        if request.sample {
            return Err(Error::settings(
                "actions are not sampled where instructions are given: leave out one of both",
            ));
        }
        let scores = instruct::score(run, &request.instructions, &settings)?;
        return Ok(Found {
            scores: Scores::Instructions(scores),
            seed,
            sampled: false,
            recorded: None,
        });
    }
    get_ready(run, &evaluator)?;
    let mut policy = if request.sample {
        run.sampling_policy()?
    } else {
        run.algorithm.policy()?
    };
    let (evaluation, recorded) = if request.record {
        if let [first, _, ..] = policy.target_returns()[..] {
            tracing::warn!("only episodes that aim at the first target, {first}, are recorded");
        }
        let (found, dataset) = evaluator.run_recorded(&mut *policy)?;
        (found, Some(dataset))
    } else {
        (evaluator.run(&mut *policy)?, None)
    };
    Ok(Found {
        scores: Scores::Episodes(evaluation),
        seed,
        sampled: request.sample,
        recorded,
    })
}
