//! The application: configurations, runs and the commands.

pub mod action_range;
pub mod behaviors;
pub mod bench;
pub mod checkpoint;
pub mod collect;
pub mod compare;
pub mod config;
pub mod demo;
pub mod evaluate;
pub mod evaluations;
pub mod export;
pub mod fqe;
pub mod hub;
pub mod instruct;
pub mod logger;
pub mod online;
pub mod prepare;
pub mod pretrained;
pub mod preview;
pub mod progress;
pub mod publish;
pub mod run;
pub mod table;
pub mod text;
pub mod token_report;
pub mod trainer;
