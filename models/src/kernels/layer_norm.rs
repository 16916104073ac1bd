//! Layer normalisation over the last dimension as one operation.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::packed::{split, split_mut, sum_in_order, tensors_of};
use super::pool::Buffer;
use super::real::Real;
use super::rows;
use super::storage::{slice, with_slice};

/// Rows per piece of parallel work.
const PIECE: usize = 128;
/// Rows per task of the backward pass: the unit of partial sums.
const TASK: usize = 1024;

/// Normalised x (.., D) with the packed weight and bias (2 D).
///
/// # Errors
/// If they are not contiguous CPU tensors of fitting size, both f32 or both f64.
pub fn layer_norm(x: &Tensor, packed: &Tensor, epsilon: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op2(packed, Operation { epsilon })
}

struct Operation {
    epsilon: f64,
}

impl Operation {
    fn forward<T: Real>(&self, x: &[T], packed: &[T]) -> Result<Vec<T>> {
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

    fn backward<T: Real>(&self, x: &[T], packed: &[T], dout: &[T]) -> Result<(Vec<T>, Vec<T>)> {
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

    fn gradients<T: Real>(
        &self,
        x: &Tensor,
        packed: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (dx, dpacked) = with_slice::<T, _>(x, |x| {
            with_slice::<T, _>(packed, |packed| {
                with_slice::<T, _>(&gradient, |gradient| self.backward(x, packed, gradient))
            })
        })?;
        tensors_of((dx, x), (dpacked, packed))
    }
}

impl CustomOp2 for Operation {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = l1.dims().last().copied().unwrap_or(0);
        if width == 0 || l2.dims() != [2 * width] {
            bail!(
                "layer norm of {:?} with packed parameters {:?}",
                l1.dims(),
                l2.dims()
            );
        }
        let out = match s1 {
            CpuStorage::F32(_) => CpuStorage::F32(self.forward(slice(s1, l1)?, slice(s2, l2)?)?),
            CpuStorage::F64(_) => CpuStorage::F64(self.forward(slice(s1, l1)?, slice(s2, l2)?)?),
            _ => bail!("the layer norm kernel handles f32 and f64"),
        };
        Ok((out, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::F32 => self.gradients::<f32>(x, packed, gradient),
            _ => self.gradients::<f64>(x, packed, gradient),
        }
    }
}
