//! [`Batch`]: some transitions.

use candle_core::{DType, Tensor};

#[cfg(doc)]
use super::Transitions;
use crate::error::Result;

/// A batch of transitions; see [`Transitions`].
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
    pub reached: Option<Tensor>,
}

impl Batch {
    /// Both, one after the other; next actions and returns where both have them.
    pub(super) fn followed_by(&self, other: &Self) -> Result<Self> {
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
            reached: optional(&self.reached, &other.reached)?,
        })
    }

    /// The same with numbers of this type.
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
            reached: self.reached.as_ref().map(cast).transpose()?,
        })
    }
}
