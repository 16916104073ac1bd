//! Dropout masks made on a CUDA device: the same hash as on the CPU, so the same masks, and nothing
//! to upload.

use std::sync::OnceLock;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::{
    CpuStorage, CudaStorage, DType, Device, InplaceOp1, Layout, Result, Tensor, bail,
};

const SOURCE: &str = include_str!("dropout_mask.cu");
/// Its name among the device's modules.
const MODULE: &str = "trajformer_dropout_mask";
/// Threads that share a multiprocessor's work.
const THREADS: u32 = 256;

/// Arguments of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Masked {
    /// Key of the mask.
    pub key: u64,
    /// Hashes below it drop their element.
    pub threshold: u32,
    /// What kept elements are.
    pub scale: f32,
}

impl Masked {
    /// A tensor of 0 and the scale, f32; rows are all but the last dimension.
    ///
    /// # Errors
    /// If the kernel can't be compiled or the device fails.
    pub fn tensor(self, dims: &[usize], device: &Device) -> Result<Tensor> {
        let columns = dims.last().copied().unwrap_or(1).max(1) as u64;
        let mask = Tensor::zeros(dims, DType::F32, device)?;
        if mask.elem_count() > 0 {
            mask.inplace_op1(&Fill(self, columns))?;
        }
        Ok(mask)
    }
}

struct Fill(Masked, u64);

impl InplaceOp1 for Fill {
    fn name(&self) -> &'static str {
        "dropout-mask"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("the kernel is for CUDA devices")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let Self(mask, columns) = self;
        let count = layout.shape().elem_count() as u64;
        let Ok(blocks) = u32::try_from(count.div_ceil(THREADS.into())) else {
            bail!("a dropout mask of {count} elements is too large")
        };
        let device = storage.device.clone();
        let function = device.get_or_load_custom_func("dropout_mask", MODULE, ptx()?)?;
        let out = storage.as_cuda_slice_mut::<f32>()?;
        let mut launch = function.builder();
        launch.arg(out).arg(&count).arg(columns);
        launch.arg(&mask.key).arg(&mask.threshold).arg(&mask.scale);
        let config = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those of the kernel, which writes the first `count`
        // elements of a tensor that was made with as many.
        #[allow(unsafe_code)]
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }
}

/// The kernel for any device, compiled once.
fn ptx() -> Result<&'static str> {
    static PTX: OnceLock<String> = OnceLock::new();
    if let Some(ptx) = PTX.get() {
        return Ok(ptx);
    }
    let compiled = compile_ptx(SOURCE).w()?.to_src();
    Ok(PTX.get_or_init(|| compiled))
}
