//! Nanoseconds a message of each pure stage, and of all in a chain: `cargo bench --bench stages`.
#![allow(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a bench may panic"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use workload::{MESSAGES, STAGES, Workload};

#[path = "stages/workload.rs"]
mod workload;

fn stages(criterion: &mut Criterion) {
    let mut workload = Workload::new();
    let mut group = criterion.benchmark_group("stages");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for stage in STAGES {
        group.bench_function(stage, |bencher| bencher.iter(|| workload.pass(stage)));
    }
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
