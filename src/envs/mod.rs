//! Environments: where a policy is scored. Training never needs one.
//!
//! [`make`] builds one by name, [`VectorEnv`] steps several on threads, [`score`] turns returns
//! into D4RL's normalised score. An own simulator implements [`Environment`].

#[cfg(feature = "mujoco")]
pub mod mujoco;
pub mod pendulum;
pub mod pointmaze;
mod reference;
mod registry;
pub mod rooms;
pub mod score;
mod vector;

pub use registry::{ENVIRONMENTS, Entry, make, names};
pub use score::{ReferenceReturns, normalized_score, reference_for};
pub use vector::{Factory, VectorEnv, VectorStep};

pub use trajformer_core::environment::{EnvSpec, Environment, Step};
