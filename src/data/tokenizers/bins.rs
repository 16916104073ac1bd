//! [`Bins`]: every number is a token, its bin; quantile or uniform, as the Trajectory Transformer's
//! [`Discretizer`] cuts them.

use trajformer_models::params::StateVisitor;

use crate::discretizer::{Discretizer, DiscretizerKind};
use crate::tokenizers::tokenizer::{Chunks, Decoded, TrajectoryTokenizer, check_dims, check_rows};
use trajformer_core::error::Result;
use trajformer_models::rng::Rng;

/// D tokens per row; token i of a row is the bin of dimension i.
#[derive(Debug)]
pub struct Bins {
    kind: DiscretizerKind,
    discretizer: Discretizer,
}

impl Bins {
    /// One that is to be fitted, or restored.
    ///
    /// # Errors
    /// If a tensor can't be made.
    pub fn unfitted(kind: DiscretizerKind, dims: usize, bins: usize) -> Result<Self> {
        Ok(Self {
            kind,
            discretizer: Discretizer::empty(dims, bins)?,
        })
    }

    /// The thresholds.
    pub fn discretizer(&self) -> &Discretizer {
        &self.discretizer
    }
}

impl TrajectoryTokenizer for Bins {
    fn fit(&mut self, chunks: &Chunks<'_>, _rng: &mut Rng) -> Result<()> {
        check_dims(chunks, self.dims())?;
        let bins = self.discretizer.bins();
        self.discretizer = Discretizer::fit(chunks.rows, chunks.dims, bins, self.kind)?;
        Ok(())
    }

    fn dims(&self) -> usize {
        self.discretizer.dims()
    }

    fn vocabulary(&self) -> usize {
        self.discretizer.bins()
    }

    fn encode(&self, rows: &[f64], tokens: &mut Vec<u32>) -> Result<()> {
        check_rows(rows, self.dims())?;
        for row in rows.chunks_exact(self.dims()) {
            self.discretizer.encode_slice(row, 0, tokens);
        }
        Ok(())
    }

    fn decode(&self, tokens: &[u32], steps: usize) -> Decoded {
        let dims = self.dims();
        let fits = tokens.len() == steps * dims;
        if fits && tokens.iter().all(|&t| (t as usize) < self.vocabulary()) {
            let places = tokens.iter().enumerate();
            let rows = places.map(|(at, &token)| self.discretizer.decode(token, at % dims));
            Decoded {
                rows: rows.collect(),
                valid: true,
            }
        } else {
            Decoded {
                rows: vec![0.0; steps * dims],
                valid: false,
            }
        }
    }

    fn state(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.discretizer.state(prefix, visitor)
    }
}
