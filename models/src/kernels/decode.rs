//! Inner loops of cached decoding: products with packed weights, attention over scattered slots,
//! layer norm and GELU, compiled for AVX-512, AVX2 and the baseline, chosen at run time.
//!
//! Every result of a row depends on that row alone, bit for bit: sums run in an order that neither
//! the number of rows nor of threads changes. That is why `gemm`, which switches algorithms with the
//! shape, is not used here.

use super::real::Real;

/// Columns of a panel of packed weights.
const PANEL: usize = 32;
/// Lanes of a split sum.
const LANES: usize = 16;

/// What the inner loops need of f32 and f64 beside [`Real`].
pub trait Float: Real {
    /// self * b + c in one rounding.
    fn fused(self, b: Self, c: Self) -> Self;
    /// e^self for self <= 0.
    fn exp_negative(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
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
        let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
        let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let p = 1.987_569_1e-4f32;
        let p = p * r + 1.398_2e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 5.0e-1;
        let y = p * r * r + r + 1.0;
        y * f32::from_bits((((n as i32) + 127) << 23) as u32)
    }

    /// Rational approximation on [-4, 4], as Eigen's and XLA's; error below 5e-7.
    #[inline(always)]
    fn erf(self) -> Self {
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

    fn erf(self) -> Self {
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
        assert_eq!(weight.len(), outputs * inputs, "weights of {outputs} x {inputs}");
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
        Self { inputs, outputs, panels, bias: padded }
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
        assert_eq!(y.len(), rows * self.outputs, "{rows} rows of {}", self.outputs);
        product(self, x, y, store);
    }
}

dispatched! {
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

/// Keys and values of cached tokens: slot after slot, in each slot layer after layer, keys (C) then
/// values (C).
#[derive(Debug, Clone, Copy)]
pub struct Slots<'a, T> {
    /// The numbers.
    pub data: &'a [T],
    /// Numbers from one slot to the next.
    pub stride: usize,
    /// Where this layer's keys begin in a slot; its values follow after C numbers.
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

dispatched! {
    /// Attention of one `query` (C) over the `visible` tokens of `old` and `new`, `heads` heads:
    /// `output` (C) <- softmax(query keysᵀ / √(C / heads)) values. `scores` is scratch.
    attend => attend_body(
        query: &[T], old: Slots<'_, T>, new: Slots<'_, T>, visible: Visible<'_>, heads: usize,
        scores: &mut Vec<T>, output: &mut [T],
    )
}

#[inline(always)]
fn attend_body<T: Float, const FUSED: bool>(
    query: &[T],
    old: Slots<'_, T>,
    new: Slots<'_, T>,
    visible: Visible<'_>,
    heads: usize,
    scores: &mut Vec<T>,
    output: &mut [T],
) {
    let (width, count) = (query.len(), visible.old.len() + visible.new);
    let head = width / heads;
    let scale = T::ONE / T::of(head as f64).sqrt();
    scores.clear();
    scores.resize(count * heads, T::ZERO);
    let mut score = |at: usize, keys: &[T]| {
        for h in 0..heads {
            let (q, k) = (&query[h * head..][..head], &keys[h * head..][..head]);
            scores[h * count + at] = dot::<T, FUSED>(q, k) * scale;
        }
    };
    for (at, &slot) in visible.old.iter().enumerate() {
        score(at, old.keys(slot as usize, width));
    }
    for at in 0..visible.new {
        score(visible.old.len() + at, new.keys(visible.first_new + at, width));
    }
    for scores in scores.chunks_exact_mut(count) {
        softmax::<T>(scores);
    }
    output.fill(T::ZERO);
    let mut add = |at: usize, values: &[T]| {
        for h in 0..heads {
            let weight = scores[h * count + at];
            let (o, v) = (&mut output[h * head..][..head], &values[h * head..][..head]);
            for (o, &v) in o.iter_mut().zip(v) {
                *o = multiply_add::<T, FUSED>(weight, v, *o);
            }
        }
    };
    for (at, &slot) in visible.old.iter().enumerate() {
        add(at, old.values(slot as usize, width));
    }
    for at in 0..visible.new {
        add(visible.old.len() + at, new.values(visible.first_new + at, width));
    }
}

#[inline(always)]
fn dot<T: Float, const FUSED: bool>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::ZERO; LANES];
    let (a_groups, b_groups) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_groups.remainder(), b_groups.remainder());
    for (a, b) in a_groups.zip(b_groups) {
        for i in 0..LANES {
            sums[i] = multiply_add::<T, FUSED>(a[i], b[i], sums[i]);
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum = multiply_add::<T, FUSED>(a, b, *sum);
    }
    fold(sums)
}

/// Sum of the lanes, by halves.
#[inline(always)]
fn fold<T: Float>(mut sums: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] = sums[i] + sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

#[inline(always)]
fn softmax<T: Float>(scores: &mut [T]) {
    let maximum = scores.iter().fold(T::NEGATIVE_INFINITY, |a, &b| a.larger(b));
    for score in scores.iter_mut() {
        *score = (*score - maximum).exp_negative();
    }
    let mut sums = [T::ZERO; LANES];
    for group in scores.chunks(LANES) {
        for (sum, &score) in sums.iter_mut().zip(group) {
            *sum = *sum + score;
        }
    }
    let factor = T::ONE / fold(sums);
    for score in scores.iter_mut() {
        *score = *score * factor;
    }
}

dispatched! {
    /// x <- x Φ(x), elementwise.
    gelu => gelu_body(x: &mut [T])
}

#[inline(always)]
fn gelu_body<T: Float, const FUSED: bool>(x: &mut [T]) {
    let (half, root) = (T::of(0.5), T::of(std::f64::consts::FRAC_1_SQRT_2));
    for x in x {
        *x = half * *x * (T::ONE + (*x * root).erf());
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
                *sum = *sum + x;
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
