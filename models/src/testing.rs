//! What the tests of several modules need.

use candle_core::{DType, Tensor};

use crate::error::Result;

/// max |a - b| / max |b|.
pub(crate) fn largest_relative_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    let difference = (&a - &b)?.abs()?.max_all()?.to_scalar::<f64>()?;
    Ok(difference / b.abs()?.max_all()?.to_scalar::<f64>()?)
}

/// Checks that one and three threads give the same bits.
pub(crate) fn check_same_bits(
    function: impl Fn() -> Result<Vec<Tensor>> + Send + Sync,
) -> Result<()> {
    let run = |threads: usize| -> Result<Vec<Vec<u32>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let results = pool.expect("a thread pool").install(&function)?;
        let bits = |x: &Tensor| -> Result<Vec<u32>> {
            Ok(x.flatten_all()?
                .to_vec1::<f32>()?
                .into_iter()
                .map(f32::to_bits)
                .collect())
        };
        results.iter().map(bits).collect()
    };
    let (one, three) = (run(1)?, run(3)?);
    assert!(!one.is_empty());
    for (i, (one, three)) in one.iter().zip(&three).enumerate() {
        assert!(one == three, "result {i} depends on the number of threads");
    }
    Ok(())
}
