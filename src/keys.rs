//! [`Keys`]: checks of the values in one table of a configuration, whose errors name the key, what was
//! found and what was expected.

use std::fmt::Display;

use crate::error::{Error, Result};

/// Most memory that a configuration may ask for.
const MOST_GIB: usize = 64;

/// A table of a configuration, e.g. `algorithm.bc`.
pub(crate) struct Keys(pub &'static str);

impl Keys {
    /// The error about one key.
    pub fn wrong(&self, key: &str, found: impl Display, expected: impl Display) -> Error {
        Error::Config(format!(
            "`{}.{key}` is {found}, expected {expected}",
            self.0
        ))
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
        Err(Error::Config(format!(
            "`{}`: these sizes need about {gib} GiB of memory, expected less than {MOST_GIB}; lower \
             {keys}",
            self.0
        )))
    }
}
