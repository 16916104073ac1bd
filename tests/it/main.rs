//! Integration tests.

mod golden;

mod discretizer;
mod sequences;
