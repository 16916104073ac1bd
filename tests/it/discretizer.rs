//! The discretizer against the authors' numbers.

use trajformer::data::discretizer::{Discretizer, DiscretizerKind};

use crate::golden::Golden;

/// Sums over bins in another order than NumPy's.
const ROUNDING: f64 = 1e-12;

fn fit(golden: &Golden, which: &str) -> (Vec<f64>, usize, Discretizer) {
    let data = golden.numbers(&format!("{which}.data"));
    let dims = golden.dims(&format!("{which}.data"))[1];
    let bins = golden.integer(&format!("{which}_bins"));
    let discretizer = Discretizer::fit(&data, dims, bins, DiscretizerKind::Quantile);
    // The authors' bins stand for their middles even where a column is constant, sparse or of whole numbers.
    let authors = discretizer.and_then(|fitted| fitted.with_middles());
    (data, dims, authors.expect("finite data"))
}

fn encode(discretizer: &Discretizer, rows: &[f64], dims: usize) -> Vec<u32> {
    let mut tokens = Vec::new();
    rows.chunks(dims)
        .for_each(|row| discretizer.encode_slice(row, 0, &mut tokens));
    tokens
}

#[test]
fn quantile_thresholds_tokens_and_bin_centers_equal_the_authors() {
    let golden = Golden::load("quantile_discretizer");
    let (data, dims, discretizer) = fit(&golden, "full");
    let thresholds = golden.numbers("full.thresholds");
    for dim in 0..dims {
        let expected: Vec<f64> = thresholds[dim..].iter().step_by(dims).copied().collect();
        assert_eq!(discretizer.thresholds(dim), expected, "dimension {dim}");
    }
    assert_eq!(
        encode(&discretizer, &data, dims),
        golden.integers("full.indices")
    );
    let tokens = encode(&discretizer, &golden.numbers("full.queries"), dims);
    assert_eq!(tokens, golden.integers("full.query_indices"));
    let decode = |(at, &token): (usize, &u32)| discretizer.decode(token, at % dims);
    let decoded: Vec<f64> = tokens.iter().enumerate().map(decode).collect();
    assert_eq!(decoded, golden.numbers("full.query_reconstructed"));
}

#[test]
fn a_short_table_uses_the_bins_that_exist() {
    let golden = Golden::load("quantile_discretizer");
    let (data, dims, discretizer) = fit(&golden, "short");
    let last = golden.dims("short.thresholds")[0] as u32 - 2;
    let guarded = golden
        .integers("short.indices")
        .into_iter()
        .map(|index| index.min(last));
    let tokens = encode(&discretizer, &data, dims);
    assert_eq!(tokens, guarded.collect::<Vec<_>>());
    let decode = |(at, &token): (usize, &u32)| discretizer.decode(token, at % dims);
    let decoded: Vec<f64> = tokens.iter().enumerate().map(decode).collect();
    assert_eq!(decoded, golden.numbers("short.guarded_reconstructed"));
}

#[test]
fn expectations_and_percentiles_equal_the_authors() {
    let golden = Golden::load("quantile_discretizer");
    let (_, dims, discretizer) = fit(&golden, "full");
    let classes = discretizer.bins() + 1;
    let probabilities = golden.numbers("full.probabilities");
    for dim in 0..dims {
        let expectations = golden.numbers(&format!("full.expectation.{dim}"));
        for (row, expected) in expectations.iter().enumerate() {
            let found = discretizer.expectation(&probabilities[2 * row * classes..], dim);
            assert!(
                (found - expected).abs() < ROUNDING,
                "dimension {dim} row {row}: {found}"
            );
        }
        for level in [0.1, 0.5, 0.9] {
            let percentiles = golden.numbers(&format!("full.percentile.{dim}.{level}"));
            let wraps = golden.integers(&format!("full.percentile_wraps.{level}"));
            for (row, expected) in percentiles.iter().enumerate() {
                let row_probabilities = &probabilities[2 * row * classes..];
                let found = discretizer.percentile(row_probabilities, level, dim);
                let expected = match wraps[row] {
                    0 => *expected,
                    _ => discretizer.decode(0, dim),
                };
                assert_eq!(found, expected, "dimension {dim} row {row} level {level}");
            }
        }
    }
}
