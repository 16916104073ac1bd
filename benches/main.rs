//! Criterion benches, one module per subject: `cargo bench -- update/td3_bc`, `cargo bench -- kernel`.

mod kernels;
mod update;

criterion::criterion_main!(update::group, kernels::group);
