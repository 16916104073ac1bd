//! Runs that several ranks train together: who writes, what all must agree on before the first update, and what they can't do.

use std::sync::Arc;

use trajformer_core::algorithm::Algorithm;
use trajformer_core::error::{Error, Result};
use trajformer_models::ranks::Ranks;

use crate::app::config::RunConfig;

/// Those that train a run together, if there are any.
type Together<'a> = Option<&'a Arc<dyn Ranks>>;

/// Whether this process writes the run and evaluates it: of several ranks the first.
pub(super) fn leads(ranks: Together<'_>) -> bool {
    ranks.is_none_or(|ranks| ranks.rank() == 0)
}

/// `made`, once all ranks have made theirs; fails on all of them where one has failed.
///
/// # Errors
/// The own error, or [`Error::OtherRank`] of those that have none, or whose first rank says the same.
pub(super) fn agreed<T>(ranks: Together<'_>, made: Result<T>) -> Result<T> {
    let Some(ranks) = ranks else {
        return made;
    };
    let failed = f64::from(u8::from(made.is_err()));
    let of_first = if ranks.rank() == 0 { failed } else { 0.0 };
    let mut counts = [failed, of_first];
    ranks.sum_f64(&mut counts)?;
    match made {
        Ok(made) if counts[0] == 0.0 => Ok(made),
        Err(error) if ranks.rank() == 0 || counts[1] == 0.0 => Err(error),
        _ => Err(Error::OtherRank),
    }
}

/// Gives an algorithm the ranks that train it together, where there are any.
///
/// # Errors
/// If they can't: the algorithm does not share its updates, or the configuration asks for what one rank alone can do.
pub(super) fn give(
    ranks: Together<'_>,
    config: &RunConfig,
    algorithm: &mut dyn Algorithm,
) -> Result<()> {
    let Some(ranks) = ranks else {
        return Ok(());
    };
    let problem = if config.online.steps > 0 {
        "`online.steps` is set, and several ranks can't collect experience together"
    } else if config.train.patience_evaluations > 0 {
        "`train.patience_evaluations` is set, and only the first of several ranks knows the scores"
    } else {
        return algorithm.set_ranks(ranks.clone());
    };
    Err(Error::settings(format!(
        "{problem}: leave it out, or train without `mpirun`"
    )))
}
