//! Standard normals in f32 from random words, many at a time.
//!
//! Box & Muller (1958): a pair of normals is √(-2 ln u) (cos φ, sin φ) of a uniform u and an angle φ. Logarithm, sine and cosine are the
//! polynomials of Cephes (S. L. Moshier, release 2.2, `logf.c` and `sinf.c`) on their reduced ranges, without branches, so that the
//! compiler makes vector instructions of them. There is nothing in them but sums, products and roots, each rounded once, and no
//! fused multiply-add: every processor makes the same bits.
//!
//! u has 31 random bits and is (k + 1/2) / 2³¹, the angle has 32. Up to ±6 the shares beyond a limit are right to 0.2 % (2 % too small beyond
//! ±6.3); no normal is beyond ±6.66, where 2.7e-11 of them should be.

use super::dispatch::vectorized;

/// Words that become as many normals together: the first half gives the radii, the second half the angles.
pub(crate) const BLOCK: usize = 64;
/// Pairs of normals in a block.
const PAIRS: usize = BLOCK / 2;

vectorized! {
    /// normals <- standard normals made of as many uniform random words, a multiple of [`BLOCK`].
    pub(crate) fn fill(words: &[u32], normals: &mut [f32]) {
        for (words, normals) in words.chunks_exact(BLOCK).zip(normals.chunks_exact_mut(BLOCK)) {
            let (radii, angles) = words.split_at(PAIRS);
            let (first, second) = normals.split_at_mut(PAIRS);
            for ((&radius, &angle), (x, y)) in radii.iter().zip(angles).zip(first.iter_mut().zip(second)) {
                let (cos, sin) = direction(angle);
                let radius = length(radius);
                (*x, *y) = (radius * cos, radius * sin);
            }
        }
    }
}

/// √(-2 ln u) for u = (k + 1/2) / 2³¹, k the upper 31 bits of the word: to 3e-7 relative, but for the rounding of k + 1/2 to an f32.
#[inline(always)]
fn length(word: u32) -> f32 {
    let k = (word >> 1) as i32 as f32 + 0.5;
    // k + 1/2 = 2^exponent (1 + f) with √½ <= 1 + f < √2.
    let bits = k.to_bits() as i32;
    let exponent = bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32) >> 23;
    let f = f32::from_bits(bits.wrapping_sub(exponent << 23) as u32) - 1.0;
    let mut p = 7.037_683_6e-2_f32;
    for c in [
        -1.151_461e-1,
        1.167_699_87e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = p * f + c;
    }
    let square = f * f;
    // ln (1 + f), then -2 ln u.
    let logarithm = f + (square * f * p - 0.5 * square);
    (31_i32.wrapping_sub(exponent) as f32 * (2.0 * std::f32::consts::LN_2) - 2.0 * logarithm).sqrt()
}

/// (cos φ, sin φ) of an angle φ that is uniform on the circle if the word is: to 2e-7. Its two highest bits choose a
/// quarter of the circle, the others the place in it.
#[inline(always)]
fn direction(word: u32) -> (f32, f32) {
    const SCALE: f32 = std::f32::consts::FRAC_PI_4 / 2_147_483_648.0;
    let angle = (word << 2) as i32 as f32 * SCALE;
    let z = angle * angle;
    let p = (-1.951_529_6e-4_f32 * z + 8.332_161e-3) * z - 1.666_665_5e-1;
    let sin = angle + angle * z * p;
    let p = (2.443_315_7e-5_f32 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2;
    let cos = 1.0 - 0.5 * z + z * z * p;
    let (x, y) = if word >> 31 == 1 {
        (sin, cos)
    } else {
        (cos, sin)
    };
    // The opposite direction, if the second highest bit is set.
    let sign = (word << 1) & 0x8000_0000;
    (
        f32::from_bits(x.to_bits() ^ sign),
        f32::from_bits(y.to_bits() ^ sign),
    )
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result};

    use super::super::real::Real;
    use super::*;
    use crate::rng::Rng;

    fn draws(rng: &mut Rng, count: usize) -> Result<Vec<f32>> {
        rng.normal_tensor(count, DType::F32, &Device::Cpu)?
            .to_vec1()
    }

    /// The standard normal's distribution function.
    fn below(x: f64) -> f64 {
        x.normal().0
    }

    #[test]
    fn lengths_and_directions_keep_their_stated_accuracy() {
        let turn =
            |word: u32| f64::from((word << 2) as i32) * std::f64::consts::FRAC_PI_4 / 2f64.powi(31);
        // Steps of 1021 pass 4.2 million words, and every remainder of a power of two.
        let words = (0..=u32::MAX)
            .step_by(1021)
            .chain(0..4096)
            .chain(u32::MAX - 4096..=u32::MAX);
        for word in words {
            let u = f64::from(((word >> 1) as f32) + 0.5) / 2f64.powi(31);
            let (found, exact) = (f64::from(length(word)), (-2.0 * u.ln()).sqrt());
            assert!(
                (found - exact).abs() <= 3e-7 * exact,
                "length {found} of {word}, not {exact}"
            );
            let (cos, sin) = (turn(word).cos(), turn(word).sin());
            let (cos, sin) = match word >> 30 {
                0 => (cos, sin),
                1 => (-cos, -sin),
                2 => (sin, cos),
                _ => (-sin, -cos),
            };
            let (x, y) = direction(word);
            let error = (f64::from(x) - cos).abs().max((f64::from(y) - sin).abs());
            assert!(
                error < 2e-7,
                "direction ({x}, {y}) of {word}, not ({cos}, {sin})"
            );
        }
    }

    #[test]
    fn every_instruction_set_makes_the_same_bits() -> Result<()> {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2(word: u32, other: u32) -> (f32, (f32, f32)) {
            (length(word), direction(other))
        }
        let mut rng = Rng::from_seed(4);
        let words: Vec<u32> = (0..64 * BLOCK).map(|_| rng.bits() as u32).collect();
        let mut found = vec![0f32; words.len()];
        fill(&words, &mut found);
        for (words, found) in words.chunks(BLOCK).zip(found.chunks(BLOCK)) {
            for i in 0..PAIRS {
                let pair = (found[i].to_bits(), found[PAIRS + i].to_bits());
                let product = |(length, (x, y)): (f32, (f32, f32))| {
                    ((length * x).to_bits(), (length * y).to_bits())
                };
                let (word, other) = (words[i], words[PAIRS + i]);
                assert_eq!(
                    pair,
                    product((length(word), direction(other))),
                    "{word} {other}"
                );
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has the features, as just found out.
                    #[allow(unsafe_code)]
                    let alone = unsafe { avx2(word, other) };
                    assert_eq!(pair, product(alone), "{word} {other}");
                }
            }
        }
        // Those of every other processor, too: FNV-1a of a hundred thousand.
        let hash = draws(&mut Rng::from_seed(5), 100_000)?
            .iter()
            .flat_map(|x| x.to_bits().to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        assert_eq!(hash, 0x37a2_8441_5a74_902e);
        Ok(())
    }

    /// Normals of the first halves of blocks, and of the second: their mixture can be right where they are not.
    fn halves(rng: &mut Rng, count: usize) -> Result<[Vec<f32>; 2]> {
        let all = draws(rng, 2 * count)?;
        Ok([0, PAIRS].map(|from| {
            let blocks = all.chunks(BLOCK);
            blocks
                .flat_map(|block| &block[from..from + PAIRS])
                .copied()
                .collect()
        }))
    }

    #[test]
    fn moments_are_those_of_the_standard_normal() -> Result<()> {
        let count = 1 << 23;
        for found in halves(&mut Rng::from_seed(11), count)? {
            // x^n has the moment of 2 n as its mean square.
            for (power, moment, mean_square) in [
                (1, 0.0, 1.0),
                (2, 1.0, 3.0),
                (3, 0.0, 15.0),
                (4, 3.0, 105.0),
            ] {
                let mean =
                    found.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / count as f64;
                let error = ((mean_square - moment * moment) / count as f64).sqrt();
                assert!(
                    (mean - moment).abs() < 4.0 * error,
                    "moment {power}: {mean}, standard error {error}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn the_distribution_is_that_of_the_standard_normal() -> Result<()> {
        let count = 1 << 21;
        for mut found in halves(&mut Rng::from_seed(12), count)? {
            // Chi-squared over 200 cells of 0.04 and the two beyond ±4.
            let mut cells = [0u32; 202];
            for x in &found {
                cells[((f64::from(*x) + 4.04) * 25.0).clamp(0.0, 201.0) as usize] += 1;
            }
            let edge = |i: usize| match i {
                0 => 0.0,
                202 => 1.0,
                i => below(-4.04 + i as f64 / 25.0),
            };
            let squares = cells.iter().enumerate().map(|(i, &found)| {
                let expected = count as f64 * (edge(i + 1) - edge(i));
                (f64::from(found) - expected).powi(2) / expected
            });
            let chi_squared = squares.sum::<f64>();
            // 201 degrees of freedom: four standard deviations of √402.
            assert!((chi_squared - 201.0).abs() < 80.0, "{chi_squared}");
            // Kolmogorov and Smirnov: larger in one of a thousand samples.
            found.sort_by(f32::total_cmp);
            let distances = found.iter().enumerate().map(|(i, &x)| {
                let (p, n) = (below(f64::from(x)), count as f64);
                (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs())
            });
            let largest = distances.fold(0.0, f64::max) * (count as f64).sqrt();
            assert!(largest < 1.95, "{largest}");
        }
        Ok(())
    }

    #[test]
    fn tails_are_those_of_the_standard_normal() -> Result<()> {
        let (calls, count) = (100, 1_000_000);
        let limits = [3f32, 4.0, 5.0];
        let (mut above, mut under, mut largest) = ([0u32; 3], [0u32; 3], 0f32);
        let mut rng = Rng::from_seed(13);
        for _ in 0..calls {
            for x in draws(&mut rng, count)? {
                for (i, limit) in limits.into_iter().enumerate() {
                    above[i] += u32::from(x > limit);
                    under[i] += u32::from(x < -limit);
                }
                largest = largest.max(x.abs());
            }
        }
        for (i, limit) in limits.into_iter().enumerate() {
            let expected = f64::from(calls) * count as f64 * below(-f64::from(limit));
            for found in [above[i], under[i]] {
                let error = (f64::from(found) - expected).abs();
                assert!(
                    error < 4.0 * expected.sqrt(),
                    "{found} beyond {limit}, not {expected}"
                );
            }
        }
        assert!(largest > 5.3 && largest < 6.7, "{largest}");
        Ok(())
    }

    /// The share beyond a limit that all lengths give together, over all directions: |r cos φ| > t with probability 2/π acos(t / r).
    #[test]
    fn far_tails_are_those_of_the_standard_normal_up_to_six() {
        for (limit, tolerance) in [(4.0, 1e-5), (5.0, 1e-4), (5.5, 1e-4), (6.0, 2e-3)] {
            let shares = (0u32..).map(|k| limit / f64::from(length(k << 1)));
            let shares = shares.take_while(|&ratio| ratio < 1.0);
            let found =
                shares.map(f64::acos).sum::<f64>() * std::f64::consts::FRAC_2_PI / 2f64.powi(31);
            let expected = 2.0 * below(-limit);
            let error = (found / expected - 1.0).abs();
            assert!(
                error < tolerance,
                "{found:e} beyond {limit}, not {expected:e}: {error:e}"
            );
        }
        assert!((length(0) - 6.66).abs() < 0.01, "{}", length(0));
    }

    #[test]
    fn draws_are_independent_of_those_before_them() -> Result<()> {
        let count = 1 << 20;
        let all = draws(&mut Rng::from_seed(14), count + 2 * BLOCK)?;
        let squares: Vec<f32> = all
            .iter()
            .map(|x| (x * x - 1.0) / std::f32::consts::SQRT_2)
            .collect();
        for lag in 1..=2 * BLOCK {
            for numbers in [&all, &squares] {
                let products = numbers.iter().zip(&numbers[lag..]).take(count);
                let mean = products.map(|(x, y)| f64::from(x * y)).sum::<f64>() / count as f64;
                assert!(
                    mean.abs() * (count as f64).sqrt() < 4.5,
                    "lag {lag}: {mean}"
                );
            }
        }
        // Both of a pair: 16 x 16 cells that are equally likely.
        let mut cells = [0u32; 256];
        let place = |x: f32| (below(f64::from(x)) * 16.0) as usize;
        let [first, second] = halves(&mut Rng::from_seed(15), count)?;
        for (&x, &y) in first.iter().zip(&second) {
            cells[16 * place(x) + place(y)] += 1;
        }
        let expected = count as f64 / 256.0;
        let squares = cells
            .iter()
            .map(|&found| (f64::from(found) - expected).powi(2) / expected);
        let chi_squared = squares.sum::<f64>();
        // 255 degrees of freedom: four standard deviations of √510.
        assert!((chi_squared - 255.0).abs() < 90.0, "{chi_squared}");
        Ok(())
    }
}
