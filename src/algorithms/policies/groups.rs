//! [`in_groups`]: networks act on rows in groups of one size, so that a row's action is the same whatever runs beside it.
//!
//! The order in which a matrix product adds up depends on its shape: a product with few rows, or with one, is computed in
//! another way than one with many, and a sum's last bits change with it. A simulator makes a difference of whole returns of
//! them. In groups of one size, the last one filled up, every product has one shape; inside it all rows are alike.

use candle_core::{Device, Tensor};

use trajformer_core::error::Result;

/// Rows of a group: enough for efficient products, few enough that a single episode costs little more than it must.
pub const GROUP_ROWS: usize = 8;

/// Calls `network` for `rows` rows in groups of [`GROUP_ROWS`]: it gets the numbers of the group's rows (u32, the last row again
/// where the last group has too few) and gives a result for each (G, ..). All results, in order (rows, ..).
///
/// Devices other than the CPU take all rows at once: there the last bits of a result may depend on how many there are.
///
/// # Errors
/// Those of `network`.
pub fn in_groups(
    rows: usize,
    device: &Device,
    network: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let group = match device.is_cpu() {
        true => GROUP_ROWS,
        false => rows.max(1),
    };
    let last = rows.saturating_sub(1);
    let mut results = Vec::with_capacity(rows.div_ceil(group));
    for first in (0..rows.max(1)).step_by(group) {
        let numbers = (first..first + group).map(|row| row.min(last) as u32);
        results.push(network(&Tensor::from_iter(numbers, device)?)?);
    }
    Ok(Tensor::cat(&results, 0)?.narrow(0, 0, rows)?)
}
