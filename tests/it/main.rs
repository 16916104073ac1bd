//! Integration tests.
#![allow(clippy::unwrap_used)]

mod golden;

mod discretizer;
mod envs;
mod report;
mod sequences;
