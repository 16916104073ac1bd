//! [`Discretizer`]: real numbers to tokens and back, one table of thresholds per dimension.
//!
//! All arithmetic is f64, so that tokens equal the authors' (jannerm/trajectory-transformer,
//! `trajectory/utils/discretization.py`, commit 8834a6e). The table is part of a policy's state.

use candle_core::{DType, Device, Tensor, Var};
use trajformer_models::params::{Slot, StateVisitor};

use crate::error::{Error, Result};

/// How the thresholds are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscretizerKind {
    /// Every bin holds equally many rows of the data (paper, section 3.1; the authors' default).
    #[default]
    Quantile,
    /// Bins of equal width between the smallest and largest value (paper, section 3.1; the authors' code
    /// has quantiles alone).
    Uniform,
}

/// Thresholds that cut each of D dimensions into N bins.
///
/// Bin `i` of a dimension is `[threshold[i], threshold[i + 1])`, the last one closed; values out of
/// range belong to the first or last bin. Where thresholds coincide (constant or sparse columns),
/// the highest matching bin wins.
#[derive(Debug)]
pub struct Discretizer {
    /// (N + 1, D) f64: what is saved with a run.
    table: Var,
    /// The same, dimension by dimension (D, N + 1), for fast search.
    thresholds: Vec<f64>,
    bins: usize,
    dims: usize,
    /// Bins that the data fills: fewer than N where a quantile table comes out short.
    used_bins: u64,
}

impl Clone for Discretizer {
    /// An independent copy: restoring one does not change the other.
    fn clone(&self) -> Self {
        let table = Var::from_vec(self.row_major(), (self.bins + 1, self.dims), &Device::Cpu);
        Self {
            // Copying host memory into a tensor of matching size has no way to fail.
            table: table.expect("a table of our own has the right size"),
            thresholds: self.thresholds.clone(),
            ..*self
        }
    }
}

impl Discretizer {
    /// Fits thresholds to `rows`, row-major (n, `dims`).
    ///
    /// Quantile, as the authors': each sorted column is sampled every `ceil(n / bins)` rows, and its
    /// maximum is appended. For small n that gives fewer than `bins` thresholds (n = 1050, 100 bins:
    /// 96). Their code then breaks; here the missing bins are left empty at the maximum and never
    /// produced by [`encode`](Self::encode).
    ///
    /// # Errors
    /// If there are no rows, no bins or no dimensions, or a number is not finite.
    pub fn fit(rows: &[f64], dims: usize, bins: usize, kind: DiscretizerKind) -> Result<Self> {
        if dims == 0 || !rows.len().is_multiple_of(dims) {
            return Err(Error::Unsuitable(format!(
                "{} numbers are not rows of {dims} dimensions",
                rows.len()
            )));
        }
        if let Some(at) = rows.iter().position(|value| !value.is_finite()) {
            let (row, column) = (at / dims, at % dims);
            return Err(Error::Unsuitable(format!(
                "a discretizer needs finite numbers: row {row}, column {column} is {}",
                rows[at]
            )));
        }
        let fill = |dim: usize, column: &mut [f64]| {
            for (value, row) in column.iter_mut().zip(rows.chunks_exact(dims)) {
                *value = row[dim];
            }
        };
        Self::fit_columns(rows.len() / dims, dims, bins, kind, fill)
    }

    /// [`fit`](Self::fit) one column of `count` finite numbers at a time: `fill(dim, column)` writes
    /// it, so that the rows never need to lie in memory together.
    ///
    /// # Errors
    /// If there are no rows, bins or dimensions.
    pub fn fit_columns(
        count: usize,
        dims: usize,
        bins: usize,
        kind: DiscretizerKind,
        fill: impl Fn(usize, &mut [f64]),
    ) -> Result<Self> {
        if count == 0 || dims == 0 || bins == 0 {
            return Err(Error::Unsuitable(format!(
                "a discretizer needs rows, dimensions and bins: {count}, {dims}, {bins}"
            )));
        }
        let mut thresholds = Vec::with_capacity(dims * (bins + 1));
        let mut column = vec![0.0; count];
        let mut used_bins = bins;
        for dim in 0..dims {
            fill(dim, &mut column);
            column.sort_unstable_by(f64::total_cmp);
            match kind {
                DiscretizerKind::Quantile => {
                    used_bins = push_quantiles(&column, bins, &mut thresholds);
                }
                DiscretizerKind::Uniform => push_uniform(&column, bins, &mut thresholds),
            }
        }
        Self::with_thresholds(thresholds, bins, dims, used_bins as u64)
    }

    /// A discretizer without content, to be restored by [`state`](Self::state).
    ///
    /// # Errors
    /// If a tensor can't be made.
    pub fn empty(dims: usize, bins: usize) -> Result<Self> {
        Self::with_thresholds(vec![0.0; dims * (bins + 1)], bins, dims, bins as u64)
    }

    fn with_thresholds(
        thresholds: Vec<f64>,
        bins: usize,
        dims: usize,
        used_bins: u64,
    ) -> Result<Self> {
        let columns = Tensor::from_slice(&thresholds, (dims, bins + 1), &Device::Cpu)?;
        let table = Var::from_tensor(&columns.t()?.contiguous()?)?; // (N + 1, D)
        Ok(Self {
            table,
            thresholds,
            bins,
            dims,
            used_bins,
        })
    }

    /// N, the number of bins; as a token, N means that the episode has ended.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// D, the number of dimensions.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The thresholds of one dimension (N + 1), ascending.
    pub fn thresholds(&self, dim: usize) -> &[f64] {
        &self.thresholds[dim * (self.bins + 1)..(dim + 1) * (self.bins + 1)]
    }

    /// The token of `value` in dimension `dim`: the last threshold at or below it, in 0..N.
    pub fn encode(&self, value: f64, dim: usize) -> u32 {
        let reached = self
            .thresholds(dim)
            .partition_point(|&threshold| threshold <= value);
        reached.saturating_sub(1).min(self.used_bins as usize - 1) as u32
    }

    /// The tokens of consecutive dimensions from `first_dim` on.
    pub fn encode_slice(&self, values: &[f64], first_dim: usize, tokens: &mut Vec<u32>) {
        tokens.extend(
            values
                .iter()
                .enumerate()
                .map(|(i, &v)| self.encode(v, first_dim + i)),
        );
    }

    /// The middle of bin `token`; the termination token counts as the last bin.
    pub fn decode(&self, token: u32, dim: usize) -> f64 {
        let bin = (token as usize).min(self.bins - 1);
        let thresholds = self.thresholds(dim);
        (thresholds[bin] + thresholds[bin + 1]) / 2.0
    }

    /// What a row in bin `token` most likely holds: for showing a prediction, not for planning.
    ///
    /// Where the bin's lower threshold equals the one below it, quantile bins collapsed on a value
    /// that fills more than a bin of rows, and most rows of this bin hold exactly that: with a sparse
    /// reward of 0 or 1, the bin [0, 1) means 0, though its [middle](Self::decode) is 0.5. Elsewhere
    /// the middle.
    pub fn typical(&self, token: u32, dim: usize) -> f64 {
        let bin = (token as usize).min(self.bins - 1);
        let thresholds = self.thresholds(dim);
        if bin > 0 && thresholds[bin] == thresholds[bin - 1] {
            return thresholds[bin];
        }
        self.decode(token, dim)
    }

    /// Expected value of dimension `dim` when bin `i` has probability `probabilities[i]` (the first
    /// N are read). The termination token's share is dropped, not redistributed, as the authors do.
    pub fn expectation(&self, probabilities: &[f64], dim: usize) -> f64 {
        let thresholds = self.thresholds(dim);
        let (mut left, mut right) = (0.0, 0.0);
        for (bin, probability) in probabilities[..self.bins].iter().enumerate() {
            left += probability * thresholds[bin];
            right += probability * thresholds[bin + 1];
        }
        (left + right) / 2.0
    }

    /// The value of dimension `dim` below which a share `level` of the probability lies.
    ///
    /// As the authors': the middle of the bin *below* the first bin whose cumulative probability
    /// exceeds `level`. Where that is bin 0 or none, theirs wraps around to the largest threshold;
    /// here it is the middle of bin 0.
    pub fn percentile(&self, probabilities: &[f64], level: f64, dim: usize) -> f64 {
        let mut cumulative = 0.0;
        let exceeds = |probability: &f64| {
            cumulative += probability;
            cumulative > level
        };
        let first = probabilities[..self.bins]
            .iter()
            .position(exceeds)
            .unwrap_or(0);
        self.decode(first.saturating_sub(1) as u32, dim)
    }

    /// Shows the table and its fill to `visitor` under `prefix`.
    ///
    /// # Errors
    /// What the visitor says; if a restored table is not one.
    pub fn state(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.tensor(&format!("{prefix}thresholds"), &Slot::from(&self.table))?;
        visitor.counter(&format!("{prefix}used_bins"), &mut self.used_bins)?;
        let columns = self.table.to_dtype(DType::F64)?.t()?.contiguous()?;
        self.thresholds = columns.flatten_all()?.to_vec1()?;
        let ascending = (0..self.dims).all(|dim| self.thresholds(dim).is_sorted());
        if !ascending || self.used_bins == 0 || self.used_bins > self.bins as u64 {
            return Err(Error::Unsuitable(format!(
                "`{prefix}thresholds` is not a table of ascending thresholds with \
                 1 to {} used bins ({}): the file is damaged",
                self.bins, self.used_bins
            )));
        }
        Ok(())
    }

    fn row_major(&self) -> Vec<f64> {
        let rows = 0..=self.bins;
        rows.flat_map(|row| (0..self.dims).map(move |dim| self.thresholds(dim)[row]))
            .collect()
    }
}

/// Appends the N + 1 quantile thresholds of a sorted column; returns how many bins are used.
fn push_quantiles(sorted: &[f64], bins: usize, thresholds: &mut Vec<f64>) -> usize {
    let rows_per_bin = sorted.len().div_ceil(bins);
    let used = sorted.len().div_ceil(rows_per_bin);
    thresholds.extend(sorted.iter().step_by(rows_per_bin));
    thresholds.extend(std::iter::repeat_n(
        sorted[sorted.len() - 1],
        bins + 1 - used,
    ));
    used
}

fn push_uniform(sorted: &[f64], bins: usize, thresholds: &mut Vec<f64>) {
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    let width = (high - low) / bins as f64;
    thresholds.extend((0..bins).map(|bin| low + width * bin as f64));
    thresholds.push(high);
}

#[cfg(test)]
mod tests {
    use super::*;
    use trajformer_models::rng::Rng;

    fn fitted(rows: usize, bins: usize, kind: DiscretizerKind) -> (Vec<f64>, Discretizer) {
        let mut rng = Rng::from_seed(5);
        let data: Vec<f64> = (0..rows).map(|_| rng.normal()).collect();
        let discretizer = Discretizer::fit(&data, 1, bins, kind).expect("finite numbers");
        (data, discretizer)
    }

    #[test]
    fn decoding_returns_a_value_within_half_a_bin() {
        for kind in [DiscretizerKind::Quantile, DiscretizerKind::Uniform] {
            for rows in [1, 7, 105, 1050, 2000] {
                let (data, discretizer) = fitted(rows, 20, kind);
                for &value in &data {
                    let token = discretizer.encode(value, 0);
                    let edges = &discretizer.thresholds(0)[token as usize..];
                    let error = (discretizer.decode(token, 0) - value).abs();
                    assert!(
                        error <= (edges[1] - edges[0]) / 2.0 + 1e-12,
                        "{kind:?} {rows} {value}"
                    );
                }
            }
        }
    }

    #[test]
    fn quantile_bins_hold_equally_many_rows_and_uniform_bins_are_equally_wide() {
        let (data, discretizer) = fitted(2000, 20, DiscretizerKind::Quantile);
        let mut counts = [0; 20];
        data.iter()
            .for_each(|&value| counts[discretizer.encode(value, 0) as usize] += 1);
        assert_eq!(counts, [100; 20]);
        let (_, discretizer) = fitted(2000, 20, DiscretizerKind::Uniform);
        let edges = discretizer.thresholds(0);
        let widths: Vec<f64> = edges.windows(2).map(|edge| edge[1] - edge[0]).collect();
        assert!(
            widths.iter().all(|width| (width - widths[0]).abs() < 1e-12),
            "{widths:?}"
        );
    }

    #[test]
    fn re_encoding_a_decoded_token_gives_it_back_where_thresholds_differ() {
        let (_, discretizer) = fitted(1050, 100, DiscretizerKind::Quantile);
        for token in 0..discretizer.used_bins as u32 {
            assert_eq!(discretizer.encode(discretizer.decode(token, 0), 0), token);
        }
    }

    #[test]
    fn values_out_of_range_and_constant_columns_stay_in_the_table() {
        let (_, discretizer) = fitted(500, 10, DiscretizerKind::Quantile);
        assert_eq!(discretizer.encode(-1e9, 0), 0);
        assert_eq!(discretizer.encode(1e9, 0), 9);
        assert_eq!(discretizer.decode(10, 0), discretizer.decode(9, 0));
        for kind in [DiscretizerKind::Quantile, DiscretizerKind::Uniform] {
            let constant = Discretizer::fit(&[2.5; 30], 1, 10, kind).expect("finite numbers");
            assert_eq!(constant.decode(constant.encode(2.5, 0), 0), 2.5);
        }
    }

    #[test]
    fn a_collapsed_bin_typically_holds_the_value_that_it_collapsed_on() {
        let rewards: Vec<f64> = (0..1000).map(|row| f64::from(row % 10 == 0)).collect();
        let discretizer = Discretizer::fit(&rewards, 1, 20, DiscretizerKind::Quantile);
        let discretizer = discretizer.expect("finite numbers");
        let shown = |reward| discretizer.typical(discretizer.encode(reward, 0), 0);
        assert_eq!((shown(0.0), shown(1.0)), (0.0, 1.0));
        assert_eq!(discretizer.decode(discretizer.encode(0.0, 0), 0), 0.5);
        let (_, discretizer) = fitted(1000, 20, DiscretizerKind::Quantile);
        for token in 0..=20 {
            assert_eq!(discretizer.typical(token, 0), discretizer.decode(token, 0));
        }
    }

    #[test]
    fn a_table_is_refused_where_numbers_are_not_finite() {
        let error = Discretizer::fit(&[0.0, 1.0, f64::NAN, 2.0], 2, 3, DiscretizerKind::Uniform);
        let message = error.expect_err("not finite").to_string();
        assert!(message.contains("row 1, column 0"), "{message}");
    }
}
