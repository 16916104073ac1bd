//! [`CachedUploads`]: constants of an update that a CUDA device is given once, not at every update.

use std::any::Any;

use candle_core::Device;

/// While it is held, candle keeps small uploads of this thread on a CUDA device and reuses them:
/// above all dimensions and strides, which most of its kernels need. Elsewhere it does nothing.
///
/// Everything is kept to the end of the process, so nothing that differs from update to update
/// (batches, noise) must be uploaded meanwhile.
#[must_use = "uploads are cached as long as this is held"]
pub struct CachedUploads {
    // Of one thread, as candle's own guard is.
    _guard: Option<Box<dyn Any>>,
}

impl CachedUploads {
    /// Uploads to `device` are cached from here on.
    pub fn hold(device: &Device) -> Self {
        Self {
            _guard: guard(device),
        }
    }
}

#[cfg(feature = "cuda")]
fn guard(device: &Device) -> Option<Box<dyn Any>> {
    let Device::Cuda(device) = device else {
        return None;
    };
    Some(Box::new(device.enable_cuda_graph_htod_cache()))
}

#[cfg(not(feature = "cuda"))]
fn guard(_: &Device) -> Option<Box<dyn Any>> {
    None
}
