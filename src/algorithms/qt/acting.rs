//! How QT acts: it asks for several returns at once, and takes one of the actions by its value.
//!
//! charleshsc/QT @ cb9e1a4, `get_action` of `decision_transformer/models/ql_DT.py`: C = 50 copies of the last K steps differ in their
//! returns. Those of each target return are what is left of it; normal noise is added to the last one, in all candidates but one
//! for each target; the last candidate asks for what the critics expected of the step before. With [`CandidateReturns::Authors`]:
//!
//! * each target has ⌊C / targets⌋ candidates one after the other, and it is the first `targets` candidates, all of the first target, that
//!   go without noise;
//! * the candidates that are left over read a history of standard normals in the place of returns, drawn anew at each step;
//! * what the critics expected is not divided by the scale of returns, and of the first step it is their value of zeros.

use std::collections::VecDeque;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use trajformer_models::decision_transformer::{Contexts, DecisionTransformer as Network};
use trajformer_models::dropout::Dropout;
use trajformer_models::twin_critics::TwinCritics;

use crate::policies::own_actions;
use trajformer_core::error::Result;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::{EpisodeStart, Policy, check_rows};
use trajformer_models::rng::Rng;

/// How returns are spread over the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateReturns {
    /// Target after target, over and over; each one's first candidate without noise; the critics' expectation in units of returns.
    #[default]
    Corrected,
    /// As the authors' code does it.
    Authors,
}

/// Which candidate is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// One with probability proportional to exp(Q), as the authors do.
    #[default]
    Weighted,
    /// The one with the largest value.
    Best,
    /// The first, whatever its value (the authors' `--infer_no_q`).
    First,
}

/// Settings of a decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Returns are divided by this.
    pub return_scale: f64,
    /// C.
    pub candidates: usize,
    /// Standard deviation of the noise on scaled returns.
    pub noise: f64,
    /// How returns are spread.
    pub returns: CandidateReturns,
    /// Whether the last candidate asks for what the critics expected.
    pub critic_return: bool,
    /// Which candidate is taken.
    pub choice: Choice,
    /// Rows of the time-step embedding; later steps count as the last.
    pub max_episode_steps: usize,
}

/// What an episode remembers: T steps, at most K.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What is left of each target return, scaled (targets, T).
    pub returns: Vec<VecDeque<f32>>,
    /// Normalised observations (T, O).
    pub observations: VecDeque<Vec<f32>>,
    /// Actions (T, A) in ±1; the last is zero until it is known.
    pub actions: VecDeque<Vec<f32>>,
    /// The reward before the last observation; 0 at the start.
    pub reward: f32,
    /// Number of the last step in the episode, from 0.
    pub time: usize,
}

/// The random numbers of one decision.
#[derive(Debug, Clone, Default)]
pub struct Draws {
    /// Standard normals in the place of returns, for the candidates that the authors' targets leave over (left over, T).
    pub histories: Vec<f32>,
    /// Standard normals of the last returns, for the candidates with noise, in order.
    pub noise: Vec<f32>,
    /// Chooses among weighted candidates, in [0, 1).
    pub uniform: f64,
}

impl Options {
    /// Draws what a decision after `steps` remembered steps, with so many targets, needs.
    pub fn draw(&self, targets: usize, steps: usize, rng: &mut Rng) -> Draws {
        let candidates = self.candidates.max(targets);
        let left_over = match self.returns {
            CandidateReturns::Corrected => 0,
            CandidateReturns::Authors => candidates % targets,
        };
        let mut normals = |count: usize| (0..count).map(|_| rng.normal() as f32).collect();
        let (histories, noise) = (normals(left_over * steps), normals(candidates - targets));
        Draws {
            histories,
            noise,
            uniform: match self.choice {
                Choice::Weighted => rng.uniform(),
                Choice::Best | Choice::First => 0.0,
            },
        }
    }

    /// Scaled returns of the candidates (C, T).
    fn returns(&self, history: &History, expected: Option<f64>, draws: &Draws) -> Vec<f64> {
        let (targets, steps) = (history.returns.len(), history.observations.len());
        let candidates = self.candidates.max(targets);
        let each = candidates / targets;
        let mut returns = Vec::with_capacity(candidates * steps);
        for candidate in 0..candidates {
            let target = match self.returns {
                CandidateReturns::Corrected => candidate % targets,
                CandidateReturns::Authors => candidate / each,
            };
            match history.returns.get(target) {
                Some(left) => returns.extend(left.iter().map(|&left| f64::from(left))),
                None => {
                    let first = (candidate - targets * each) * steps;
                    let normals = &draws.histories[first..first + steps];
                    returns.extend(normals.iter().map(|&normal| f64::from(normal)));
                }
            }
            if candidate >= targets {
                let noise = self.noise * f64::from(draws.noise[candidate - targets]);
                returns[(candidate + 1) * steps - 1] += noise;
            }
        }
        if let (Some(expected), Some(last)) = (expected, returns.last_mut()) {
            *last = expected;
        }
        returns
    }

    /// The return that the critics expected of the step before, less its reward; scaled. None at an episode's start, where the authors
    /// take the value of a step of zeros.
    fn expected(
        &self,
        critics: &TwinCritics,
        history: &History,
        (dtype, device): (DType, &Device),
    ) -> Result<Option<f64>> {
        let count = history.observations.len();
        // A single candidate asks for the target.
        if !self.critic_return
            || self.candidates.max(history.returns.len()) == history.returns.len()
        {
            return Ok(None);
        }
        let zeros = |like: &VecDeque<Vec<f32>>| vec![0.0; like[0].len()];
        let (observation, action) = match (count, self.returns) {
            (1, CandidateReturns::Corrected) => return Ok(None),
            (1, CandidateReturns::Authors) => {
                (zeros(&history.observations), zeros(&history.actions))
            }
            _ => (
                history.observations[count - 2].clone(),
                history.actions[count - 2].clone(),
            ),
        };
        let row = |values: Vec<f32>| {
            let width = values.len();
            Tensor::from_vec(values, (1, width), device)?.to_dtype(dtype)
        };
        let value = critics.smaller(&row(observation)?, &row(action)?)?;
        let value = value.to_dtype(DType::F64)?.to_vec1::<f64>()?[0];
        let reward = f64::from(history.reward);
        Ok(Some(match self.returns {
            CandidateReturns::Corrected => (value - reward) / self.return_scale,
            CandidateReturns::Authors => value - reward / self.return_scale,
        }))
    }
}

/// The action (A) in ±1 that follows a history, computed in this type on this device.
///
/// # Errors
/// If a tensor operation fails.
pub fn choose(
    (actor, critics): (&Network, &TwinCritics),
    options: &Options,
    history: &History,
    draws: &Draws,
    (dtype, device): (DType, &Device),
) -> Result<Vec<f64>> {
    let steps = history.observations.len();
    let expected = options.expected(critics, history, (dtype, device))?;
    let returns = options.returns(history, expected, draws);
    let c = returns.len() / steps;
    let copies = |rows: &VecDeque<Vec<f32>>| {
        let width = rows[0].len();
        let rows: Vec<f32> = rows.iter().flatten().copied().collect();
        let rows = Tensor::from_vec(rows, (1, steps, width), device)?.to_dtype(dtype)?;
        rows.broadcast_as((c, steps, width))?.contiguous()
    };
    let last_row = options.max_episode_steps - 1;
    let time = |step: usize| (history.time + 1 + step - steps).min(last_row) as u32;
    let timesteps: Vec<u32> = (0..c).flat_map(|_| (0..steps).map(time)).collect();
    let contexts = Contexts {
        returns: Tensor::from_vec(returns, (c, steps, 1), device)?.to_dtype(dtype)?,
        observations: copies(&history.observations)?,
        actions: copies(&history.actions)?,
        timesteps: Tensor::from_vec(timesteps, (c, steps), device)?,
        mask: Tensor::ones((c, steps), dtype, device)?,
        instructions: None,
    };
    let last = |x: &Tensor| x.narrow(1, steps - 1, 1)?.squeeze(1);
    let actions = last(&actor.forward(&contexts, Dropout::off())?)?.contiguous()?; // (C, A)
    let place = if options.choice == Choice::First || c == 1 {
        0
    } else {
        let values = critics.smaller(&last(&contexts.observations)?, &actions)?; // (C)
        place(
            options.choice,
            &values.to_dtype(DType::F64)?.to_vec1()?,
            draws.uniform,
        )
    };
    Ok(actions.get(place)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// The number of the candidate that is taken.
fn place(choice: Choice, values: &[f64], uniform: f64) -> usize {
    let mut best = 0;
    for (candidate, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = candidate;
        }
    }
    if choice != Choice::Weighted {
        return best;
    }
    let weight = |value: &f64| (value - values[best]).exp();
    let total: f64 = values.iter().map(weight).sum();
    let mut left = uniform * total;
    for (candidate, value) in values.iter().enumerate() {
        left -= weight(value);
        if left < 0.0 {
            return candidate;
        }
    }
    best
}

/// Acts with the last K steps of every row.
pub(super) struct QtPolicy {
    actor: Network,
    critics: TwinCritics,
    normalizer: Normalizer,
    bounds: ActionBounds,
    device: Device,
    options: Options,
    context_steps: usize,
    /// In the environment's units.
    targets: Vec<f32>,
    rows: Vec<Row>,
}

struct Row {
    history: History,
    rng: Rng,
}

impl QtPolicy {
    pub(super) fn new(
        (actor, critics): (Network, TwinCritics),
        (normalizer, bounds): (Normalizer, ActionBounds),
        device: Device,
        (options, context_steps, targets): (Options, usize, Vec<f32>),
    ) -> Self {
        Self {
            actor,
            critics,
            normalizer,
            bounds,
            device,
            options,
            context_steps,
            targets,
            rows: Vec::new(),
        }
    }

    /// Appends an observation to what a row remembers.
    fn remember(&self, history: &mut History, observation: Vec<f32>) {
        if !history.observations.is_empty() {
            history.time += 1;
        }
        history.observations.push_back(observation);
        history.actions.push_back(vec![0.0; self.bounds.dim()]);
        if history.observations.len() > self.context_steps {
            history.observations.pop_front();
            history.actions.pop_front();
            history.returns.iter_mut().for_each(|left| {
                left.pop_front();
            });
        }
    }
}

impl Policy for QtPolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        let row = |start: &EpisodeStart| {
            let targets = match start.target_return {
                Some(target) => vec![target],
                None => self.targets.clone(),
            };
            let scaled = |target: &f32| VecDeque::from([target / self.options.return_scale as f32]);
            Row {
                history: History {
                    returns: targets.iter().map(scaled).collect(),
                    ..History::default()
                },
                rng: start.rng.clone(),
            }
        };
        self.rows = episodes.iter().map(row).collect();
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let observations = observations.to_device(&self.device)?;
        let observations = self.normalizer.apply(&observations)?.to_vec2::<f32>()?;
        check_rows(self.rows.len(), observations.len())?;
        check_rows(self.rows.len(), active.len())?;
        let mut rows = std::mem::take(&mut self.rows);
        let act = |((row, observation), active): ((&mut Row, Vec<f32>), &bool)| -> Result<()> {
            if !active {
                return Ok(());
            }
            let Row { history, rng } = row;
            self.remember(history, observation);
            let draws = self
                .options
                .draw(history.returns.len(), history.observations.len(), rng);
            let (networks, place) = ((&self.actor, &self.critics), (DType::F32, &self.device));
            let action = choose(networks, &self.options, history, &draws, place)?;
            if let Some(last) = history.actions.back_mut() {
                *last = action.into_iter().map(|number| number as f32).collect();
            }
            Ok(())
        };
        let each = rows.par_iter_mut().zip(observations).zip(active);
        let acted = each.map(act).collect::<Result<()>>();
        self.rows = rows;
        acted?;
        let own = self.rows.iter().map(|row| &row.history.actions);
        own_actions::newest(own, &self.bounds, &self.device)
    }

    fn took(&mut self, actions: &Tensor) -> Result<()> {
        let own = self.rows.iter_mut().map(|row| &mut row.history.actions);
        own_actions::replace_newest(own, actions, &self.bounds, &self.device)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        for (row, &reward) in self.rows.iter_mut().zip(rewards) {
            row.history.reward = reward;
            for left in &mut row.history.returns {
                let last = left.back().copied().unwrap_or(0.0);
                left.push_back(last - reward / self.options.return_scale as f32);
            }
        }
        Ok(())
    }

    fn draws(&self) -> bool {
        self.options.choice != Choice::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(returns: CandidateReturns, candidates: usize) -> Options {
        Options {
            return_scale: 10.0,
            candidates,
            noise: 0.1,
            returns,
            critic_return: true,
            choice: Choice::Best,
            max_episode_steps: 100,
        }
    }

    fn history() -> History {
        History {
            returns: vec![VecDeque::from([4.0, 3.0]), VecDeque::from([2.0, 1.0])],
            observations: VecDeque::from([vec![0.0], vec![0.0]]),
            actions: VecDeque::from([vec![0.0], vec![0.0]]),
            reward: 1.0,
            time: 7,
        }
    }

    #[test]
    fn every_target_has_a_candidate_without_noise_and_the_critics_one() {
        let draws = Draws {
            noise: vec![1.0, 2.0, 3.0],
            histories: vec![8.0, 9.0],
            uniform: 0.0,
        };
        let close = |found: Vec<f64>, expected: [f64; 10]| {
            assert_eq!(found.len(), 10);
            let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-6;
            assert!(found.iter().zip(&expected).all(near), "{found:?}");
        };
        let corrected = options(CandidateReturns::Corrected, 5);
        let found = corrected.returns(&history(), Some(0.5), &draws);
        close(found, [4.0, 3.0, 2.0, 1.0, 4.0, 3.1, 2.0, 1.2, 4.0, 0.5]);
        let authors = options(CandidateReturns::Authors, 5);
        let found = authors.returns(&history(), None, &draws);
        close(found, [4.0, 3.0, 4.0, 3.0, 2.0, 1.1, 2.0, 1.2, 8.0, 9.3]);
    }

    #[test]
    fn candidates_are_drawn_by_their_values_and_the_best_is_the_largest() {
        let values = [0.0, 2.0f64.ln(), 0.0];
        assert_eq!(place(Choice::Best, &values, 0.0), 1);
        for (uniform, expected) in [
            (0.0, 0),
            (0.24, 0),
            (0.26, 1),
            (0.74, 1),
            (0.76, 2),
            (0.99, 2),
        ] {
            assert_eq!(place(Choice::Weighted, &values, uniform), expected);
        }
    }
}
