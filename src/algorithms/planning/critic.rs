//! [`Critic`]: the Q-functions of a trained run as the value of imagined actions, where a search maximises them.
//!
//! The paper's combination with a Q-function (arXiv 2106.02039, section 4.2, TT (+Q) on antmaze, with the Q-functions of IQL): in place of the
//! model's estimate of what follows. Its code was never released. Here the score of an imagined sequence is, with the critic's
//! discount γ and rewards in the critic's units,
//!
//! ```text
//! sum over t < H of γ^t r_t + γ^H min_i Q_i(s_H, a_H)
//! ```
//!
//! for the last imagined observation and action: Q has learned r_H and V(s_{H+1}), so neither is asked of the model, and V, whose
//! observation would have to be imagined first, not of the critic.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::params::{Params, Slot, StateVisitor};
use trajformer_models::rng::Rng;

use crate::policies::groups::in_groups;
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::{ActionBounds, Normalizer};

/// What decides a critic beside its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CriticSpec {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Discount that it was trained with.
    pub discount: f64,
    /// Its rewards are those of the environment times this, ...
    pub reward_scale: f64,
    /// ... and this.
    pub reward_shift: f64,
    /// The run that it comes from, for people.
    pub run: String,
    /// Its updates.
    pub updates: u64,
}

/// Two Q-functions with what stands around them: a copy, which needs the run that it comes from no more.
#[derive(Debug)]
pub struct Critic {
    spec: CriticSpec,
    /// As they are kept: `critics.*`, `normalizer.*`, `action_bounds.*`.
    tensors: BTreeMap<String, Tensor>,
    critics: Critics,
    normalizer: Normalizer,
    bounds: ActionBounds,
}

/// What stands in front of the numbers in [`Critic::to_bytes`].
#[derive(Serialize, Deserialize)]
struct Header {
    spec: CriticSpec,
    tensors: Vec<(String, Vec<usize>)>,
}

impl Critic {
    /// A critic from its tensors: those of an ensemble of Q-functions under `critics.`, `normalizer.mean` and `.scale` (O),
    /// `action_bounds.center` and `.half` (A).
    ///
    /// # Errors
    /// If one is missing, of another shape, or not finite.
    pub fn new(spec: CriticSpec, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let config = CriticConfig {
            observation_dim: spec.observation_dim,
            action_dim: spec.action_dim,
            hidden: spec.hidden.clone(),
            ..CriticConfig::default()
        };
        let mut params = Params::new(DType::F32, &Device::Cpu);
        Critics::new(&config, &mut params.init(&mut Rng::from_seed(0)))?;
        let named = |(name, tensor): (&String, &Tensor)| {
            let name = name.strip_prefix("critics.")?;
            Some((name.to_owned(), tensor.clone()))
        };
        params.load(&tensors.iter().filter_map(named).collect())?;
        let normalizer = Normalizer::identity(spec.observation_dim, &Device::Cpu)?;
        let bounds = ActionBounds::unit(spec.action_dim, &Device::Cpu)?;
        let mut restored = Restored(&tensors);
        normalizer.visit("normalizer.", &mut restored)?;
        bounds.visit("action_bounds.", &mut restored)?;
        Ok(Self {
            critics: Critics::new(&config, &mut params.detached())?,
            normalizer,
            bounds,
            tensors,
            spec,
        })
    }

    /// Fails unless it has these dimensions.
    ///
    /// # Errors
    /// If it has others.
    pub fn check_dimensions(&self, observation_dim: usize, action_dim: usize) -> Result<()> {
        let found = (self.spec.observation_dim, self.spec.action_dim);
        let expected = (observation_dim, action_dim);
        if found == expected {
            return Ok(());
        }
        Err(Error::Dimensions {
            problem: format!(
                "`planner.critic`: the run {} has {} observations and {} actions, the planner {} and {}: name a run that was \
                 trained on the same data",
                self.spec.run, found.0, found.1, expected.0, expected.1
            ),
            found,
            expected,
        })
    }

    /// What decides it beside its parameters.
    pub fn spec(&self) -> &CriticSpec {
        &self.spec
    }

    /// The smaller of both values (N) of actions (N, A) at observations (N, O), row-major, in the environment's units. A row's
    /// value is the same to the last bit whatever stands beside it.
    ///
    /// # Errors
    /// If there is no row, or shapes don't fit.
    pub fn values(&self, observations: Vec<f32>, actions: Vec<f32>) -> Result<Vec<f64>> {
        let (o, a) = (self.spec.observation_dim, self.spec.action_dim);
        let rows = observations.len() / o;
        let observations = Tensor::from_vec(observations, (rows, o), &Device::Cpu)?;
        let observations = self.normalizer.apply(&observations)?;
        let actions = self
            .bounds
            .to_unit(&Tensor::from_vec(actions, (rows, a), &Device::Cpu)?)?;
        let values = in_groups(rows, &Device::Cpu, |rows| {
            let (observations, actions) = (
                observations.index_select(rows, 0)?,
                actions.index_select(rows, 0)?,
            );
            Ok(self.critics.forward(&observations, &actions)?.min(0)?)
        })?; // (N)
        let values = values.to_vec1::<f32>()?;
        Ok(values.into_iter().map(f64::from).collect())
    }

    /// A reward of the environment in the critic's units.
    pub fn reward(&self, raw: f64) -> f64 {
        raw * self.spec.reward_scale + self.spec.reward_shift
    }

    /// All of it, to be kept with the run that plans with it.
    ///
    /// # Errors
    /// If a tensor can't be read.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let named = self.tensors.iter();
        let header = Header {
            spec: self.spec.clone(),
            tensors: named
                .map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()))
                .collect(),
        };
        let header =
            serde_json::to_vec(&header).map_err(|error| Error::Internal(error.to_string()))?;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        for tensor in self.tensors.values() {
            let numbers = tensor
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Ok(bytes)
    }

    /// The critic that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the bytes are not whole.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = || unfit("the copy that the run keeps is damaged".to_owned());
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged())?;
        let (header, mut rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        let header: Header = serde_json::from_slice(header).map_err(|_| damaged())?;
        let mut tensors = BTreeMap::new();
        for (name, dims) in header.tensors {
            let count = dims
                .iter()
                .try_fold(4usize, |product, &dim| product.checked_mul(dim));
            let (numbers, after) = count
                .and_then(|count| rest.split_at_checked(count))
                .ok_or_else(damaged)?;
            rest = after;
            let numbers = numbers
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes));
            tensors.insert(
                name,
                Tensor::from_vec(numbers.collect(), dims, &Device::Cpu)?,
            );
        }
        if rest.is_empty() {
            Self::new(header.spec, tensors)
        } else {
            Err(damaged())
        }
    }
}

/// Sets what is shown from these tensors.
struct Restored<'a>(&'a BTreeMap<String, Tensor>);

impl StateVisitor for Restored<'_> {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        let expected = slot.dims().to_vec();
        match self.0.get(name).filter(|found| found.dims() == expected) {
            Some(tensor) => slot.set(tensor),
            None => Err(trajformer_models::Error::MissingTensor {
                name: name.to_owned(),
                expected,
            }),
        }
    }
}

fn unfit(problem: String) -> Error {
    Error::Unsuitable(format!("the planner's critic: {problem}"))
}
