//! An ensemble of Q-functions alone: the part of SAC-N, EDAC and REDQ that takes their time.

use candle_core::{D, DType};
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::kernels::gradients::gradients;
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, polyak_update};
use trajformer_models::params::Params;
use trajformer_models::uploads::CachedUploads;
use trajformer_models::work;

use crate::app::bench::updates::{Report, made_up_data, seconds_per_call};
use trajformer_core::algorithm::Work;
use trajformer_core::device::open_device;
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::ActionBounds;
use trajformer_data::transitions::Transitions;
use trajformer_data::transitions_config::TransitionsConfig;
use trajformer_models::rng::Streams;

const DISCOUNT: f64 = 0.99;
const TARGET_RATE: f64 = 0.005;
const LEARNING_RATE: f64 = 3e-4;

/// What [`critics`] times.
#[derive(Debug, Clone, PartialEq)]
pub struct CriticsOptions {
    /// Q-functions (N).
    pub members: usize,
    /// Widths of their hidden layers.
    pub hidden: Vec<usize>,
    /// Transitions in a batch (B).
    pub batch: usize,
    /// Numbers in an observation (O).
    pub observations: usize,
    /// Numbers in an action (A).
    pub actions: usize,
    /// `cpu`, `cuda`, `cuda:N` or `metal`.
    pub device: String,
    /// The clock runs at least this long.
    pub seconds: f64,
}

/// Times updates of N Q-functions towards r + γ min_i Q'_i(s', a'), a' from the data: sampling,
/// target, loss, backward, Adam, Polyak average.
///
/// # Errors
/// If a size is 0, there is no such device, or a tensor operation fails.
pub fn critics(options: &CriticsOptions) -> Result<Report> {
    let (o, a, n) = (options.observations, options.actions, options.members);
    let sizes = CriticConfig {
        observation_dim: o,
        action_dim: a,
        hidden: options.hidden.clone(),
        members: n,
        ..CriticConfig::default()
    };
    let (streams, device) = (Streams::from_seed(0), open_device(&options.device)?);
    let view = TransitionsConfig {
        next_actions: true,
        ..TransitionsConfig::default()
    };
    let bounds = ActionBounds::unit(a, &device)?;
    let data = Transitions::new(&made_up_data(o, a)?, &bounds, &view, &device)?;
    let mut params = Params::new(DType::F32, &device);
    Critics::new(&sizes, &mut params.init(&mut streams.stream("init")))?;
    let target_params = params.deep_copy(false)?;
    let critics = Critics::new(&sizes, &mut params.tracked())?;
    let targets = Critics::new(&sizes, &mut target_params.detached())?;
    let mut optimizer = Adam::new(&params, AdamConfig::default(), |_| ParamGroup::decay(0.0))?;
    let mut rng = streams.stream("train");
    let seconds = seconds_per_call(options.seconds, &device, || {
        let batch = data.sample(options.batch, &mut rng)?; // (B, O), (B, A), ...
        let _cached = CachedUploads::hold(&device);
        let next_actions = batch
            .next_actions
            .as_ref()
            .ok_or_else(|| Error::Internal("the transitions hold no next actions".to_owned()))?;
        let future = targets
            .forward(&batch.next_observations, next_actions)?
            .min(0)?; // (B)
        let future = ((future * (1.0 - &batch.terminated)?)? * DISCOUNT)?;
        let target = (&batch.rewards + future)?.detach(); // (B)
        let q = critics.forward(&batch.observations, &batch.actions)?; // (N, B)
        let error = q.broadcast_sub(&target)?.sqr()?;
        let loss = error.mean(D::Minus1)?.sum_all()?;
        optimizer.step(&gradients(&loss, &params)?, LEARNING_RATE)?;
        polyak_update(&target_params, &params, TARGET_RATE)?;
        Ok(())
    })?;
    let passes = work::critics(&sizes).forward(1.0).train(1.0);
    let work = Work::of(&[passes], options.batch, 0);
    let report = Report::new("critics", &options.device, options.seconds)?;
    Ok(report.with_updates(seconds, Some(work.product_flops), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_of_given_sizes_can_be_timed() {
        let options = CriticsOptions {
            members: 3,
            hidden: vec![8],
            batch: 4,
            observations: 3,
            actions: 2,
            device: "cpu".to_owned(),
            seconds: 0.0,
        };
        let report = critics(&options).expect("report");
        assert!(report.ms_per_update.is_some_and(|ms| ms > 0.0));
        assert!(report.peak_share.is_some_and(|share| share > 0.0));
    }
}
