//! Layer and root-mean-square normalisation over the last dimension as one operation each.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::block::{self, Block};
use super::packed::{Saved, split, split_mut, sum_in_order};
use super::pool::Buffer;
use super::real::Real;
use super::spread::Spread;
use super::{rms, rows};
use crate::norm::NormKind;

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
    block::apply(Norm::of(NormKind::Layer, epsilon), x, packed)
}

/// x (.., D) over the roots of its rows' mean squares, times `weight` (D).
///
/// # Errors
/// As [`layer_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || weight.dims() != [width] {
        bail!("norm of {:?} with a weight {:?}", x.dims(), weight.dims());
    }
    block::apply(Norm::of(NormKind::Rms, epsilon), x, weight)
}

/// The norms of rows as operations on slices.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    kind: NormKind,
    epsilon: f64,
}

impl Norm {
    /// Of this kind; `epsilon` is added to the variance or mean square.
    pub fn of(kind: NormKind, epsilon: f64) -> Self {
        Self { kind, epsilon }
    }

    /// Numbers of its weight and bias for rows of this width; an [`NormKind::Rms`] has none in its bias.
    pub fn sizes(&self, width: usize) -> [usize; 2] {
        match self.kind {
            NormKind::Layer => [width, width],
            NormKind::Rms => [width, 0],
        }
    }

    /// Normalised rows of x in `out`.
    pub fn rows<T: Real>(&self, x: &[T], weight: &[T], bias: &[T], out: &mut [T]) {
        let epsilon = T::of(self.epsilon);
        match self.kind {
            NormKind::Layer => rows::layer_norm(x, weight, bias, epsilon, out),
            NormKind::Rms => rms::rms_norm(x, weight, epsilon, out),
        }
    }

    /// Normalised rows of x, made by whom `spread` says.
    pub fn normal_rows<T: Real>(
        &self,
        x: &[T],
        (weight, bias): (&[T], &[T]),
        (width, spread): (usize, Spread),
    ) -> Buffer<T> {
        let mut normal = Buffer::take(x.len());
        spread.rows((&mut normal, width), |row, normal| {
            self.rows(&x[row * width..][..normal.len()], weight, bias, normal);
        });
        normal
    }

    /// Backward of [`Self::rows`]: dx <- dx + its gradient for `dout`, dweight and dbias added to.
    pub fn rows_backward<T: Real>(
        &self,
        (x, weight): (&[T], &[T]),
        dout: &[T],
        dx: &mut [T],
        (dweight, dbias): (&mut [T], &mut [T]),
    ) {
        let (epsilon, scratch) = (T::of(self.epsilon), &mut Buffer::take(2 * weight.len()));
        match self.kind {
            NormKind::Layer => {
                rows::layer_norm_backward(x, weight, epsilon, dout, dx, dweight, dbias, scratch);
            }
            NormKind::Rms => rms::rms_norm_backward(x, weight, epsilon, dout, dx, dweight, scratch),
        }
    }

    /// Width of rows whose weight and bias are so many numbers together.
    fn width(&self, packed: usize) -> usize {
        match self.kind {
            NormKind::Layer => packed / 2,
            NormKind::Rms => packed,
        }
    }
}

impl Block for Norm {
    const NAME: &'static str = "norm";

    fn forward<T: Real>(&self, x: &[T], packed: &[T], _: Option<&Saved>) -> Result<Vec<T>> {
        let width = self.width(packed.len());
        let [weight, bias] = split(packed, self.sizes(width))?;
        let mut out = vec![T::ZERO; x.len()];
        let pieces = out
            .par_chunks_mut(PIECE * width)
            .zip(x.par_chunks(PIECE * width));
        pieces.for_each(|(out, x)| self.rows(x, weight, bias, out));
        Ok(out)
    }

    fn backward<T: Real>(
        &self,
        x: &[T],
        packed: &[T],
        _: &Saved,
        dout: &[T],
    ) -> Result<(Vec<T>, Vec<T>)> {
        let width = self.width(packed.len());
        let [weight, _] = split(packed, self.sizes(width))?;
        let mut dx = vec![T::ZERO; x.len()];
        let tasks = dx
            .par_chunks_mut(TASK * width)
            .zip(x.par_chunks(TASK * width));
        let partial = tasks
            .zip(dout.par_chunks(TASK * width))
            .map(|((dx, x), dout)| {
                let mut dpacked = Buffer::zeros(packed.len());
                let [dweight, dbias] = split_mut(&mut dpacked, self.sizes(width))?;
                self.rows_backward((x, weight), dout, dx, (dweight, dbias));
                Ok(dpacked)
            });
        let partial = partial.collect::<Result<Vec<_>>>()?;
        Ok((dx, sum_in_order(partial, packed.len())))
    }
}
