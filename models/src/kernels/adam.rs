//! One pass over memory for Adam, Polyak averaging and sums of squares.

use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

use super::dispatch::vectorized;
use super::parallel;
use super::real::Real;
use super::storage::{with_slice, with_slice_mut};

/// Elements per piece: the unit of parallel work and of sums, so results don't depend on threads.
const PIECE: usize = 16 * 1024;

/// The numbers of one Adam step for one tensor; see [`step`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamNumbers {
    /// Factor of the parameter before the step: 1 - rate * decay (decoupled), else 1.
    pub shrink: f64,
    /// Times the parameter, added to the gradient (L2 regularisation), else 0.
    pub regularization: f64,
    /// Factor of the gradient (from clipping).
    pub gradient_scale: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// rate / (1 - beta1^t).
    pub step_size: f64,
    /// √(1 - beta2^t).
    pub root_correction: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// One Adam step in place: parameter, first and second moment, with this gradient.
///
/// # Errors
/// If a tensor is not a contiguous f32 or f64 tensor on the CPU, or shapes differ.
pub fn step(
    parameter: &Tensor,
    first: &Tensor,
    second: &Tensor,
    gradient: &Tensor,
    numbers: AdamNumbers,
) -> Result<()> {
    match parameter.dtype() {
        DType::F32 => step_as::<f32>(parameter, first, second, gradient, numbers),
        DType::F64 => step_as::<f64>(parameter, first, second, gradient, numbers),
        other => bail!("the Adam kernel handles f32 and f64, found {other:?}"),
    }
}

fn step_as<T: Real>(
    parameter: &Tensor,
    first: &Tensor,
    second: &Tensor,
    gradient: &Tensor,
    numbers: AdamNumbers,
) -> Result<()> {
    let gradient = gradient.contiguous()?;
    if gradient.elem_count() != parameter.elem_count() {
        bail!(
            "gradient {:?} of a parameter {:?}",
            gradient.dims(),
            parameter.dims()
        );
    }
    with_slice::<T, _>(&gradient, |g| {
        with_slice_mut::<T>(first, |m| {
            with_slice_mut::<T>(second, |v| {
                with_slice_mut::<T>(parameter, |p| {
                    let pieces = p.chunks_mut(PIECE).zip(m.chunks_mut(PIECE));
                    let pieces = pieces.zip(v.chunks_mut(PIECE)).zip(g.chunks(PIECE));
                    parallel::each(pieces.collect(), |(((p, m), v), g)| {
                        step_slice(p, m, v, g, numbers);
                    });
                    Ok(())
                })
            })
        })
    })
}

vectorized! {
    fn step_slice<T: Real>(p: &mut [T], m: &mut [T], v: &mut [T], g: &[T], numbers: AdamNumbers) {
        let n = numbers;
        let (shrink, regularization) = (T::of(n.shrink), T::of(n.regularization));
        let scale = T::of(n.gradient_scale);
        let (beta1, rest1) = (T::of(n.beta1), T::of(1.0 - n.beta1));
        let (beta2, rest2) = (T::of(n.beta2), T::of(1.0 - n.beta2));
        let (step_size, epsilon) = (T::of(n.step_size), T::of(n.epsilon));
        let root = T::of(1.0 / n.root_correction);
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = *g * scale + *p * regularization;
            *m = *m * beta1 + g * rest1;
            *v = *v * beta2 + g * g * rest2;
            *p = *p * shrink - step_size * *m / (v.sqrt() * root + epsilon);
        }
    }

    fn polyak_slice<T: Real>(target: &mut [T], online: &[T], keep: T, rate: T) {
        for (t, o) in target.iter_mut().zip(online) {
            *t = *t * keep + *o * rate;
        }
    }
}

/// target <- (1 - rate) * target + rate * online, in place.
///
/// # Errors
/// If a tensor is not a contiguous f32 or f64 tensor on the CPU, or shapes differ.
pub fn polyak(target: &Tensor, online: &Tensor, rate: f64) -> Result<()> {
    if target.dims() != online.dims() {
        bail!(
            "target {:?} and online {:?} differ in shape",
            target.dims(),
            online.dims()
        );
    }
    match target.dtype() {
        DType::F32 => polyak_as::<f32>(target, online, rate),
        DType::F64 => polyak_as::<f64>(target, online, rate),
        other => bail!("the Polyak kernel handles f32 and f64, found {other:?}"),
    }
}

fn polyak_as<T: Real>(target: &Tensor, online: &Tensor, rate: f64) -> Result<()> {
    let (keep, rate) = (T::of(1.0 - rate), T::of(rate));
    with_slice::<T, _>(online, |online| {
        with_slice_mut::<T>(target, |target| {
            let pieces = target.chunks_mut(PIECE).zip(online.chunks(PIECE));
            parallel::each(pieces.collect(), |(target, online)| {
                polyak_slice(target, online, keep, rate);
            });
            Ok(())
        })
    })
}

/// Sum of squares of all elements, in f64.
///
/// # Errors
/// If the tensor is not an f32 or f64 tensor on the CPU.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let tensor = tensor.contiguous()?;
    match tensor.dtype() {
        DType::F32 => with_slice::<f32, _>(&tensor, |x| Ok(sum_of_squares_as(x))),
        DType::F64 => with_slice::<f64, _>(&tensor, |x| Ok(sum_of_squares_as(x))),
        other => bail!("the norm kernel handles f32 and f64, found {other:?}"),
    }
}

fn sum_of_squares_as<T: Real>(x: &[T]) -> f64 {
    const LANES: usize = 16;
    let piece = |x: &[T]| {
        let mut sums = [0f64; LANES];
        for group in x.chunks(LANES) {
            for (sum, value) in sums.iter_mut().zip(group) {
                let value = value.to_f64();
                *sum += value * value;
            }
        }
        sums.iter().sum::<f64>()
    };
    let sums: Vec<f64> = x.par_chunks(PIECE).map(piece).collect();
    sums.iter().sum()
}
