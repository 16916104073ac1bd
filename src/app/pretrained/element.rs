//! Types of numbers in weights files, and tensors of them.

use candle_core::{DType, Device, Tensor};

/// The type of a tensor's numbers in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// One that tensors here have too.
    Plain(DType),
    /// 8-bit floats of 4 exponent bits, without infinities.
    F8E4M3,
    /// 8-bit floats of 5 exponent bits: the upper half of 16-bit ones.
    F8E5M2,
    /// Signed bytes.
    I8,
    /// Unsigned numbers of 16 bits.
    U16,
    /// Truth values, a byte each.
    Bool,
}

impl Element {
    /// Bytes per number.
    pub fn size(self) -> usize {
        match self {
            Self::Plain(dtype) => dtype.size_in_bytes(),
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 | Self::Bool => 1,
            Self::U16 => 2,
        }
    }

    /// What safetensors call it; `None` for types that are not read.
    pub fn of_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        use safetensors::Dtype;
        Some(match dtype {
            Dtype::BOOL => Self::Bool,
            Dtype::I8 => Self::I8,
            Dtype::U16 => Self::U16,
            Dtype::F8_E5M2 => Self::F8E5M2,
            Dtype::F8_E4M3 => Self::F8E4M3,
            Dtype::U8 => Self::Plain(DType::U8),
            Dtype::U32 => Self::Plain(DType::U32),
            Dtype::I16 => Self::Plain(DType::I16),
            Dtype::I32 => Self::Plain(DType::I32),
            Dtype::I64 => Self::Plain(DType::I64),
            Dtype::F16 => Self::Plain(DType::F16),
            Dtype::BF16 => Self::Plain(DType::BF16),
            Dtype::F32 => Self::Plain(DType::F32),
            Dtype::F64 => Self::Plain(DType::F64),
            _ => return None,
        })
    }

    /// What PyTorch calls it, as a class of storages (`FloatStorage`) or as a type (`float32`).
    pub fn of_torch(name: &str) -> Option<Self> {
        Some(match name {
            "FloatStorage" | "float32" => Self::Plain(DType::F32),
            "DoubleStorage" | "float64" => Self::Plain(DType::F64),
            "HalfStorage" | "float16" => Self::Plain(DType::F16),
            "BFloat16Storage" | "bfloat16" => Self::Plain(DType::BF16),
            "float8_e4m3fn" => Self::F8E4M3,
            "float8_e5m2" => Self::F8E5M2,
            "LongStorage" | "int64" => Self::Plain(DType::I64),
            "IntStorage" | "int32" => Self::Plain(DType::I32),
            "ShortStorage" | "int16" => Self::Plain(DType::I16),
            "CharStorage" | "int8" => Self::I8,
            "ByteStorage" | "uint8" => Self::Plain(DType::U8),
            "uint16" => Self::U16,
            "uint32" => Self::Plain(DType::U32),
            "BoolStorage" | "bool" => Self::Bool,
            _ => return None,
        })
    }

    /// A tensor on the CPU of numbers that lie one after the other, little-endian; 8-bit floats become wider ones, signed
    /// bytes 16-bit numbers, truth values bytes.
    ///
    /// # Errors
    /// If there are more or fewer numbers than the shape has.
    pub fn tensor(self, bytes: &[u8], shape: &[usize]) -> candle_core::Result<Tensor> {
        let count: usize = shape.iter().product();
        // Strides are products as well, of all but a dimension that may be zero.
        let inner = shape
            .iter()
            .try_fold(self.size(), |n, &d| n.checked_mul(d.max(1)));
        if inner.is_none() || bytes.len() != count * self.size() {
            candle_core::bail!(
                "{} bytes for {shape:?} numbers of {} bytes",
                bytes.len(),
                self.size()
            );
        }
        match self {
            Self::Plain(dtype) => Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu),
            // candle's own type for these never ends converting some of them.
            Self::F8E4M3 => {
                let wide = bytes.iter().map(|&byte| of_e4m3(byte));
                Tensor::from_vec(wide.collect::<Vec<_>>(), shape, &Device::Cpu)
            }
            Self::F8E5M2 => {
                let wide: Vec<u8> = bytes.iter().flat_map(|&byte| [0, byte]).collect();
                Tensor::from_raw_buffer(&wide, DType::F16, shape, &Device::Cpu)
            }
            Self::I8 => {
                let wide = bytes.iter().map(|&byte| i16::from(byte as i8));
                Tensor::from_vec(wide.collect::<Vec<_>>(), shape, &Device::Cpu)
            }
            Self::U16 => {
                let wide = bytes
                    .chunks_exact(2)
                    .map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])));
                Tensor::from_vec(wide.collect::<Vec<_>>(), shape, &Device::Cpu)
            }
            Self::Bool => Tensor::from_slice(bytes, shape, &Device::Cpu),
        }
    }
}

/// The number of an 8-bit float of 4 exponent bits (bias 7) and 3 of its fraction.
fn of_e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7) / 8.0);
    let size = match exponent {
        15 if byte & 7 == 7 => f32::NAN,
        0 => fraction * 2f32.powi(-6),
        _ => (1.0 + fraction) * 2f32.powi(exponent - 7),
    };
    match byte & 0x80 {
        0 => size,
        _ => -size,
    }
}
