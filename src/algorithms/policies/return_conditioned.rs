//! [`ReturnConditionedPolicy`]: acts with the last K steps, aiming at a return, at what an instruction asks for,
//! or at both. What Decision Transformers share when they act.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use trajformer_models::choices::{best, drawn, one_hot};
use trajformer_models::decision_transformer::{Contexts, DecisionTransformer};
use trajformer_models::dropout::Dropout;
use trajformer_models::rng::Rng;

use crate::policies::groups::groups;
use crate::policies::own_actions;
use trajformer_core::dataset::ActionKind;
use trajformer_core::error::{Error, Result};
use trajformer_core::instructions::Instructions;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::{EpisodeStart, Policy, check_rows};

/// Contexts that the network reads at once.
const CONTEXTS: usize = 1;

/// A network that gives the actions of contexts.
pub trait ContextNetwork: Send + Sync {
    /// Actions (B, T, A) in ±1, without dropout; of choices logits (B, T, C).
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn actions(&self, contexts: &Contexts) -> Result<Tensor>;

    /// Actions (B, A) in ±1 at the last steps of contexts, drawn from their distributions with standard normals (B, A); `None` of networks that
    /// give no distribution of real numbers.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn drawn(&self, contexts: &Contexts, normals: &Tensor) -> Result<Option<Tensor>> {
        let _ = (contexts, normals);
        Ok(None)
    }
}

impl ContextNetwork for DecisionTransformer {
    fn actions(&self, contexts: &Contexts) -> Result<Tensor> {
        Ok(self.forward(contexts, Dropout::off())?)
    }
}

/// How contexts are made.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextOptions {
    /// K, steps that are remembered.
    pub context_steps: usize,
    /// Returns are divided by this.
    pub return_scale: f64,
    /// Returns to aim at, in the environment's units; empty: `best_return`.
    pub target_returns: Vec<f32>,
    /// Aimed at where there are no others.
    pub best_return: f32,
    /// Rows of the time-step embedding; later steps count as the last.
    pub max_episode_steps: usize,
}

/// How an action is found in what the network gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choosing {
    /// The likeliest choice; of real numbers what [`ContextNetwork::actions`] gives.
    Likeliest,
    /// One that is drawn from their distribution, by the row's own stream.
    Drawn,
}

/// Acts with the last K steps of every row.
pub struct ReturnConditionedPolicy {
    /// What acts.
    pub network: Box<dyn ContextNetwork>,
    /// Normalises observations.
    pub normalizer: Normalizer,
    /// Range of the actions.
    pub bounds: ActionBounds,
    /// Where the network lives.
    pub device: Device,
    /// How contexts are made.
    pub options: ContextOptions,
    /// What the network reads of instructions, if it does.
    pub instructed: Option<Instructed>,
    /// How actions are found in what the network gives.
    pub choosing: Choosing,
    /// The running episodes.
    pub state: State,
}

/// What a network that reads instructions knows of them.
#[derive(Debug, Clone)]
pub struct Instructed {
    /// Their embeddings.
    pub known: Arc<Instructions>,
    /// Whether returns to go are read beside them.
    pub returns: bool,
}

/// Episodes under way; [`Default`] before the first.
#[derive(Debug, Default)]
pub struct State {
    rows: Vec<Row>,
    /// Embeddings of the rows' instructions (B, E).
    instructions: Option<Tensor>,
    time: usize,
}

/// What one row remembers: K steps at most.
#[derive(Debug)]
struct Row {
    returns: VecDeque<f32>,
    observations: VecDeque<Vec<f32>>,
    /// As the network reads them: in ±1, or a 1 among zeros.
    actions: VecDeque<Vec<f32>>,
    rng: Rng,
}

impl Policy for ReturnConditionedPolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        let options = &self.options;
        let default = options.target_returns.first().copied();
        let default = default.unwrap_or(options.best_return);
        let row = |start: &EpisodeStart| {
            let target = start.target_return.unwrap_or(default);
            Row {
                returns: VecDeque::from([target / options.return_scale as f32]),
                observations: VecDeque::new(),
                actions: VecDeque::new(),
                rng: start.rng.clone(),
            }
        };
        self.state = State {
            rows: episodes.iter().map(row).collect(),
            instructions: self.embeddings(episodes)?,
            time: 0,
        };
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let observations = self
            .normalizer
            .apply(&observations.to_device(&self.device)?)?;
        let dim = observations.dims2()?.1;
        let observations = observations.to_vec2::<f32>()?;
        check_rows(self.state.rows.len(), observations.len())?;
        check_rows(self.state.rows.len(), active.len())?;
        let action_dim = self.width();
        for (row, observation) in self.state.rows.iter_mut().zip(observations) {
            row.observations.push_back(observation);
            row.actions.push_back(vec![0.0; action_dim]);
            if row.observations.len() > self.options.context_steps {
                row.observations.pop_front();
                row.actions.pop_front();
                row.returns.pop_front();
            }
        }
        let normals = self.normals(active)?;
        let act = |group: Range<usize>| {
            if active[group.clone()].contains(&true) {
                self.actions(group, (dim, action_dim), normals.as_ref())
            } else {
                let shape = (group.len(), action_dim);
                Ok(Tensor::zeros(shape, DType::F32, &self.device)?)
            }
        };
        let rows = groups(self.state.rows.len(), CONTEXTS, &self.device);
        let actions: Vec<Tensor> = rows.into_par_iter().map(act).collect::<Result<_>>()?;
        let actions = Tensor::cat(&actions, 0)?; // (E, A)
        self.state.time += 1;
        if let ActionKind::Discrete { .. } = self.bounds.kind() {
            return self.choose(&actions, active);
        }
        let unit = actions.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
        for (row, action) in self.state.rows.iter_mut().zip(unit) {
            if let Some(last) = row.actions.back_mut() {
                *last = action;
            }
        }
        Ok(self.bounds.from_unit(&actions)?.to_device(&Device::Cpu)?)
    }

    fn took(&mut self, actions: &Tensor) -> Result<()> {
        check_rows(self.state.rows.len(), actions.dim(0)?)?;
        if let ActionKind::Discrete { count } = self.bounds.kind() {
            let taken = one_hot(actions, count)?.to_vec2::<f32>()?; // (E, C)
            for (row, taken) in self.state.rows.iter_mut().zip(taken) {
                if let Some(last) = row.actions.back_mut() {
                    *last = taken;
                }
            }
            return Ok(());
        }
        let rows = self.state.rows.iter_mut().map(|row| &mut row.actions);
        own_actions::replace_newest(rows, actions, &self.bounds, &self.device)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        for (row, reward) in self.state.rows.iter_mut().zip(rewards) {
            let left = row.returns.back().copied().unwrap_or(0.0);
            row.returns
                .push_back(left - reward / self.options.return_scale as f32);
        }
        Ok(())
    }

    fn usual_target(&self) -> Option<f32> {
        match &self.instructed {
            Some(instructed) if !instructed.returns => None,
            _ => {
                let first = self.options.target_returns.first().copied();
                Some(first.unwrap_or(self.options.best_return))
            }
        }
    }

    fn target_returns(&self) -> Vec<f32> {
        match &self.instructed {
            Some(instructed) if !instructed.returns => Vec::new(),
            _ => self.options.target_returns.clone(),
        }
    }

    fn needs_instruction(&self) -> bool {
        self.instructed.is_some()
    }

    fn draws(&self) -> bool {
        self.choosing == Choosing::Drawn
    }
}

impl ReturnConditionedPolicy {
    /// Numbers of an action as the network reads it.
    fn width(&self) -> usize {
        self.bounds.kind().choices().unwrap_or(self.bounds.dim())
    }

    /// Choices (E, 1) by logits (E, C), which the rows remember.
    fn choose(&mut self, logits: &Tensor, active: &[bool]) -> Result<Tensor> {
        let logits = logits.to_device(&Device::Cpu)?;
        let numbers = match self.choosing {
            Choosing::Likeliest => best(&logits)?,
            Choosing::Drawn => {
                let mut normal = |(row, &active): (&mut Row, &bool)| {
                    if active { row.rng.normal() as f32 } else { 0.0 }
                };
                let rows = self.state.rows.iter_mut().zip(active);
                let normals: Vec<f32> = rows.map(&mut normal).collect();
                let normals = Tensor::from_vec(normals, (active.len(), 1), &Device::Cpu)?;
                drawn(&logits, &normals)?
            }
        }; // (E, 1)
        let taken = one_hot(&numbers, logits.dim(1)?)?.to_vec2::<f32>()?;
        for (row, taken) in self.state.rows.iter_mut().zip(taken) {
            if let Some(last) = row.actions.back_mut() {
                *last = taken;
            }
        }
        Ok(numbers)
    }

    /// Embeddings of the episodes' instructions (B, E).
    fn embeddings(&self, episodes: &[EpisodeStart]) -> Result<Option<Tensor>> {
        let Some(Instructed { known, .. }) = &self.instructed else {
            return Ok(None);
        };
        let mut values = Vec::with_capacity(episodes.len() * known.dimension());
        for start in episodes {
            values.extend_from_slice(known.asked(start.instruction.as_deref())?);
        }
        let shape = (episodes.len(), known.dimension());
        Ok(Some(Tensor::from_vec(values, shape, &self.device)?))
    }

    /// Standard normals (E, A) of the rows' own streams, where actions are real numbers that are drawn; zeros of rows that don't act.
    fn normals(&mut self, active: &[bool]) -> Result<Option<Tensor>> {
        let real = self.bounds.kind() == ActionKind::Continuous;
        if !real || self.choosing != Choosing::Drawn {
            return Ok(None);
        }
        let dim = self.bounds.dim();
        let mut normals = vec![0.0f32; active.len() * dim];
        let rows = self.state.rows.iter_mut().zip(normals.chunks_mut(dim));
        for ((row, normals), _) in rows.zip(active).filter(|(_, active)| **active) {
            normals.fill_with(|| row.rng.normal() as f32);
        }
        let shape = (active.len(), dim);
        Ok(Some(Tensor::from_vec(normals, shape, &self.device)?))
    }

    /// Actions (G, A) in ±1 of some rows after what they remember, drawn with the rows of `normals` (E, A) if there are any.
    fn actions(
        &self,
        rows: Range<usize>,
        (observation_dim, action_dim): (usize, usize),
        normals: Option<&Tensor>,
    ) -> Result<Tensor> {
        let contexts = self.contexts(rows.clone(), observation_dim, action_dim)?;
        if let Some(normals) = normals {
            let normals = normals.narrow(0, rows.start, rows.len())?;
            return self.network.drawn(&contexts, &normals)?.ok_or_else(|| {
                Error::Internal("a network without a distribution was to be drawn from".to_owned())
            });
        }
        let steps = contexts.mask.dims2()?.1;
        let predicted = self.network.actions(&contexts)?; // (G, T, A)
        Ok(predicted.narrow(1, steps - 1, 1)?.squeeze(1)?)
    }

    /// The remembered steps of some rows, and their instructions, as one batch (G, T, ...), T <= K, nothing padded.
    fn contexts(
        &self,
        group: Range<usize>,
        observation_dim: usize,
        action_dim: usize,
    ) -> Result<Contexts> {
        let rows = group.len();
        let instructions = match &self.state.instructions {
            Some(all) => Some(all.narrow(0, group.start, rows)?), // (G, E)
            None => None,
        };
        let of = &self.state.rows[group];
        let steps = of.first().map_or(0, |row| row.observations.len());
        let first = self.state.time + 1 - steps;
        let last_row = self.options.max_episode_steps - 1;
        let time = |step: usize| (first + step).min(last_row) as u32;
        let timesteps: Vec<u32> = (0..rows).flat_map(|_| (0..steps).map(time)).collect();
        let mut returns: Vec<f32> = of.iter().flat_map(|row| row.returns.clone()).collect();
        if self.instructed.as_ref().is_some_and(|i| !i.returns) {
            returns.fill(0.0);
        }
        let flat = |pick: fn(&Row) -> &VecDeque<Vec<f32>>| -> Vec<f32> {
            of.iter()
                .flat_map(|row| pick(row).iter().flatten().copied())
                .collect()
        };
        let tensor = |values: Vec<f32>, width: usize| {
            Tensor::from_vec(values, (rows, steps, width), &self.device)
        };
        Ok(Contexts {
            returns: tensor(returns, 1)?,
            observations: tensor(flat(|row| &row.observations), observation_dim)?,
            actions: tensor(flat(|row| &row.actions), action_dim)?,
            timesteps: Tensor::from_vec(timesteps, (rows, steps), &self.device)?,
            mask: Tensor::ones((rows, steps), DType::F32, &self.device)?,
            instructions,
        })
    }
}
