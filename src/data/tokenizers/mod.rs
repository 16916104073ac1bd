//! [`TrajectoryTokenizer`]: rows of numbers as tokens and back, by bins per dimension ([`bins`]), by the nearest of
//! many centres ([`k_means`]), or by frequencies and merges ([`fast`]).
//!
//! A tokenizer is fitted to a data set and is part of a policy's state. What a network needs to know of it, the number
//! of values that a token takes, is settled by its sizes, not by the data.

pub mod bins;
mod dct;
pub mod fast;
pub mod fast_actions;
pub mod k_means;
mod tokenizer;

use trajformer_core::error::{Error, Result};

pub use tokenizer::{Chunks, Decoded, TrajectoryTokenizer};

/// Which tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Bins that hold equally many rows, per dimension: the Trajectory Transformer's.
    #[default]
    Quantile,
    /// Bins of equal width, per dimension.
    Uniform,
    /// The nearest of many centres: the Behavior Transformer's.
    #[serde(rename = "kmeans")]
    KMeans,
    /// Cosine transform, rounding and byte-pair merges.
    Fast,
}

/// Sizes of a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenizerSizes {
    /// D, numbers in a row.
    pub dims: usize,
    /// Values of a token: bins, centres, or FAST's vocabulary.
    pub vocabulary: usize,
    /// FAST's factor of coefficients before rounding.
    pub scale: f64,
}

impl TokenizerKind {
    /// One that is to be fitted, or restored.
    ///
    /// # Errors
    /// If a size is 0.
    pub fn unfitted(self, sizes: &TokenizerSizes) -> Result<Box<dyn TrajectoryTokenizer>> {
        use crate::discretizer::DiscretizerKind::{Quantile, Uniform};
        let TokenizerSizes {
            dims, vocabulary, ..
        } = *sizes;
        if dims == 0 || vocabulary == 0 {
            return Err(Error::Unsuitable(format!(
                "a tokenizer needs dimensions and values of a token: {dims}, {vocabulary}"
            )));
        }
        Ok(match self {
            Self::Quantile => Box::new(bins::Bins::unfitted(Quantile, dims, vocabulary)?),
            Self::Uniform => Box::new(bins::Bins::unfitted(Uniform, dims, vocabulary)?),
            Self::KMeans => Box::new(k_means::KMeans::unfitted(dims, vocabulary)?),
            Self::Fast => {
                let options = fast::FastOptions {
                    scale: sizes.scale,
                    vocab_size: vocabulary,
                };
                Box::new(fast_actions::FastActions::unfitted(dims, options)?)
            }
        })
    }
}
