//! How trained networks act.

pub mod actor;
pub mod groups;
pub mod return_conditioned;
