//! Matrix products on slices, with bounds checked and any strides.

use gemm::Parallelism;

use super::real::Real;

/// A matrix inside a slice: element (i, j) lies at `i * row_stride + j * column_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    shape: Shape,
}

/// A matrix inside a slice that is written to.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    data: &'a mut [T],
    shape: Shape,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl Shape {
    fn new((rows, columns): (usize, usize), (row_stride, column_stride): (usize, usize)) -> Self {
        Self {
            rows,
            columns,
            row_stride,
            column_stride,
        }
    }

    /// Elements up to the last one of the matrix.
    fn extent(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            0
        } else {
            (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
        }
    }
}

impl<'a, T> Matrix<'a, T> {
    /// Rows one after the other, without gaps.
    pub fn rows(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, (rows, columns), (columns, 1))
    }

    /// A matrix in `data` with these (row, column) strides.
    ///
    /// # Panics
    /// If the matrix reaches past the slice.
    pub fn strided(data: &'a [T], size: (usize, usize), strides: (usize, usize)) -> Self {
        let shape = Shape::new(size, strides);
        assert!(
            shape.extent() <= data.len(),
            "{shape:?} in {} elements",
            data.len()
        );
        Self { data, shape }
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        let s = self.shape;
        let shape = Shape::new((s.columns, s.rows), (s.column_stride, s.row_stride));
        Self {
            data: self.data,
            shape,
        }
    }
}

impl<'a, T> MatrixMut<'a, T> {
    /// Rows one after the other, without gaps.
    pub fn rows(data: &'a mut [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, (rows, columns), (columns, 1))
    }

    /// A matrix in `data` with these (row, column) strides; no two elements share a place.
    ///
    /// # Panics
    /// If the matrix reaches past the slice.
    pub fn strided(data: &'a mut [T], size: (usize, usize), strides: (usize, usize)) -> Self {
        let shape = Shape::new(size, strides);
        assert!(
            shape.extent() <= data.len(),
            "{shape:?} in {} elements",
            data.len()
        );
        Self { data, shape }
    }
}

/// to <- a b.
pub fn multiply<T: Real>(to: MatrixMut<'_, T>, a: Matrix<'_, T>, b: Matrix<'_, T>) {
    product(to, a, b, T::ONE, false);
}

/// to <- to + a b.
pub fn multiply_add<T: Real>(to: MatrixMut<'_, T>, a: Matrix<'_, T>, b: Matrix<'_, T>) {
    product(to, a, b, T::ONE, true);
}

/// to <- scale a b, or to + scale a b, on the thread that calls it.
///
/// # Panics
/// If the sizes don't fit.
pub fn product<T: Real>(
    to: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    scale: T,
    accumulate: bool,
) {
    shared_product(to, a, b, (scale, accumulate), Parallelism::None);
}

/// The same on all threads of the pool, with the same bits for any number of them: they share rows and columns of the result, and each
/// number of it is one sum.
///
/// # Panics
/// If the sizes don't fit.
pub fn product_on_all_threads<T: Real>(
    to: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    scale: T,
    accumulate: bool,
) {
    let threads = match rayon::current_num_threads() {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    shared_product(to, a, b, (scale, accumulate), threads);
}

fn shared_product<T: Real>(
    to: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    (scale, accumulate): (T, bool),
    threads: Parallelism,
) {
    let (m, n, k) = (to.shape.rows, to.shape.columns, a.shape.columns);
    assert!(
        a.shape.rows == m && b.shape.rows == k && b.shape.columns == n,
        "{:?}",
        to.shape
    );
    if m == 0 || n == 0 {
        return;
    }
    // Reason for `unsafe`: the product takes pointers. All three matrices lie inside their slices
    // (checked when they were made), `to` is borrowed mutably (threads write different parts of it), and `T` is f32 or f64.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.data.as_mut_ptr(),
            to.shape.column_stride as isize,
            to.shape.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.shape.column_stride as isize,
            a.shape.row_stride as isize,
            b.data.as_ptr(),
            b.shape.column_stride as isize,
            b.shape.row_stride as isize,
            T::ONE,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}
