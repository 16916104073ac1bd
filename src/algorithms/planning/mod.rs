//! Planning with a Trajectory Transformer: beam search over imagined trajectories, and the policy
//! that acts on its plans.
//!
//! Reading order: [`sampling`] (one token) → [`hypotheses`] (sequences and their cache) →
//! [`beam_search`] (plans; several tokens at a time by `multi_token`) → [`anytime`] (plans within a [`budget`], beside the [plan before](companion)) → [`planner`] (the policy). [`simulated`] plans with a simulator in the model's place.
//! The same for a Trajectory Autoencoding Planner, over codes in place of tokens:
//! [`latent_search`] (plans) → [`latent_planner`] (the policy).

pub mod anytime;
pub mod beam_search;
pub mod budget;
pub mod companion;
pub mod critic;
pub mod hypotheses;
pub mod latent_planner;
pub mod latent_search;
mod likelihood;
mod multi_token;
pub mod plan_config;
pub mod planner;
mod rows;
pub mod sampling;
pub mod simulated;

pub use beam_search::{BeamSearch, Plan, Prefix, SearchModel};
pub use budget::{Allowance, Budget};
pub use companion::Companion;
pub use critic::{Critic, CriticSpec};
pub use latent_planner::LatentPlanner;
pub use latent_search::{LatentModel, LatentPlan, LatentPlanConfig, LatentSearch, LikelihoodOf};
pub use plan_config::{Objective, PlanConfig, PlanValue, Window};
pub use planner::BeamPlanner;
pub use trajformer_core::policy::Imagined;
