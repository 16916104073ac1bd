//! Newton-Schulz iteration: a matrix with all singular values moved near 1.

use super::product::{Matrix, MatrixMut, multiply, multiply_add};
use super::real::Real;

/// Coefficients of the quintic a X + b X Xᵀ X + c (X Xᵀ)² X: the largest slope at zero (KellerJordan/Muon @ 857d1ad, `muon.py`). Singular
/// values end within about 0.7 to 1.2 rather than at 1.
pub const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Added to the norm that the matrix is divided by at first.
pub const NORM_EPSILON: f64 = 1e-7;

/// Moves the singular values of the matrix `x` (rows, columns; rows one after the other), divided by its Frobenius norm, near 1 in so many
/// iterations, in place. On one thread.
///
/// # Panics
/// If `x` has another size.
pub fn orthogonalize<T: Real>(x: &mut [T], (rows, columns): (usize, usize), iterations: usize) {
    assert_eq!(x.len(), rows * columns, "({rows}, {columns})");
    let squares: f64 = x.iter().map(|value| value.to_f64() * value.to_f64()).sum();
    let scale = T::of(1.0 / (squares.sqrt() + NORM_EPSILON));
    x.iter_mut().for_each(|value| *value *= scale);
    let [a, b, c] = QUINTIC.map(T::of);
    // The smaller side: X Xᵀ, or Xᵀ X for tall matrices, whose transpose the iteration then is.
    let (side, tall) = (rows.min(columns), rows > columns);
    let mut gram = vec![T::ZERO; side * side];
    let mut square = vec![T::ZERO; side * side];
    let mut next = vec![T::ZERO; x.len()];
    for _ in 0..iterations {
        let wide = Matrix::rows(x, rows, columns);
        let (left, right) = if tall {
            (wide.t(), wide)
        } else {
            (wide, wide.t())
        };
        multiply(MatrixMut::rows(&mut gram, side, side), left, right);
        let of = Matrix::rows(&gram, side, side);
        multiply(MatrixMut::rows(&mut square, side, side), of, of);
        for (square, gram) in square.iter_mut().zip(&gram) {
            *square = b * *gram + c * *square;
        }
        let factor = Matrix::rows(&square, side, side);
        for (next, x) in next.iter_mut().zip(x.iter()) {
            *next = a * *x;
        }
        let to = MatrixMut::rows(&mut next, rows, columns);
        if tall {
            multiply_add(to, wide, factor);
        } else {
            multiply_add(to, factor, wide);
        }
        x.copy_from_slice(&next);
    }
}
