//! How networks that are conditioned on language read the embedding of an instruction.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::linear::Linear;
use crate::params::Scope;

/// Names of its layers in a network.
pub(crate) const NAMES: [&str; 2] = ["embed_instruction.0", "embed_instruction.2"];

/// Width of the layer between an embedding and a token. Which room a sentence names is no linear function of its
/// embedding: of 48 wordings that were never seen, a linear classifier of MiniLM's embeddings is right in 38, one with
/// a hidden layer in 47.
pub(crate) const HIDDEN: usize = 256;

/// Two linear layers with a ReLU between them, for embeddings of length 1; none in networks that read no instructions.
#[derive(Debug, Clone)]
pub(crate) struct InstructionNetwork {
    /// Name of the network, for errors.
    network: &'static str,
    layers: Option<[Linear; 2]>,
    /// E, numbers in an embedding.
    dimension: usize,
}

impl InstructionNetwork {
    /// For embeddings of `dimension` numbers (0: none) and tokens of `width`.
    pub fn new(
        network: &'static str,
        dimension: usize,
        width: usize,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        let [first, last] = NAMES;
        let layers = match dimension {
            0 => None,
            _ => Some([
                Linear::new(dimension, HIDDEN, &mut scope.sub(first))?,
                Linear::new(HIDDEN, width, &mut scope.sub(last))?,
            ]),
        };
        Ok(Self {
            network,
            layers,
            dimension,
        })
    }

    /// What is added to every token, (B, 1, D), of embeddings (B, E).
    ///
    /// # Errors
    /// If there are embeddings and no layers for them, or the reverse.
    pub fn forward(&self, instructions: Option<&Tensor>) -> Result<Option<Tensor>> {
        let wrong = |reason: &str| Error::Config {
            what: self.network,
            reason: reason.to_owned(),
        };
        match (&self.layers, instructions) {
            (Some([first, last]), Some(embeddings)) => {
                let hidden = first.forward(&(embeddings * scale(self.dimension))?)?; // (B, HIDDEN)
                let asked = last.forward(&hidden.relu()?)?; // (B, D)
                Ok(Some(asked.unsqueeze(1)?))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(wrong("it reads instructions, and was given none")),
            (None, Some(_)) => Err(wrong("it was given instructions, and reads none")),
        }
    }
}

/// Embeddings have length 1: times this their numbers are of size 1, as those of normalised observations.
pub(crate) fn scale(dimension: usize) -> f64 {
    (dimension as f64).sqrt()
}
