//! Inner loops of cached decoding: products with packed weights, attention over scattered slots,
//! layer norm and GELU, compiled for AVX-512, AVX2 and the baseline, chosen at run time.
//!
//! Every result of a row depends on that row alone, bit for bit: sums run in an order that neither
//! the number of rows nor of threads changes. That is why `gemm`, which switches algorithms with the
//! shape, is not used here.

mod attention;
mod product;
mod rms;

use super::real::Real;
use super::rows::fold;
pub use attention::{HeadLayout, Slots, Visible, attend};
pub use product::{Packed, Store};
pub use rms::{normalize_heads, rms_norm};

/// Lanes of a split sum: several vectors, since loops over a single one are taken apart into scalars
/// before the compiler looks for vectors.
const LANES: usize = 64;

/// What the inner loops need of f32 and f64 beside [`Real`].
pub trait Float: Real + Default {
    /// [`Packed::forward`] by AVX-512.
    #[cfg(target_arch = "x86_64")]
    const AVX512: product::Kernel<Self>;
    /// [`Packed::forward`] by AVX2.
    #[cfg(target_arch = "x86_64")]
    const AVX2: product::Kernel<Self>;

    /// Scores (tokens, HEADS) of a query in attention, before the softmax and its factor.
    #[inline(always)]
    fn scores<const FUSED: bool, const HEADS: usize>(
        query: &[Self],
        tokens: attention::Tokens<'_, Self>,
        scores: &mut [Self],
    ) {
        attention::plain_scores::<Self, FUSED, HEADS>(query, tokens, scores);
    }

    /// self * b + c in one rounding.
    fn fused(self, b: Self, c: Self) -> Self;
    /// e^self for self <= 0.
    fn exp_negative(self) -> Self;
    /// Error function.
    fn error_function(self) -> Self;
    /// The larger one.
    fn larger(self, other: Self) -> Self;
}

impl Float for f32 {
    #[cfg(target_arch = "x86_64")]
    const AVX512: product::Kernel<Self> = product::x86::avx512_f32;
    #[cfg(target_arch = "x86_64")]
    const AVX2: product::Kernel<Self> = product::x86::avx2_f32;

    #[inline(always)]
    fn scores<const FUSED: bool, const HEADS: usize>(
        query: &[Self],
        tokens: attention::Tokens<'_, Self>,
        scores: &mut [Self],
    ) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions.
            #[allow(unsafe_code)]
            return unsafe { attention::avx512_scores::<HEADS>(query, tokens, scores) };
        }
        attention::plain_scores::<Self, FUSED, HEADS>(query, tokens, scores);
    }

    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    /// 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes' `expf`); relative error below 2e-7.
    #[inline(always)]
    fn exp_negative(self) -> Self {
        /// Adding and subtracting 1.5 * 2^23 rounds to an integer.
        const ROUND: f32 = 12_582_912.0;
        let x = if self > -87.0 { self } else { -87.0 };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let p = 1.987_569_1e-4f32;
        let p = p * r + 1.398_2e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 5.0e-1;
        let y = p * r * r + r + 1.0;
        // The low bits of `shifted` are n; as bits of an exponent they are 2^n.
        let n = shifted
            .to_bits()
            .wrapping_sub(ROUND.to_bits())
            .wrapping_add(127);
        y * f32::from_bits(n << 23)
    }

    /// Rational approximation on [-4, 4], as Eigen's and XLA's; error below 5e-7.
    #[inline(always)]
    fn error_function(self) -> Self {
        let x = if self < -4.0 { -4.0 } else { self };
        let x = if x > 4.0 { 4.0 } else { x };
        let s = x * x;
        let p = -2.726_142_4e-10f32;
        let p = p * s + 2.770_681_5e-8;
        let p = p * s - 2.101_024e-6;
        let p = p * s - 5.692_506_5e-5;
        let p = p * s - 7.349_906_4e-4;
        let p = p * s - 2.954_6e-3;
        let p = p * s - 1.609_603_3e-2;
        let q = -1.456_607_2e-5f32;
        let q = q * s - 2.133_740_6e-4;
        let q = q * s - 1.682_827e-3;
        let q = q * s - 7.373_329e-3;
        let q = q * s - 1.426_474e-2;
        x * p / q
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

impl Float for f64 {
    #[cfg(target_arch = "x86_64")]
    const AVX512: product::Kernel<Self> = product::x86::avx512_f64;
    #[cfg(target_arch = "x86_64")]
    const AVX2: product::Kernel<Self> = product::x86::avx2_f64;

    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    fn exp_negative(self) -> Self {
        self.exp()
    }

    fn error_function(self) -> Self {
        candle_core::cpu::erf::erf_f64(self)
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

/// Compiles the function `$body` for three instruction sets and calls the best one there is.
macro_rules! dispatched {
    ($(#[$meta:meta])* $name:ident => $body:ident ($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$meta])*
        pub fn $name<T: Float>($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512<T: Float>($($arg: $type),*) {
                    $body::<T, true>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2<T: Float>($($arg: $type),*) {
                    $body::<T, true>($($arg),*);
                }
                let wide = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw");
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the functions are safe Rust; the call needs the instructions, which were
                    // found just above.
                    #[allow(unsafe_code)]
                    unsafe {
                        if wide {
                            avx512::<T>($($arg),*);
                        } else {
                            avx2::<T>($($arg),*);
                        }
                    }
                    return;
                }
            }
            #[cfg(target_arch = "aarch64")]
            $body::<T, true>($($arg),*);
            #[cfg(not(target_arch = "aarch64"))]
            $body::<T, false>($($arg),*);
        }
    };
}

use dispatched;

/// a * b + c, in one rounding where the processor has an instruction for it.
#[inline(always)]
fn multiply_add<T: Float, const FUSED: bool>(a: T, b: T, c: T) -> T {
    if FUSED { a.fused(b, c) } else { a * b + c }
}

dispatched! {
    /// x <- x Φ(x), elementwise.
    gelu => gelu_body(x: &mut [T])
}

#[inline(always)]
fn gelu_body<T: Float, const FUSED: bool>(x: &mut [T]) {
    let (half, root) = (T::of(0.5), T::of(std::f64::consts::FRAC_1_SQRT_2));
    for x in x {
        *x = half * *x * (T::ONE + (*x * root).error_function());
    }
}

dispatched! {
    /// x <- max(x, 0)², elementwise.
    squared_relu => squared_relu_body(x: &mut [T])
}

#[inline(always)]
fn squared_relu_body<T: Float, const FUSED: bool>(x: &mut [T]) {
    for x in x {
        let on = if *x > T::ZERO { *x } else { T::ZERO };
        *x = on * on;
    }
}

dispatched! {
    /// `out` (R, H) <- the first half of each row of `x` (R, 2 H) times SiLU of the second.
    swiglu => swiglu_body(x: &[T], inner: usize, out: &mut [T])
}

#[inline(always)]
fn swiglu_body<T: Float, const FUSED: bool>(x: &[T], inner: usize, out: &mut [T]) {
    for (x, out) in x.chunks_exact(2 * inner).zip(out.chunks_exact_mut(inner)) {
        let (passing, gates) = x.split_at(inner);
        for ((out, &passing), &gate) in out.iter_mut().zip(passing).zip(gates) {
            *out = passing * gate * sigmoid(gate);
        }
    }
}

/// 1 / (1 + e⁻ˣ), from the exponential that can't overflow.
#[inline(always)]
fn sigmoid<T: Float>(x: T) -> T {
    let positive = x > T::ZERO;
    let small = (if positive { -x } else { x }).exp_negative();
    let large = T::ONE / (T::ONE + small);
    if positive { large } else { small * large }
}

dispatched! {
    /// x <- SiLU(x) + y, elementwise.
    silu_plus => silu_plus_body(x: &mut [T], y: &[T])
}

#[inline(always)]
fn silu_plus_body<T: Float, const FUSED: bool>(x: &mut [T], y: &[T]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x = *x * sigmoid(*x) + y;
    }
}

dispatched! {
    /// `y` (R, C) <- `x` (R, C) normalised row by row, times `weight` (C) plus `bias` (C).
    layer_norm => layer_norm_body(x: &[T], weight: &[T], bias: &[T], epsilon: f64, y: &mut [T])
}

#[inline(always)]
fn layer_norm_body<T: Float, const FUSED: bool>(
    x: &[T],
    weight: &[T],
    bias: &[T],
    epsilon: f64,
    y: &mut [T],
) {
    let width = weight.len();
    let count = T::ONE / T::of(width as f64);
    let epsilon = T::of(epsilon);
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mut sums = [T::ZERO; LANES];
        for group in x.chunks(LANES) {
            for (sum, &x) in sums.iter_mut().zip(group) {
                *sum += x;
            }
        }
        let mean = fold(sums) * count;
        let mut sums = [T::ZERO; LANES];
        for group in x.chunks(LANES) {
            for (sum, &x) in sums.iter_mut().zip(group) {
                *sum = multiply_add::<T, FUSED>(x - mean, x - mean, *sum);
            }
        }
        let factor = T::ONE / (fold(sums) * count + epsilon).sqrt();
        for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * factor * weight + bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_and_error_function_agree_with_double_precision() {
        for step in 0..=100_000 {
            let x = -f64::from(step) / 1e3;
            let expected = x.exp();
            // Four units in the last place; below e^-87 the smallest normal numbers stand in for 0.
            let error = (f64::from((x as f32).exp_negative()) - f64::from(x as f32).exp()).abs();
            assert!(error <= 5e-7 * expected + 2e-38, "exp {x}: {error}");
            let x = (x as f32 + 50.0) / 10.0;
            let error = (f64::from(x.error_function()) - f64::from(x).error_function()).abs();
            assert!(error < 5e-7, "erf {x}: {error}");
        }
    }
}
