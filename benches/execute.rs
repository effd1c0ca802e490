//! A network drawn, run forward and back, and its figures taken: the job of `benches/peer/network.py`, one thread.
//!
//! `alone` is one placement; `shared` is a network of several placements of one shape and seed, which use one draw.
//!
//!     cargo bench --bench execute                     criterion's groups
//!     cargo bench --bench execute -- milliseconds     CPU time a network as JSON, to be divided by the peer's

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use normative::execute::{Measurement, measure_on_same_weights};
use normative::fold::Graph;
use normative::op::Registry;
use normative::spec::{Overrides, Setting};
use normative::zoo;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Width, blocks, tokens.
const JOBS: [[usize; 3]; 5] = [[64, 4, 64], [64, 128, 64], [128, 32, 128], [256, 32, 64], [256, 32, 256]];
/// Placements with two norms a block or a few more, as the peer's network has.
const PLACEMENTS: [&str; 8] =
    ["pre-ln", "post-ln", "deepnorm", "sandwich-ln", "peri-ln", "sub-ln", "rezero", "layerscale"];

/// The networks of some placements, all of one shape.
fn graphs(placements: &[&str], [width, blocks, tokens]: [usize; 3]) -> Vec<Graph> {
    let registry = Registry::builtin();
    let shape = Overrides::default().shape(width, blocks, tokens).expect("the shape is legal");
    let graph = |name: &&str| {
        let placement = zoo::placement(name, &registry.vocabulary()).expect("it is built in");
        let network = placement.at(shape).expect("it has every shape");
        Graph::new(&network, &Setting::standard(), &registry).expect("it uses built-in ops only")
    };
    placements.iter().map(graph).collect()
}

fn job(graphs: &[Graph]) {
    let how = Measurement { seeds: 1, ..Measurement::default() };
    black_box(measure_on_same_weights(&graphs.iter().collect::<Vec<_>>(), &how).expect("the networks fit"));
}

/// Milliseconds of this thread's CPU time a network, in the fastest of some batches: the kernel counts them by ticks.
fn milliseconds(graphs: &[Graph]) -> f64 {
    job(graphs);
    let mut fastest = f64::INFINITY;
    for _ in 0..4 {
        let (start, mut runs, mut spent) = (thread_time(), 0, Duration::ZERO);
        while spent < Duration::from_millis(700) {
            job(graphs);
            (runs, spent) = (runs + 1, thread_time() - start);
        }
        fastest = fastest.min(1e3 * spent.as_secs_f64() / f64::from(runs));
    }
    fastest / graphs.len() as f64
}

/// What this thread has run; where the system does not tell, what has passed.
fn thread_time() -> Duration {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|line| line.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| STARTED.elapsed(), Duration::from_nanos)
}

fn main() {
    for variable in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: no other thread exists yet. As the command does: candle reads these.
        unsafe { std::env::set_var(variable, "1") };
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    one.build_global().expect("no pool was started before");
    if std::env::args().any(|argument| argument == "milliseconds") {
        for shape in JOBS {
            let (alone, shared) = (graphs(&PLACEMENTS[..1], shape), graphs(&PLACEMENTS, shape));
            println!("{}", json!({"job": shape, "alone_ms": milliseconds(&alone), "shared_ms": milliseconds(&shared)}));
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("network");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for shape in JOBS {
        for (name, placements) in [("alone", &PLACEMENTS[..1]), ("shared", &PLACEMENTS[..])] {
            let graphs = graphs(placements, shape);
            group.throughput(Throughput::Elements(graphs.len() as u64));
            group.bench_function(BenchmarkId::new(name, shape.map(|n| n.to_string()).join("x")), |b| {
                b.iter(|| job(&graphs));
            });
        }
    }
    group.finish();
    criterion.final_summary();
}
