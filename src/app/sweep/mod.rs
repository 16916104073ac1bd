//! Sweeps: many runs from one file, algorithms x data sets x seeds x any keys of their configurations.
//!
//! [`SweepFile`] is what a person writes, [`Plan`] the runs that it means, each with its configuration and its folder, checked
//! before the first one starts; [`Shard`] is one machine's part of them, and [`Standing`] how far a run has come. What starts
//! processes stands with the command.

mod expand;
mod file;
mod line;
mod names;
mod plan;
mod shard;
mod standing;

pub use file::{Draws, Group, Pick, SweepFile};
pub use line::Line;
pub use plan::{Plan, PlannedRun, Standings, write_table};
pub use shard::{Shard, ShardSource};
pub use standing::{Standing, State};
