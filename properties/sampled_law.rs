//! The exact law without weights against real networks in distribution, and the laws of fluctuation that it gives at depth.

use candle_core::{DType, Device};
use normative::execute::{Measurement, measure};
use normative::fold::Graph;
use normative::op::Registry;
use normative::profile::{Draws, Layout, Place, Quantity};
use normative::sample::sample;
use normative::spec::{File, InitLaw, Placement, Setting, Shape};
use normative::zoo;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rayon::prelude::*;

#[path = "generate/placement.rs"]
mod generate;
mod support;

/// The chance that a whole test of this file alarms although the laws are equal.
const FALSE_ALARM: f64 = 1e-9;

/// Draws on either side.
const DRAWS: usize = 160;

/// The Kolmogorov-Smirnov distance of two samples: the largest difference of their distribution functions.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let sorted = |v: &[f64]| {
        let mut v = v.to_vec();
        v.sort_by(f64::total_cmp);
        v
    };
    let (a, b) = (sorted(a), sorted(b));
    let below = |v: &[f64], x: f64| v.partition_point(|y| *y <= x) as f64 / v.len() as f64;
    a.iter().chain(&b).map(|x| (below(&a, *x) - below(&b, *x)).abs()).fold(0.0, f64::max)
}

/// The distance that two samples of n of one law exceed with a chance of at most `level`: for equal sizes
/// P(sqrt(n/2) D >= M) <= e exp(-2 M^2), every n (Wei & Dudley 2012, Statist. Probab. Lett. 82, Theorem 1). Ties make it safer.
fn critical(n: usize, level: f64) -> f64 {
    ((1.0 - level.ln()) / 2.0).sqrt() / (n as f64 / 2.0).sqrt()
}

fn column(draws: &Draws, figure: usize) -> Vec<f64> {
    draws.rows.iter().map(|row| row[figure]).collect()
}

/// The figures whose laws differ at a level shared by `figures` comparisons.
fn apart(sampled: &Draws, measured: &Draws, figures: usize) -> Vec<String> {
    let critical = critical(DRAWS, FALSE_ALARM / figures as f64);
    let layout = &sampled.layout;
    let differs = |figure: &usize| {
        let (s, m) = (column(sampled, *figure), column(measured, *figure));
        // What rounding alone decides has no law to compare: a norm's second moment, a gradient that cancels to zero.
        let scale = s.iter().chain(&m).fold(0.0f64, |a, v| a.max(v.abs()));
        let spread = s.iter().chain(&m).fold(0.0f64, |a, v| a.max((v - s[0]).abs()));
        let cancelled = matches!(layout.figures[*figure].0, Place::Parameter(_)) && scale < f64::from(f32::EPSILON);
        let rounded = spread <= f64::from(f32::EPSILON).sqrt() * scale;
        !rounded && !cancelled && distance(&s, &m) > critical
    };
    (0..layout.figures.len()).filter(differs).map(|figure| layout.name(figure)).collect()
}

fn measured(graph: &Graph) -> Draws {
    let how = Measurement { seeds: DRAWS, first_seed: 900, device: Device::Cpu, dtype: DType::F32 };
    measure(graph, &how).unwrap()
}

fn small(placement: &Placement, shape: Shape, registry: &Registry) -> Graph {
    with_init(placement, shape, placement.overrides.setting().unwrap().init, registry)
}

fn shape_of(width: usize, blocks: usize, tokens: usize) -> Shape {
    Shape { width, blocks, tokens, heads: (width / 16).max(1), ffn_width: 2 * width, causal: tokens % 2 == 1 }
}

/// The network with weights of a law.
fn with_init(placement: &Placement, shape: Shape, init: InitLaw, registry: &Registry) -> Graph {
    let setting = Setting { init, ..placement.overrides.setting().unwrap() };
    Graph::new(&placement.at(shape).unwrap(), &setting, registry).unwrap()
}

/// The networks whose sampled law is not the measured one, with the figures that differ, at a level shared by all figures.
fn failed(cases: &[(String, Graph)], seed: u64) -> Vec<String> {
    let figures = cases.iter().map(|(_, g)| Layout::new(g).figures.len()).sum();
    let judge = |(text, graph): &(String, Graph)| {
        let sampled = match sample(graph, DRAWS, seed) {
            Ok(sampled) => sampled,
            // An init law without a rule is refused with the reason, never sampled wrongly.
            Err(refused) => return Some(refused.to_string()).filter(|r| !r.contains("not for init")),
        };
        let apart = apart(&sampled, &measured(graph), figures);
        (!apart.is_empty()).then(|| format!("{apart:?} of\n{text}"))
    };
    cases.par_iter().filter_map(judge).collect()
}

fn built_ins(blocks: usize, tokens: usize, init: InitLaw, registry: &Registry) -> Vec<(String, Graph)> {
    let all = zoo::all(&registry.vocabulary()).unwrap();
    let graph = |(i, placement): (usize, &Placement)| {
        let shape = shape_of(32, blocks, tokens + i % 3);
        (placement.name.clone(), with_init(placement, shape, init, registry))
    };
    all.iter().enumerate().map(graph).collect()
}

/// Random placements with their own init law, or that given.
fn random(count: usize, init: Option<InitLaw>, registry: &Registry) -> Vec<(String, Graph)> {
    let mut runner = TestRunner::deterministic();
    let mut cases = Vec::new();
    while cases.len() < count {
        let text = generate::tame().new_tree(&mut runner).unwrap().current().text();
        let placement = support::placement(&text, registry).unwrap();
        let shape = shape_of(32, 1 + cases.len() % 5, 1 + cases.len() % 7);
        let init = init.unwrap_or(placement.overrides.setting().unwrap().init);
        cases.push((text, with_init(&placement, shape, init, registry)));
    }
    cases
}

#[test]
fn sampled_equals_measured_in_distribution_for_every_built_in() {
    let failed = failed(&built_ins(4, 4, InitLaw::Gaussian, &Registry::builtin()), 3);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn sampled_equals_measured_in_distribution_for_every_built_in_with_orthogonal_weights() {
    // As many tokens as half the width allows: there the law differs most from the Gaussian one.
    let failed = failed(&built_ins(2, 14, InitLaw::Orthogonal, &Registry::builtin()), 5);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn sampled_equals_measured_in_distribution_for_random_placements() {
    let failed = failed(&random(48, None, &Registry::builtin()), 4);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn sampled_equals_measured_in_distribution_for_random_placements_with_orthogonal_weights() {
    let failed = failed(&random(24, Some(InitLaw::Orthogonal), &Registry::builtin()), 6);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A single token that attends to itself passes W_V and W_O alone. Orthogonal ones keep its length at any depth, Gaussian
/// ones spread it: the law of either, planted for networks of the other, is found.
#[test]
fn the_law_of_another_init_is_found() {
    let registry = Registry::builtin();
    let text = "name = \"values\"\nlayer = \"x = attn(x)\"";
    let placement = Placement::new(File::parse("values.toml", text).unwrap(), &registry.vocabulary()).unwrap();
    let laws = [InitLaw::Gaussian, InitLaw::Orthogonal];
    let graphs = laws.map(|init| with_init(&placement, shape_of(32, 16, 1), init, &registry));
    for (drawn, real) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let sampled = sample(&graphs[drawn], DRAWS, 5).unwrap();
        let apart = apart(&sampled, &measured(&graphs[real]), sampled.layout.figures.len());
        assert_eq!(apart.is_empty(), drawn == real, "{:?} for {:?}: {apart:?}", laws[drawn], laws[real]);
    }
}

/// A planted fault: W_O of the sampled network is a quarter larger than that of the measured one.
#[test]
fn a_wrong_variance_of_one_matrix_is_found() {
    let registry = Registry::builtin();
    let placement = zoo::placement("pre-ln", &registry.vocabulary()).unwrap();
    let text = format!("{}\ninit = {{ w_o = \"1.25\" }}", placement.text.content.split("\n#").next().unwrap());
    let faulty = Placement::new(File::parse("faulty.toml", &text).unwrap(), &registry.vocabulary()).unwrap();
    let shape = shape_of(32, 4, 5);
    let sampled = sample(&small(&faulty, shape, &registry), DRAWS, 3).unwrap();
    let figures = sampled.layout.figures.len();
    assert!(!apart(&sampled, &measured(&small(&placement, shape, &registry)), figures).is_empty());
}

/// Mean and variance of ln of a figure.
fn log_moments(draws: &Draws, place: Place, quantity: Quantity) -> (f64, f64) {
    let figure = draws.layout.figures.iter().position(|f| *f == (place, quantity)).unwrap();
    let logs: Vec<f64> = column(draws, figure).iter().map(|v| v.ln()).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    (mean, logs.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0))
}

/// In a stack without norms or skips ln of the second moment, and of the gradient, is a sum of independent terms, one a
/// matrix: variance N (2/d + 5/n_h), to leading order in 1/width (Hanin & Nica 2018, arXiv:1812.05994, Theorem 1), mean minus half of it.
#[test]
fn log_norms_of_a_plain_stack_spread_as_depth_over_width_to_depth_1000() {
    let registry = Registry::builtin();
    let text = "name = \"plain\"\nlayer = \"x = ffn(x)\"\ninit = { w_1 = \"sqrt(2)\" }";
    let placement = Placement::new(File::parse("plain.toml", text).unwrap(), &registry.vocabulary()).unwrap();
    for (blocks, width) in [(10, 64), (100, 256), (1000, 1024)] {
        let shape = Shape { width, blocks, tokens: 1, heads: 1, ffn_width: width, causal: false };
        let graph = Graph::new(&placement.at(shape).unwrap(), &Setting::standard(), &registry).unwrap();
        let draws = 400;
        let sampled = sample(&graph, draws, 1).unwrap();
        let beta = blocks as f64 * (2.0 + 5.0) / width as f64;
        // The next order of the logarithm's variance is the skewness of a term, of order 1/width of the first.
        let order = 1.0 + 16.0 / width as f64;
        for (place, quantity) in [(Place::Output, Quantity::SecondMoment), (Place::Input, Quantity::Gradient)] {
            let (mean, variance) = log_moments(&sampled, place, quantity);
            // Six standard errors of a Gaussian's variance and mean: a chance of 2e-9.
            let reach = 6.0 * (2.0 / draws as f64).sqrt();
            assert!((variance / beta - 1.0).abs() < reach + (order - 1.0), "{blocks} blocks: {variance} for {beta}");
            let reach = 6.0 * (beta / draws as f64).sqrt() + beta * (order - 1.0);
            assert!((mean + beta / 2.0).abs() < reach, "{blocks} blocks: mean {mean} for {}", -beta / 2.0);
        }
    }
}

/// Pre-LN's second moment concentrates whatever the depth: its relative variance goes to 2/d
/// (sum over l of [4 q_l v/d + v^2 (2/d + 5/n_h)]/q_N^2 plus the input's 2/d/q_N^2, own, theory of fluctuations).
#[test]
fn pre_ln_second_moment_does_not_fluctuate_more_with_depth() {
    let registry = Registry::builtin();
    let text = "name = \"pre-ffn\"\nlayer = \"x = x + ffn(norm(x))\"\n[setting]\nnormalizer = \"rms_norm\"\neps = 0.0";
    let placement = Placement::new(File::parse("pre-ffn.toml", text).unwrap(), &registry.vocabulary()).unwrap();
    let (d, hidden, v, draws) = (64.0, 128.0, 0.5, 300);
    for blocks in [4, 64, 1000] {
        let shape = Shape { width: 64, blocks, tokens: 1, heads: 1, ffn_width: 128, causal: false };
        let sampled = sample(&small(&placement, shape, &registry), draws, 2).unwrap();
        let figure = sampled.layout.figures.iter().position(|f| *f == (Place::Output, Quantity::SecondMoment)).unwrap();
        let values = column(&sampled, figure);
        let mean = values.iter().sum::<f64>() / draws as f64;
        let variance = values.iter().map(|q| (q - mean).powi(2)).sum::<f64>() / (draws - 1) as f64;
        let last = 1.0 + v * blocks as f64;
        let law: f64 = (0..blocks).map(|l| 4.0 * (1.0 + v * l as f64) * v / d + v * v * (2.0 / d + 5.0 / hidden)).sum();
        let law = (law + 2.0 / d) / (last * last);
        // Six standard errors of the mean and, for a chi-square of d degrees, of the variance.
        assert!((mean / last - 1.0).abs() < 6.0 * (law / draws as f64).sqrt(), "{blocks}: {mean} for {last}");
        let reach = 6.0 * ((2.0 + 12.0 / d) / draws as f64).sqrt();
        assert!((variance / mean / mean / law - 1.0).abs() < reach, "{blocks}: {} for {law}", variance / mean / mean);
    }
}
