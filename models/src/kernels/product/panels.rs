//! Products in single precision whose right factor is laid out in panels, with what happens to each result done before it is
//! stored.
//!
//! A panel is as many columns as a few vectors hold, row after row; all rows of the left factor meet it while it is near. Every
//! result is one sum in the order of the inner index, each term fused, as gemm's microkernel takes it: both give the same bits.
//! Where gemm goes another way (few results, single rows or columns, sums of two terms), and on processors without AVX2, nothing
//! is done here.

use super::{Matrix, MatrixMut};
#[cfg(any(test, not(target_arch = "x86_64")))]
use crate::kernels::dispatch::Level;
use crate::kernels::dispatch::level;
use crate::kernels::real::Real;

/// Longest sum that is taken at once, gemm's too; longer ones are cut into equal parts, and the parts added.
pub const DEPTH: usize = 512;

/// What becomes of a result, row by row.
#[derive(Debug, Clone, Copy)]
pub enum Finish<'a, T> {
    /// It replaces what was there.
    Store,
    /// It is added to what was there.
    Add,
    /// With this bias, one number per column, it replaces what was there.
    Bias(&'a [T]),
    /// With this bias and after a ReLU, which lets NaN through, it replaces what was there.
    BiasRelu(&'a [T]),
    /// It replaces what was there where these numbers, in rows as long as the results', are positive, else 0 does.
    Where(&'a [T]),
}

impl<'a, T: Real> Finish<'a, T> {
    /// The same in single precision, if it is.
    pub(super) fn single(self) -> Option<Finish<'a, f32>> {
        Some(match self {
            Self::Store => Finish::Store,
            Self::Add => Finish::Add,
            Self::Bias(bias) => Finish::Bias(T::single(bias)?),
            Self::BiasRelu(bias) => Finish::BiasRelu(T::single(bias)?),
            Self::Where(kept) => Finish::Where(T::single(kept)?),
        })
    }
}

/// to <- the finished product, if it is one for this module.
pub fn multiply(
    to: &mut MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
    finish: Finish<'_, f32>,
) -> bool {
    let (rows, columns, depth) = (to.shape.rows, to.shape.columns, a.shape.columns);
    // Otherwise gemm sums in another order.
    let as_gemm = rows > 1
        && columns > 1
        && rows * columns > 256
        && depth > 2
        && (depth <= DEPTH || rows.max(columns) > 64)
        && to.shape.column_stride == 1
        && to.shape.row_stride >= columns;
    // One vector of results at least, or most of it would be for nothing.
    as_gemm && rows >= 4 && columns >= 4 && at(level(), to, a, b, finish)
}

#[cfg(not(target_arch = "x86_64"))]
fn at(
    _: Level,
    _: &mut MatrixMut<'_, f32>,
    _: Matrix<'_, f32>,
    _: Matrix<'_, f32>,
    _: Finish<'_, f32>,
) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
use x86::multiply as at;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{DEPTH, Finish, Matrix, MatrixMut};
    use crate::kernels::dispatch::Level;
    use crate::kernels::pool::Buffer;

    /// Numbers of the widest vector, to whose size panels are aligned.
    const LINE: usize = 16;
    /// Up to so many rows a factor is read where it is, as gemm reads it.
    const FEW: usize = 48;
    /// Side of the blocks in which a factor is transposed.
    const BLOCK: usize = 8;

    /// A factor: element (i, j) lies at `i * rows + j * columns`.
    #[derive(Clone, Copy)]
    struct Factor {
        first: *const f32,
        rows: usize,
        columns: usize,
    }

    impl Factor {
        fn new(matrix: &Matrix<'_, f32>) -> Self {
            Self {
                first: matrix.data.as_ptr(),
                rows: matrix.shape.row_stride,
                columns: matrix.shape.column_stride,
            }
        }

        /// From this row and column on, which must be within it.
        unsafe fn from(self, row: usize, column: usize) -> Self {
            let skipped = row * self.rows + column * self.columns;
            // SAFETY: the element is within the factor.
            let first = unsafe { self.first.add(skipped) };
            Self { first, ..self }
        }
    }

    /// The finished product by the instructions of this level, which the processor must have.
    pub fn multiply(
        level: Level,
        to: &mut MatrixMut<'_, f32>,
        a: Matrix<'_, f32>,
        b: Matrix<'_, f32>,
        finish: Finish<'_, f32>,
    ) -> bool {
        let size = (to.shape.rows, to.shape.columns, a.shape.columns);
        let (rows, columns, depth) = size;
        assert!(
            a.shape.rows == rows && b.shape.rows == depth && b.shape.columns == columns,
            "{size:?}"
        );
        match finish {
            Finish::Store | Finish::Add => {}
            Finish::Bias(bias) | Finish::BiasRelu(bias) => assert_eq!(bias.len(), columns),
            Finish::Where(kept) => assert_eq!(kept.len(), rows * columns),
        }
        let stride = to.shape.row_stride;
        let factors = (Factor::new(&a), Factor::new(&b));
        // SAFETY: the processor has the instructions; the matrices lie within their slices (checked when they were made),
        // and fit each other.
        unsafe {
            match level {
                Level::Avx512 => avx512(to.data, stride, factors, size, finish),
                Level::Avx2 => avx2(to.data, stride, factors, size, finish),
                Level::Baseline => return false,
            }
        }
        true
    }

    /// Products by vectors of LANES numbers, in tiles of some rows and of up to so many vectors of columns, whose sums stay in registers.
    /// (Left to itself the compiler keeps arrays of sums in memory.)
    macro_rules! kernel {
        (
            $(#[$meta:meta])* $name:ident, $panel:ident, $tile:ident, $pack:ident, $features:literal, $lanes:literal,
            $rows:literal, [$($rest:literal),*], $zero:ident, $load:ident, $splat:ident, $fma:ident, $store:ident,
            $add:ident, $max:ident, $keep:ident, $most:literal, [$($vectors:literal),*]
        ) => {
            $(#[$meta])*
            ///
            /// # Safety
            /// The processor must have the instructions, and the factors and results the size.
            #[target_feature(enable = $features)]
            unsafe fn $name(
                to: &mut [f32],
                stride: usize,
                (left, right): (Factor, Factor),
                (rows, columns, depth): (usize, usize, usize),
                finish: Finish<'_, f32>,
            ) {
                let parts = depth.div_ceil(DEPTH);
                let part = depth.div_ceil(parts);
                let mut scratch: Buffer<f32> = Buffer::take(part * $most * $lanes + LINE);
                let aligned = scratch.as_ptr().align_offset(LINE * size_of::<f32>());
                let panel = &mut scratch[aligned.min(LINE)..];
                for first in (0..columns).step_by($most * $lanes) {
                    let width = (columns - first).min($most * $lanes);
                    for from in (0..depth).step_by(part) {
                        let depth = part.min(depth - from);
                        // What a whole sum becomes waits for its last part.
                        let finish = match finish {
                            Finish::Add => Finish::Add,
                            _ if parts == 1 => finish,
                            _ if from == 0 => Finish::Store,
                            _ => Finish::Add,
                        };
                        // SAFETY: `from` and `first` are within the factors, and as much follows.
                        unsafe {
                            let (left, right) = (left.from(0, from), right.from(from, first));
                            let place = (first, columns);
                            let size = (rows, width, depth);
                            let in_place = rows <= FEW
                                && right.columns == 1
                                && width.is_multiple_of($lanes);
                            match width.div_ceil($lanes) {
                                $($vectors => {
                                    let weights = if in_place {
                                        right
                                    } else {
                                        $pack::<$vectors>(right, width, depth, panel);
                                        Factor {
                                            first: panel.as_ptr(),
                                            rows: $vectors * $lanes,
                                            columns: 1,
                                        }
                                    };
                                    $panel::<$vectors>(to, stride, place, (left, weights), size, finish);
                                })*
                                _ => {}
                            }
                        }
                    }
                    if parts > 1 {
                        finish_rows(to, stride, (first, columns), (rows, width), finish);
                    }
                }
            }

            /// Lays `width` columns out in rows of so many vectors, filled up with zeros.
            #[target_feature(enable = $features)]
            unsafe fn $pack<const VECTORS: usize>(from: Factor, width: usize, depth: usize, panel: &mut [f32]) {
                let row = VECTORS * $lanes;
                let panel = &mut panel[..depth * row];
                // SAFETY: every element that is read is within the factor, and every one that is written within the panel.
                unsafe {
                    if from.columns == 1 && width == row {
                        let (mut source, mut to) = (from.first, panel.as_mut_ptr());
                        for _ in 0..depth {
                            for v in 0..VECTORS {
                                $store(to.add(v * $lanes), $load(source.add(v * $lanes)));
                            }
                            source = source.wrapping_add(from.rows);
                            to = to.wrapping_add(row);
                        }
                    } else {
                        pack_any(from, width, depth, panel, row);
                    }
                }
            }

            /// All rows with one panel.
            #[target_feature(enable = $features)]
            unsafe fn $panel<const VECTORS: usize>(
                to: &mut [f32],
                stride: usize,
                place: (usize, usize),
                (left, right): (Factor, Factor),
                (rows, width, depth): (usize, usize, usize),
                finish: Finish<'_, f32>,
            ) {
                let size = (width, depth);
                let mut row = 0;
                // SAFETY: so many rows follow in the left factor.
                unsafe {
                    while rows - row >= $rows {
                        $tile::<$rows, VECTORS>(to, stride, (row, place), (left, right), size, finish);
                        row += $rows;
                    }
                    match rows - row {
                        $($rest => $tile::<$rest, VECTORS>(to, stride, (row, place), (left, right), size, finish),)*
                        _ => {}
                    }
                }
            }

            /// Some rows of the left factor times the panel.
            #[target_feature(enable = $features)]
            unsafe fn $tile<const ROWS: usize, const VECTORS: usize>(
                to: &mut [f32],
                stride: usize,
                (row, (first, columns)): (usize, (usize, usize)),
                (left, right): (Factor, Factor),
                (width, depth): (usize, usize),
                finish: Finish<'_, f32>,
            ) {
                let mut sums = [[$zero(); VECTORS]; ROWS];
                let mut weights = right.first;
                // A pointer per row: with one for all, the next row's would have to wait for the last one's.
                let mut from = [left.first; ROWS];
                for (i, from) in from.iter_mut().enumerate() {
                    *from = left.first.wrapping_add((row + i) * left.rows);
                }
                let mut at = 0;
                for _ in 0..depth {
                    // SAFETY: the right factor has `depth` rows of so many vectors, and the left one as many columns of these rows.
                    unsafe {
                        let mut vectors = [$zero(); VECTORS];
                        for v in 0..VECTORS {
                            vectors[v] = $load(weights.add(v * $lanes));
                        }
                        for i in 0..ROWS {
                            let x = $splat(from[i].add(at).read());
                            for v in 0..VECTORS {
                                sums[i][v] = $fma(x, vectors[v], sums[i][v]);
                            }
                        }
                    }
                    weights = weights.wrapping_add(right.rows);
                    at += left.columns;
                }
                if width == VECTORS * $lanes {
                    let to = to.as_mut_ptr().wrapping_add(row * stride + first);
                    // Every sum by itself, so that sums stay in registers.
                    macro_rules! finished {
                        (|$i:ident, $v:ident, $to:ident, $sum:ident| $result:expr) => {
                            for $i in 0..ROWS {
                                for $v in 0..VECTORS {
                                    let $to = to.wrapping_add($i * stride + $v * $lanes);
                                    let $sum = sums[$i][$v];
                                    $store($to, $result);
                                }
                            }
                        };
                    }
                    // SAFETY: the rows and columns are within the results, and within what finishes them.
                    unsafe {
                        match finish {
                            Finish::Store => finished!(|i, v, to, sum| sum),
                            Finish::Add => finished!(|i, v, to, sum| $add($load(to), sum)),
                            Finish::Bias(bias) => {
                                let bias = bias.as_ptr().wrapping_add(first);
                                finished!(|i, v, to, sum| $add(sum, $load(bias.wrapping_add(v * $lanes))));
                            }
                            Finish::BiasRelu(bias) => {
                                let bias = bias.as_ptr().wrapping_add(first);
                                // NaN, as the second of both, stays.
                                finished!(|i, v, to, sum| $max($zero(), $add(sum, $load(bias.wrapping_add(v * $lanes)))));
                            }
                            Finish::Where(kept) => {
                                let kept = kept.as_ptr().wrapping_add(row * columns + first);
                                finished!(|i, v, to, sum| $keep($load(kept.wrapping_add(i * columns + v * $lanes)), sum));
                            }
                        }
                    }
                    return;
                }
                let mut numbers = [[[0.0; $lanes]; VECTORS]; ROWS];
                for i in 0..ROWS {
                    for v in 0..VECTORS {
                        // SAFETY: a vector fits.
                        unsafe { $store(numbers[i][v].as_mut_ptr(), sums[i][v]) };
                    }
                }
                for (i, numbers) in numbers.iter().enumerate() {
                    let row = row + i;
                    let with = match finish {
                        Finish::Store | Finish::Add => &[],
                        Finish::Bias(bias) | Finish::BiasRelu(bias) => &bias[first..],
                        Finish::Where(kept) => &kept[row * columns + first..],
                    };
                    let to = &mut to[row * stride + first..][..width];
                    store(numbers.as_flattened(), to, with, finish);
                }
            }
        };
    }

    kernel!(
        /// With AVX-512.
        avx512, avx512_panel, avx512_tile, avx512_pack, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma", 16, 6, [1, 2, 3, 4, 5],
        _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps,
        _mm512_add_ps, _mm512_max_ps, avx512_where, 4, [1, 2, 3, 4]
    );
    kernel!(
        /// With AVX2.
        avx2, avx2_panel, avx2_tile, avx2_pack, "avx2,fma", 8, 6, [1, 2, 3, 4, 5],
        _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps,
        _mm256_add_ps, _mm256_max_ps, avx2_where, 2, [1, 2]
    );

    /// x where `kept` is positive, else 0.
    #[target_feature(enable = "avx512f")]
    fn avx512_where(kept: __m512, x: __m512) -> __m512 {
        _mm512_maskz_mov_ps(
            _mm512_cmp_ps_mask::<_CMP_GT_OQ>(kept, _mm512_setzero_ps()),
            x,
        )
    }

    /// x where `kept` is positive, else 0.
    #[target_feature(enable = "avx2")]
    fn avx2_where(kept: __m256, x: __m256) -> __m256 {
        _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(kept, _mm256_setzero_ps()), x)
    }

    /// Finishes sums that were stored.
    #[inline(always)]
    fn finish_rows(
        to: &mut [f32],
        stride: usize,
        (first, columns): (usize, usize),
        (rows, width): (usize, usize),
        finish: Finish<'_, f32>,
    ) {
        for row in 0..rows {
            let to = &mut to[row * stride + first..][..width];
            let place = row * columns + first;
            match finish {
                Finish::Store | Finish::Add => return,
                Finish::Bias(bias) => {
                    for (to, bias) in to.iter_mut().zip(&bias[first..]) {
                        *to += *bias;
                    }
                }
                Finish::BiasRelu(bias) => {
                    for (to, bias) in to.iter_mut().zip(&bias[first..]) {
                        *to = relu(*to + *bias);
                    }
                }
                Finish::Where(kept) => {
                    for (to, kept) in to.iter_mut().zip(&kept[place..]) {
                        *to = if *kept > 0.0 { *to } else { 0.0 };
                    }
                }
            }
        }
    }

    /// max(x, 0), but NaN stays.
    #[inline(always)]
    fn relu(x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x }
    }

    /// Lays `width` columns out in rows of this length, filled up with zeros.
    #[target_feature(enable = "avx2")]
    unsafe fn pack_any(from: Factor, width: usize, depth: usize, panel: &mut [f32], row: usize) {
        let whole = if from.rows == 1 {
            (width / BLOCK * BLOCK, depth / BLOCK * BLOCK)
        } else {
            (0, 0)
        };
        // SAFETY: every element that is read is within the factor, and every one that is written within the panel.
        unsafe {
            for k in (0..whole.1).step_by(BLOCK) {
                for j in (0..whole.0).step_by(BLOCK) {
                    let source = from.first.add(j * from.columns + k);
                    transpose(
                        source,
                        from.columns,
                        panel.as_mut_ptr().add(k * row + j),
                        row,
                    );
                }
            }
            for (k, to) in panel.chunks_exact_mut(row).enumerate() {
                let done = if k < whole.1 { whole.0 } else { 0 };
                for (j, to) in to.iter_mut().enumerate().skip(done) {
                    *to = if j < width {
                        from.first.add(k * from.rows + j * from.columns).read()
                    } else {
                        0.0
                    };
                }
            }
        }
    }

    /// The 8 rows of 8 numbers each `stride` from the last, as columns.
    #[target_feature(enable = "avx2")]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's.
        unsafe {
            let half = |row: usize, column: usize| {
                let low = _mm_loadu_ps(from.add(row * stride + column));
                let high = _mm_loadu_ps(from.add((row + 4) * stride + column));
                _mm256_set_m128(high, low)
            };
            for column in [0, 4] {
                let rows = [
                    half(0, column),
                    half(1, column),
                    half(2, column),
                    half(3, column),
                ];
                let (low, high) = (
                    _mm256_unpacklo_ps(rows[0], rows[1]),
                    _mm256_unpackhi_ps(rows[0], rows[1]),
                );
                let (next_low, next_high) = (
                    _mm256_unpacklo_ps(rows[2], rows[3]),
                    _mm256_unpackhi_ps(rows[2], rows[3]),
                );
                let columns = [
                    _mm256_shuffle_ps::<0x44>(low, next_low),
                    _mm256_shuffle_ps::<0xee>(low, next_low),
                    _mm256_shuffle_ps::<0x44>(high, next_high),
                    _mm256_shuffle_ps::<0xee>(high, next_high),
                ];
                for (i, numbers) in columns.into_iter().enumerate() {
                    _mm256_storeu_ps(to.add((column + i) * to_stride), numbers);
                }
            }
        }
    }

    /// Stores a row's sums, as many as there is room for, finished.
    fn store(sums: &[f32], to: &mut [f32], with: &[f32], finish: Finish<'_, f32>) {
        let with = if with.is_empty() { sums } else { with };
        for ((to, sum), with) in to.iter_mut().zip(sums).zip(with) {
            *to = match finish {
                Finish::Store => *sum,
                Finish::Add => *to + *sum,
                Finish::Bias(_) => *sum + *with,
                Finish::BiasRelu(_) => relu(*sum + *with),
                Finish::Where(_) if *with > 0.0 => *sum,
                Finish::Where(_) => 0.0,
            };
        }
    }
}

#[cfg(test)]
mod tests;
