//! Dropout with explicit randomness: masks are a function of one key and the element's place, so
//! they depend neither on the number of threads nor on the device, and are never stored.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::rng::Rng;

/// Randomness for one forward pass: off, or a key that every dropout site derives its mask from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropout {
    key: Option<u64>,
}

impl Dropout {
    /// No dropout: for inference.
    pub fn off() -> Self {
        Self { key: None }
    }

    /// Fresh masks for one forward pass; takes one draw from `rng`.
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            key: Some(rng.bits()),
        }
    }

    /// Other masks for each of the ranks that train together, made from the same draw.
    pub fn of_rank(self, rank: usize) -> Self {
        let of_key = |key| match rank {
            0 => key,
            rank => mix64(key ^ mix64(!(rank as u64))),
        };
        Self {
            key: self.key.map(of_key),
        }
    }

    /// The mask of dropout site number `site`, or `None` if nothing is dropped.
    ///
    /// `rate` is the probability that an element becomes 0, in [0, 1).
    pub fn site(&self, site: u64, rate: f64) -> Option<DropoutMask> {
        let key = self.key?;
        (rate > 0.0).then(|| DropoutMask {
            key: mix64(key ^ mix64(site.wrapping_add(1))),
            threshold: (rate.clamp(0.0, 1.0) * 4_294_967_296.0)
                .round()
                .min(4_294_967_295.0) as u32,
            scale: 1.0 / (1.0 - rate),
        })
    }

    /// `x` with dropout of site number `site` applied; rows are all but the last dimension.
    ///
    /// # Errors
    /// If the device fails.
    pub fn apply(&self, x: &Tensor, site: u64, rate: f64) -> Result<Tensor> {
        match self.site(site, rate) {
            None => Ok(x.clone()),
            Some(mask) => Ok((x * mask.tensor(x.dims(), x.dtype(), x.device())?)?),
        }
    }
}

/// Which elements of a matrix are kept, and the factor 1/(1 - rate) of those.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutMask {
    key: u64,
    threshold: u32,
    scale: f64,
}

impl DropoutMask {
    /// Factor of the elements that are kept.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The mask of one row.
    pub fn row(&self, row: usize) -> RowMask {
        let seed = mix64(
            self.key
                .wrapping_add((row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        );
        RowMask {
            low: seed as u32,
            high: (seed >> 32) as u32,
            threshold: self.threshold,
        }
    }

    /// The mask as a tensor of 0 and the scale; rows are all but the last dimension.
    ///
    /// On CUDA devices a kernel makes it there; for others it is made here and uploaded.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensor(&self, dims: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            return self.on_cuda(dims, dtype, device);
        }
        let columns = dims.last().copied().unwrap_or(1).max(1);
        let count: usize = dims.iter().product();
        let mut values = Vec::with_capacity(count);
        for row in 0..count / columns {
            let mask = self.row(row);
            values.extend((0..columns as u32).map(|c| {
                if mask.keeps(c) {
                    self.scale as f32
                } else {
                    0.0
                }
            }));
        }
        if dtype == DType::F64 {
            // Not through f32: 1 / (1 - rate) would lose digits.
            let values: Vec<f64> = values
                .iter()
                .map(|&v| if v == 0.0 { 0.0 } else { self.scale })
                .collect();
            return Ok(Tensor::from_vec(values, dims, device)?);
        }
        Ok(Tensor::from_vec(values, dims, device)?.to_dtype(dtype)?)
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, dims: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let kept = |scale: f64| crate::kernels::dropout_mask::Masked {
            key: self.key,
            threshold: self.threshold,
            scale: scale as f32,
        };
        match dtype {
            DType::F32 => Ok(kept(self.scale).tensor(dims, device)?),
            // Not through f32: 1 / (1 - rate) would lose digits.
            _ => Ok((kept(1.0).tensor(dims, device)?.to_dtype(dtype)? * self.scale)?),
        }
    }
}

/// Which elements of one row are kept.
#[derive(Debug, Clone, Copy)]
pub struct RowMask {
    low: u32,
    high: u32,
    threshold: u32,
}

impl RowMask {
    /// Whether the element in this column is kept.
    #[inline(always)]
    pub fn keeps(&self, column: u32) -> bool {
        // A 32-bit finaliser (two multiply-xorshift rounds) keyed twice by the row: plain integer
        // arithmetic that the compiler turns into vector instructions.
        let mut x = column.wrapping_mul(0x9e37_79b9) ^ self.low;
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d).wrapping_add(self.high);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        x >= self.threshold
    }
}

/// A 64-bit finaliser (splitmix64's).
fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_drop_the_given_share_in_every_row_and_column() -> Result<()> {
        let dropout = Dropout::draw(&mut Rng::from_seed(5));
        let mask = dropout.site(0, 0.1).expect("dropout is on");
        let x = mask.tensor(&[400, 256], DType::F64, &Device::Cpu)?;
        let dropped = x.eq(0.0)?.to_dtype(DType::F64)?;
        let total = dropped.mean_all()?.to_scalar::<f64>()?;
        // Four standard errors at 102,400 draws.
        assert!((total - 0.1).abs() < 0.004, "{total}");
        for (dim, count) in [(0, 400.0), (1, 256.0)] {
            let largest = dropped.mean(dim)?.max_all()?.to_scalar::<f64>()?;
            let smallest = dropped.mean(dim)?.min_all()?.to_scalar::<f64>()?;
            let error = 5.0 * (0.09f64 / count).sqrt();
            assert!(
                largest < 0.1 + error && smallest > 0.1 - error,
                "{smallest} to {largest}"
            );
        }
        let mean = x.mean_all()?.to_scalar::<f64>()?;
        assert!((mean - 1.0).abs() < 0.005, "{mean}");
        Ok(())
    }

    #[test]
    fn sites_and_draws_have_independent_masks() -> Result<()> {
        let rng = &mut Rng::from_seed(5);
        let (first, second) = (Dropout::draw(rng), Dropout::draw(rng));
        let masks: Vec<Tensor> = [(first, 0), (first, 1), (second, 0)]
            .into_iter()
            .filter_map(|(dropout, site)| dropout.site(site, 0.5))
            .map(|mask| mask.tensor(&[64, 64], DType::F64, &Device::Cpu))
            .collect::<Result<_>>()?;
        for (i, a) in masks.iter().enumerate() {
            for b in &masks[i + 1..] {
                let agree = a
                    .eq(b)?
                    .to_dtype(DType::F64)?
                    .mean_all()?
                    .to_scalar::<f64>()?;
                // Four standard errors at 4096 draws.
                assert!((agree - 0.5).abs() < 0.032, "{agree}");
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_happens_at_rate_zero_or_when_off() {
        assert!(Dropout::draw(&mut Rng::from_seed(5)).site(0, 0.0).is_none());
        assert!(Dropout::off().site(0, 0.5).is_none());
    }
}
