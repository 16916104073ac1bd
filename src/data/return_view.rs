//! [`ReturnView`]: what return-conditioned algorithms are built on.

use candle_core::Device;

use crate::return_sequences::{ReturnOptions, ReturnSequences, observation_normalizer};
use trajformer_core::dataset::ActionKind;
use trajformer_core::error::Result;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::source::Source;

/// A data set as a return-conditioned algorithm sees it; to act, what is restored in its place.
pub struct ReturnView {
    /// Of observations.
    pub normalizer: Normalizer,
    /// What is drawn from; without steps where there is no data.
    pub sequences: ReturnSequences,
    /// The highest return of the complete episodes, in the environment's units.
    pub best_return: f64,
}

impl ReturnView {
    /// Prepares what `algorithm`, its name in messages, is built on. Without data nothing is computed: the numbers of a stored
    /// run are restored over those made here.
    ///
    /// # Errors
    /// If actions are discrete and the bounds are not, no episode is complete, an option is out of range or the device fails.
    pub fn new(
        source: Source<'_>,
        algorithm: &str,
        bounds: &ActionBounds,
        device: &Device,
        options: ReturnOptions,
    ) -> Result<Self> {
        if bounds.kind() == ActionKind::Continuous {
            source.require_continuous_actions(algorithm)?;
        }
        match source {
            Source::Train(data) => {
                let normalizer = observation_normalizer(data, algorithm, device)?;
                let sequences =
                    ReturnSequences::prepared(data, &normalizer, bounds, device, options)?;
                Ok(Self {
                    normalizer,
                    sequences,
                    best_return: data.best_return(),
                })
            }
            Source::Act {
                observation_dim,
                action_dim,
            } => Ok(Self {
                normalizer: Normalizer::identity(observation_dim, device)?,
                sequences: ReturnSequences::without_data(observation_dim, action_dim, options)?,
                best_return: f64::NEG_INFINITY,
            }),
        }
    }
}
