#![doc = include_str!("README.md")]

pub mod awac;
pub mod bc;
pub mod bear;
pub mod brac;
pub mod cql;
pub mod crr;
pub mod decision_transformer;
pub mod edac;
pub mod fast;
pub mod iql;
pub mod lamo;
pub mod offpolicy;
pub mod online_dt;
pub mod planning;
pub mod policies;
pub mod qt;
pub mod rebrac;
pub mod registry;
pub mod reinformer;
pub mod sac;
pub mod sac_n;
pub mod sac_rnd;
pub mod tap;
pub mod td3;
pub mod td3_bc;
pub mod trajectory_transformer;

pub use registry::{ALGORITHMS, Actions, AlgorithmConfig, CustomConfig, Registered};
