//! [`lock`].

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock, also where somebody panicked who held it: what is held here is whole between any two statements, and policies begin anew.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
