//! [`Packed`]: linear layers with weights laid out for few rows at a time.

use super::{Float, multiply_add};

/// Columns of a panel of packed weights.
const PANEL: usize = 32;

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

    /// I, the numbers in a row of what is multiplied.
    pub fn inputs(&self) -> usize {
        self.inputs
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

/// [`Packed::forward`] without its checks, by the widest instructions there are.
fn product<T: Float>(packed: &Packed<T>, x: &[T], y: &mut [T], store: Store) {
    #[cfg(target_arch = "x86_64")]
    {
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        let kernel = match (
            is_x86_feature_detected!("avx2"),
            is_x86_feature_detected!("fma"),
        ) {
            (true, true) if wide => Some(T::AVX512),
            (true, true) => Some(T::AVX2),
            _ => None,
        };
        if let Some(kernel) = kernel {
            // SAFETY: the processor has the instructions.
            #[allow(unsafe_code)]
            unsafe {
                kernel(packed, x, y, store);
            }
            return;
        }
    }
    plain(packed, x, y, store);
}

/// A product by instructions that the processor may lack.
pub type Kernel<T> = unsafe fn(&Packed<T>, &[T], &mut [T], Store);

/// [`product`] for any processor.
fn plain<T: Float>(packed: &Packed<T>, x: &[T], y: &mut [T], store: Store) {
    const FUSED: bool = cfg!(target_arch = "aarch64");
    let rows = x.len() / packed.inputs;
    for (index, panel) in packed
        .panels
        .chunks_exact(PANEL * packed.inputs)
        .enumerate()
    {
        for row in 0..rows {
            let x = &x[row * packed.inputs..][..packed.inputs];
            let mut sums = [T::ZERO; PANEL];
            for (&x, weights) in x.iter().zip(panel.chunks_exact(PANEL)) {
                for (sum, &weight) in sums.iter_mut().zip(weights) {
                    *sum = multiply_add::<T, FUSED>(x, weight, *sum);
                }
            }
            finish(packed, index * PANEL, row, &sums, y, store);
        }
    }
}

/// Adds the biases to sums of one row, from `first_column` on, and stores what is within the result.
#[inline(always)]
fn finish<T: Float>(
    packed: &Packed<T>,
    first_column: usize,
    row: usize,
    sums: &[T],
    y: &mut [T],
    store: Store,
) {
    let width = sums.len().min(packed.outputs - first_column);
    let bias = &packed.bias[first_column..first_column + width];
    let y = &mut y[row * packed.outputs..][first_column..][..width];
    for ((y, &sum), &bias) in y.iter_mut().zip(sums).zip(bias) {
        *y = match store {
            Store::Replace => sum + bias,
            Store::Add => *y + (sum + bias),
        };
    }
}

/// Products whose sums stay in registers: two vectors of columns for as many rows as there are
/// registers. (Left to itself the compiler keeps arrays of sums in memory, ten times slower.)
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{PANEL, Packed, Store, finish};

    macro_rules! kernel {
        (
            $(#[$meta:meta])* $name:ident, $tile:ident, $features:literal, $float:ty, $lanes:literal,
            [$($rows:literal),*], $zero:ident, $load:ident, $splat:ident, $fma:ident, $store:ident
        ) => {
            $(#[$meta])*
            ///
            /// # Safety
            /// The processor must have the instructions, and `x` and `y` rows as long as the packed
            /// weights say.
            #[target_feature(enable = $features)]
            pub unsafe fn $name(packed: &Packed<$float>, x: &[$float], y: &mut [$float], store: Store) {
                let rows = x.len() / packed.inputs;
                for first_column in (0..packed.outputs).step_by(2 * $lanes) {
                    let mut row = 0;
                    $(
                        while rows - row >= $rows {
                            // SAFETY: the tile's rows are in `x`, and the caller vouches for the rest.
                            unsafe { $tile::<$rows>(packed, first_column, row, x, y, store) };
                            row += $rows;
                        }
                    )*
                }
            }

            /// `ROWS` rows and two vectors of columns of the result.
            #[target_feature(enable = $features)]
            unsafe fn $tile<const ROWS: usize>(
                packed: &Packed<$float>,
                first_column: usize,
                first_row: usize,
                x: &[$float],
                y: &mut [$float],
                store: Store,
            ) {
                let inputs = packed.inputs;
                let panel = &packed.panels[first_column / PANEL * PANEL * inputs..][..PANEL * inputs];
                let panel = panel[first_column % PANEL..].as_ptr();
                let x = &x[first_row * inputs..][..ROWS * inputs];
                let mut sums = [[$zero(); 2]; ROWS];
                for k in 0..inputs {
                    // SAFETY: k * PANEL + 2 * lanes numbers follow in the panel, ROWS * inputs in x.
                    unsafe {
                        let weights = panel.add(k * PANEL);
                        let (first, second) = ($load(weights), $load(weights.add($lanes)));
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let x = $splat(*x.get_unchecked(row * inputs + k));
                            sums[0] = $fma(x, first, sums[0]);
                            sums[1] = $fma(x, second, sums[1]);
                        }
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    let mut numbers = [0.0; 2 * $lanes];
                    // SAFETY: two vectors fit.
                    unsafe {
                        $store(numbers.as_mut_ptr(), sums[0]);
                        $store(numbers.as_mut_ptr().add($lanes), sums[1]);
                    }
                    finish(packed, first_column, first_row + row, &numbers, y, store);
                }
            }
        };
    }

    kernel!(
        /// AVX-512 in single precision.
        avx512_f32, avx512_f32_tile, "avx512f,avx512vl,avx2,fma", f32, 16, [12, 8, 4, 2, 1],
        _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps
    );
    kernel!(
        /// AVX-512 in double precision.
        avx512_f64, avx512_f64_tile, "avx512f,avx512vl,avx2,fma", f64, 8, [12, 8, 4, 2, 1],
        _mm512_setzero_pd, _mm512_loadu_pd, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_storeu_pd
    );
    kernel!(
        /// AVX2 in single precision.
        avx2_f32, avx2_f32_tile, "avx2,fma", f32, 8, [6, 4, 2, 1],
        _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps
    );
    kernel!(
        /// AVX2 in double precision.
        avx2_f64, avx2_f64_tile, "avx2,fma", f64, 4, [6, 4, 2, 1],
        _mm256_setzero_pd, _mm256_loadu_pd, _mm256_set1_pd, _mm256_fmadd_pd, _mm256_storeu_pd
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn random(rng: &mut Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.normal() as f32).collect()
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

    /// Products of every kernel that this processor has, the plain one first.
    fn of_every_kernel<T: Float>(packed: &Packed<T>, x: &[T], rows: usize) -> Vec<Vec<T>> {
        let mut found = vec![vec![T::ONE; rows * packed.outputs]];
        plain(packed, x, &mut found[0], Store::Add);
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 =
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            for kernel in avx2
                .then_some(T::AVX2)
                .into_iter()
                .chain(avx512.then_some(T::AVX512))
            {
                let mut y = vec![T::ONE; rows * packed.outputs];
                // SAFETY: the processor has the instructions; the lengths fit.
                #[allow(unsafe_code)]
                unsafe {
                    kernel(packed, x, &mut y, Store::Add);
                }
                found.push(y);
            }
        }
        found
    }

    #[test]
    fn every_kernel_gives_the_same_product_in_both_precisions() {
        let mut rng = Rng::from_seed(2);
        for (rows, inputs, outputs) in [(1, 5, 3), (13, 30, 32), (23, 64, 49), (12, 7, 100)] {
            let (x, weight) = (
                random(&mut rng, rows * inputs),
                random(&mut rng, outputs * inputs),
            );
            let found = of_every_kernel(&Packed::new(&weight, None, inputs), &x, rows);
            let double = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let exact = Packed::new(&double(&weight), None, inputs);
            let exact = of_every_kernel(&exact, &double(&x), rows);
            for (at, expected) in exact[0].iter().enumerate() {
                let close = |y: f64, error: f64| (y - expected).abs() < error;
                // Rounding of at most 64 products of about 1.
                assert!(
                    exact.iter().all(|y| close(y[at], 1e-12)),
                    "f64, {rows} rows, {at}"
                );
                assert!(
                    found.iter().all(|y| close(f64::from(y[at]), 1e-4)),
                    "f32, {rows} rows, {at}"
                );
            }
        }
    }
}
