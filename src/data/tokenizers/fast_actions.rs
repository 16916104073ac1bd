//! [`FastActions`]: actions in the environment's units as [`Fast`] tokens: what stands around FAST.
//!
//! Every dimension is mapped so that its 1 % and 99 % quantiles are -1 and 1 (paper, section IV; the formula of
//! Physical-Intelligence/openpi, `transforms.py`, which does not clip). The quantiles are a part of the state. Deviation:
//! where both are the same, the smallest and the largest number are taken.

use candle_core::{Device, Tensor, Var};
use trajformer_models::params::{Slot, StateVisitor};

use crate::tokenizers::fast::{Fast, FastOptions};
use crate::tokenizers::tokenizer::{Chunks, Decoded, TrajectoryTokenizer, check_dims, check_rows};
use trajformer_core::error::{Error, Result};
use trajformer_core::statistics::quantile;
use trajformer_models::rng::Rng;

/// The quantiles that become -1 and 1.
const SHARES: [f64; 2] = [0.01, 0.99];
/// Added to their distance, for dimensions that never change; openpi's.
const EPSILON: f64 = 1e-6;

/// Tokens of chunks of actions; a chunk has a varying number of them.
#[derive(Debug, Clone)]
pub struct FastActions {
    fast: Fast,
    options: FastOptions,
    dims: usize,
    range: Range,
    /// Whether fitting leaves the merges as they are.
    given: bool,
}

/// The two quantiles of every dimension.
#[derive(Debug)]
struct Range {
    low: Vec<f64>,
    high: Vec<f64>,
    table: Var, // (2, D) f64: the same, saved with a run
}

impl Clone for Range {
    /// An independent copy: restoring one does not change the other.
    fn clone(&self) -> Self {
        // Copying host memory into a tensor of matching size has no way to fail.
        Self::new(self.low.clone(), self.high.clone())
            .expect("a table of our own has the right size")
    }
}

impl Range {
    fn new(low: Vec<f64>, high: Vec<f64>) -> Result<Self> {
        let both = [low.clone(), high.clone()].concat();
        Ok(Self {
            table: Var::from_vec(both, (2, low.len()), &Device::Cpu)?,
            low,
            high,
        })
    }

    fn fit(chunks: &Chunks<'_>, dims: usize) -> Result<Self> {
        let [mut low, mut high] = SHARES.map(|_| Vec::with_capacity(dims));
        for dim in 0..dims {
            let column = chunks.rows.iter().skip(dim).step_by(dims);
            let mut column: Vec<f64> = column.copied().collect();
            column.sort_unstable_by(f64::total_cmp);
            let ends = SHARES.map(|share| quantile(&column, share));
            // A number that rarely changes: what differs from it would be out of all range.
            let ends = if ends[0] == ends[1] {
                [column[0], column[column.len() - 1]]
            } else {
                ends
            };
            low.push(ends[0]);
            high.push(ends[1]);
        }
        Self::new(low, high)
    }

    /// Numbers in a dimension's units, from -1..1 of the dimension at this place.
    fn restored(&self, value: f64, dim: usize) -> f64 {
        (value + 1.0) / 2.0 * (self.high[dim] - self.low[dim] + EPSILON) + self.low[dim]
    }

    fn normalized(&self, value: f64, dim: usize) -> f64 {
        (value - self.low[dim]) / (self.high[dim] - self.low[dim] + EPSILON) * 2.0 - 1.0
    }

    fn map(&self, rows: &[f64], change: impl Fn(&Self, f64, usize) -> f64) -> Vec<f64> {
        let dims = self.low.len();
        let places = rows.iter().enumerate();
        places
            .map(|(at, &value)| change(self, value, at % dims))
            .collect()
    }
}

impl FastActions {
    /// One that is to be fitted, or restored.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn unfitted(dims: usize, options: FastOptions) -> Result<Self> {
        Ok(Self {
            fast: Fast::fit(&[&[0.0]], 1, options)?,
            options,
            dims,
            range: Range::new(vec![-1.0; dims], vec![1.0; dims])?,
            given: false,
        })
    }

    /// One whose merges and scale are those of `fast`, e.g. of physical-intelligence/fast: fitting it finds the
    /// quantiles alone.
    ///
    /// # Errors
    /// If memory can't be had.
    pub fn around(dims: usize, fast: Fast) -> Result<Self> {
        Ok(Self {
            options: FastOptions {
                scale: fast.settings().scale,
                vocab_size: fast.settings().vocab_size.max(fast.tokens()),
            },
            dims,
            range: Range::new(vec![-1.0; dims], vec![1.0; dims])?,
            given: true,
            fast,
        })
    }

    /// What is inside the normalisation.
    pub fn fast(&self) -> &Fast {
        &self.fast
    }

    /// The rows that tokens stand for, if they stand for so many; nothing is counted.
    pub fn try_decode(&self, tokens: &[u32], steps: usize) -> Option<Vec<f64>> {
        let rows = self.fast.try_decode(tokens, steps, self.dims)?;
        Some(self.range.map(&rows, Range::restored))
    }

    /// The rows that tokens that stand for nothing become: zeros before the quantiles are put back.
    pub fn middle(&self, steps: usize) -> Vec<f64> {
        self.range
            .map(&vec![0.0; steps * self.dims], Range::restored)
    }

    /// Fails if merges that exist are for other chunks.
    fn check_given(&self, chunks: &Chunks<'_>) -> Result<()> {
        let settings = self.fast.settings();
        let (steps, dims) = (settings.time_horizon, settings.action_dim);
        if steps.is_some_and(|t| t != chunks.steps) || dims.is_some_and(|a| a != self.dims) {
            let (steps, dims) = (steps.unwrap_or(chunks.steps), dims.unwrap_or(self.dims));
            return Err(Error::shape(
                "chunks for the FAST tokenizer",
                format_args!("{} actions of {} dimensions", chunks.steps, self.dims),
                format_args!("{steps} of {dims}"),
            ));
        }
        Ok(())
    }

    /// Most tokens that a chunk of so many steps can have: one per byte.
    pub fn most_tokens(steps: usize, dims: usize, vocab_size: usize) -> usize {
        let bytes = match vocab_size {
            0..0x80 => 1,
            0x80..0x800 => 2,
            0x800..0x1_0000 => 3,
            _ => 4,
        };
        steps.saturating_mul(dims).saturating_mul(bytes)
    }
}

impl TrajectoryTokenizer for FastActions {
    fn fit(&mut self, chunks: &Chunks<'_>, _rng: &mut Rng) -> Result<()> {
        check_dims(chunks, self.dims)?;
        if self.given {
            self.check_given(chunks)?;
            self.range = Range::fit(chunks, self.dims)?;
            return Ok(());
        }
        let range = Range::fit(chunks, self.dims)?;
        let rows = range.map(chunks.rows, Range::normalized);
        let inside = Chunks {
            rows: &rows,
            ..*chunks
        };
        let parts: Vec<&[f64]> = chunks
            .starts
            .iter()
            .map(|&start| inside.chunk(start))
            .collect();
        let fast = Fast::fit(&parts, self.dims, self.options)?;
        if fast.tokens() > self.options.vocab_size {
            return Err(Error::Unsuitable(format!(
                "FAST tokenizer: a vocabulary of {} is too small for an alphabet of {}: raise `vocab_size`, or lower \
                 `scale` ({})",
                self.options.vocab_size,
                fast.tokens(),
                self.options.scale
            )));
        }
        (self.fast, self.range) = (fast, range);
        Ok(())
    }

    fn dims(&self) -> usize {
        self.dims
    }

    fn vocabulary(&self) -> usize {
        self.options.vocab_size
    }

    fn encode(&self, rows: &[f64], tokens: &mut Vec<u32>) -> Result<()> {
        check_rows(rows, self.dims)?;
        let rows = self.range.map(rows, Range::normalized);
        tokens.extend(self.fast.encode(&rows, self.dims)?);
        Ok(())
    }

    fn decode(&self, tokens: &[u32], steps: usize) -> Decoded {
        let decoded = self.fast.decode(tokens, steps, self.dims);
        Decoded {
            rows: self.range.map(&decoded.rows, Range::restored),
            ..decoded
        }
    }

    fn state(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.tensor(
            &format!("{prefix}quantiles"),
            &Slot::from(&self.range.table),
        )?;
        let numbers: Vec<f64> = Tensor::flatten_all(&self.range.table)?.to_vec1()?;
        let (low, high) = numbers.split_at(self.dims);
        if !numbers.iter().all(|n| n.is_finite()) || low.iter().zip(high).any(|(l, h)| l > h) {
            return Err(Error::Unsuitable(format!(
                "`{prefix}quantiles` are not quantiles: the file is damaged"
            )));
        }
        (self.range.low, self.range.high) = (low.to_vec(), high.to_vec());
        self.fast.state(prefix, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_rarely_changes_keeps_its_whole_range() {
        // Of 400 numbers two are 1: both quantiles are 0.
        let rows: Vec<f64> = (0..400).map(|row| f64::from(row % 200 == 7)).collect();
        let starts: Vec<usize> = (0..=396).collect();
        let chunks = Chunks::new(&rows, 1, 4, &starts).expect("chunks");
        let options = FastOptions {
            vocab_size: 256,
            ..FastOptions::default()
        };
        let mut tokenizer = FastActions::unfitted(1, options).expect("a tokenizer");
        tokenizer
            .fit(&chunks, &mut Rng::from_seed(0))
            .expect("fits");
        let mut tokens = Vec::new();
        tokenizer.encode(&rows[4..8], &mut tokens).expect("encodes");
        let back = tokenizer.decode(&tokens, 4).rows;
        // Four coefficients that are rounded to tenths, of a range of 1.
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 0.06;
        assert!(back.iter().zip(&rows[4..8]).all(near), "{back:?}");
    }
}
