//! [`TrajectoryTokenizer`]: rows of numbers as tokens and back, as a trait.

use trajformer_core::error::{Error, Result};
use trajformer_models::params::StateVisitor;
use trajformer_models::rng::Rng;

/// Rows of a data set, and where sub-trajectories of them begin.
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

/// Fails at the first number that is not finite, naming row and column.
pub(super) fn check_finite(rows: &[f64], dims: usize) -> Result<()> {
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
pub(super) fn check_rows(rows: &[f64], dims: usize) -> Result<()> {
    if !rows.len().is_multiple_of(dims) {
        return Err(Error::Unsuitable(format!(
            "{} numbers are not rows of {dims} dimensions",
            rows.len()
        )));
    }
    check_finite(rows, dims)
}

/// Fails unless the data has so many dimensions.
pub(super) fn check_dims(chunks: &Chunks<'_>, dims: usize) -> Result<()> {
    if chunks.dims == dims {
        Ok(())
    } else {
        Err(Error::shape(
            "rows for a tokenizer",
            format_args!("{} dimensions", chunks.dims),
            dims,
        ))
    }
}
