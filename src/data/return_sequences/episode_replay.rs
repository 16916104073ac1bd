//! [`EpisodeReplay`]: whole episodes that a return-conditioned policy collected itself, among the best ones of its data.
//!
//! Follows facebookresearch/online-dt @ c376fa1, `replay_buffer.py`: as long as there is room, an episode is added; then each takes the place
//! of another, first of the data's worst, and so on around. Its returns to go are those that it reached.

use std::collections::VecDeque;

use candle_core::{Device, Tensor, Var};
use trajformer_models::params::{Slot, StateVisitor};

use super::{ReturnSequences, Span};
use crate::returns;
use trajformer_core::error::{Error, Result};

/// The episodes of [`ReturnSequences`] online; their steps lie in its tables, after the data's.
#[derive(Debug, Clone)]
pub struct EpisodeReplay {
    /// Most episodes.
    capacity: usize,
    /// Those of the data that it began with, the lowest return first.
    first: Vec<Span>,
    /// Rows of the data in the tables.
    data_rows: usize,
    /// Episodes collected.
    episodes: u64,
    /// Steps of each of the last `capacity` of them.
    lengths: VecDeque<usize>,
    /// Rewards of their steps, in the environment's units.
    rewards: Vec<f32>,
    /// The episode that runs.
    running: Running,
}

/// An episode in the middle: T steps whose outcome is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Running {
    /// (T, O), normalised.
    pub observations: Vec<f32>,
    /// (T, A) in ±1.
    pub actions: Vec<f32>,
    /// (T), in the environment's units.
    pub rewards: Vec<f32>,
}

/// Columns of what is saved.
const COLUMNS: [&str; 4] = ["observations", "actions", "rewards", "last"];

impl EpisodeReplay {
    /// Keeps of `sequences` the `capacity` episodes with the highest returns, the lowest first, and makes room for others. Batches are put
    /// together on the CPU from now on.
    ///
    /// # Errors
    /// If there is nothing to draw, or the device fails.
    pub fn new(sequences: &mut ReturnSequences, capacity: usize) -> Result<Self> {
        sequences.require_steps()?;
        sequences.bring_home()?;
        let returned = |span: &Span| sequences.returns_to_go[span.start];
        let mut first = sequences.episodes.clone();
        first.sort_by(|a, b| returned(a).total_cmp(&returned(b)));
        first.drain(..first.len().saturating_sub(capacity));
        sequences.hold(first.clone());
        Ok(Self {
            capacity,
            first,
            data_rows: sequences.returns_to_go.len(),
            episodes: 0,
            lengths: VecDeque::new(),
            rewards: Vec::new(),
            running: Running::default(),
        })
    }

    /// Episodes collected so far.
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// Steps collected so far that are kept, those of the running episode included.
    pub fn steps(&self) -> usize {
        self.rewards.len() + self.running.rewards.len()
    }

    /// The episode that runs.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Appends a step to the running episode: normalised observation (O), action (A) in ±1, and reward. With its `last` step the
    /// episode is among those that are drawn from.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn push(
        &mut self,
        sequences: &mut ReturnSequences,
        (observation, action, reward): (&[f32], &[f32], f32),
        last: bool,
    ) -> Result<()> {
        let found = (observation.len(), action.len());
        let expected = (sequences.observation_dim, sequences.action_dim);
        if found != expected {
            return Err(Error::shape(
                "replay: observation and action",
                format_args!("{found:?}"),
                format_args!("{expected:?}"),
            ));
        }
        self.running.observations.extend_from_slice(observation);
        self.running.actions.extend_from_slice(action);
        self.running.rewards.push(reward);
        if last {
            let episode = std::mem::take(&mut self.running);
            self.add(sequences, &episode);
        }
        Ok(())
    }

    /// Adds an episode that has ended, in the place of another if there is no room.
    fn add(&mut self, sequences: &mut ReturnSequences, episode: &Running) {
        let steps = episode.rewards.len();
        let span = sequences.append(episode);
        let mut spans = std::mem::take(&mut sequences.episodes);
        let number = self.first.len() + self.episodes as usize;
        if number < self.capacity {
            spans.push(span);
        } else {
            spans[number % self.capacity] = span;
        }
        self.episodes += 1;
        self.lengths.push_back(steps);
        self.rewards.extend_from_slice(&episode.rewards);
        if self.lengths.len() > self.capacity {
            // Its place is the one that was just taken.
            let steps = self.lengths.pop_front().unwrap_or(0);
            self.rewards.drain(..steps);
            sequences.remove(self.data_rows, steps, &mut spans);
        }
        sequences.hold(spans);
    }

    /// Shows everything under `training.replay`, steps in the order of their collection.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(
        &mut self,
        sequences: &mut ReturnSequences,
        visitor: &mut dyn StateVisitor,
    ) -> Result<()> {
        let before = self.columns(sequences);
        let (mut episodes, mut len) = (self.episodes, self.steps() as u64);
        visitor.counter("training.replay.episodes", &mut episodes)?;
        visitor.counter("training.replay.len", &mut len)?;
        let len = len as usize;
        let widths = [sequences.observation_dim, sequences.action_dim, 1, 1];
        let mut after: [Vec<f32>; 4] = Default::default();
        for (column, name) in COLUMNS.iter().enumerate().filter(|_| len > 0) {
            let mut values = before[column].clone();
            values.resize(len * widths[column], 0.0);
            let shown = Tensor::from_vec(values, (len, widths[column]), &Device::Cpu)?;
            let shown = Var::from_tensor(&shown)?;
            visitor.tensor(&format!("training.replay.{name}"), &Slot::from(&shown))?;
            after[column] = shown.as_tensor().flatten_all()?.to_vec1()?;
        }
        if episodes != self.episodes || after != before {
            self.refill(sequences, episodes, &after)?;
        }
        Ok(())
    }

    /// What is saved: observations, actions, rewards, and 1 where an episode ends.
    fn columns(&self, sequences: &ReturnSequences) -> [Vec<f32>; 4] {
        let (o, a) = (sequences.observation_dim, sequences.action_dim);
        let own = |table: &[f32], width: usize, running: &[f32]| {
            let mut rows = table[self.data_rows * width..].to_vec();
            rows.extend_from_slice(running);
            rows
        };
        let mut last = Vec::with_capacity(self.steps());
        for &steps in &self.lengths {
            last.resize(last.len() + steps - 1, 0.0);
            last.push(1.0);
        }
        last.resize(self.steps(), 0.0);
        let mut rewards = self.rewards.clone();
        rewards.extend_from_slice(&self.running.rewards);
        [
            own(&sequences.states, o, &self.running.observations),
            own(&sequences.actions, a, &self.running.actions),
            rewards,
            last,
        ]
    }

    /// Holds these steps in place of all that was collected.
    fn refill(
        &mut self,
        sequences: &mut ReturnSequences,
        episodes: u64,
        columns: &[Vec<f32>; 4],
    ) -> Result<()> {
        let [observations, actions, rewards, last] = columns;
        let ended = last.iter().filter(|last| **last == 1.0).count() as u64;
        if ended != episodes.min(self.capacity as u64) {
            return Err(Error::settings(format!(
                "the checkpoint's replay buffer has {ended} episodes, but {episodes} were collected and \
                 `replay_episodes` is {}: go on with the number that the run was started with",
                self.capacity
            )));
        }
        sequences.truncate(self.data_rows);
        sequences.hold(self.first.clone());
        (self.lengths, self.rewards) = (VecDeque::new(), Vec::new());
        (self.episodes, self.running) = (episodes - ended, Running::default());
        // The places of those that are gone, which later ones have taken: they are filled below.
        let (o, a) = (sequences.observation_dim, sequences.action_dim);
        let missing = (self.first.len() + self.episodes as usize).min(self.capacity);
        let mut spans = sequences.episodes.clone();
        if let Some(&any) = spans.first() {
            spans.resize(missing.max(spans.len()), any);
        }
        sequences.hold(spans);
        for (row, &reward) in rewards.iter().enumerate() {
            let step = (
                &observations[row * o..(row + 1) * o],
                &actions[row * a..(row + 1) * a],
                reward,
            );
            self.push(sequences, step, last[row] == 1.0)?;
        }
        Ok(())
    }
}

impl ReturnSequences {
    /// Brings everything back from the device where it lies.
    fn bring_home(&mut self) -> Result<()> {
        let Some(tables) = self.resident.take() else {
            return Ok(());
        };
        let (last, rows) = (tables.mask.elem_count() - 1, |table: &Tensor| {
            let table = table.narrow(0, 0, table.dim(0)? - 1)?; // without the row of padding
            table.flatten_all()?.to_vec1::<f32>()
        });
        self.states = rows(&tables.states)?;
        self.actions = rows(&tables.actions)?;
        self.returns_to_go = rows(&tables.returns_to_go)?;
        debug_assert_eq!(self.returns_to_go.len(), last);
        Ok(())
    }

    /// Draws from these episodes from now on.
    fn hold(&mut self, mut spans: Vec<Span>) {
        let mut steps_before = 0;
        for span in &mut spans {
            span.steps_before = steps_before;
            steps_before += span.end - span.start;
        }
        self.episodes = spans;
    }

    /// Appends the rows of an episode to the tables, with the returns that it reached.
    fn append(&mut self, episode: &Running) -> Span {
        let start = self.returns_to_go.len();
        self.states.extend_from_slice(&episode.observations);
        self.actions.extend_from_slice(&episode.actions);
        let returns = returns::scaled_to_go(&episode.rewards, self.options.return_scale);
        self.returns_to_go.extend(returns);
        Span {
            start,
            end: self.returns_to_go.len(),
            steps_before: 0,
        }
    }

    /// Removes `steps` rows from row `start` on, and moves the spans behind them.
    fn remove(&mut self, start: usize, steps: usize, spans: &mut [Span]) {
        let (o, a) = (self.observation_dim, self.action_dim);
        self.states.drain(start * o..(start + steps) * o);
        self.actions.drain(start * a..(start + steps) * a);
        self.returns_to_go.drain(start..start + steps);
        for span in spans.iter_mut().filter(|span| span.start >= start) {
            span.start -= steps;
            span.end -= steps;
        }
    }

    /// Keeps the first rows of the tables alone.
    fn truncate(&mut self, rows: usize) {
        self.states.truncate(rows * self.observation_dim);
        self.actions.truncate(rows * self.action_dim);
        self.returns_to_go.truncate(rows);
    }
}
