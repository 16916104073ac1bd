//! [`Trained`]: a network with its parameters and optimiser; [`Target`]: one that follows it.

use std::sync::Arc;

use crate::offpolicy::watch::{GradientWatch, norm_name};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use trajformer_models::encoder::EncoderFactory;
use trajformer_models::health;
use trajformer_models::kernels::gradients::gradients;
use trajformer_models::kernels::parallel;
use trajformer_models::muon::Optimizer;
use trajformer_models::network::{Network, Scalar};
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, polyak_update};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::ranks;

use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::{Error, Result};
use trajformer_core::source::Stage;
use trajformer_models::rng::Rng;

/// What networks are made from.
pub struct InitContext<'a> {
    /// O.
    pub observation_dim: usize,
    /// A; 1 of choices.
    pub action_dim: usize,
    /// How many choices there are, where actions are choices.
    pub choices: Option<usize>,
    /// Whether they are to be updated.
    pub stage: Stage,
    /// Updates that the run makes on its data alone (`train.updates`); those after them are online.
    pub training_updates: u64,
    /// An encoder of the caller's own in place of the hidden layers of actors, critics and V, if there is one.
    pub encoder: Option<&'a Arc<dyn EncoderFactory>>,
    /// Where norms of gradients are noted down while somebody asks for them.
    pub watch: &'a GradientWatch,
    /// Type of the parameters: f32, or f64 to compare with reference numbers.
    pub dtype: DType,
    /// Where they live.
    pub device: &'a Device,
    /// Stream of the initial values.
    pub rng: &'a mut Rng,
}

/// Runs two independent parts of an update concurrently on the CPU, else one after the other. Pass the longer one
/// first. Neither may see what the other changes. Concurrent parts leave each thread fewer jobs to hand out and wait for, while the
/// pool's other threads stay awake ([`parallel`]). Where several ranks take their steps together, one part comes after the other: all ranks meet in the
/// same order.
///
/// # Errors
/// Those of the parts.
pub fn join<A: Send, B: Send>(
    device: &Device,
    first: impl FnOnce() -> Result<A> + Send,
    second: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    let (first, second) = if device.is_cpu() && ranks::here().is_none() {
        let health = health::here();
        // Another thread may make the second part.
        let watched = || {
            let _watched = health::watched(health.as_ref());
            second()
        };
        parallel::join(first, watched)
    } else {
        (first(), second())
    };
    Ok((first?, second?))
}

/// Prefixes of the names under which a network's state is saved.
#[derive(Debug, Clone)]
pub struct StateNames {
    model: String,
    optimizer: String,
    target: String,
}

impl StateNames {
    /// `model.{name}`, `training.{name}_optimizer` and `training.target_{name}`: a network among others.
    pub fn of(name: &str) -> Self {
        Self {
            model: format!("model.{name}."),
            optimizer: format!("training.{name}_optimizer."),
            target: format!("training.target_{name}."),
        }
    }

    /// `{model}`, e.g. `model.`, and `training.optimizer`: the only network of an algorithm.
    pub fn alone(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            optimizer: "training.optimizer.".to_owned(),
            target: "training.target.".to_owned(),
        }
    }
}

/// A network N that is trained, in two forms over the same parameters, with its optimiser.
#[derive(Debug)]
pub struct Trained<N: Network> {
    names: StateNames,
    /// Its sizes.
    pub config: N::Config,
    /// Its parameters.
    pub params: Params,
    /// The network with gradients to its parameters.
    pub net: N,
    /// Without: gradients pass it only towards its inputs. It sees every update.
    pub detached: N,
    /// None of networks that only act.
    optimizer: Option<Optimizer>,
    /// Where norms of its gradients are noted down, and under which name.
    watch: Option<(GradientWatch, &'static str)>,
}

impl InitContext<'_> {
    /// How many choices there are.
    ///
    /// # Errors
    /// If actions are real numbers: the learning rule is for choices.
    pub fn required_choices(&self) -> Result<usize> {
        self.choices.ok_or_else(|| {
            Error::Unsuitable(
                "actions are real numbers, and this learning rule is for choices".to_owned(),
            )
        })
    }
}

impl<N: Network> Trained<N> {
    /// Makes the network with initial values from `start`, and Adam without weight decay if it is to be updated. The encoder of
    /// `start`, if there is one, stands in for the network's hidden layers ([`Network::with_encoder`]). State is saved as
    /// `model.{name}` and `training.{name}_optimizer`.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(name: &str, config: N::Config, start: &mut InitContext<'_>) -> Result<Self> {
        Self::named(StateNames::of(name), config, start)
    }

    /// [`Self::new`] with state saved under these names.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn named(
        names: StateNames,
        config: N::Config,
        start: &mut InitContext<'_>,
    ) -> Result<Self> {
        let config = match start.encoder {
            Some(encoder) => N::with_encoder(config, encoder),
            None => config,
        };
        let mut params = Params::new(start.dtype, start.device);
        N::build(&config, &mut params.init(start.rng))?;
        let name = norm_name(&names.model);
        let trained = Self::around(names, config, params, start.stage, |params| {
            Adam::new(params, AdamConfig::default(), |_| ParamGroup::decay(0.0))
        })?;
        Ok(Self {
            watch: name.map(|name| (start.watch.clone(), name)),
            ..trained
        })
    }

    /// Makes the network around these parameters; `optimizer` makes their optimiser, if they are to be updated.
    ///
    /// # Errors
    /// If names or shapes of the parameters don't fit the sizes, or the device fails.
    pub fn around<O: Into<Optimizer>>(
        names: StateNames,
        config: N::Config,
        params: Params,
        stage: Stage,
        optimizer: impl FnOnce(&Params) -> trajformer_models::Result<O>,
    ) -> Result<Self> {
        let optimizer = match stage {
            Stage::Learning => Some(optimizer(&params)?.into()),
            Stage::Acting => None,
        };
        Ok(Self {
            names,
            net: N::build(&config, &mut params.tracked())?,
            detached: N::build(&config, &mut params.detached())?,
            optimizer,
            watch: None,
            params,
            config,
        })
    }

    /// One step down the gradient of `loss`; other networks' gradients are dropped.
    ///
    /// # Errors
    /// If it was made to act alone, or a tensor operation fails.
    pub fn minimize(&mut self, loss: &Tensor, learning_rate: f64) -> Result<()> {
        self.step_down(Some(loss), &gradients(loss, &self.params)?, learning_rate)?;
        Ok(())
    }

    /// [`Self::minimize`] by candle's own backward pass. Returns the norm of the gradients before clipping, a scalar, if the optimiser clips.
    ///
    /// # Errors
    /// As [`Self::minimize`].
    pub fn descend(&mut self, loss: &Tensor, learning_rate: f64) -> Result<Option<Tensor>> {
        self.step_down(Some(loss), &loss.backward()?, learning_rate)
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.as_ref().map_or(0, Optimizer::steps)
    }

    /// One step with these gradients, or their means over the [`ranks`] that take it together, for losses that several networks share. Returns their norm before clipping, a scalar,
    /// if the optimiser clips.
    ///
    /// # Errors
    /// If it was made to act alone, or a tensor operation fails.
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64) -> Result<Option<Tensor>> {
        self.step_down(None, gradients, learning_rate)
    }

    /// [`Self::step`], which is not taken if the loss, if it is this network's alone, or a gradient is not finite ([`health`]).
    fn step_down(
        &mut self,
        loss: Option<&Tensor>,
        gradients: &GradStore,
        learning_rate: f64,
    ) -> Result<Option<Tensor>> {
        let optimizer = self.optimizer.as_mut().ok_or_else(opened_without_data)?;
        let averaged = match ranks::here() {
            None => None,
            Some(ranks) => Some(ranks::averaged(&*ranks, gradients, &self.params)?),
        };
        let gradients = averaged.as_ref().unwrap_or(gradients);
        if !health::may_step(&self.names.model, loss, &self.params, gradients)? {
            return Ok(None);
        }
        if let Some((watch, name)) = &self.watch {
            watch.note(name, &self.params, gradients)?;
        }
        Ok(optimizer.step(gradients, learning_rate)?)
    }

    /// An independent network with the same values, without gradients.
    ///
    /// # Errors
    /// If the device fails.
    pub fn snapshot(&self) -> Result<N> {
        let params = self.params.deep_copy(false)?;
        Ok(N::build(&self.config, &mut params.detached())?)
    }

    /// Shows parameters and, where there is one, the optimiser.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        let prefix = self.names.model.clone();
        self.visit_as(&prefix, visitor)
    }

    /// [`Self::visit`] with the parameters under another prefix, for networks whose place another one has.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit_as(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.params.visit(prefix, visitor)?;
        if let Some(optimizer) = &mut self.optimizer {
            optimizer.visit(&self.names.optimizer, visitor)?;
        }
        Ok(())
    }
}

impl Trained<Scalar> {
    /// Moves the number to the nearest one of `low..=high`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn limit(&self, (low, high): (f64, f64)) -> Result<()> {
        for param in self.params.iter() {
            param.slot.set(&param.slot.tensor()?.clamp(low, high)?)?;
        }
        Ok(())
    }
}

/// A slowly moving copy of a network, which networks that only act do without.
#[derive(Debug)]
pub struct Target<N> {
    /// Prefix of the names under which it is saved.
    prefix: String,
    /// Parameters, and the network without gradients.
    copy: Option<(Params, N)>,
}

impl<N: Network> Target<N> {
    /// Equal to `of` at first; nothing if `of` only acts. State is saved as `training.target_{name}`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(of: &Trained<N>) -> Result<Self> {
        let copy = || -> Result<(Params, N)> {
            let params = of.params.deep_copy(false)?;
            let net = N::build(&of.config, &mut params.detached())?;
            Ok((params, net))
        };
        Ok(Self {
            prefix: of.names.target.clone(),
            copy: of.optimizer.is_some().then(copy).transpose()?,
        })
    }

    /// The copy, without gradients.
    ///
    /// # Errors
    /// If there is none: its network was made to act alone.
    pub fn net(&self) -> Result<&N> {
        let copy = self.copy.as_ref().ok_or_else(opened_without_data)?;
        Ok(&copy.1)
    }

    /// Its parameters.
    ///
    /// # Errors
    /// If there is none: its network was made to act alone.
    pub fn params(&self) -> Result<&Params> {
        let copy = self.copy.as_ref().ok_or_else(opened_without_data)?;
        Ok(&copy.0)
    }

    /// target <- (1 - rate) target + rate online.
    ///
    /// # Errors
    /// If there is no copy, or a tensor operation fails.
    pub fn follow(&self, online: &Trained<N>, rate: f64) -> Result<()> {
        let (params, _) = self.copy.as_ref().ok_or_else(opened_without_data)?;
        Ok(polyak_update(params, &online.params, rate)?)
    }

    /// Shows the parameters, where there are any.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&self, visitor: &mut dyn StateVisitor) -> Result<()> {
        match &self.copy {
            Some((params, _)) => Ok(params.visit(&self.prefix, visitor)?),
            None => Ok(()),
        }
    }
}
