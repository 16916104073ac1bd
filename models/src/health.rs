//! [`Health`]: whether what optimisers are given in an update is finite, and which rows of the data the update was made on.
//!
//! Whoever makes updates calls [`watched`] first: as long as its guard lives, every network on this thread asks [`may_step`] before it takes its
//! step, and whoever draws a batch tells [`drawn`] what it drew. Gradients on the CPU are always looked at, one pass over them that costs less
//! than a hundredth of an update; on a GPU, where a look waits for all that was launched, only if bad steps are to be left out. Nothing that is
//! watched changes a bit of an update whose gradients are finite.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

use crate::error::{Error, Result};
use crate::params::Params;

/// What was found in one update.
#[derive(Debug, Default)]
pub struct Health {
    leaves_out: bool,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    faults: Vec<Fault>,
    batches: Vec<Drawn>,
}

/// What no step can be taken with.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A loss that is NaN or infinite.
    Loss {
        /// The network's name in checkpoints: `model.critics`.
        network: String,
        /// The loss.
        value: f64,
    },
    /// A parameter with numbers in its gradient that are NaN, infinite, or so large that their squares are, which optimisers average.
    Gradient {
        /// Its name in checkpoints: `model.critics.0.weight`.
        tensor: String,
        /// How many such numbers its gradient has.
        not_finite: usize,
        /// How many numbers there are.
        elements: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { network, value } => write!(f, "the loss of `{network}` is {value}"),
            Self::Gradient {
                tensor,
                not_finite,
                elements,
            } => write!(
                f,
                "the gradient of `{tensor}` is not finite, or its square is not, in {not_finite} of {elements} numbers"
            ),
        }
    }
}

/// What a batch was drawn from, and which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// In the plural: steps, windows.
    pub of: &'static str,
    /// Their numbers, from 0, in the order of the batch.
    pub numbers: Vec<usize>,
}

impl Health {
    /// With `leaves_out` a network whose gradients are not finite stays as it is in this update, its optimiser too; else [`may_step`] fails.
    pub fn new(leaves_out: bool) -> Self {
        Self {
            leaves_out,
            found: Mutex::default(),
        }
    }

    /// Forgets what was found: another update begins.
    pub fn begin(&self) {
        *self.found() = Found::default();
    }

    /// What was not finite.
    pub fn faults(&self) -> Vec<Fault> {
        self.found().faults.clone()
    }

    /// What the update was made on.
    pub fn batches(&self) -> Vec<Drawn> {
        self.found().batches.clone()
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // What is in it is whole whatever happened to its holder.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    static HERE: RefCell<Option<Arc<Health>>> = const { RefCell::new(None) };
}

/// While it lives, updates on this thread are watched.
#[must_use = "updates are watched as long as this is held"]
#[derive(Debug)]
pub struct Watched(Option<Arc<Health>>);

/// Updates on this thread are watched from here on; with `None` they are not.
pub fn watched(health: Option<&Arc<Health>>) -> Watched {
    Watched(HERE.replace(health.cloned()))
}

impl Drop for Watched {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}

/// What watches updates on this thread, if anything does: a part of an update that another thread makes is to be [`watched`] there.
pub fn here() -> Option<Arc<Health>> {
    HERE.with_borrow(Clone::clone)
}

/// Tells what a batch was drawn from, and the numbers of what was drawn; they are only asked for where somebody watches.
pub fn drawn(of: &'static str, numbers: impl FnOnce() -> Vec<usize>) {
    if let Some(health) = here() {
        let numbers = numbers();
        health.found().batches.push(Drawn { of, numbers });
    }
}

/// Whether a network with these parameters, whose names in checkpoints begin with `prefix`, may take a step down the gradients of this loss, a
/// scalar, where it has one of its own. Where nobody watches it always may.
///
/// # Errors
/// [`Error::NotFinite`] where the loss or a gradient is not finite and bad steps are not left out, or if a tensor operation fails.
pub fn may_step(
    prefix: &str,
    loss: Option<&Tensor>,
    params: &Params,
    gradients: &GradStore,
) -> Result<bool> {
    let Some(health) = here() else {
        return Ok(true);
    };
    if !health.leaves_out && !params.device().is_cpu() {
        return Ok(true);
    }
    let faults = match loss.map(number).transpose()? {
        Some(value) if !value.is_finite() => vec![Fault::Loss {
            network: prefix.trim_end_matches('.').to_owned(),
            value,
        }],
        _ if squares_are_finite(params, gradients)? => return Ok(true),
        _ => faults(prefix, params, gradients)?,
    };
    let first = faults.first().cloned();
    health.found().faults.extend(faults);
    match first {
        Some(fault) if !health.leaves_out => Err(Error::NotFinite(fault)),
        _ => Ok(false),
    }
}

fn squares_are_finite(params: &Params, gradients: &GradStore) -> Result<bool> {
    let mut last = None;
    for param in params.iter() {
        let variable = param.slot.var();
        // Parameters of one variable stand beside each other.
        if last.replace(variable.id()) != Some(variable.id())
            && let Some(gradient) = gradients.get(variable)
            && !has_finite_squares(gradient)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn faults(prefix: &str, params: &Params, gradients: &GradStore) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for param in params.iter() {
        let Some(gradient) = param.slot.gradient(gradients)? else {
            continue;
        };
        let not_finite = count(&gradient)?;
        if not_finite > 0 {
            faults.push(Fault::Gradient {
                tensor: format!("{prefix}{}", param.name),
                not_finite,
                elements: gradient.elem_count(),
            });
        }
    }
    Ok(faults)
}

/// The number in a scalar.
fn number(scalar: &Tensor) -> Result<f64> {
    let scalar = scalar
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?;
    Ok(scalar.sum_all()?.to_scalar()?)
}

/// Whether the square of every number of a tensor is finite.
///
/// # Errors
/// If a tensor operation fails.
fn has_finite_squares(of: &Tensor) -> Result<bool> {
    {
        let (storage, layout) = of.storage_and_layout();
        if let (Storage::Cpu(storage), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        {
            match storage {
                CpuStorage::F32(numbers) => return Ok(are_small(&numbers[start..end])),
                CpuStorage::F64(numbers) => {
                    return Ok(numbers[start..end].iter().all(|x| (x * x).is_finite()));
                }
                _ => {}
            }
        }
    }
    // 0 times an infinity is NaN, and NaN survives a sum.
    let sum = (of.flatten_all()?.sqr()? * 0.0)?.sum_all()?;
    Ok(number(&sum)?.is_finite())
}

/// Whether all squares are finite. Without an end in the middle, so that the compiler takes several numbers at a time: those of NaN and of
/// large numbers have the largest bits but for the sign.
fn are_small(numbers: &[f32]) -> bool {
    const SIGN: u32 = 1 << 31;
    let largest = |largest: u32, number: &f32| largest.max(number.to_bits() & !SIGN);
    let largest = f32::from_bits(numbers.iter().fold(0, largest));
    (largest * largest).is_finite()
}

fn count(of: &Tensor) -> Result<usize> {
    let numbers = of.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let numbers = numbers.flatten_all()?.to_vec1::<f64>()?;
    let most = match of.dtype() {
        DType::F64 => f64::MAX,
        _ => f64::from(f32::MAX),
    };
    // A NaN is not at most anything.
    let is_small = |number: f64| number * number <= most;
    Ok(numbers.iter().filter(|number| !is_small(**number)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> Result<Params> {
        let mut params = Params::new(DType::F32, &Device::Cpu);
        for (name, size) in [("0.weight", 20), ("0.bias", 5)] {
            params.insert(name, &Tensor::ones(size, DType::F32, &Device::Cpu)?, true)?;
        }
        Ok(params)
    }

    /// Gradients of ones, with this number at the last place of the second parameter.
    fn gradients(params: &Params, last: f32) -> Result<GradStore> {
        let mut store = GradStore::default();
        for param in params.iter() {
            let mut numbers = vec![1.0; param.slot.elem_count()];
            if param.name == "0.bias" {
                numbers[4] = last;
            }
            let all = Tensor::new(numbers, &Device::Cpu)?;
            store.insert(param.slot.var(), all);
        }
        Ok(store)
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_named_and_no_other() -> Result<()> {
        let params = params()?;
        let said = |last: f32, leaves_out: bool| {
            let health = Arc::new(Health::new(leaves_out));
            let _watched = watched(Some(&health));
            let loss = Tensor::new(1f32, &Device::Cpu)?;
            let gradients = gradients(&params, last)?;
            let may = may_step("model.actor.", Some(&loss), &params, &gradients);
            Ok::<_, Error>((may.map_err(|error| error.to_string()), health.faults()))
        };
        for last in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -2e19] {
            let fault = Fault::Gradient {
                tensor: "model.actor.0.bias".to_owned(),
                not_finite: 1,
                elements: 5,
            };
            assert_eq!(said(last, true)?, (Ok(false), vec![fault.clone()]));
            let (error, faults) = said(last, false)?;
            let expected = "the gradient of `model.actor.0.bias` is not finite, or its square is not, in 1 of 5 numbers";
            assert_eq!(error, Err(expected.to_owned()));
            assert_eq!(faults, [fault]);
        }
        for last in [1.8e19, -1.8e19, -0.0, f32::MIN_POSITIVE / 4.0] {
            assert_eq!(said(last, true)?, (Ok(true), vec![]));
            assert_eq!(said(last, false)?, (Ok(true), vec![]));
        }
        // Where nobody watches, nothing is looked at.
        assert!(may_step("", None, &params, &gradients(&params, f32::NAN)?)?);
        Ok(())
    }

    #[test]
    fn a_loss_that_is_not_finite_takes_no_step() -> Result<()> {
        let params = params()?;
        let gradients = gradients(&params, 1.0)?;
        for value in [f64::INFINITY, f64::NEG_INFINITY, 3.0] {
            let health = Arc::new(Health::new(true));
            let _watched = watched(Some(&health));
            let loss = Tensor::new(value as f32, &Device::Cpu)?;
            let may = may_step("model.critics.", Some(&loss), &params, &gradients)?;
            assert_eq!(may, value.is_finite());
            let network = "model.critics".to_owned();
            let fault = Fault::Loss { network, value };
            let expected = if may { vec![] } else { vec![fault] };
            assert_eq!(health.faults(), expected);
        }
        Ok(())
    }

    #[test]
    fn every_kind_of_tensor_is_looked_at() -> Result<()> {
        let bad = [1.0, 2.0, f32::NAN, 4.0, 5.0, 6.0];
        let tensor = Tensor::new(&bad, &Device::Cpu)?.reshape((2, 3))?;
        assert!(!has_finite_squares(&tensor)?);
        assert!(
            has_finite_squares(&tensor.narrow(1, 0, 2)?)?,
            "not contiguous"
        );
        assert!(!has_finite_squares(&tensor.t()?)?);
        assert!(has_finite_squares(&tensor.narrow(0, 1, 1)?)?, "a part");
        for dtype in [DType::F64, DType::BF16, DType::F16] {
            assert!(!has_finite_squares(&tensor.to_dtype(dtype)?)?, "{dtype:?}");
            let sound = Tensor::ones((3, 4), dtype, &Device::Cpu)?;
            assert!(has_finite_squares(&sound)?, "{dtype:?}");
        }
        Ok(())
    }
}
