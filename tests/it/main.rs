//! Integration tests.
#![allow(clippy::unwrap_used)]

mod golden;
mod gradients;
mod parity;
mod value_based;

mod cli;
mod data;
mod device;
mod discretizer;
mod envs;
mod goals;
mod guards;
mod instructions;
mod parity_awac;
mod parity_bc;
mod parity_bear;
mod parity_brac;
mod parity_cql;
mod parity_crr;
mod parity_decision_transformer;
mod parity_edac;
mod parity_iql;
mod parity_lamo;
mod parity_rebrac;
mod parity_sac;
mod parity_sac_n;
mod parity_sac_rnd;
mod parity_td3;
mod parity_td3_bc;
mod parity_trajectory_transformer;
mod planner;
mod policies;
mod report;
mod runs;
mod sequences;
mod tidy;
