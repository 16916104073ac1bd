//! Metrics: what an update reports.

pub mod tensorboard;

use candle_core::Tensor;

use crate::error::Result;

/// Named scalars of one update, still on the device: they become numbers only when logged.
///
/// Names are nouns, the same in every algorithm: `loss`, `actor_loss`, `critic_loss`, `q_mean`.
#[derive(Debug, Default)]
pub struct Metrics {
    entries: Vec<(&'static str, Tensor)>,
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scalar (a tensor with one element); the graph behind it is dropped.
    pub fn push(&mut self, name: &'static str, value: &Tensor) {
        self.entries.push((name, value.detach()));
    }

    /// The names and numbers; reads them from the device.
    ///
    /// # Errors
    /// If a value is not a scalar.
    pub fn values(&self) -> Result<Vec<(&'static str, f64)>> {
        let read = |(name, value): &(&'static str, Tensor)| {
            let value = value.to_dtype(candle_core::DType::F64)?.flatten_all()?;
            Ok((*name, value.get(0)?.to_scalar::<f64>()?))
        };
        self.entries.iter().map(read).collect()
    }
}
