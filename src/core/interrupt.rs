//! [`Interrupt`]: the wish to stop, set from outside (Ctrl-C, another thread), asked for by whatever takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A token that stops the work it was given to: training after the present update, an evaluation or an estimate after the
/// present step. A training that is stopped writes a checkpoint first.
///
/// Clones are the same token. Each new one is its own: work that was given another token goes on.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A token that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work that has this token to stop, for good. Returns whether it was asked before.
    pub fn set(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }

    /// Whether the work is to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The same token.
impl PartialEq for Interrupt {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
