//! Inner loops of cached decoding: products with packed weights, attention over scattered slots,
//! layer norm and GELU, compiled for AVX-512, AVX2 and the baseline, chosen at run time.
//!
//! Every result of a row depends on that row alone, bit for bit: sums run in an order that neither
//! the number of rows nor of threads changes. That is why `gemm`, which switches algorithms with the
//! shape, is not used here.

use super::real::Real;

/// Columns of a panel of packed weights.
const PANEL: usize = 32;
/// Lanes of a split sum: several vectors, since loops over a single one are taken apart into scalars
/// before the compiler looks for vectors.
const LANES: usize = 64;
/// Most attention heads.
const MAX_HEADS: usize = 16;

/// What the inner loops need of f32 and f64 beside [`Real`].
pub trait Float: Real + Default {
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
                    // The functions are safe Rust; the call needs the instructions, which were
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

/// a * b + c, in one rounding where the processor has an instruction for it.
#[inline(always)]
fn multiply_add<T: Float, const FUSED: bool>(a: T, b: T, c: T) -> T {
    if FUSED { a.fused(b, c) } else { a * b + c }
}

/// Weights (O, I) and biases (O) of a linear layer, laid out for [`Packed::forward`].
#[derive(Debug, Clone)]
pub struct Packed<T> {
    inputs: usize,
    outputs: usize,
    /// Panels of [`PANEL`] outputs, each (I, PANEL); the last one is filled up with zeros.
    panels: Vec<T>,
    /// As many as the panels have columns.
    bias: Vec<T>,
}

/// What happens to a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// It replaces what was there.
    Replace,
    /// It is added to what was there.
    Add,
}

impl<T: Float> Packed<T> {
    /// Packs `weight`, row-major (O, I), with `bias` (O) or zeros.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(weight: &[T], bias: Option<&[T]>, inputs: usize) -> Self {
        let outputs = weight.len() / inputs;
        assert_eq!(
            weight.len(),
            outputs * inputs,
            "weights of {outputs} x {inputs}"
        );
        let columns = outputs.next_multiple_of(PANEL);
        let mut panels = vec![T::ZERO; columns * inputs];
        for output in 0..outputs {
            let (panel, column) = (output / PANEL, output % PANEL);
            for input in 0..inputs {
                panels[(panel * inputs + input) * PANEL + column] = weight[output * inputs + input];
            }
        }
        let mut padded = vec![T::ZERO; columns];
        if let Some(bias) = bias {
            padded[..outputs].copy_from_slice(bias);
        }
        Self {
            inputs,
            outputs,
            panels,
            bias: padded,
        }
    }

    /// O, the numbers in a row of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `y` (R, O) <- or += `x` (R, I) times the transposed weights, plus the biases.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn forward(&self, x: &[T], y: &mut [T], store: Store) {
        let rows = x.len() / self.inputs;
        assert_eq!(x.len(), rows * self.inputs, "rows of {}", self.inputs);
        assert_eq!(
            y.len(),
            rows * self.outputs,
            "{rows} rows of {}",
            self.outputs
        );
        product(self, x, y, store);
    }
}

dispatched! {
    /// [`Packed::forward`] without its checks.
    product => product_body(packed: &Packed<T>, x: &[T], y: &mut [T], store: Store)
}

#[inline(always)]
fn product_body<T: Float, const FUSED: bool>(
    packed: &Packed<T>,
    x: &[T],
    y: &mut [T],
    store: Store,
) {
    let rows = x.len() / packed.inputs;
    let panels = packed.panels.chunks_exact(PANEL * packed.inputs);
    for (index, panel) in panels.enumerate() {
        let mut row = 0;
        while row + 8 <= rows {
            tile::<T, FUSED, 8>(packed, panel, index * PANEL, x, row, y, store);
            row += 8;
        }
        if row + 4 <= rows {
            tile::<T, FUSED, 4>(packed, panel, index * PANEL, x, row, y, store);
            row += 4;
        }
        while row < rows {
            tile::<T, FUSED, 1>(packed, panel, index * PANEL, x, row, y, store);
            row += 1;
        }
    }
}

/// `TILE` rows of the result in one panel of columns.
#[inline(always)]
fn tile<T: Float, const FUSED: bool, const TILE: usize>(
    packed: &Packed<T>,
    panel: &[T],
    first_column: usize,
    x: &[T],
    first_row: usize,
    y: &mut [T],
    store: Store,
) {
    let (inputs, outputs) = (packed.inputs, packed.outputs);
    let x: [&[T]; TILE] = std::array::from_fn(|r| &x[(first_row + r) * inputs..][..inputs]);
    let mut sums = [[T::ZERO; PANEL]; TILE];
    for (k, weights) in panel.chunks_exact(PANEL).enumerate() {
        for r in 0..TILE {
            let value = x[r][k];
            for c in 0..PANEL {
                sums[r][c] = multiply_add::<T, FUSED>(value, weights[c], sums[r][c]);
            }
        }
    }
    let width = PANEL.min(outputs - first_column);
    let bias = &packed.bias[first_column..first_column + width];
    for (r, sums) in sums.iter().enumerate() {
        let y = &mut y[(first_row + r) * outputs + first_column..][..width];
        for ((y, &sum), &bias) in y.iter_mut().zip(sums).zip(bias) {
            *y = match store {
                Store::Replace => sum + bias,
                Store::Add => *y + (sum + bias),
            };
        }
    }
}

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
struct Tokens<'a, T> {
    old: Slots<'a, T>,
    new: Slots<'a, T>,
    visible: Visible<'a>,
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
    let Tokens { old, new, visible } = tokens;
    let (width, count) = (query.len(), visible.old.len() + visible.new);
    scores.resize(count * HEADS, T::ZERO);
    let (old_scores, new_scores) = scores.split_at_mut(visible.old.len() * HEADS);
    for (&slot, scores) in visible.old.iter().zip(old_scores.chunks_exact_mut(HEADS)) {
        score::<T, FUSED, HEADS>(query, old.keys(slot as usize, width), scores);
    }
    for (slot, scores) in (visible.first_new..).zip(new_scores.chunks_exact_mut(HEADS)) {
        score::<T, FUSED, HEADS>(query, new.keys(slot, width), scores);
    }
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

/// Scores of one token for all heads.
#[inline(always)]
fn score<T: Float, const FUSED: bool, const HEADS: usize>(
    query: &[T],
    keys: &[T],
    scores: &mut [T],
) {
    let mut sums = [T::ZERO; LANES];
    for (query, keys) in query.chunks_exact(LANES).zip(keys.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] = multiply_add::<T, FUSED>(query[lane], keys[lane], sums[lane]);
        }
    }
    let sums = fold_parts::<T, HEADS>(sums, |a, b| a + b);
    scores.copy_from_slice(&sums[..HEADS]);
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

/// Sum of the lanes, by halves.
#[inline(always)]
fn fold<T: Float>(mut sums: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
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
    use crate::rng::Rng;

    fn random(rng: &mut Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.normal() as f32).collect()
    }

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

    #[test]
    fn a_product_agrees_with_plain_sums_and_a_row_does_not_see_the_others() {
        let mut rng = Rng::from_seed(0);
        for (rows, inputs, outputs) in [(1, 3, 5), (7, 40, 33), (21, 64, 101)] {
            let (x, weight) = (
                random(&mut rng, rows * inputs),
                random(&mut rng, outputs * inputs),
            );
            let bias = random(&mut rng, outputs);
            let packed = Packed::new(&weight, Some(&bias), inputs);
            let mut y = vec![2.0; rows * outputs];
            packed.forward(&x, &mut y, Store::Add);
            for (at, y) in y.iter().enumerate() {
                let (row, output) = (&x[at / outputs * inputs..][..inputs], at % outputs);
                let weights = &weight[output * inputs..][..inputs];
                let sum: f32 = row.iter().zip(weights).map(|(x, w)| x * w).sum();
                // Rounding of at most 64 products of about 1.
                assert!((y - (sum + bias[output] + 2.0)).abs() < 1e-4, "{rows} {at}");
            }
            let mut alone = vec![2.0; outputs];
            packed.forward(&x[(rows - 1) * inputs..], &mut alone, Store::Add);
            assert_eq!(alone, y[(rows - 1) * outputs..]);
        }
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
