//! [`RndBonus`]: how far a network is from what it has learned to predict on the data, as SAC-RND uses it; its equations
//! are in [`algorithms::sac_rnd`](crate::sac_rnd).

use candle_core::{D, Tensor};
use trajformer_models::network::Network;
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::rnd::{RndConfig, RndPredictor, RndTarget};

use crate::offpolicy::trained::{InitContext, Trained};
use trajformer_core::error::{Error, Result};
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::Normalizer;
use trajformer_data::batch::Batch;

/// Rows that the moments of the predictor's errors start with, all of them 0.
const FIRST_COUNT: f64 = 1e-4;

/// b(s, a) = |f(s, a) - g(s, a)|² / d: predictor f, target g, and what inputs and errors are divided by.
pub struct RndBonus {
    predictor: Trained<RndPredictor>,
    target: RndTarget,
    target_params: Params,
    /// Mean and scale of inputs; mean, variance and count of errors so far.
    moments: Params,
}

impl RndBonus {
    /// Makes the networks with PyTorch's initial values; f and g see observations and actions through these normalizers.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(
        sizes: &RndConfig,
        start: &mut InitContext<'_>,
        observations: &Normalizer,
        actions: &Normalizer,
    ) -> Result<Self> {
        let predictor = Trained::new("rnd_predictor", sizes.clone(), start)?;
        let [mut target_params, mut moments] =
            [(); 2].map(|()| Params::new(start.dtype, start.device));
        RndTarget::build(sizes, &mut target_params.init(start.rng))?;
        let first = |value: f64| Tensor::full(value, 1, start.device);
        for (name, value) in [
            ("observation_mean", observations.mean().clone()),
            ("observation_scale", observations.scale().clone()),
            ("action_mean", actions.mean().clone()),
            ("action_scale", actions.scale().clone()),
            ("mean", first(0.0)?),
            ("variance", first(0.0)?),
            ("count", first(FIRST_COUNT)?),
        ] {
            moments.insert(name, &value, false)?;
        }
        Ok(Self {
            predictor,
            target: RndTarget::build(sizes, &mut target_params.detached())?,
            target_params,
            moments,
        })
    }

    /// Sizes of f and g.
    pub fn sizes(&self) -> &RndConfig {
        &self.predictor.config
    }

    fn moment(&self, name: &'static str) -> Result<Tensor> {
        match self.moments.get(name) {
            Some(moment) => Ok(moment.slot.tensor()?),
            None => Err(Error::Internal(format!("there is no moment `{name}`"))),
        }
    }

    /// |f(s, a) - g(s, a)|² (B) with this f; only f passes gradients to its inputs.
    fn errors(&self, f: &RndPredictor, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        let scaled = |x: &Tensor, mean: &'static str, scale: &'static str| -> Result<Tensor> {
            let centered = x.broadcast_sub(&self.moment(mean)?)?;
            Ok(centered.broadcast_div(&self.moment(scale)?)?)
        };
        let observations = scaled(observations, "observation_mean", "observation_scale")?;
        let actions = scaled(actions, "action_mean", "action_scale")?;
        let expected = self.target.forward(&observations, &actions.detach())?; // (B, E)
        let found = f.forward(&observations, &actions)?; // (B, E)
        Ok((found - expected)?.sqr()?.sum(D::Minus1)?)
    }

    /// b(s, a) (B) of observations (B, O) and actions (B, A), with gradients to the actions.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn of(&self, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        let errors = self.errors(&self.predictor.detached, observations, actions)?;
        Ok(errors.broadcast_div(&self.moment("variance")?.sqrt()?)?)
    }

    /// One step of the predictor down its mean error; the errors before it are counted.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn update(&mut self, batch: &Batch, rate: f64, metrics: &mut Metrics) -> Result<()> {
        let f = &self.predictor.net;
        let errors = self.errors(f, &batch.observations, &batch.actions)?; // (B)
        self.count(&errors.detach())?;
        let loss = errors.mean_all()?;
        metrics.push("rnd_loss", &loss);
        metrics.push("rnd_deviation", &self.moment("variance")?.sqrt()?);
        self.predictor.minimize(&loss, rate)
    }

    /// Mean and variance of all errors so far and these (B) together.
    fn count(&self, errors: &Tensor) -> Result<()> {
        let (mean, variance) = (self.moment("mean")?, self.moment("variance")?);
        let (count, here) = (self.moment("count")?, errors.dim(0)? as f64);
        let mean_here = errors.mean_keepdim(0)?; // (1)
        let variance_here = errors.broadcast_sub(&mean_here)?.sqr()?.mean_keepdim(0)?;
        let total = (&count + here)?;
        let difference = (mean_here - &mean)?;
        let between = ((difference.sqr()? * &count)? * here)?.div(&total)?;
        let squares = (((variance * &count)? + (variance_here * here)?)? + between)?;
        let mean = (mean + (difference * here)?.div(&total)?)?;
        for (name, value) in [
            ("mean", mean),
            ("variance", squares.div(&total)?),
            ("count", total),
        ] {
            if let Some(moment) = self.moments.get(name) {
                moment.slot.set(&value)?;
            }
        }
        Ok(())
    }

    /// Shows networks and moments.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.predictor.visit(visitor)?;
        self.target_params.visit("model.rnd_target.", visitor)?;
        Ok(self.moments.visit("model.rnd_moments.", visitor)?)
    }
}
