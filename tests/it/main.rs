//! Integration tests.
#![allow(clippy::unwrap_used)]

mod golden;

mod data;
mod discretizer;
mod envs;
mod parity_td3_bc;
mod policies;
mod report;
mod runs;
mod planner;
mod sequences;
