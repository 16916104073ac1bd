//! [`Dataset`]: steps of logged experience in time order, cut into episodes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use trajformer_models::rng::Rng;

/// Whether the actions of a data set are vectors or choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActionKind {
    /// An action is a vector of `action_dim` real numbers.
    #[default]
    Continuous,
    /// An action is a choice among `count`, stored as one number in 0..count.
    Discrete {
        /// How many choices.
        count: usize,
    },
}

impl ActionKind {
    /// How many choices there are; `None` of real numbers.
    pub fn choices(self) -> Option<usize> {
        match self {
            Self::Continuous => None,
            Self::Discrete { count } => Some(count),
        }
    }

    /// Of so many choices, or of real numbers where there are none.
    pub fn of_choices(choices: Option<usize>) -> Self {
        choices.map_or(Self::Continuous, |count| Self::Discrete { count })
    }

    /// Whether what was learned from `self` can act where actions are `there`: both are real numbers, or no choice is missing there.
    pub fn acts_in(self, there: Self) -> bool {
        match (self, there) {
            (Self::Continuous, Self::Continuous) => true,
            (Self::Discrete { count }, Self::Discrete { count: there }) => count <= there,
            _ => false,
        }
    }

    /// In words, e.g. `3 actions` or `one of 3 actions`; `action_dim` is how many numbers an action has.
    pub fn said(self, action_dim: usize) -> String {
        match self {
            Self::Continuous => format!("{action_dim} actions"),
            Self::Discrete { count } => format!("one of {count} actions"),
        }
    }
}

/// One episode: a range of steps, how it ended, and what came after its last step.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Index of its first step.
    pub start: usize,
    /// How many steps (actions), at least 1.
    pub steps: usize,
    /// The environment ended it: no future after the last step.
    pub terminated: bool,
    /// A time limit or the collector ended it: the future is unknown, not absent.
    pub truncated: bool,
    /// The observation after the last step (O), where the file has it.
    pub final_observation: Option<Box<[f32]>>,
    /// What the episode was asked to do, in words: Minari's `mission`. Never empty.
    pub instruction: Option<Arc<str>>,
    /// Its first step is not known to be the first of an episode: the rows before it are missing, or lie somewhere
    /// else in the file. Its return is unknown then, however it ends.
    pub fragment: bool,
}

impl Episode {
    /// A stretch of `steps` (at least 1) from step `start` on that begins with an episode's first step. Nothing else is known: no
    /// end, no observation after it, no instruction.
    pub fn new(start: usize, steps: usize) -> Self {
        Self {
            start,
            steps,
            terminated: false,
            truncated: false,
            final_observation: None,
            instruction: None,
            fragment: false,
        }
    }

    /// Its steps.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.steps
    }

    /// Whether it has an end: `false` where the file stops, or jumps to other rows, before the episode ends.
    pub fn has_end(&self) -> bool {
        self.terminated || self.truncated
    }

    /// Whether it is whole, from its first step to its end: otherwise it counts in steps but not in returns.
    pub fn is_complete(&self) -> bool {
        self.has_end() && !self.fragment
    }
}

/// Logged experience: `steps` observations, actions and rewards in time order, episode after
/// episode. Everything is finite (readers check).
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Numbers in an observation (O).
    pub observation_dim: usize,
    /// Numbers in an action (A); 1 if discrete.
    pub action_dim: usize,
    /// What an action is.
    pub action_kind: ActionKind,
    /// Observations, row-major (steps, O).
    pub observations: Vec<f32>,
    /// Actions, row-major (steps, A), in the environment's units.
    pub actions: Vec<f32>,
    /// Rewards (steps), in the environment's units.
    pub rewards: Vec<f32>,
    /// Episodes, in order, without gaps, covering every step.
    pub episodes: Vec<Episode>,
    /// The environment's name as the file gives it, e.g. `Hopper-v5`; never mapped silently.
    pub env_name: Option<String>,
    /// Reference returns (random, expert) that the file carries.
    pub reference_returns: Option<(f64, f64)>,
    /// Lowest and highest action of every dimension (A each) that the file allows: Minari's `action_space`,
    /// `action_low` and `action_high` elsewhere. Infinite where it sets no bound.
    pub action_bounds: Option<(Vec<f32>, Vec<f32>)>,
    /// The files it came from.
    pub sources: Vec<PathBuf>,
    /// What a user should know: odd ends, constant columns, actions out of range.
    pub warnings: Vec<String>,
}

impl Dataset {
    /// How many steps.
    pub fn steps(&self) -> usize {
        self.rewards.len()
    }

    /// Observation at `step` (O).
    pub fn observation(&self, step: usize) -> &[f32] {
        &self.observations[step * self.observation_dim..(step + 1) * self.observation_dim]
    }

    /// Action at `step` (A).
    pub fn action(&self, step: usize) -> &[f32] {
        &self.actions[step * self.action_dim..(step + 1) * self.action_dim]
    }

    /// Undiscounted return of an episode, summed in f64.
    pub fn episode_return(&self, episode: &Episode) -> f64 {
        self.rewards[episode.range()]
            .iter()
            .map(|&r| f64::from(r))
            .sum()
    }

    /// Returns of the complete episodes, in order.
    pub fn returns(&self) -> Vec<f64> {
        let complete = self.episodes.iter().filter(|e| e.is_complete());
        complete.map(|e| self.episode_return(e)).collect()
    }

    /// Observations of the complete episodes (steps of theirs, O): without what the file breaks off in the middle of an
    /// episode.
    pub fn complete_observations(&self) -> Cow<'_, [f32]> {
        if self.episodes.iter().all(Episode::is_complete) {
            return Cow::Borrowed(&self.observations);
        }
        let complete = self.episodes.iter().filter(|e| e.is_complete());
        let rows = complete.flat_map(Episode::range);
        Cow::Owned(
            rows.flat_map(|step| self.observation(step))
                .copied()
                .collect(),
        )
    }

    /// A data set of `share`, in (0, 1], of its complete episodes, drawn without replacement and kept in their order. As
    /// many as fit, rounded down: LaMo's `sample_ratio` (srzer/LaMo-2023 @ 3e4fcc8, `data/mujoco/ratio_dataset.py`).
    ///
    /// # Errors
    /// If not one episode is left.
    pub fn sample_episodes(&self, share: f64, rng: &mut Rng) -> Result<Self> {
        let all = self.episodes.iter().enumerate();
        let complete = all.filter(|(_, episode)| episode.is_complete());
        let complete: Vec<usize> = complete.map(|(at, _)| at).collect();
        let count = (complete.len() as f64 * share) as usize;
        if count == 0 {
            return Err(Error::settings(format!(
                "`data.sample_ratio` is {share}, which leaves none of the {} complete episodes: expected at least {:.3}",
                complete.len(),
                1.0 / complete.len().max(1) as f64
            )));
        }
        let mut rows: Vec<usize> = (0..complete.len()).collect();
        for place in 0..count {
            rows.swap(place, place + rng.below(complete.len() - place));
        }
        rows.truncate(count);
        rows.sort_unstable();
        let rows: Vec<usize> = rows.into_iter().map(|row| complete[row]).collect();
        Ok(self.of_episodes(&rows))
    }

    /// Numbers of the episodes that are kept apart to measure losses on, in order: `share`, in (0, 1), of the complete episodes,
    /// as many as fit, drawn without replacement. They depend on which episodes are complete, on `share` and on `rng` alone.
    ///
    /// # Errors
    /// If the share is no whole episode.
    pub fn draw_held_out(&self, share: f64, rng: &mut Rng) -> Result<Vec<usize>> {
        let all = self.episodes.iter().enumerate();
        let complete = all.filter(|(_, episode)| episode.is_complete());
        let mut numbers: Vec<usize> = complete.map(|(at, _)| at).collect();
        let of = numbers.len();
        let count = (of as f64 * share) as usize;
        if count == 0 {
            let expected = if of > 1 {
                format!("expected at least {:.3}", 1.0 / of as f64)
            } else {
                "expected data with at least two".to_owned()
            };
            return Err(Error::settings(format!(
                "{}: `train.held_out_fraction` is {share}, which keeps none of the {of} complete episodes apart: {expected}",
                self.source_names()
            )));
        }
        for place in 0..count {
            numbers.swap(place, place + rng.below(of - place));
        }
        numbers.truncate(count);
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The data without the episodes with these numbers (in order), and these alone.
    pub fn without_episodes(&self, numbers: &[usize]) -> (Self, Self) {
        let rest = 0..self.episodes.len();
        let rest: Vec<usize> = rest
            .filter(|at| numbers.binary_search(at).is_err())
            .collect();
        (self.of_episodes(&rest), self.of_episodes(numbers))
    }

    /// A data set of the episodes with these numbers, in this order.
    pub fn of_episodes(&self, numbers: &[usize]) -> Self {
        let mut sampled = Self {
            observations: Vec::new(),
            actions: Vec::new(),
            rewards: Vec::new(),
            episodes: Vec::with_capacity(numbers.len()),
            ..self.clone()
        };
        for &number in numbers {
            let (start, episode) = (sampled.steps(), &self.episodes[number]);
            let range = episode.range();
            let (o, a) = (self.observation_dim, self.action_dim);
            sampled
                .observations
                .extend_from_slice(&self.observations[range.start * o..range.end * o]);
            sampled
                .actions
                .extend_from_slice(&self.actions[range.start * a..range.end * a]);
            sampled.rewards.extend_from_slice(&self.rewards[range]);
            sampled.episodes.push(Episode {
                start,
                ..episode.clone()
            });
        }
        sampled
    }

    /// The best of [`Self::returns`]; minus infinity if no episode is complete.
    pub fn best_return(&self) -> f64 {
        self.returns().into_iter().fold(f64::NEG_INFINITY, f64::max)
    }

    /// The distinct instructions of its episodes, in the order in which they first appear.
    pub fn instructions(&self) -> Vec<Arc<str>> {
        let mut seen = HashSet::new();
        let texts = self.episodes.iter().filter_map(|e| e.instruction.as_ref());
        texts
            .filter(|text| seen.insert(Arc::clone(text)))
            .cloned()
            .collect()
    }

    /// A data set without a step, whose fields are to be filled. Nothing can be learned from it as it is.
    pub fn blank(observation_dim: usize, action_dim: usize) -> Self {
        Self {
            observation_dim,
            action_dim,
            action_kind: ActionKind::Continuous,
            observations: Vec::new(),
            actions: Vec::new(),
            rewards: Vec::new(),
            episodes: Vec::new(),
            env_name: None,
            reference_returns: None,
            action_bounds: None,
            sources: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
