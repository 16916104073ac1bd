//! Elementwise activations with exact derivatives.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::real::Real;
use super::rows;
use super::storage::{slice, with_slice};
use crate::activation::Activation;

/// Elements per piece of parallel work.
const PIECE: usize = 16 * 1024;

/// An activation of a contiguous CPU tensor of type f32 or f64, with gradient.
///
/// # Errors
/// If it is another tensor.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Activate(activation))
}

struct Activate(Activation);

impl Activate {
    fn forward<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
        let x = slice::<T>(storage, layout)?;
        let mut out = vec![T::ZERO; x.len()];
        let pieces = out.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE));
        pieces.for_each(|(out, x)| rows::activate(self.0, x, out));
        Ok(T::to_cpu_storage_owned(out))
    }

    fn backward<T: Real>(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let gradient = gradient.contiguous()?;
        let dx = with_slice::<T, _>(x, |x| {
            with_slice::<T, _>(&gradient, |gradient| {
                let mut dx = gradient.to_vec();
                let pieces = dx.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE));
                pieces.for_each(|(dx, x)| {
                    let mut out = super::pool::Buffer::take(x.len());
                    rows::activate_backward(self.0, x, &mut out, dx);
                });
                Ok(dx)
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device())
    }
}

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = match storage {
            CpuStorage::F32(_) => self.forward::<f32>(storage, layout)?,
            CpuStorage::F64(_) => self.forward::<f64>(storage, layout)?,
            _ => bail!("the activation kernel handles f32 and f64"),
        };
        Ok((out, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(match x.dtype() {
            DType::F32 => self.backward::<f32>(x, gradient)?,
            _ => self.backward::<f64>(x, gradient)?,
        }))
    }
}
