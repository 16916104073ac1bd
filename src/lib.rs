#![doc = include_str!("../README.md")]
//!
//! # Modules, from data to scores
//!
//! [`data`] holds what was logged, [`algorithms`] learn from it ([`offpolicy`] holds what value-based ones share), [`planning`] searches with what they learned, a
//! [`policy`] acts in [`envs`], and [`evaluate`] scores it, or [`fqe`] without an environment; [`run`] puts these together, in the order of a run. [`pretrained`] opens models of other libraries, and
//! [`hub`] fetches and publishes; [`export`] writes policies for other runtimes. [`text`] makes numbers of instructions, and
//! [`instruct`] tells them to policies.
//! [`trainer`], [`checkpoint`], [`config`] and [`metrics`] serve it, [`report`] draws, and [`cli`], [`demo`],
//! [`preview`], [`token_report`], [`compare`] and [`mod@bench`] are the commands.

pub mod action_range;
pub mod algorithms;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod config;
pub mod data;
pub mod demo;
pub mod envs;
pub mod epochs;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod fqe;
pub mod hub;
pub mod instruct;
mod keys;
pub mod metrics;
pub mod offpolicy;
pub mod online;
pub mod planning;
pub mod policy;
pub mod pretrained;
pub mod preview;
pub mod report;
pub mod run;
pub mod schedules;
mod stand_in;
mod statistics;
pub mod text;
pub mod token_report;
pub mod trainer;

pub use error::{Error, Result};
pub use trajformer_models::rng;
