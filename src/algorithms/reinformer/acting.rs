//! How the Reinformer acts: it predicts the return of the present state, and then the action for it.

use std::collections::VecDeque;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use trajformer_models::dropout::Dropout;
use trajformer_models::reinformer::{Reinformer as Network, ReturnContexts};

use crate::policies::own_actions;
use trajformer_core::error::Result;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::{EpisodeStart, Policy, check_rows};
use trajformer_models::rng::Rng;

/// What an episode remembers: T steps, at most K.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Returns as they were predicted (T), scaled; the last is 0 until it is.
    pub returns: VecDeque<f32>,
    /// Normalised observations (T, O).
    pub observations: VecDeque<Vec<f32>>,
    /// Actions (T, A) in ±1; the last is zero until it is known.
    pub actions: VecDeque<Vec<f32>>,
    /// Number of the last step in the episode, from 0.
    pub time: usize,
}

impl History {
    /// Appends an observation, and forgets what is further back than `most` steps.
    pub fn remember(&mut self, observation: Vec<f32>, action_dim: usize, most: usize) {
        if !self.observations.is_empty() {
            self.time += 1;
        }
        self.returns.push_back(0.0);
        self.observations.push_back(observation);
        self.actions.push_back(vec![0.0; action_dim]);
        if self.observations.len() > most {
            self.returns.pop_front();
            self.observations.pop_front();
            self.actions.pop_front();
        }
    }
}

/// Predicts the return of a history's last step, which the history keeps, and then the mean of its action (A) and ln σ (A).
///
/// # Errors
/// If a tensor operation fails.
pub fn choose(
    network: &Network,
    history: &mut History,
    (dtype, device): (DType, &Device),
) -> Result<(Vec<f64>, Vec<f64>)> {
    let steps = history.observations.len();
    let rows = |rows: &VecDeque<Vec<f32>>| {
        let width = rows[0].len();
        let rows: Vec<f32> = rows.iter().flatten().copied().collect();
        Tensor::from_vec(rows, (1, steps, width), device)?.to_dtype(dtype)
    };
    let last_row = network.config().max_timesteps - 1;
    let times = (0..steps).map(|step| (history.time + 1 + step - steps).min(last_row) as u32);
    let mut contexts = ReturnContexts {
        returns: Tensor::zeros((1, steps, 1), dtype, device)?,
        observations: rows(&history.observations)?,
        actions: rows(&history.actions)?,
        timesteps: Tensor::from_iter(times, device)?.reshape((1, steps))?,
    };
    let returns = |history: &History| {
        let returns: Vec<f32> = history.returns.iter().copied().collect();
        Tensor::from_vec(returns, (1, steps, 1), device)?.to_dtype(dtype)
    };
    let last = |x: &Tensor| {
        x.get(0)?
            .get(steps - 1)?
            .to_dtype(DType::F64)?
            .to_vec1::<f64>()
    };
    contexts.returns = returns(history)?;
    let predicted = network.forward(&contexts, Dropout::off())?;
    if let Some(left) = history.returns.back_mut() {
        *left = last(&predicted.returns)?[0] as f32;
    }
    contexts.returns = returns(history)?;
    let predicted = network.forward(&contexts, Dropout::off())?;
    let log_std = predicted.log_std.to_dtype(DType::F64)?.to_vec1()?;
    Ok((last(&predicted.means)?, log_std))
}

/// Acts with the last K steps of every row.
pub(super) struct ReinformerPolicy {
    pub(super) network: Network,
    pub(super) normalizer: Normalizer,
    pub(super) bounds: ActionBounds,
    pub(super) device: Device,
    pub(super) context_steps: usize,
    /// Whether actions are drawn, or means.
    pub(super) samples: bool,
    pub(super) rows: Vec<(History, Rng)>,
}

impl Policy for ReinformerPolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        let rows = episodes.iter();
        self.rows = rows
            .map(|start| (History::default(), start.rng.clone()))
            .collect();
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let observations = observations.to_device(&self.device)?;
        let observations = self.normalizer.apply(&observations)?.to_vec2::<f32>()?;
        check_rows(self.rows.len(), observations.len())?;
        check_rows(self.rows.len(), active.len())?;
        let dim = self.bounds.dim();
        let mut rows = std::mem::take(&mut self.rows);
        let act =
            |((row, observation), active): ((&mut (History, Rng), Vec<f32>), &bool)| -> Result<()> {
                if !active {
                    return Ok(());
                }
                let (history, rng) = row;
                history.remember(observation, dim, self.context_steps);
                let (mut action, log_std) =
                    choose(&self.network, history, (DType::F32, &self.device))?;
                if self.samples {
                    for (number, log_std) in action.iter_mut().zip(log_std) {
                        *number = (*number + log_std.exp() * rng.normal()).clamp(-1.0, 1.0);
                    }
                }
                if let Some(last) = history.actions.back_mut() {
                    *last = action.into_iter().map(|number| number as f32).collect();
                }
                Ok(())
            };
        let each = rows.par_iter_mut().zip(observations).zip(active);
        let acted = each.map(act).collect::<Result<()>>();
        self.rows = rows;
        acted?;
        let own = self.rows.iter().map(|(history, _)| &history.actions);
        own_actions::newest(own, &self.bounds, &self.device)
    }

    fn took(&mut self, actions: &Tensor) -> Result<()> {
        let own = self
            .rows
            .iter_mut()
            .map(|(history, _)| &mut history.actions);
        own_actions::replace_newest(own, actions, &self.bounds, &self.device)
    }

    fn draws(&self) -> bool {
        self.samples
    }
}
