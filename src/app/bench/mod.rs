//! What this build does on this machine: updates, plans and environment steps per second, held
//! against the best rate of matrix products that it reaches in the same run.
//!
//! Everything runs on made-up data of the sizes asked for: no file is needed. Figures of one run say
//! little on a busy machine; `benches/peers/run` takes medians over interleaved runs.

mod critics;
mod latent_plan;
mod plan;
mod plan_options;
mod updates;

pub use critics::{CriticsOptions, critics};
pub use plan::plan;
pub use plan_options::PlanOptions;
pub use updates::{EnvOptions, Report, UpdateOptions, Updates, peak_memory, steps, update};
