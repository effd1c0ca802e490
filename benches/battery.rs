//! Claims planned and judged as `verify` does, on one placement and one thread: one claim of each kind of experiment.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use normative::claims::{Battery, Lab, Subject};
use normative::op::Registry;
use normative::zoo;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Prediction against measurement, an identity between placements, a law of sampled depths.
const CLAIMS: [&str; 3] = ["prediction.*", "equivalence.pre_ln.peri_ln_without_outer_norm", "growth.second_moment.*"];

fn claims(criterion: &mut Criterion) {
    for variable in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: no other thread exists yet. As the command does: candle reads these.
        unsafe { std::env::set_var(variable, "1") };
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be had");
    let registry = Registry::builtin();
    let placement = zoo::placement("pre-ln", &registry.vocabulary()).expect("it is built in");
    let shape = placement.overrides.shape(64, 4, 8).expect("the shape is legal");
    let setting = placement.overrides.setting().expect("it has a setting");
    let subjects = [Subject { spec: "pre-ln".into(), placement, setting, shape, generated: Vec::new() }];
    let lab = || Lab { seeds: 16, seeds_per_shape: 8, ..Lab::quick(&registry, &subjects) };
    let mut group = criterion.benchmark_group("battery");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    for glob in CLAIMS {
        let battery = Battery::matching(Some(glob)).expect("there are such claims");
        group.bench_function(glob, |bencher| {
            bencher.iter(|| {
                let lab = lab();
                let items = battery.plan(&lab, false).expect("the claims can be planned");
                one.install(|| items.iter().for_each(|item| drop(black_box(item.judged(&lab).expect("it is judged")))));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, claims);
criterion_main!(benches);
