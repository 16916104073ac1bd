//! Integration tests.

mod golden;

mod discretizer;
mod report;
mod sequences;
mod envs;
