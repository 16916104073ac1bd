use super::*;
use crate::rng::Rng;

const FINISHES: [&str; 5] = ["store", "add", "bias", "bias and relu", "where"];

fn finish<'a>(name: &str, bias: &'a [f32], kept: &'a [f32]) -> Finish<'a, f32> {
    match name {
        "store" => Finish::Store,
        "add" => Finish::Add,
        "bias" => Finish::Bias(bias),
        "bias and relu" => Finish::BiasRelu(bias),
        _ => Finish::Where(kept),
    }
}

fn random(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.normal() as f32).collect()
}

/// The slow twin: each sum by itself, in order, rounded once per term.
fn plainly(
    to: &mut [f32],
    (rows, columns, depth): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    finish: Finish<'_, f32>,
) {
    let part = depth.div_ceil(depth.div_ceil(DEPTH));
    for i in 0..rows {
        for j in 0..columns {
            let to = &mut to[i * columns + j];
            let before = if matches!(finish, Finish::Add) {
                Some(*to)
            } else {
                None
            };
            let parts = (0..depth).step_by(part).map(|from| {
                let inner = from..(from + part).min(depth);
                inner.fold(0f32, |sum, k| a(i, k).mul_add(b(k, j), sum))
            });
            let sum = before
                .into_iter()
                .chain(parts)
                .reduce(|sum, part| sum + part);
            let sum = sum.expect("a part");
            *to = match finish {
                Finish::Store | Finish::Add => sum,
                Finish::Bias(bias) => sum + bias[j],
                Finish::BiasRelu(bias) => (sum + bias[j]).max(0.0),
                Finish::Where(kept) if kept[i * columns + j] > 0.0 => sum,
                Finish::Where(_) => 0.0,
            };
        }
    }
}

/// A factor that is stored by rows or by columns.
fn factor(numbers: &[f32], (rows, columns): (usize, usize), by_rows: bool) -> Matrix<'_, f32> {
    if by_rows {
        Matrix::rows(numbers, rows, columns)
    } else {
        Matrix::rows(numbers, columns, rows).t()
    }
}

#[test]
fn products_in_panels_have_the_bits_of_single_sums_and_of_gemm() {
    let rng = &mut Rng::from_seed(7);
    let sizes = [
        (7, 70, 40),
        (13, 23, 3),
        (64, 64, 17),
        (48, 128, 9),
        (49, 130, 8),
        (20, 40, 700),
        (6, 64, 11),
        (100, 4, 33),
    ];
    let levels = [Level::Avx2, Level::Avx512];
    let levels = levels
        .into_iter()
        .filter(|l| *l == level() || *l == Level::Avx2);
    let levels: Vec<_> = levels.filter(|_| level() != Level::Baseline).collect();
    for (rows, columns, depth) in sizes {
        let (a, b) = (random(rng, rows * depth), random(rng, depth * columns));
        let (bias, kept) = (random(rng, columns), random(rng, rows * columns));
        let before = random(rng, rows * columns);
        for (a_by_rows, b_by_rows) in [(true, true), (true, false), (false, true), (false, false)] {
            let left = factor(&a, (rows, depth), a_by_rows);
            let right = factor(&b, (depth, columns), b_by_rows);
            let at = |m: &Matrix<'_, f32>, i: usize, j: usize| {
                m.data[i * m.shape.row_stride + j * m.shape.column_stride]
            };
            for name in FINISHES {
                let finish = finish(name, &bias, &kept);
                let mut expected = before.clone();
                let size = (rows, columns, depth);
                plainly(
                    &mut expected,
                    size,
                    |i, k| at(&left, i, k),
                    |k, j| at(&right, k, j),
                    finish,
                );
                for level in &levels {
                    let mut found = before.clone();
                    let mut to = MatrixMut::rows(&mut found, rows, columns);
                    assert!(super::at(*level, &mut to, left, right, finish));
                    assert!(
                        found == expected,
                        "{level:?}, {size:?}, {a_by_rows}, {b_by_rows}, {name}"
                    );
                }
                if depth <= DEPTH && name == "store" && level() != Level::Baseline {
                    let mut found = before.clone();
                    let to = MatrixMut::rows(&mut found, rows, columns);
                    super::super::in_gemm(to, left, right, (1.0, false), gemm::Parallelism::None);
                    assert!(
                        found == expected,
                        "gemm, {size:?}, {a_by_rows}, {b_by_rows}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_gemm_sums_in_another_order_is_left_to_it() {
    let numbers = vec![1f32; 64 * 64];
    for (rows, columns, depth, taken) in [
        (64, 64, 64, true),
        (1, 64, 64, false),
        (64, 1, 64, false),
        (16, 16, 64, false),
        (64, 64, 2, false),
    ] {
        let mut to = vec![0f32; rows * columns];
        let to = &mut MatrixMut::rows(&mut to, rows, columns);
        let (a, b) = (
            Matrix::rows(&numbers, rows, depth),
            Matrix::rows(&numbers, depth, columns),
        );
        let expected = taken && level() != Level::Baseline;
        assert_eq!(
            multiply(to, a, b, Finish::Store),
            expected,
            "{rows} x {columns} x {depth}"
        );
    }
}

#[test]
fn a_relu_lets_nan_through() {
    let (ones, mut numbers) = (vec![1f32; 64 * 64], vec![-1f32; 64 * 64]);
    numbers[5] = f32::NAN;
    let (bias, mut to) = (vec![0f32; 64], vec![1f32; 64 * 64]);
    let a = Matrix::rows(&ones, 64, 64);
    let b = Matrix::rows(&numbers, 64, 64);
    let mut results = MatrixMut::rows(&mut to, 64, 64);
    if multiply(&mut results, a, b, Finish::BiasRelu(&bias)) {
        for (i, x) in to.iter().enumerate() {
            assert!(if i % 64 == 5 { x.is_nan() } else { *x == 0.0 }, "{i}: {x}");
        }
    }
}
