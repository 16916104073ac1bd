//! [`Dct`]: the discrete cosine transform (type II, orthonormal) of a few numbers, by a matrix.

/// Transforms T numbers.
#[derive(Debug, Clone)]
pub(super) struct Dct {
    matrix: Vec<f64>, // (T, T): row k is frequency k
    steps: usize,
}

impl Dct {
    pub fn new(steps: usize) -> Self {
        let mut matrix = Vec::with_capacity(steps * steps);
        let length = steps as f64;
        for k in 0..steps {
            for n in 0..steps {
                // The angle within a turn: its cosine has all digits then.
                let angle = ((2 * n + 1) * k % (4 * steps)) as f64 / (2.0 * length);
                let factor = if k == 0 { 1.0 } else { 2.0 };
                matrix.push((std::f64::consts::PI * angle).cos() * (factor / length).sqrt());
            }
        }
        Self { matrix, steps }
    }

    /// Frequencies (T, D) of rows (T, D), column by column.
    pub fn forward(&self, rows: &[f64]) -> Vec<f64> {
        self.apply(rows, |k, n| self.matrix[k * self.steps + n])
    }

    /// Rows (T, D) of frequencies (T, D).
    pub fn inverse(&self, frequencies: &[f64]) -> Vec<f64> {
        self.apply(frequencies, |n, k| self.matrix[k * self.steps + n])
    }

    fn apply(&self, rows: &[f64], entry: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let dims = rows.len() / self.steps;
        let mut out = vec![0.0; rows.len()];
        for (to, out) in out.chunks_exact_mut(dims).enumerate() {
            for (from, row) in rows.chunks_exact(dims).enumerate() {
                let entry = entry(to, from);
                out.iter_mut()
                    .zip(row)
                    .for_each(|(out, x)| *out += entry * x);
            }
        }
        out
    }
}
