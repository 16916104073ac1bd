//! Sequence data that lives on a device: batches are gathered there, and what is uploaded for one is
//! a few rows' numbers. On the CPU batches are copied together instead (`batch` of
//! [`ReturnSequences`](super::return_sequences::ReturnSequences) and
//! [`TokenSequences`](super::sequences::TokenSequences)).

use candle_core::{DType, Device, Tensor};

use crate::batch::ReturnBatch;
use trajformer_core::error::Result;
use trajformer_models::trajectory_transformer::TokenBatch;

/// Every step of a data set, and after them one that stands for padding: S + 1 rows.
#[derive(Debug, Clone)]
pub(super) struct ReturnTables {
    /// (S + 1, 1) f32.
    pub returns_to_go: Tensor,
    /// (S + 1, O) f32.
    pub states: Tensor,
    /// (S + 1, A) f32.
    pub actions: Tensor,
    /// (S + 1) u32.
    pub timesteps: Tensor,
    /// (S + 1) f32: 1, for padding 0.
    pub mask: Tensor,
}

impl ReturnTables {
    /// The sub-trajectories whose steps are these rows (B K), K each.
    pub fn batch(&self, rows: Vec<u32>, context_steps: usize) -> Result<ReturnBatch> {
        let count = rows.len();
        let rows = Tensor::from_vec(rows, count, self.mask.device())?;
        let pick = |table: &Tensor| -> Result<Tensor> {
            let mut dims = table.dims().to_vec();
            dims.splice(..1, [count / context_steps, context_steps]);
            Ok(table.index_select(&rows, 0)?.reshape(dims)?)
        };
        Ok(ReturnBatch {
            returns_to_go: pick(&self.returns_to_go)?, // (B, K, 1)
            states: pick(&self.states)?,               // (B, K, O)
            actions: pick(&self.actions)?,             // (B, K, A)
            timesteps: pick(&self.timesteps)?,         // (B, K)
            mask: pick(&self.mask)?,                   // (B, K)
        })
    }
}

/// What one training window is made of.
#[derive(Debug, Clone)]
pub(super) struct WindowRows {
    /// Rows of [`TokenTables`]: one per transition of the window.
    pub rows: Vec<u32>,
    /// Positions from this one on are not trained on.
    pub end: u32,
    /// Whether its values are not trained on.
    pub hides_values: bool,
}

/// Every transition of a data set as tokens, and others that windows need.
#[derive(Debug, Clone)]
pub(super) struct TokenTables {
    /// (R, D) u8 or u32.
    tokens: Tensor,
    /// Positions of a window, (1, T) u32.
    places: Tensor,
    /// 1 where a position is trained on unless a window says otherwise, (1, T) f32.
    counts: Tensor,
    /// 1 where a position is asked for a value, (1, T) f32.
    asks_value: Tensor,
}

impl TokenTables {
    /// `tokens` (R, D), u8 or u32. Windows have T positions, of which the first `first_counted` are
    /// never trained on.
    pub fn new(tokens: Tensor, time: usize, first_counted: usize) -> Result<Self> {
        let (_, dims) = tokens.dims2()?;
        let row = |holds: &dyn Fn(usize) -> bool| {
            let values = (0..time).map(|at| f32::from(u8::from(holds(at))));
            Tensor::from_iter(values, tokens.device())?.reshape((1, time))
        };
        Ok(Self {
            places: Tensor::arange(0, time as u32, tokens.device())?.reshape((1, time))?,
            counts: row(&|at| at >= first_counted)?,
            // The position before a value is the one that is asked for it.
            asks_value: row(&|at| (at + 2).is_multiple_of(dims))?,
            tokens,
        })
    }

    /// The batch of these windows, without instructions.
    pub fn batch(&self, windows: &[WindowRows]) -> Result<TokenBatch> {
        let (batch, time) = (windows.len(), self.places.dims2()?.1);
        let transitions = windows.first().map_or(0, |window| window.rows.len());
        let device = self.tokens.device();
        // One upload: rows, end and whether values are hidden of every window.
        let mut told = Vec::with_capacity(batch * (transitions + 2));
        for window in windows {
            told.extend_from_slice(&window.rows);
            told.extend([window.end, window.hides_values.into()]);
        }
        let told = Tensor::from_vec(told, (batch, transitions + 2), device)?;
        let rows = told.narrow(1, 0, transitions)?.flatten_all()?;
        let tokens = self.tokens.index_select(&rows, 0)?; // (B transitions, D)
        let tokens = tokens.to_dtype(DType::U32)?.reshape((batch, time + 1))?;
        let ends = told.narrow(1, transitions, 1)?; // (B, 1)
        let hides = told.narrow(1, transitions + 1, 1)?.to_dtype(DType::F32)?;
        let inside = self.places.broadcast_lt(&ends)?.to_dtype(DType::F32)?; // (B, T)
        let hidden = hides.broadcast_mul(&self.asks_value)?; // (B, T)
        let mask = (inside.broadcast_mul(&self.counts)? * (1.0 - hidden)?)?;
        Ok(TokenBatch {
            inputs: tokens.narrow(1, 0, time)?.contiguous()?,
            targets: tokens.narrow(1, 1, time)?.contiguous()?,
            mask,
            instructions: None,
        })
    }
}

/// `table` (rows, `width`) on the device.
pub(super) fn rows<T: candle_core::WithDType>(
    table: Vec<T>,
    width: usize,
    device: &Device,
) -> Result<Tensor> {
    let count = table.len() / width;
    Ok(Tensor::from_vec(table, (count, width), device)?)
}
