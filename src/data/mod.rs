//! Logged experience: data sets, the files they come from, and what is prepared from them.

pub mod dataset;

pub use dataset::{ActionKind, Dataset, Episode};
