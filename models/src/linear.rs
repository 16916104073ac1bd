//! Linear layers: [`Linear`] (PyTorch's layout), [`EnsembleLinear`] (N layers at once) and
//! [`Conv1D`] (GPT-2's layout).

use candle_core::Tensor;

use crate::error::Result;
use crate::init::Init;
use crate::params::Scope;
use crate::precision::Precision;

/// y = x Wᵀ + b with W stored as (out, in), named `weight` and `bias` as in PyTorch.
#[derive(Debug, Clone)]
pub struct Linear {
    pub(crate) weight: Tensor,       // (out, in)
    pub(crate) bias: Option<Tensor>, // (out)
}

impl Linear {
    /// Makes a layer with PyTorch's default initial values, U(±1/√in) for weight and bias.
    ///
    /// # Errors
    /// If the scope's parameters don't fit.
    pub fn new(inputs: usize, outputs: usize, scope: &mut Scope<'_>) -> Result<Self> {
        Self::with_init(
            inputs,
            outputs,
            Init::Linear(inputs),
            Init::Linear(inputs),
            scope,
        )
    }

    /// Makes a layer with these initial values.
    ///
    /// # Errors
    /// If the scope's parameters don't fit.
    pub fn with_init(
        inputs: usize,
        outputs: usize,
        weight: Init,
        bias: Init,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let weight = scope.param("weight", (outputs, inputs), weight.fill())?;
        let bias = Some(scope.param("bias", outputs, bias.fill())?);
        Ok(Self { weight, bias })
    }

    /// (.., in) -> (.., out).
    ///
    /// # Errors
    /// If the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_in(x, Precision::Full)
    }

    /// Like [`Self::forward`], with the matrix product in this precision.
    ///
    /// # Errors
    /// If the last dimension is not `in`.
    pub fn forward_in(&self, x: &Tensor, precision: Precision) -> Result<Tensor> {
        affine(x, &self.weight.t()?, self.bias.as_ref(), precision)
    }
}

/// y = x W + b with W stored as (in, out): the layout of GPT-2's `Conv1D` in `transformers`.
#[derive(Debug, Clone)]
pub struct Conv1D {
    pub(crate) weight: Tensor, // (in, out)
    pub(crate) bias: Tensor,   // (out)
}

impl Conv1D {
    /// Makes a layer with normal weights of this standard deviation and zero biases.
    ///
    /// # Errors
    /// If the scope's parameters don't fit.
    pub fn new(
        inputs: usize,
        outputs: usize,
        deviation: f64,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let weight = scope.param("weight", (inputs, outputs), Init::Normal(deviation).fill())?;
        let bias = scope.param("bias", outputs, Init::Zeros.fill())?;
        Ok(Self { weight, bias })
    }

    /// (.., in) -> (.., out), with the product in this precision.
    ///
    /// # Errors
    /// If the last dimension is not `in`.
    pub fn forward_in(&self, x: &Tensor, precision: Precision) -> Result<Tensor> {
        affine(x, &self.weight, Some(&self.bias), precision)
    }
}

/// x (.., in) times w (in, out) plus bias, as one matrix product over all leading dimensions.
fn affine(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let (inputs, outputs) = w.dims2()?;
    let rows = x.elem_count() / inputs.max(1);
    let y = precision.product(&x.reshape((rows, inputs))?, w)?; // (rows, out)
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    Ok(y.reshape(dims)?)
}

/// Rows (n, D) of a table (V, D) by number (n), u32.
///
/// Away from the CPU as a product with one-hot rows: the gradient of `index_select` there is a loop
/// over all of them, one after the other.
///
/// # Errors
/// If a number is not below V (on the CPU), or the shapes don't fit.
pub(crate) fn lookup(table: &Tensor, numbers: &Tensor) -> Result<Tensor> {
    if table.device().is_cpu() {
        Ok(table.index_select(numbers, 0)?)
    } else {
        lookup_by_product(table, numbers)
    }
}

fn lookup_by_product(table: &Tensor, numbers: &Tensor) -> Result<Tensor> {
    let places = Tensor::arange(0, table.dim(0)? as u32, table.device())?.unsqueeze(0)?; // (1, V)
    let one_hot = numbers.unsqueeze(1)?.broadcast_eq(&places)?; // (n, V)
    Ok(one_hot.to_dtype(table.dtype())?.matmul(table)?)
}

/// N linear layers side by side: weight (N, in, out), bias (N, 1, out).
#[derive(Debug, Clone)]
pub struct EnsembleLinear {
    pub(crate) weight: Tensor, // (N, in, out)
    pub(crate) bias: Tensor,   // (N, 1, out)
}

impl EnsembleLinear {
    /// Makes an ensemble with PyTorch's default initial values in every member, U(±1/√in) for weight and bias.
    ///
    /// # Errors
    /// If the scope's parameters don't fit.
    pub fn new(
        members: usize,
        inputs: usize,
        outputs: usize,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let init = Init::Linear(inputs);
        Self::with_init((members, inputs, outputs), init, init, scope)
    }

    /// Makes an ensemble of size `(members, inputs, outputs)` with these initial values.
    ///
    /// # Errors
    /// If the scope's parameters don't fit.
    pub fn with_init(
        (members, inputs, outputs): (usize, usize, usize),
        weight: Init,
        bias: Init,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let weight = scope.param("weight", (members, inputs, outputs), weight.fill())?;
        let bias = scope.param("bias", (members, 1, outputs), bias.fill())?;
        Ok(Self { weight, bias })
    }

    /// (N, B, in) -> (N, B, out).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.matmul(&self.weight)?.broadcast_add(&self.bias)?)
    }

    /// One member as an ensemble of one.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn member(&self, index: usize) -> Result<Self> {
        Ok(Self {
            weight: self.weight.narrow(0, index, 1)?,
            bias: self.bias.narrow(0, index, 1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::rng::Rng;
    use crate::testing::largest_relative_difference;

    #[test]
    fn both_ways_to_look_up_rows_give_the_same_rows_and_gradients() -> Result<()> {
        let rng = &mut Rng::from_seed(1);
        let table = Var::from_tensor(&rng.normal_tensor((7, 3), DType::F64, &Device::Cpu)?)?;
        let weights = rng.normal_tensor((5, 3), DType::F64, &Device::Cpu)?;
        let numbers = Tensor::new(&[6u32, 0, 3, 6, 6], &Device::Cpu)?;
        let gradient = |rows: &Tensor| -> Result<Tensor> {
            let gradients = (rows * &weights)?.sum_all()?.backward()?;
            Ok(gradients.get(&table).expect("a gradient").clone())
        };
        let (one, other) = (
            lookup(&table, &numbers)?,
            lookup_by_product(&table, &numbers)?,
        );
        assert!(largest_relative_difference(&one, &other)? < 1e-15);
        assert!(largest_relative_difference(&gradient(&one)?, &gradient(&other)?)? < 1e-14);
        Ok(())
    }
}
