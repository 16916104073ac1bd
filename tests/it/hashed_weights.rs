//! The formula of tests/golden/hashed_weights.py: weights that Python and Rust compute alike.

use candle_core::{Device, Tensor};

fn fnv1a(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |value, byte| {
        (value ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The f32 tensor that the scripts call `name`.
pub fn tensor(name: &str, dims: &[usize]) -> Tensor {
    let start = fnv1a(name);
    let mut parts = name.split('.');
    let norm = name.ends_with(".weight")
        && parts.any(|part| part.starts_with("ln") || part.starts_with("embed_ln"));
    let number = |i: u32| {
        let mut h = start.wrapping_add(i.wrapping_mul(0x9E37_79B9));
        h ^= h >> 16;
        h = h.wrapping_mul(0x85EB_CA6B);
        h ^= h >> 13;
        h = h.wrapping_mul(0xC2B2_AE35);
        h ^= h >> 16;
        let u = f64::from(h >> 8) / f64::from(1 << 23) - 1.0;
        let value = if norm { 1.0 + u / 8.0 } else { u / 16.0 };
        value as f32
    };
    let count = dims.iter().product::<usize>() as u32;
    let values: Vec<f32> = (0..count).map(number).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).expect("a tensor")
}
