//! Transposed copies of matrices, in tiles of whole cache lines.
//!
//! A product reads its right factor row by row; where that lies the other way, each call transposes it on the way into its own layout,
//! number by number, and calls for pieces of rows do so again and again.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::dispatch::{Level, level};

/// Rows and columns of a tile.
const TILE: usize = 16;

/// Rows `range` of the transposed matrix, one after the other in `to`, of a matrix of this size whose rows lie in `from`.
///
/// # Panics
/// If a slice has another length, or the range goes beyond the columns.
pub fn rows_of_single(from: &[f32], size: (usize, usize), range: Range<usize>, to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if level() != Level::Baseline {
        check(from, size, &range, to);
        // Reason for `unsafe`: the processor has AVX2, as just found out; sizes are checked.
        #[allow(unsafe_code)]
        unsafe {
            x86::rows_of_single(from, size, range, to);
        }
        return;
    }
    rows_of(from, size, range, to);
}

/// The same for numbers of any type.
///
/// # Panics
/// If a slice has another length, or the range goes beyond the columns.
pub fn rows_of<T: Copy>(from: &[T], size: (usize, usize), range: Range<usize>, to: &mut [T]) {
    check(from, size, &range, to);
    let rows = size.0;
    for row in (0..rows).step_by(TILE) {
        for column in range.clone().step_by(TILE) {
            let columns = column..(column + TILE).min(range.end);
            number_by_number(
                from,
                size,
                (row..(row + TILE).min(rows), columns),
                (to, range.start),
            );
        }
    }
}

fn check<T>(from: &[T], (rows, columns): (usize, usize), range: &Range<usize>, to: &[T]) {
    assert!(
        from.len() == rows * columns && to.len() == range.len() * rows && range.end <= columns,
        "columns {range:?} of ({rows}, {columns}), {} numbers to {}",
        from.len(),
        to.len()
    );
}

/// A tile to rows of the transposed matrix, the first of which is row `first`.
fn number_by_number<T: Copy>(
    from: &[T],
    (rows, columns): (usize, usize),
    tile: (Range<usize>, Range<usize>),
    (to, first): (&mut [T], usize),
) {
    for row in tile.0 {
        for column in tile.1.clone() {
            to[(column - first) * rows + row] = from[row * columns + column];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::{TILE, number_by_number};

    /// # Safety
    /// The processor must have AVX2, `from` all numbers of a matrix of this size, `to` those of the range.
    #[target_feature(enable = "avx2")]
    pub unsafe fn rows_of_single(
        from: &[f32],
        (rows, columns): (usize, usize),
        range: Range<usize>,
        to: &mut [f32],
    ) {
        for row in (0..rows).step_by(TILE) {
            for column in range.clone().step_by(TILE) {
                if row + TILE > rows || column + TILE > range.end {
                    let tile = (
                        row..(row + TILE).min(rows),
                        column..(column + TILE).min(range.end),
                    );
                    number_by_number(from, (rows, columns), tile, (to, range.start));
                    continue;
                }
                // Both halves of a line of `to`, then the next line: eight lines are open at a time.
                for (j, i) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
                    let source = (row + i) * columns + column + j;
                    let target = (column + j - range.start) * rows + row + i;
                    // SAFETY: eight rows of eight numbers follow in both, since the tile lies inside both matrices.
                    unsafe {
                        eight_by_eight(
                            from.as_ptr().add(source),
                            columns,
                            to.as_mut_ptr().add(target),
                            rows,
                        );
                    }
                }
            }
        }
    }

    /// # Safety
    /// The processor must have AVX2; eight numbers can be read, and written, at each of eight places at these distances.
    #[target_feature(enable = "avx2")]
    unsafe fn eight_by_eight(from: *const f32, read: usize, to: *mut f32, written: usize) {
        // SAFETY: as the caller says.
        let load = |row: usize| unsafe { _mm256_loadu_ps(from.add(row * read)) };
        let rows: [__m256; 8] = std::array::from_fn(load);
        // Pairs of rows, then fours, within each half of a vector; then the halves.
        let pair = |i: usize| {
            let (a, b) = (rows[2 * i], rows[2 * i + 1]);
            [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)]
        };
        let four = |i: usize| {
            let (a, b) = (pair(2 * i), pair(2 * i + 1));
            [
                _mm256_shuffle_ps::<0x44>(a[0], b[0]),
                _mm256_shuffle_ps::<0xEE>(a[0], b[0]),
                _mm256_shuffle_ps::<0x44>(a[1], b[1]),
                _mm256_shuffle_ps::<0xEE>(a[1], b[1]),
            ]
        };
        let (upper, lower) = (four(0), four(1));
        for column in 0..4 {
            let (a, b) = (upper[column], lower[column]);
            // SAFETY: as the caller says.
            unsafe {
                let first = _mm256_permute2f128_ps::<0x20>(a, b);
                _mm256_storeu_ps(to.add(column * written), first);
                let second = _mm256_permute2f128_ps::<0x31>(a, b);
                _mm256_storeu_ps(to.add((column + 4) * written), second);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lie_where_a_transposed_matrix_has_them() {
        for (rows, columns) in [(1, 1), (16, 16), (40, 33), (7, 64), (64, 7), (100, 48)] {
            let from: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let ranges = [0..columns, columns / 3..columns, 0..columns.min(16)];
            for range in ranges {
                let mut to = vec![-1.0; range.len() * rows];
                let mut plain = to.clone();
                rows_of_single(&from, (rows, columns), range.clone(), &mut to);
                rows_of(&from, (rows, columns), range.clone(), &mut plain);
                for (i, column) in range.clone().enumerate() {
                    for row in 0..rows {
                        let expected = (row * columns + column) as f32;
                        let found = (to[i * rows + row], plain[i * rows + row]);
                        assert_eq!(found, (expected, expected), "({row}, {column})");
                    }
                }
            }
        }
    }
}
