//! Planning with a Trajectory Transformer: beam search over imagined trajectories, and the policy
//! that acts on its plans.
//!
//! Reading order: [`sampling`] (one token) → [`hypotheses`] (sequences and their cache) →
//! [`beam_search`] (plans) → [`planner`] (the policy). [`simulated`] plans with a simulator in the model's place.
//! The same for a Trajectory Autoencoding Planner, over codes in place of tokens:
//! [`latent_search`] (plans) → [`latent_planner`] (the policy).

pub mod beam_search;
pub mod hypotheses;
pub mod latent_planner;
pub mod latent_search;
pub mod planner;
pub mod sampling;
pub mod simulated;

pub use beam_search::{BeamSearch, Objective, Plan, PlanConfig, Prefix, SearchModel, Window};
pub use latent_planner::LatentPlanner;
pub use latent_search::{LatentModel, LatentPlan, LatentPlanConfig, LatentSearch};
pub use planner::BeamPlanner;
pub use trajformer_core::policy::Imagined;
