//! Environments: where a policy is scored. Training never needs one.
//!
//! [`make`] builds one by name, [`VectorEnv`] steps several on threads, [`score`] turns returns
//! into D4RL's normalised score. Names that begin with `gym:` are environments of Gymnasium, in Python processes ([`gym`]).
//! An own simulator implements [`Environment`].

pub mod acrobot;
pub mod cartpole;
pub mod gym;
#[cfg(feature = "mujoco")]
pub mod mujoco;
pub mod pendulum;
pub mod pointmaze;
mod reference;
mod registry;
pub mod rooms;
pub mod score;
mod vector;

pub use gym::GymOptions;
pub use registry::{ENVIRONMENTS, Entry, make, make_with, names};
pub use score::{ReferenceReturns, normalized_score, reference_for};
pub use vector::{Factory, VectorEnv, VectorStep};

pub use trajformer_core::environment::{EnvSpec, Environment, Step};
