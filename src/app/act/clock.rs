//! [`Clock`]: how long acting at recorded steps takes, from the first of them.

use std::time::Instant;

/// What takes longer is announced.
const LONG_SECONDS: f64 = 10.0;

/// Says once how long it will take, if that is long.
pub(super) struct Clock {
    begin: Instant,
    /// Steps that are only remembered, and those that are acted at: one kind may take a thousand times as long as the other.
    kinds: [Kind; 2],
    said: bool,
}

/// Steps of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    done: usize,
    total: usize,
    /// That those that are done took.
    seconds: f64,
}

impl Clock {
    pub(super) const RECALLED: usize = 0;
    pub(super) const ACTED: usize = 1;

    pub(super) fn new(recalled: usize, acted: usize) -> Self {
        let of = |total: usize| Kind {
            total,
            ..Kind::default()
        };
        Self {
            begin: Instant::now(),
            kinds: [of(recalled), of(acted)],
            said: false,
        }
    }

    pub(super) fn done(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.done as u64).sum()
    }

    /// Counts a step of this kind, which has just ended.
    pub(super) fn step(&mut self, kind: usize) {
        let seconds = self.begin.elapsed().as_secs_f64();
        let before: f64 = self.kinds.iter().map(|kind| kind.seconds).sum();
        self.kinds[kind].done += 1;
        self.kinds[kind].seconds += seconds - before;
        // The first step may be slower than others; what takes long anyway is said at once.
        if self.said || (self.done() < 3 && seconds < 1.0) {
            return;
        }
        let all = seconds + left(&self.kinds);
        if all > LONG_SECONDS {
            self.said = true;
            let steps: usize = self.kinds.iter().map(|kind| kind.total).sum();
            tracing::info!(
                "acting at {steps} steps will take about {all:.0} s ({:.3} s per step on average); the actions come all together, at the end",
                all / steps as f64
            );
        }
    }
}

/// Seconds that what is left takes, by what was measured; a kind of which nothing is done counts for nothing yet.
fn left(kinds: &[Kind]) -> f64 {
    let of = |kind: &Kind| match kind.done {
        0 => 0.0,
        done => kind.seconds / done as f64 * (kind.total - done) as f64,
    };
    kinds.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_remembered_and_those_that_are_acted_at_are_timed_apart() {
        // Of two episodes of 500 steps the last action each: one act of 0.1 s is not a thousand of them.
        let kinds = |acted: usize| {
            let recalled = Kind {
                done: 499,
                total: 998,
                seconds: 0.499,
            };
            let acted = Kind {
                done: acted,
                total: 2,
                seconds: 0.1 * acted as f64,
            };
            [recalled, acted]
        };
        assert!((left(&kinds(0)) - 0.499).abs() < 1e-9);
        assert!((left(&kinds(1)) - 0.599).abs() < 1e-9);
        assert!((left(&kinds(2)) - 0.499).abs() < 1e-9);
    }
}
