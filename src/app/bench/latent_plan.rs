//! One plan of a Trajectory Autoencoding Planner.

use std::sync::Arc;

use candle_core::{DType, Device};
use trajformer_models::params::Params;
use trajformer_models::tap::{Autoencoder, Prior};

use crate::app::bench::plan_options::{PlanOptions, Stream, median_of};
use crate::app::bench::updates::Report;
use trajformer_algorithms::planning::{LatentModel, LatentSearch};
use trajformer_algorithms::tap::{Learner, TapConfig};
use trajformer_core::error::{Error, Result};
use trajformer_core::source::Stage;
use trajformer_models::rng::Streams;

/// Times plans for one episode, from one observation after the other. Random weights are the worst case: the prior finds all codes about
/// equally likely, so that few of the sequences that are drawn are the same.
pub(super) fn plan_codes(options: &PlanOptions, mut config: TapConfig) -> Result<Report> {
    if options.budget_ms.is_some() {
        return Err(Error::settings(
            "plans of `tap` take no budget of time, expected `trajectory_transformer`".to_owned(),
        ));
    }
    let sizes = (options.observations, options.actions);
    if let Some(beam) = options.beam {
        config.planner.beam_width = beam;
    }
    if let Some(horizon) = options.horizon {
        config.planner.horizon = horizon;
        config.window_transitions = config
            .window_transitions
            .max(horizon.next_multiple_of(config.latent_steps.max(1)));
    }
    config.check()?;
    let streams = Streams::from_seed(0);
    let mut rng = streams.stream("init");
    let params = || Params::new(DType::F32, &Device::Cpu);
    let (mut autoencoder, mut prior) = (params(), params());
    let (o, a) = sizes;
    Autoencoder::new(&config.autoencoder(o, a), &mut autoencoder.init(&mut rng))?;
    Prior::new(&config.prior(o), &mut prior.init(&mut rng))?;
    let learner = Learner::new(&config, sizes, autoencoder, prior, Stage::Acting)?;
    let model = LatentModel {
        decoder: Arc::new(learner.decoder::<f32>()?),
        moments: (vec![0.0; o + a + 2], vec![1.0; o + a + 2]),
        discount: config.discount,
    };
    let mut search = LatentSearch::new(model, config.planner.clone())?;
    let mut observations = streams.stream("observations");
    let mut uniforms = Stream(streams.stream("plan"));
    let median = median_of(options.seconds, || {
        let observation: Vec<f32> = (0..o).map(|_| observations.normal() as f32).collect();
        search.plan(&observation, 0, &mut uniforms)?;
        Ok(())
    })?;
    let codes = config.planner.horizon / config.latent_steps;
    let drawn = config.planner.beam_width * config.planner.n_expand * codes;
    let mut report = Report::new("tap", "cpu", options.seconds)?;
    report.seconds_per_plan = Some(median);
    report.tokens_per_s = Some(drawn as f64 / median);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::bench::plan;
    use trajformer_algorithms::planning::Window;

    #[test]
    fn a_plan_is_timed_at_the_sizes_and_settings_that_are_asked_for() {
        let options = |algorithm: &str, overrides: &[&str]| PlanOptions {
            algorithm: algorithm.to_owned(),
            observations: 2,
            actions: 1,
            beam: Some(2),
            horizon: Some(6),
            window: Window::Crop,
            budget_ms: None,
            decisions: 0,
            overrides: overrides.iter().map(|&text| text.to_owned()).collect(),
            seconds: 0.0,
        };
        let small = [
            "codes=8",
            "code_width=4",
            "layers=1",
            "embedding_per_head=4",
        ];
        let report = plan(&options("tap", &small)).expect("report");
        let seconds = report.seconds_per_plan.expect("a time");
        let rate = report.tokens_per_s.expect("a rate");
        // Two beams, four draws after each, two codes.
        assert!((rate * seconds - 16.0).abs() < 1e-6);
        for (algorithm, word) in [("td3", "does not plan"), ("tapp", "unknown algorithm")] {
            let error = plan(&options(algorithm, &[]))
                .expect_err("an error")
                .to_string();
            assert!(error.contains(word), "{error}");
        }
        let error = plan(&options("tap", &["latent_steps=4"])).expect_err("an error");
        assert!(error.to_string().contains("multiple of"), "{error}");
    }
}
