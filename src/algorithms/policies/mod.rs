//! How trained networks act.

pub mod actor;
pub mod groups;
pub mod own_actions;
pub mod return_conditioned;
