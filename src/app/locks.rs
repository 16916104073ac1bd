//! Files that one process has at a time.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

/// Between two tries to lock a file.
const LOCK_STEP: Duration = Duration::from_millis(25);

/// Locks a file for this process, waiting up to `patience` for whoever has it.
///
/// # Errors
/// If somebody has it still, or the file system knows no locks.
pub fn lock_within(file: &File, patience: Duration) -> std::result::Result<(), TryLockError> {
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(LOCK_STEP);
            }
            other => return other,
        }
    }
}
