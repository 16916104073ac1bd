//! [`Replay`]: transitions that a policy collected itself, beside those of the data set.

use candle_core::{DType, Device, Tensor, Var};
use trajformer_models::params::{Slot, StateVisitor};

use crate::batch::Batch;
use crate::returns::{Returns, UNKNOWN};
use trajformer_core::error::Result;

/// Rows that a new buffer has room for.
const FIRST_ROWS: usize = 1024;

/// One step of experience; observations as the networks see them, the action in ±1.
#[derive(Debug, Clone)]
pub struct Experience {
    /// (1, O)
    pub observation: Tensor,
    /// (1, A)
    pub action: Tensor,
    /// As learned from.
    pub reward: f32,
    /// (1, O)
    pub next_observation: Tensor,
    /// The environment ended the episode.
    pub terminated: bool,
    /// The episode goes on no further, for whatever reason.
    pub last: bool,
}

/// Columns of a buffer by number.
const OBSERVATIONS: usize = 0;
const ACTIONS: usize = 1;
const REWARDS: usize = 2;
const NEXT_OBSERVATIONS: usize = 3;
const TERMINATED: usize = 4;
const LAST: usize = 5;
const REACHED: usize = 6;

/// Collected transitions, in the order of their collection; it grows, nothing is thrown away.
#[derive(Debug)]
pub struct Replay {
    /// Columns of the buffer; that of returns only if they are asked for.
    columns: Vec<Column>,
    /// How returns are taken, if they are asked for.
    returns: Option<Returns>,
    len: u64,
    /// Episodes that have ended.
    episodes: u64,
    /// Steps of the one that runs.
    running: u64,
}

/// One array of the buffer.
#[derive(Debug)]
struct Column {
    name: &'static str,
    width: usize,
    rows: Tensor, // (capacity, width)
}

impl Column {
    fn new(name: &'static str, width: usize, device: &Device) -> Result<Self> {
        let rows = Tensor::zeros((FIRST_ROWS, width), DType::F32, device)?;
        Ok(Self { name, width, rows })
    }

    /// Makes room for `len` rows.
    fn reserve(&mut self, len: usize) -> Result<()> {
        let capacity = self.rows.dim(0)?;
        if len > capacity {
            let more = (len - capacity).max(capacity);
            let zeros = Tensor::zeros((more, self.width), DType::F32, self.rows.device())?;
            self.rows = Tensor::cat(&[&self.rows, &zeros], 0)?;
        }
        Ok(())
    }

    /// Shows the first `len` rows; they are what it says afterwards.
    fn visit(&mut self, len: usize, visitor: &mut dyn StateVisitor) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.reserve(len)?;
        let shown = Var::from_tensor(&self.rows.narrow(0, 0, len)?.copy()?)?;
        let name = format!("training.replay.{}", self.name);
        visitor.tensor(&name, &Slot::from(&shown))?;
        Ok(self.rows.slice_set(&shown.as_detached_tensor(), 0, 0)?)
    }
}

impl Replay {
    /// Nothing collected yet; `returns` if batches are to hold those of episodes that have ended.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(
        observation_dim: usize,
        action_dim: usize,
        returns: Option<Returns>,
        device: &Device,
    ) -> Result<Self> {
        let mut columns = vec![
            Column::new("observations", observation_dim, device)?,
            Column::new("actions", action_dim, device)?,
            Column::new("rewards", 1, device)?,
            Column::new("next_observations", observation_dim, device)?,
            Column::new("terminated", 1, device)?,
            Column::new("last", 1, device)?,
        ];
        if returns.is_some() {
            columns.push(Column::new("reached", 1, device)?);
        }
        Ok(Self {
            columns,
            returns,
            len: 0,
            episodes: 0,
            running: 0,
        })
    }

    /// Transitions.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Episodes that have ended.
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// Actions (T, A) of the episode that runs, in ±1; `None` at its start.
    ///
    /// # Errors
    /// If the device fails.
    pub fn running_actions(&self) -> Result<Option<Tensor>> {
        let (len, running) = (self.len(), self.running as usize);
        match running {
            0 => Ok(None),
            _ => Ok(Some(self.columns[ACTIONS].rows.narrow(
                0,
                len - running,
                running,
            )?)),
        }
    }

    /// Adds a step. With the last one of an episode the returns of all its steps are known.
    ///
    /// # Errors
    /// If its shapes don't fit.
    pub fn push(&mut self, step: &Experience) -> Result<()> {
        let device = step.observation.device();
        let number = |value: f32| Tensor::full(value, (1, 1), device);
        let flag = |value: bool| number(f32::from(u8::from(value)));
        let row = [
            step.observation.clone(),
            step.action.clone(),
            number(step.reward)?,
            step.next_observation.clone(),
            flag(step.terminated)?,
            flag(step.last)?,
            number(UNKNOWN)?,
        ];
        let at = self.len();
        for (column, value) in self.columns.iter_mut().zip(&row) {
            column.reserve(at + 1)?;
            column.rows.slice_set(&value.contiguous()?, 0, at)?;
        }
        self.len += 1;
        self.running += 1;
        if step.last {
            let steps = self.running as usize;
            self.set_reached(at + 1 - steps, steps, step.terminated)?;
            self.episodes += 1;
            self.running = 0;
        }
        Ok(())
    }

    /// Sets the returns of an episode of so many steps from row `start` on, if they are asked for.
    fn set_reached(&self, start: usize, steps: usize, terminated: bool) -> Result<()> {
        let Some(returns) = &self.returns else {
            return Ok(());
        };
        let rewards = self.numbers(REWARDS, start, steps)?;
        let reached = returns.monte_carlo(&rewards, terminated);
        let column = &self.columns[REACHED].rows;
        let reached = Tensor::from_vec(reached, (steps, 1), column.device())?;
        Ok(column.slice_set(&reached, 0, start)?)
    }

    /// Rows of a column, one after the other.
    fn numbers(&self, column: usize, start: usize, rows: usize) -> Result<Vec<f32>> {
        let rows = self.columns[column].rows.narrow(0, start, rows)?;
        Ok(rows.flatten_all()?.to_vec1()?)
    }

    /// The transitions at `indices` (B).
    ///
    /// # Errors
    /// If an index is not below [`Self::len`].
    pub fn gather(&self, indices: &[u32]) -> Result<Batch> {
        let device = self.columns[OBSERVATIONS].rows.device();
        let rows = Tensor::from_slice(indices, indices.len(), device)?;
        let pick = |column: usize| self.columns[column].rows.index_select(&rows, 0);
        let number = |column: usize| pick(column)?.squeeze(1);
        let reached = self.returns.is_some().then(|| number(REACHED));
        Ok(Batch {
            observations: pick(OBSERVATIONS)?,           // (B, O)
            actions: pick(ACTIONS)?,                     // (B, A)
            rewards: number(REWARDS)?,                   // (B)
            next_observations: pick(NEXT_OBSERVATIONS)?, // (B, O)
            terminated: number(TERMINATED)?,             // (B)
            next_actions: None,
            monte_carlo_returns: reached.transpose()?, // (B)
        })
    }

    /// Shows everything under `training.replay`. What checkpoints of older versions lack, the ends of episodes that were
    /// broken off and returns, is found again from the rest.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        for (name, value) in [
            ("len", &mut self.len),
            ("episodes", &mut self.episodes),
            ("running", &mut self.running),
        ] {
            visitor.counter(&format!("training.replay.{name}"), value)?;
        }
        let len = self.len();
        for number in 0..self.columns.len() {
            let column = &mut self.columns[number];
            let name = format!("training.replay.{}", column.name);
            match (number, len == 0 || visitor.holds(&name)) {
                (LAST, false) => self.find_last()?,
                (REACHED, false) => self.find_reached()?,
                _ => column.visit(len, visitor)?,
            }
        }
        Ok(())
    }

    /// Finds where episodes have ended: where the task did, and where the next step begins elsewhere.
    fn find_last(&mut self) -> Result<()> {
        let len = self.len();
        self.columns[LAST].reserve(len)?;
        let terminated = self.numbers(TERMINATED, 0, len)?;
        let width = self.columns[OBSERVATIONS].width;
        let observations = self.numbers(OBSERVATIONS, 0, len)?;
        let next = self.numbers(NEXT_OBSERVATIONS, 0, len)?;
        let before_running = len - self.running as usize;
        let last = (0..len).map(|row| {
            let at = width * (row + 1);
            let follows = observations.get(at..at + width) == Some(&next[at - width..at]);
            let last = terminated[row] == 1.0 || !follows && row < before_running;
            f32::from(u8::from(last))
        });
        let column = &self.columns[LAST].rows;
        let last = Tensor::from_iter(last, column.device())?.reshape((len, 1))?;
        Ok(column.slice_set(&last, 0, 0)?)
    }

    /// Finds the returns of all episodes that have ended.
    fn find_reached(&mut self) -> Result<()> {
        let len = self.len();
        let column = &mut self.columns[REACHED];
        column.reserve(len)?;
        let unknown = Tensor::full(UNKNOWN, (len, 1), column.rows.device())?;
        column.rows.slice_set(&unknown, 0, 0)?;
        let (last, terminated) = (
            self.numbers(LAST, 0, len)?,
            self.numbers(TERMINATED, 0, len)?,
        );
        let mut start = 0;
        for row in (0..len).filter(|&row| last[row] == 1.0) {
            self.set_reached(start, row + 1 - start, terminated[row] == 1.0)?;
            start = row + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(value: f32, last: bool) -> Experience {
        let row = |width: usize| Tensor::full(value, (1, width), &Device::Cpu).expect("a row");
        Experience {
            observation: row(3),
            action: row(2),
            reward: value,
            next_observation: (row(3) + 1.0).expect("a row"),
            terminated: last,
            last,
        }
    }

    #[test]
    fn steps_come_back_by_number_and_the_running_episode_is_known() {
        let mut replay = Replay::new(3, 2, None, &Device::Cpu).expect("a buffer");
        for i in 0..2500 {
            replay
                .push(&step(i as f32, i == 1999))
                .expect("room is made");
        }
        assert_eq!((replay.len(), replay.episodes()), (2500, 1));
        let batch = replay.gather(&[1999, 3]).expect("rows");
        let flat = |tensor: &Tensor| tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        assert_eq!(flat(&batch.rewards).expect("numbers"), [1999.0, 3.0]);
        assert_eq!(flat(&batch.terminated).expect("numbers"), [1.0, 0.0]);
        assert_eq!(
            flat(&batch.next_observations).expect("numbers"),
            [2000.0, 2000.0, 2000.0, 4.0, 4.0, 4.0]
        );
        let running = replay.running_actions().expect("rows").expect("an episode");
        assert_eq!(running.dims(), [500, 2]);
        assert_eq!(flat(&running).expect("numbers")[0], 2000.0);
    }
    /// Keeps what is shown to it but what `without` names, or gives it back.
    struct Kept {
        tensors: std::collections::BTreeMap<String, Tensor>,
        counters: std::collections::BTreeMap<String, u64>,
        without: &'static [&'static str],
        restores: bool,
    }

    impl StateVisitor for Kept {
        fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
            match (self.restores, self.tensors.get(name)) {
                (true, Some(tensor)) => slot.set(tensor),
                (true, None) => panic!("{name} is not there"),
                (false, _) => {
                    if !self.without.iter().any(|part| name.ends_with(part)) {
                        self.tensors.insert(name.to_owned(), slot.tensor()?.copy()?);
                    }
                    Ok(())
                }
            }
        }

        fn counter(&mut self, name: &str, value: &mut u64) -> trajformer_models::Result<()> {
            if self.restores {
                *value = self.counters[name];
            } else {
                self.counters.insert(name.to_owned(), *value);
            }
            Ok(())
        }

        fn holds(&self, name: &str) -> bool {
            !self.restores || self.tensors.contains_key(name)
        }
    }

    #[test]
    fn checkpoints_that_keep_neither_ends_nor_returns_open_all_the_same() {
        let returns = Returns {
            discount: 0.5,
            failure_reward: Some(-1.0),
        };
        let new = || Replay::new(3, 2, Some(returns), &Device::Cpu).expect("a buffer");
        let mut replay = new();
        // Ended; broken off, failing all along; still running.
        for i in 0..12 {
            let experience = Experience {
                reward: if (4..9).contains(&i) { -1.0 } else { 2.0 },
                terminated: i == 3,
                next_observation: step(i as f32 + if i == 8 { 7.0 } else { 0.0 }, false)
                    .next_observation,
                ..step(i as f32, i == 3 || i == 8)
            };
            replay.push(&experience).expect("room is made");
        }
        for without in [&[][..], &[".last", ".reached"]] {
            let mut kept = Kept {
                tensors: Default::default(),
                counters: Default::default(),
                without,
                restores: false,
            };
            replay.visit(&mut kept).expect("it is kept");
            kept.restores = true;
            let mut found = new();
            found.visit(&mut kept).expect("it is given back");
            for (column, expected) in [
                (LAST, [3, 8].map(|end| (end, 1.0)).to_vec()),
                (
                    REACHED,
                    vec![(0, 3.75), (3, 2.0), (4, -2.0), (8, -2.0), (9, UNKNOWN)],
                ),
            ] {
                let numbers = found.numbers(column, 0, 12).expect("numbers");
                assert_eq!(numbers, replay.numbers(column, 0, 12).expect("numbers"));
                for (row, expected) in expected {
                    assert_eq!(numbers[row], expected, "column {column}, row {row}");
                }
            }
        }
    }
}
