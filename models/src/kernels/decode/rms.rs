//! Root-mean-square norms: of whole rows, and of the heads of one row in the layout of attention.

use super::attention::HeadLayout;
use super::{Float, LANES, dispatched, multiply_add};
use crate::kernels::rows::fold;

dispatched! {
    /// `y` (R, C) <- `x` (R, C) over the roots of its rows' mean squares, times `weight` (C).
    rms_norm => rms_norm_body(x: &[T], weight: &[T], epsilon: f64, y: &mut [T])
}

#[inline(always)]
fn rms_norm_body<T: Float, const FUSED: bool>(x: &[T], weight: &[T], epsilon: f64, y: &mut [T]) {
    let width = weight.len();
    let count = T::ONE / T::of(width as f64);
    let epsilon = T::of(epsilon);
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mut sums = [T::ZERO; LANES];
        for group in x.chunks(LANES) {
            for (sum, &x) in sums.iter_mut().zip(group) {
                *sum = multiply_add::<T, FUSED>(x, x, *sum);
            }
        }
        let factor = T::ONE / (fold(sums) * count + epsilon).sqrt();
        for ((y, &x), &weight) in y.iter_mut().zip(x).zip(weight) {
            *y = x * factor * weight;
        }
    }
}

dispatched! {
    /// Every head of `row`, laid out as `layout` says, <- itself over the root of its mean square.
    normalize_heads => normalize_heads_body(row: &mut [T], layout: HeadLayout, epsilon: f64)
}

#[inline(always)]
fn normalize_heads_body<T: Float, const FUSED: bool>(
    row: &mut [T],
    layout: HeadLayout,
    epsilon: f64,
) {
    let mut sums = [T::ZERO; LANES];
    for group in row.chunks_exact(LANES) {
        for (sum, &x) in sums.iter_mut().zip(group) {
            *sum = multiply_add::<T, FUSED>(x, x, *sum);
        }
    }
    // Lanes of the same head are this many apart; places that no number takes are zero.
    let heads = layout.lanes_per_part();
    let mut half = LANES / 2;
    while half >= heads {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    let count = T::ONE / T::of(layout.head_width() as f64);
    let epsilon = T::of(epsilon);
    let mut factors = [T::ZERO; LANES];
    for lane in 0..LANES {
        factors[lane] = T::ONE / (sums[lane % heads] * count + epsilon).sqrt();
    }
    for group in row.chunks_exact_mut(LANES) {
        for (x, &factor) in group.iter_mut().zip(&factors) {
            *x *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn heads_are_normalised_each_for_itself() {
        let mut rng = Rng::from_seed(3);
        for (heads, head_width) in [(1, 5), (2, 16), (3, 7), (4, 32), (5, 2), (16, 8)] {
            let layout = HeadLayout::new(heads, head_width).expect("at most 16 heads");
            let plain: Vec<f64> = (0..heads * head_width).map(|_| rng.normal()).collect();
            let mut row = vec![0.0f64; layout.width()];
            for (at, &x) in plain.iter().enumerate() {
                row[layout.place(at)] = x;
            }
            normalize_heads(&mut row, layout, 1e-3);
            for (head, numbers) in plain.chunks(head_width).enumerate() {
                let square: f64 = numbers.iter().map(|x| x * x).sum();
                let factor = 1.0 / (square / head_width as f64 + 1e-3).sqrt();
                for (i, x) in numbers.iter().enumerate() {
                    let found = row[layout.place(head * head_width + i)];
                    assert!((found - x * factor).abs() < 1e-14, "{heads} heads: {found}");
                }
            }
            let kept = row.iter().filter(|x| **x != 0.0).count();
            assert_eq!(kept, plain.len());
        }
    }
}
