//! Plans within a budget: [`BeamSearch::plan_within`].
//!
//! A search is made as wide as fits to the end of the horizon, by what calls of the network have taken so far; on a budget of tokens by
//! counting. Where it is stopped all the same, its last whole transition counts: every one ends with a prediction of what follows. The
//! rest of the plan before is imagined beside it, so that what is done then promises no less than going on. A budget of tokens for
//! everything gives the search that is made without one, bit for bit; one of time first learns what calls cost, on draws of its own.

use trajformer_core::error::{Error, Result};
use trajformer_core::planning::{Decision, PlanOrigin};
use trajformer_models::kernels::decode::Float;

use crate::planning::beam_search::{BeamSearch, Course, Plan, Prefix};
use crate::planning::budget::Allowance;
use crate::planning::companion::Companion;
use crate::planning::sampling::Uniforms;

impl<T: Float> BeamSearch<T> {
    /// Plans for one episode within the allowance, and says how the plan came about. `going_on` is what remains of the plan before; without
    /// one, one transition is imagined whatever it costs, and the whole horizon if it is too late already then. Draws from the uniforms of episode 0.
    ///
    /// # Errors
    /// If the budget is one of time and there is no clock, and as [`Self::plan`].
    pub fn plan_within(
        &mut self,
        prefix: &Prefix,
        going_on: Option<Companion>,
        uniforms: &mut dyn Uniforms,
        allowance: &mut Allowance,
    ) -> Result<(Plan, Decision)> {
        if !allowance.has_clock() {
            return Err(Error::Unsuitable(
                "planner.budget_ms needs a clock: give the algorithm one before it makes a policy, or plan with \
                 planner.budget_tokens"
                    .to_owned(),
            ));
        }
        self.check_critic()?;
        self.check_prefixes(std::slice::from_ref(prefix))?;
        allowance.start();
        if going_on.is_none() {
            allowance.insist();
        }
        let config = self.config();
        let (horizon, full) = (config.horizon, config.beam_width);
        let (mut found, mut beams): (Option<Plan>, usize) = (None, 0);
        let mut companion = going_on;
        loop {
            let wider = widths(full).filter(|&width| width > beams);
            let width = allowance.widest(wider, horizon, |width, t| self.sampled(width, t));
            let width = match width {
                Some(width) => width,
                // As deep as it goes.
                None if beams == 0 => 1,
                None => break,
            };
            self.start(std::slice::from_ref(prefix));
            let mut beside = companion.as_ref().map(Companion::again);
            let course = Course {
                width,
                pace: allowance,
                companion: beside.as_mut(),
            };
            let plan = self.by_return(1, uniforms, course)?.pop();
            let Some(plan) = plan else { break };
            let whole = plan.history.len() == horizon;
            if whole && width == full {
                let decision = self.decision(PlanOrigin::Full, full, &plan, allowance);
                return Ok((plan, decision));
            }
            beams = width;
            // The farther it was imagined the better it is known.
            let scored = |companion: &Option<Companion>| companion.as_ref().map(Companion::scored);
            if scored(&beside) >= scored(&companion) {
                companion = beside;
            }
            if found
                .as_ref()
                .is_none_or(|found| promise(&plan) > promise(found))
            {
                found = Some(plan);
            }
            if !whole {
                break;
            }
        }
        let (origin, plan) = match (found, companion) {
            (Some(found), Some(before)) if before.predicted_return() > promise(&found) => {
                (PlanOrigin::WentOn, self.gone_on(&before))
            }
            (Some(found), _) => (PlanOrigin::Cut, found),
            (None, Some(before)) => (PlanOrigin::WentOn, self.gone_on(&before)),
            (None, None) => {
                return Err(Error::Internal("a search without any plan".to_owned()));
            }
        };
        let decision = self.decision(origin, beams, &plan, allowance);
        Ok((plan, decision))
    }

    fn gone_on(&self, before: &Companion) -> Plan {
        Plan {
            tokens: before.tokens().to_vec(),
            scores: vec![before.predicted_return()],
            history: Vec::new(),
        }
    }

    fn decision(
        &self,
        origin: PlanOrigin,
        beams: usize,
        plan: &Plan,
        allowance: &Allowance,
    ) -> Decision {
        let tokens = self.model().discretizer.dims() * plan.scores.len();
        Decision {
            origin,
            beams,
            transitions: plan.tokens.len() / tokens,
            tokens: allowance.tokens(),
            seconds: allowance.seconds(),
            predicted_return: promise(plan),
        }
    }
}

/// Predicted return of the best sequence.
fn promise(plan: &Plan) -> f64 {
    plan.scores.first().copied().unwrap_or(f64::NEG_INFINITY)
}

/// Widths that searches are made with, ascending: 1, 2, 3, 4, 6, 8, 12, ... and `full`.
fn widths(full: usize) -> impl Iterator<Item = usize> {
    let powers = (0..usize::BITS - 1).map(|power| 1usize << power);
    let steps = powers.flat_map(|power| [power, power + power / 2]);
    let narrower = steps.skip(1).take_while(move |&width| width < full);
    narrower.chain([full])
}

#[cfg(test)]
mod tests {
    use super::widths;

    #[test]
    fn widths_grow_by_a_half_and_end_with_the_full_one() {
        assert_eq!(widths(1).collect::<Vec<_>>(), [1]);
        assert_eq!(widths(5).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(widths(16).collect::<Vec<_>>(), [1, 2, 3, 4, 6, 8, 12, 16]);
    }
}
