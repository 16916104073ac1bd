//! Trajformer: offline reinforcement learning on candle.

pub mod algorithms;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod config;
pub mod data;
pub mod demo;
pub mod envs;
pub mod error;
pub mod evaluate;
pub mod metrics;
pub mod planning;
pub mod policy;
pub mod preview;
pub mod report;
pub mod run;
pub mod trainer;

pub use error::{Error, Result};
pub use trajformer_models::rng;
