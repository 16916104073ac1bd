//! [`reward_transform`]: what a view of a data set does to rewards.

use crate::transitions_config::{RewardTransform, TransitionsConfig};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// Factor and shift of rewards, as a view of `data` has them.
///
/// # Errors
/// If they are scaled by the range of returns, and there is none.
pub fn reward_transform(data: &Dataset, config: &TransitionsConfig) -> Result<(f32, f32)> {
    match config.rewards {
        RewardTransform::None => Ok((1.0, 0.0)),
        RewardTransform::Shift(shift) => Ok((1.0, shift)),
        RewardTransform::Scale(scale) => Ok((scale, 0.0)),
        RewardTransform::Affine { scale, shift } => Ok((scale, shift)),
        RewardTransform::ReturnRange => {
            let returns = data.require_returns("scaling rewards by the range of returns")?;
            let high = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let low = returns.iter().copied().fold(f64::INFINITY, f64::min);
            if high <= low {
                return Err(Error::Unsuitable(format!(
                    "{}: rewards can't be scaled by the range of returns, because every return is {low}: set \
                     `{}.data.rewards = \"none\"`, or give more episodes",
                    data.source_names(),
                    config.table
                )));
            }
            Ok(((1000.0 / (high - low)) as f32, 0.0))
        }
    }
}
