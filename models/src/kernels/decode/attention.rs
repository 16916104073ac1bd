//! Attention of single queries over cached tokens that lie anywhere.

use super::{Float, LANES, dispatched, multiply_add};

/// Most attention heads.
const MAX_HEADS: usize = 16;

/// Keys and values of cached tokens: slot after slot, in each slot layer after layer, a row of keys
/// then a row of values.
#[derive(Debug, Clone, Copy)]
pub struct Slots<'a, T> {
    /// The numbers.
    pub data: &'a [T],
    /// Numbers from one slot to the next.
    pub stride: usize,
    /// Where this layer's keys begin in a slot; its values follow.
    pub layer_offset: usize,
}

/// Which tokens a query attends to: some old slots, in order, then consecutive new ones.
#[derive(Debug, Clone, Copy)]
pub struct Visible<'a> {
    /// Indices into the old slots.
    pub old: &'a [u32],
    /// Index of the first of the new slots.
    pub first_new: usize,
    /// How many new slots.
    pub new: usize,
}

impl<'a, T> Slots<'a, T> {
    #[inline(always)]
    fn keys(&self, slot: usize, width: usize) -> &'a [T] {
        &self.data[slot * self.stride + self.layer_offset..][..width]
    }

    #[inline(always)]
    fn values(&self, slot: usize, width: usize) -> &'a [T] {
        &self.data[slot * self.stride + self.layer_offset + width..][..width]
    }
}

/// Where the numbers of attention heads stand in a query, key or value row, so that [`attend`] works
/// on all heads in the lanes of one vector.
///
/// A row is a list of groups of 64 lanes. Lane `part * heads + h` belongs to head `h`, with `heads`
/// rounded up to a power of two and as many parts as fit. Places that no number takes are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    heads: usize,
    head_width: usize,
    /// Heads rounded up to a power of two: 1 to 16.
    lanes_per_part: usize,
}

impl HeadLayout {
    /// The layout of `heads` heads of `head_width` numbers; `None` for no heads or more than 16.
    pub fn new(heads: usize, head_width: usize) -> Option<Self> {
        let lanes_per_part = heads.next_power_of_two();
        let fits = heads > 0 && lanes_per_part <= MAX_HEADS;
        fits.then_some(Self {
            heads,
            head_width,
            lanes_per_part,
        })
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.head_width.div_ceil(LANES / self.lanes_per_part) * LANES
    }

    /// Where number `at` of a plain row (head after head) stands.
    pub fn place(&self, at: usize) -> usize {
        let (head, number) = (at / self.head_width, at % self.head_width);
        let parts = LANES / self.lanes_per_part;
        (number / parts) * LANES + (number % parts) * self.lanes_per_part + head
    }

    /// Numbers of a head.
    pub fn head_width(&self) -> usize {
        self.head_width
    }

    /// Heads rounded up to a power of two: numbers of one head stand so many lanes apart.
    pub(super) fn lanes_per_part(&self) -> usize {
        self.lanes_per_part
    }

    /// Numbers in a plain row.
    pub fn plain_width(&self) -> usize {
        self.heads * self.head_width
    }
}

dispatched! {
    /// Attention of one `query` over the `visible` tokens of `old` and `new`, rows as `layout` says:
    /// `output` <- softmax(query keysᵀ / √head_width) values. `scores` is scratch.
    attend => attend_body(
        query: &[T], old: Slots<'_, T>, new: Slots<'_, T>, visible: Visible<'_>,
        layout: HeadLayout, scores: &mut Vec<T>, output: &mut [T],
    )
}

#[inline(always)]
fn attend_body<T: Float, const FUSED: bool>(
    query: &[T],
    old: Slots<'_, T>,
    new: Slots<'_, T>,
    visible: Visible<'_>,
    layout: HeadLayout,
    scores: &mut Vec<T>,
    output: &mut [T],
) {
    let scale = T::ONE / T::of(layout.head_width as f64).sqrt();
    let tokens = Tokens { old, new, visible };
    match layout.lanes_per_part {
        1 => attend_heads::<T, FUSED, 1>(query, tokens, scale, scores, output),
        2 => attend_heads::<T, FUSED, 2>(query, tokens, scale, scores, output),
        4 => attend_heads::<T, FUSED, 4>(query, tokens, scale, scores, output),
        8 => attend_heads::<T, FUSED, 8>(query, tokens, scale, scores, output),
        _ => attend_heads::<T, FUSED, 16>(query, tokens, scale, scores, output),
    }
}

/// What a query looks at.
#[derive(Clone, Copy)]
pub struct Tokens<'a, T> {
    old: Slots<'a, T>,
    new: Slots<'a, T>,
    visible: Visible<'a>,
}

impl<'a, T> Tokens<'a, T> {
    /// The key rows, `width` numbers each.
    #[inline(always)]
    fn keys(self, width: usize) -> impl Iterator<Item = &'a [T]> {
        let Self { old, new, visible } = self;
        let last = visible.first_new + visible.new;
        let of_new = (visible.first_new..last).map(move |slot| new.keys(slot, width));
        let of_old = visible
            .old
            .iter()
            .map(move |&slot| old.keys(slot as usize, width));
        of_old.chain(of_new)
    }
}

// From here on functions, not closures: closures are compiled without the caller's instructions.

#[inline(always)]
fn attend_heads<T: Float, const FUSED: bool, const HEADS: usize>(
    query: &[T],
    tokens: Tokens<'_, T>,
    scale: T,
    scores: &mut Vec<T>,
    output: &mut [T],
) {
    let visible = tokens.visible;
    let (width, count) = (query.len(), visible.old.len() + visible.new);
    scores.resize(count * HEADS, T::ZERO);
    T::scores::<FUSED, HEADS>(query, tokens, scores);
    let sums = exponentials::<T, HEADS>(scores, scale);
    let factors: [T; LANES] = std::array::from_fn(|lane| T::ONE / sums[lane % HEADS]);
    // Two groups at a time stay in registers while all tokens pass by.
    const BLOCK: usize = 2 * LANES;
    let mut first = 0;
    while first + BLOCK <= width {
        let out = &mut output[first..first + BLOCK];
        mix::<T, FUSED, HEADS, 2>(tokens, scores, width, first, &factors, out);
        first += BLOCK;
    }
    while first < width {
        let out = &mut output[first..first + LANES];
        mix::<T, FUSED, HEADS, 1>(tokens, scores, width, first, &factors, out);
        first += LANES;
    }
}

/// Scores of all tokens for all heads.
#[inline(always)]
pub fn plain_scores<T: Float, const FUSED: bool, const HEADS: usize>(
    query: &[T],
    tokens: Tokens<'_, T>,
    scores: &mut [T],
) {
    for (keys, scores) in tokens.keys(query.len()).zip(scores.chunks_exact_mut(HEADS)) {
        let mut sums = [T::ZERO; LANES];
        for (query, keys) in query.chunks_exact(LANES).zip(keys.chunks_exact(LANES)) {
            for lane in 0..LANES {
                sums[lane] = multiply_add::<T, FUSED>(query[lane], keys[lane], sums[lane]);
            }
        }
        let sums = fold_parts::<T, HEADS>(sums, |a, b| a + b);
        scores.copy_from_slice(&sums[..HEADS]);
    }
}

/// [`plain_scores`] with sums that stay in registers, added in the same order: the compiler sends the
/// folding of [`plain_scores`] through memory, which takes three times as long.
///
/// # Safety
/// The processor must have AVX-512.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
pub unsafe fn avx512_scores<const HEADS: usize>(
    query: &[f32],
    tokens: Tokens<'_, f32>,
    scores: &mut [f32],
) {
    use std::arch::x86_64::*;

    const WIDTH: usize = 16;
    for (keys, scores) in tokens.keys(query.len()).zip(scores.chunks_exact_mut(HEADS)) {
        let mut sums = [_mm512_setzero_ps(); LANES / WIDTH];
        for (query, keys) in query.chunks_exact(LANES).zip(keys.chunks_exact(LANES)) {
            for (part, sum) in sums.iter_mut().enumerate() {
                // SAFETY: both have `LANES` numbers.
                let (query, keys) = unsafe {
                    let at = part * WIDTH;
                    (
                        _mm512_loadu_ps(query.as_ptr().add(at)),
                        _mm512_loadu_ps(keys.as_ptr().add(at)),
                    )
                };
                *sum = _mm512_fmadd_ps(query, keys, *sum);
            }
        }
        let [a, b, c, d] = sums;
        let mut sum = _mm512_add_ps(_mm512_add_ps(a, c), _mm512_add_ps(b, d));
        // Upper half on lower half, as often as there are parts.
        if HEADS <= 8 {
            sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4::<0b01_00_11_10>(sum, sum));
        }
        if HEADS <= 4 {
            sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4::<0b10_11_00_01>(sum, sum));
        }
        if HEADS <= 2 {
            sum = _mm512_add_ps(sum, _mm512_permute_ps::<0b01_00_11_10>(sum));
        }
        if HEADS <= 1 {
            sum = _mm512_add_ps(sum, _mm512_permute_ps::<0b10_11_00_01>(sum));
        }
        let heads = ((1u32 << HEADS) - 1) as __mmask16;
        // SAFETY: `scores` has `HEADS` numbers, and no more are stored.
        unsafe { _mm512_mask_storeu_ps(scores.as_mut_ptr(), heads, sum) };
    }
}

/// Combines the parts of every head, by halves; the results are the first `HEADS` lanes.
#[inline(always)]
fn fold_parts<T: Float, const HEADS: usize>(
    mut lanes: [T; LANES],
    combine: impl Fn(T, T) -> T,
) -> [T; LANES] {
    let mut half = LANES / 2;
    while half >= HEADS {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes
}

/// scores (count, HEADS) <- e^((score - the head's largest) * scale); returns their sums.
#[inline(always)]
fn exponentials<T: Float, const HEADS: usize>(scores: &mut [T], scale: T) -> [T; LANES] {
    let mut largest = [T::NEGATIVE_INFINITY; LANES];
    for group in scores.chunks(LANES) {
        for (largest, &score) in largest.iter_mut().zip(group) {
            *largest = largest.larger(score);
        }
    }
    let largest = fold_parts::<T, HEADS>(largest, |a, b| a.larger(b));
    let largest: [T; LANES] = std::array::from_fn(|lane| largest[lane % HEADS]);
    for group in scores.chunks_mut(LANES) {
        for (score, &largest) in group.iter_mut().zip(&largest) {
            *score = ((*score - largest) * scale).exp_negative();
        }
    }
    let mut sums = [T::ZERO; LANES];
    for group in scores.chunks(LANES) {
        for (sum, &score) in sums.iter_mut().zip(group) {
            *sum += score;
        }
    }
    fold_parts::<T, HEADS>(sums, |a, b| a + b)
}

/// Weighted sum of `GROUPS` groups of lanes of all tokens' values, from number `first` on.
#[inline(always)]
fn mix<T: Float, const FUSED: bool, const HEADS: usize, const GROUPS: usize>(
    tokens: Tokens<'_, T>,
    weights: &[T],
    width: usize,
    first: usize,
    factors: &[T; LANES],
    output: &mut [T],
) {
    let Tokens { old, new, visible } = tokens;
    let mut sums = [[T::ZERO; LANES]; GROUPS];
    let (old_weights, new_weights) = weights.split_at(visible.old.len() * HEADS);
    for (&slot, weights) in visible.old.iter().zip(old_weights.chunks_exact(HEADS)) {
        let values = &old.values(slot as usize, width)[first..first + GROUPS * LANES];
        mix_token::<T, FUSED, HEADS, GROUPS>(values, weights, &mut sums);
    }
    for (slot, weights) in (visible.first_new..).zip(new_weights.chunks_exact(HEADS)) {
        let values = &new.values(slot, width)[first..first + GROUPS * LANES];
        mix_token::<T, FUSED, HEADS, GROUPS>(values, weights, &mut sums);
    }
    for (output, sums) in output.chunks_exact_mut(LANES).zip(&sums) {
        for lane in 0..LANES {
            output[lane] = sums[lane] * factors[lane];
        }
    }
}

#[inline(always)]
fn mix_token<T: Float, const FUSED: bool, const HEADS: usize, const GROUPS: usize>(
    values: &[T],
    weights: &[T],
    sums: &mut [[T; LANES]; GROUPS],
) {
    let mut lanes = [T::ZERO; LANES];
    for part in lanes.chunks_exact_mut(HEADS) {
        part.copy_from_slice(weights);
    }
    for (sums, values) in sums.iter_mut().zip(values.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] = multiply_add::<T, FUSED>(lanes[lane], values[lane], sums[lane]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn random(rng: &mut Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.normal() as f32).collect()
    }

    #[test]
    fn attention_agrees_with_plain_sums_for_any_number_of_heads() {
        let mut rng = Rng::from_seed(1);
        for (heads, head_width) in [(1, 5), (2, 16), (3, 7), (4, 32), (5, 2), (16, 8)] {
            let layout = HeadLayout::new(heads, head_width).expect("at most 16 heads");
            let (width, row) = (heads * head_width, layout.width());
            let (slots, stride) = (12, 2 * row + 3);
            let plain: Vec<Vec<f32>> = (0..=2 * slots).map(|_| random(&mut rng, width)).collect();
            let place = |plain: &[f32], to: &mut [f32]| {
                plain
                    .iter()
                    .enumerate()
                    .for_each(|(at, &x)| to[layout.place(at)] = x);
            };
            let mut data = vec![0.0f32; slots * stride];
            for slot in 0..slots {
                place(&plain[2 * slot], &mut data[slot * stride + 1..]);
                place(&plain[2 * slot + 1], &mut data[slot * stride + 1 + row..]);
            }
            let mut query = vec![0.0f32; row];
            place(&plain[2 * slots], &mut query);
            let slots = Slots {
                data: &data,
                stride,
                layer_offset: 1,
            };
            let visible = Visible {
                old: &[3, 0, 8, 3, 5],
                first_new: 9,
                new: 2,
            };
            let mut found = vec![0.0f32; row];
            attend(
                &query,
                slots,
                slots,
                visible,
                layout,
                &mut Vec::new(),
                &mut found,
            );
            for at in 0..width {
                let first = at / head_width * head_width;
                let scores: Vec<f64> = [3usize, 0, 8, 3, 5, 9, 10]
                    .iter()
                    .map(|&slot| {
                        let pairs = plain[2 * slot][first..first + head_width]
                            .iter()
                            .zip(&plain[plain.len() - 1][first..]);
                        let sum: f64 = pairs.map(|(&k, &q)| f64::from(k) * f64::from(q)).sum();
                        (sum / (head_width as f64).sqrt()).exp()
                    })
                    .collect();
                let values = [3usize, 0, 8, 3, 5, 9, 10].map(|s| f64::from(plain[2 * s + 1][at]));
                let total: f64 = scores.iter().sum();
                let expected: f64 = scores.iter().zip(values).map(|(s, v)| s / total * v).sum();
                let error = (f64::from(found[layout.place(at)]) - expected).abs();
                // Rounding of sums of a few numbers of about 1, through an exponential.
                assert!(error < 1e-5, "{heads} heads, number {at}: {error}");
            }
        }
        assert!(HeadLayout::new(17, 4).is_none() && HeadLayout::new(0, 4).is_none());
    }
}
