//! Layer normalisation over the last dimension as one operation.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::block::{self, Block};
use super::packed::{Saved, split, split_mut, sum_in_order};
use super::pool::Buffer;
use super::real::Real;
use super::rows;

/// Rows per piece of parallel work.
const PIECE: usize = 128;
/// Rows per task of the backward pass: the unit of partial sums.
const TASK: usize = 1024;

/// Normalised x (.., D) with the packed weight and bias (2 D).
///
/// # Errors
/// If they are not contiguous CPU tensors of fitting size, both f32 or both f64.
pub fn layer_norm(x: &Tensor, packed: &Tensor, epsilon: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || packed.dims() != [2 * width] {
        bail!(
            "layer norm of {:?} with packed parameters {:?}",
            x.dims(),
            packed.dims()
        );
    }
    block::apply(Norm { epsilon }, x, packed)
}

struct Norm {
    epsilon: f64,
}

impl Block for Norm {
    const NAME: &'static str = "layer-norm";

    fn forward<T: Real>(&self, x: &[T], packed: &[T], _: Option<&Saved>) -> Result<Vec<T>> {
        let width = packed.len() / 2;
        let [weight, bias] = split(packed, [width, width])?;
        let mut out = vec![T::ZERO; x.len()];
        let pieces = out
            .par_chunks_mut(PIECE * width)
            .zip(x.par_chunks(PIECE * width));
        let epsilon = T::of(self.epsilon);
        pieces.for_each(|(out, x)| rows::layer_norm(x, weight, bias, epsilon, out));
        Ok(out)
    }

    fn backward<T: Real>(
        &self,
        x: &[T],
        packed: &[T],
        _: &Saved,
        dout: &[T],
    ) -> Result<(Vec<T>, Vec<T>)> {
        let width = packed.len() / 2;
        let [weight, _] = split(packed, [width, width])?;
        let epsilon = T::of(self.epsilon);
        let mut dx = vec![T::ZERO; x.len()];
        let tasks = dx
            .par_chunks_mut(TASK * width)
            .zip(x.par_chunks(TASK * width));
        let partial = tasks
            .zip(dout.par_chunks(TASK * width))
            .map(|((dx, x), dout)| {
                let mut dpacked = Buffer::zeros(packed.len());
                let [dweight, dbias] = split_mut(&mut dpacked, [width, width])?;
                let scratch = &mut Buffer::take(2 * width);
                rows::layer_norm_backward(x, weight, epsilon, dout, dx, dweight, dbias, scratch);
                Ok(dpacked)
            });
        let partial = partial.collect::<Result<Vec<_>>>()?;
        Ok((dx, sum_in_order(partial, packed.len())))
    }
}
