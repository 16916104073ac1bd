//! [`settled`]: numbers that a configuration leaves to the data, put in before a run starts, so that the run keeps them.

use crate::app::config::RunConfig;
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;
use trajformer_data::return_sequences::ReturnScale;

/// The configuration with every number that it leaves to the data (`return_scale = "data"`), which the log says, as it says a return that
/// will be aimed at because the configuration names none.
///
/// # Errors
/// If a number is left to data that has none, e.g. a scale of returns where no episode is complete.
pub fn settled(config: &RunConfig, data: &Dataset) -> Result<RunConfig> {
    let mut config = config.clone();
    let table = config.algorithm.keys();
    if let AlgorithmConfig::DecisionTransformer(settings) = &mut config.algorithm {
        if settings.return_scale == ReturnScale::DATA {
            let scale = settings.return_scale.of(Some(data))?;
            settings.return_scale = ReturnScale::Number(scale);
            tracing::info!(
                "`{table}.return_scale` is {scale}: the largest return of the data, without its sign"
            );
        }
        let by_returns = settings.text.as_ref().is_none_or(|text| text.returns);
        let best = data.best_return();
        if settings.target_returns.is_empty() && by_returns && best.is_finite() {
            tracing::info!(
                "`{table}.target_returns` names none: the policy aims at {best}, the data's best return"
            );
        }
    }
    Ok(config)
}

/// A configuration that leaves numbers to the data, with those that a run of it has kept.
pub fn as_settled(config: &RunConfig, stored: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    if let (AlgorithmConfig::DecisionTransformer(ours), AlgorithmConfig::DecisionTransformer(kept)) =
        (&mut config.algorithm, &stored.algorithm)
        && ours.return_scale == ReturnScale::DATA
    {
        ours.return_scale = kept.return_scale;
    }
    config
}
