//! Finished or running runs side by side. [`compared`] reads their evaluations and says what follows from them over seeds and tasks;
//! [`statistics`] are the formulas, [`wording`] prints, [`pictures`] draw; [`metric`]: any column of their `metrics.csv`;
//! [`score_tables`]: evaluations of runs that are elsewhere.

pub mod aggregates;
pub mod alike;
pub mod comparison;
pub mod found;
pub mod lines;
pub mod metric;
pub mod pictures;
pub mod score_tables;
pub mod statistics;
pub mod tables;
mod tasks;
pub mod wording;

pub use comparison::{Comparison, Options, compare, compared};
pub use lines::Line;
pub use pictures::draw;
