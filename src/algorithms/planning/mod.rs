//! Planning with a Trajectory Transformer: beam search over imagined trajectories, and the policy
//! that acts on its plans.
//!
//! Reading order: [`sampling`] (one token) → [`hypotheses`] (sequences and their cache) →
//! [`beam_search`] (plans) → [`planner`] (the policy). [`simulated`] plans with a simulator in the model's place.

pub mod beam_search;
pub mod hypotheses;
pub mod planner;
pub mod sampling;
pub mod simulated;

pub use beam_search::{BeamSearch, Objective, Plan, PlanConfig, Prefix, SearchModel, Window};
pub use planner::BeamPlanner;
pub use trajformer_core::policy::Imagined;
