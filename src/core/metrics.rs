//! [`Metrics`]: what an update reports, as values; where they go is the logger's.

use candle_core::{DType, Device, Tensor};

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

    /// `loss`, and `gradient_norm` where it is known: those of an update that takes one step.
    pub fn of_step(loss: &Tensor, norm: Option<&Tensor>) -> Self {
        let mut metrics = Self::new();
        metrics.push("loss", loss);
        if let Some(norm) = norm {
            metrics.push("gradient_norm", norm);
        }
        metrics
    }

    /// Adds a scalar (a tensor with one element); the graph behind it is dropped.
    pub fn push(&mut self, name: &'static str, value: &Tensor) {
        self.entries.push((name, value.detach()));
    }

    /// Adds those of another part of the update.
    pub fn extend(&mut self, others: Self) {
        self.entries.extend(others.entries);
    }

    /// The names and the scalars, in the order in which they were pushed.
    pub fn into_entries(self) -> Vec<(&'static str, Tensor)> {
        self.entries
    }

    /// The names and numbers; reads them from the device.
    ///
    /// # Errors
    /// If a value is not a scalar.
    pub fn values(&self) -> Result<Vec<(&'static str, f64)>> {
        let read = |(name, value): &(&'static str, Tensor)| Ok((*name, numbers(&[value])?[0]));
        self.entries.iter().map(read).collect()
    }
}

/// The numbers in scalars (tensors with one element each), read from their device in one transfer.
///
/// # Errors
/// If the device fails.
pub fn numbers(scalars: &[&Tensor]) -> Result<Vec<f64>> {
    let rows: Vec<Tensor> = scalars
        .iter()
        .map(|s| s.flatten_all())
        .collect::<candle_core::Result<_>>()?;
    // Metal has no f64.
    let together = Tensor::cat(&rows, 0)?.to_device(&Device::Cpu)?;
    Ok(together.to_dtype(DType::F64)?.to_vec1::<f64>()?)
}
