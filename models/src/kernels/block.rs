//! What the fused operations on (x, packed parameters) -> y of x's shape have in common: candle's
//! graph sees one operation of two arguments.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use super::packed::{Saved, tensors_of};
use super::real::Real;
use super::storage::{slice, with_slice};

/// A differentiable function of x and packed parameters whose result has the shape of x.
pub trait Block: Send + Sync + 'static {
    /// Its name in error messages.
    const NAME: &'static str;

    /// y; what the backward pass needs goes to `saved`, if there will be one.
    ///
    /// # Errors
    /// If sizes don't fit.
    fn forward<T: Real>(&self, x: &[T], packed: &[T], saved: Option<&Saved>) -> Result<Vec<T>>;

    /// Gradients of x and of the packed parameters for the gradient `dy` of y.
    ///
    /// # Errors
    /// If sizes don't fit.
    fn backward<T: Real>(
        &self,
        x: &[T],
        packed: &[T],
        saved: &Saved,
        dy: &[T],
    ) -> Result<(Vec<T>, Vec<T>)>;
}

/// y of x and packed parameters, with gradient if one of them has one.
///
/// # Errors
/// If they are not CPU tensors of fitting size, the parameters contiguous, both f32 or both f64.
pub fn apply<B: Block>(block: B, x: &Tensor, packed: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    if x.track_op() || packed.track_op() {
        x.apply_op2(
            packed,
            Operation {
                block,
                saved: Some(Saved::empty()),
            },
        )
    } else {
        x.apply_op2_no_bwd(packed, &Operation { block, saved: None })
    }
}

struct Operation<B> {
    block: B,
    saved: Option<Saved>,
}

impl<B: Block> Operation<B> {
    fn forward<T: Real>(
        &self,
        (s1, l1): (&CpuStorage, &Layout),
        (s2, l2): (&CpuStorage, &Layout),
    ) -> Result<CpuStorage> {
        let (x, packed) = (slice::<T>(s1, l1)?, slice::<T>(s2, l2)?);
        Ok(T::to_cpu_storage_owned(self.block.forward(
            x,
            packed,
            self.saved.as_ref(),
        )?))
    }

    fn gradients<T: Real>(
        &self,
        x: &Tensor,
        packed: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = &self.saved else {
            bail!("{}: nothing was kept", B::NAME)
        };
        let gradient = gradient.contiguous()?;
        let (dx, dpacked) = with_slice::<T, _>(x, |x| {
            with_slice::<T, _>(packed, |packed| {
                with_slice::<T, _>(&gradient, |dy| self.block.backward(x, packed, saved, dy))
            })
        })?;
        tensors_of((dx, x), (dpacked, packed))
    }
}

impl<B: Block> CustomOp2 for Operation<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = match s1 {
            CpuStorage::F32(_) => self.forward::<f32>((s1, l1), (s2, l2))?,
            CpuStorage::F64(_) => self.forward::<f64>((s1, l1), (s2, l2))?,
            _ => bail!("{} handles f32 and f64", B::NAME),
        };
        Ok((y, l1.shape().clone()))
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
