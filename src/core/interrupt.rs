//! The wish to stop: set from outside (Ctrl-C), asked for by whatever takes long.

use std::sync::atomic::AtomicBool;

/// Set to stop after the current update, or the current step of an evaluation; a checkpoint is written.
pub static STOP: AtomicBool = AtomicBool::new(false);
