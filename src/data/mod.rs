//! Logged experience: data sets, the files they come from, and what is prepared from them.

mod checks;
pub mod dataset;
pub mod files;
pub mod formats;
pub mod info;

pub use dataset::{ActionKind, Dataset, Episode};
pub use files::{LoadOptions, convert, load, load_one, load_with, save};
pub use info::{Info, info};
