//! How the threads share the work of one half of a transformer block.
//!
//! With few parameters the rows are cut into tasks, each with gradients of the parameters of its own, which are summed afterwards: the
//! weights stay in every thread's cache. With millions of parameters that costs more than it brings: every task would zero, fill and sum
//! gradients of the half's whole size, and gemm would bring its weights into their layout for a few rows. There all threads work on one
//! product after the other, each of about a thousand rows, and gradients are written once.

use candle_core::Result;
use rayon::prelude::*;

use super::packed::{cut, sum_in_order};
use super::pool::Buffer;
use super::product::{Matrix, MatrixMut, product, product_on_all_threads};
use super::real::Real;

/// Parameters of a half from which its products are shared: an attention half of width 512 has as many.
const PARAMETERS: usize = 1 << 20;
/// Rows from which they are: a policy that acts has fewer, and its rows are spread over the threads already.
const LEAST_ROWS: usize = 256;
/// Most rows of a product, but for whole sequences.
const ROWS: usize = 1024;
/// Rows per piece of elementwise work.
const PIECE: usize = 64;

/// Who works on the rows that a function is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// The thread that calls it: others have other rows.
    Rows,
    /// All threads, on each step of the work.
    Products,
}

impl Spread {
    /// What suits a half with so many parameters on so many rows.
    pub fn of(parameters: usize, rows: usize) -> Self {
        if parameters < PARAMETERS || rows < LEAST_ROWS {
            Self::Rows
        } else {
            Self::Products
        }
    }

    /// Rows that are worked on together where products are shared: as many pieces as are needed, of nearly one size.
    pub fn shared_rows(rows: usize) -> usize {
        rows.div_ceil(rows.div_ceil(ROWS).max(1)).max(1)
    }

    /// Does all tasks: at the same time if each is one thread's, else one after the other.
    pub fn each<K: Send>(self, tasks: Vec<K>, work: impl Fn(K) + Send + Sync) {
        match self {
            Self::Rows => tasks.into_par_iter().for_each(work),
            Self::Products => tasks.into_iter().for_each(work),
        }
    }

    /// Does what a task consists of: by the thread that has it, else on all threads.
    pub fn inner<K: Send>(self, parts: Vec<K>, work: impl Fn(K) + Send + Sync) {
        match self {
            Self::Rows => parts.into_iter().for_each(work),
            Self::Products => parts.into_par_iter().for_each(work),
        }
    }

    /// The sum of what the tasks add to vectors of this length, in their order.
    ///
    /// # Errors
    /// If one of them fails.
    pub fn sum<T: Real, K: Send>(
        self,
        length: usize,
        tasks: Vec<K>,
        work: impl Fn(K, &mut [T]) -> Result<()> + Send + Sync,
    ) -> Result<Vec<T>> {
        match self {
            Self::Rows => {
                let partial = tasks.into_par_iter().map(|task| {
                    let mut partial = Buffer::zeros(length);
                    work(task, &mut partial)?;
                    Ok(partial)
                });
                Ok(sum_in_order(partial.collect::<Result<_>>()?, length))
            }
            Self::Products => {
                let mut total = vec![T::ZERO; length];
                for task in tasks {
                    work(task, &mut total)?;
                }
                Ok(total)
            }
        }
    }

    /// to <- a b.
    pub fn multiply<T: Real>(self, to: MatrixMut<'_, T>, a: Matrix<'_, T>, b: Matrix<'_, T>) {
        self.product(to, a, b, false);
    }

    /// to <- to + a b.
    pub fn multiply_add<T: Real>(self, to: MatrixMut<'_, T>, a: Matrix<'_, T>, b: Matrix<'_, T>) {
        self.product(to, a, b, true);
    }

    fn product<T: Real>(
        self,
        to: MatrixMut<'_, T>,
        a: Matrix<'_, T>,
        b: Matrix<'_, T>,
        accumulate: bool,
    ) {
        match self {
            Self::Rows => product(to, a, b, T::ONE, accumulate),
            Self::Products => product_on_all_threads(to, a, b, T::ONE, accumulate),
        }
    }

    /// Calls `work` with rows of `out` (of this width) and the number of the first, until it has seen all.
    pub fn rows<T: Real>(
        self,
        (out, width): (&mut [T], usize),
        work: impl Fn(usize, &mut [T]) + Send + Sync,
    ) {
        match self {
            Self::Rows => work(0, out),
            Self::Products => out
                .par_chunks_mut(PIECE * width)
                .enumerate()
                .for_each(|(i, out)| work(i * PIECE, out)),
        }
    }

    /// The same with the rows of two outputs.
    pub fn two_rows<T: Real>(
        self,
        (out, width): (&mut [T], usize),
        (second, second_width): (&mut [T], usize),
        work: impl Fn(usize, &mut [T], &mut [T]) + Send + Sync,
    ) {
        match self {
            Self::Rows => work(0, out, second),
            Self::Products => out
                .par_chunks_mut(PIECE * width)
                .zip(second.par_chunks_mut(PIECE * second_width))
                .enumerate()
                .for_each(|(i, (out, second))| work(i * PIECE, out, second)),
        }
    }

    /// The same, where `work` also adds to sums over all rows; each piece's are added to `totals` in the order of the rows.
    pub fn rows_and_sums<T: Real, const N: usize>(
        self,
        (out, width): (&mut [T], usize),
        totals: [&mut [T]; N],
        work: impl Fn(usize, &mut [T], [&mut [T]; N]) + Send + Sync,
    ) {
        if self == Self::Rows {
            work(0, out, totals);
            return;
        }
        let sizes = totals.each_ref().map(|total| total.len());
        let pieces = out.par_chunks_mut(PIECE * width).enumerate();
        let partial = pieces.map(|(i, out)| {
            let mut sums = Buffer::zeros(sizes.iter().sum());
            work(i * PIECE, out, cut(&mut sums, sizes));
            sums
        });
        let mut partial: Vec<Buffer<T>> = partial.collect();
        let mut totals = totals;
        for sums in &mut partial {
            for (total, sums) in totals.iter_mut().zip(cut(sums, sizes)) {
                super::rows::add(total, sums);
            }
        }
    }

    /// Adds the sum of the rows of x to `total`.
    pub fn add_rows<T: Real>(self, x: &[T], total: &mut [T]) {
        if self == Self::Rows {
            super::rows::add_rows(x, total);
            return;
        }
        let partial = x.par_chunks(PIECE * total.len()).map(|x| {
            let mut sums = Buffer::zeros(total.len());
            super::rows::add_rows(x, &mut sums);
            sums
        });
        let partial: Vec<Buffer<T>> = partial.collect();
        for sums in &partial {
            super::rows::add(total, sums);
        }
    }
}
