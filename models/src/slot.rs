//! [`Slot`]: where a tensor's numbers lie.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Shape, Tensor, Var};

use crate::error::{Error, Result};

/// Where a tensor that is updated in place has its numbers: in a variable of its own, or in a part of
/// a flat one that it shares with others.
#[derive(Debug, Clone)]
pub struct Slot {
    var: Var,
    start: usize,
    shape: Shape,
}

impl From<&Var> for Slot {
    /// The whole variable.
    fn from(var: &Var) -> Self {
        Self {
            var: var.clone(),
            start: 0,
            shape: var.shape().clone(),
        }
    }
}

impl Slot {
    /// A tensor of this shape in `var`, from its element `start` on.
    ///
    /// # Errors
    /// If `var` is flat and ends before, or is not flat and has another shape.
    pub fn part(var: &Var, start: usize, shape: Shape) -> Result<Self> {
        let slot = Self {
            var: var.clone(),
            start,
            shape,
        };
        slot.tensor()?;
        Ok(slot)
    }

    /// The variable that holds it.
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// Its first element in the variable.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Its shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its dimensions.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// How many numbers it has.
    pub fn elem_count(&self) -> usize {
        self.shape.elem_count()
    }

    /// Type of its numbers.
    pub fn dtype(&self) -> DType {
        self.var.dtype()
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        self.var.device()
    }

    fn is_whole(&self) -> bool {
        self.start == 0 && self.var.dims() == self.dims()
    }

    fn of(&self, variable: &Tensor) -> Result<Tensor> {
        if self.is_whole() {
            Ok(variable.clone())
        } else {
            let part = variable.narrow(D::Minus1, self.start, self.elem_count())?;
            Ok(part.reshape(&self.shape)?)
        }
    }

    /// The tensor, without gradients; it shares the storage, so that updates are seen.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensor(&self) -> Result<Tensor> {
        self.of(&self.var.as_detached_tensor())
    }

    /// The tensor as a part of the graph, for gradients.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tracked(&self) -> Result<Tensor> {
        self.of(self.var.as_tensor())
    }

    /// Its gradient, if there is one.
    ///
    /// # Errors
    /// If the device fails.
    pub fn gradient(&self, gradients: &GradStore) -> Result<Option<Tensor>> {
        gradients.get(&self.var).map(|all| self.of(all)).transpose()
    }

    /// Writes `value`, of the same shape and type, to its place.
    ///
    /// # Errors
    /// If the shape or the type differs.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        if self.is_whole() {
            return Ok(self.var.set(&value.contiguous()?)?);
        }
        if value.dims() != self.dims() {
            let reason = format!("{:?} set to {:?}", self.shape, value.shape());
            return Err(Error::Config {
                what: "Slot",
                reason,
            });
        }
        let all = self.var.as_detached_tensor();
        Ok(all.slice_set(&value.flatten_all()?.contiguous()?, 0, self.start)?)
    }
}
