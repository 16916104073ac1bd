//! Which fused operations are used: all of them, unless `TRAJFORMER_KERNELS_OFF` names some.
//!
//! With one off, its slow twin in plain tensor operations runs instead. Use it to measure a kernel's gain and to check
//! that results don't depend on it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};

/// Environment variable: `all`, or names of [`Kernel`]s with commas between them.
pub const VARIABLE: &str = "TRAJFORMER_KERNELS_OFF";

/// A fused operation with a slow twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Adam's step and sums of squares, tensor by tensor.
    Adam,
    /// The attention and the MLP half of a transformer block.
    Blocks,
    /// Per-position heads with cross-entropy.
    HeadsLoss,
    /// Layer normalisation outside blocks.
    LayerNorm,
    /// Whole multilayer perceptrons and ensembles of them.
    Mlp,
    /// Ensembles with the gradients of their values with respect to actions.
    MlpSlopes,
    /// Polyak averaging.
    Polyak,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Adam,
        Self::Blocks,
        Self::HeadsLoss,
        Self::LayerNorm,
        Self::Mlp,
        Self::MlpSlopes,
        Self::Polyak,
    ];

    /// Its name in [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Adam => "adam",
            Self::Blocks => "blocks",
            Self::HeadsLoss => "heads_loss",
            Self::LayerNorm => "layer_norm",
            Self::Mlp => "mlp",
            Self::MlpSlopes => "mlp_slopes",
            Self::Polyak => "polyak",
        }
    }

    /// Whether it handles this tensor and is not switched off.
    pub fn takes(self, tensor: &Tensor) -> bool {
        let real = matches!(tensor.dtype(), DType::F32 | DType::F64);
        tensor.device().is_cpu() && real && self.is_on()
    }

    /// Whether it is not switched off.
    pub fn is_on(self) -> bool {
        !off()[self as usize].load(Ordering::Relaxed)
    }

    /// Switches it on or off from now on, for benchmarks of both.
    pub fn set(self, on: bool) {
        off()[self as usize].store(!on, Ordering::Relaxed);
    }
}

/// Checks what [`VARIABLE`] says.
///
/// # Errors
/// The first word that names no kernel, with those that there are.
pub fn check() -> Result<(), String> {
    let Ok(text) = std::env::var(VARIABLE) else {
        return Ok(());
    };
    match words(&text).find(|word| *word != "all" && named(word).is_none()) {
        None => Ok(()),
        Some(word) => {
            let names = Kernel::ALL.map(Kernel::name).join(", ");
            Err(format!(
                "{VARIABLE}: no kernel is called `{word}`; expected all, {names}"
            ))
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn named(word: &str) -> Option<Kernel> {
    Kernel::ALL.into_iter().find(|kernel| kernel.name() == word)
}

fn off() -> &'static [AtomicBool; Kernel::ALL.len()] {
    static OFF: OnceLock<[AtomicBool; Kernel::ALL.len()]> = OnceLock::new();
    OFF.get_or_init(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let named =
            |kernel: Kernel| words(&text).any(|word| word == "all" || word == kernel.name());
        Kernel::ALL.map(|kernel| AtomicBool::new(named(kernel)))
    })
}
