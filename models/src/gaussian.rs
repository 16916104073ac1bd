//! Actors that are distributions: [`GaussianActor`], whose standard deviations don't depend on the observation, and
//! [`TanhGaussianActor`], a normal distribution pressed into ±1.

use candle_core::{D, Tensor};

use crate::actor::ActorConfig;
use crate::encoder::Net;
use crate::error::Result;
use crate::init::Init;
use crate::params::Scope;

/// ln √(2π)
const LOG_ROOT_TWO_PI: f64 = 0.918_938_533_204_672_7;
/// Actions are taken at most this close to ±1 where the inverse of tanh is asked for.
pub const BOUND: f64 = 1.0 - 1e-6;

/// A normal distribution with independent dimensions.
#[derive(Debug, Clone)]
pub struct Gaussian {
    /// (B, A)
    pub mean: Tensor,
    /// Logarithm of the standard deviation, (B, A) or (A).
    pub log_std: Tensor,
}

impl Gaussian {
    /// mean + standard deviation times standard normals `noise` (.., B, A): a sample with gradients to the
    /// distribution.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        let spread = noise.broadcast_mul(&self.log_std.exp()?)?; // (.., B, A)
        Ok(spread.broadcast_add(&self.mean)?)
    }

    /// Log-density (.., B) of `x` (.., B, A).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn log_prob(&self, x: &Tensor) -> Result<Tensor> {
        let inverse = self.log_std.neg()?.exp()?;
        let scaled = x.broadcast_sub(&self.mean)?.broadcast_mul(&inverse)?; // (.., B, A)
        let exponent = (scaled.sqr()? * -0.5)?;
        let each = (exponent.broadcast_sub(&self.log_std)? - LOG_ROOT_TWO_PI)?;
        Ok(each.sum(D::Minus1)?)
    }
}

/// How the density under a tanh is corrected for the change of volume.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TanhCorrection {
    /// Σ 2 (ln 2 - u - softplus(-2u)) with u before the tanh: exact, and finite everywhere
    /// (`torch.distributions.TanhTransform`; CQL).
    Exact,
    /// Σ ln(1 - a² + this), 1 - a² computed from u: 1e-6 in SAC's authors' code, SAC-N and EDAC. Finite everywhere, a little off
    /// near the bounds.
    Epsilon(f64),
}

/// tanh of a [`Gaussian`].
#[derive(Debug, Clone)]
pub struct TanhGaussian {
    /// Before the tanh.
    pub gaussian: Gaussian,
    /// Correction term of the tanh in the log-density.
    pub correction: TanhCorrection,
}

impl TanhGaussian {
    /// tanh of the mean (B, A): the action without exploration.
    ///
    /// # Errors
    /// If the device fails.
    pub fn mode(&self) -> Result<Tensor> {
        Ok(self.gaussian.mean.tanh()?)
    }

    /// Actions (.., B, A) in ±1 from standard normals `noise` (.., B, A), and their log-densities (.., B);
    /// both have gradients to the distribution.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn sample(&self, noise: &Tensor) -> Result<(Tensor, Tensor)> {
        let inner = self.gaussian.sample(noise)?; // (.., B, A)
        let actions = inner.tanh()?;
        // (x - mean) / standard deviation is the noise itself: its gradient must pass through log_std only.
        let exponent = (noise.sqr()? * -0.5)?;
        let each = (exponent.broadcast_sub(&self.gaussian.log_std)? - LOG_ROOT_TWO_PI)?;
        let log_probs = (each.sum(D::Minus1)? - self.log_volume(&inner)?)?;
        Ok((actions, log_probs))
    }

    /// Log-density (.., B) of actions (.., B, A) in ±1, finite at the bounds: they are moved to ±(1 - 1e-6) first.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn log_prob(&self, actions: &Tensor) -> Result<Tensor> {
        let actions = actions.clamp(-BOUND, BOUND)?;
        // atanh
        let inner = (((1.0 + &actions)? / (1.0 - &actions)?)?.log()? * 0.5)?;
        Ok((self.gaussian.log_prob(&inner)? - self.log_volume(&inner)?)?)
    }

    /// Σ ln tanh'(u) (.., B) of u.
    fn log_volume(&self, inner: &Tensor) -> Result<Tensor> {
        let each = match self.correction {
            TanhCorrection::Epsilon(epsilon) => {
                // 1 - tanh² u as 4 e / (1 + e)² with e = exp(-2 |u|): near ±1 the difference would be rounding.
                let e = (inner.abs()? * -2.0)?.exp()?;
                let slope = ((&e * 4.0)? / (e + 1.0)?.sqr()?)?;
                (slope + epsilon)?.log()?
            }
            TanhCorrection::Exact => {
                let rest = (inner + softplus(&(inner * -2.0)?)?)?;
                ((std::f64::consts::LN_2 - rest)? * 2.0)?
            }
        };
        Ok(each.sum(D::Minus1)?)
    }
}

/// ln(1 + exp(x)), elementwise, without overflow.
///
/// # Errors
/// If the device fails.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    // max(x, 0) + ln(1 + exp(-|x|)); the gradients of both add up to the sigmoid, at 0 too.
    let positive = x.detach().gt(0.0)?.to_dtype(x.dtype())?;
    let sign = ((&positive * 2.0)? - 1.0)?;
    let rest = ((x * sign)?.neg()?.exp()? + 1.0)?.log()?;
    Ok(((x * positive)? + rest)?)
}

/// x limited to `low..=high`, with a gradient of 1 inside and at the bounds and 0 outside, as PyTorch's `clamp`.
///
/// # Errors
/// If the device fails.
pub fn clamp(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    let value = x.detach();
    let inside = (value.ge(low)? * value.le(high)?)?.to_dtype(x.dtype())?;
    let limited = value.clamp(low, high)?;
    // Inside x, outside the bound, which has no gradient.
    let bound = (limited * (1.0 - &inside)?)?;
    Ok(((x * inside)? + bound)?)
}

/// Sizes of [`GaussianActor`].
#[derive(Debug, Clone, PartialEq)]
pub struct GaussianActorConfig {
    /// The network of the mean; `max_action` is not used.
    pub net: ActorConfig,
    /// Logarithms of standard deviations are limited to this.
    pub log_std_range: (f64, f64),
    /// What the mean passes.
    pub mean: Mean,
}

/// What the mean of a [`GaussianActor`] passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mean {
    /// Nothing (AWAC).
    Linear,
    /// A tanh (IQL).
    Tanh,
}

/// A normal distribution around a network's output; its parameters are those of [`DeterministicActor`](crate::actor::DeterministicActor) and
/// `log_std` (A), the same for every observation, 0 at first.
#[derive(Debug, Clone)]
pub struct GaussianActor {
    net: Net,
    log_std: Tensor, // (A)
    log_std_range: (f64, f64),
    mean: Mean,
}

impl GaussianActor {
    /// Makes the actor with the configuration's initial values.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &GaussianActorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Ok(Self {
            net: config.net.net(1, scope)?,
            log_std: scope.param("log_std", config.net.action_dim, Init::Zeros.fill())?,
            log_std_range: config.log_std_range,
            mean: config.mean,
        })
    }

    /// The distribution at observations (B, O).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn distribution(&self, observations: &Tensor) -> Result<Gaussian> {
        let (low, high) = self.log_std_range;
        let mean = self.net.forward(observations)?; // (B, A)
        Ok(Gaussian {
            mean: match self.mean {
                Mean::Linear => mean,
                Mean::Tanh => mean.tanh()?,
            },
            log_std: clamp(&self.log_std, low, high)?,
        })
    }
}

/// Sizes of [`TanhGaussianActor`].
#[derive(Debug, Clone, PartialEq)]
pub struct TanhGaussianActorConfig {
    /// The network; `max_action` is not used.
    pub net: ActorConfig,
    /// Logarithms of standard deviations are limited to this.
    pub log_std_range: (f64, f64),
    /// First values of a learned scale and shift of the logarithms before they are limited, if there are any:
    /// (1, -1) in CQL.
    pub log_std_affine: Option<(f64, f64)>,
    /// Correction term of the tanh in the log-density.
    pub correction: TanhCorrection,
}

/// tanh of a normal distribution whose means and standard deviations are one network's 2A outputs: the means first; its parameters are
/// those of [`DeterministicActor`](crate::actor::DeterministicActor), and `log_std_scale`, `log_std_shift` (1) where they are learned.
#[derive(Debug, Clone)]
pub struct TanhGaussianActor {
    net: Net,
    affine: Option<(Tensor, Tensor)>,
    action_dim: usize,
    log_std_range: (f64, f64),
    correction: TanhCorrection,
}

impl TanhGaussianActor {
    /// Makes the actor with the configuration's initial values.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    pub fn new(config: &TanhGaussianActorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let net = config.net.net(2, scope)?;
        let affine = match config.log_std_affine {
            None => None,
            Some((scale, shift)) => Some((
                scope.param("log_std_scale", 1, Init::Constant(scale).fill())?,
                scope.param("log_std_shift", 1, Init::Constant(shift).fill())?,
            )),
        };
        Ok(Self {
            net,
            affine,
            action_dim: config.net.action_dim,
            log_std_range: config.log_std_range,
            correction: config.correction,
        })
    }

    /// The distribution at observations (B, O).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn distribution(&self, observations: &Tensor) -> Result<TanhGaussian> {
        let out = self.net.forward(observations)?; // (B, 2 A)
        let mean = out.narrow(D::Minus1, 0, self.action_dim)?; // (B, A)
        let mut log_std = out.narrow(D::Minus1, self.action_dim, self.action_dim)?;
        if let Some((scale, shift)) = &self.affine {
            log_std = log_std.broadcast_mul(scale)?.broadcast_add(shift)?;
        }
        let (low, high) = self.log_std_range;
        let log_std = clamp(&log_std, low, high)?;
        Ok(TanhGaussian {
            gaussian: Gaussian { mean, log_std },
            correction: self.correction,
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::params::Params;
    use crate::rng::Rng;
    use crate::testing::largest_relative_difference;

    fn numbers(x: &Tensor) -> Vec<f64> {
        let flat = x.flatten_all().and_then(|x| x.to_vec1::<f64>());
        flat.expect("numbers")
    }

    fn row(values: &[f64]) -> Result<Tensor> {
        Ok(Tensor::from_slice(values, (1, values.len()), &Device::Cpu)?)
    }

    #[test]
    fn log_probabilities_of_a_normal_distribution_are_those_of_its_formula() -> Result<()> {
        let gaussian = Gaussian {
            mean: row(&[1.0, -2.0])?,
            log_std: row(&[0.5f64.ln(), 3.0f64.ln()])?,
        };
        let found = numbers(&gaussian.log_prob(&row(&[2.0, -2.0])?)?)[0];
        let density = |x: f64, m: f64, s: f64| {
            let root = s * (2.0 * std::f64::consts::PI).sqrt();
            ((-0.5 * ((x - m) / s).powi(2)).exp() / root).ln()
        };
        let expected = density(2.0, 1.0, 0.5) + density(-2.0, -2.0, 3.0);
        assert!((found - expected).abs() < 1e-14, "{found} {expected}");
        Ok(())
    }

    #[test]
    fn a_samples_log_probability_is_that_of_the_action_and_both_corrections_agree() -> Result<()> {
        let rng = &mut Rng::from_seed(0);
        let mut draw = |shape: &[usize]| rng.normal_tensor(shape, DType::F64, &Device::Cpu);
        let gaussian = Gaussian {
            mean: draw(&[6, 2])?,
            log_std: (draw(&[6, 2])? * 0.3)?,
        };
        let noise = draw(&[3, 6, 2])?;
        let of = |correction| TanhGaussian {
            gaussian: gaussian.clone(),
            correction,
        };
        let (actions, exact) = of(TanhCorrection::Exact).sample(&noise)?;
        assert_eq!(exact.dims(), [3, 6]);
        let of_actions = of(TanhCorrection::Exact).log_prob(&actions)?;
        assert!(largest_relative_difference(&exact, &of_actions)? < 1e-8); // atanh near the bounds
        let (_, other) = of(TanhCorrection::Epsilon(0.0)).sample(&noise)?;
        assert!(largest_relative_difference(&exact, &other)? < 1e-8);
        Ok(())
    }

    #[test]
    fn log_probabilities_at_the_bounds_are_finite_and_so_are_their_gradients() -> Result<()> {
        for correction in [TanhCorrection::Exact, TanhCorrection::Epsilon(1e-6)] {
            for dtype in [DType::F32, DType::F64] {
                let var = |values: &[f64]| -> Result<Var> {
                    Ok(Var::from_tensor(&row(values)?.to_dtype(dtype)?)?)
                };
                let (mean, log_std) = (var(&[40.0, -40.0, 0.0])?, var(&[2.0, -5.0, 0.0])?);
                let distribution = TanhGaussian {
                    gaussian: Gaussian {
                        mean: mean.as_tensor().clone(),
                        log_std: log_std.as_tensor().clone(),
                    },
                    correction,
                };
                let actions = row(&[1.0, -1.0, 0.5])?.to_dtype(dtype)?;
                let noise = row(&[3.0, -3.0, 0.0])?.to_dtype(dtype)?;
                let given = distribution.log_prob(&actions)?;
                let (_, sampled) = distribution.sample(&noise)?;
                let gradients = (&given + &sampled)?.sum_all()?.backward()?;
                let of = |var: &Var| gradients.get(var).expect("a gradient").clone();
                for x in [given, sampled, of(&mean), of(&log_std)] {
                    let values = numbers(&x.to_dtype(DType::F64)?);
                    assert!(values.iter().all(|v| v.is_finite()), "{values:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn softplus_and_clamp_have_the_values_and_gradients_of_their_formulas() -> Result<()> {
        let x = Var::from_tensor(&row(&[-800.0, -1.0, 0.0, 2.0, 800.0])?)?;
        let y = softplus(&x)?;
        let e = 1f64.exp();
        let expected = [
            0.0,
            (1.0 + 1.0 / e).ln(),
            2f64.ln(),
            (1.0 + e * e).ln(),
            800.0,
        ];
        for (found, expected) in numbers(&y).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15 * expected.max(1.0));
        }
        let gradients = y.sum_all()?.backward()?;
        let sigmoid = [0.0, 1.0 / (1.0 + e), 0.5, 1.0 / (1.0 + 1.0 / (e * e)), 1.0];
        for (found, expected) in numbers(gradients.get(&x).expect("a gradient"))
            .iter()
            .zip(sigmoid)
        {
            assert!((found - expected).abs() < 1e-15);
        }
        let y = clamp(&x, -1.0, 1.0)?;
        assert_eq!(numbers(&y), [-1.0, -1.0, 0.0, 1.0, 1.0]);
        let gradients = y.sum_all()?.backward()?;
        let found = numbers(gradients.get(&x).expect("a gradient"));
        assert_eq!(found, [0.0, 1.0, 1.0, 0.0, 0.0]);
        Ok(())
    }

    #[test]
    fn actors_give_the_mean_and_the_limited_deviation_of_each_action() -> Result<()> {
        let rng = &mut Rng::from_seed(1);
        let mut params = Params::new(DType::F64, &Device::Cpu);
        let net = ActorConfig {
            observation_dim: 3,
            action_dim: 2,
            hidden: vec![8],
            ..ActorConfig::default()
        };
        let config = TanhGaussianActorConfig {
            net: net.clone(),
            log_std_range: (-0.1, 2.0),
            log_std_affine: Some((1.0, -1.0)),
            correction: TanhCorrection::Exact,
        };
        let actor = TanhGaussianActor::new(&config, &mut params.init(rng).sub("tanh"))?;
        let observations = rng.normal_tensor((4, 3), DType::F64, &Device::Cpu)?;
        let found = actor.distribution(&observations)?;
        assert_eq!(found.gaussian.mean.dims(), [4, 2]);
        // Outputs of an untrained network are small: minus one, they are below the limit.
        assert_eq!(numbers(&found.gaussian.log_std), [-0.1; 8]);
        let config = GaussianActorConfig {
            net,
            log_std_range: (-20.0, 2.0),
            mean: Mean::Tanh,
        };
        let actor = GaussianActor::new(&config, &mut params.init(rng).sub("plain"))?;
        let found = actor.distribution(&observations)?;
        assert_eq!(numbers(&found.log_std), [0.0; 2]);
        assert!(numbers(&found.mean).iter().all(|m| m.abs() < 1.0));
        Ok(())
    }
}
