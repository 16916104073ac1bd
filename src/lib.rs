//! Trajformer: offline reinforcement learning on candle.

pub mod algorithms;
pub mod data;
pub mod envs;
pub mod error;
pub mod metrics;
pub mod policy;
pub mod report;

pub use error::{Error, Result};
pub use trajformer_models::rng;
