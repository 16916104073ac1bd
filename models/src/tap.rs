//! The networks of the Trajectory Autoencoding Planner (Jiang et al. 2023): an [`autoencoder`] that turns stretches of a trajectory
//! into codes and back, and a [`prior`] over these codes.
//!
//! Exactly the models of the authors' code (github.com/ZhengyaoJiang/latentplan at c096a5c, `latentplan/models/vqvae.py`), with
//! its parameter names but for the `model.` in front of the autoencoder's. Left out is what none of their configurations uses: the
//! bottleneck by attention with its masks, and a codebook that is trained with gradients.

pub mod autoencoder;
pub mod codebook;
pub mod prior;

pub use autoencoder::{Autoencoder, AutoencoderConfig, LossWeights, Losses, StepBatch};
pub use codebook::Codebook;
pub use prior::{Prior, PriorConfig};

/// Whether the authors' optimisers apply weight decay to the parameter `name` of either network: to the weights of linear layers,
/// not to embeddings, positions, norms and biases.
pub fn decays(name: &str) -> bool {
    let kept = ["ln1.", "ln2.", "ln_f.", "tok_emb."];
    name.ends_with(".weight") && !kept.iter().any(|part| name.contains(part))
}
