//! Policies of the demonstration with what they did.

use crate::app::evaluate::Evaluation;
/// What a policy scored, and what it did.
pub(super) struct Scored {
    pub(super) evaluation: Evaluation,
    /// Positions of every episode.
    pub(super) rows: Vec<Vec<(f64, f64)>>,
    /// Plans that were made on the way; none for policies that do not plan.
    pub(super) plans: Vec<Plan>,
}

impl Scored {
    /// Mean and standard deviation of the normalised score.
    pub(super) fn score(&self) -> (f64, f64) {
        (
            self.evaluation.score_mean.unwrap_or(f64::NAN),
            self.evaluation.score_std.unwrap_or(f64::NAN),
        )
    }
}

/// A plan that was made at a step of an episode.
pub(super) struct Plan {
    pub(super) episode: usize,
    pub(super) step: usize,
    /// Positions of each imagined future, the chosen one first; all begin where the plan was made.
    pub(super) futures: Vec<Vec<(f64, f64)>>,
}

impl Plan {
    pub(super) fn place(&self) -> (f64, f64) {
        self.futures[0][0]
    }
}

pub(super) fn position(observation: &[f32]) -> (f64, f64) {
    (f64::from(observation[0]), f64::from(observation[1]))
}
