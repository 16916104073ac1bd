//! Several parameters in one vector, so that an operation with many of them is still one operation
//! of two arguments for candle's graph; and what such an operation keeps for its backward pass.

use std::any::Any;
use std::sync::Mutex;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::parallel;
use super::pool::Buffer;
use super::product::{Matrix, MatrixMut};
use super::real::Real;
use super::rows;

/// Elements per piece of parallel work.
const PIECE: usize = 16 * 1024;
/// Rows of a product from which a transposed copy of its weight costs less than the product's own way to one.
const TURNED_FROM_ROWS: usize = 64;
/// Numbers of a weight from which it does.
const TURNED_FROM_NUMBERS: usize = 4 * 1024;
/// Rows of a transposed copy that are one task.
const TURNED_ROWS: usize = 64;

/// Packs parameters into one vector, differentiably.
///
/// # Errors
/// If their types or devices differ.
pub fn pack(parameters: &[&Tensor]) -> Result<Tensor> {
    let flat = parameters
        .iter()
        .map(|p| p.flatten_all())
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&flat, 0)
}

/// Cuts a vector into consecutive parts.
///
/// # Errors
/// If its length is not the sum of the sizes.
pub fn split<const N: usize, T>(packed: &[T], sizes: [usize; N]) -> Result<[&[T]; N]> {
    if packed.len() != sizes.iter().sum::<usize>() {
        bail!(
            "{} packed parameters, expected parts of {sizes:?}",
            packed.len()
        );
    }
    let mut rest = packed;
    Ok(sizes.map(|size| {
        let (part, after) = rest.split_at(size);
        rest = after;
        part
    }))
}

/// Cuts a vector into consecutive parts that can be changed.
///
/// # Errors
/// If its length is not the sum of the sizes.
pub fn split_mut<const N: usize, T>(packed: &mut [T], sizes: [usize; N]) -> Result<[&mut [T]; N]> {
    if packed.len() != sizes.iter().sum::<usize>() {
        bail!(
            "{} packed gradients, expected parts of {sizes:?}",
            packed.len()
        );
    }
    let mut rest = packed;
    Ok(sizes.map(|size| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(size);
        rest = after;
        part
    }))
}

/// The layout of a weight; as a matrix it is always (in, out), so that rows of x multiply it.
#[derive(Debug, Clone, Copy)]
pub struct Weight {
    size: (usize, usize),
    strides: (usize, usize),
}

impl Weight {
    /// Stored as (in, out) if `inputs_first`, else as (out, in).
    pub fn new(inputs: usize, outputs: usize, inputs_first: bool) -> Self {
        let strides = if inputs_first {
            (outputs, 1)
        } else {
            (1, inputs)
        };
        Self {
            size: (inputs, outputs),
            strides,
        }
    }

    /// The matrix (in, out) in its storage.
    pub fn matrix<'a, T>(&self, data: &'a [T]) -> Matrix<'a, T> {
        Matrix::strided(data, self.size, self.strides)
    }

    /// The factor of products of so many rows in all, made by all threads. Products are the same to the last bit, whether it is a copy
    /// or not.
    pub fn factor<'a, T: Real>(&self, data: &'a [T], rows: usize, way: Way) -> Factor<'a, T> {
        self.factor_by(data, (rows, way), |(rows, columns), to| {
            let tasks = to.chunks_mut(TURNED_ROWS * rows).enumerate().collect();
            parallel::each(tasks, |(i, to): (usize, &mut [T])| {
                let first = i * TURNED_ROWS;
                T::transpose(data, (rows, columns), first..first + to.len() / rows, to);
            });
        })
    }

    /// The same, made by the thread that calls it.
    pub fn factor_alone<'a, T: Real>(&self, data: &'a [T], rows: usize, way: Way) -> Factor<'a, T> {
        self.factor_by(data, (rows, way), |(rows, columns), to| {
            T::transpose(data, (rows, columns), 0..columns, to);
        })
    }

    fn factor_by<'a, T: Real>(
        &self,
        data: &'a [T],
        (rows, way): (usize, Way),
        transpose: impl FnOnce((usize, usize), &mut [T]),
    ) -> Factor<'a, T> {
        let (matrix, (inputs, outputs)) = match way {
            Way::Forward => (self.matrix(data), self.size),
            Way::Backward => (self.matrix(data).t(), (self.size.1, self.size.0)),
        };
        let by_rows = (self.strides.1 == 1) == (way == Way::Forward);
        if by_rows || rows < TURNED_FROM_ROWS || data.len() < TURNED_FROM_NUMBERS {
            return Factor::Stored(matrix);
        }
        let mut to = Buffer::take(data.len());
        transpose((outputs, inputs), &mut to);
        Factor::Turned(to, (inputs, outputs))
    }

    /// The matrix (in, out) in its storage, to be written.
    pub fn matrix_mut<'a, T>(&self, data: &'a mut [T]) -> MatrixMut<'a, T> {
        MatrixMut::strided(data, self.size, self.strides)
    }
}

/// Which products a weight is a factor of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Those that make a layer's results.
    Forward,
    /// Those that make gradients of what it was given.
    Backward,
}

/// A weight as a right factor.
#[derive(Debug)]
pub enum Factor<'a, T: Real> {
    /// As it is stored.
    Stored(Matrix<'a, T>),
    /// A copy of this size, rows one after the other.
    Turned(Buffer<T>, (usize, usize)),
}

impl<T: Real> Factor<'_, T> {
    /// The matrix.
    pub fn matrix(&self) -> Matrix<'_, T> {
        match self {
            Self::Stored(matrix) => *matrix,
            Self::Turned(data, (rows, columns)) => Matrix::rows(data, *rows, *columns),
        }
    }
}

/// The sum of buffers of this length, in their order.
pub fn sum_in_order<T: Real>(buffers: Vec<Buffer<T>>, length: usize) -> Vec<T> {
    let mut total = vec![T::ZERO; length];
    total
        .par_chunks_mut(PIECE)
        .enumerate()
        .for_each(|(i, total)| {
            for buffer in &buffers {
                let first = i * PIECE;
                rows::add(total, &buffer[first..first + total.len()]);
            }
        });
    total
}

/// Gradient tensors of an operation's two arguments, where they are needed.
///
/// # Errors
/// If sizes don't fit.
pub fn tensors_of<T: Real>(
    (dx, x): (Vec<T>, &Tensor),
    (dpacked, packed): (Vec<T>, &Tensor),
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let tensor = |gradient: Vec<T>, of: &Tensor| -> Result<Option<Tensor>> {
        if of.track_op() {
            Ok(Some(Tensor::from_vec(gradient, of.shape(), of.device())?))
        } else {
            Ok(None)
        }
    };
    Ok((tensor(dx, x)?, tensor(dpacked, packed)?))
}

/// What a forward pass keeps for the backward pass; it lives as long as the graph.
#[derive(Debug)]
pub struct Saved(Mutex<Option<Box<dyn Any + Send>>>);

impl Saved {
    /// Nothing yet.
    pub fn empty() -> Self {
        Self(Mutex::new(None))
    }

    /// Keeps this.
    pub fn set<S: Any + Send>(&self, what: S) {
        *self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Box::new(what));
    }

    /// Calls `function` with what was kept.
    ///
    /// # Errors
    /// If nothing of this type was kept, or `function` fails.
    pub fn with<S: Any, R>(&self, function: impl FnOnce(&S) -> Result<R>) -> Result<R> {
        let kept = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match kept.as_ref().and_then(|kept| kept.downcast_ref::<S>()) {
            Some(kept) => function(kept),
            None => bail!("the forward pass kept nothing for the backward pass"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::product::multiply;
    use super::*;

    fn numbers<T: Real>(count: usize) -> Vec<T> {
        let number = |i: usize| T::of((i * 2_654_435_761 % 1_000_003) as f64 / 500_000.0 - 1.0);
        (0..count).map(number).collect()
    }

    fn products_are_equal<T: Real>() {
        let sizes = [
            (17, 256),
            (256, 256),
            (128, 512),
            (512, 128),
            (130, 100),
            (384, 384),
        ];
        for (inputs, outputs) in sizes {
            for rows in [64, 65, 100, 128, 200, 256] {
                for (inputs_first, way) in [(false, Way::Forward), (true, Way::Backward)] {
                    let weight = Weight::new(inputs, outputs, inputs_first);
                    let data = numbers::<T>(inputs * outputs);
                    let (from, to) = match way {
                        Way::Forward => (inputs, outputs),
                        Way::Backward => (outputs, inputs),
                    };
                    let x = numbers::<T>(rows * from);
                    let product = |factor: Factor<'_, T>| {
                        let mut y = vec![T::ZERO; rows * to];
                        let x = Matrix::rows(&x, rows, from);
                        multiply(MatrixMut::rows(&mut y, rows, to), x, factor.matrix());
                        y
                    };
                    let stored = product(weight.factor(&data, 0, way));
                    for factor in [
                        weight.factor(&data, rows, way),
                        weight.factor_alone(&data, rows, way),
                    ] {
                        assert!(matches!(factor, Factor::Turned(..)));
                        let turned = product(factor);
                        let same = stored.iter().zip(&turned).all(|(a, b)| a == b);
                        assert!(same, "{rows} rows, ({inputs}, {outputs}), {way:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn products_with_a_transposed_copy_are_the_same_to_the_last_bit() {
        products_are_equal::<f32>();
        products_are_equal::<f64>();
    }
}
