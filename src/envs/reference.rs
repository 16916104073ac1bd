//! [`ReferenceReturns`]: what a normalised score is measured against.

/// Returns that a score is measured against, undiscounted and in the environment's units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReferenceReturns {
    /// Mean return of a random policy: score 0.
    pub random: f64,
    /// Mean return of the reference expert: score 100.
    pub expert: f64,
}

impl ReferenceReturns {
    /// These two returns.
    pub const fn new(random: f64, expert: f64) -> Self {
        Self { random, expert }
    }
}

impl From<(f64, f64)> for ReferenceReturns {
    /// (random, expert), as data files carry them.
    fn from((random, expert): (f64, f64)) -> Self {
        Self { random, expert }
    }
}
