//! Seeded initial values: functions that fit [`Scope::param`](crate::params::Scope::param).
//!
//! All randomness comes from the scope's stream; values are drawn in f64 and rounded to the
//! parameter's type.

use candle_core::{DType, Device, Result, Shape, Tensor};

use crate::rng::Rng;

/// How a parameter gets its first value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All the same number.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation; 0.02 in GPT-2 and minGPT.
    Normal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
    /// Uniform in ± 1/√fan-in for this fan-in: PyTorch's default for the weight and the bias of
    /// `nn.Linear` (`kaiming_uniform_` with a = √5 gives that bound; torch/nn/modules/linear.py).
    Linear(usize),
    /// Uniform in ± √(6 / (fan-in + fan-out)) of the last two dimensions: Keras' default for the weights of `Dense`,
    /// `torch.nn.init.xavier_uniform_` (Glorot & Bengio 2010).
    Xavier,
    /// Orthogonal rows or columns, whichever are fewer, times this gain; for shapes (.., R, C) each
    /// trailing matrix on its own (Saxe et al. 2014; `torch.nn.init.orthogonal_`).
    Orthogonal(f64),
}

impl Init {
    /// A tensor of `shape` with initial values, drawn row-major from `rng`.
    ///
    /// # Errors
    /// If the shape has fewer than two dimensions for [`Init::Xavier`] or [`Init::Orthogonal`], or the device fails.
    pub fn tensor(
        self,
        rng: &mut Rng,
        shape: &Shape,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        match self {
            Self::Zeros => Tensor::zeros(shape, dtype, device),
            Self::Ones => Tensor::ones(shape, dtype, device),
            Self::Constant(value) => Tensor::full(value, shape, device)?.to_dtype(dtype),
            Self::Normal(deviation) => {
                let values = rng.normal_tensor(shape, DType::F64, &Device::Cpu)?;
                (values * deviation)?.to_dtype(dtype)?.to_device(device)
            }
            Self::Uniform(bound) => rng.uniform_tensor(-bound, bound, shape, dtype, device),
            Self::Linear(fan_in) => {
                let bound = 1.0 / (fan_in as f64).sqrt();
                rng.uniform_tensor(-bound, bound, shape, dtype, device)
            }
            Self::Xavier => {
                let [.., rows, columns] = *shape.dims() else {
                    candle_core::bail!("Xavier's values need a matrix, found shape {shape:?}")
                };
                let bound = xavier_bound(rows + columns);
                rng.uniform_tensor(-bound, bound, shape, dtype, device)
            }
            Self::Orthogonal(gain) => orthogonal(gain, rng, shape, dtype, device),
        }
    }

    /// These initial values as a closure for [`Scope::param`](crate::params::Scope::param).
    pub fn fill(self) -> impl FnOnce(&mut Rng, &Shape, DType, &Device) -> Result<Tensor> {
        move |rng, shape, dtype, device| self.tensor(rng, shape, dtype, device)
    }
}

/// √(6 / fans): what Xavier's uniform values are limited to, with fan-in and fan-out together.
pub fn xavier_bound(fans: usize) -> f64 {
    (6.0 / fans as f64).sqrt()
}

/// Which of a layer's widths bounds the default values of its weights, U(±1/√width).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fan {
    /// Its inputs, as PyTorch's `nn.Linear`.
    #[default]
    In,
    /// Its outputs: what some codes have that take the wrong dimension of a transposed matrix.
    Out,
}

/// Initial values of a stack of linear layers; where there is `None`, PyTorch's default,
/// [`Init::Linear`] of the layer's own fan-in, or as `fan` says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StackInit {
    /// The first layer's weights and biases, whatever the other layers have.
    pub first: Option<Init>,
    /// Weights of all layers but the last.
    pub weight: Option<Init>,
    /// Their biases.
    pub bias: Option<Init>,
    /// What bounds weights that have no other values.
    pub fan: Fan,
    /// The last layer's weights.
    pub last_weight: Option<Init>,
    /// Its bias.
    pub last_bias: Option<Init>,
}

impl StackInit {
    /// PyTorch's default with hidden biases of 0.1 and U(± `last`) in the last layer: 1e-3 for actors and
    /// 3e-3 for critics in ReBRAC and SAC-RND, and, with one layer or the other of another [`Fan`], in SAC-N and EDAC.
    pub fn small_last(last: f64) -> Self {
        Self {
            first: None,
            weight: None,
            bias: Some(Init::Constant(0.1)),
            fan: Fan::In,
            last_weight: Some(Init::Uniform(last)),
            last_bias: Some(Init::Uniform(last)),
        }
    }

    /// [`Init::Xavier`] and biases of 0: Keras' default, and what many codes of SAC have.
    pub fn xavier() -> Self {
        Self {
            first: None,
            weight: Some(Init::Xavier),
            bias: Some(Init::Zeros),
            fan: Fan::In,
            last_weight: Some(Init::Xavier),
            last_bias: Some(Init::Zeros),
        }
    }

    /// Weight and bias of layer `index` of `layers` with these inputs and outputs.
    pub fn layer(
        &self,
        index: usize,
        layers: usize,
        (fan_in, fan_out): (usize, usize),
    ) -> (Init, Init) {
        let (weight, bias) = match (index == 0, index + 1 == layers) {
            (true, _) if self.first.is_some() => (self.first, self.first),
            (_, true) => (self.last_weight, self.last_bias),
            (_, false) => (self.weight, self.bias),
        };
        let default = match self.fan {
            Fan::In => Init::Linear(fan_in),
            Fan::Out => Init::Linear(fan_out),
        };
        let bias = bias.unwrap_or(Init::Linear(fan_in));
        (weight.unwrap_or(default), bias)
    }
}

fn orthogonal(
    gain: f64,
    rng: &mut Rng,
    shape: &Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let dims = shape.dims();
    let [.., rows, columns] = *dims else {
        candle_core::bail!("orthogonal values need a matrix, found shape {dims:?}")
    };
    let (long, short) = (rows.max(columns), rows.min(columns));
    let mut values = Vec::with_capacity(shape.elem_count());
    for _ in 0..shape.elem_count() / (rows * columns) {
        let basis = orthonormal_vectors(rng, short, long);
        for row in 0..rows {
            for column in 0..columns {
                let (vector, entry) = if rows <= columns {
                    (row, column)
                } else {
                    (column, row)
                };
                values.push(gain * basis[vector][entry]);
            }
        }
    }
    Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
}

/// `count` orthonormal vectors of `length` >= `count`, uniformly distributed: Gram-Schmidt, done
/// twice for accuracy, on normal vectors (equal to QR with a positive diagonal).
fn orthonormal_vectors(rng: &mut Rng, count: usize, length: usize) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    while basis.len() < count {
        let mut vector: Vec<f64> = (0..length).map(|_| rng.normal()).collect();
        for _ in 0..2 {
            for earlier in &basis {
                let product: f64 = vector.iter().zip(earlier).map(|(a, b)| a * b).sum();
                vector
                    .iter_mut()
                    .zip(earlier)
                    .for_each(|(a, b)| *a -= product * b);
            }
        }
        let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        // A vector this close to the span of the others has lost its digits: draw another.
        if norm > 1e-9 {
            vector.iter_mut().for_each(|v| *v /= norm);
            basis.push(vector);
        }
    }
    basis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_values_fill_plus_minus_one_over_root_fan_in() -> Result<()> {
        let shape = Shape::from((50, 64));
        let values = Init::Linear(64)
            .tensor(&mut Rng::from_seed(0), &shape, DType::F64, &Device::Cpu)?
            .flatten_all()?
            .to_vec1::<f64>()?;
        let largest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(largest <= 0.125 && largest > 0.12, "{largest}");
        // The standard deviation of U(-b, b) is b / sqrt(3); 3 % is four standard errors at 3200 draws.
        let deviation = (values.iter().map(|v| v * v).sum::<f64>() / 3200.0).sqrt();
        assert!(
            (deviation * 3f64.sqrt() / 0.125 - 1.0).abs() < 0.03,
            "{deviation}"
        );
        Ok(())
    }

    #[test]
    fn orthogonal_matrices_are_orthogonal_in_each_member() -> Result<()> {
        for (rows, columns) in [(5, 8), (8, 5)] {
            let shape = Shape::from((2, rows, columns));
            let rng = &mut Rng::from_seed(1);
            let w = Init::Orthogonal(2.0).tensor(rng, &shape, DType::F64, &Device::Cpu)?;
            let t = w.transpose(1, 2)?;
            let product = if rows < columns {
                w.matmul(&t)?
            } else {
                t.matmul(&w)?
            };
            let identity = (Tensor::eye(5, DType::F64, &Device::Cpu)? * 4.0)?;
            let error = product
                .broadcast_sub(&identity)?
                .abs()?
                .max_all()?
                .to_scalar::<f64>()?;
            assert!(error < 1e-12, "{error}");
        }
        Ok(())
    }
}
