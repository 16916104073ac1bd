//! [`Graph`]: a network as a list of elementary operations, to be written as a file or run here.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Tensor};

use trajformer_core::error::{Error, Result};

/// One operation; names and meanings are ONNX's (operator set 17).
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// a + b, broadcast.
    Add,
    /// a - b, broadcast.
    Sub,
    /// a * b, broadcast.
    Mul,
    /// a / b, broadcast.
    Div,
    /// Matrix product over the last two dimensions.
    MatMul,
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// Limited: x, low, high; f32 or i64.
    Clip,
    /// Softmax over the last dimension.
    Softmax,
    /// Over the last dimension, with this epsilon: x, weight, bias.
    LayerNormalization(f32),
    /// Rows of a table along a dimension: table, numbers.
    Gather(i64),
    /// x with a new dimension of one: x, its place.
    Unsqueeze,
    /// Joined along a dimension.
    Concat(i64),
    /// x in another shape: x, shape; 0 keeps a dimension, -1 is what is left.
    Reshape,
    /// Dimensions in another order.
    Transpose(Vec<i64>),
    /// Place of the largest number in the last dimension, which stays with a size of 1; the first of several. i64.
    ArgMax,
    /// The same numbers in f32 or, rounded towards 0, in i64.
    Cast(DType),
}

impl Op {
    /// ONNX's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::MatMul => "MatMul",
            Self::Relu => "Relu",
            Self::Tanh => "Tanh",
            Self::Erf => "Erf",
            Self::Clip => "Clip",
            Self::Softmax => "Softmax",
            Self::LayerNormalization(_) => "LayerNormalization",
            Self::Gather(_) => "Gather",
            Self::Unsqueeze => "Unsqueeze",
            Self::Concat(_) => "Concat",
            Self::Reshape => "Reshape",
            Self::Transpose(_) => "Transpose",
            Self::ArgMax => "ArgMax",
            Self::Cast(_) => "Cast",
        }
    }
}

/// The name of a value in a graph.
pub type Value = String;

/// A value that is fed in: f32, or i64 for numbers of rows. The first dimension is the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: Value,
    /// Its dimensions after the batch.
    pub dims: Vec<usize>,
    /// F32 or I64.
    pub dtype: DType,
    /// What it is, in which units, for whoever feeds it.
    pub meaning: String,
}

/// An operation with the names of what goes in and comes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Its arguments.
    pub inputs: Vec<Value>,
    /// Its result.
    pub output: Value,
}

/// A network from inputs to one output.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// What is fed in.
    pub inputs: Vec<Input>,
    /// Parameters and other constants on the CPU, f32 or i64, in the order of their use.
    pub constants: Vec<(Value, Tensor)>,
    /// In an order in which they can be done.
    pub nodes: Vec<Node>,
    /// What comes out, and its dimensions after the batch.
    pub output: (Value, Vec<usize>),
    /// What the network does, and how it is used from step to step.
    pub meaning: String,
}

impl Graph {
    /// Declares an input and says what it means.
    pub fn input(&mut self, name: &str, dims: &[usize], dtype: DType, meaning: String) -> Value {
        self.inputs.push(Input {
            name: name.to_owned(),
            dims: dims.to_vec(),
            dtype,
            meaning,
        });
        name.to_owned()
    }

    /// Adds a constant, f32 or i64.
    ///
    /// # Errors
    /// If the device fails.
    pub fn constant(&mut self, name: &str, tensor: &Tensor) -> Result<Value> {
        if self.constants.iter().all(|(known, _)| known != name) {
            let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
            let dtype = match tensor.dtype() {
                DType::I64 => DType::I64,
                _ => DType::F32,
            };
            self.constants
                .push((name.to_owned(), tensor.to_dtype(dtype)?));
        }
        Ok(name.to_owned())
    }

    /// Adds a constant of whole numbers.
    ///
    /// # Errors
    /// If the device fails.
    pub fn integers(&mut self, values: &[i64]) -> Result<Value> {
        let name: Vec<String> = values.iter().map(i64::to_string).collect();
        let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
        self.constant(
            &format!("integers_{}", name.join("_").replace('-', "m")),
            &tensor,
        )
    }

    /// Adds a constant whole number.
    ///
    /// # Errors
    /// If the device fails.
    pub fn integer(&mut self, value: i64) -> Result<Value> {
        let tensor = Tensor::new(value, &Device::Cpu)?;
        self.constant(&format!("integer_{value}"), &tensor)
    }

    /// Adds a constant number.
    ///
    /// # Errors
    /// If the device fails.
    pub fn number(&mut self, value: f64) -> Result<Value> {
        let tensor = Tensor::new(value as f32, &Device::Cpu)?;
        self.constant(&format!("number_{value}"), &tensor)
    }

    /// Adds an operation; its result.
    pub fn node(&mut self, op: Op, inputs: &[&Value]) -> Value {
        let output = format!("{}_{}", op.name().to_lowercase(), self.nodes.len());
        self.nodes.push(Node {
            op,
            inputs: inputs.iter().map(|&name| name.clone()).collect(),
            output: output.clone(),
        });
        output
    }

    /// Makes a value the output, under this name.
    pub fn set_output(&mut self, name: &str, value: &Value, dims: &[usize]) {
        for node in &mut self.nodes {
            if node.output == *value {
                node.output = name.to_owned();
            }
        }
        self.output = (name.to_owned(), dims.to_vec());
    }

    /// What comes out when `inputs`, one per declared input, go in: the graph's own meaning, apart from any
    /// file.
    ///
    /// # Errors
    /// If shapes or names don't fit.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let mut values: HashMap<&str, Tensor> = HashMap::new();
        let declared = self.inputs.iter().map(|input| input.name.as_str());
        values.extend(declared.zip(inputs.iter().cloned()));
        let constants = self.constants.iter();
        values.extend(constants.map(|(name, tensor)| (name.as_str(), tensor.clone())));
        let unknown = |name: &str| Error::Internal(format!("the graph has no value `{name}`"));
        for node in &self.nodes {
            let arguments = node.inputs.iter().map(|name| {
                let value = values.get(name.as_str());
                value.cloned().ok_or_else(|| unknown(name))
            });
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            let result = apply(&node.op, &arguments)?;
            values.insert(&node.output, result);
        }
        let output = values.remove(self.output.0.as_str());
        output.ok_or_else(|| unknown(&self.output.0))
    }
}

fn apply(op: &Op, x: &[Tensor]) -> Result<Tensor> {
    let axis = |axis: i64| axis as usize;
    Ok(match op {
        Op::Add => x[0].broadcast_add(&x[1])?,
        Op::Sub => x[0].broadcast_sub(&x[1])?,
        Op::Mul => x[0].broadcast_mul(&x[1])?,
        Op::Div => x[0].broadcast_div(&x[1])?,
        Op::MatMul => x[0].contiguous()?.broadcast_matmul(&x[1].contiguous()?)?,
        Op::Relu => x[0].maximum(&x[0].zeros_like()?)?,
        Op::Tanh => x[0].tanh()?,
        Op::Erf => x[0].erf()?,
        Op::Clip => x[0].broadcast_maximum(&x[1])?.broadcast_minimum(&x[2])?,
        Op::Softmax => {
            let shifted = x[0].broadcast_sub(&x[0].max_keepdim(D::Minus1)?)?.exp()?;
            shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?
        }
        Op::LayerNormalization(epsilon) => {
            let centered = x[0].broadcast_sub(&x[0].mean_keepdim(D::Minus1)?)?;
            let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
            let deviation = (variance + f64::from(*epsilon))?.sqrt()?;
            let normal = centered.broadcast_div(&deviation)?;
            normal.broadcast_mul(&x[1])?.broadcast_add(&x[2])?
        }
        Op::Gather(dim) => {
            let (numbers, shape) = (x[1].flatten_all()?, x[1].dims());
            let rows = x[0].index_select(&numbers.to_dtype(DType::U32)?, axis(*dim))?;
            let before = &x[0].dims()[..axis(*dim)];
            let after = &x[0].dims()[axis(*dim) + 1..];
            rows.reshape([before, shape, after].concat())?
        }
        Op::Unsqueeze => x[0].unsqueeze(axis(whole(&x[1])?[0]))?,
        Op::Concat(dim) => Tensor::cat(x, axis(*dim))?,
        Op::Reshape => {
            let dims = x[0].dims();
            let wanted = whole(&x[1])?;
            let known = |(i, &size): (usize, &i64)| match size {
                0 => dims[i],
                -1 => 1,
                size => size as usize,
            };
            let mut shape: Vec<usize> = wanted.iter().enumerate().map(known).collect();
            if let Some(free) = wanted.iter().position(|&size| size == -1) {
                shape[free] = x[0].elem_count() / shape.iter().product::<usize>();
            }
            x[0].reshape(shape)?
        }
        Op::Transpose(order) => {
            let order: Vec<usize> = order.iter().map(|&dim| axis(dim)).collect();
            x[0].permute(order)?.contiguous()?
        }
        Op::ArgMax => x[0].argmax_keepdim(D::Minus1)?.to_dtype(DType::I64)?,
        Op::Cast(dtype) => x[0].to_dtype(*dtype)?,
    })
}

fn whole(tensor: &Tensor) -> Result<Vec<i64>> {
    Ok(tensor.to_vec1::<i64>()?)
}
