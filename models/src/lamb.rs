//! [`Lamb`]: Adam's direction with a length in proportion to each parameter's own.
//!
//! You et al. 2020, <https://arxiv.org/abs/1904.00962>; the formulas of the PyTorch code that sequence models' authors copied
//! (`lamb.py` of Dragon-Zhuang/Reinformer @ 61eaed9 and facebookresearch/online-dt @ c376fa1, after NVIDIA's FusedLamb).

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use crate::error::{Error, Result};
use crate::params::{Params, Slot, StateVisitor};

/// Settings of [`Lamb`]; the learning rate is given at every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LambConfig {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Times the parameter, added to Adam's direction. With 0 steps are Adam's: their length is not adapted then.
    pub weight_decay: f64,
    /// Gradients are first scaled down to this global norm if theirs is larger, as `clip_grad_norm_` does.
    pub clip_norm: Option<f64>,
    /// The optimiser's own limit of the norm, after that.
    pub most_norm: f64,
}

impl Default for LambConfig {
    /// The authors': betas 0.9 and 0.999, epsilon 1e-8, no decay, no clipping but the optimiser's own at norm 1.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: None,
            most_norm: 1.0,
        }
    }
}

/// What PyTorch's `clip_grad_norm_` adds to the norm before dividing.
const CLIP_EPSILON: f64 = 1e-6;

/// LAMB over the trainable parameters of [`Params`].
#[derive(Debug)]
pub struct Lamb {
    config: LambConfig,
    parameters: Vec<Parameter>,
    steps: u64,
}

/// A parameter and its moments.
#[derive(Debug)]
struct Parameter {
    name: String,
    slot: Slot,
    first: Slot,
    second: Slot,
}

impl Lamb {
    /// For the trainable parameters of `params`.
    ///
    /// # Errors
    /// If a setting is out of range or the device fails.
    pub fn new(params: &Params, config: LambConfig) -> Result<Self> {
        let betas_fit = [config.beta1, config.beta2]
            .iter()
            .all(|b| (0.0..1.0).contains(b));
        if !betas_fit || config.clip_norm.is_some_and(|norm| norm <= 0.0) || config.most_norm <= 0.0
        {
            let reason = format!("betas must lie in [0, 1) and norms be positive: {config:?}");
            return Err(Error::Config {
                what: "Lamb",
                reason,
            });
        }
        let parameter = |param: &crate::params::Param| -> Result<Parameter> {
            let zeros = || -> Result<Slot> {
                let shape = param.slot.shape().clone();
                let zeros = Var::zeros(&shape, param.slot.dtype(), param.slot.device())?;
                Slot::part(&zeros, 0, shape)
            };
            Ok(Parameter {
                name: param.name.clone(),
                slot: param.slot.clone(),
                first: zeros()?,
                second: zeros()?,
            })
        };
        let trained = params.iter().filter(|param| param.trainable);
        Ok(Self {
            config,
            parameters: trained.map(parameter).collect::<Result<_>>()?,
            steps: 0,
        })
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step with this learning rate. Parameters without a gradient stay as they are. Returns the global norm of the gradients
    /// before clipping, a scalar on the device.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64) -> Result<Option<Tensor>> {
        self.steps += 1;
        let mut found = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            if let Some(gradient) = parameter.slot.gradient(gradients)? {
                found.push((parameter, gradient.detach()));
            }
        }
        let squares = |x: &Tensor| x.to_dtype(sum_type(x))?.sqr()?.sum_all();
        let sums = found.iter().map(|(_, gradient)| squares(gradient));
        let sums = sums.collect::<candle_core::Result<Vec<_>>>()?;
        if sums.is_empty() {
            return Ok(None);
        }
        let norm = Tensor::stack(&sums, 0)?.sum_all()?.sqrt()?;
        let mut scale = norm.ones_like()?;
        if let Some(limit) = self.config.clip_norm {
            scale = ((&norm + CLIP_EPSILON)?.recip()? * limit)?.minimum(1.0)?;
        }
        let left = (&norm * &scale)?;
        let scale = (scale / (left / self.config.most_norm)?.maximum(1.0)?)?;
        for (parameter, gradient) in found {
            let scale = scale.to_dtype(gradient.dtype())?;
            self.step_one(parameter, &gradient.broadcast_mul(&scale)?, learning_rate)?;
        }
        Ok(Some(norm))
    }

    fn step_one(&self, parameter: &Parameter, gradient: &Tensor, rate: f64) -> Result<()> {
        let LambConfig {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            ..
        } = self.config;
        let steps = self.steps as f64;
        let first = ((parameter.first.tensor()? * beta1)? + (gradient * (1.0 - beta1))?)?;
        let second = ((parameter.second.tensor()? * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let root = (second.sqrt()? * (1.0 / (1.0 - beta2.powf(steps)).sqrt()))?;
        let mut update = ((&first * (1.0 / (1.0 - beta1.powf(steps))))? / (root + epsilon)?)?;
        let value = parameter.slot.tensor()?;
        if weight_decay != 0.0 {
            update = (update + (&value * weight_decay)?)?;
            let norm = |x: &Tensor| x.to_dtype(sum_type(x))?.sqr()?.sum_all()?.sqrt();
            let (own, step) = (norm(&value)?, norm(&update)?);
            // 1 where either norm is 0.
            let known = (own.gt(0.0)? * step.gt(0.0)?)?.to_dtype(own.dtype())?;
            let ratio = (own / step.maximum(f64::from(f32::MIN_POSITIVE))?)?;
            let ratio = ((ratio * &known)? + (1.0 - known)?)?.to_dtype(update.dtype())?;
            update = update.broadcast_mul(&ratio)?;
        }
        parameter.slot.set(&(value - (update * rate)?)?)?;
        parameter.first.set(&first)?;
        parameter.second.set(&second)
    }

    /// Shows moments and step counter: `{prefix}first.NAME`, `{prefix}second.NAME` and `{prefix}steps`, as Adam's.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        for parameter in &self.parameters {
            visitor.tensor(
                &format!("{prefix}first.{}", parameter.name),
                &parameter.first,
            )?;
            visitor.tensor(
                &format!("{prefix}second.{}", parameter.name),
                &parameter.second,
            )?;
        }
        visitor.counter(&format!("{prefix}steps"), &mut self.steps)
    }
}

/// The type that squares are summed in.
fn sum_type(x: &Tensor) -> DType {
    match x.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}
