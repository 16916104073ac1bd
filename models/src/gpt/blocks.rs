//! [`Blocks`]: the blocks of a [`Gpt`](super::Gpt) without the norm after them, for networks that have several stacks or pool in
//! between.

use candle_core::Tensor;

use super::{AttentionMask, Block, DEVIATION, GptConfig};
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::kernels::switch::Kernel;
use crate::params::Scope;
use crate::precision::Precision;

/// Causal pre-norm blocks, one after the other.
#[derive(Debug, Clone)]
pub struct Blocks {
    blocks: Vec<Block>,
    config: GptConfig,
}

impl Blocks {
    /// Makes the blocks `{list}.0`, `{list}.1`, ... with normal weights of standard deviation 0.02 and zero biases.
    ///
    /// # Errors
    /// If the sizes don't fit each other or the scope's parameters don't fit.
    pub fn new(config: &GptConfig, list: &str, scope: &mut Scope<'_>) -> Result<Self> {
        if config.heads == 0 || config.width == 0 || !config.width.is_multiple_of(config.heads) {
            let (width, heads) = (config.width, config.heads);
            let reason = format!("the width {width} must be a positive multiple of heads {heads}");
            return Err(Error::Config {
                what: "Blocks",
                reason,
            });
        }
        let block = |i| Block::new(config, DEVIATION, &mut scope.sub(list).sub(i));
        Ok(Self {
            blocks: (0..config.layers).map(block).collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Dropout sites that [`Self::forward`] uses, from its first one on.
    pub fn sites(&self) -> u64 {
        3 * self.blocks.len() as u64
    }

    /// (B, T, D) -> (B, T, D).
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(
        &self,
        x: &Tensor,
        mask: &AttentionMask,
        dropout: Dropout,
        first_site: u64,
    ) -> Result<Tensor> {
        if !Kernel::Blocks.takes(x) || self.config.precision != Precision::Full {
            return self.forward_composed(x, mask, dropout, first_site);
        }
        let hidden = mask.hidden_keys(x)?;
        let sites = (0..).map(|i| first_site + 3 * i);
        let mut x = x.clone();
        for (block, site) in self.blocks.iter().zip(sites) {
            x = block.forward(&x, &hidden, &self.config, dropout, site)?;
        }
        Ok(x)
    }

    /// The slow twin, for every device.
    fn forward_composed(
        &self,
        x: &Tensor,
        mask: &AttentionMask,
        dropout: Dropout,
        first_site: u64,
    ) -> Result<Tensor> {
        let allowed = mask.allowed(x)?;
        let sites = (0..).map(|i| first_site + 3 * i);
        let mut x = x.clone();
        for (block, site) in self.blocks.iter().zip(sites) {
            x = block.forward_composed(&x, &allowed, &self.config, dropout, site)?;
        }
        Ok(x)
    }
}
