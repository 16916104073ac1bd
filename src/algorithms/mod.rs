//! Learning rules, one file each, and the registry that the configuration chooses from.

use trajformer_models::params::StateVisitor;

use crate::error::Result;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::rng::Rng;

/// A learning rule: one call of [`update`](Self::update) is one gradient step of its paper.
pub trait Algorithm: Send {
    /// One gradient step on a batch drawn with `rng` from the data given when it was built. Its
    /// first line says what one step consumes.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics>;

    /// A snapshot that acts on its own; later updates do not change it.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn policy(&self) -> Result<Box<dyn Policy>>;

    /// Shows the whole state to `visitor`: networks under `model.`, what a policy needs beside them
    /// (normaliser, discretiser, bounds) under `policy.`, targets and optimiser under `training.`.
    ///
    /// # Errors
    /// What the visitor says.
    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()>;
}
