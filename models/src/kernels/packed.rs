//! Several parameters in one vector, so that an operation with many of them is still one operation
//! of two arguments for candle's graph; and what such an operation keeps for its backward pass.

use std::any::Any;
use std::sync::Mutex;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::gradients::hand_over;
use super::pool::Buffer;
use super::product::{Matrix, MatrixMut};
use super::real::Real;
use super::rows;

/// Elements per piece of parallel work.
const PIECE: usize = 16 * 1024;

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
    Ok(cut(packed, sizes))
}

/// The same of a vector that is as long as its parts.
///
/// # Panics
/// If it is shorter.
pub fn cut<const N: usize, T>(packed: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    let mut rest = packed;
    sizes.map(|size| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(size);
        rest = after;
        part
    })
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

    /// The matrix (in, out) in its storage, to be written.
    pub fn matrix_mut<'a, T>(&self, data: &'a mut [T]) -> MatrixMut<'a, T> {
        MatrixMut::strided(data, self.size, self.strides)
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
    let dpacked = tensor(dpacked, packed)?.and_then(|gradient| hand_over(packed, gradient));
    Ok((tensor(dx, x)?, dpacked))
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
