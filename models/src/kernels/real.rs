//! [`Real`]: the two number types that kernels are written for, and their elementary functions.

use std::sync::Mutex;

use candle_core::cpu::erf::erf_f64;
use candle_core::{CpuStorage, Result, WithDType, bail};

/// f32 or f64.
pub trait Real: WithDType + std::ops::Neg<Output = Self> + std::iter::Sum {
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
    /// self * b + c, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger of two numbers.
    fn maximum_of(self, other: Self) -> Self;
    /// eˣ for x <= 0 (and 0 for -∞): f32 to 2e-7 relative, exact library values in f64.
    fn exp_nonpositive(self) -> Self;
    /// Distribution function and density of the standard normal at x: f32 to 2e-7 absolute and 8e-7
    /// relative, library values in f64.
    fn normal(self) -> (Self, Self);
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// The elements of a storage of this type, to be changed.
    ///
    /// # Errors
    /// If the storage has another type.
    fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;
    /// The same numbers, if they are f32.
    fn single(numbers: &[Self]) -> Option<&[f32]>;
    /// The same numbers to be changed, if they are f32.
    fn single_mut(numbers: &mut [Self]) -> Option<&mut [f32]>;
    /// Buffers that wait to be used again.
    fn pool() -> &'static Mutex<Vec<Vec<Self>>>;
}

macro_rules! shared {
    ($type:ty, $variant:ident) => {
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
            <$type>::mul_add(self, b, c)
        }

        #[inline(always)]
        fn maximum_of(self, other: Self) -> Self {
            if self > other { self } else { other }
        }

        fn ln(self) -> Self {
            <$type>::ln(self)
        }

        fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]> {
            match storage {
                CpuStorage::$variant(data) => Ok(data),
                _ => bail!("expected a tensor of type {}", stringify!($type)),
            }
        }

        fn pool() -> &'static Mutex<Vec<Vec<Self>>> {
            static POOL: Mutex<Vec<Vec<$type>>> = Mutex::new(Vec::new());
            &POOL
        }
    };
}

impl Real for f32 {
    shared!(f32, F32);

    fn single(numbers: &[Self]) -> Option<&[f32]> {
        Some(numbers)
    }

    fn single_mut(numbers: &mut [Self]) -> Option<&mut [f32]> {
        Some(numbers)
    }

    #[inline(always)]
    fn exp_nonpositive(self) -> Self {
        // x = (n + f) ln 2 with n whole and |f| <= 1/2; 2^f is a polynomial, 2^n goes into the
        // exponent's bits. Adding 1.5 * 2^23 rounds to a whole number in the low bits. The
        // coefficients are a relative minimax fit.
        const ROUNDER: f32 = 12_582_912.0;
        let x = self.maximum_of(-87.0);
        let shifted = f32::mul_add(x, std::f32::consts::LOG2_E, ROUNDER);
        let whole = shifted - ROUNDER;
        let r = f32::mul_add(whole, -0.693_145_75, x);
        let f = f32::mul_add(whole, -1.428_606_8e-6, r) * std::f32::consts::LOG2_E;
        let mut p = 1.534_581e-4f32;
        for c in [
            1.339_993_1e-3,
            9.618_489e-3,
            5.550_329e-2,
            2.402_264_7e-1,
            6.931_472e-1,
            1.0,
        ] {
            p = f32::mul_add(p, f, c);
        }
        let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        if self < -87.0 { 0.0 } else { p * power }
    }

    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        // The tail is e^(-x²/2) times a smooth function of u = 1 / (1 + 0.33 |x|): own relative
        // minimax fit for |x| <= 14, where the exponential has long vanished.
        let t = self.abs();
        let exponential = (-0.5 * self * self).exp_nonpositive();
        let u = 1.0 / f32::mul_add(0.33, t, 1.0);
        let mut p = -2.080_736_5e-2f32;
        for c in [
            1.230_789_4e-1,
            -2.671_844e-1,
            2.246_289_2e-1,
            -5.652_583e-2,
            1.218_189_7e-1,
            1.110_659_2e-1,
            1.323_027_8e-1,
            1.316_221_6e-1,
        ] {
            p = f32::mul_add(p, u, c);
        }
        let tail = exponential * (p * u);
        let below = if self < 0.0 { tail } else { 1.0 - tail };
        (below, exponential * 0.398_942_3)
    }
}

impl Real for f64 {
    shared!(f64, F64);

    fn single(_: &[Self]) -> Option<&[f32]> {
        None
    }

    fn single_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    #[inline(always)]
    fn exp_nonpositive(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        let below = 0.5 * (1.0 + erf_f64(self * std::f64::consts::FRAC_1_SQRT_2));
        let density = (-0.5 * self * self).exp() * 0.398_942_280_401_432_7;
        (below, density)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_precision_functions_keep_their_stated_accuracy() {
        for i in 0..200_000 {
            let x = -14.0 + 28.0 * (f64::from(i) + 0.5) / 200_000.0;
            let x = f64::from(x as f32);
            let (below, density) = (x as f32).normal();
            let (exact_below, exact_density) = x.normal();
            if x > -5.0 {
                // Beyond, the reference itself loses digits: 1 + erf(x) cancels.
                let error = (f64::from(below) / exact_below - 1.0).abs();
                assert!(error < 8e-7, "normal distribution at {x}: {error:e}");
            }
            assert!((f64::from(below) - exact_below).abs() < 2e-7, "at {x}");
            assert!(
                (f64::from(density) - exact_density).abs() < 1e-7,
                "density at {x}"
            );
            if x <= 0.0 {
                let x = 6.0 * x;
                let error =
                    f64::from((x as f32).exp_nonpositive()) / f64::from(x as f32).exp() - 1.0;
                assert!(error.abs() < 2e-7, "exponential at {x}: {error:e}");
            }
        }
        assert_eq!(f32::NEG_INFINITY.exp_nonpositive(), 0.0);
        assert_eq!(0f32.exp_nonpositive(), 1.0);
    }
}
