//! Root-mean-square normalisation of rows, and of parts of rows without a scale, on slices.

use super::dispatch::vectorized;
use super::real::Real;
use super::rows::dot;

vectorized! {
    /// Rows of x over the roots of their mean squares: out <- x / √(mean of x² + epsilon) * weight.
    pub fn rms_norm<T: Real>(x: &[T], weight: &[T], epsilon: T, out: &mut [T]) {
        let width = weight.len();
        let share = T::ONE / T::of(width as f64);
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = T::ONE / (dot(x, x) * share + epsilon).sqrt();
            for ((o, x), w) in out.iter_mut().zip(x).zip(weight) {
                *o = *x * scale * *w;
            }
        }
    }

    /// Backward of [`rms_norm`]: dx <- dx + its gradient for `dout`, dweight added to.
    pub fn rms_norm_backward<T: Real>(
        x: &[T],
        weight: &[T],
        epsilon: T,
        dout: &[T],
        dx: &mut [T],
        dweight: &mut [T],
        scratch: &mut [T],
    ) {
        let width = weight.len();
        let share = T::ONE / T::of(width as f64);
        let (dweight, scaled) = (&mut dweight[..width], &mut scratch[..width]);
        let rows = x.chunks_exact(width).zip(dout.chunks_exact(width));
        for ((x, dout), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let scale = T::ONE / (dot(x, x) * share + epsilon).sqrt();
            for ((s, dw), ((d, x), w)) in
                scaled.iter_mut().zip(dweight.iter_mut()).zip(dout.iter().zip(x).zip(weight))
            {
                *s = *d * *w;
                *dw = (*d * *x).mul_add(scale, *dw);
            }
            let along = dot(scaled, x) * share * scale * scale;
            for ((dx, x), s) in dx.iter_mut().zip(x).zip(scaled.iter()) {
                *dx += scale * (*s - *x * along);
            }
        }
    }

    /// The first parts of every row of x (rows of `width` numbers, parts of `part`) over the roots of their mean squares, in place;
    /// `factors` (rows, parts) <- what each was multiplied with. As many parts as there are factors for a row.
    pub fn normalize_parts<T: Real>(
        x: &mut [T],
        width: usize,
        part: usize,
        epsilon: T,
        factors: &mut [T],
    ) {
        let share = T::ONE / T::of(part as f64);
        let parts = factors.len() / (x.len() / width).max(1);
        let rows = x.chunks_exact_mut(width).zip(factors.chunks_exact_mut(parts));
        for (row, factors) in rows {
            for (part, factor) in row.chunks_exact_mut(part).zip(factors) {
                *factor = T::ONE / (dot(part, part) * share + epsilon).sqrt();
                for x in part.iter_mut() {
                    *x *= *factor;
                }
            }
        }
    }

    /// Backward of [`normalize_parts`] from its results `normal` and `factors`: dx, the gradient of the results, <- that of x.
    pub fn normalize_parts_backward<T: Real>(
        normal: &[T],
        width: usize,
        part: usize,
        factors: &[T],
        dx: &mut [T],
    ) {
        let share = T::ONE / T::of(part as f64);
        let parts = factors.len() / (normal.len() / width).max(1);
        let rows = normal.chunks_exact(width).zip(dx.chunks_exact_mut(width));
        for ((normal, dx), factors) in rows.zip(factors.chunks_exact(parts)) {
            let parts = normal.chunks_exact(part).zip(dx.chunks_exact_mut(part));
            for ((normal, dx), factor) in parts.zip(factors) {
                let along = dot(normal, dx) * share;
                for (d, n) in dx.iter_mut().zip(normal) {
                    *d = *factor * (*d - *n * along);
                }
            }
        }
    }
}
