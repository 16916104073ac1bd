//! [`Replay`]: transitions that a policy collected itself, beside those of the data set.

use candle_core::{DType, Device, Tensor, Var};
use trajformer_models::params::{Slot, StateVisitor};

use super::transitions::Batch;
use crate::error::Result;

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

/// Collected transitions, in the order of their collection; it grows, nothing is thrown away.
#[derive(Debug)]
pub struct Replay {
    columns: [Column; 5],
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
    /// Nothing collected yet.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(observation_dim: usize, action_dim: usize, device: &Device) -> Result<Self> {
        Ok(Self {
            columns: [
                Column::new("observations", observation_dim, device)?,
                Column::new("actions", action_dim, device)?,
                Column::new("rewards", 1, device)?,
                Column::new("next_observations", observation_dim, device)?,
                Column::new("terminated", 1, device)?,
            ],
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
            _ => Ok(Some(self.columns[1].rows.narrow(
                0,
                len - running,
                running,
            )?)),
        }
    }

    /// Adds a step.
    ///
    /// # Errors
    /// If its shapes don't fit.
    pub fn push(&mut self, step: &Experience) -> Result<()> {
        let device = step.observation.device();
        let number = |value: f32| Tensor::full(value, (1, 1), device);
        let row = [
            step.observation.clone(),
            step.action.clone(),
            number(step.reward)?,
            step.next_observation.clone(),
            number(f32::from(u8::from(step.terminated)))?,
        ];
        for (column, value) in self.columns.iter_mut().zip(&row) {
            column.reserve(self.len as usize + 1)?;
            column
                .rows
                .slice_set(&value.contiguous()?, 0, self.len as usize)?;
        }
        self.len += 1;
        self.running += 1;
        if step.last {
            self.episodes += 1;
            self.running = 0;
        }
        Ok(())
    }

    /// The transitions at `indices` (B).
    ///
    /// # Errors
    /// If an index is not below [`Self::len`].
    pub fn gather(&self, indices: &[u32]) -> Result<Batch> {
        let device = self.columns[0].rows.device();
        let rows = Tensor::from_slice(indices, indices.len(), device)?;
        let pick = |column: usize| self.columns[column].rows.index_select(&rows, 0);
        Ok(Batch {
            observations: pick(0)?,           // (B, O)
            actions: pick(1)?,                // (B, A)
            rewards: pick(2)?.squeeze(1)?,    // (B)
            next_observations: pick(3)?,      // (B, O)
            terminated: pick(4)?.squeeze(1)?, // (B)
            next_actions: None,
            reached: None,
        })
    }

    /// Shows everything under `training.replay`.
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
        for column in &mut self.columns {
            column.visit(self.len as usize, visitor)?;
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
        let mut replay = Replay::new(3, 2, &Device::Cpu).expect("a buffer");
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
}
