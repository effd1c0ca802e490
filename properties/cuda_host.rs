//! The CUDA kernels' own source, run on the CPU under a shim: within the bounds of the CPU kernels on the whole corpus of
//! edge inputs, for tensors that are aligned and for those that are not; groups, softmax and activations; planted faults.

#[path = "kernels/cases.rs"]
#[allow(dead_code)]
mod cases;
#[path = "cuda/host.rs"]
mod host;
#[path = "kernels/judge.rs"]
#[allow(dead_code)]
mod judge;

use cases::{Case, corpus};
use half::{bf16, f16};
use host::{Host, Stored};
use judge::{backward, forward};
use normative::kernels::Curve;
use normative::random::Stream;

/// Of the CPU's corpus, what the device's kernels have: no cotangent of a sum. And more rows than one thread merges.
fn cases<S: Stored>() -> impl Iterator<Item = Case<S>> {
    let rows = |rows: usize| Case::new("strips", 9, true, 1e-5, Stream::new(7, &[]).normals(rows * 9));
    corpus::<S>().into_iter().filter(|case| case.dsum.is_none()).chain([rows(64 * 64), rows(64 * 70 + 3)])
}

fn failures<S: Stored>(host: &Host, cases: impl Iterator<Item = Case<S>>) -> Vec<String> {
    cases.flat_map(|case| [forward(host, &case), backward(host, &case)]).filter_map(|judged| judged.err()).collect()
}

fn all_within_bounds<S: Stored>() {
    let mut host = Host::new::<S>("norm", None);
    for aligned in [true, false] {
        host.aligned = aligned;
        let found = failures(&host, cases::<S>());
        assert!(found.is_empty(), "aligned {aligned}: {} failures, {:#?}", found.len(), &found[..found.len().min(8)]);
    }
    groups_are_normalized_as_if_alone::<S>(&host);
    a_sum_is_normalized_as_rounded::<S>(&host);
}

#[test]
fn f32_is_within_its_rounding_bounds() {
    all_within_bounds::<f32>();
}

#[test]
fn f64_is_within_its_rounding_bounds() {
    all_within_bounds::<f64>();
}

#[test]
fn bf16_is_within_its_rounding_bounds() {
    all_within_bounds::<bf16>();
}

#[test]
fn f16_is_within_its_rounding_bounds() {
    all_within_bounds::<f16>();
}

/// To the bit, gradients of gain and bias included.
fn groups_are_normalized_as_if_alone<S: Stored>(host: &Host) {
    for (width, rows) in [(33, 70), (64, 3), (4096, 2), (17, 64)] {
        let groups = 3;
        let normals = |seed, n| Stream::new(seed, &[]).normals(n);
        let mut all = Case::<S>::new("groups", width, true, 1e-5, normals(1, groups * rows * width));
        let parameters = |seed| normals(seed, groups * width).into_iter().map(S::of).collect::<Vec<S>>();
        (all.gain, all.bias) = (parameters(2), Some(parameters(3)));
        let (y, back) = (host.normalize(&all, groups), host.pull_back(&all, groups));
        for g in 0..groups {
            let (own, values) = (g * width..(g + 1) * width, g * rows * width..(g + 1) * rows * width);
            let alone = Case {
                x: all.x[values.clone()].to_vec(),
                dy: all.dy[values.clone()].to_vec(),
                gain: all.gain[own.clone()].to_vec(),
                bias: all.bias.as_ref().map(|b| b[own.clone()].to_vec()),
                ..all.clone()
            };
            let back_alone = host.pull_back(&alone, 1);
            assert_eq!(y[values.clone()], host.normalize(&alone, 1), "width {width}, group {g}");
            assert_eq!(Some(&back.dx.as_ref().unwrap()[values]), back_alone.dx.as_deref());
            assert_eq!(Some(&back.dgain.as_ref().unwrap()[own.clone()]), back_alone.dgain.as_deref());
            assert_eq!(Some(&back.dbias.as_ref().unwrap()[own]), back_alone.dbias.as_deref());
        }
    }
}

fn a_sum_is_normalized_as_rounded<S: Stored>(host: &Host) {
    for width in [5, 64, 1024, 4096, 40_000] {
        let normals = |seed| Stream::new(seed, &[]).normals(3 * width);
        let case = Case::<S>::new("sum", width, true, 1e-5, normals(1));
        let residual: Vec<S> = normals(2).into_iter().map(S::of).collect();
        let x = case.x.iter().zip(&residual).map(|(x, r)| S::narrow(x.widen() + r.widen())).collect();
        let of_sum = Case { x, ..case.clone() };
        let (sum, y) = host.add_normalize(&case, &residual);
        assert_eq!((&sum, y), (&of_sum.x, host.normalize(&of_sum, 1)), "width {width}");
    }
}

/// u and v as in bounds.rs; an exponential of the device is within 2 units in the last place, 4 u.
fn assert_near<S: Stored>(got: S, exact: f64, of_computed: f64, what: &dyn Fn() -> String) {
    let bound = of_computed * (1.0 + S::STORE_ROUNDOFF) + S::STORE_ROUNDOFF * exact.abs() + 2.0 * S::TINY;
    assert!((got.value() - exact).abs() <= bound, "{}: {:e} for {exact:e}, bound {bound:e}", what(), got.value());
}

/// `e = exp(x - largest)`: the difference, of at most `range`, is rounded, so e errs by `(range + 4) u`; the sum by `h u` more.
fn softmax_is_near_its_definition<S: Stored>() {
    let mut host = Host::new::<S>("softmax", None);
    for (width, rows) in [(1, 3), (5, 40), (16, 9), (64, 20), (129, 4), (768, 3), (1024, 2), (5000, 2)] {
        let x: Vec<S> = Stream::new(3, &[]).normals(rows * width).into_iter().map(S::of).collect();
        let dy: Vec<S> = Stream::new(4, &[]).normals(rows * width).into_iter().map(S::of).collect();
        for aligned in [true, false] {
            host.aligned = aligned;
            let h = width as f64;
            let y = host.softmax(&x, rows, width);
            let dx = host.softmax_backward(&y, &dy, rows, width);
            for r in 0..rows {
                let row = |v: &[S]| v[r * width..(r + 1) * width].iter().map(|v| v.value()).collect::<Vec<_>>();
                let (x, stored, dy) = (row(&x), &y[r * width..], row(&dy));
                let y: Vec<f64> = stored[..width].iter().map(|y| y.value()).collect();
                let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let range = largest - x.iter().copied().fold(f64::INFINITY, f64::min);
                let total: f64 = x.iter().map(|x| (x - largest).exp()).sum();
                let along: f64 = y.iter().zip(&dy).map(|(y, dy)| y * dy).sum();
                let magnitude: f64 = y.iter().zip(&dy).map(|(y, dy)| (y * dy).abs()).sum();
                for i in 0..width {
                    let (at, exact) = (r * width + i, (x[i] - largest).exp() / total);
                    let what = || format!("softmax width {width} [{r}][{i}]");
                    // Twice, for the reference is in f64, too.
                    let relative = 2.0 * (2.0 * (range + 4.0) + h + 2.0) * S::U;
                    assert_near(stored[i], exact, relative * exact, &what);
                    let back = y[i] * (dy[i] - along);
                    let errs = y[i] * (h * magnitude + 2.0 * (dy[i].abs() + along.abs())) * S::U;
                    assert_near(dx[at], back, 2.0 * errs, &what);
                }
            }
        }
    }
}

#[test]
fn softmax_is_near_its_definition_in_every_type() {
    softmax_is_near_its_definition::<f32>();
    softmax_is_near_its_definition::<f64>();
    softmax_is_near_its_definition::<bf16>();
    softmax_is_near_its_definition::<f16>();
}

/// Against the CPU's kernel, which has the same formula: both err by the exponential or erf (4 u), by the rounding of its
/// argument (at most `h^2 u` of a term below 1/2, so less than u), and by at most 5 further roundings, of terms of at most max(1, |h|).
fn curves_are_the_cpus<S: Stored>() {
    use candle_core::{DType, Device, Tensor};
    let mut host = Host::new::<S>("curve", None);
    let special = [0.0, -0.0, 1e-30, -1e-30, 3.0, -3.0, 30.0, -30.0, f64::INFINITY, f64::NAN];
    let numbers = Stream::new(5, &[]).normals(246).into_iter().chain(special);
    let h: Vec<S> = numbers.map(S::of).collect();
    let dy: Vec<S> = Stream::new(6, &[]).normals(h.len()).into_iter().map(S::of).collect();
    let tensor = |v: &[S]| Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap();
    let values = |t: Tensor| t.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    for curve in [Curve::Relu, Curve::Gelu, Curve::Silu] {
        let y = values(normative::kernels::activation(curve, &tensor(&h)).unwrap());
        let dh = values(normative::kernels::activation_backward(curve, &tensor(&h), &tensor(&dy)).unwrap());
        for aligned in [true, false] {
            host.aligned = aligned;
            let (ours, back) = (host.curve(curve, &h, None), host.curve(curve, &h, Some(&dy)));
            for i in 0..h.len() {
                let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
                let errs = |scale: f64| (2.0 * 10.0 * S::U * h[i].value().abs().max(1.0) + S::STORE_ROUNDOFF) * scale;
                for (got, expected, scale) in
                    [(ours[i], y[i], h[i].value().abs()), (back[i], dh[i], dy[i].value().abs())]
                {
                    if !same(got.value(), expected) {
                        let what = || format!("{curve:?}({})", h[i].value());
                        assert_near(got, expected, errs(scale), &what);
                    }
                }
            }
        }
    }
}

#[test]
fn curves_are_the_cpus_in_every_type() {
    curves_are_the_cpus::<f32>();
    curves_are_the_cpus::<f64>();
    curves_are_the_cpus::<bf16>();
    curves_are_the_cpus::<f16>();
}

/// File, text and what it is changed to: what a wrong kernel would be.
const FAULTS: &[(&str, &str, &str)] = &[
    // A barrier is missing.
    ("rows.cuh", "            __syncthreads();\n            one = 0;", "            one = 0;"),
    // A lane has another's sum.
    ("rows.cuh", "LANES / M * m, LANES)", "LANES / M * (M - 1 - m), LANES)"),
    // The mean is taken to be 0.
    ("statistics.cuh", "moves == 3", "moves == 0"),
    // Deviations are summed about 0, and taken to be about the mean.
    ("norm.cu", "-s.shift * sums[0]", "Real(0)"),
    // The correction by the sum of deviations is dropped.
    ("statistics.cuh", "squares = about[1] - lost;", "squares = about[1];"),
    // The last vector of a row is left out.
    (
        "rows.cuh",
        "if (first + k * step < width) f(k, first + k * step, held[k]);",
        "if (first + k * step + V < width) f(k, first + k * step, held[k]);",
    ),
    // Chunks overlap.
    ("norm.cu", "blockIdx.x % chunks * rows", "blockIdx.x % chunks * (rows - 1)"),
    // A team's share is lost.
    ("norm.cu", "apart < 32; apart *= 2", "apart < 16; apart *= 2"),
    // A level of the tree skips its second half.
    ("norm.cu", "i += 2 * step) sums[i]", "i += 4 * step) sums[i]"),
    // No radial projection.
    ("norm.cu", "out[v] = fma(-z[v], along, g)", "out[v] = g"),
    // Squares that underflow are not noticed.
    ("statistics.cuh", "variance >= tiny()", "variance >= 0"),
];

#[test]
fn every_planted_fault_is_refuted() {
    let small = || cases::<f32>().filter(|case| case.x.len() < 50_000 && case.width != 1023 && case.width != 257);
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<_> = FAULTS
        .iter()
        .filter(|fault| {
            let host = Host::new::<f32>("norm", Some(**fault));
            let judge = std::panic::AssertUnwindSafe(|| {
                small().any(|c| forward(&host, &c).is_err() || backward(&host, &c).is_err())
            });
            // A race is a panic of the launch.
            !std::panic::catch_unwind(judge).unwrap_or(true)
        })
        .collect();
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not refuted: {missed:#?}");
}
