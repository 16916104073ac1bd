//! The gated hidden layer of SwiGLU on slices: rows of 2 H numbers, H that pass and H that open their gates.

use super::dispatch::vectorized;
use super::real::Real;

/// 1 / (1 + e⁻ˣ), from the exponential that can't overflow.
#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    let positive = x > T::ZERO;
    let small = (if positive { -x } else { x }).exp_nonpositive();
    let large = T::ONE / (T::ONE + small);
    if positive { large } else { small * large }
}

vectorized! {
    /// out (rows, H) <- what passes times SiLU of its gate, x (rows, 2 H).
    pub fn swiglu<T: Real>(x: &[T], inner: usize, out: &mut [T]) {
        for (x, out) in x.chunks_exact(2 * inner).zip(out.chunks_exact_mut(inner)) {
            let (passing, gates) = x.split_at(inner);
            for ((o, p), g) in out.iter_mut().zip(passing).zip(gates) {
                *o = *p * *g * sigmoid(*g);
            }
        }
    }

    /// out <- [`swiglu`] of x, and dx (rows, 2 H) <- the gradient of x for `dout`.
    pub fn swiglu_backward<T: Real>(
        x: &[T],
        inner: usize,
        dout: &[T],
        out: &mut [T],
        dx: &mut [T],
    ) {
        let rows = x.chunks_exact(2 * inner).zip(dx.chunks_exact_mut(2 * inner));
        let results = dout.chunks_exact(inner).zip(out.chunks_exact_mut(inner));
        for ((x, dx), (dout, out)) in rows.zip(results) {
            let (passing, gates) = x.split_at(inner);
            let (dpassing, dgates) = dx.split_at_mut(inner);
            let to = out.iter_mut().zip(dpassing.iter_mut().zip(dgates.iter_mut()));
            for (((o, (dp, dg)), d), (p, g)) in to.zip(dout).zip(passing.iter().zip(gates)) {
                let open = sigmoid(*g);
                let silu = *g * open;
                *o = *p * silu;
                *dp = *d * silu;
                *dg = *d * *p * silu.mul_add(T::ONE - open, open);
            }
        }
    }
}
