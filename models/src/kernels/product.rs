//! Matrix products on slices, with bounds checked and any strides.

mod panels;

use gemm::Parallelism;

use super::real::Real;
use super::rows;
pub use panels::Finish;

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

/// to <- a b, finished.
///
/// # Panics
/// If the sizes don't fit, or a result has no column or gaps between its rows.
pub fn multiply_then<T: Real>(
    mut to: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    finish: Finish<'_, T>,
) {
    if in_panels(&mut to, a, b, finish) {
        return;
    }
    assert!(to.shape.column_stride == 1 && to.shape.row_stride == to.shape.columns);
    let count = to.shape.rows * to.shape.columns;
    let data = &mut to.data[..count];
    let shape = to.shape;
    let accumulate = matches!(finish, Finish::Add);
    let scale = (T::ONE, accumulate);
    in_gemm(MatrixMut { data, shape }, a, b, scale, Parallelism::None);
    match finish {
        Finish::Store | Finish::Add => {}
        Finish::Bias(bias) => rows::add_bias(data, bias),
        Finish::BiasRelu(bias) => rows::add_bias_relu(data, bias),
        Finish::Where(kept) => rows::relu_backward(kept, data),
    }
}

/// [`panels::multiply`] of f32.
fn in_panels<T: Real>(
    to: &mut MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    finish: Finish<'_, T>,
) -> bool {
    let (to_shape, a_shape, b_shape) = (to.shape, a.shape, b.shape);
    let (Some(to), Some(a), Some(b), Some(finish)) = (
        T::single_mut(to.data),
        T::single(a.data),
        T::single(b.data),
        finish.single(),
    ) else {
        return false;
    };
    let (a, b) = (
        Matrix {
            data: a,
            shape: a_shape,
        },
        Matrix {
            data: b,
            shape: b_shape,
        },
    );
    let to = &mut MatrixMut {
        data: to,
        shape: to_shape,
    };
    panels::multiply(to, a, b, finish)
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
    one_thread_product(to, a, b, (scale, accumulate), usize::MAX);
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
    match rayon::current_num_threads() {
        // How gemm cuts longer sums depends on the processor's caches.
        0 | 1 => one_thread_product(to, a, b, (scale, accumulate), panels::DEPTH),
        threads => in_gemm(to, a, b, (scale, accumulate), Parallelism::Rayon(threads)),
    }
}

/// The product in panels, if its sums have at most so many terms, else in gemm.
fn one_thread_product<T: Real>(
    mut to: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    (scale, accumulate): (T, bool),
    longest: usize,
) {
    let finish = if accumulate {
        Finish::Add
    } else {
        Finish::Store
    };
    let fits = scale == T::ONE && a.shape.columns <= longest;
    if !(fits && in_panels(&mut to, a, b, finish)) {
        in_gemm(to, a, b, (scale, accumulate), Parallelism::None);
    }
}

fn in_gemm<T: Real>(
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
    // SAFETY: the product takes pointers. All three matrices lie inside their slices
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
