//! [`Positions`]: what a [`TrajectoryTransformer`](super::TrajectoryTransformer) adds to tokens so that it knows where they stand.

use candle_core::Tensor;

use crate::error::Result;
use crate::init::Init;
use crate::params::Scope;

/// What is added to a token's embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Positions {
    /// A learned row for each token of the window, as in the paper: `pos_emb` (1, `block_size`, embedding).
    #[default]
    Learned,
    /// The sum of two learned rows: one for the transition's number in the window, `step_emb` (1, `window_transitions`, embedding),
    /// one for the token's place in the transition, `dimension_emb` (1, D, embedding). What is learned of a place holds for every
    /// transition, and what is learned of a transition for all its places. Not in the paper.
    StepAndDimension,
}

/// The learned rows; all begin at zero.
#[derive(Debug, Clone)]
pub(super) enum Tables {
    Learned(Tensor),
    StepAndDimension { step: Tensor, dimension: Tensor },
}

impl Tables {
    /// For windows of so many transitions of so many tokens.
    pub(super) fn new(
        kind: Positions,
        (transitions, tokens): (usize, usize),
        width: usize,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let mut table =
            |name: &str, rows: usize| scope.param(name, (1, rows, width), Init::Zeros.fill());
        Ok(match kind {
            Positions::Learned => Self::Learned(table("pos_emb", transitions * tokens - 1)?),
            Positions::StepAndDimension => Self::StepAndDimension {
                step: table("step_emb", transitions)?,
                dimension: table("dimension_emb", tokens)?,
            },
        })
    }

    /// What is added to the first `time` tokens of a window (1, T, embedding).
    pub(super) fn rows(&self, time: usize) -> Result<Tensor> {
        let all = match self {
            Self::Learned(table) => table.clone(),
            Self::StepAndDimension { step, dimension } => {
                let (_, transitions, width) = step.dims3()?;
                let step = step.reshape((transitions, 1, width))?;
                step.broadcast_add(dimension)?.reshape((1, (), width))?
            }
        };
        if all.dim(1)? == time {
            Ok(all)
        } else {
            Ok(all.narrow(1, 0, time)?)
        }
    }
}
