//! Slices of CPU tensors, borrowed for reading or changed in place.

use std::cell::RefCell;
use std::marker::PhantomData;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, WithDType, bail};

use super::real::Real;

/// Calls `function` with the elements of a contiguous CPU tensor of type `T`.
///
/// # Errors
/// If the tensor is not such a tensor, or `function` fails.
pub fn with_slice<T: WithDType, R>(
    tensor: &Tensor,
    function: impl FnOnce(&[T]) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => function(slice(storage, layout)?),
        _ => bail!("expected a tensor on the CPU"),
    }
}

/// Calls `function` with the elements of a contiguous CPU tensor of type `T`, to be changed.
///
/// # Errors
/// If the tensor is not such a tensor, or `function` fails.
pub fn with_slice_mut<T: Real>(
    tensor: &Tensor,
    function: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    tensor.inplace_op1(&Change {
        function: RefCell::new(Some(function)),
        marker: PhantomData,
    })
}

struct Change<T, F> {
    function: RefCell<Option<F>>,
    marker: PhantomData<T>,
}

impl<T: Real, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Change<T, F> {
    fn name(&self) -> &'static str {
        "change-in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, found {layout:?}")
        };
        let data = T::slice_mut(storage)?;
        match self.function.borrow_mut().take() {
            Some(function) => function(&mut data[start..end]),
            None => bail!("an in-place change runs once"),
        }
    }
}

/// The elements of a contiguous layout in a CPU storage.
///
/// # Errors
/// If the layout is not contiguous or the type is another.
pub fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, found {layout:?}")
    };
    Ok(&T::cpu_storage_as_slice(storage)?[start..end])
}
