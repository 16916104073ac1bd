//! What bins cost: errors of each dimension, and logged actions replayed in the simulator as they are and as their bins say.

use serde::Serialize;

use crate::app::diagnose::episodes::{Arm, Stage};
use crate::envs::make_with;
use crate::envs::score::ReferenceReturns;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::environment::Environment;
use trajformer_core::error::{Error, Result};
use trajformer_core::statistics::mean_std;
use trajformer_data::discretizer::Discretizer;

/// What bins cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bins {
    /// Every observation and action.
    pub dimensions: Vec<BinError>,
    /// Logged actions in the simulator, where it can be set to their episodes' first observations.
    pub replay: Option<Replay>,
    /// Another run's episodes as they are and with its actions through the bins.
    pub through: Option<Through>,
}

/// What bins do to one dimension.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BinError {
    /// `observation 3`, `action 0`.
    pub name: String,
    /// Standard deviation over the data's steps, in its units.
    pub deviation: f64,
    /// Root mean square of what its bin stands for less the number, over the standard deviation (in the data's units where that
    /// is 0).
    pub error_rms: f64,
}

/// Logged episodes in the simulator, open loop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// As they were logged.
    pub logged: Arm,
    /// Their actions again, from the first observation. Where this is not `logged`, the state was not known to the last bit and
    /// the simulator made much of it: the next number says less then.
    pub replayed: Arm,
    /// What the bins, or codes, of their actions stand for.
    pub binned: Arm,
    /// Episodes that the simulator could not be set to.
    pub skipped: usize,
}

/// A run's own episodes, closed loop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Through {
    /// The run.
    pub run: String,
    /// As it is.
    pub plain: Arm,
    /// With its actions through the bins.
    pub binned: Arm,
}

/// Errors of every observation and action of `data`.
pub(super) fn bin_errors(data: &Dataset, discretizer: &Discretizer) -> Vec<BinError> {
    let (o, a) = (data.observation_dim, data.action_dim);
    let column = |dim: usize| -> Vec<f64> {
        let (numbers, at, width) = if dim < o {
            (&data.observations, dim, o)
        } else {
            (&data.actions, dim - o, a)
        };
        let column = numbers.iter().skip(at).step_by(width);
        column.map(|&x| f64::from(x)).collect()
    };
    let error = |dim: usize| {
        let values = column(dim);
        let (_, deviation) = mean_std(&values);
        let unit = if deviation > 0.0 { deviation } else { 1.0 };
        let squares = values.iter().map(|&value| {
            let back = discretizer.decode(discretizer.encode(value, dim), dim);
            ((back - value) / unit).powi(2)
        });
        let mean = squares.sum::<f64>() / values.len() as f64;
        BinError {
            name: if dim < o {
                format!("observation {dim}")
            } else {
                format!("action {}", dim - o)
            },
            deviation,
            error_rms: mean.sqrt(),
        }
    };
    (0..o + a).map(error).collect()
}

/// Replays the first `stage.steps` steps of up to `stage.episodes` complete episodes, evenly spread over the data; `None` if the
/// simulator can't be set to any. `through` says what bins or codes make of an episode's actions.
///
/// # Errors
/// [`Error::Interrupted`], or if the simulator fails.
pub(super) fn replay(
    data: &Dataset,
    stage: &Stage,
    through: &dyn Fn(&Episode) -> Result<Vec<Vec<f32>>>,
    reference: Option<ReferenceReturns>,
) -> Result<Option<Replay>> {
    let complete: Vec<&Episode> = data.episodes.iter().filter(|e| e.is_complete()).collect();
    let count = stage.episodes.min(complete.len());
    let chosen = (0..count).map(|i| complete[i * complete.len() / count]);
    let mut env = make_with(&stage.name, &stage.options)?;
    let (mut logged, mut replayed, mut rounded) = (Vec::new(), Vec::new(), Vec::new());
    let mut skipped = 0;
    for episode in chosen {
        if stage.interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        let steps = episode.range().take(stage.steps);
        let actions = || steps.clone().map(|step| data.action(step).to_vec());
        let start = data.observation(episode.start);
        let Some(again) = carry_out(&mut *env, start, actions())? else {
            skipped += 1;
            continue;
        };
        let others = through(episode)?.into_iter().take(stage.steps);
        let Some(by_others) = carry_out(&mut *env, start, others)? else {
            continue;
        };
        let earned = steps
            .clone()
            .map(|step| f64::from(data.rewards[step]))
            .sum();
        logged.push((earned, steps.len()));
        replayed.push(again);
        rounded.push(by_others);
    }
    if logged.is_empty() {
        return Ok(None);
    }
    let arm = |found: Vec<(f64, usize)>| {
        let (returns, lengths) = found.into_iter().unzip();
        Arm::new(returns, lengths, reference)
    };
    Ok(Some(Replay {
        logged: arm(logged),
        replayed: arm(replayed),
        binned: arm(rounded),
        skipped,
    }))
}

/// Return and length of actions from the state of an observation on; `None` if the simulator can't be set to it.
fn carry_out(
    env: &mut dyn Environment,
    start: &[f32],
    actions: impl Iterator<Item = Vec<f32>>,
) -> Result<Option<(f64, usize)>> {
    // A state that can't be, because its numbers are rounded, is one that can't be set.
    if !matches!(env.reset_to(start), Ok(Some(_))) {
        return Ok(None);
    }
    let (low, high) = (
        env.spec().action_low.clone(),
        env.spec().action_high.clone(),
    );
    let (mut earned, mut steps) = (0.0, 0);
    for action in actions {
        let bounds = low.iter().zip(&high);
        let action: Vec<f32> = action
            .iter()
            .zip(bounds)
            .map(|(x, (low, high))| x.clamp(*low, *high))
            .collect();
        let step = env.step(&action)?;
        earned += f64::from(step.reward);
        steps += 1;
        if step.terminated || step.truncated {
            break;
        }
    }
    Ok(Some((earned, steps)))
}
