//! Integration tests.

mod golden;

mod discretizer;
mod envs;
mod report;
mod sequences;
