//! [`Blocks`]: the blocks of a [`Gpt`](super::Gpt) without the norm after them, which are also the parts of networks that have several
//! stacks or pool in between.

use candle_core::Tensor;

use super::{AttentionMask, Block, DEVIATION, GptConfig, Layout, Parts};
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::kernels::switch::Kernel;
use crate::params::Scope;
use crate::precision::Precision;

/// Causal pre-norm blocks, one after the other.
#[derive(Debug, Clone)]
pub struct Blocks {
    pub(crate) list: Vec<Block>,
    pub(crate) config: GptConfig,
}

impl Blocks {
    /// Makes the blocks `{list}.0`, `{list}.1`, ... with normal weights of standard deviation 0.02 and zero biases.
    ///
    /// # Errors
    /// If the sizes don't fit each other or the scope's parameters don't fit.
    pub fn new(config: &GptConfig, list: &str, scope: &mut Scope<'_>) -> Result<Self> {
        Self::with_output_deviation(config, DEVIATION, list, scope)
    }

    /// Makes them like [`Self::new`], with another standard deviation of the layers that add to the residual stream.
    pub(super) fn with_output_deviation(
        config: &GptConfig,
        output_deviation: f64,
        list: &str,
        scope: &mut Scope<'_>,
    ) -> Result<Self> {
        if config.heads == 0 || config.width == 0 || !config.width.is_multiple_of(config.heads) {
            let (width, heads) = (config.width, config.heads);
            let reason = format!("the width {width} must be a positive multiple of heads {heads}");
            return Err(Error::Config {
                what: "Gpt",
                reason,
            });
        }
        if config.layout == Layout::Gpt2 && config.parts != Parts::default() {
            return Err(Error::Config {
                what: "Gpt",
                reason: format!("GPT-2 has no such parts: {:?}", config.parts),
            });
        }
        let block = |i| Block::new(config, output_deviation, &mut scope.sub(list).sub(i));
        Ok(Self {
            list: (0..config.layers).map(block).collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Dropout sites that [`Self::forward`] uses, from its first one on.
    pub fn sites(&self) -> u64 {
        3 * self.list.len() as u64
    }

    /// Copies the weights to where forward passes read them, once for all.
    pub(super) fn fix(&mut self) -> Result<()> {
        for block in &mut self.list {
            block.packed = Some([block.packed_attention()?, block.packed_mlp()?]);
        }
        Ok(())
    }

    /// Whether [`Self::forward`] takes the fused operations for inputs like `x`.
    pub(super) fn fused(&self, x: &Tensor) -> bool {
        Kernel::Blocks.takes(x) && self.config.precision == Precision::Full
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
        if !self.fused(x) {
            return self.forward_composed(x, mask, dropout, first_site);
        }
        let hidden = mask.hidden_keys(x)?;
        let sites = (0..).map(|i| first_site + 3 * i);
        let mut x = x.clone();
        for (block, site) in self.list.iter().zip(sites) {
            x = block.forward(&x, &hidden, &self.config, dropout, site)?;
        }
        Ok(x)
    }

    /// The slow twin, for every device.
    pub(super) fn forward_composed(
        &self,
        x: &Tensor,
        mask: &AttentionMask,
        dropout: Dropout,
        first_site: u64,
    ) -> Result<Tensor> {
        let allowed = mask.allowed(x)?;
        let sites = (0..).map(|i| first_site + 3 * i);
        let mut x = x.clone();
        for (block, site) in self.list.iter().zip(sites) {
            x = block.forward_composed(&x, &allowed, &self.config, dropout, site)?;
        }
        Ok(x)
    }
}
