//! [`Real`]: the two number types that kernels are written for.

use candle_core::{CpuStorage, DType, Device, Result, Tensor, WithDType, bail};

/// f32 or f64.
pub trait Real:
    WithDType + std::ops::Neg<Output = Self> + std::iter::Sum + Send + Sync + 'static
{
    /// The number 0.
    const ZERO: Self;
    /// The number 1.
    const ONE: Self;
    /// -∞.
    const NEGATIVE_INFINITY: Self;

    /// The nearest number of this type.
    fn of(value: f64) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Fused or separate a * b + c, whichever the processor does fast.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The elements of a storage of this type, to be changed.
    ///
    /// # Errors
    /// If the storage has another type.
    fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

macro_rules! real {
    ($type:ty, $variant:ident) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEGATIVE_INFINITY: Self = <$type>::NEG_INFINITY;

            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $type
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                <$type>::sqrt(self)
            }

            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                self * b + c
            }

            fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(data) => Ok(data),
                    _ => bail!("expected a tensor of type {}", stringify!($type)),
                }
            }
        }
    };
}

real!(f32, F32);
real!(f64, F64);

/// Whether the kernels handle tensors of this type on this device.
pub fn supported(dtype: DType, device: &Device) -> bool {
    device.is_cpu() && matches!(dtype, DType::F32 | DType::F64)
}

/// Whether the kernels handle this tensor.
pub fn supports(tensor: &Tensor) -> bool {
    supported(tensor.dtype(), tensor.device())
}
