//! The closed form of a whole network, on one thread: linear in depth, and the width is no matter.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use normative::fold::Graph;
use normative::op::Registry;
use normative::predict::predict;
use normative::spec::{Overrides, Setting};
use normative::zoo;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn predictions(criterion: &mut Criterion) {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be had");
    let registry = Registry::builtin();
    let mut group = criterion.benchmark_group("predict");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (name, width, blocks) in [("pre-ln", 128, 8), ("pre-ln", 128, 32), ("pre-ln", 4096, 8), ("post-ln", 128, 8)] {
        let shape = Overrides::default().shape(width, blocks, 16).expect("the shape is legal");
        let placement = zoo::placement(name, &registry.vocabulary()).expect("it is built in");
        let network = placement.at(shape).expect("it has every shape");
        let graph = Graph::new(&network, &Setting::standard(), &registry).expect("it uses built-in ops only");
        group.bench_function(BenchmarkId::new(name, format!("d{width}-N{blocks}-T16")), |bencher| {
            bencher.iter(|| one.install(|| predict(black_box(&graph)).expect("it can be predicted")));
        });
    }
    group.finish();
}

criterion_group!(benches, predictions);
criterion_main!(benches);
