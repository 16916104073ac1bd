//! Integration tests.
#![allow(clippy::unwrap_used)]

mod golden;
mod parity;

mod data;
mod discretizer;
mod envs;
mod parity_td3_bc;
mod policies;
mod parity_decision_transformer;
mod parity_trajectory_transformer;
mod report;
mod runs;
mod planner;
mod sequences;
