//! [`Parts`]: what the blocks of a [`Gpt`](super::Gpt) may have in the place of GPT-2's parts.

use candle_core::Tensor;

use crate::error::Result;
use crate::norm::NormKind;

/// What a block may have in the place of GPT-2's parts. The default has those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// The norms before both halves of a block and after the last one.
    pub norm: NormKind,
    /// What attention's scores are.
    pub scores: Scores,
    /// The hidden layer of a block's MLP.
    pub hidden: HiddenLayer,
}

/// The hidden layer of a block's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HiddenLayer {
    /// One linear layer and the activation.
    #[default]
    Plain,
    /// Two linear layers, `mlp.0` and `mlp.gate`: h = (W x + b) SiLU(W_gate x + b_gate), with SiLU(x) = x / (1 + e⁻ˣ) and without
    /// another activation (Shazeer 2020, <https://arxiv.org/abs/2002.05202>, who leaves biases out).
    SwiGlu,
}

impl HiddenLayer {
    /// Its width in blocks of width D: 4 D, or what gives three matrices as many weights as two of that have, 8 D / 3, to the nearest
    /// multiple of 8.
    pub(crate) fn inner(self, width: usize) -> usize {
        match self {
            Self::Plain => 4 * width,
            Self::SwiGlu => (8 * ((width + 1) / 3)).max(8),
        }
    }
}

/// How queries and keys of d numbers per head give the scores of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scores {
    /// Their products over √d.
    #[default]
    Plain,
    /// √d times the cosines between them: queries and keys of each head are divided by the roots of their mean squares, without a
    /// learned scale, and their products by √d as ever, so that scores begin with variance 1 in heads of any width (`F.rms_norm`
    /// before `F.scaled_dot_product_attention`, as modded-nanogpt did before it had a factor of its own, 0.12 in heads of 128
    /// numbers). Henry et al. 2020 (<https://arxiv.org/abs/2010.04245>) learn the factor of the cosines.
    Cosine,
}

/// x / (1 + e⁻ˣ), elementwise, with gradient.
pub(crate) fn silu(x: &Tensor) -> Result<Tensor> {
    // 1 / (1 + e⁻ˣ) = (1 + tanh(x / 2)) / 2
    Ok((x * ((x * 0.5)?.tanh()? + 1.0)?)?.affine(0.5, 0.0)?)
}
