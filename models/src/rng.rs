//! Seeded random numbers: the only source of randomness in Trajformer.
//!
//! candle's CPU generator can't be seeded, so initial weights, dropout masks, noise and sampled
//! tokens are drawn here and uploaded. One seed gives named, independent [`Streams`]; drawing more
//! from one never changes another.

use candle_core::{DType, Device, Tensor};
use rand::{Rng as _, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Named independent random streams that grow from one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams of `seed`.
    pub fn from_seed(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream called `name` (`"init"`, `"train"`, `"evaluate"`, ...), from its beginning.
    pub fn stream(&self, name: &str) -> Rng {
        self.numbered(name, 0)
    }

    /// Stream number `index` of the family `name`, e.g. one per evaluation episode.
    pub fn numbered(&self, name: &str, index: u64) -> Rng {
        // FNV-1a of the name: stable across platforms and releases, unlike std's hasher.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let mut seed = [0u8; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&hash.to_le_bytes());
        seed[16..24].copy_from_slice(&index.to_le_bytes());
        Rng {
            generator: ChaCha8Rng::from_seed(seed),
            spare_normal: None,
        }
    }
}

/// A random stream with a state that can be saved and restored exactly.
#[derive(Debug, Clone)]
pub struct Rng {
    generator: ChaCha8Rng,
    spare_normal: Option<f64>,
}

/// The complete state of an [`Rng`], as text that fits a TOML or JSON file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RngState(pub String);

impl Rng {
    /// A stream of its own for one seed.
    pub fn from_seed(seed: u64) -> Self {
        Streams::from_seed(seed).stream("")
    }

    /// Uniform in [0, 1), 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        self.generator.random::<f64>()
    }

    /// Uniform integer in 0..`bound`. `bound` must be positive.
    pub fn below(&mut self, bound: usize) -> usize {
        // Multiply-shift: the bias is below 2^-32 for every bound that fits in memory here.
        let product = u128::from(self.generator.next_u64()) * (bound as u128);
        (product >> 64) as usize
    }

    /// Standard normal (Box-Muller, both values used).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare_normal = Some(radius * sin);
        radius * cos
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A tensor of standard normals, drawn in f64, row-major.
    pub fn normal_tensor(
        &mut self,
        shape: impl Into<candle_core::Shape>,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let shape = shape.into();
        let values: Vec<f64> = (0..shape.elem_count()).map(|_| self.normal()).collect();
        from_f64(values, shape, dtype, device)
    }

    /// A tensor uniform in [`low`, `high`), drawn in f64, row-major.
    pub fn uniform_tensor(
        &mut self,
        low: f64,
        high: f64,
        shape: impl Into<candle_core::Shape>,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let shape = shape.into();
        let values: Vec<f64> = (0..shape.elem_count())
            .map(|_| low + (high - low) * self.uniform())
            .collect();
        from_f64(values, shape, dtype, device)
    }

    /// The state, exactly.
    pub fn state(&self) -> RngState {
        let seed: String = self
            .generator
            .get_seed()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let spare = self
            .spare_normal
            .map_or("-".to_owned(), |v| format!("{:016x}", v.to_bits()));
        RngState(format!(
            "{seed}:{:x}:{spare}",
            self.generator.get_word_pos()
        ))
    }

    /// The stream that [`Self::state`] described; `None` if the text is not such a state.
    pub fn from_state(state: &RngState) -> Option<Self> {
        let mut parts = state.0.split(':');
        let (seed_hex, position, spare) = (parts.next()?, parts.next()?, parts.next()?);
        if seed_hex.len() != 64 || !seed_hex.is_ascii() || parts.next().is_some() {
            return None;
        }
        let mut seed = [0u8; 32];
        for (i, byte) in seed.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&seed_hex[2 * i..2 * i + 2], 16).ok()?;
        }
        let mut generator = ChaCha8Rng::from_seed(seed);
        generator.set_word_pos(u128::from_str_radix(position, 16).ok()?);
        let spare_normal = match spare {
            "-" => None,
            bits => Some(f64::from_bits(u64::from_str_radix(bits, 16).ok()?)),
        };
        Some(Self {
            generator,
            spare_normal,
        })
    }
}

fn from_f64(
    values: Vec<f64>,
    shape: candle_core::Shape,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    match dtype {
        DType::F64 => Tensor::from_vec(values, shape, device),
        DType::F32 => {
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            Tensor::from_vec(values, shape, device)
        }
        other => Tensor::from_vec(values, shape, device)?.to_dtype(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_stream_continues_bit_for_bit() {
        let mut rng = Streams::from_seed(3).stream("train");
        for _ in 0..7 {
            rng.normal();
        }
        let mut copy = Rng::from_state(&rng.state()).expect("a state of our own");
        let expected: Vec<u64> = (0..9).map(|_| rng.normal().to_bits()).collect();
        let found: Vec<u64> = (0..9).map(|_| copy.normal().to_bits()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn streams_of_other_names_and_numbers_differ() {
        let streams = Streams::from_seed(0);
        let first = [
            streams.stream("init").bits(),
            streams.stream("train").bits(),
            streams.numbered("train", 1).bits(),
            Streams::from_seed(1).stream("init").bits(),
        ];
        for (i, a) in first.iter().enumerate() {
            assert!(first[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn normals_have_mean_zero_and_deviation_one() {
        let mut rng = Rng::from_seed(1);
        let values: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        // Three standard errors of the mean and of the variance at 20,000 draws.
        assert!(mean.abs() < 0.022, "{mean}");
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }
}
