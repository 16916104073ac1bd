//! [`GradientWatch`]: norms of the gradients of a learner's networks, noted down for the few updates that somebody asks it for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use trajformer_models::optim::gradient_norm;
use trajformer_models::params::Params;

use trajformer_core::error::Result;
use trajformer_core::metrics::Metrics;

/// Takes norms while it is on. Its clones are the same one, so that every network of a learner holds it. It only reads gradients: the
/// update is the same to the last bit.
#[derive(Debug, Clone, Default)]
pub struct GradientWatch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_on: AtomicBool,
    found: Mutex<Vec<(&'static str, Tensor)>>,
}

impl GradientWatch {
    /// Whether norms are taken from now on.
    pub fn set(&self, is_on: bool) {
        self.0.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Takes the norm of the gradients of `params`, if it is on.
    pub(super) fn note(
        &self,
        name: &'static str,
        params: &Params,
        gradients: &GradStore,
    ) -> Result<()> {
        if self.0.is_on.load(Ordering::Relaxed) {
            let norm = gradient_norm(params, gradients)?;
            self.found().push((name, norm));
        }
        Ok(())
    }

    /// Adds what was found since the last time, by name: networks may have been updated side by side.
    pub fn give(&self, metrics: &mut Metrics) {
        let mut found = std::mem::take(&mut *self.found());
        found.sort_by_key(|(name, _)| *name);
        for (name, norm) in found {
            metrics.push(name, &norm);
        }
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Vec<(&'static str, Tensor)>> {
        // What is in it is whole whatever happened to its holder.
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The metric of a network's norms, by the prefix of its parameters' names; none of single numbers, such as temperatures.
pub(super) fn norm_name(model: &str) -> Option<&'static str> {
    Some(match model.strip_prefix("model.")?.strip_suffix('.')? {
        "actor" => "actor_gradient_norm",
        "critics" => "critic_gradient_norm",
        "value" => "value_gradient_norm",
        "vae" => "vae_gradient_norm",
        "behavior" => "behavior_gradient_norm",
        "rnd_predictor" => "rnd_predictor_gradient_norm",
        _ => return None,
    })
}
