//! [`Muon`]: momentum whose steps are orthogonalised, for the matrices of a network, with AdamW for everything else.
//!
//! Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>; code KellerJordan/Muon @ 857d1ad (`muon.py`). With the gradient G
//! of a matrix W (rows are outputs):
//!
//! ```text
//! M <- momentum M + (1 - momentum) G
//! U  = orthogonal(momentum M + (1 - momentum) G)     five Newton-Schulz iterations, Nesterov's form
//! W <- (1 - rate decay) W - rate √max(1, rows / columns) U
//! ```
//!
//! Deviation: the iterations are computed in the type of the parameters, where the authors round to bf16.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Tensor, Var};

use crate::error::{Error, Result};
use crate::kernels::orthogonal::{NORM_EPSILON, QUINTIC, orthogonalize};
use crate::kernels::parallel;
use crate::kernels::real::Real;
use crate::kernels::storage::{with_slice, with_slice_mut};
use crate::kernels::switch::Kernel;
use crate::optim::{Adam, AdamConfig, ParamGroup, clip_composed, clip_on_cpu};
use crate::params::{Params, Slot, StateVisitor};

/// Newton-Schulz iterations of a step.
const ITERATIONS: usize = 5;

/// Settings of [`Muon`] for matrices; those of the rest are [`AdamConfig`]'s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonConfig {
    /// Decay of the momentum, in [0, 1); 0.95.
    pub momentum: f64,
    /// Decoupled weight decay; 0 in the authors' defaults.
    pub weight_decay: f64,
    /// The rate of matrices over that of the rest, which a step is given; the authors' is 0.02 over 0.0003.
    pub rate_scale: f64,
}

/// Muon for some matrices of a network, AdamW for its other parameters. Gradients of all are clipped together, if at all.
#[derive(Debug)]
pub struct Muon {
    adam: Adam,
    matrices: Vec<Matrix>,
    config: MuonConfig,
    clip_norm: Option<f64>,
}

#[derive(Debug)]
struct Matrix {
    name: String,
    slot: Slot,
    momentum: Var,
}

impl Muon {
    /// For the trainable parameters of `params`: Muon for those whose names `is_matrix` picks, Adam with the group that `group` gives
    /// for the others.
    ///
    /// # Errors
    /// If a setting is out of range, or a parameter that is picked is no matrix, shares its variable with others, or there is none.
    pub fn new(
        params: &Params,
        (adam, config): (AdamConfig, MuonConfig),
        group: impl Fn(&str) -> ParamGroup,
        is_matrix: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let wrong = |reason: String| Error::Config {
            what: "Muon",
            reason,
        };
        let MuonConfig {
            momentum,
            weight_decay,
            rate_scale,
        } = config;
        let fits = (0.0..1.0).contains(&momentum) && weight_decay >= 0.0 && rate_scale > 0.0;
        if !fits {
            return Err(wrong(format!(
                "momentum must lie in [0, 1), weight_decay be 0 or more and rate_scale positive: {config:?}"
            )));
        }
        let mut matrices = Vec::new();
        for param in params.iter().filter(|p| p.trainable && is_matrix(&p.name)) {
            let (slot, name) = (&param.slot, &param.name);
            if slot.dims().len() != 2 || slot.var().elem_count() != slot.elem_count() {
                return Err(wrong(format!(
                    "`{name}` is no matrix in a variable of its own: {:?}",
                    slot.dims()
                )));
            }
            matrices.push(Matrix {
                name: name.clone(),
                momentum: Var::from_tensor(&slot.tensor()?.zeros_like()?)?,
                slot: slot.clone(),
            });
        }
        if matrices.is_empty() {
            return Err(wrong("the network has no matrix for it".to_owned()));
        }
        Ok(Self {
            adam: Adam::for_some(params, adam, group, |name| !is_matrix(name))?,
            matrices,
            config,
            clip_norm: adam.clip_norm,
        })
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.adam.steps()
    }

    /// One step with this learning rate of Adam's. Parameters without a gradient stay as they are.
    ///
    /// Returns the global norm of all gradients before clipping (a scalar, still on the device) if the configuration asks for clipping.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64) -> Result<Option<Tensor>> {
        self.adam.count_step();
        let mut variables = self.matrices.iter().map(|matrix| matrix.slot.var());
        if variables.all(|variable| Kernel::Adam.takes(variable)) {
            self.step_on_cpu(gradients, learning_rate)
        } else {
            self.step_composed(gradients, learning_rate)
        }
    }

    /// Matrices that have gradients, with them.
    fn found(&self, gradients: &GradStore) -> Result<Vec<(&Matrix, Tensor)>> {
        let mut found = Vec::with_capacity(self.matrices.len());
        for matrix in &self.matrices {
            if let Some(gradient) = matrix.slot.gradient(gradients)? {
                found.push((matrix, gradient.contiguous()?));
            }
        }
        Ok(found)
    }

    fn step_on_cpu(&self, gradients: &GradStore, rate: f64) -> Result<Option<Tensor>> {
        let (found, of_adam) = (self.found(gradients)?, self.adam.found(gradients));
        let all = of_adam.iter().map(|(_, gradient)| *gradient);
        let all: Vec<&Tensor> = all
            .chain(found.iter().map(|(_, gradient)| gradient))
            .collect();
        let (scale, norm) = clip_on_cpu(&all, self.clip_norm)?;
        self.adam.apply_on_cpu(&of_adam, scale, rate)?;
        self.apply_on_cpu(found, scale, rate)?;
        Ok(norm)
    }

    /// The slow twin: plain tensor operations, for every device; reads nothing back.
    fn step_composed(&self, gradients: &GradStore, rate: f64) -> Result<Option<Tensor>> {
        let (found, of_adam) = (self.found(gradients)?, self.adam.found(gradients));
        let all = of_adam.iter().map(|(_, gradient)| *gradient);
        let all: Vec<&Tensor> = all
            .chain(found.iter().map(|(_, gradient)| gradient))
            .collect();
        let (scale, norm) = clip_composed(&all, self.clip_norm)?;
        self.adam.apply_composed(&of_adam, scale.as_ref(), rate)?;
        for (matrix, gradient) in found {
            let gradient = match &scale {
                Some(scale) => gradient.broadcast_mul(&scale.to_dtype(gradient.dtype())?)?,
                None => gradient,
            };
            self.apply_composed(matrix, &gradient, rate)?;
        }
        Ok(norm)
    }

    /// Every matrix on one thread, several of them at a time: the bits are the same for any number of threads.
    fn apply_on_cpu(&self, found: Vec<(&Matrix, Tensor)>, scale: f64, rate: f64) -> Result<()> {
        let mut results: Vec<candle_core::Result<()>> = found.iter().map(|_| Ok(())).collect();
        let tasks: Vec<_> = found.iter().zip(&mut results).collect();
        parallel::each(tasks, |((matrix, gradient), result)| {
            *result = match gradient.dtype() {
                DType::F64 => self.step_matrix::<f64>(matrix, gradient, scale, rate),
                _ => self.step_matrix::<f32>(matrix, gradient, scale, rate),
            };
        });
        results
            .into_iter()
            .collect::<candle_core::Result<()>>()
            .map_err(Error::from)
    }

    fn step_matrix<T: Real>(
        &self,
        matrix: &Matrix,
        gradient: &Tensor,
        scale: f64,
        rate: f64,
    ) -> candle_core::Result<()> {
        let size = gradient.dims2()?;
        let (keep, step) = self.factors(size, rate);
        let (beta, rest) = (
            T::of(self.config.momentum),
            T::of(1.0 - self.config.momentum),
        );
        let (keep, step, scale) = (T::of(keep), T::of(step), T::of(scale));
        let mut update = with_slice::<T, _>(gradient, |g| {
            Ok(g.iter().map(|&g| g * scale).collect::<Vec<T>>())
        })?;
        with_slice_mut::<T>(&matrix.momentum, |momentum| {
            for (m, g) in momentum.iter_mut().zip(&mut update) {
                *m = *m * beta + *g * rest;
                *g = *m * beta + *g * rest;
            }
            Ok(())
        })?;
        orthogonalize(&mut update, size, ITERATIONS);
        with_slice_mut::<T>(matrix.slot.var(), |parameter| {
            for (p, u) in parameter.iter_mut().zip(&update) {
                *p = *p * keep - step * *u;
            }
            Ok(())
        })
    }

    fn apply_composed(&self, matrix: &Matrix, gradient: &Tensor, rate: f64) -> Result<()> {
        let size = gradient.dims2()?;
        let beta = self.config.momentum;
        let gradient = (gradient.detach() * (1.0 - beta))?;
        let momentum = ((matrix.momentum.as_detached_tensor() * beta)? + &gradient)?;
        let update = ((&momentum * beta)? + gradient)?;
        let tall = size.0 > size.1;
        let mut x = if tall {
            update.t()?.contiguous()?
        } else {
            update
        };
        let norm = (x.sqr()?.sum_all()?.sqrt()? + NORM_EPSILON)?;
        x = x.broadcast_div(&norm)?;
        let [a, b, c] = QUINTIC;
        for _ in 0..ITERATIONS {
            let gram = x.matmul(&x.t()?)?;
            let factor = ((&gram * b)? + (gram.matmul(&gram)? * c)?)?;
            x = ((&x * a)? + factor.matmul(&x)?)?;
        }
        if tall {
            x = x.transpose(D::Minus1, D::Minus2)?.contiguous()?;
        }
        let (keep, step) = self.factors(size, rate);
        let parameter = matrix.slot.tensor()?;
        matrix.slot.set(&((parameter * keep)? - (x * step)?)?)?;
        Ok(matrix.momentum.set(&momentum)?)
    }

    /// What a matrix is multiplied by, and the factor of its orthogonal step.
    fn factors(&self, (rows, columns): (usize, usize), rate: f64) -> (f64, f64) {
        let rate = rate * self.config.rate_scale;
        let tall = (rows as f64 / columns as f64).max(1.0).sqrt();
        (1.0 - rate * self.config.weight_decay, rate * tall)
    }

    /// Shows everything to `visitor`: Adam's moments and steps as [`Adam::visit`], and `{prefix}momentum.NAME` of each matrix.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        for matrix in &self.matrices {
            let name = format!("{prefix}momentum.{}", matrix.name);
            visitor.tensor(&name, &Slot::from(&matrix.momentum))?;
        }
        self.adam.visit(prefix, visitor)
    }
}

/// Adam, or Muon with Adam.
#[derive(Debug)]
pub enum Optimizer {
    /// For all parameters.
    Adam(Adam),
    /// For matrices, with Adam for the rest.
    Muon(Muon),
}

impl From<Adam> for Optimizer {
    fn from(adam: Adam) -> Self {
        Self::Adam(adam)
    }
}

impl Optimizer {
    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Adam(adam) => adam.steps(),
            Self::Muon(muon) => muon.steps(),
        }
    }

    /// One step, as [`Adam::step`].
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64) -> Result<Option<Tensor>> {
        match self {
            Self::Adam(adam) => adam.step(gradients, learning_rate),
            Self::Muon(muon) => muon.step(gradients, learning_rate),
        }
    }

    /// Shows its state to `visitor`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        match self {
            Self::Adam(adam) => adam.visit(prefix, visitor),
            Self::Muon(muon) => muon.visit(prefix, visitor),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::rng::Rng;
    use crate::testing::{check_same_bits, largest_relative_difference};

    const SIZES: [(&str, (usize, usize)); 4] = [
        ("square.weight", (24, 24)),
        ("tall.weight", (40, 12)),
        ("wide.weight", (12, 40)),
        ("table", (9, 5)),
    ];

    fn params(dtype: DType) -> Result<Params> {
        let mut params = Params::new(dtype, &Device::Cpu);
        let rng = &mut Rng::from_seed(2);
        for (name, size) in SIZES {
            params.insert(name, &rng.normal_tensor(size, dtype, &Device::Cpu)?, true)?;
        }
        Ok(params)
    }

    fn muon(params: &Params) -> Result<Muon> {
        let adam = AdamConfig {
            clip_norm: Some(3.0),
            ..AdamConfig::default()
        };
        let config = MuonConfig {
            momentum: 0.9,
            weight_decay: 0.1,
            rate_scale: 30.0,
        };
        let group = |_: &str| ParamGroup::decay(0.1);
        Muon::new(params, (adam, config), group, |name| {
            name.ends_with(".weight")
        })
    }

    /// Parameters after five steps, and the norms.
    fn results(dtype: DType, composed: bool) -> Result<Vec<Tensor>> {
        let params = params(dtype)?;
        let mut muon = muon(&params)?;
        let mut found = Vec::new();
        for seed in 0..5 {
            let (mut store, rng) = (GradStore::default(), &mut Rng::from_seed(seed));
            for param in params.iter() {
                let shape = param.slot.shape();
                let gradient = rng.normal_tensor(shape, dtype, &Device::Cpu)?;
                store.insert(param.slot.var(), gradient);
            }
            let norm = if composed {
                muon.adam.count_step();
                muon.step_composed(&store, 1e-3)?
            } else {
                muon.step(&store, 1e-3)?
            };
            found.push(norm.expect("a norm").to_dtype(dtype)?);
        }
        for param in params.iter() {
            found.push(param.slot.tensor()?);
        }
        Ok(found)
    }

    #[test]
    fn the_step_on_the_cpu_equals_plain_tensor_operations() -> Result<()> {
        // Rounding in five steps of five iterations.
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-13)] {
            let (fast, slow) = (results(dtype, false)?, results(dtype, true)?);
            for (i, (fast, slow)) in fast.iter().zip(&slow).enumerate() {
                let difference = largest_relative_difference(fast, slow)?;
                assert!(difference < tolerance, "{dtype:?} {i}: {difference:e}");
            }
        }
        check_same_bits(|| results(DType::F32, false))
    }

    #[test]
    fn singular_values_end_near_one() {
        let rng = &mut Rng::from_seed(3);
        for (rows, columns) in [(6, 6), (5, 20), (20, 5)] {
            let x = rng.normal_tensor((rows, columns), DType::F64, &Device::Cpu);
            let x = x.and_then(|x| x.flatten_all()).and_then(|x| x.to_vec1());
            let mut x: Vec<f64> = x.expect("numbers");
            orthogonalize(&mut x, (rows, columns), 10);
            // The squares of the singular values sum to the square of the norm.
            let squares: f64 = x.iter().map(|value| value * value).sum();
            let mean = squares / rows.min(columns) as f64;
            assert!((0.4..1.5).contains(&mean), "({rows}, {columns}): {mean}");
        }
    }

    #[test]
    fn settings_and_parameters_that_make_no_sense_are_refused() {
        let params = params(DType::F32).expect("parameters");
        let new = |config: MuonConfig, name: &'static str| {
            let group = |_: &str| ParamGroup::decay(0.0);
            let settings = (AdamConfig::default(), config);
            let found = Muon::new(&params, settings, group, |other| other == name);
            found.map(|_| ()).expect_err("refused").to_string()
        };
        let fine = MuonConfig {
            momentum: 0.9,
            weight_decay: 0.0,
            rate_scale: 1.0,
        };
        let wrong = MuonConfig {
            momentum: 1.0,
            ..fine
        };
        assert!(new(wrong, "tall.weight").contains("momentum must lie"));
        assert!(new(fine, "nobody").contains("no matrix"));
    }
}
