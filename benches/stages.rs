//! Nanoseconds a message of each pure stage, of all in a chain, and of 1 to 1,000 routes: `cargo bench --bench stages`.
#![allow(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a bench may panic"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use routing::Routing;
use workload::{MESSAGES, STAGES, Workload};

#[path = "stages/routing.rs"]
mod routing;
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

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routes");
    group.throughput(Throughput::Elements(routing::MESSAGES as u64));
    for stage in routing::STAGES {
        let mut routing = Routing::new(stage);
        group.bench_function(stage, |bencher| bencher.iter(|| routing.pass()));
    }
    group.finish();
}

criterion_group!(benches, stages, routes);
criterion_main!(benches);
