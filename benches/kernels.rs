//! The fused norms beside the roofs `copy` and `triad` of the same tensors, and candle's differentiable norms.
//!
//! One group a kernel's type and shape, one thread; throughput in minimal bytes: forward 2 M N s, with a residual 4 M N s,
//! backward 3 M N s. Ratios go to `kernels.json` in the target folder; they are of the fastest of many short runs, each
//! kernel in turn, which a busy neighbour disturbs least. Gates read ratios, never times.
//!
//!     cargo bench --bench kernels                          criterion's groups, then the ratios
//!     cargo bench --bench kernels -- ratios                the ratios alone

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, Throughput};
use half::bf16;
use normative::kernels::slices::{Affine, Cotangents, Norm, Real, Statistics, Storage};
use serde_json::{Value, json};

/// The allocator of the binary: it retains memory, and aligns it, which halves the lines that a load touches.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHAPES: [(usize, usize); 4] = [(4096, 1024), (16384, 768), (1024, 8192), (65536, 64)];
const FITS: &str = "the slices are of one shape";

/// Seconds of the fastest of some runs, each kernel in turn, so that all see the same neighbours.
fn fastest<const K: usize>(turns: usize, mut runs: [&mut dyn FnMut(); K]) -> [f64; K] {
    let mut best = [f64::INFINITY; K];
    for _ in 0..turns {
        for (run, best) in runs.iter_mut().zip(&mut best) {
            let start = Instant::now();
            run();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best
}

/// The tensors of one shape, filled with numbers of magnitude 1.
struct Data<S: Storage> {
    rows: usize,
    width: usize,
    x: Vec<S>,
    residual: Vec<S>,
    dy: Vec<S>,
    parameter: Vec<S>,
    y: Vec<S>,
    sum: Vec<S>,
    statistics: Vec<Statistics<S::Real>>,
}

impl<S: Storage> Data<S> {
    fn new((rows, width): (usize, usize)) -> Self {
        let numbers = |k: usize| -> Vec<S> {
            (0..rows * width).map(|i| S::narrow(Real::of(((i * 7919 + k) % 1009) as f64 / 500.0 - 1.0))).collect()
        };
        Data {
            rows,
            width,
            x: numbers(0),
            residual: numbers(1),
            dy: numbers(2),
            parameter: (0..width).map(|i| S::narrow(Real::of(1.0 + i as f64 / width as f64))).collect(),
            y: numbers(3),
            sum: numbers(4),
            statistics: vec![Statistics::default(); rows],
        }
    }

    fn norm(&self, centred: bool) -> (Norm, Affine<S::Real>) {
        let norm = Norm::new(self.width, centred, 1e-5).expect("the convention is valid");
        let bias = centred.then_some(&self.parameter[..]);
        (norm, Affine::new(self.width, norm.convention, Some(&self.parameter), bias))
    }

    fn bytes(&self) -> u64 {
        (self.rows * self.width * size_of::<S>()) as u64
    }

    /// Times of copy, forward, backward and forward of a sum, as ratios to the copy in minimal bytes.
    fn ratios(&mut self, kernel: &str, dtype: &str, centred: bool) -> Value {
        let (norm, affine) = self.norm(centred);
        let mut copied = self.y.clone();
        let mut out = self.sum.clone();
        let cotangents = Cotangents { output: &self.dy, sum: None };
        norm.forward(&self.x, &affine, &mut self.y, Some(&mut self.statistics)).expect(FITS);
        let (mut sum, mut after) = (self.sum.clone(), self.sum.clone());
        let x = &self.x;
        let [copy, forward, backward, add] = fastest(
            25,
            [
                &mut || copied.copy_from_slice(black_box(x)),
                &mut || norm.forward(black_box(x), &affine, &mut self.y, None).expect(FITS),
                &mut || {
                    let strip = norm.backward(black_box(x), &affine, cotangents, Some(&self.statistics), &mut out);
                    drop(black_box(strip.expect(FITS)));
                },
                &mut || {
                    norm.add_forward([black_box(x), &self.residual], &affine, [&mut sum, &mut after], None)
                        .expect(FITS);
                },
            ],
        );
        let speed = |passes: f64, seconds: f64| passes * self.bytes() as f64 / seconds / 1e9;
        json!({
            "kernel": kernel, "dtype": dtype, "shape": [self.rows, self.width], "copy_gb_per_s": speed(2.0, copy),
            "forward_gb_per_s": speed(2.0, forward), "backward_gb_per_s": speed(3.0, backward),
            "add_forward_gb_per_s": speed(4.0, add),
            "forward_over_copy": copy / forward, "backward_over_copy": 1.5 * copy / backward,
            "add_forward_over_copy": 2.0 * copy / add,
        })
    }

    fn criterion(&mut self, c: &mut Criterion, name: &str) {
        let (bytes, fits) = (self.bytes(), FITS);
        let mut group = c.benchmark_group(format!("{name} {}x{}", self.rows, self.width));
        group.sample_size(10);
        group.throughput(Throughput::Bytes(2 * bytes));
        group.bench_function("copy", |b| b.iter(|| self.y.copy_from_slice(black_box(&self.x))));
        group.throughput(Throughput::Bytes(3 * bytes));
        group.bench_function("triad", |b| b.iter(|| triad(black_box(&self.x), &self.residual, &mut self.y)));
        for (kernel, centred) in [("layer_norm", true), ("rms_norm", false)] {
            let (norm, affine) = self.norm(centred);
            group.throughput(Throughput::Bytes(2 * bytes));
            group.bench_function(format!("{kernel} forward"), |b| {
                b.iter(|| {
                    norm.forward(black_box(&self.x), &affine, &mut self.y, Some(&mut self.statistics)).expect(fits)
                });
            });
            group.throughput(Throughput::Bytes(4 * bytes));
            group.bench_function(format!("add {kernel} forward"), |b| {
                b.iter(|| {
                    let out = [&mut self.sum[..], &mut self.y];
                    norm.add_forward([black_box(&self.x), &self.residual], &affine, out, None).expect(fits)
                });
            });
            group.throughput(Throughput::Bytes(3 * bytes));
            group.bench_function(format!("{kernel} backward"), |b| {
                b.iter(|| {
                    let dy = Cotangents { output: &self.dy, sum: None };
                    norm.backward(black_box(&self.x), &affine, dy, Some(&self.statistics), &mut self.y).expect(fits)
                });
            });
        }
        group.finish();
    }
}

fn triad<S: Storage>(a: &[S], b: &[S], out: &mut [S]) {
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = S::narrow(b.widen().fma(S::Real::of(3.0), a.widen()));
    }
}

/// Forward and backward of candle's differentiable norm, which needs candle's tape, against the kernel on slices and as
/// an op on the same tape, whose own work (gradients of zeros that are added to, allocations) both pay for.
fn against_candle((rows, width): (usize, usize)) -> candle_core::Result<Value> {
    let of = |shape: &[usize], k: usize| {
        let n: usize = shape.iter().product();
        let numbers: Vec<f32> = (0..n).map(|i| ((i * 7919 + k) % 1009) as f32 / 500.0 - 1.0).collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu)
    };
    let var = |shape: &[usize], k| Var::from_tensor(&of(shape, k)?);
    let (x, gain, bias) = (var(&[rows, width], 0)?, var(&[width], 1)?, var(&[width], 2)?);
    // The tape starts with a cotangent of ones, which costs both the same.
    let step = |forward: &dyn Fn() -> candle_core::Result<Tensor>| {
        black_box(forward().and_then(|y| y.backward()).expect("it has gradients"));
    };
    let ours = || normative::kernels::layer_norm(&x, Some(&gain), Some(&bias), 1e-5).map_err(candle_core::Error::wrap);
    let candles = || candle_nn::ops::layer_norm_slow(&x, &gain, &bias, 1e-5);
    let mut data = Data::<f32>::new((rows, width));
    let (norm, affine) = data.norm(true);
    let mut dx = data.sum.clone();
    let mut alone = || {
        norm.forward(&data.x, &affine, &mut data.y, Some(&mut data.statistics)).expect(FITS);
        let dy = Cotangents { output: &data.dy[..], sum: None };
        drop(black_box(norm.backward(&data.x, &affine, dy, Some(&data.statistics), &mut dx).expect(FITS)));
    };
    let [alone, ours, candles] = fastest(9, [&mut alone, &mut || step(&ours), &mut || step(&candles)]);
    Ok(json!({
        "kernel": "layer_norm forward and backward", "dtype": "f32", "shape": [rows, width],
        "candle_over_kernel": candles / alone, "candle_over_kernel_on_tape": candles / ours,
    }))
}

fn ratios() -> Vec<Value> {
    let mut all = Vec::new();
    for (kernel, centred) in [("layer_norm", true), ("rms_norm", false)] {
        for dims in SHAPES {
            all.push(Data::<f32>::new(dims).ratios(kernel, "f32", centred));
            all.push(Data::<bf16>::new(dims).ratios(kernel, "bf16", centred));
        }
    }
    all.extend(SHAPES[..2].iter().map(|dims| against_candle(*dims).expect("candle's operations run")));
    all
}

fn main() {
    for variable in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: no other thread exists yet. As the command does: candle reads these.
        unsafe { std::env::set_var(variable, "1") };
    }
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("no pool was started before");
    if !std::env::args().any(|argument| argument == "ratios") {
        let mut criterion = Criterion::default().configure_from_args();
        for dims in SHAPES {
            Data::<f32>::new(dims).criterion(&mut criterion, "f32");
        }
        for dims in [SHAPES[0], SHAPES[3]] {
            Data::<bf16>::new(dims).criterion(&mut criterion, "bf16");
        }
        criterion.final_summary();
    }
    let all = ratios();
    all.iter().for_each(|ratio| println!("{ratio}"));
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let text = serde_json::to_string_pretty(&all).expect("numbers are JSON");
    std::fs::write(format!("{target}/kernels.json"), text).expect("the target folder can be written");
}
