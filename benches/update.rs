//! `update/<algorithm>`: one update of every registered algorithm on made-up data of halfcheetah's
//! sizes, with default settings; sequence models take smaller batches.

use criterion::{Criterion, criterion_group};
use trajformer::algorithms::ALGORITHMS;
use trajformer::bench::{UpdateOptions, Updates};

/// Sequences in a batch.
const SEQUENCES: usize = 16;

fn updates(criterion: &mut Criterion) {
    trajformer_models::kernels::memory::keep_freed_blocks();
    let mut group = criterion.benchmark_group("update");
    group.sample_size(10);
    for registered in ALGORITHMS {
        group.bench_function(registered.name, |bencher| {
            let mut options = UpdateOptions {
                algorithm: registered.name.to_owned(),
                batch: None,
                observations: 17,
                actions: 6,
                overrides: Vec::new(),
                device: "cpu".to_owned(),
                seconds: 0.0,
            };
            let mut updates = Updates::new(&options).expect(registered.name);
            if updates.work().is_some_and(|work| work.tokens > 0) {
                options.batch = Some(SEQUENCES);
                updates = Updates::new(&options).expect(registered.name);
            }
            bencher.iter(|| updates.step().expect(registered.name));
        });
    }
    group.finish();
}

criterion_group!(group, updates);
