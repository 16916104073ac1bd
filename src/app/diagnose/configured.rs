//! [`as_configured`]: a planner's search as its run has it, with what it imagines, where there is data to measure that by.

use crate::app::diagnose::at::{At, units};
use crate::app::diagnose::episodes::{Plain, Stage};
use crate::app::diagnose::found::Diagnosis;
use crate::app::diagnose::search::{Imagining, Watched};
use trajformer_core::error::Result;

/// Runs the search, which trained with `ending_reward` where the task ends; `by_return` if it promises returns. Errors of what it imagines
/// are in units of the data: without any there are none.
///
/// # Errors
/// If policy or environment fails, or it is interrupted.
pub(super) fn as_configured<P: Imagining>(
    mut planner: P,
    ending_reward: Option<f64>,
    by_return: bool,
    (at, stage): (&At<'_>, &Stage),
    found: &mut Diagnosis,
) -> Result<()> {
    let name = "search as configured";
    let rolled = match at.data().next() {
        Some((_, data)) => {
            let mut watched = Watched::new(planner, units(data), ending_reward);
            let rolled = stage.run(name, &[None], &mut watched)?;
            found.imagination = Some(watched.found(&rolled, by_return));
            rolled
        }
        None => stage.run(name, &[None], &mut Plain(planner.policy_mut()))?,
    };
    found.configured = Some(rolled.arm(at.reference));
    Ok(())
}
