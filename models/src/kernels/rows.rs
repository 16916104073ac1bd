//! Row-wise functions on slices: layer normalisation, biases, activations, dropout, softmax.

use super::dispatch::vectorized;
use super::real::Real;
use crate::activation::{Activation, TANH_CUBIC, TANH_SCALE};
use crate::dropout::DropoutMask;

/// Partial sums that are taken side by side: four vectors, so that one addition need not wait for
/// the last.
const LANES: usize = 64;

/// The sum of all lanes, a power of two of them, by halves.
#[inline(always)]
pub(super) fn fold<T: Real, const N: usize>(mut sums: [T; N]) -> T {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Sum of products over all elements, in a fixed order.
#[inline(always)]
pub(super) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::ZERO; LANES];
    let (a_groups, b_groups) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_groups.remainder(), b_groups.remainder());
    for (a, b) in a_groups.zip(b_groups) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = a.mul_add(*b, *sum);
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum = a.mul_add(*b, *sum);
    }
    fold(sums)
}

#[inline(always)]
fn sum<T: Real>(a: &[T]) -> T {
    let mut sums = [T::ZERO; LANES];
    let groups = a.chunks_exact(LANES);
    let rest = groups.remainder();
    for group in groups {
        for (sum, a) in sums.iter_mut().zip(group) {
            *sum += *a;
        }
    }
    for (sum, a) in sums.iter_mut().zip(rest) {
        *sum += *a;
    }
    fold(sums)
}

/// What GELU in its tanh form multiplies x with, and the derivative of that.
#[inline(always)]
fn tanh_share<T: Real>(x: T) -> (T, T) {
    let (scale, cubic) = (T::of(2.0 * TANH_SCALE), T::of(TANH_CUBIC));
    let square = x * x;
    let twice = scale * x * square.mul_add(cubic, T::ONE);
    let magnitude = if twice > T::ZERO { twice } else { -twice };
    // (1 + tanh(u)) / 2 = 1 / (1 + e^(-2u)), from the exponential that can't overflow.
    let small = (-magnitude).exp_nonpositive();
    let large_share = T::ONE / (T::ONE + small);
    let share = if twice > T::ZERO {
        large_share
    } else {
        small * large_share
    };
    let slope = scale * square.mul_add(T::of(3.0 * TANH_CUBIC), T::ONE);
    (share, small * large_share * large_share * slope)
}

/// What Mish multiplies x with, tanh(ln(1 + eˣ)), and the derivative of that, from the exponential that can't overflow.
#[inline(always)]
fn mish_share<T: Real>(x: T) -> (T, T) {
    let (two, four) = (T::of(2.0), T::of(4.0));
    let positive = x > T::ZERO;
    let u = (if positive { -x } else { x }).exp_nonpositive();
    // Times e^(-2x) above 0.
    let (top, extra) = if positive {
        (u.mul_add(two, T::ONE), two * u * u)
    } else {
        (u * (u + two), two)
    };
    let inverse = T::ONE / (top + extra);
    let slope = four * u * (T::ONE + u) * inverse * inverse;
    (top * inverse, if positive { slope * u } else { slope })
}

vectorized! {
    /// Layer normalisation of rows of x: out <- (x - mean) / standard deviation * weight + bias.
    pub fn layer_norm<T: Real>(x: &[T], weight: &[T], bias: &[T], epsilon: T, out: &mut [T]) {
        let width = weight.len();
        let share = T::ONE / T::of(width as f64);
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let mean = sum(x) * share;
            for (o, x) in out.iter_mut().zip(x) {
                *o = *x - mean;
            }
            let scale = T::ONE / (dot(out, out) * share + epsilon).sqrt();
            for ((o, w), b) in out.iter_mut().zip(weight).zip(bias) {
                *o = (*o * scale).mul_add(*w, *b);
            }
        }
    }

    /// Backward of [`layer_norm`]: dx <- dx + its gradient for `dout`, dweight and dbias added to.
    pub fn layer_norm_backward<T: Real>(
        x: &[T],
        weight: &[T],
        epsilon: T,
        dout: &[T],
        dx: &mut [T],
        dweight: &mut [T],
        dbias: &mut [T],
        normal: &mut [T],
    ) {
        let width = weight.len();
        let share = T::ONE / T::of(width as f64);
        let (normal, scaled) = normal.split_at_mut(width);
        let scaled = &mut scaled[..width];
        let (dweight, dbias) = (&mut dweight[..width], &mut dbias[..width]);
        let rows = x.chunks_exact(width).zip(dout.chunks_exact(width));
        for ((x, dout), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let mean = sum(x) * share;
            for (n, x) in normal.iter_mut().zip(x) {
                *n = *x - mean;
            }
            let scale = T::ONE / (dot(normal, normal) * share + epsilon).sqrt();
            for ((n, s), (d, w)) in
                normal.iter_mut().zip(scaled.iter_mut()).zip(dout.iter().zip(weight))
            {
                *n *= scale;
                *s = *d * *w;
            }
            let along_one = sum(scaled) * share;
            let along_normal = dot(scaled, normal) * share;
            for ((d, s), n) in dx.iter_mut().zip(scaled.iter()).zip(normal.iter()) {
                *d += scale * (*s - along_one - *n * along_normal);
            }
            for ((dw, db), (d, n)) in
                dweight.iter_mut().zip(dbias.iter_mut()).zip(dout.iter().zip(normal.iter()))
            {
                *dw = d.mul_add(*n, *dw);
                *db += *d;
            }
        }
    }

    /// Backward of a ReLU and the layer norm after it, from the ReLU's result h: d, the gradient after the
    /// norm, <- that before the ReLU; y <- the norm's result, if it has room; dweight and dbias added to.
    pub fn relu_layer_norm_backward<T: Real>(
        h: &[T],
        weight: &[T],
        bias: &[T],
        epsilon: T,
        d: &mut [T],
        y: &mut [T],
        dweight: &mut [T],
        dbias: &mut [T],
        normal: &mut [T],
    ) {
        let width = weight.len();
        let share = T::ONE / T::of(width as f64);
        let (normal, bias) = (&mut normal[..width], &bias[..width]);
        let (dweight, dbias) = (&mut dweight[..width], &mut dbias[..width]);
        let mut results = y.chunks_exact_mut(width);
        for (h, d) in h.chunks_exact(width).zip(d.chunks_exact_mut(width)) {
            let mean = sum(h) * share;
            for (n, h) in normal.iter_mut().zip(h) {
                *n = *h - mean;
            }
            let scale = T::ONE / (dot(normal, normal) * share + epsilon).sqrt();
            for n in normal.iter_mut() {
                *n *= scale;
            }
            if let Some(y) = results.next() {
                for ((y, n), (w, b)) in y.iter_mut().zip(normal.iter()).zip(weight.iter().zip(bias)) {
                    *y = n.mul_add(*w, *b);
                }
            }
            for ((dw, db), (d, n)) in
                dweight.iter_mut().zip(dbias.iter_mut()).zip(d.iter().zip(normal.iter()))
            {
                *dw = d.mul_add(*n, *dw);
                *db += *d;
            }
            for (d, w) in d.iter_mut().zip(weight) {
                *d *= *w;
            }
            let along_one = sum(d) * share;
            let along_normal = dot(d, normal) * share;
            for ((d, n), h) in d.iter_mut().zip(normal.iter()).zip(h) {
                let before = scale * (*d - along_one - *n * along_normal);
                *d = if *h > T::ZERO { before } else { T::ZERO };
            }
        }
    }

    /// x <- x + bias in every row.
    pub fn add_bias<T: Real>(x: &mut [T], bias: &[T]) {
        for row in x.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += *b;
            }
        }
    }

    /// x <- max(x + bias, 0) in every row.
    pub fn add_bias_relu<T: Real>(x: &mut [T], bias: &[T]) {
        for row in x.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                let sum = *x + *b;
                *x = if sum < T::ZERO { T::ZERO } else { sum }; // NaN stays
            }
        }
    }

    /// dx <- dx where the ReLU's result y is positive, else 0.
    pub fn relu_backward<T: Real>(y: &[T], dx: &mut [T]) {
        for (d, y) in dx.iter_mut().zip(y) {
            *d = if *y > T::ZERO { *d } else { T::ZERO };
        }
    }

    /// Each row of dx <- its scale times `row`, where the ReLU's result y is positive, else 0.
    pub fn scaled_row_relu_backward<T: Real>(y: &[T], scales: &[T], row: &[T], dx: &mut [T]) {
        let rows = dx.chunks_exact_mut(row.len()).zip(y.chunks_exact(row.len()));
        for ((d, y), scale) in rows.zip(scales) {
            for ((d, y), x) in d.iter_mut().zip(y).zip(row) {
                *d = if *y > T::ZERO { *scale * *x } else { T::ZERO };
            }
        }
    }

    /// total <- total + the sum of the rows of x.
    pub fn add_rows<T: Real>(x: &[T], total: &mut [T]) {
        for row in x.chunks_exact(total.len()) {
            for (t, x) in total.iter_mut().zip(row) {
                *t += *x;
            }
        }
    }

    /// to <- to + from.
    pub fn add<T: Real>(to: &mut [T], from: &[T]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t += *f;
        }
    }

    /// out <- activation(x), elementwise.
    pub fn activate<T: Real>(activation: Activation, x: &[T], out: &mut [T]) {
        match activation {
            Activation::Relu => {
                for (o, x) in out.iter_mut().zip(x) {
                    *o = if *x > T::ZERO { *x } else { T::ZERO };
                }
            }
            Activation::Gelu => {
                for (o, x) in out.iter_mut().zip(x) {
                    *o = *x * x.normal().0;
                }
            }
            Activation::GeluTanh => {
                for (o, x) in out.iter_mut().zip(x) {
                    *o = *x * tanh_share(*x).0;
                }
            }
            Activation::SquaredRelu => {
                for (o, x) in out.iter_mut().zip(x) {
                    let on = if *x > T::ZERO { *x } else { T::ZERO };
                    *o = on * on;
                }
            }
            Activation::Mish => {
                for (o, x) in out.iter_mut().zip(x) {
                    *o = *x * mish_share(*x).0;
                }
            }
        }
    }

    /// out <- activation(x) and dout <- dout * activation'(x), elementwise.
    pub fn activate_backward<T: Real>(
        activation: Activation,
        x: &[T],
        out: &mut [T],
        dout: &mut [T],
    ) {
        match activation {
            Activation::Relu => {
                for ((o, d), x) in out.iter_mut().zip(dout).zip(x) {
                    let on = *x > T::ZERO;
                    *o = if on { *x } else { T::ZERO };
                    *d = if on { *d } else { T::ZERO };
                }
            }
            Activation::Gelu => {
                for ((o, d), x) in out.iter_mut().zip(dout).zip(x) {
                    let (below, density) = x.normal();
                    *o = *x * below;
                    *d *= x.mul_add(density, below);
                }
            }
            Activation::GeluTanh => {
                for ((o, d), x) in out.iter_mut().zip(dout).zip(x) {
                    let (share, slope) = tanh_share(*x);
                    *o = *x * share;
                    *d *= x.mul_add(slope, share);
                }
            }
            Activation::SquaredRelu => {
                for ((o, d), x) in out.iter_mut().zip(dout).zip(x) {
                    let on = if *x > T::ZERO { *x } else { T::ZERO };
                    *o = on * on;
                    *d *= on + on;
                }
            }
            Activation::Mish => {
                for ((o, d), x) in out.iter_mut().zip(dout).zip(x) {
                    let (share, slope) = mish_share(*x);
                    *o = *x * share;
                    *d *= x.mul_add(slope, share);
                }
            }
        }
    }

    /// x <- x times the dropout mask, for rows from number `first` on.
    pub fn drop_out<T: Real>(mask: Option<DropoutMask>, first: usize, width: usize, x: &mut [T]) {
        let Some(mask) = mask else { return };
        let scale = T::of(mask.scale());
        for (i, row) in x.chunks_exact_mut(width).enumerate() {
            let mask = mask.row(first + i);
            for (column, x) in row.iter_mut().enumerate() {
                *x = if mask.keeps(column as u32) { *x * scale } else { T::ZERO };
            }
        }
    }

    /// One row of attention weights, not normalised: scores <- e^(scale * scores + hidden - top),
    /// where top is the largest exponent. Returns top and the sum. With nothing visible all are 0.
    pub fn softmax<T: Real>(scores: &mut [T], hidden: &[T], scale: T) -> (T, T) {
        let mut tops = [T::NEGATIVE_INFINITY; LANES];
        for (group, hidden) in scores.chunks_mut(LANES).zip(hidden.chunks(LANES)) {
            for ((score, hidden), top) in group.iter_mut().zip(hidden).zip(tops.iter_mut()) {
                *score = score.mul_add(scale, *hidden);
                *top = top.maximum_of(*score);
            }
        }
        let mut top = T::NEGATIVE_INFINITY;
        for t in tops {
            top = top.maximum_of(t);
        }
        if top == T::NEGATIVE_INFINITY {
            scores.fill(T::ZERO);
            return (top, T::ZERO);
        }
        for score in scores.iter_mut() {
            *score = (*score - top).exp_nonpositive();
        }
        (top, sum(scores))
    }

    /// One row of a softmax, not normalised: x <- e^(x - top), where top is the largest. Returns top
    /// and the sum.
    pub fn softmax_plainly<T: Real>(x: &mut [T]) -> (T, T) {
        let mut top = T::NEGATIVE_INFINITY;
        for x in x.iter() {
            top = top.maximum_of(*x);
        }
        for x in x.iter_mut() {
            *x = (*x - top).exp_nonpositive();
        }
        (top, sum(x))
    }

    /// One row of attention weights again: scores <- e^(scale * scores + hidden - log_sum).
    pub fn softmax_again<T: Real>(scores: &mut [T], hidden: &[T], scale: T, log_sum: T) {
        for (score, hidden) in scores.iter_mut().zip(hidden) {
            *score = (score.mul_add(scale, *hidden) - log_sum).exp_nonpositive();
        }
    }

    /// Backward of one row of softmax: dweights <- weights * (dweights - along) * scale.
    pub fn softmax_backward<T: Real>(weights: &[T], dweights: &mut [T], along: T, scale: T) {
        for (d, w) in dweights.iter_mut().zip(weights) {
            *d = *w * (*d - along) * scale;
        }
    }

    /// Sum of products of one row.
    pub fn row_dot<T: Real>(a: &[T], b: &[T]) -> T {
        dot(a, b)
    }

    /// x <- scale * x.
    pub fn scale<T: Real>(x: &mut [T], scale: T) {
        for x in x.iter_mut() {
            *x *= scale;
        }
    }
}
