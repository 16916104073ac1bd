//! [`Normalizer`]: observations to zero mean and unit standard deviation. [`ActionBounds`]: the
//! environment's actions to -1..1 and back. Both are saved with a run.

use candle_core::{Device, Tensor, Var};
use trajformer_models::params::{Slot, StateVisitor};

use crate::dataset::ActionKind;
use crate::error::{Error, Result};
use crate::source::Source;

/// Maps observations to `(observation - mean) / scale`, column by column.
///
/// A clone shares its numbers with the original.
#[derive(Debug, Clone)]
pub struct Normalizer {
    mean: Var,  // (O)
    scale: Var, // (O)
}

impl Normalizer {
    /// Changes nothing: mean 0, scale 1.
    ///
    /// # Errors
    /// If the device fails.
    pub fn identity(observation_dim: usize, device: &Device) -> Result<Self> {
        Self::from_moments(
            &vec![0.0; observation_dim],
            &vec![1.0; observation_dim],
            device,
        )
    }

    /// The mean of each column of row-major `values` (rows, `width`), and its standard deviation
    /// (over all rows, as NumPy's `std`) plus `epsilon`, both computed in f64.
    ///
    /// `epsilon` is 1e-3 in the value-based methods' code and 1e-6 in the Decision Transformer's.
    ///
    /// # Errors
    /// If there are no rows, or a scale comes out as zero (a constant column and no `epsilon`).
    pub fn fit(values: &[f32], width: usize, epsilon: f64, device: &Device) -> Result<Self> {
        let rows = values.len() / width.max(1);
        if rows == 0 {
            return Err(Error::Unsuitable(
                "there are no observations to normalize".into(),
            ));
        }
        let mut mean = vec![0.0; width];
        for row in values.chunks_exact(width) {
            mean.iter_mut()
                .zip(row)
                .for_each(|(sum, &value)| *sum += f64::from(value));
        }
        mean.iter_mut().for_each(|sum| *sum /= rows as f64);
        let (mut scale, mut farthest) = (vec![0.0; width], vec![0.0f64; width]);
        for row in values.chunks_exact(width) {
            let columns = scale.iter_mut().zip(&mut farthest).zip(row).zip(&mean);
            for (((sum, farthest), &value), mean) in columns {
                let distance = f64::from(value) - mean;
                *sum += distance.powi(2);
                *farthest = farthest.max(distance.abs());
            }
        }
        // Networks see them in single precision.
        if let Some(column) = farthest.iter().position(|&d| d > f64::from(f32::MAX)) {
            return Err(Error::Unsuitable(format!(
                "observations can't be normalized: column {column} has numbers that are {:.1e} from their mean, more \
                 than single precision holds; give it in another unit, or leave out what is broken",
                farthest[column]
            )));
        }
        scale
            .iter_mut()
            .for_each(|sum| *sum = (*sum / rows as f64).sqrt() + epsilon);
        Self::from_moments(&mean, &scale, device)
    }

    /// [`Self::fit`] to all observations of the data; without data it changes nothing.
    ///
    /// # Errors
    /// As for [`Self::fit`].
    pub fn of_source(source: Source<'_>, epsilon: f64, device: &Device) -> Result<Self> {
        let (width, _) = source.dims();
        match source {
            Source::Train(data) => Self::fit(&data.observations, width, epsilon, device),
            Source::Act { .. } => Self::identity(width, device),
        }
    }

    /// A normaliser with this mean (O) and this scale (standard deviation and epsilon together) (O).
    ///
    /// # Errors
    /// If the lengths differ, or a number is not finite or a scale not positive.
    pub fn from_moments(mean: &[f64], scale: &[f64], device: &Device) -> Result<Self> {
        // As they are kept: f32.
        let usable = |(mean, scale): (&f64, &f64)| {
            let (mean, scale) = (*mean as f32, *scale as f32);
            mean.is_finite() && scale.is_finite() && scale > 0.0
        };
        let wrong = mean.iter().zip(scale).position(|pair| !usable(pair));
        if mean.len() != scale.len() || wrong.is_some() {
            let which = match wrong {
                Some(at) => format!(
                    "column {at} has the mean {} and the scale {}",
                    mean[at], scale[at]
                ),
                None => format!("{} means and {} scales", mean.len(), scale.len()),
            };
            return Err(Error::Unsuitable(format!(
                "observations can't be normalized: {which}; expected one finite number of each per column, scales above \
                 0 (a column that never changes needs an epsilon)"
            )));
        }
        Ok(Self {
            mean: row_var(mean, device)?,
            scale: row_var(scale, device)?,
        })
    }

    /// How many columns (O).
    pub fn dim(&self) -> usize {
        self.mean.elem_count()
    }

    /// The means (O), f32.
    pub fn mean(&self) -> &Tensor {
        self.mean.as_tensor()
    }

    /// What is divided by (O), f32: the standard deviations with epsilon.
    pub fn scale(&self) -> &Tensor {
        self.scale.as_tensor()
    }

    /// Normalizes observations (..., O), in their own type.
    ///
    /// # Errors
    /// If the last dimension is not O.
    pub fn apply(&self, observations: &Tensor) -> Result<Tensor> {
        let (mean, scale) = self.as_like(observations)?;
        Ok(observations.broadcast_sub(&mean)?.broadcast_div(&scale)?)
    }

    /// The observations (..., O) that [`Self::apply`] made these from.
    ///
    /// # Errors
    /// If the last dimension is not O.
    pub fn invert(&self, normalized: &Tensor) -> Result<Tensor> {
        let (mean, scale) = self.as_like(normalized)?;
        Ok(normalized.broadcast_mul(&scale)?.broadcast_add(&mean)?)
    }

    /// Shows mean and scale to `visitor` under `prefix`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(
        &self,
        prefix: &str,
        visitor: &mut dyn StateVisitor,
    ) -> trajformer_models::Result<()> {
        visitor.tensor(&format!("{prefix}mean"), &Slot::from(&self.mean))?;
        visitor.tensor(&format!("{prefix}scale"), &Slot::from(&self.scale))
    }

    fn as_like(&self, other: &Tensor) -> Result<(Tensor, Tensor)> {
        let like = |var: &Var| var.as_detached_tensor().to_dtype(other.dtype());
        Ok((like(&self.mean)?, like(&self.scale)?))
    }
}

/// The range of each action, and the map between it and -1..1.
///
/// A clone shares its numbers with the original.
#[derive(Debug, Clone)]
pub struct ActionBounds {
    center: Var, // (A)
    half: Var,   // (A): half the range
    kind: ActionKind,
}

impl ActionBounds {
    /// From the lowest and highest action (A).
    ///
    /// # Errors
    /// If the lengths differ, a number is not finite, or `low` is not below `high`.
    pub fn new(low: &[f32], high: &[f32], device: &Device) -> Result<Self> {
        let pairs = || {
            low.iter()
                .zip(high)
                .map(|(&low, &high)| (f64::from(low), f64::from(high)))
        };
        let usable = |(low, high): (f64, f64)| low.is_finite() && high.is_finite() && low < high;
        if low.len() != high.len() || !pairs().all(usable) {
            let wrong = pairs().position(|pair| !usable(pair));
            let which = match wrong {
                Some(at) => format!("column {at} can't range from {} to {}", low[at], high[at]),
                None => format!("{} lowest and {} highest ones", low.len(), high.len()),
            };
            return Err(Error::Unsuitable(format!(
                "actions: {which}: finite bounds are needed, low below high; `data.action_range` sets them"
            )));
        }
        let center: Vec<f64> = pairs().map(|(low, high)| (low + high) / 2.0).collect();
        let half: Vec<f64> = pairs().map(|(low, high)| (high - low) / 2.0).collect();
        Ok(Self {
            center: row_var(&center, device)?,
            half: row_var(&half, device)?,
            kind: ActionKind::Continuous,
        })
    }

    /// Of actions that are choices among `count`, which stay the numbers that they are.
    ///
    /// # Errors
    /// If there is none, or the device fails.
    pub fn of_choices(count: usize, device: &Device) -> Result<Self> {
        if count == 0 {
            return Err(Error::Unsuitable(
                "actions: there is none to choose from".to_owned(),
            ));
        }
        Ok(Self {
            center: row_var(&[0.0], device)?,
            half: row_var(&[1.0], device)?,
            kind: ActionKind::Discrete { count },
        })
    }

    /// [`Self::new`] of real numbers, [`Self::of_choices`] of choices.
    ///
    /// # Errors
    /// As there.
    pub fn of_kind(kind: ActionKind, low: &[f32], high: &[f32], device: &Device) -> Result<Self> {
        match kind {
            ActionKind::Continuous => Self::new(low, high, device),
            ActionKind::Discrete { count } => Self::of_choices(count, device),
        }
    }

    /// Whether actions are real numbers or choices.
    pub fn kind(&self) -> ActionKind {
        self.kind
    }

    /// -1..1 for every action.
    ///
    /// # Errors
    /// If the device fails.
    pub fn unit(action_dim: usize, device: &Device) -> Result<Self> {
        Self::new(&vec![-1.0; action_dim], &vec![1.0; action_dim], device)
    }

    /// How many actions (A).
    pub fn dim(&self) -> usize {
        self.center.elem_count()
    }

    /// Lowest actions (A), f32; 0 of choices.
    ///
    /// # Errors
    /// If the device fails.
    pub fn low(&self) -> Result<Tensor> {
        if self.kind.choices().is_some() {
            return Ok(self.center.zeros_like()?);
        }
        Ok((self.center.as_detached_tensor() - self.half.as_detached_tensor())?)
    }

    /// Highest actions (A), f32; of choices the last.
    ///
    /// # Errors
    /// If the device fails.
    pub fn high(&self) -> Result<Tensor> {
        if let Some(count) = self.kind.choices() {
            return Ok((self.center.zeros_like()? + (count - 1) as f64)?);
        }
        Ok((self.center.as_detached_tensor() + self.half.as_detached_tensor())?)
    }

    /// Maps the environment's actions (..., A) to -1..1; those outside the bounds are clipped. Choices stay what they are.
    ///
    /// # Errors
    /// If the last dimension is not A.
    pub fn to_unit(&self, actions: &Tensor) -> Result<Tensor> {
        if self.kind.choices().is_some() {
            return Ok(actions.clone());
        }
        let (center, half) = self.as_like(actions)?;
        Ok(actions
            .broadcast_sub(&center)?
            .broadcast_div(&half)?
            .clamp(-1f32, 1f32)?)
    }

    /// Maps actions (..., A), clipped to -1..1, to the environment's. Choices stay what they are.
    ///
    /// # Errors
    /// If the last dimension is not A.
    pub fn from_unit(&self, actions: &Tensor) -> Result<Tensor> {
        if self.kind.choices().is_some() {
            return Ok(actions.clone());
        }
        let (center, half) = self.as_like(actions)?;
        Ok(actions
            .clamp(-1f32, 1f32)?
            .broadcast_mul(&half)?
            .broadcast_add(&center)?)
    }

    /// Shows center and half range to `visitor` under `prefix`.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(
        &self,
        prefix: &str,
        visitor: &mut dyn StateVisitor,
    ) -> trajformer_models::Result<()> {
        visitor.tensor(&format!("{prefix}center"), &Slot::from(&self.center))?;
        visitor.tensor(&format!("{prefix}half"), &Slot::from(&self.half))
    }

    fn as_like(&self, other: &Tensor) -> Result<(Tensor, Tensor)> {
        let like = |var: &Var| var.as_detached_tensor().to_dtype(other.dtype());
        Ok((like(&self.center)?, like(&self.half)?))
    }
}

fn row_var(values: &[f64], device: &Device) -> Result<Var> {
    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    let count = values.len();
    Ok(Var::from_tensor(&Tensor::from_vec(values, count, device)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitted_normalizer_has_numpys_mean_and_deviation_and_inverts() {
        // Columns 1, 3, 5 and 10, 10, 10: standard deviations sqrt(8/3) and 0.
        let values = [1.0, 10.0, 3.0, 10.0, 5.0, 10.0f32];
        let normalizer = Normalizer::fit(&values, 2, 0.5, &Device::Cpu).expect("fits");
        let mean = normalizer.mean().to_vec1::<f32>().expect("a row");
        let scale = normalizer.scale().to_vec1::<f32>().expect("a row");
        assert_eq!(mean, [3.0, 10.0]);
        assert!((scale[0] - (8f32 / 3.0).sqrt() - 0.5).abs() < 1e-6 && scale[1] == 0.5);
        let rows = Tensor::from_slice(&values, (3, 2), &Device::Cpu).expect("a tensor");
        let back = normalizer
            .invert(&normalizer.apply(&rows).expect("applies"))
            .expect("inverts");
        let back = back
            .flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("numbers");
        // One rounding each way.
        assert!(
            back.iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-5),
            "{back:?}"
        );
        assert!(Normalizer::fit(&values, 2, 0.0, &Device::Cpu).is_err());
        assert!(Normalizer::fit(&[], 2, 0.1, &Device::Cpu).is_err());
    }

    #[test]
    fn large_observations_are_normalized_and_too_large_ones_named() {
        let rows = |size: f32| [1.0, -size, 2.0, size, 3.0, -size, 4.0, size];
        let normalizer = Normalizer::fit(&rows(1e30), 2, 1e-3, &Device::Cpu).expect("fits");
        let input = Tensor::from_slice(&rows(1e30), (4, 2), &Device::Cpu).expect("a tensor");
        let found = normalizer.apply(&input).expect("applies");
        let found = found.to_vec2::<f32>().expect("rows");
        assert!(
            found.iter().all(|row| (row[1].abs() - 1.0).abs() < 1e-5),
            "{found:?}"
        );
        let mut large = rows(f32::MAX);
        large[1] = f32::MAX; // The mean is above 0, and the last one further below than f32 holds.
        let error = Normalizer::fit(&large, 2, 1e-3, &Device::Cpu).expect_err("too large");
        let error = error.to_string();
        assert!(
            error.contains("column 1") && error.contains("from their mean"),
            "{error}"
        );
    }

    #[test]
    fn actions_map_to_the_unit_range_and_back_with_clipping() {
        let bounds = ActionBounds::new(&[-2.0, 0.0], &[2.0, 1.0], &Device::Cpu).expect("bounds");
        let actions = Tensor::new(&[[1f32, 0.25], [-3.0, 2.0]], &Device::Cpu).expect("a tensor");
        let unit = bounds.to_unit(&actions).expect("maps");
        assert_eq!(
            unit.to_vec2::<f32>().expect("rows"),
            [[0.5, -0.5], [-1.0, 1.0]]
        );
        let back = bounds
            .from_unit(&(unit * 2.0).expect("doubles"))
            .expect("maps");
        assert_eq!(
            back.to_vec2::<f32>().expect("rows"),
            [[2.0, 0.0], [-2.0, 1.0]]
        );
        assert!(ActionBounds::new(&[1.0], &[1.0], &Device::Cpu).is_err());
        assert!(ActionBounds::new(&[f32::NEG_INFINITY], &[1.0], &Device::Cpu).is_err());
    }
}
