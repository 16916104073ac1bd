//! [`Packed`]: linear layers with weights laid out for few rows at a time.

use super::{Float, dispatched, multiply_add};

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
}
