//! What one update learns from, as tensors on the device.

use candle_core::{DType, Tensor};
use trajformer_core::error::Result;

/// A batch of transitions; see [`Transitions`](crate::transitions::Transitions).
#[derive(Debug, Clone)]
pub struct Batch {
    /// (B, O)
    pub observations: Tensor,
    /// (B, A)
    pub actions: Tensor,
    /// (B)
    pub rewards: Tensor,
    /// (B, O)
    pub next_observations: Tensor,
    /// (B), 0 or 1.
    pub terminated: Tensor,
    /// (B, A)
    pub next_actions: Option<Tensor>,
    /// (B): the discounted return that was reached from there, in the data's episode or in one that the policy collected itself;
    /// `f32::MIN` where it is not known: of steps near the end of a truncated episode, and of one that still runs.
    pub monte_carlo_returns: Option<Tensor>,
}

impl Batch {
    /// This batch followed by `other`; next actions and returns where both have them.
    pub(crate) fn followed_by(&self, other: &Self) -> Result<Self> {
        let both = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        let optional = |a: &Option<Tensor>, b: &Option<Tensor>| {
            let pair = a.as_ref().zip(b.as_ref());
            pair.map(|(a, b)| both(a, b)).transpose()
        };
        Ok(Self {
            observations: both(&self.observations, &other.observations)?,
            actions: both(&self.actions, &other.actions)?,
            rewards: both(&self.rewards, &other.rewards)?,
            next_observations: both(&self.next_observations, &other.next_observations)?,
            terminated: both(&self.terminated, &other.terminated)?,
            next_actions: optional(&self.next_actions, &other.next_actions)?,
            monte_carlo_returns: optional(&self.monte_carlo_returns, &other.monte_carlo_returns)?,
        })
    }

    /// The batch with numbers of this type.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let cast = |tensor: &Tensor| tensor.to_dtype(dtype);
        Ok(Self {
            observations: cast(&self.observations)?,
            actions: cast(&self.actions)?,
            rewards: cast(&self.rewards)?,
            next_observations: cast(&self.next_observations)?,
            terminated: cast(&self.terminated)?,
            next_actions: self.next_actions.as_ref().map(cast).transpose()?,
            monte_carlo_returns: self.monte_carlo_returns.as_ref().map(cast).transpose()?,
        })
    }
}

/// One batch of sub-trajectories.
#[derive(Debug, Clone)]
pub struct ReturnBatch {
    /// Undiscounted return from each step on, scaled, (B, K, 1) f32.
    pub returns_to_go: Tensor,
    /// Normalised observations (B, K, O) f32.
    pub states: Tensor,
    /// Actions as in the data (B, K, A) f32.
    pub actions: Tensor,
    /// Step in the episode (B, K) u32.
    pub timesteps: Tensor,
    /// 1 for steps of the data, 0 for padding, (B, K) f32.
    pub mask: Tensor,
}
