//! [`Allowance`]: how far a search may go, in tokens or in time. The time of a call of the network is measured as it goes: a call that
//! would not fit is not made.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use trajformer_core::clock::Clock;

/// Share of a budget of time that is kept back: for what surrounds the search, and for calls that take a little longer than they did.
const RESERVE: f64 = 0.05;
/// How much one measurement counts against those before it (Jacobson and Karels 1988, for the round-trip times of TCP: 1/8).
const GAIN: f64 = 0.125;
/// A call is expected to take its mean and this many mean deviations, also as there.
const DEVIATIONS: f64 = 4.0;
/// After so many plans, what wider searches took than any of them is forgotten, and what later transitions took if none imagined any: it
/// may have been measured while the machine was busy.
const REMEMBERED_PLANS: usize = 64;

/// What one plan may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Seconds of the clock.
    Seconds(f64),
    /// Tokens that are sampled, whether or not sequences share them: the same plan on every machine.
    Tokens(u64),
}

/// What decides how far a search goes.
pub trait Pace {
    /// Whether a search that holds `width` sequences may begin imagining its transition number `transition`, which samples so many
    /// `tokens`.
    fn begins(&mut self, width: usize, transition: usize, tokens: u64) -> bool;

    /// Whether the network may be called for the token at `place` of that transition.
    fn calls(&mut self, place: usize) -> bool;

    /// The transition was imagined.
    fn ends(&mut self);

    /// Whether it may ever say no.
    fn may_stop(&self) -> bool;
}

/// A search that nothing stops.
#[derive(Debug)]
pub struct ToTheEnd;

impl Pace for ToTheEnd {
    fn begins(&mut self, _width: usize, _transition: usize, _tokens: u64) -> bool {
        true
    }

    fn calls(&mut self, _place: usize) -> bool {
        true
    }

    fn ends(&mut self) {}

    fn may_stop(&self) -> bool {
        false
    }
}

/// How long something has taken: mean and mean deviation, recent times counting most.
#[derive(Debug, Clone, Copy)]
struct Cost {
    mean: f64,
    deviation: f64,
}

impl Cost {
    fn first(seconds: f64) -> Self {
        Self {
            mean: seconds,
            deviation: seconds / 4.0,
        }
    }

    fn add(&mut self, seconds: f64) {
        let error = seconds - self.mean;
        self.mean += GAIN * error;
        self.deviation += GAIN * (error.abs() - self.deviation);
    }

    fn bound(self) -> f64 {
        self.mean + DEVIATIONS * self.deviation
    }
}

/// How long something has taken for searches of some widths. One that is twice as wide takes twice as long at most, and one that is
/// narrower no longer.
#[derive(Debug, Clone, Default)]
struct ByWidth(BTreeMap<usize, Cost>);

impl ByWidth {
    fn add(&mut self, width: usize, seconds: f64) {
        self.0
            .entry(width)
            .and_modify(|cost| cost.add(seconds))
            .or_insert(Cost::first(seconds));
    }

    /// Seconds that a search of this width will hardly exceed; `None` before the first measurement.
    fn bound(&self, width: usize) -> Option<f64> {
        if let Some(cost) = self.0.get(&width) {
            return Some(cost.bound());
        }
        let narrower = self.0.range(..width).next_back();
        let narrower = narrower.map(|(&known, cost)| cost.bound() * width as f64 / known as f64);
        let wider = self.0.range(width..).next().map(|(_, cost)| cost.bound());
        match (narrower, wider) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Wider searches than `width` have to be derived anew.
    fn forget_wider(&mut self, width: usize) {
        self.0.retain(|&known, _| known <= width);
    }
}

/// What calls and transitions have taken so far. The first transition is apart: it reads the past as well.
#[derive(Debug, Clone, Default)]
struct Costs {
    transitions: [ByWidth; 2],
    calls: HashMap<(bool, usize), ByWidth>,
}

impl Costs {
    /// Seconds that a call will hardly exceed: of one that was never made as much as any other; `None` before the first.
    fn call(&self, first: bool, place: usize, width: usize) -> Option<f64> {
        let own = self.calls.get(&(first, place));
        own.and_then(|costs| costs.bound(width)).or_else(|| {
            let others = self.calls.values().filter_map(|costs| costs.bound(width));
            others.max_by(f64::total_cmp)
        })
    }
}

/// What one plan may still cost.
#[derive(Debug)]
pub struct Allowance {
    budget: Budget,
    clock: Option<Arc<dyn Clock>>,
    costs: Costs,
    /// Of the plan that is being made: its start, and where it is.
    started: f64,
    width: usize,
    transition: usize,
    begun: f64,
    call: Option<(usize, f64)>,
    tokens: u64,
    /// Whether one transition has to be imagined, whatever it costs.
    insists: bool,
    /// Plans since what wider searches took was last forgotten, and the widest search in them.
    plans: usize,
    widest: usize,
    /// Whether any of them has imagined more than its first transition.
    went_on: bool,
}

impl Allowance {
    /// Plans that cost `budget` each, by this clock; a budget of tokens needs none.
    pub fn new(budget: Budget, clock: Option<Arc<dyn Clock>>) -> Self {
        Self {
            budget,
            clock,
            costs: Costs::default(),
            started: 0.0,
            width: 0,
            transition: 0,
            begun: 0.0,
            call: None,
            tokens: 0,
            insists: false,
            plans: 0,
            widest: 0,
            went_on: false,
        }
    }

    /// Whether it has the clock that its budget needs.
    pub fn has_clock(&self) -> bool {
        self.clock.is_some() || matches!(self.budget, Budget::Tokens(_))
    }

    /// The next plan begins now.
    pub fn start(&mut self) {
        if self.plans == REMEMBERED_PLANS {
            let costs = &mut self.costs;
            let all = costs.transitions.iter_mut().chain(costs.calls.values_mut());
            all.for_each(|costs| costs.forget_wider(self.widest));
            if !self.went_on {
                // One slow time would keep all plans from it: it is derived from the first transition anew.
                costs.transitions[1] = ByWidth::default();
                costs.calls.retain(|(first, _), _| *first);
            }
            (self.plans, self.widest, self.went_on) = (0, 0, false);
        }
        self.plans += 1;
        self.started = self.now();
        self.tokens = 0;
        self.insists = false;
    }

    /// One transition of the present plan has to be imagined, whatever it costs: there is nothing else to do. If that alone takes
    /// longer than there is time, all of them are.
    pub fn insist(&mut self) {
        self.insists = true;
    }

    /// Tokens of the present plan so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Seconds of the present plan so far, if there is a clock.
    pub fn seconds(&self) -> Option<f64> {
        self.clock.as_ref().map(|_| self.now() - self.started)
    }

    /// The widest search of these `widths` (ascending) that fits to its end into what is left, where `tokens(width, transition)` are
    /// sampled in each of `horizon` transitions. The narrowest if nothing is known of time yet; `None` if none fits.
    pub fn widest(
        &mut self,
        widths: impl Iterator<Item = usize>,
        horizon: usize,
        tokens: impl Fn(usize, usize) -> u64,
    ) -> Option<usize> {
        match self.budget {
            Budget::Tokens(budget) => {
                let left = budget.saturating_sub(self.tokens);
                let whole = |width: usize| (0..horizon).map(|t| tokens(width, t)).sum::<u64>();
                widths.filter(|&width| whole(width) <= left).last()
            }
            Budget::Seconds(_) => {
                let left = self.left();
                let [first, later] = &self.costs.transitions;
                let mut widest = None;
                for width in widths {
                    let Some(bound) = first.bound(width) else {
                        // Nothing is known: the narrowest finds out.
                        return Some(width);
                    };
                    let more = later.bound(width).unwrap_or(bound);
                    if bound + more * (horizon - 1) as f64 <= left {
                        widest = Some(width);
                    }
                }
                widest
            }
        }
    }

    fn now(&self) -> f64 {
        self.clock.as_ref().map_or(0.0, |clock| clock.seconds())
    }

    /// Seconds that are left of a budget of time, the reserve taken off.
    fn left(&self) -> f64 {
        match self.budget {
            Budget::Seconds(seconds) => self.started + seconds * (1.0 - RESERVE) - self.now(),
            Budget::Tokens(_) => f64::INFINITY,
        }
    }

    /// Keeps what the last call took.
    fn measure(&mut self) {
        let now = self.now();
        if let Some((place, since)) = self.call.take() {
            let costs = self.costs.calls.entry((self.transition == 0, place));
            costs.or_default().add(self.width, now - since);
        }
    }
}

impl Pace for Allowance {
    fn begins(&mut self, width: usize, transition: usize, tokens: u64) -> bool {
        let fits = match self.budget {
            Budget::Tokens(budget) => self.tokens + tokens <= budget,
            Budget::Seconds(_) => {
                let [first, later] = &self.costs.transitions;
                let later = if transition > 0 {
                    later.bound(width)
                } else {
                    None
                };
                let known = later.or(first.bound(width));
                known.is_none_or(|bound| bound <= self.left())
            }
        };
        let fits = fits || self.insists;
        if fits {
            (self.width, self.transition, self.call) = (width, transition, None);
            self.widest = self.widest.max(width);
            self.tokens += tokens;
            self.begun = self.now();
        }
        fits
    }

    fn calls(&mut self, place: usize) -> bool {
        if let Budget::Tokens(_) = self.budget {
            return true;
        }
        self.measure();
        let known = self.costs.call(self.transition == 0, place, self.width);
        let fits = self.insists || known.is_none_or(|bound| bound <= self.left());
        if fits {
            self.call = Some((place, self.now()));
        }
        fits
    }

    fn ends(&mut self) {
        if let Budget::Seconds(_) = self.budget {
            self.measure();
            let seconds = self.now() - self.begun;
            let costs = &mut self.costs.transitions[usize::from(self.transition > 0)];
            costs.add(self.width, seconds);
            self.went_on |= self.transition > 0;
        }
        // A plan that is late for one transition is made to the end, so that those after it have something to go on with.
        self.insists &= self.left() < 0.0;
    }

    fn may_stop(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(Mutex<f64>);

    impl Hand {
        fn pass(&self, seconds: f64) {
            *self.0.lock().expect("the only thread") += seconds;
        }
    }

    impl Clock for Hand {
        fn seconds(&self) -> f64 {
            *self.0.lock().expect("the only thread")
        }
    }

    #[test]
    fn one_slow_transition_does_not_cut_all_plans_that_follow() {
        let hand = Arc::new(Hand::default());
        let mut allowance = Allowance::new(Budget::Seconds(0.01), Some(hand.clone()));
        let mut went_on = Vec::new();
        for plan in 0..3 * REMEMBERED_PLANS {
            allowance.start();
            allowance.insist();
            assert!(allowance.begins(1, 0, 1));
            hand.pass(1e-3);
            allowance.ends();
            let goes_on = allowance.begins(1, 1, 1);
            if goes_on {
                hand.pass(if plan == 0 { 0.1 } else { 1e-3 });
                allowance.ends();
            }
            went_on.push(goes_on);
        }
        assert_eq!(&went_on[..3], [true, false, false]);
        assert!(
            went_on[2 * REMEMBERED_PLANS..]
                .iter()
                .all(|&goes_on| goes_on)
        );
    }
}
