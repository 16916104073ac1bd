//! Criterion benches, one module per subject: `cargo bench -- update/td3_bc`.

mod update;

criterion::criterion_main!(update::group);
