//! [`Ranks`]: processes that train one run together, each on its share of every batch, and what they average.
//!
//! Whoever makes an update calls [`together`] first: as long as its guard lives, every step of an optimiser on this thread takes the mean of all
//! ranks' gradients ([`averaged`]). A loss that is a mean over rows has, on N equal shares of a batch, gradients whose mean is the gradient
//! over the whole batch; a number that losses take from the whole batch otherwise (TD3+BC's mean |Q|) goes through [`mean`].

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, TensorId, Var};

use crate::error::{Error, Result};
use crate::params::Params;

/// Elements of a bucket: gradients are added up in pieces of so many, 4 MiB of f32.
const BUCKET: usize = 1 << 20;

/// Processes, or threads, that train one run together. All of them make the same calls in the same order.
pub trait Ranks: Debug + Send + Sync {
    /// The own number, from 0 to [`Self::count`] - 1.
    fn rank(&self) -> usize;

    /// How many there are.
    fn count(&self) -> usize;

    /// Replaces each value by the sum of what all ranks have in its place. Added up in the order of the ranks, so that all have the same bits.
    ///
    /// # Errors
    /// If another rank is lost, or calls with another number of values.
    fn sum(&self, values: &mut [f32]) -> Result<()>;

    /// [`Self::sum`] in f64.
    ///
    /// # Errors
    /// As [`Self::sum`].
    fn sum_f64(&self, values: &mut [f64]) -> Result<()>;
}

/// The own share of so many rows.
///
/// # Errors
/// If they can't be cut into equal shares.
pub fn share(ranks: &dyn Ranks, rows: usize) -> Result<Range<usize>> {
    let count = ranks.count();
    if !rows.is_multiple_of(count) || rows < count {
        let problem = format!(
            "a batch of {rows} can't be cut into {count} equal shares, one for each rank: choose another `batch_size`, or another number of ranks"
        );
        return Err(Error::Ranks { problem });
    }
    let each = rows / count;
    Ok(ranks.rank() * each..(ranks.rank() + 1) * each)
}

/// These of a tensor's rows.
///
/// # Errors
/// If there are fewer.
pub fn rows_of(of: &Tensor, rows: &Range<usize>) -> Result<Tensor> {
    Ok(of.narrow(0, rows.start, rows.len())?)
}

thread_local! {
    static HERE: RefCell<Option<Arc<dyn Ranks>>> = const { RefCell::new(None) };
}

/// While it lives, steps on this thread are those of several ranks together.
#[must_use = "steps are taken together as long as this is held"]
#[derive(Debug)]
pub struct Together(Option<Arc<dyn Ranks>>);

/// Steps on this thread take the mean of these ranks' gradients from here on; alone with `None`.
pub fn together(ranks: Option<&Arc<dyn Ranks>>) -> Together {
    Together(HERE.replace(ranks.cloned()))
}

impl Drop for Together {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}

/// The ranks that steps on this thread are taken with, if they are.
pub fn here() -> Option<Arc<dyn Ranks>> {
    HERE.with_borrow(Clone::clone)
}

/// The mean over all ranks of a tensor that has the same shape on each, without its graph; where there are none, the tensor without its graph.
///
/// # Errors
/// If a rank is lost or the device fails.
pub fn mean(of: &Tensor) -> Result<Tensor> {
    match here() {
        None => Ok(of.detach()),
        Some(ranks) => Ok(means(&*ranks, &[of])?.remove(0)),
    }
}

/// The gradients of these parameters, averaged over the ranks. A parameter must have a gradient on all ranks or on none.
///
/// # Errors
/// If a rank is lost or the device fails.
pub fn averaged(ranks: &dyn Ranks, gradients: &GradStore, of: &Params) -> Result<GradStore> {
    let mut variables: Vec<(TensorId, Var)> = Vec::new();
    for param in of.iter() {
        let variable = param.slot.var();
        // Parameters of one variable stand beside each other.
        let last = variables.last().map(|(id, _)| *id);
        if last != Some(variable.id()) {
            variables.push((variable.id(), variable.clone()));
        }
    }
    let found: Vec<(Tensor, &Tensor)> = variables
        .iter()
        .filter_map(|(_, variable)| Some((variable.as_tensor().clone(), gradients.get(variable)?)))
        .collect();
    let tensors: Vec<&Tensor> = found.iter().map(|(_, gradient)| *gradient).collect();
    let mut store = GradStore::default();
    for ((variable, _), gradient) in found.iter().zip(means(ranks, &tensors)?) {
        store.insert(variable, gradient);
    }
    Ok(store)
}

/// The means of several tensors over the ranks.
fn means(ranks: &dyn Ranks, of: &[&Tensor]) -> Result<Vec<Tensor>> {
    let in_f64 = of.iter().any(|tensor| tensor.dtype() == DType::F64);
    if in_f64 {
        let sum = |values: &mut [f64]| ranks.sum_f64(values);
        means_of::<f64>(sum, 1.0 / ranks.count() as f64, of)
    } else {
        let sum = |values: &mut [f32]| ranks.sum(values);
        means_of::<f32>(sum, 1.0 / ranks.count() as f32, of)
    }
}

fn means_of<T>(
    sum: impl Fn(&mut [T]) -> Result<()>,
    factor: T,
    of: &[&Tensor],
) -> Result<Vec<Tensor>>
where
    T: candle_core::WithDType + std::ops::MulAssign,
{
    let mut together: Vec<T> = Vec::with_capacity(of.iter().map(|t| t.elem_count()).sum());
    for tensor in of {
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(T::DTYPE)?;
        together.extend(values.flatten_all()?.to_vec1::<T>()?);
    }
    for bucket in together.chunks_mut(BUCKET) {
        sum(bucket)?;
        for value in bucket {
            *value *= factor;
        }
    }
    let mut start = 0;
    of.iter()
        .map(|tensor| {
            let end = start + tensor.elem_count();
            let values = &together[start..end];
            start = end;
            let mean = Tensor::from_slice(values, tensor.shape(), &Device::Cpu)?;
            Ok(mean.to_dtype(tensor.dtype())?.to_device(tensor.device())?)
        })
        .collect()
}
