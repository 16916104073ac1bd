//! Policies that imitate: returns reached against those asked for, and errors of actions along logged episodes.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::app::diagnose::episodes::{Arm, Plain, Stage};
use crate::envs::score::ReferenceReturns;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::error::{Error, Result};
use trajformer_core::interrupt::Interrupt;
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_core::statistics::{mean_std, quantile};
use trajformer_models::rng::Streams;

/// Shares of the data's episodes whose returns are asked for.
const QUANTILES: [f64; 4] = [0.1, 0.5, 0.9, 1.0];
/// How far above its best return the largest target is, in the data's range of returns.
const ABOVE: f64 = 0.25;
/// Logged episodes that are walked through at a time.
const EPISODES: usize = 32;

/// One return that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Aim {
    /// The return asked for, in the environment's units.
    pub asked: f64,
    /// Where it comes from: `10 % of the data's episodes return less`, `the run's own target`.
    pub origin: String,
    /// What was reached.
    pub reached: Arm,
}

/// Errors of a policy's actions along logged episodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionErrors {
    /// Which data: `training`, `held-out` or `given`.
    pub data: &'static str,
    /// Logged steps that were walked through.
    pub steps: usize,
    /// Every action (A); none of choices.
    pub dimensions: Vec<ActionError>,
    /// Where actions are choices: how many were right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<Choices>,
}

/// Choices of a policy along logged episodes, held against those that were made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choices {
    /// Share of the steps at which the policy chooses what was chosen, in [0, 1].
    pub right: f64,
    /// The same if it always made the choice that was made most often at these steps: what it has to be held against.
    pub most_frequent: f64,
}

/// The error of one number of actions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ActionError {
    /// Standard deviation in the data, in its units.
    pub deviation: f64,
    /// Root mean square of what the policy would do less what was done, over the standard deviation (in the data's units where that
    /// is 0): 1 is what the data's mean action has.
    pub error_rms: f64,
}

/// Returns to ask for: quantiles of the data's returns and one above its best, where there is data, and the run's own; ascending.
pub(super) fn grid(data: Option<&Dataset>, own: &[f32]) -> Vec<(f64, String)> {
    let mut returns = data.map(Dataset::returns).unwrap_or_default();
    returns.sort_by(f64::total_cmp);
    let mut found: Vec<(f64, String)> = Vec::new();
    if let (Some(&least), Some(&most)) = (returns.first(), returns.last()) {
        let named = QUANTILES.iter().map(|&share| {
            let name = match share {
                1.0 => "the data's best episode".to_owned(),
                share => format!("{:.0} % of the data's episodes return less", 100.0 * share),
            };
            (quantile(&returns, share), name)
        });
        found.extend(named);
        let above = most + ABOVE * (most - least);
        found.push((above, "above the data's best".to_owned()));
    }
    found.extend(
        own.iter()
            .map(|&own| (f64::from(own), "the run's own target".to_owned())),
    );
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found
}

/// Asks for each of `targets` in the same episodes.
///
/// # Errors
/// [`Error::Interrupted`], or if policy or environment fails.
pub(super) fn aims(
    stage: &Stage,
    policy: &mut dyn Policy,
    targets: Vec<(f64, String)>,
    reference: Option<ReferenceReturns>,
) -> Result<Vec<Aim>> {
    let asked: Vec<Option<f32>> = targets.iter().map(|(t, _)| Some(*t as f32)).collect();
    let rolled = stage.run("returns asked for", &asked, &mut Plain(policy))?;
    let arms = rolled.arms(asked.len(), reference);
    let aims = targets.into_iter().zip(arms);
    Ok(aims
        .map(|((asked, origin), reached)| Aim {
            asked,
            origin,
            reached,
        })
        .collect())
}

/// Walks through up to `steps` logged steps of complete episodes, evenly spread over the data, and holds the policy's actions
/// against what was done. It is told what was done, and, if it `aims`, at what each episode returned.
///
/// # Errors
/// [`Error::Interrupted`], or if the policy fails.
pub(super) fn action_errors(
    policy: &mut dyn Policy,
    aims: bool,
    data: &Dataset,
    (name, steps): (&'static str, usize),
    interrupt: &Interrupt,
) -> Result<Option<ActionErrors>> {
    let complete: Vec<&Episode> = data.episodes.iter().filter(|e| e.is_complete()).collect();
    let mean = data.steps() / complete.len().max(1);
    let count = (steps / mean.max(1)).clamp(1, complete.len().max(1));
    let chosen: Vec<&Episode> = (0..count.min(complete.len()))
        .map(|i| complete[i * complete.len() / count])
        .collect();
    let width = data.action_dim;
    let (mut squares, mut walked) = (vec![0.0; width], 0);
    let (mut right, mut made) = (0, BTreeMap::<u32, usize>::new());
    for some in chosen.chunks(EPISODES) {
        begin(policy, aims, data, some)?;
        let longest = some.iter().map(|episode| episode.steps).max().unwrap_or(0);
        for step in 0..longest {
            if interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            let row = |episode: &Episode| episode.start + step.min(episode.steps - 1);
            let active: Vec<bool> = some.iter().map(|episode| step < episode.steps).collect();
            let table = |of: &dyn Fn(usize) -> Vec<f32>| -> Result<Tensor> {
                let numbers: Vec<f32> = some.iter().flat_map(|e| of(row(e))).collect();
                Ok(Tensor::from_vec(numbers, (some.len(), ()), &Device::Cpu)?)
            };
            let observations = table(&|row| data.observation(row).to_vec())?;
            let done = table(&|row| data.action(row).to_vec())?;
            let found = policy.act(&observations, &active)?;
            let found = found.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            let found = found.to_vec2::<f32>()?;
            for (index, episode) in some.iter().enumerate().filter(|(index, _)| active[*index]) {
                let pairs = found[index].iter().zip(data.action(row(episode)));
                for (sum, (a, b)) in squares.iter_mut().zip(pairs) {
                    *sum += f64::from(a - b).powi(2);
                }
                let chosen = data.action(row(episode));
                right += usize::from(found[index] == chosen);
                *made.entry(chosen[0].to_bits()).or_default() += 1;
                walked += 1;
            }
            policy.took(&done)?;
            let rewards: Vec<f32> = some.iter().map(|e| data.rewards[row(e)]).collect();
            policy.observe(&rewards)?;
        }
    }
    let error = |(dim, sum): (usize, &f64)| {
        let column = data.actions.iter().skip(dim).step_by(width);
        let (_, deviation) = mean_std(&column.map(|&x| f64::from(x)).collect::<Vec<f64>>());
        let unit = if deviation > 0.0 { deviation } else { 1.0 };
        ActionError {
            deviation,
            error_rms: (sum / walked as f64).sqrt() / unit,
        }
    };
    let choices = data.action_kind.choices().map(|_| Choices {
        right: right as f64 / walked as f64,
        most_frequent: made.values().max().copied().unwrap_or(0) as f64 / walked as f64,
    });
    let dimensions = match choices {
        // Differences of their numbers mean nothing.
        Some(_) => Vec::new(),
        None => squares.iter().enumerate().map(error).collect(),
    };
    Ok((walked > 0).then_some(ActionErrors {
        data: name,
        steps: walked,
        dimensions,
        choices,
    }))
}

fn begin(policy: &mut dyn Policy, aims: bool, data: &Dataset, episodes: &[&Episode]) -> Result<()> {
    let streams = Streams::from_seed(0);
    let starts = episodes.iter().enumerate().map(|(at, episode)| {
        let asked = data.episode_return(episode) as f32;
        EpisodeStart {
            target_return: aims.then_some(asked),
            instruction: episode.instruction.clone(),
            ..EpisodeStart::new(streams.numbered("policy", at as u64))
        }
    });
    policy.begin(&starts.collect::<Vec<_>>())
}
