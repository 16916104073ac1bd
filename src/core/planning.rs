//! [`Decision`] and [`PlanningSummary`]: what policies that plan within a budget say of their plans.

use serde::Serialize;

/// How a plan came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanOrigin {
    /// The search as it is configured, to its end.
    Full,
    /// A narrower or shorter search.
    Cut,
    /// The rest of the plan before, which promised as much as what a cut search had found, or all that there was time for.
    WentOn,
}

/// One plan of one episode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// How it came about.
    pub origin: PlanOrigin,
    /// Sequences that the widest search held after each imagined transition; 0 where there was none.
    pub beams: usize,
    /// Transitions that the chosen plan has.
    pub transitions: usize,
    /// Tokens that were sampled for it.
    pub tokens: u64,
    /// Seconds that it took, if the planner has a clock.
    pub seconds: Option<f64>,
    /// Return that the chosen plan promises.
    pub predicted_return: f64,
}

/// What the plans of an evaluation were, where they had a budget.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlanningSummary {
    /// Plans that were made.
    pub decisions: usize,
    /// Share of them that are not those of the full search.
    pub cut: f64,
    /// Share of them that are the rest of the plan before.
    pub went_on: f64,
    /// Mean width of the searches.
    pub beams_mean: f64,
    /// Mean length of the plans, in transitions.
    pub transitions_mean: f64,
    /// Mean number of tokens that were sampled for a plan.
    pub tokens_mean: f64,
    /// Mean return that the plans promised.
    pub predicted_return_mean: f64,
    /// Plans after which the full search was made as well, with the same draws.
    pub compared: usize,
    /// Mean return that these plans promised; `None` if there were none.
    pub compared_return_mean: Option<f64>,
    /// Mean return that the full search promised in their place.
    pub full_return_mean: Option<f64>,
    /// Where a critic scores plans: the discount of the returns that they promise, which are in the units of the rewards that the critic learned from.
    /// `None` where they are the model's, in the environment's units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critic_discount: Option<f64>,
    /// The budget of a plan in milliseconds, if it is one of time.
    pub budget_ms: Option<f64>,
    /// Plans that took longer than the budget.
    pub missed: Option<usize>,
    /// Median time of a plan in milliseconds, if there was a clock.
    pub p50_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// The 99.9th percentile.
    pub p999_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
}

impl PlanningSummary {
    /// Of these plans, with a budget of `budget_ms` milliseconds if it is one of time; `compared` holds for some of them the returns
    /// that the plan and the full search promised. `None` if there are no plans.
    pub fn of(
        decisions: &[Decision],
        budget_ms: Option<f64>,
        compared: &[(f64, f64)],
    ) -> Option<Self> {
        if decisions.is_empty() {
            return None;
        }
        let count = decisions.len() as f64;
        let share = |wanted: &dyn Fn(&Decision) -> bool| {
            decisions.iter().filter(|decision| wanted(decision)).count() as f64 / count
        };
        let mean = |of: &dyn Fn(&Decision) -> f64| decisions.iter().map(of).sum::<f64>() / count;
        let timed = decisions.iter().filter_map(|decision| decision.seconds);
        let mut times: Vec<f64> = timed.map(|seconds| seconds * 1e3).collect();
        times.sort_by(f64::total_cmp);
        let pairs = compared.len() as f64;
        let mean_of = |of: &dyn Fn(&(f64, f64)) -> f64| {
            (!compared.is_empty()).then(|| compared.iter().map(of).sum::<f64>() / pairs)
        };
        Some(Self {
            decisions: decisions.len(),
            cut: share(&|decision| decision.origin != PlanOrigin::Full),
            went_on: share(&|decision| decision.origin == PlanOrigin::WentOn),
            beams_mean: mean(&|decision| decision.beams as f64),
            transitions_mean: mean(&|decision| decision.transitions as f64),
            tokens_mean: mean(&|decision| decision.tokens as f64),
            predicted_return_mean: mean(&|decision| decision.predicted_return),
            compared: compared.len(),
            compared_return_mean: mean_of(&|pair| pair.0),
            full_return_mean: mean_of(&|pair| pair.1),
            critic_discount: None,
            budget_ms,
            missed: budget_ms.map(|budget| times.iter().filter(|&&time| time > budget).count()),
            p50_ms: percentile(&times, 0.5),
            p99_ms: percentile(&times, 0.99),
            p999_ms: percentile(&times, 0.999),
            max_ms: times.last().copied(),
        })
    }

    /// Two lines for people.
    pub fn lines(&self) -> String {
        let mut text = format!(
            "{} plans, {:.1} % of them cut ({:.1} % went on as before): {:.1} beams, {:.1} transitions and {:.0} tokens on \
             average",
            self.decisions,
            100.0 * self.cut,
            100.0 * self.went_on,
            self.beams_mean,
            self.transitions_mean,
            self.tokens_mean
        );
        if let (Some(p50), Some(p99), Some(p999), Some(max)) =
            (self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms)
        {
            text += &format!(
                "\n  {p50:.2} ms per plan (p50), {p99:.2} (p99), {p999:.2} (p99.9), {max:.2} at most"
            );
            if let (Some(budget), Some(missed)) = (self.budget_ms, self.missed) {
                text += &format!("; {missed} over the {budget} ms allowed");
            }
        }
        if let (Some(found), Some(full)) = (self.compared_return_mean, self.full_return_mean) {
            text += &format!(
                "\n  predicted return {found:.2}, {full:.2} in full ({} plans compared)",
                self.compared
            );
            if let Some(discount) = self.critic_discount {
                text += &format!("; {}", critic_units(discount));
            }
        }
        text
    }
}

/// What the returns are that plans promise where a critic of this discount scores them.
pub fn critic_units(discount: f64) -> String {
    format!(
        "predicted returns are the critic's (`planner.value`): sums discounted by {discount} of the rewards that it learned from, not of the \
         environment's"
    )
}

/// The smallest of `sorted` numbers that this share of them does not exceed; `None` if there are none.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(origin: PlanOrigin, milliseconds: f64) -> Decision {
        Decision {
            origin,
            beams: 4,
            transitions: 2,
            tokens: 10,
            seconds: Some(milliseconds / 1e3),
            predicted_return: milliseconds,
        }
    }

    #[test]
    fn a_summary_counts_cut_plans_and_deadlines_that_were_missed() {
        let mut decisions: Vec<Decision> =
            (1..=998).map(|_| decision(PlanOrigin::Full, 5.0)).collect();
        decisions.push(decision(PlanOrigin::Cut, 9.0));
        decisions.push(decision(PlanOrigin::WentOn, 11.0));
        let found = PlanningSummary::of(&decisions, Some(10.0), &[(1.0, 2.0), (2.0, 4.0)]);
        let found = found.expect("plans");
        assert_eq!((found.decisions, found.missed), (1000, Some(1)));
        assert!((found.cut - 2e-3).abs() < 1e-12 && (found.went_on - 1e-3).abs() < 1e-12);
        let near = |found: Option<f64>, expected: f64| {
            assert!((found.expect("a number") - expected).abs() < 1e-9);
        };
        near(found.p50_ms, 5.0);
        near(found.p999_ms, 9.0);
        near(found.max_ms, 11.0);
        near(found.compared_return_mean, 1.5);
        near(found.full_return_mean, 3.0);
        assert!(
            found.lines().contains("1 over the 10 ms allowed"),
            "{}",
            found.lines()
        );
        assert_eq!(PlanningSummary::of(&[], None, &[]), None);
    }
}
