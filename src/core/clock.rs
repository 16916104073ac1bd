//! [`Clock`]: the time, for what has to be done by then. Learning rules and policies use no clock of their own; whoever lets them act
//! gives them one.

/// Seconds since some moment, which never go back.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Seconds now.
    fn seconds(&self) -> f64;
}
