//! Seeded random numbers: the only source of randomness in Trajformer.
//!
//! candle's CPU generator can't be seeded, so initial weights, dropout masks, noise and sampled
//! tokens are drawn here and uploaded. One seed gives named, independent [`Streams`]; drawing more
//! from one never changes another. How a stream makes numbers of its words has a version, which its
//! state names: a run goes on with the stream that it began with.

use candle_core::{DType, Device, Tensor};
use rand::{Rng as _, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::kernels::normals;

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
            version: Version::Second,
            generator: ChaCha8Rng::from_seed(seed),
            spare_normal: None,
        }
    }
}

/// How numbers are made of a stream's words. New streams have the last; what a version draws never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Every number by itself, in f64. Its states have no number in front.
    First,
    /// Tensors of f32 normals in blocks, in f32 (`kernels::normals`); everything else as before.
    Second,
}

/// A random stream with a state that can be saved and restored exactly.
#[derive(Debug, Clone)]
pub struct Rng {
    version: Version,
    generator: ChaCha8Rng,
    spare_normal: Option<f64>,
}

/// The complete state of an [`Rng`], as text that fits a TOML or JSON file: `2:SEED:WORD:SPARE`, the version first (`SEED:WORD:SPARE` is the
/// first version), then the generator's key, how many words were taken and the normal that waits for [`Rng::normal`], in hexadecimal.
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

    /// A tensor of standard normals, row-major. In f32 they are drawn in f32, whole blocks of 64 words at a time, what is left of the last
    /// one dropped (streams of the first version draw them in f64); in f64, one after the other by [`Self::normal`].
    pub fn normal_tensor(
        &mut self,
        shape: impl Into<candle_core::Shape>,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let shape = shape.into();
        if dtype == DType::F32 && self.version == Version::Second {
            return Tensor::from_vec(self.normals(shape.elem_count()), shape, device);
        }
        let values: Vec<f64> = (0..shape.elem_count()).map(|_| self.normal()).collect();
        from_f64(values, shape, dtype, device)
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        let mut found = vec![0f32; count.next_multiple_of(normals::BLOCK)];
        let mut words = [0u32; 16 * normals::BLOCK];
        for found in found.chunks_mut(words.len()) {
            let words = &mut words[..found.len()];
            self.generator.fill(words);
            normals::fill(words, found);
        }
        found.truncate(count);
        found
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
        let version = match self.version {
            Version::First => "",
            Version::Second => "2:",
        };
        let position = self.generator.get_word_pos();
        RngState(format!("{version}{seed}:{position:x}:{spare}"))
    }

    /// The stream that [`Self::state`] described.
    ///
    /// # Errors
    /// If the text is not such a state, or is one of a version that this build does not know.
    pub fn from_state(state: &RngState) -> Result<Self> {
        let (version, text) = match state.0.split_once(':') {
            Some(("2", text)) => (Version::Second, text),
            Some((number, _)) if number.len() < 9 && number.parse::<u32>().is_ok() => {
                return Err(Error::StreamVersion {
                    found: number.to_owned(),
                });
            }
            _ => (Version::First, state.0.as_str()),
        };
        let (generator, spare_normal) = parsed(text).ok_or(Error::NoStream)?;
        Ok(Self {
            version,
            generator,
            spare_normal,
        })
    }
}

/// Generator and spare normal of `SEED:WORD:SPARE`.
fn parsed(text: &str) -> Option<(ChaCha8Rng, Option<f64>)> {
    let mut parts = text.split(':');
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
    Some((generator, spare_normal))
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
    fn a_restored_stream_continues_bit_for_bit() -> Result<()> {
        let mut rng = Streams::from_seed(3).stream("train");
        for _ in 0..7 {
            rng.normal();
        }
        let mut copy = Rng::from_state(&rng.state())?;
        assert_eq!(drawn(&mut copy)?, drawn(&mut rng)?);
        assert_eq!(copy.state(), rng.state());
        Ok(())
    }

    /// What a stream draws, in every way there is: normals as bits of f32, since logarithms and sines of another system's library may
    /// end in other digits of f64.
    fn drawn(rng: &mut Rng) -> Result<([u32; 14], [u64; 3])> {
        let mut normals = Vec::new();
        for count in [3, 5] {
            let tensor = rng.normal_tensor(count, DType::F32, &Device::Cpu)?;
            normals.extend(tensor.to_vec1::<f32>()?);
            normals.push(rng.normal() as f32);
            let tensor = rng.normal_tensor(2, DType::F64, &Device::Cpu)?;
            normals.extend(tensor.to_vec1::<f64>()?.iter().map(|&x| x as f32));
        }
        let others = [rng.uniform().to_bits(), rng.below(1000) as u64, rng.bits()];
        Ok((std::array::from_fn(|i| normals[i].to_bits()), others))
    }

    #[test]
    fn streams_of_every_version_go_on_as_they_did() -> Result<()> {
        let key = "0300000000000000097208c5a695e7de00000000000000000000000000000000";
        // Written by the last build without versions: a state with a normal that waits, and what came next.
        let first = (
            [
                0x3e1e_4be7,
                0x3e04_12c8,
                0x3f7b_a0ed,
                0xbff6_adaa,
                0x400e_fcf5,
                0xbf95_7455,
                0xbf7c_d3c6,
                0x3fb3_47fd,
                0xbf59_83bc,
                0xbdf1_b2ed,
                0x3f89_85fd,
                0xbf8a_6dab,
                0x3d84_0d20,
                0xbf83_a37d,
            ],
            [0x3fa6_fbe8_f111_1c10, 137, 0x7144_c875_6619_c30e],
        );
        // By the first build with the second version.
        let second = (
            [
                0xbfb2_7c59,
                0xbfa4_b228,
                0x3f57_ebeb,
                0x3e1e_4be7,
                0x3fa9_b323,
                0x3f57_dc43,
                0xbee6_1dc4,
                0xbe54_ef45,
                0x3eca_5063,
                0x3f7a_a483,
                0xbf36_cec0,
                0xbf18_7f6d,
                0x3fee_3a56,
                0x3fa7_3169,
            ],
            [0x3fe7_fbf5_1417_3994, 645, 0x465f_e28f_669c_0ce3],
        );
        for (version, expected, end) in [("", first, "34"), ("2:", second, "a4")] {
            let state = RngState(format!("{version}{key}:12:3fc3c97ce28a33a2"));
            let mut rng = Rng::from_state(&state)?;
            assert_eq!(rng.state(), state);
            let found = drawn(&mut rng)?;
            assert_eq!(found, expected, "{version} {found:x?} {:?}", rng.state());
            let end = format!("{version}{key}:{end}:bf");
            assert!(rng.state().0.starts_with(&end), "{:?}", rng.state());
        }
        assert!(Rng::from_seed(0).state().0.starts_with("2:"));
        Ok(())
    }

    #[test]
    fn a_state_of_an_unknown_version_is_an_error_that_says_so() {
        let known = Rng::from_seed(0).state().0;
        let text = |state: String| match Rng::from_state(&RngState(state)) {
            Ok(rng) => panic!("{rng:?}"),
            Err(error) => error.to_string(),
        };
        let error = text(known.replacen("2:", "3:", 1));
        assert!(error.contains("version 3"), "{error}");
        assert!(text(format!("3:{known}:and:more")).contains("version 3"));
        for damaged in [
            known.replacen("2:", "", 1) + ":",
            known + "x",
            String::new(),
            "2:".to_owned(),
        ] {
            assert!(
                text(damaged.clone()).contains("not a random stream's state"),
                "{damaged}"
            );
        }
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
