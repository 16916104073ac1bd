//! [`Discretizer`]: real numbers to tokens and back, one table of thresholds per dimension.
//!
//! All arithmetic is f64, so that tokens equal the authors' (jannerm/trajectory-transformer,
//! `trajectory/utils/discretization.py`, commit 8834a6e). The table is part of a policy's state.

use candle_core::{DType, Device, Tensor, Var};
use trajformer_models::params::{Slot, StateVisitor};

use trajformer_core::error::{Error, Result};

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
///
/// A bin stands for its middle, as the authors', where the data in it reaches that far; otherwise for the number that
/// the data holds nearest to it. In a column of 0 and 1 alone the bin [0, 1) holds only 0, and 0 is what it means: its
/// middle is a number that nobody has seen.
#[derive(Debug)]
pub struct Discretizer {
    /// (N + 1, D) f64: what is saved with a run.
    table: Var,
    /// (N, D) f64: what bins stand for, saved too.
    value_table: Var,
    /// The thresholds, dimension by dimension (D, N + 1), for fast search.
    thresholds: Vec<f64>,
    /// The values, dimension by dimension (D, N).
    values: Vec<f64>,
    bins: usize,
    dims: usize,
    /// Bins that the data fills: fewer than N where a quantile table comes out short.
    used_bins: u64,
}

impl Clone for Discretizer {
    /// An independent copy: restoring one does not change the other.
    fn clone(&self) -> Self {
        // Copying host memory into a tensor of matching size has no way to fail.
        Self::with_tables(
            self.thresholds.clone(),
            self.values.clone(),
            self.dims,
            self.used_bins,
        )
        .expect("tables of our own have the right size")
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
        let mut values = Vec::with_capacity(dims * bins);
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
            let edges = &thresholds[dim * (bins + 1)..];
            values.extend(held_values(&column, edges, used_bins));
        }
        Self::with_tables(thresholds, values, dims, used_bins as u64)
    }

    /// A discretizer without content, to be restored by [`state`](Self::state).
    ///
    /// # Errors
    /// If a tensor can't be made.
    pub fn empty(dims: usize, bins: usize) -> Result<Self> {
        let (thresholds, values) = (vec![0.0; dims * (bins + 1)], vec![0.0; dims * bins]);
        Self::with_tables(thresholds, values, dims, bins as u64)
    }

    /// A discretizer whose bins stand for their middles, whatever they hold: the authors' reconstruction, to compare
    /// with theirs.
    ///
    /// # Errors
    /// If a tensor can't be made.
    pub fn with_middles(&self) -> Result<Self> {
        let middles = (0..self.dims).flat_map(|dim| middles(self.thresholds(dim)));
        let values = middles.collect();
        Self::with_tables(self.thresholds.clone(), values, self.dims, self.used_bins)
    }

    /// The same with dimension `dim` as `count` choices: token i is choice i, whatever the data holds.
    ///
    /// # Errors
    /// If there are more choices than bins that are used.
    pub fn with_choices(&self, dim: usize, count: usize) -> Result<Self> {
        if count as u64 > self.used_bins {
            return Err(Error::Unsuitable(format!(
                "actions are {count} choices, each of which needs a token, and there are {} (`bins`, or fewer where there is little \
                 data)",
                self.used_bins
            )));
        }
        let (mut thresholds, mut values) = (self.thresholds.clone(), self.values.clone());
        let edges = thresholds[dim * (self.bins + 1)..].iter_mut();
        for (token, edge) in edges.take(self.bins + 1).enumerate() {
            *edge = token as f64 - 0.5;
        }
        let held = values[dim * self.bins..].iter_mut();
        for (token, value) in held.take(self.bins).enumerate() {
            *value = token as f64;
        }
        Self::with_tables(thresholds, values, self.dims, self.used_bins)
    }

    /// From thresholds (D, N + 1) and values (D, N).
    fn with_tables(
        thresholds: Vec<f64>,
        values: Vec<f64>,
        dims: usize,
        used_bins: u64,
    ) -> Result<Self> {
        let bins = values.len() / dims;
        let saved = |columns: &[f64]| -> Result<Var> {
            let shape = (dims, columns.len() / dims);
            let columns = Tensor::from_slice(columns, shape, &Device::Cpu)?;
            Ok(Var::from_tensor(&columns.t()?.contiguous()?)?)
        };
        Ok(Self {
            table: saved(&thresholds)?,
            value_table: saved(&values)?,
            thresholds,
            values,
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

    /// What bin `token` stands for; the termination token counts as the last bin.
    pub fn decode(&self, token: u32, dim: usize) -> f64 {
        self.values(dim)[(token as usize).min(self.bins - 1)]
    }

    /// What the bins of one dimension stand for (N), ascending.
    pub fn values(&self, dim: usize) -> &[f64] {
        &self.values[dim * self.bins..(dim + 1) * self.bins]
    }

    /// Expected value of dimension `dim` when bin `i` has probability `probabilities[i]` (the first
    /// N are read). The termination token's share is dropped, not redistributed, as the authors do.
    pub fn expectation(&self, probabilities: &[f64], dim: usize) -> f64 {
        let weighted = probabilities[..self.bins].iter().zip(self.values(dim));
        weighted
            .map(|(probability, value)| probability * value)
            .sum()
    }

    /// The value of dimension `dim` below which a share `level` of the probability lies.
    ///
    /// As the authors': the value of the bin *below* the first bin whose cumulative probability
    /// exceeds `level`. Where that is bin 0 or none, theirs wraps around to the largest threshold;
    /// here it is the value of bin 0.
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

    /// Shows the tables and their fill to `visitor` under `prefix`.
    ///
    /// Runs of earlier builds have no `values`. Unless they were fitted to the same data just now, bins then stand for
    /// what their thresholds tell: for the lower one where it equals the one below it, because quantile bins collapsed
    /// on a number that fills more than one of them; else for their middles.
    ///
    /// # Errors
    /// What the visitor says; if a restored table is not one.
    pub fn state(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.tensor(&format!("{prefix}thresholds"), &Slot::from(&self.table))?;
        visitor.counter(&format!("{prefix}used_bins"), &mut self.used_bins)?;
        let columns = |table: &Var| -> Result<Vec<f64>> {
            let columns = table.to_dtype(DType::F64)?.t()?.contiguous()?;
            Ok(columns.flatten_all()?.to_vec1()?)
        };
        let before = std::mem::replace(&mut self.thresholds, columns(&self.table)?);
        let name = format!("{prefix}values");
        if visitor.holds(&name) {
            visitor.tensor(&name, &Slot::from(&self.value_table))?;
            self.values = columns(&self.value_table)?;
        } else if before != self.thresholds {
            let guessed = (0..self.dims).flat_map(|dim| guessed_values(self.thresholds(dim)));
            *self = Self::with_tables(
                self.thresholds.clone(),
                guessed.collect(),
                self.dims,
                self.used_bins,
            )?;
        }
        let sorted = |dim| self.thresholds(dim).is_sorted() && self.values(dim).is_sorted();
        let ascending = (0..self.dims).all(sorted);
        if !ascending || self.used_bins == 0 || self.used_bins > self.bins as u64 {
            return Err(Error::Unsuitable(format!(
                "`{prefix}thresholds` and `{prefix}values` are not tables of ascending numbers with \
                 1 to {} used bins ({}): the file is damaged",
                self.bins, self.used_bins
            )));
        }
        Ok(())
    }
}

/// The middles of the bins between these thresholds.
fn middles(edges: &[f64]) -> impl Iterator<Item = f64> {
    edges.windows(2).map(|edge| (edge[0] + edge[1]) / 2.0)
}

/// What bins stand for, as far as thresholds tell.
fn guessed_values(edges: &[f64]) -> impl Iterator<Item = f64> {
    middles(edges).enumerate().map(|(bin, middle)| {
        if bin > 0 && edges[bin] == edges[bin - 1] {
            edges[bin]
        } else {
            middle
        }
    })
}

/// What the bins of a sorted column stand for: the number nearest to the middle of those between the least and the
/// largest that each holds; a bin that holds nothing stands for the nearest such number of another.
fn held_values(sorted: &[f64], edges: &[f64], used_bins: usize) -> Vec<f64> {
    let middles: Vec<f64> = middles(edges).collect();
    let mut held: Vec<Option<(f64, f64)>> = vec![None; middles.len()];
    let mut bin = 0;
    for &value in sorted {
        while bin + 1 < used_bins && edges[bin + 1] <= value {
            bin += 1;
        }
        let least = held[bin].map_or(value, |(least, _)| least);
        held[bin] = Some((least, value));
    }
    let own: Vec<Option<f64>> = middles
        .iter()
        .zip(&held)
        .map(|(middle, held)| held.map(|(least, most)| middle.clamp(least, most)))
        .collect();
    let known: Vec<f64> = own.iter().flatten().copied().collect();
    let nearest = |middle: f64| {
        let above = known.partition_point(|&value| value < middle);
        let around = known[above.saturating_sub(1)..].iter().take(2).copied();
        let closer = |a: &f64, b: &f64| (a - middle).abs().total_cmp(&(b - middle).abs());
        around.min_by(closer).unwrap_or(middle)
    };
    let values = own.iter().zip(&middles);
    values
        .map(|(own, &middle)| own.unwrap_or_else(|| nearest(middle)))
        .collect()
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
    fn every_bin_stands_for_a_number_that_the_data_has() {
        let columns: [&dyn Fn(usize) -> f64; 5] = [
            &|row| if row % 2 == 0 { 2.0 } else { -2.0 },
            &|row| f64::from(row % 10 == 0),
            // Too rare to fill a bin, or one alone: no threshold collapses on it.
            &|row| if row % 500 == 3 { -2.0 } else { 2.0 },
            &|row| [-1.0, 0.0, 0.25, 3.0][row % 4],
            &|row| if row == 7 { -9.0 } else { (row % 2) as f64 },
        ];
        for kind in [DiscretizerKind::Quantile, DiscretizerKind::Uniform] {
            for (number, column) in columns.iter().enumerate() {
                for (rows, bins) in [(1000, 20), (1000, 100), (60, 100), (105, 20)] {
                    let data: Vec<f64> = (0..rows).map(column).collect();
                    let found = Discretizer::fit(&data, 1, bins, kind).expect("finite numbers");
                    for token in 0..=bins as u32 {
                        let value = found.decode(token, 0);
                        assert!(data.contains(&value), "{kind:?} {number} {bins}: {value}");
                    }
                    let exact = |value: &&f64| found.decode(found.encode(**value, 0), 0) == **value;
                    assert_eq!(
                        data.iter().find(|value| !exact(value)),
                        None,
                        "{kind:?} {number}"
                    );
                }
            }
        }
    }

    #[test]
    fn expectation_and_percentile_are_of_what_bins_stand_for() {
        let rewards: Vec<f64> = (0..1000).map(|row| f64::from(row % 10 == 0)).collect();
        let found = Discretizer::fit(&rewards, 1, 20, DiscretizerKind::Quantile);
        let found = found.expect("finite numbers");
        let mut probabilities = vec![0.0; 21];
        probabilities[found.encode(0.0, 0) as usize] = 0.75;
        probabilities[found.encode(1.0, 0) as usize] = 0.25;
        assert_eq!(found.expectation(&probabilities, 0), 0.25);
        assert_eq!(found.percentile(&probabilities, 0.5, 0), 0.0);
        let authors = found.with_middles().expect("a table");
        assert_eq!(authors.expectation(&probabilities, 0), 0.625);
    }

    #[test]
    fn ordinary_bins_stand_for_their_middles() {
        for kind in [DiscretizerKind::Quantile, DiscretizerKind::Uniform] {
            let mut rng = Rng::from_seed(5);
            let data: Vec<f64> = (0..20_000).map(|_| rng.uniform()).collect();
            let found = Discretizer::fit(&data, 1, 100, kind).expect("finite numbers");
            let authors = found.with_middles().expect("a table");
            assert_eq!(found.values(0), authors.values(0));
        }
    }

    /// Gives back thresholds, as runs had them that knew no values.
    struct Old(Discretizer);

    impl StateVisitor for Old {
        fn holds(&self, name: &str) -> bool {
            !name.ends_with("values")
        }
        fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
            assert!(name.ends_with("thresholds"), "{name}");
            slot.set(self.0.table.as_tensor())
        }
        fn counter(&mut self, _: &str, value: &mut u64) -> trajformer_models::Result<()> {
            *value = self.0.used_bins;
            Ok(())
        }
    }

    #[test]
    fn a_table_without_values_tells_them_by_its_thresholds() {
        let data: Vec<f64> = (0..1000)
            .map(|row| f64::from(row % 2) * 4.0 - 2.0)
            .collect();
        let fitted = Discretizer::fit(&data, 1, 20, DiscretizerKind::Quantile).expect("a table");
        let mut opened = Discretizer::empty(1, 20).expect("a table");
        let mut old = Old(fitted.clone());
        opened.state("", &mut old).expect("restores");
        for value in [-2.0, 2.0] {
            assert_eq!(opened.decode(opened.encode(value, 0), 0), value);
        }
        let mut resumed = fitted.clone();
        resumed.state("", &mut old).expect("restores");
        assert_eq!(resumed.values(0), fitted.values(0));
    }

    #[test]
    fn a_table_is_refused_where_numbers_are_not_finite() {
        let error = Discretizer::fit(&[0.0, 1.0, f64::NAN, 2.0], 2, 3, DiscretizerKind::Uniform);
        let message = error.expect_err("not finite").to_string();
        assert!(message.contains("row 1, column 0"), "{message}");
    }
}
