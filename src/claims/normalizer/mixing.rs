//! Softmax and matrices that mix streams: what needs no network.
//!
//! Each judge takes the function that it judges, so that a wrong one can be planted.

use nalgebra::DMatrix;

use crate::claims::subjects::{once, refuted};
use crate::claims::{About, Claim, Lab};
use crate::random::{Stream, name_key};
use crate::verify::{Evidence, Interval, Verdict};

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, plan| Claim {
        id,
        statement,
        source,
        domain: "any scores, any rows",
        about: About::Nothing,
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            "normalizer.softmax.jacobian_norm",
            "The norm of softmax's Jacobian from largest entries to sums is theta(p)/tau, theta = max over sets S of 4 p(S)(1 - p(S)).",
            "Emadi 2026, arXiv:2602.18849; zoo D70",
            |claim, _| once(claim, |lab, _| Ok(softmax_jacobian(lab.seed, softmax))),
        ),
        claim(
            "normalizer.softmax.convex",
            "Attention's output is within the range of its values, coordinate by coordinate: the exact form of DeepNet's Lemma 4.1.",
            "Wang et al. 2022, arXiv:2203.00555, Lemma 4.1; zoo D60",
            |claim, _| once(claim, |lab, _| Ok(vec![convex(lab.seed, softmax)])),
        ),
        Claim {
            expected: Verdict::Refuted,
            ..claim(
                "normalizer.softmax.keeps_magnitude",
                "softmax(q) X has the magnitude of the rows of X, whatever W_Q and W_K.",
                "Wang et al. 2022, arXiv:2203.00555, Lemma 4.1 read as an equality; zoo E29",
                |claim, _| {
                    refuted(
                        claim,
                        |lab, _| Ok(vec![magnitude(lab.seed, softmax)]),
                        |evidence| {
                            format!(
                                "uniform attention over independent rows shrinks them by sqrt(n): with 16 rows to {:.3} of their \
                             length; the lemma is an upper bound",
                                evidence[0].found
                            )
                        },
                    )
                },
            )
        },
        claim(
            "normalizer.mixing.doubly_stochastic_contracts",
            "Products of doubly stochastic matrices keep the mean over streams, and their norm is 1: mixing never grows.",
            "Xie et al. 2025 (mHC), arXiv:2512.24880; zoo D12",
            |claim, _| once(claim, |lab, _| Ok(mixing(lab, doubly_stochastic))),
        ),
    ]
}

/// exp(s)/sum exp(s).
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}

/// Brute force over all sign vectors, on the Jacobian diag(p) - p p^T of seven scores at several temperatures, against
/// the formula; and that Jacobian against central differences of the function itself.
pub fn softmax_jacobian(seed: u64, function: fn(&[f64]) -> Vec<f64>) -> Vec<Evidence> {
    const N: usize = 7;
    let scores = Stream::new(seed, &[name_key("scores")]).normals(N);
    let subsets = || 0..1usize << N;
    let of = |temperature: f64| {
        let p = function(&scores.iter().map(|s| s / temperature).collect::<Vec<_>>());
        let sign = |set: usize, i: usize| if set >> i & 1 == 1 { 1.0 } else { -1.0 };
        let reached = |set: usize| {
            let mean: f64 = (0..N).map(|i| p[i] * sign(set, i)).sum();
            (0..N).map(|i| (p[i] * (sign(set, i) - mean) / temperature).abs()).sum::<f64>()
        };
        let mass = |set: usize| (0..N).filter(|i| set >> i & 1 == 1).map(|i| p[i]).sum::<f64>();
        let norm = subsets().map(reached).fold(0.0, f64::max);
        let theta = subsets().map(|set| 4.0 * mass(set) * (1.0 - mass(set))).fold(0.0, f64::max);
        (norm - theta / temperature).abs()
    };
    let error = [0.5, 1.0, 2.0].map(of).into_iter().fold(0.0, f64::max);
    // Sums of N terms below 2/0.5, a few roundings each.
    let bound = 4.0 * (N * N) as f64 * f64::EPSILON;
    vec![Evidence::rounding("norm by brute force less theta/tau", error, bound), derivative(&scores, function)]
}

/// d p_i/d s_j = p_i (1[i = j] - p_j), by central differences with Richardson's step: the difference of the two steps is three
/// times the truncation error.
fn derivative(scores: &[f64], function: fn(&[f64]) -> Vec<f64>) -> Evidence {
    let h = f64::EPSILON.cbrt();
    let p = function(scores);
    let (mut error, mut bound) = (0.0f64, 0.0f64);
    for j in 0..scores.len() {
        let central = |h: f64| -> Vec<f64> {
            let at = |step: f64| {
                let mut moved = scores.to_vec();
                moved[j] += step;
                function(&moved)
            };
            at(h).iter().zip(at(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect()
        };
        for (i, (near, far)) in central(h).into_iter().zip(central(2.0 * h)).enumerate() {
            let expected = p[i] * (f64::from(u8::from(i == j)) - p[j]);
            error = error.max(((4.0 * near - far) / 3.0 - expected).abs());
            bound = bound.max((near - far).abs() + 64.0 * f64::EPSILON / h);
        }
    }
    Evidence::rounding("Jacobian against central differences", error, bound)
}

/// The largest excess of a weighted sum over the values it is of.
pub fn convex(seed: u64, weights: fn(&[f64]) -> Vec<f64>) -> Evidence {
    const N: usize = 16;
    let mut stream = Stream::new(seed, &[name_key("convex")]);
    let excess = |scale: f64| {
        let p = weights(&stream.normals(N).iter().map(|s| scale * s).collect::<Vec<_>>());
        let values = stream.normals(N);
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let sum: f64 = p.iter().zip(&values).map(|(p, v)| p * v).sum();
        (sum - high).max(low - sum)
    };
    let largest = [0.0, 1.0, 10.0, 100.0].map(excess).into_iter().fold(f64::NEG_INFINITY, f64::max);
    Evidence::exact("largest excess over the values' range", largest, Interval::at_most(N as f64 * f64::EPSILON))
}

/// Length of the average of 16 independent rows at equal scores, over theirs.
pub fn magnitude(seed: u64, weights: fn(&[f64]) -> Vec<f64>) -> Evidence {
    const N: usize = 16;
    const WIDTH: usize = 1024;
    let rows = DMatrix::from_vec(WIDTH, N, Stream::new(seed, &[name_key("magnitude")]).normals(WIDTH * N));
    let mean = &rows * nalgebra::DVector::from_vec(weights(&[0.0; N]));
    let ratio = mean.norm() / (rows.norm_squared() / N as f64).sqrt();
    // Equal magnitude up to a factor of two.
    Evidence::exact("length of uniform attention's output over that of a row", ratio, Interval::new(0.5, 2.0))
        .stating(1.0)
}

/// Products of 100 mixing matrices of four streams: the mean they keep, and the norm they have.
pub fn mixing(lab: &Lab, matrix: fn(&mut Stream) -> DMatrix<f64>) -> Vec<Evidence> {
    const STREAMS: usize = 4;
    const FACTORS: usize = 100;
    let mut stream = Stream::new(lab.seed, &[name_key("mixing")]);
    let product = (0..FACTORS).fold(DMatrix::identity(STREAMS, STREAMS), |product, _| matrix(&mut stream) * product);
    let means = product.row_sum() / STREAMS as f64;
    let error = means.iter().map(|m| (m - 1.0 / STREAMS as f64).abs()).fold(0.0, f64::max);
    let norm = product.singular_values().max();
    let bound = (FACTORS * STREAMS * STREAMS) as f64 * f64::EPSILON;
    vec![
        Evidence::rounding("change of the mean over streams", error, bound),
        Evidence::exact("norm of the product", norm, Interval::around(1.0, bound)).stating(1.0),
    ]
}

/// A random doubly stochastic matrix, by Sinkhorn's alternation until nothing moves.
pub fn doubly_stochastic(stream: &mut Stream) -> DMatrix<f64> {
    let mut m = DMatrix::from_vec(4, 4, stream.normals(16)).map(f64::exp);
    for _ in 0..1000 {
        for mut row in m.row_iter_mut() {
            let sum = row.sum();
            row /= sum;
        }
        for mut column in m.column_iter_mut() {
            let sum = column.sum();
            column /= sum;
        }
    }
    m
}
