//! Fused operations on the CPU, each with a slow twin in plain candle that the tests compare it
//! with. Other devices take the twin; only dropout masks have a kernel for CUDA.
//!
//! Results have the same bits for any number of threads: work is cut into pieces of a size that
//! depends on shapes only, or where it makes no difference to any number, and sums over pieces are
//! taken in a fixed order.

pub mod adam;
pub(crate) mod attention_block;
pub(crate) mod block;
pub mod decode;
mod dispatch;
#[cfg(feature = "cuda")]
pub(crate) mod dropout_mask;
pub(crate) mod gate;
pub mod gradients;
pub(crate) mod heads_loss;
pub(crate) mod layer_norm;
pub mod memory;
pub(crate) mod mlp;
pub(crate) mod mlp_block;
pub(crate) mod normals;
pub(crate) mod orthogonal;
pub(crate) mod packed;
pub mod parallel;
pub(crate) mod pool;
pub(crate) mod product;
pub mod real;
pub(crate) mod rms;
pub(crate) mod rows;
pub(crate) mod spread;
pub mod storage;
pub mod switch;

/// The widest instructions of this processor that kernels and matrix products were written for; which ones are used is decided
/// at run time.
pub fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2 and FMA";
        }
    }
    if cfg!(target_arch = "aarch64") {
        "NEON"
    } else {
        "portable instructions"
    }
}
