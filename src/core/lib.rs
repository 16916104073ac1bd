#![doc = include_str!("README.md")]

pub mod algorithm;
pub mod atomic;
pub mod clock;
pub mod corpus;
pub mod dataset;
pub mod dataset_checks;
pub mod device;
pub mod environment;
pub mod epochs;
pub mod error;
pub mod fast_files;
pub mod held_out;
pub mod instructed_episodes;
pub mod instructions;
pub mod interrupt;
pub mod keys;
pub mod metrics;
pub mod mixing;
pub mod nearest;
pub mod normalizer;
pub mod planning;
pub mod policy;
pub mod printable;
pub mod schedules;
pub mod source;
pub mod stand_in;
pub mod statistics;
pub mod watched;

pub use error::{Error, Result};
