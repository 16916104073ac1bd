//! Adam and AdamW over [`Params`], gradient clipping, learning-rate schedules and Polyak averaging.
//!
//! Formulas are PyTorch's (torch/optim/adam.py, adamw.py, nn/utils/clip_grad.py). The whole state
//! can be saved and restored exactly.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::kernels::adam::{self, AdamNumbers};
use crate::kernels::switch::Kernel;
use crate::params::{Param, Params, Slot, StateVisitor};

/// How weights decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightDecay {
    /// AdamW: the parameter shrinks by rate times decay before the step (Loshchilov and Hutter 2019).
    Decoupled,
    /// Adam: decay times the parameter is added to the gradient.
    Regularization,
}

/// Settings of [`Adam`]; the learning rate is given at every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConfig {
    /// Decay of the first moment, in [0, 1); 0.9.
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1); 0.999 (0.95 in the Trajectory Transformer).
    pub beta2: f64,
    /// Added to the root of the second moment; 1e-8.
    pub epsilon: f64,
    /// How weights decay, if they do.
    pub weight_decay: WeightDecay,
    /// Gradients are scaled down to this global norm if theirs is larger; `None` for no clipping.
    pub clip_norm: Option<f64>,
}

impl Default for AdamConfig {
    /// PyTorch's defaults, decoupled decay, no clipping.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: WeightDecay::Decoupled,
            clip_norm: None,
        }
    }
}

/// What one parameter gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParamGroup {
    /// Weight decay; 0 for none.
    pub decay: f64,
    /// Factor of the learning rate; 1 for the plain rate.
    pub rate_scale: f64,
}

impl ParamGroup {
    /// The plain learning rate and this weight decay.
    pub fn decay(decay: f64) -> Self {
        Self {
            decay,
            rate_scale: 1.0,
        }
    }
}

/// Adam (Kingma and Ba 2015) or AdamW.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    variables: Vec<Variable>,
    steps: u64,
}

/// A variable, which may hold several parameters, and its moments.
#[derive(Debug)]
pub(crate) struct Variable {
    parameter: Var,
    first: Var,
    second: Var,
    /// Names of the parameters in it, first element, shape.
    members: Vec<(String, Slot)>,
    /// What parts of it get, in their order.
    parts: Vec<(Range<usize>, ParamGroup)>,
}

impl Variable {
    fn new(param: &Param) -> Result<Self> {
        let parameter = param.slot.var().clone();
        Ok(Self {
            first: Var::from_tensor(&parameter.zeros_like()?)?,
            second: Var::from_tensor(&parameter.zeros_like()?)?,
            parameter,
            members: Vec::new(),
            parts: Vec::new(),
        })
    }

    fn add(&mut self, param: &Param, group: ParamGroup) {
        self.members.push((param.name.clone(), param.slot.clone()));
        let start = param.slot.start();
        let end = start + param.slot.elem_count();
        match self.parts.last_mut() {
            Some((range, last)) if *last == group && range.end == start => range.end = end,
            _ => self.parts.push((start..end, group)),
        }
    }

    /// A part of the parameter, the moments or the gradient.
    fn part(&self, of: &Tensor, range: &Range<usize>) -> candle_core::Result<Tensor> {
        if range.len() == of.elem_count() {
            Ok(of.clone())
        } else {
            of.narrow(0, range.start, range.len())
        }
    }
}

impl Adam {
    /// For the trainable parameters of `params`, each with the group that `group` gives its name.
    ///
    /// # Errors
    /// If a setting is out of range or the device fails.
    pub fn new(
        params: &Params,
        config: AdamConfig,
        group: impl Fn(&str) -> ParamGroup,
    ) -> Result<Self> {
        Self::for_some(params, config, group, |_| true)
    }

    /// [`Self::new`] for the parameters whose names `chosen` picks; those of one variable are chosen together.
    pub(crate) fn for_some(
        params: &Params,
        config: AdamConfig,
        group: impl Fn(&str) -> ParamGroup,
        chosen: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let betas_fit = [config.beta1, config.beta2]
            .iter()
            .all(|b| (0.0..1.0).contains(b));
        if !betas_fit || config.clip_norm.is_some_and(|norm| norm <= 0.0) {
            let reason = format!("betas must lie in [0, 1) and clip_norm be positive: {config:?}");
            return Err(Error::Config {
                what: "Adam",
                reason,
            });
        }
        let mut variables: Vec<Variable> = Vec::new();
        for param in params.iter().filter(|p| p.trainable && chosen(&p.name)) {
            let last = variables.last().map(|v| v.parameter.id());
            if last != Some(param.slot.var().id()) {
                variables.push(Variable::new(param)?);
            }
            if let Some(variable) = variables.last_mut() {
                variable.add(param, group(&param.name));
            }
        }
        Ok(Self {
            config,
            variables,
            steps: 0,
        })
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step with this learning rate. Parameters without a gradient stay as they are.
    ///
    /// Returns the global norm of the gradients before clipping (a scalar, still on the device) if
    /// the configuration asks for clipping.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64) -> Result<Option<Tensor>> {
        self.count_step();
        let found = self.found(gradients);
        let on_cpu = found
            .iter()
            .all(|(variable, _)| Kernel::Adam.takes(&variable.parameter));
        if on_cpu {
            self.step_on_cpu(&found, learning_rate)
        } else {
            self.step_composed(&found, learning_rate)
        }
    }

    /// Says that a step begins.
    pub(crate) fn count_step(&mut self) {
        self.steps += 1;
    }

    /// The variables that have gradients, with them.
    pub(crate) fn found<'a>(&'a self, gradients: &'a GradStore) -> Vec<(&'a Variable, &'a Tensor)> {
        let variables = self.variables.iter();
        variables
            .filter_map(|variable| Some((variable, gradients.get(&variable.parameter)?)))
            .collect()
    }

    fn step_on_cpu(&self, found: &[(&Variable, &Tensor)], rate: f64) -> Result<Option<Tensor>> {
        let gradients: Vec<&Tensor> = found.iter().map(|(_, gradient)| *gradient).collect();
        let (scale, norm) = clip_on_cpu(&gradients, self.config.clip_norm)?;
        self.apply_on_cpu(found, scale, rate)?;
        Ok(norm)
    }

    /// Steps with gradients times `scale`.
    pub(crate) fn apply_on_cpu(
        &self,
        found: &[(&Variable, &Tensor)],
        scale: f64,
        rate: f64,
    ) -> Result<()> {
        for (variable, gradient) in found {
            for (range, group) in &variable.parts {
                let numbers = AdamNumbers {
                    gradient_scale: scale,
                    ..self.numbers(*group, rate)
                };
                adam::step(
                    &variable.part(&variable.parameter, range)?,
                    &variable.part(&variable.first, range)?,
                    &variable.part(&variable.second, range)?,
                    &variable.part(gradient, range)?,
                    numbers,
                )?;
            }
        }
        Ok(())
    }

    /// The slow twin: plain tensor operations, for every device; reads nothing back.
    fn step_composed(&self, found: &[(&Variable, &Tensor)], rate: f64) -> Result<Option<Tensor>> {
        let gradients: Vec<&Tensor> = found.iter().map(|(_, gradient)| *gradient).collect();
        let (scale, norm) = clip_composed(&gradients, self.config.clip_norm)?;
        self.apply_composed(found, scale.as_ref(), rate)?;
        Ok(norm)
    }

    /// Steps with gradients times `scale`, on every device.
    pub(crate) fn apply_composed(
        &self,
        found: &[(&Variable, &Tensor)],
        scale: Option<&Tensor>,
        rate: f64,
    ) -> Result<()> {
        for (variable, gradient) in found {
            let gradient = match scale {
                Some(scale) => gradient.broadcast_mul(&scale.to_dtype(gradient.dtype())?)?,
                None => (*gradient).clone(),
            };
            for (range, group) in &variable.parts {
                let gradient = variable.part(&gradient, range)?;
                self.step_composed_part(variable, (range, *group), &gradient, rate)?;
            }
        }
        Ok(())
    }

    fn step_composed_part(
        &self,
        variable: &Variable,
        (range, group): (&Range<usize>, ParamGroup),
        gradient: &Tensor,
        rate: f64,
    ) -> Result<()> {
        let numbers = self.numbers(group, rate);
        let slot = |var: &Var| Slot::part(var, range.start, gradient.shape().clone());
        let (to, to_first, to_second) = (
            slot(&variable.parameter)?,
            slot(&variable.first)?,
            slot(&variable.second)?,
        );
        let parameter = to.tensor()?;
        let mut gradient = gradient.detach();
        if numbers.regularization != 0.0 {
            gradient = (gradient + (&parameter * numbers.regularization)?)?;
        }
        let first = ((to_first.tensor()? * numbers.beta1)? + (&gradient * (1.0 - numbers.beta1))?)?;
        let second =
            ((to_second.tensor()? * numbers.beta2)? + (gradient.sqr()? * (1.0 - numbers.beta2))?)?;
        let root = ((second.sqrt()? * (1.0 / numbers.root_correction))? + numbers.epsilon)?;
        let change = ((&first * numbers.step_size)? / root)?;
        to.set(&((parameter * numbers.shrink)? - change)?)?;
        to_first.set(&first)?;
        to_second.set(&second)
    }

    fn numbers(&self, group: ParamGroup, rate: f64) -> AdamNumbers {
        let rate = rate * group.rate_scale;
        let steps = self.steps as f64;
        let (shrink, regularization) = match self.config.weight_decay {
            WeightDecay::Decoupled => (1.0 - rate * group.decay, 0.0),
            WeightDecay::Regularization => (1.0, group.decay),
        };
        AdamNumbers {
            shrink,
            regularization,
            gradient_scale: 1.0,
            beta1: self.config.beta1,
            beta2: self.config.beta2,
            step_size: rate / (1.0 - self.config.beta1.powf(steps)),
            root_correction: (1.0 - self.config.beta2.powf(steps)).sqrt(),
            epsilon: self.config.epsilon,
        }
    }

    /// Shows moments and step counter to `visitor`: `{prefix}first.NAME`, `{prefix}second.NAME` and
    /// `{prefix}steps`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        for variable in &self.variables {
            for (name, slot) in &variable.members {
                let of = |var| Slot::part(var, slot.start(), slot.shape().clone());
                visitor.tensor(&format!("{prefix}first.{name}"), &of(&variable.first)?)?;
                visitor.tensor(&format!("{prefix}second.{name}"), &of(&variable.second)?)?;
            }
        }
        visitor.counter(&format!("{prefix}steps"), &mut self.steps)
    }
}

/// PyTorch's `clip_grad_norm_` adds this to the norm before dividing.
const CLIP_EPSILON: f64 = 1e-6;

/// The global norm of the gradients of `params`, a scalar on their device, as clipping would have it; nothing is read back.
///
/// # Errors
/// If a tensor operation fails.
pub fn gradient_norm(params: &Params, gradients: &GradStore) -> Result<Tensor> {
    let mut found: Vec<&Tensor> = Vec::new();
    let mut last = None;
    for param in params.iter().filter(|param| param.trainable) {
        let var = param.slot.var();
        // Parameters of one variable have one gradient.
        if last.replace(var.id()) != Some(var.id()) {
            found.extend(gradients.get(var));
        }
    }
    let on_cpu = found.iter().all(|gradient| gradient.device().is_cpu());
    if on_cpu {
        return norm_on_cpu(&found);
    }
    match norm_composed(&found)? {
        Some(norm) => Ok(norm),
        None => Ok(Tensor::new(0.0, &candle_core::Device::Cpu)?),
    }
}

fn norm_on_cpu(gradients: &[&Tensor]) -> Result<Tensor> {
    let mut sum = 0.0;
    for gradient in gradients {
        sum += adam::sum_of_squares(gradient)?;
    }
    Ok(Tensor::new(sum.sqrt(), &candle_core::Device::Cpu)?)
}

fn norm_composed(gradients: &[&Tensor]) -> Result<Option<Tensor>> {
    if gradients.is_empty() {
        return Ok(None);
    }
    let squares = gradients
        .iter()
        .map(|gradient| match gradient.dtype() {
            DType::F64 => gradient.sqr()?.sum_all(),
            _ => gradient.to_dtype(DType::F32)?.sqr()?.sum_all(),
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Some(Tensor::stack(&squares, 0)?.sum_all()?.sqrt()?))
}

/// What gradients on the CPU are multiplied by so that their global norm is at most `limit`, and the norm if there is a limit.
pub(crate) fn clip_on_cpu(
    gradients: &[&Tensor],
    limit: Option<f64>,
) -> Result<(f64, Option<Tensor>)> {
    let Some(limit) = limit else {
        return Ok((1.0, None));
    };
    let mut sum = 0.0;
    for gradient in gradients {
        sum += adam::sum_of_squares(gradient)?;
    }
    let norm = Tensor::new(sum.sqrt(), &candle_core::Device::Cpu)?;
    Ok(((limit / (sum.sqrt() + CLIP_EPSILON)).min(1.0), Some(norm)))
}

/// [`clip_on_cpu`] for every device: both are scalars on it.
pub(crate) fn clip_composed(
    gradients: &[&Tensor],
    limit: Option<f64>,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let Some(limit) = limit else {
        return Ok((None, None));
    };
    let Some(total) = norm_composed(gradients)? else {
        return Ok((None, None));
    };
    let scale = ((&total + CLIP_EPSILON)?.recip()? * limit)?.clamp(0.0, 1.0)?;
    Ok((Some(scale), Some(total)))
}

/// target <- (1 - rate) * target + rate * online for every parameter, in place.
///
/// # Errors
/// If `online` lacks a parameter of `target` or a shape differs.
pub fn polyak_update(target: &Params, online: &Params, rate: f64) -> Result<()> {
    for param in target.iter() {
        let expected = param.slot.dims().to_vec();
        let source = online
            .get(&param.name)
            .ok_or_else(|| Error::MissingTensor {
                name: param.name.clone(),
                expected: expected.clone(),
            })?;
        if source.slot.dims() != expected || source.slot.start() != param.slot.start() {
            return Err(Error::TensorShape {
                name: param.name.clone(),
                found: source.slot.dims().to_vec(),
                expected,
            });
        }
        // One step for all parameters of a variable, at its first.
        if param.slot.start() > 0 {
            continue;
        }
        let (var, source) = (param.slot.var(), source.slot.var());
        if Kernel::Polyak.takes(var) {
            adam::polyak(var, source, rate)?;
        } else {
            let kept = (var.as_detached_tensor() * (1.0 - rate))?;
            var.set(&(kept + (source.as_detached_tensor() * rate)?)?)?;
        }
    }
    Ok(())
}

/// Learning-rate schedule: each update's factor of the rate. Below, n is the number of the update, from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// Linear warm-up, then constant: min(n / length, 1). So it is 1 / length at the first update, and 1 from the update of number
    /// `length` on. The Decision Transformer's.
    Warmup {
        /// Updates of the warm-up; 0 and 1 are none.
        length: u64,
    },
    /// Linear warm-up, then a half cosine: n / warmup as long as n is below `warmup`; then
    /// (1 + cos(π (n - warmup) / (end - warmup))) / 2, at least `floor`. So it is 1 / warmup at the first update, 1 at the update
    /// of number `warmup`, and `floor` from the update of number `end` on.
    WarmupCosine {
        /// Number of the update that ends the warm-up with the whole rate; with 0 the first update is a step down the cosine.
        warmup: u64,
        /// Number of the update where the cosine reaches its minimum; after `warmup`.
        end: u64,
        /// Smallest factor of the cosine; 0.1 in the Trajectory Transformer.
        floor: f64,
    },
    /// [`Self::WarmupCosine`] without an end: as there up to the update of number `end`, after which the cosine climbs again, to 1
    /// at number 2 end - warmup, as in the code of the Trajectory Transformer's authors (trajectory/utils/training.py).
    WarmupCosineUnclamped {
        /// Number of the update that ends the warm-up with the whole rate; with 0 the first update is a step down the cosine.
        warmup: u64,
        /// Number of the update where the cosine reaches its first minimum; after `warmup`.
        end: u64,
        /// Smallest factor of the cosine.
        floor: f64,
    },
    /// Linear warm-up, the whole rate, and a linear decay to nothing at the end: n / warmup as long as n is below `warmup`; then the
    /// smaller one of 1 and (end + 1 - n) / decay. So it is 1 / decay at the update of number `end`, and 0 after it. Warm-up, stable,
    /// decay (Hu et al. 2024, MiniCPM, <https://arxiv.org/abs/2404.06395>), with the linear decay of modded-nanogpt.
    WarmupStableDecay {
        /// Number of the update that ends the warm-up with the whole rate; 0 and 1 are none.
        warmup: u64,
        /// Number of the last update.
        end: u64,
        /// Updates of the decay; 0: none.
        decay: u64,
    },
}

impl Schedule {
    /// The factor of the next update's learning rate. `completed` is the number of updates that were made before it: 0 for the
    /// first update, so that a warm-up's first factor is not 0.
    pub fn factor(&self, completed: u64) -> f64 {
        let number = completed.saturating_add(1);
        match *self {
            Self::Constant => 1.0,
            Self::Warmup { length } => (number as f64 / length.max(1) as f64).min(1.0),
            Self::WarmupCosine { warmup, .. }
            | Self::WarmupCosineUnclamped { warmup, .. }
            | Self::WarmupStableDecay { warmup, .. }
                if number < warmup =>
            {
                number as f64 / warmup as f64
            }
            Self::WarmupCosine { warmup, end, floor } => {
                cosine(cosine_progress(number, warmup, end).min(1.0), floor)
            }
            Self::WarmupCosineUnclamped { warmup, end, floor } => {
                cosine(cosine_progress(number, warmup, end), floor)
            }
            Self::WarmupStableDecay { end, decay, .. } => {
                let left = end.saturating_add(1).saturating_sub(number);
                (left as f64 / decay.max(1) as f64).min(1.0)
            }
        }
    }
}

fn cosine_progress(number: u64, warmup: u64, end: u64) -> f64 {
    (number - warmup) as f64 / end.saturating_sub(warmup).max(1) as f64
}

fn cosine(progress: f64, floor: f64) -> f64 {
    (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Init;
    use crate::rng::Rng;
    use candle_core::Device;

    /// Two parameters with variables of their own, and two that share one.
    fn parameters(dtype: DType) -> Result<Params> {
        let mut params = Params::new(dtype, &Device::Cpu);
        let rng = &mut Rng::from_seed(2);
        for (name, size) in [("a.weight", 40_000), ("b.bias", 3)] {
            params.insert(name, &rng.normal_tensor(size, dtype, &Device::Cpu)?, true)?;
        }
        let mut scope = params.init(rng);
        scope.shared(|scope| {
            scope.param("c.weight", (70, 30), Init::Normal(1.0).fill())?;
            scope.param("c.bias", 30, Init::Normal(1.0).fill())
        })?;
        Ok(params)
    }

    fn gradients(params: &Params, rng: &mut Rng) -> Result<GradStore> {
        let mut store = GradStore::default();
        for param in params.iter().filter(|param| param.slot.start() == 0) {
            let var = param.slot.var();
            let gradient = rng.normal_tensor(var.shape(), params.dtype(), &Device::Cpu)?;
            store.insert(var, gradient);
        }
        Ok(store)
    }

    fn largest_difference(a: &Params, b: &Params) -> Result<f64> {
        let mut largest = 0f64;
        for (x, y) in a.iter().zip(b.iter()) {
            let difference = (x.slot.tensor()? - y.slot.tensor()?)?.abs()?.max_all()?;
            largest = largest.max(difference.to_dtype(DType::F64)?.to_scalar::<f64>()?);
        }
        Ok(largest)
    }

    #[test]
    fn the_fused_step_equals_plain_tensor_operations() -> Result<()> {
        // One rounding error of numbers around 1 for each of five steps.
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14)] {
            for weight_decay in [WeightDecay::Decoupled, WeightDecay::Regularization] {
                let config = AdamConfig {
                    weight_decay,
                    clip_norm: Some(100.0),
                    ..AdamConfig::default()
                };
                let group = |name: &str| {
                    if name.ends_with("weight") {
                        ParamGroup::decay(0.1)
                    } else {
                        ParamGroup {
                            decay: 0.0,
                            rate_scale: 0.5,
                        }
                    }
                };
                let (fast, slow) = (parameters(dtype)?, parameters(dtype)?);
                let mut fast_adam = Adam::new(&fast, config, group)?;
                let mut slow_adam = Adam::new(&slow, config, group)?;
                for seed in 0..5 {
                    fast_adam.step(&gradients(&fast, &mut Rng::from_seed(seed))?, 1e-2)?;
                    let store = gradients(&slow, &mut Rng::from_seed(seed))?;
                    slow_adam.steps += 1;
                    let found: Vec<(&Variable, &Tensor)> = slow_adam
                        .variables
                        .iter()
                        .filter_map(|v| Some((v, store.get(&v.parameter)?)))
                        .collect();
                    slow_adam.step_composed(&found, 1e-2)?;
                }
                let difference = largest_difference(&fast, &slow)?;
                assert!(
                    difference < tolerance,
                    "{dtype:?} {weight_decay:?}: {difference}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn one_step_follows_the_formula_by_hand() -> Result<()> {
        let mut params = Params::new(DType::F64, &Device::Cpu);
        params.insert("x", &Tensor::new(&[2.0f64], &Device::Cpu)?, true)?;
        let mut adam = Adam::new(&params, AdamConfig::default(), |_| ParamGroup::decay(0.5))?;
        let x = params.get("x").expect("just inserted").slot.var();
        let mut store = GradStore::default();
        store.insert(x, Tensor::new(&[-3.0f64], &Device::Cpu)?);
        adam.step(&store, 0.1)?;
        // The first step is the rate times the gradient's sign, after shrinking by 1 - 0.05.
        let expected = 2.0 * 0.95 + 0.1 * 3.0 / (3.0 + 1e-8);
        assert!((x.get(0)?.to_scalar::<f64>()? - expected).abs() < 1e-15);
        Ok(())
    }

    #[test]
    fn the_norm_of_gradients_is_the_one_that_is_clipped_and_counts_a_shared_variable_once()
    -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let params = parameters(dtype)?;
            let store = gradients(&params, &mut Rng::from_seed(4))?;
            let clipped = AdamConfig {
                clip_norm: Some(1.0),
                ..AdamConfig::default()
            };
            let found = gradient_norm(&params, &store)?;
            let mut adam = Adam::new(&params, clipped, |_| ParamGroup::decay(0.0))?;
            let expected = adam.step(&store, 1e-2)?.expect("it clips");
            let number = |of: &Tensor| of.to_dtype(DType::F64)?.to_scalar::<f64>();
            assert_eq!(number(&found)?, number(&expected)?, "{dtype:?}");
            assert!(number(&found)? > 0.0);
            let found: Vec<&Tensor> = adam.found(&store).into_iter().map(|(_, g)| g).collect();
            let composed = norm_composed(&found)?.expect("some");
            assert!((number(&composed)? / number(&expected)? - 1.0).abs() < 1e-5);
        }
        Ok(())
    }

    #[test]
    fn polyak_moves_the_target_by_the_rate() -> Result<()> {
        let (target, online) = (parameters(DType::F64)?, parameters(DType::F64)?);
        for param in online.iter() {
            param.slot.set(&(param.slot.tensor()? + 1.0)?)?;
        }
        let before = target.deep_copy(false)?;
        polyak_update(&target, &online, 0.25)?;
        assert!((largest_difference(&target, &before)? - 0.25).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn schedules_warm_up_and_come_down() {
        let warmup = Schedule::Warmup { length: 4 };
        assert_eq!(
            [0, 1, 3, 9].map(|completed| warmup.factor(completed)),
            [0.25, 0.5, 1.0, 1.0]
        );
        assert_eq!(Schedule::Warmup { length: 0 }.factor(0), 1.0);
        let (warmup, end, floor) = (10, 30, 0.1);
        let clamped = Schedule::WarmupCosine { warmup, end, floor };
        let unclamped = Schedule::WarmupCosineUnclamped { warmup, end, floor };
        for schedule in [clamped, unclamped] {
            assert_eq!(
                [0, 4, 9, 29].map(|completed| schedule.factor(completed)),
                [0.1, 0.5, 1.0, 0.1]
            );
            assert!((schedule.factor(19) - 0.5).abs() < 1e-15);
        }
        assert_eq!(clamped.factor(49), 0.1);
        assert!((unclamped.factor(49) - 1.0).abs() < 1e-15);
        let stable = Schedule::WarmupStableDecay {
            warmup: 4,
            end: 20,
            decay: 5,
        };
        assert_eq!(
            [0, 1, 3, 10, 15, 16, 19, 20, 30].map(|completed| stable.factor(completed)),
            [0.25, 0.5, 1.0, 1.0, 1.0, 0.8, 0.2, 0.0, 0.0]
        );
        // Without a warm-up the first update is one step down the cosine.
        let (warmup, end) = (0, 2);
        let falling = Schedule::WarmupCosine { warmup, end, floor };
        assert!((falling.factor(0) - 0.5).abs() < 1e-15);
        assert_eq!(falling.factor(u64::MAX), 0.1);
    }
}
