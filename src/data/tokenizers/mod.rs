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

use trajformer_models::params::StateVisitor;

use crate::error::{Error, Result};
use crate::rng::Rng;

/// Rows of a data set, and where stretches of them begin.
#[derive(Debug, Clone, Copy)]
pub struct Chunks<'a> {
    /// Row-major (n, D), finite.
    pub rows: &'a [f64],
    /// D, numbers in a row.
    pub dims: usize,
    /// Rows in a chunk.
    pub steps: usize,
    /// First rows of the chunks; each lies within the rows.
    pub starts: &'a [usize],
}

impl<'a> Chunks<'a> {
    /// Checks them.
    ///
    /// # Errors
    /// If there is no row, these are not whole rows, a chunk reaches past the end, or a number is not finite: names row
    /// and column.
    pub fn new(rows: &'a [f64], dims: usize, steps: usize, starts: &'a [usize]) -> Result<Self> {
        if dims == 0 || steps == 0 || rows.is_empty() || !rows.len().is_multiple_of(dims) {
            return Err(Error::Unsuitable(format!(
                "{} numbers are not chunks of {steps} rows of {dims} dimensions",
                rows.len()
            )));
        }
        let count = rows.len() / dims;
        if let Some(start) = starts.iter().find(|&&start| start + steps > count) {
            return Err(Error::Unsuitable(format!(
                "a chunk of {steps} rows from row {start} on is longer than the {count} rows"
            )));
        }
        check_finite(rows, dims)?;
        Ok(Self {
            rows,
            dims,
            steps,
            starts,
        })
    }

    /// The chunk that begins at row `start`, (steps, D).
    pub fn chunk(&self, start: usize) -> &'a [f64] {
        &self.rows[start * self.dims..(start + self.steps) * self.dims]
    }
}

/// What tokens stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Row-major (steps, D): zeros if the tokens stand for nothing.
    pub rows: Vec<f64>,
    /// Whether the tokens stand for so many rows.
    pub valid: bool,
}

/// Rows of numbers as tokens, and back.
pub trait TrajectoryTokenizer: Send + Sync {
    /// Fits it to data, with `rng` for what is drawn; sizes stay.
    ///
    /// # Errors
    /// If there is too little data, or it has other dimensions or needs more tokens than there are.
    fn fit(&mut self, chunks: &Chunks<'_>, rng: &mut Rng) -> Result<()>;

    /// D, numbers in a row.
    fn dims(&self) -> usize;

    /// How many values a token takes, whatever the data: tokens are 0 to this less one.
    fn vocabulary(&self) -> usize;

    /// Appends the tokens of `rows`, (steps, D).
    ///
    /// # Errors
    /// If these are not whole rows, or a number is not finite.
    fn encode(&self, rows: &[f64], tokens: &mut Vec<u32>) -> Result<()>;

    /// The rows, `steps` of them, that `tokens` stand for; of any tokens, whatever they are.
    fn decode(&self, tokens: &[u32], steps: usize) -> Decoded;

    /// Shows what was fitted to `visitor` under `prefix`.
    ///
    /// # Errors
    /// What the visitor says; if what was restored is damaged.
    fn state(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()>;
}

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
        use super::discretizer::DiscretizerKind::{Quantile, Uniform};
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

/// Fails at the first number that is not finite, naming row and column.
fn check_finite(rows: &[f64], dims: usize) -> Result<()> {
    match rows.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::Unsuitable(format!(
            "a tokenizer needs finite numbers: row {}, column {} is {}",
            at / dims,
            at % dims,
            rows[at]
        ))),
    }
}

/// Fails unless these are whole finite rows.
fn check_rows(rows: &[f64], dims: usize) -> Result<()> {
    if !rows.len().is_multiple_of(dims) {
        return Err(Error::Unsuitable(format!(
            "{} numbers are not rows of {dims} dimensions",
            rows.len()
        )));
    }
    check_finite(rows, dims)
}

/// Fails unless the data has so many dimensions.
fn check_dims(chunks: &Chunks<'_>, dims: usize) -> Result<()> {
    match chunks.dims == dims {
        true => Ok(()),
        false => Err(Error::Unsuitable(format!(
            "a tokenizer of {dims} dimensions can't be fitted to rows of {}",
            chunks.dims
        ))),
    }
}
