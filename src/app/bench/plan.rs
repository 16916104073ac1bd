//! One plan of an algorithm that plans; of the Trajectory Transformer with a context as long as it gets.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use trajformer_models::decoder::Decoder;
use trajformer_models::params::Params;
use trajformer_models::trajectory_transformer::TrajectoryTransformer;

use crate::app::bench::latent_plan;
use crate::app::bench::plan_options::{PLANS, PlanOptions, Stream, median_of};
use crate::app::bench::updates::{Report, config_of};
use crate::app::system_clock::SystemClock;
use trajformer_algorithms::planning::{
    BeamPlanner, BeamSearch, PlanConfig, Prefix, SearchModel, Window,
};
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_algorithms::trajectory_transformer::TrajectoryTransformerConfig;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_data::discretizer::{Discretizer, DiscretizerKind};
use trajformer_models::rng::{Rng, Streams};

/// Past transitions in front of the current observation: as many as the authors' planner keeps.
const CONTEXT: usize = 5;
/// Rows that the discretizer is fitted to.
const ROWS: usize = 10_000;
/// Beams and horizon if none are given: the authors' for halfcheetah-medium.
const BEAM: usize = 32;
const HORIZON: usize = 5;

/// Times plans for one episode, with a model of the authors' size and random weights and their settings; the median of at least
/// five. With a budget an episode is acted in, with made-up observations: each plan may go on with the one before, and the report
/// says how many took longer than they may.
///
/// # Errors
/// If the algorithm doesn't plan, a size is 0 or the planner fails.
pub fn plan(options: &PlanOptions) -> Result<Report> {
    let (o, a) = (options.observations, options.actions);
    if o == 0 || a == 0 {
        return Err(Error::settings(format!(
            "{o} observations and {a} actions, expected at least 1 of each"
        )));
    }
    let overrides: Vec<&String> = options.overrides.iter().collect();
    let config = config_of(&options.algorithm, &overrides)?;
    config.check_acting()?;
    match config {
        AlgorithmConfig::TrajectoryTransformer(config) => plan_tokens(options, config),
        AlgorithmConfig::Tap(config) => latent_plan::plan_codes(options, config),
        _ => Err(Error::settings(format!(
            "`{}` does not plan, expected trajectory_transformer or tap",
            options.algorithm
        ))),
    }
}

/// Times plans for one episode after a context of five transitions, with a model of the authors'
/// size and random weights and their settings (2 actions tried from each sequence, the most likely
/// observation, reward and value, actions from the upper 0.4 of the probability). A growing window gets a model whose own
/// window is long enough.
fn plan_tokens(options: &PlanOptions, config: TrajectoryTransformerConfig) -> Result<Report> {
    let (o, a) = (options.observations, options.actions);
    let (beam, horizon) = (
        options.beam.unwrap_or(BEAM),
        options.horizon.unwrap_or(HORIZON),
    );
    let places = o + a + 2;
    let streams = Streams::from_seed(0);
    let mut rng = streams.stream("plan");
    let tokens = (0..CONTEXT * places + o).map(|_| rng.below(config.bins) as u32);
    let prefixes = [Prefix {
        tokens: tokens.collect(),
        goal: None,
        instruction: None,
    }];
    let mut search = search(options, (beam, horizon), config, &streams)?;
    if search.config().budget().is_some() {
        return plan_within(options, search, rng);
    }
    let mut uniforms = Stream(rng);
    let median = median_of(options.seconds, || {
        search.plan(&prefixes, &mut uniforms)?;
        Ok(())
    })?;
    let candidates = beam * search.config().n_expand * horizon * (a + 2);
    let sampled = candidates + beam * (horizon - 1) * o;
    let mut report = Report::new("trajectory_transformer", "cpu", options.seconds)?;
    report.seconds_per_plan = Some(median);
    report.tokens_per_s = Some(sampled as f64 / median);
    Ok(report)
}

/// Acts in one episode until there are enough plans.
fn plan_within(options: &PlanOptions, search: BeamSearch<f32>, mut rng: Rng) -> Result<Report> {
    let (o, a) = (options.observations, options.actions);
    let mut planner = BeamPlanner::new(search, vec![-3.0; a], vec![3.0; a])?
        .with_clock(Arc::new(SystemClock::new()));
    planner.begin(&[EpisodeStart::new(rng.clone())])?;
    let begin = Instant::now();
    // Several steps may follow one plan.
    let is_short = |planner: &BeamPlanner| planner.decisions().len() < PLANS.max(options.decisions);
    while is_short(&planner) || begin.elapsed().as_secs_f64() < options.seconds {
        let observation: Vec<f32> = (0..o).map(|_| rng.normal() as f32).collect();
        let observation = Tensor::from_vec(observation, (1, o), &Device::Cpu)?;
        planner.act(&observation, &[true])?;
        planner.observe(&[0.0])?;
    }
    let mut report = Report::new("trajectory_transformer", "cpu", options.seconds)?;
    report.planning = planner.planning();
    let decisions = planner.decisions();
    let seconds: f64 = decisions
        .iter()
        .filter_map(|decision| decision.seconds)
        .sum();
    let tokens: u64 = decisions.iter().map(|decision| decision.tokens).sum();
    let median = report
        .planning
        .as_ref()
        .and_then(|planning| planning.p50_ms);
    report.seconds_per_plan = median.map(|ms| ms / 1e3);
    report.tokens_per_s = Some(tokens as f64 / seconds);
    Ok(report)
}

fn search(
    options: &PlanOptions,
    (beam, horizon): (usize, usize),
    mut config: TrajectoryTransformerConfig,
    streams: &Streams,
) -> Result<BeamSearch<f32>> {
    let (o, a) = (options.observations, options.actions);
    let places = o + a + 2;
    config.planner = PlanConfig {
        beam_width: beam,
        horizon,
        max_context_transitions: CONTEXT,
        window: options.window,
        budget_ms: options.budget_ms.or(config.planner.budget_ms),
        ..config.planner
    };
    if options.window == Window::Grow {
        config.window_transitions = config.window_transitions.max(CONTEXT + horizon);
    }
    config.check()?;
    let sizes = config.sizes(o, a);
    let mut params = Params::new(candle_core::DType::F32, &Device::Cpu);
    TrajectoryTransformer::new(&sizes, &mut params.init(&mut streams.stream("init")))?;
    let decoder = Arc::new(Decoder::new(&params.tensors()?, sizes.decoder_shape())?);
    let mut rng = streams.stream("rows");
    let rows: Vec<f64> = (0..ROWS * places).map(|_| rng.normal()).collect();
    let discretizer = Discretizer::fit(&rows, places, sizes.bins, DiscretizerKind::Quantile)?;
    let model = SearchModel {
        decoder,
        discretizer: Arc::new(discretizer),
        observation_dim: o,
        discount: config.discount,
        goal_conditioned: false,
    };
    BeamSearch::new(model, config.planner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_timed_in_both_windows_and_beyond_the_papers_horizon() {
        for (window, horizon) in [(Window::Crop, 2), (Window::Grow, 7)] {
            let options = PlanOptions {
                algorithm: "trajectory_transformer".to_owned(),
                observations: 2,
                actions: 1,
                beam: Some(2),
                horizon: Some(horizon),
                window,
                overrides: Vec::new(),
                budget_ms: None,
                decisions: 0,
                seconds: 0.0,
            };
            let report = plan(&options).expect("report");
            let seconds = report.seconds_per_plan.expect("a time");
            let sampled = 2 * 2 * horizon * 3 + 2 * (horizon - 1) * 2;
            let rate = report.tokens_per_s.expect("a rate");
            assert!((rate * seconds - sampled as f64).abs() < 1e-6 * sampled as f64);
        }
    }
    #[test]
    fn plans_within_a_budget_are_counted_with_their_times() {
        let options = PlanOptions {
            algorithm: "trajectory_transformer".to_owned(),
            observations: 2,
            actions: 1,
            beam: Some(4),
            horizon: Some(3),
            window: Window::Crop,
            overrides: Vec::new(),
            budget_ms: Some(1e5),
            decisions: 7,
            seconds: 0.0,
        };
        let report = plan(&options).expect("report");
        let planning = report.planning.expect("plans");
        assert_eq!((planning.decisions, planning.missed), (7, Some(0)));
        // Not the steps that follow them.
        let seldom = PlanOptions {
            overrides: vec!["planner.plan_every_steps=3".to_owned()],
            ..options
        };
        let found = plan(&seldom).expect("report").planning;
        assert_eq!(found.map(|planning| planning.decisions), Some(7));
        // Nothing is known at first: the second search is the full one.
        assert_eq!((planning.cut, planning.beams_mean), (0.0, 4.0));
        let times = [planning.p50_ms, planning.p99_ms, planning.max_ms];
        assert!(times.is_sorted() && times[0] > Some(0.0), "{times:?}");
    }
}
