//! [`KMeans`]: a row is the nearest of N centres, and its offset from it.
//!
//! Behavior Transformer (Shafiullah et al. 2022, <https://arxiv.org/abs/2206.11251>); authors' code notmahi/bet,
//! `models/action_ae/discretizers/k_means.py`: centres start at rows drawn without replacement, 50 times every row
//! goes to its nearest centre and every centre to the mean of its rows, and a centre without rows starts anew at a row drawn
//! at random. Deviations: arithmetic is f64; equally near centres give the first; where there are fewer rows than
//! centres, the rest start at rows drawn once more.

use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;
use trajformer_models::params::{Slot, StateVisitor};

use crate::tokenizers::tokenizer::{Chunks, Decoded, TrajectoryTokenizer, check_dims, check_rows};
use trajformer_core::error::{Error, Result};
use trajformer_models::rng::Rng;

/// Lloyd's iterations; the authors'.
const ITERATIONS: usize = 50;
/// Rows that one task sums: sums are added in the order of the blocks, so that the number of threads changes nothing.
const BLOCK_ROWS: usize = 4096;

/// One token per row.
#[derive(Debug)]
pub struct KMeans {
    table: Var,        // (N, D) f64: what is saved with a run
    centers: Vec<f64>, // the same
    dims: usize,
}

impl KMeans {
    /// One that is to be fitted, or restored.
    ///
    /// # Errors
    /// If a tensor can't be made.
    pub fn unfitted(dims: usize, count: usize) -> Result<Self> {
        Self::with_centers(vec![0.0; count * dims], dims)
    }

    fn with_centers(centers: Vec<f64>, dims: usize) -> Result<Self> {
        let shape = (centers.len() / dims, dims);
        Ok(Self {
            table: Var::from_slice(&centers, shape, &Device::Cpu)?,
            centers,
            dims,
        })
    }

    /// The centres, row-major (N, D).
    pub fn centers(&self) -> &[f64] {
        &self.centers
    }

    /// The token of one row (D): its nearest centre.
    pub fn nearest(&self, row: &[f64]) -> u32 {
        nearest(&self.centers, row).0 as u32
    }

    /// What is left of a row (D) beside its centre: what an offset head predicts.
    pub fn offset(&self, row: &[f64]) -> Vec<f64> {
        let center = self.center(self.nearest(row));
        row.iter()
            .zip(center)
            .map(|(x, center)| x - center)
            .collect()
    }

    /// The row (D) of a token and an offset (D).
    ///
    /// # Panics
    /// If the token is not below the number of centres.
    pub fn with_offset(&self, token: u32, offset: &[f64]) -> Vec<f64> {
        let center = self.center(token).iter();
        center
            .zip(offset)
            .map(|(center, offset)| center + offset)
            .collect()
    }

    fn center(&self, token: u32) -> &[f64] {
        &self.centers[token as usize * self.dims..][..self.dims]
    }
}

impl TrajectoryTokenizer for KMeans {
    fn fit(&mut self, chunks: &Chunks<'_>, rng: &mut Rng) -> Result<()> {
        check_dims(chunks, self.dims)?;
        let centers = lloyd(chunks.rows, self.dims, self.vocabulary(), rng);
        *self = Self::with_centers(centers, self.dims)?;
        Ok(())
    }

    fn dims(&self) -> usize {
        self.dims
    }

    fn vocabulary(&self) -> usize {
        self.centers.len() / self.dims
    }

    fn encode(&self, rows: &[f64], tokens: &mut Vec<u32>) -> Result<()> {
        check_rows(rows, self.dims)?;
        tokens.extend(rows.chunks_exact(self.dims).map(|row| self.nearest(row)));
        Ok(())
    }

    fn decode(&self, tokens: &[u32], steps: usize) -> Decoded {
        let in_range = |&token: &u32| (token as usize) < self.vocabulary();
        if tokens.len() == steps && tokens.iter().all(in_range) {
            Decoded {
                rows: tokens
                    .iter()
                    .flat_map(|&t| self.center(t))
                    .copied()
                    .collect(),
                valid: true,
            }
        } else {
            Decoded {
                rows: vec![0.0; steps * self.dims],
                valid: false,
            }
        }
    }

    fn state(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.tensor(&format!("{prefix}centers"), &Slot::from(&self.table))?;
        let numbers = self.table.as_detached_tensor().to_dtype(DType::F64)?;
        self.centers = Tensor::flatten_all(&numbers)?.to_vec1()?;
        if self.centers.iter().all(|number| number.is_finite()) {
            Ok(())
        } else {
            Err(Error::Unsuitable(format!(
                "`{prefix}centers` holds numbers that are not finite: the file is damaged"
            )))
        }
    }
}

/// The first of the nearest centres, and the square of its distance.
fn nearest(centers: &[f64], row: &[f64]) -> (usize, f64) {
    let distance = |center: &[f64]| -> f64 {
        let squares = center.iter().zip(row).map(|(c, x)| (c - x) * (c - x));
        squares.sum()
    };
    let mut best = (0, f64::INFINITY);
    for (number, center) in centers.chunks_exact(row.len()).enumerate() {
        let found = distance(center);
        if found < best.1 {
            best = (number, found);
        }
    }
    best
}

/// Centres (count, D) of rows (n, D), n at least 1.
fn lloyd(rows: &[f64], dims: usize, count: usize, rng: &mut Rng) -> Vec<f64> {
    let mut centers = Vec::with_capacity(count * dims);
    for row in drawn(rows.len() / dims, count, rng) {
        centers.extend_from_slice(&rows[row * dims..][..dims]);
    }
    for _ in 0..ITERATIONS {
        let blocks: Vec<(Vec<f64>, Vec<usize>)> = rows
            .par_chunks(BLOCK_ROWS * dims)
            .map(|rows| sums(&centers, rows, dims))
            .collect();
        let (mut total, mut counts) = (vec![0.0; count * dims], vec![0; count]);
        for (sum, number) in &blocks {
            total
                .iter_mut()
                .zip(sum)
                .for_each(|(total, sum)| *total += sum);
            counts
                .iter_mut()
                .zip(number)
                .for_each(|(total, number)| *total += number);
        }
        let dead = counts.iter().filter(|&&count| count == 0).count();
        let mut anew = drawn(rows.len() / dims, dead, rng).into_iter();
        for (number, center) in centers.chunks_exact_mut(dims).enumerate() {
            match counts[number] {
                0 => {
                    if let Some(row) = anew.next() {
                        center.copy_from_slice(&rows[row * dims..][..dims]);
                    }
                }
                count => {
                    let sums = &total[number * dims..][..dims];
                    let means = sums.iter().map(|sum| sum / count as f64);
                    center.iter_mut().zip(means).for_each(|(c, mean)| *c = mean);
                }
            }
        }
    }
    centers
}

/// Sums (count, D) and numbers (count) of the rows that go to each centre.
fn sums(centers: &[f64], rows: &[f64], dims: usize) -> (Vec<f64>, Vec<usize>) {
    let mut sums = vec![0.0; centers.len()];
    let mut counts = vec![0; centers.len() / dims];
    for row in rows.chunks_exact(dims) {
        let (number, _) = nearest(centers, row);
        counts[number] += 1;
        let sum = &mut sums[number * dims..][..dims];
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    (sums, counts)
}

/// `count` of `rows` rows, without replacement as long as there are any.
fn drawn(rows: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        // Fisher and Yates, of which only the places that were moved are kept.
        let mut moved = std::collections::HashMap::new();
        for place in 0..rows.min(count - found.len()) {
            let other = place + rng.below(rows - place);
            let at = |index: usize| *moved.get(&index).unwrap_or(&index);
            let (here, there) = (at(place), at(other));
            found.push(there);
            moved.insert(other, here);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<f64> {
        let mut rng = Rng::from_seed(7);
        let row = |number: usize| {
            let center = [[0.0, 0.0], [5.0, 1.0], [-3.0, 4.0]][number % 3];
            center.map(|c| c + 0.1 * rng.normal())
        };
        (0..count).flat_map(row).collect()
    }

    fn fitted(rows: &[f64], count: usize) -> KMeans {
        let mut found = KMeans::unfitted(2, count).unwrap();
        let chunks = Chunks::new(rows, 2, 1, &[]).unwrap();
        found.fit(&chunks, &mut Rng::from_seed(1)).unwrap();
        found
    }

    #[test]
    fn centers_of_three_clouds_are_their_means() {
        let rows = rows(9000);
        // More centres than clouds: three from one cloud at the start could not leave it.
        let found = fitted(&rows, 12);
        for cloud in [[0.0, 0.0], [5.0, 1.0], [-3.0, 4.0]] {
            let center = found.center(found.nearest(&cloud));
            let distance = (center[0] - cloud[0]).hypot(center[1] - cloud[1]);
            assert!(distance < 0.15, "{cloud:?}: {center:?}");
        }
        // Where Lloyd's iterations stand still, every centre is the mean of its rows.
        let found = fitted(&rows[..60], 3);
        let (sums, counts) = sums(&found.centers, &rows[..60], 2);
        for (number, &count) in counts.iter().enumerate() {
            for dim in 0..2 {
                let mean = sums[number * 2 + dim] / count as f64;
                assert!((mean - found.centers[number * 2 + dim]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let rows = rows(20_000);
        let centers = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| fitted(&rows, 16).centers)
        });
        assert_eq!(centers[0], centers[1]);
        assert_eq!(centers[0], centers[2]);
    }

    #[test]
    fn a_row_is_its_center_and_its_offset() {
        let rows = rows(500);
        let found = fitted(&rows, 8);
        for row in rows.chunks(2) {
            let back = found.with_offset(found.nearest(row), &found.offset(row));
            assert!(back.iter().zip(row).all(|(a, b)| (a - b).abs() < 1e-14));
        }
    }

    #[test]
    fn centers_without_rows_start_anew_and_more_centers_than_rows_are_possible() {
        let found = fitted(&[1.0, 2.0, 3.0, 4.0], 5);
        for center in found.centers.chunks(2) {
            assert!(center == [1.0, 2.0] || center == [3.0, 4.0], "{center:?}");
        }
        let mut draws = drawn(5, 5, &mut Rng::from_seed(0));
        draws.sort_unstable();
        assert_eq!(draws, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn tokens_that_are_none_decode_to_zeros() {
        let found = fitted(&rows(90), 4);
        assert!(found.decode(&[0, 3], 2).valid);
        for tokens in [&[0u32][..], &[0, 4], &[0, 1, 2]] {
            let decoded = found.decode(tokens, 2);
            assert_eq!((decoded.valid, decoded.rows), (false, vec![0.0; 4]));
        }
    }
}
