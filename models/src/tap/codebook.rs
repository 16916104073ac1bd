//! [`Codebook`]: the moving averages that an [`Autoencoder`](super::Autoencoder)'s codes follow.

use candle_core::{DType, Tensor, Var};

use crate::error::{Error, Result};
use crate::params::{Params, Slot, StateVisitor};

/// Share of the averages that stays with each batch: a constant of the authors' `VQEmbeddingMovingAverage`.
const DECAY: f64 = 0.99;

/// Name of the codes among the autoencoder's parameters.
const NAME: &str = "codebook.embedding";

/// Moving averages of how often each code was the nearest one, and of the sum of the features that it was nearest to; the code is their
/// quotient.
///
/// The authors' `VQEmbeddingMovingAverage` (`latentplan/models/vqvae.py`). It neither smooths counts nor gives codes that are not used a new
/// start: both averages of such a code shrink alike, so that it stays where it is, until after some 8,000 updates its sum is
/// too small for single precision and its numbers wander off to at most ±1.
#[derive(Debug)]
pub struct Codebook {
    embedding: Slot, // (K, code width), the autoencoder's
    count: Var,      // (K)
    sum: Var,        // (K, code width)
}

impl Codebook {
    /// Of the autoencoder with these parameters: each code counted once, where it is.
    ///
    /// # Errors
    /// If they have no codebook or the device fails.
    pub fn new(autoencoder: &Params) -> Result<Self> {
        let param = autoencoder.get(NAME).ok_or_else(|| Error::MissingTensor {
            name: NAME.to_owned(),
            expected: Vec::new(),
        })?;
        let start = param.slot.tensor()?;
        let codes = start.dim(0)?;
        Ok(Self {
            embedding: param.slot.clone(),
            count: Var::from_tensor(&Tensor::ones(codes, start.dtype(), start.device())?)?,
            sum: Var::from_tensor(&start.copy()?)?,
        })
    }

    /// Takes a batch in: features (B, N, code width), and their nearest codes (B, N), u32. Codes change in place.
    ///
    /// # Errors
    /// If a shape doesn't fit.
    pub fn follow(&self, features: &Tensor, codes: &Tensor) -> Result<()> {
        let (batch, time, width) = features.dims3()?;
        let features = features.reshape((batch * time, width))?;
        let count = self.count.dims1()?;
        let all = Tensor::arange(0, count as u32, features.device())?.unsqueeze(0)?; // (1, K)
        let one_hot = codes
            .to_dtype(DType::U32)?
            .reshape((batch * time, 1))?
            .broadcast_eq(&all)?
            .to_dtype(features.dtype())?; // (B N, K)
        let moved = |old: &Var, new: Tensor| -> Result<Tensor> {
            Ok(((old.as_detached_tensor() * DECAY)? + (new * (1.0 - DECAY))?)?)
        };
        let counts = moved(&self.count, one_hot.sum(0)?)?;
        let sums = moved(&self.sum, one_hot.t()?.contiguous()?.matmul(&features)?)?;
        self.embedding
            .set(&sums.broadcast_div(&counts.unsqueeze(1)?)?)?;
        self.count.set(&counts)?;
        self.sum.set(&sums)?;
        Ok(())
    }

    /// Shows the averages to `visitor` under `prefix`; the codes are the autoencoder's.
    ///
    /// # Errors
    /// What the visitor says.
    pub fn visit(&self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.tensor(&format!("{prefix}count"), &Slot::from(&self.count))?;
        visitor.tensor(&format!("{prefix}sum"), &Slot::from(&self.sum))
    }
}
