//! Logged experience: data sets, the files they come from, and what is prepared from them.

pub mod action_chunks;
pub(crate) mod checks;
pub mod collect;
pub mod columns;
pub mod dataset;
pub mod discretizer;
pub mod files;
pub mod formats;
pub mod info;
mod kept_steps;
pub mod mixing;
pub mod normalizer;
pub mod replay;
mod resident;
pub mod return_sequences;
pub mod returns;
pub mod sequences;
pub mod tokenizers;
pub mod tokens;
pub mod transitions;

pub use columns::ColumnChoice;
pub use dataset::{ActionKind, Dataset, Episode};
pub use files::{LoadOptions, check_new, convert, convert_with, load, load_one, load_with, save};
pub use info::{Info, info};
pub use mixing::{DataShare, Mixing, Rows};
pub use normalizer::{ActionBounds, Normalizer};
pub use transitions::{Batch, RewardTransform, Transitions, TransitionsConfig, best_fraction};
