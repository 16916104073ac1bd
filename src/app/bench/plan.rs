//! One plan of the Trajectory Transformer, with a context as long as it gets.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use trajformer_models::decoder::{Decoder, DecoderShape};
use trajformer_models::params::Params;
use trajformer_models::trajectory_transformer::TrajectoryTransformer;

use crate::app::bench::updates::Report;
use crate::app::system_clock::SystemClock;
use trajformer_algorithms::planning::sampling::Uniforms;
use trajformer_algorithms::planning::{
    BeamPlanner, BeamSearch, PlanConfig, Prefix, SearchModel, Window,
};
use trajformer_algorithms::trajectory_transformer::TrajectoryTransformerConfig;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_data::discretizer::{Discretizer, DiscretizerKind};
use trajformer_models::rng::{Rng, Streams};

/// Past transitions in front of the current observation: as many as the authors' planner keeps.
const CONTEXT: usize = 5;
/// Rows that the discretizer is fitted to.
const ROWS: usize = 10_000;
/// Plans that are timed at least.
const PLANS: usize = 5;

/// What [`plan`] times.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanOptions {
    /// Numbers in an observation (O).
    pub observations: usize,
    /// Numbers in an action (A).
    pub actions: usize,
    /// Sequences that stay after each imagined transition (W).
    pub beam: usize,
    /// Transitions to imagine.
    pub horizon: usize,
    /// What the network sees of a long sequence.
    pub window: Window,
    /// Milliseconds that a plan may take, if that is limited: plans follow each other in one episode then.
    pub budget_ms: Option<f64>,
    /// Plans that are made at least within a budget.
    pub decisions: usize,
    /// The clock runs at least this long.
    pub seconds: f64,
}

/// The random stream of the only episode.
struct Stream(Rng);

impl Uniforms for Stream {
    fn next(&mut self, _episode: usize) -> f64 {
        self.0.uniform()
    }
}

/// Times plans for one episode after a context of five transitions, with a model of the authors'
/// size and random weights and their settings (2 actions tried from each sequence, the most likely
/// observation, reward and value, actions from the upper 0.4 of the probability); the median of at
/// least five. A growing window gets a model whose own window is long enough. With a budget an episode is acted in, with made-up
/// observations: each plan may go on with the one before, and the report says how many took longer than they may.
///
/// # Errors
/// If a size is 0 or the planner fails.
pub fn plan(options: &PlanOptions) -> Result<Report> {
    let (o, a) = (options.observations, options.actions);
    if o == 0 || a == 0 {
        return Err(Error::settings(format!(
            "{o} observations and {a} actions, expected at least 1 of each"
        )));
    }
    let places = o + a + 2;
    let streams = Streams::from_seed(0);
    let mut rng = streams.stream("plan");
    let tokens = (0..CONTEXT * places + o).map(|_| rng.below(100) as u32);
    let prefixes = [Prefix {
        tokens: tokens.collect(),
        goal: None,
        instruction: None,
    }];
    let mut search = search(options, &streams)?;
    if options.budget_ms.is_some() {
        return plan_within(options, search, rng);
    }
    let mut uniforms = Stream(rng);
    let mut times = Vec::new();
    let mut total = 0.0;
    search.plan(&prefixes, &mut uniforms)?;
    while times.len() < PLANS || total < options.seconds {
        let start = Instant::now();
        search.plan(&prefixes, &mut uniforms)?;
        times.push(start.elapsed().as_secs_f64());
        total += start.elapsed().as_secs_f64();
    }
    times.sort_by(f64::total_cmp);
    let median = (times[times.len() / 2] + times[(times.len() - 1) / 2]) / 2.0;
    let candidates = options.beam * search.config().n_expand * options.horizon * (a + 2);
    let sampled = candidates + options.beam * (options.horizon - 1) * o;
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
    let mut steps = 0;
    while steps < PLANS.max(options.decisions) || begin.elapsed().as_secs_f64() < options.seconds {
        let observation: Vec<f32> = (0..o).map(|_| rng.normal() as f32).collect();
        let observation = Tensor::from_vec(observation, (1, o), &Device::Cpu)?;
        planner.act(&observation, &[true])?;
        planner.observe(&[0.0])?;
        steps += 1;
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

fn search(options: &PlanOptions, streams: &Streams) -> Result<BeamSearch<f32>> {
    let (o, a) = (options.observations, options.actions);
    let places = o + a + 2;
    let mut config = TrajectoryTransformerConfig {
        planner: PlanConfig {
            beam_width: options.beam,
            horizon: options.horizon,
            max_context_transitions: CONTEXT,
            window: options.window,
            budget_ms: options.budget_ms,
            ..PlanConfig::default()
        },
        ..TrajectoryTransformerConfig::default()
    };
    if options.window == Window::Grow {
        config.window_transitions = config.window_transitions.max(CONTEXT + options.horizon);
    }
    config.check()?;
    let sizes = config.sizes(o, a);
    let mut params = Params::new(candle_core::DType::F32, &Device::Cpu);
    TrajectoryTransformer::new(&sizes, &mut params.init(&mut streams.stream("init")))?;
    let shape = DecoderShape {
        transition_tokens: places,
        bins: sizes.bins,
        heads: sizes.heads,
    };
    let decoder = Arc::new(Decoder::new(&params.tensors()?, shape)?);
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
                observations: 2,
                actions: 1,
                beam: 2,
                horizon,
                window,
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
            observations: 2,
            actions: 1,
            beam: 4,
            horizon: 3,
            window: Window::Crop,
            budget_ms: Some(1e5),
            decisions: 7,
            seconds: 0.0,
        };
        let report = plan(&options).expect("report");
        let planning = report.planning.expect("plans");
        assert_eq!((planning.decisions, planning.missed), (7, Some(0)));
        // Nothing is known at first: the second search is the full one.
        assert_eq!((planning.cut, planning.beams_mean), (0.0, 4.0));
        let times = [planning.p50_ms, planning.p99_ms, planning.max_ms];
        assert!(times.is_sorted() && times[0] > Some(0.0), "{times:?}");
    }
}
