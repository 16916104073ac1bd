//! [`Keys`]: checks of the values in one table of a configuration, whose errors name the key, what was
//! found and what was expected.

use std::fmt::Display;

use crate::error::{Error, Result};

/// Most memory that a configuration may ask for.
const MOST_GIB: usize = 64;

/// A table of a configuration, e.g. `algorithm.bc`.
pub struct Keys(pub &'static str);

impl Keys {
    /// The error about one key.
    pub fn wrong(&self, key: &str, found: impl Display, expected: impl Display) -> Error {
        Error::config(format!("{}.{key}", self.0), found, expected)
    }

    /// Fails unless every count is at least 1 and at most what stands beside it.
    pub fn counts(&self, counts: &[(&str, usize, usize)]) -> Result<()> {
        for &(key, value, most) in counts {
            if value == 0 || value > most {
                return Err(self.wrong(key, value, format_args!("1 to {most}")));
            }
        }
        Ok(())
    }

    /// Fails unless these are the widths of at most 100 layers.
    pub fn hidden(&self, key: &str, widths: &[usize]) -> Result<()> {
        let width_fits = |width: &usize| (1..=1 << 20).contains(width);
        if widths.len() > 100 || !widths.iter().all(width_fits) {
            let found = format!("{widths:.200?}");
            return Err(self.wrong(key, found, "at most 100 widths of 1 to 1048576"));
        }
        Ok(())
    }

    /// Fails unless every number is positive and finite.
    pub fn positive(&self, numbers: &[(&str, f64)]) -> Result<()> {
        for &(key, value) in numbers {
            if !(value > 0.0 && value.is_finite()) {
                return Err(self.wrong(key, value, "a positive number"));
            }
        }
        Ok(())
    }

    /// Fails unless every number is finite and not negative.
    pub fn not_negative(&self, numbers: &[(&str, f64)]) -> Result<()> {
        for &(key, value) in numbers {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(self.wrong(key, value, "a number of 0 or more"));
            }
        }
        Ok(())
    }

    /// Fails unless every number is finite.
    pub fn finite(&self, numbers: &[(&str, f64)]) -> Result<()> {
        for &(key, value) in numbers {
            if !value.is_finite() {
                return Err(self.wrong(key, value, "a finite number"));
            }
        }
        Ok(())
    }

    /// Fails unless these are finite limits, the lower one first.
    pub fn range(&self, key: &str, (low, high): (f64, f64)) -> Result<()> {
        if low < high && low.is_finite() && high.is_finite() {
            Ok(())
        } else {
            let found = format!("[{low}, {high}]");
            Err(self.wrong(key, found, "two finite limits, the lower one first"))
        }
    }

    /// Fails unless every number lies in 0 to 1.
    pub fn shares(&self, numbers: &[(&str, f64)]) -> Result<()> {
        for &(key, value) in numbers {
            if !(0.0..=1.0).contains(&value) {
                return Err(self.wrong(key, value, "0 to 1"));
            }
        }
        Ok(())
    }

    /// Fails unless a transformer's `embedding` can be split over its `heads`.
    pub fn heads(&self, embedding: usize, heads: usize) -> Result<()> {
        if embedding.is_multiple_of(heads) {
            Ok(())
        } else {
            let expected = format!("a multiple of `heads` ({heads})");
            Err(self.wrong("embedding", embedding, expected))
        }
    }

    /// Fails unless `dropout` lies in [0, 1).
    pub fn dropout(&self, value: f64) -> Result<()> {
        if (0.0..1.0).contains(&value) {
            Ok(())
        } else {
            Err(self.wrong("dropout", value, "0 or more, below 1"))
        }
    }

    /// Fails unless Adam's `betas` lie in [0, 1).
    pub fn betas(&self, betas: [f64; 2]) -> Result<()> {
        if betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
            Ok(())
        } else {
            let expected = "two numbers of 0 or more, below 1";
            Err(self.wrong("betas", format!("{betas:?}"), expected))
        }
    }

    /// Fails unless `target_returns` are finite and at most 1000.
    pub fn target_returns(&self, targets: &[f32]) -> Result<()> {
        if let Some(target) = targets.iter().find(|target| !target.is_finite()) {
            return Err(self.wrong("target_returns", target, "finite numbers"));
        }
        if targets.len() <= 1_000 {
            Ok(())
        } else {
            let found = format!("{} numbers", targets.len());
            Err(self.wrong("target_returns", found, "at most 1000"))
        }
    }

    /// Fails if a Polyak rate is not above 0 and at most 1.
    pub fn target_rate(&self, value: f64) -> Result<()> {
        if value > 0.0 && value <= 1.0 {
            Ok(())
        } else {
            Err(self.wrong("target_rate", value, "above 0, at most 1"))
        }
    }

    /// Fails if `batch_size` or `hidden` is out of range, or `networks` of these widths, trained or not, need too
    /// much memory: outputs of layers; weights with gradients, two moments and targets.
    pub fn networks(&self, batch_size: usize, hidden: &[usize], networks: usize) -> Result<()> {
        self.counts(&[("batch_size", batch_size, 1 << 20)])?;
        self.hidden("hidden", hidden)?;
        let batch = hidden.iter().map(|&w| [w, batch_size, 4 * networks]);
        let weights = hidden.windows(2).map(|w| [w[0], w[1], 5 * networks]);
        let numbers: Vec<[usize; 3]> = batch.chain(weights).collect();
        let numbers: Vec<&[usize]> = numbers.iter().map(|n| &n[..]).collect();
        self.memory("`hidden` or `batch_size`", &numbers)
    }

    /// Fails if so many numbers of 4 bytes (each entry a product) are more than any machine has that
    /// this is meant for; `keys` are the ones to lower.
    pub fn memory(&self, keys: &str, numbers: &[&[usize]]) -> Result<()> {
        let product = |factors: &&[usize]| factors.iter().copied().fold(1, usize::saturating_mul);
        let total = numbers
            .iter()
            .map(product)
            .fold(0, usize::saturating_add)
            .saturating_mul(4);
        let gib = total >> 30;
        if gib < MOST_GIB {
            return Ok(());
        }
        Err(Error::settings(format!(
            "`{}`: these sizes need about {gib} GiB of memory, expected less than {MOST_GIB}; lower \
             {keys}",
            self.0
        )))
    }
}
