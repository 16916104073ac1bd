//! [`groups`] and [`in_groups`]: networks act on rows in groups of one size, so that a row's action is the same whatever runs beside it.
//!
//! The order in which a matrix product adds up depends on its shape: a product with few rows, or with one, is computed in
//! another way than one with many, and a sum's last bits change with it. A simulator makes a difference of whole returns of
//! them. In groups of one size, the last one filled up, every product has one shape; inside it all rows are alike.
//! Networks that read whole contexts act in groups of one, side by side on all threads.

use std::ops::Range;

use candle_core::{Device, Tensor};

use trajformer_core::error::Result;

/// Rows of a group of actors: enough for efficient products, few enough that a single episode costs little more than it must.
pub const GROUP_ROWS: usize = 8;

/// The rows of each group: `size` at a time, fewer in the last; all at once on devices other than the CPU, where the last bits
/// of a result may depend on how many there are.
pub fn groups(rows: usize, size: usize, device: &Device) -> Vec<Range<usize>> {
    let size = if device.is_cpu() { size } else { rows.max(1) };
    let starts = (0..rows).step_by(size);
    starts
        .map(|first| first..(first + size).min(rows))
        .collect()
}

/// Calls `network` for `rows` rows in [`groups`] of [`GROUP_ROWS`]: it gets the numbers of the group's rows (u32, on the CPU the
/// last row again where the last group has too few) and gives a result for each (G, ..). All results, in order (rows, ..).
///
/// # Errors
/// Those of `network`, and if there is no row.
pub fn in_groups(
    rows: usize,
    device: &Device,
    network: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut results = Vec::with_capacity(rows.div_ceil(GROUP_ROWS));
    for group in groups(rows, GROUP_ROWS, device) {
        let (first, last) = (group.start, group.end - 1);
        let filled = if device.is_cpu() {
            GROUP_ROWS
        } else {
            group.len()
        };
        let numbers = (first..first + filled).map(|row| row.min(last) as u32);
        results.push(network(&Tensor::from_iter(numbers, device)?)?);
    }
    Ok(Tensor::cat(&results, 0)?.narrow(0, 0, rows)?)
}
