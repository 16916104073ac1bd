//! How networks that can be told what to do read the embedding of an instruction.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::linear::Linear;
use crate::params::Scope;

/// Name of its parameters in a network.
pub(crate) const NAME: &str = "embed_instruction";

/// A linear layer for embeddings of length 1; none in networks that read no instructions.
#[derive(Debug, Clone)]
pub(crate) struct InstructionLayer {
    /// Of which network, for errors.
    network: &'static str,
    layer: Option<Linear>,
    /// E, numbers in an embedding.
    dimension: usize,
}

impl InstructionLayer {
    /// For embeddings of `dimension` numbers (0: none) and tokens of `width`.
    pub fn new(
        network: &'static str,
        dimension: usize,
        width: usize,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let layer = match dimension {
            0 => None,
            _ => Some(Linear::new(dimension, width, &mut scope.sub(NAME))?),
        };
        Ok(Self {
            network,
            layer,
            dimension,
        })
    }

    /// What is added to every token, (B, 1, D), of embeddings (B, E).
    ///
    /// # Errors
    /// If there are embeddings and no layer for them, or the reverse.
    pub fn forward(&self, instructions: Option<&Tensor>) -> Result<Option<Tensor>> {
        let wrong = |reason: &str| Error::Config {
            what: self.network,
            reason: reason.to_owned(),
        };
        match (&self.layer, instructions) {
            (Some(layer), Some(embeddings)) => {
                let asked = layer.forward(&(embeddings * scale(self.dimension))?)?; // (B, D)
                Ok(Some(asked.unsqueeze(1)?))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(wrong("it reads instructions, and was given none")),
            (None, Some(_)) => Err(wrong("it was given instructions, and reads none")),
        }
    }
}

/// Embeddings have length 1: times this their numbers are of size 1, as those of normalised observations.
pub fn scale(dimension: usize) -> f64 {
    (dimension as f64).sqrt()
}
