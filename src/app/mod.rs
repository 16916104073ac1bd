//! The application: configurations, runs and the commands.

pub mod about;
pub mod act;
pub mod action_range;
pub mod asked;
pub mod behaviors;
pub mod bench;
pub mod checkpoint;
pub mod choose;
pub mod collect;
pub mod compare;
pub mod config;
pub mod critic;
pub mod datasets;
pub mod demo;
pub mod diagnose;
pub mod evaluate;
pub mod evaluations;
pub mod export;
pub mod fitted;
pub mod fqe;
pub mod from_data;
pub mod held_out;
pub mod hub;
pub mod imported;
pub mod instruct;
pub mod locks;
pub mod logger;
mod lost_rows;
mod memory;
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod online;
pub mod prepare;
pub mod pretrained;
pub mod preview;
pub mod progress;
pub mod publish;
mod ranks;
pub mod render;
pub mod report;
pub mod reproduce;
pub mod run;
pub mod scoring;
pub mod series;
#[cfg(feature = "serve")]
pub mod serve;
#[cfg(feature = "mujoco")]
pub mod setup;
pub mod sweep;
pub mod system_clock;
pub mod table;
pub mod text;
pub mod token_report;
pub mod trainer;
pub mod watch;
mod whole;
