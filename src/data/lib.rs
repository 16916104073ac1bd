#![doc = include_str!("README.md")]

pub mod action_chunks;
pub mod batch;
pub mod discretizer;
pub mod info;
mod kept_steps;
pub mod replay;
mod resident;
pub mod return_sequences;
pub mod return_view;
pub mod returns;
pub mod reward_windows;
pub mod sequences;
pub mod step_windows;
pub mod termination_penalty;
pub mod token_options;
pub mod tokenizers;
pub mod tokens;
pub mod transitions;
pub mod transitions_config;
