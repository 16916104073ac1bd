//! What planners are timed with: sizes, random draws, and a clock.

use std::time::Instant;

use trajformer_algorithms::planning::Window;
use trajformer_algorithms::planning::sampling::Uniforms;
use trajformer_core::error::Result;
use trajformer_models::rng::Rng;

/// Plans that are timed at least.
pub(super) const PLANS: usize = 5;

/// What [`plan`](super::plan) times.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanOptions {
    /// Registered name: `trajectory_transformer` or `tap`.
    pub algorithm: String,
    /// Numbers in an observation (O).
    pub observations: usize,
    /// Numbers in an action (A).
    pub actions: usize,
    /// Sequences that stay after each imagined transition or code (W); default: 32, of TAP its configuration's.
    pub beam: Option<usize>,
    /// Transitions to imagine; default: 5, of TAP its configuration's.
    pub horizon: Option<usize>,
    /// What the network sees of a long sequence; nothing to TAP.
    pub window: Window,
    /// Milliseconds that a plan may take, if that is limited: plans follow each other in one episode then. Not of TAP.
    pub budget_ms: Option<f64>,
    /// Plans that are made at least within a budget.
    pub decisions: usize,
    /// Changes to the algorithm's defaults, `KEY=VALUE`, e.g. `layers=2`.
    pub overrides: Vec<String>,
    /// The clock runs at least this long.
    pub seconds: f64,
}

/// The random stream of the only episode.
pub(super) struct Stream(pub Rng);

impl Uniforms for Stream {
    fn next(&mut self, _episode: usize) -> f64 {
        self.0.uniform()
    }
}

/// Median seconds of `once`, called at least five times and for so long, after a first time that doesn't count.
pub(super) fn median_of(seconds: f64, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    let mut total = 0.0;
    once()?;
    while times.len() < PLANS || total < seconds {
        let start = Instant::now();
        once()?;
        times.push(start.elapsed().as_secs_f64());
        total += start.elapsed().as_secs_f64();
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2] + times[(times.len() - 1) / 2]) / 2.0)
}
