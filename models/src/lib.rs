//! Networks, parameters, optimisers and fused kernels: everything in Trajformer that knows tensors
//! and nothing about data sets, environments, rewards or episodes.
//!
//! # Dimension letters
//!
//! | letter | dimension | letter | dimension |
//! |---|---|---|---|
//! | B | batch | N | ensemble members |
//! | T | context (steps or tokens) | V | bins (token values) |
//! | O | observation | E | episodes |
//! | A | action | W | beam width |
//! | H | hidden | S | samples |
//! | D | embedding, or tokens per transition | | |
//!
//! # Reading order
//!
//! [`rng`] → [`params`] → [`init`] → layers ([`linear`], [`norm`], [`activation`], [`dropout`],
//! [`mlp`]) → networks ([`encoder`], [`actor`], [`gaussian`], [`critic`], [`value`], [`choices`], [`vae`], [`network`], [`gpt`],
//! [`trajectory_transformer`], [`decision_transformer`], [`online_decision_transformer`], [`twin_critics`], [`reinformer`], [`conditional_gpt`], [`tap`]) → [`pretrained`] → [`optim`], [`muon`], [`lamb`], [`ranks`], [`health`], [`uploads`]; [`kernels`]
//! hold what is fused, [`work`] counts what networks cost.

pub mod activation;
pub mod actor;
pub mod bert;
pub mod choices;
pub mod conditional_gpt;
pub mod critic;
pub mod decision_transformer;
pub mod decoder;
pub mod dropout;
pub mod encoder;
pub mod error;
pub mod gaussian;
pub mod gpt;
pub mod health;
pub mod init;
mod instruction;
pub mod kernels;
pub mod lamb;
pub mod lamo;
pub mod linear;
pub mod mlp;
pub mod muon;
pub mod network;
pub mod norm;
pub mod online_decision_transformer;
pub mod optim;
pub mod params;
pub mod precision;
pub mod pretrained;
pub mod ranks;
pub mod reinformer;
pub mod rnd;
pub mod rng;
pub mod slot;
pub mod tap;
#[cfg(test)]
mod testing;
pub mod trajectory_transformer;
pub mod twin_critics;
pub mod uploads;
pub mod vae;
pub mod value;
pub mod work;

pub use candle_core::{DType, Device, Tensor};
pub use error::{Error, Result};
