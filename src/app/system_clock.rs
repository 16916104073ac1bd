//! [`SystemClock`]: the machine's own clock, for policies that plan within a budget of time.

use std::time::Instant;

use trajformer_core::clock::Clock;

/// Seconds since it was made.
#[derive(Debug, Clone)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock that shows 0 now.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
