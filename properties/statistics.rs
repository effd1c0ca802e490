//! That the stated error rates hold: A/A and A/B rates, coverage under optional stopping, exact pivots, power.

use candle_core::{DType, Device};
use normative::execute::{Weights, draw_cotangent, draw_input, run};
use normative::fold::Graph;
use normative::op::{Parameters, Registry};
use normative::profile::Layout;
use normative::random::Stream;
use normative::spec::{Setting, Shape};
use normative::verify::{
    Evidence, Interval, Observed, Pivot, Verdict, chi_square, chi_square_quantiles, clopper_pearson, entries, pivots,
    places, resolved_margin, squares,
};
use normative::zoo;
use rayon::prelude::*;

/// The rate at which a calibration test itself may be wrong.
const WRONG: f64 = 1e-9;

/// By how much the rate of `Evidence::mean` may exceed its alpha on seeds as skewed as its page allows (ln variance 0.1).
const SKEWED: f64 = 2.0;

fn rate(count: usize, runs: usize) -> Interval {
    let (from, to) = clopper_pearson(count as f64, runs as f64, WRONG);
    Interval::new(from, to)
}

/// How many of the runs give an interval without the truth.
fn misses(runs: usize, truth: f64, run: impl Fn(&mut Stream) -> Evidence + Sync) -> usize {
    let missed = |index: usize| {
        let interval = run(&mut Stream::new(index as u64, &[99])).interval;
        !(interval.from <= truth && truth <= interval.to)
    };
    (0..runs).into_par_iter().filter(|index| missed(*index)).count()
}

const ANY: Interval = Interval { from: f64::NEG_INFINITY, to: f64::INFINITY };

/// Laws of one value a seed: name, draw, mean, variance.
type Law = (&'static str, fn(&mut Stream) -> f64, f64, f64);

fn laws() -> [Law; 4] {
    let log_normal = |stream: &mut Stream| stream.normal().exp();
    let student = |stream: &mut Stream| {
        let chi: f64 = stream.normals(3).iter().map(|z| z * z).sum();
        stream.normal() / (chi / 3.0).sqrt()
    };
    let e = 1f64.exp();
    [
        ("normal", |stream| stream.normal(), 0.0, 1.0),
        ("log-normal", log_normal, e.sqrt(), e * (e - 1.0)),
        ("chi-square", |stream| stream.normals(2).iter().map(|z| z * z).sum(), 2.0, 4.0),
        ("student 3", student, 0.0, 3.0),
    ]
}

#[test]
fn a_pivot_under_its_own_law_alarms_at_its_alpha() {
    const RUNS: usize = 100_000;
    let (degrees, alpha) = (10, 1e-2);
    let (low, high) = chi_square_quantiles(degrees as f64, alpha / 2.0);
    let statistic =
        |index: usize| -> f64 { Stream::new(index as u64, &[1]).normals(degrees).iter().map(|z| z * z).sum() };
    let alarms = (0..RUNS).into_par_iter().filter(|i| !(low..=high).contains(&statistic(*i))).count();
    let found = rate(alarms, RUNS);
    assert!(found.from <= alpha && alpha <= found.to, "{alarms} alarms of {RUNS} at {alpha}");
    // The interval and the quantiles say the same.
    for index in 0..200 {
        let interval = Evidence::pivot("a", statistic(index), degrees as f64, 0.1, alpha).interval;
        let inside = interval.from <= 1.0 && 1.0 <= interval.to;
        assert_eq!(inside, (low..=high).contains(&statistic(index)));
    }
}

#[test]
fn the_mean_of_normal_seeds_alarms_at_its_alpha_in_one_group_and_in_two() {
    for (seeds, alpha, runs) in [(16, 1e-2, 20_000), (16, 1e-4, 20_000)] {
        let missed = misses(runs, 1.0, |stream| {
            let values: Vec<f64> = stream.normals(seeds).into_iter().map(|z| 1.0 + z).collect();
            Evidence::mean("mean", &values, ANY, alpha)
        });
        let found = rate(missed, runs);
        assert!(found.from <= alpha && alpha <= found.to, "{missed} of {runs} at {alpha:e}");
    }
}

#[test]
fn the_mean_of_mildly_skewed_seeds_alarms_at_most_twice_as_often() {
    let (beta, alpha, runs) = (0.1f64, 1e-2, 20_000);
    let missed = misses(runs, (beta / 2.0).exp(), |stream| {
        let values: Vec<f64> = stream.normals(64).into_iter().map(|z| (beta.sqrt() * z).exp()).collect();
        Evidence::mean("mean", &values, ANY, alpha)
    });
    println!("log-normal seeds, ln variance {beta}: {missed} of {runs} at {alpha}");
    assert!(rate(missed, runs).from <= SKEWED * alpha, "{missed} of {runs}");
}

#[test]
fn log_normal_and_catoni_cover_where_students_interval_does_not() {
    let (alpha, runs, seeds) = (1e-2, 10_000, 40);
    let draw = |stream: &mut Stream| stream.normals(seeds).into_iter().map(f64::exp).collect::<Vec<_>>();
    let (_, _, mean, variance) = laws()[1];
    let rates = [
        misses(runs, mean, |stream| Evidence::log_normal("l", &draw(stream), ANY, alpha)),
        misses(runs, mean, |stream| Evidence::catoni("c", &draw(stream), variance, ANY, alpha)),
        misses(runs, mean, |stream| Evidence::mean("m", &draw(stream), ANY, alpha)),
    ];
    println!("log-normal seeds, ln variance 1: misses of {runs} by log-normal, Catoni, Student: {rates:?}");
    assert!(rate(rates[0], runs).from <= alpha && rate(rates[1], runs).from <= alpha, "{rates:?}");
    assert!(rate(rates[2], runs).from > alpha, "{rates:?}: the law that Student's interval is kept from");
}

#[test]
fn the_exponent_of_a_mean_is_covered_where_that_of_single_draws_is_another() {
    let (alpha, runs, seeds, ratio) = (1e-2, 10_000, 48, 4.0f64);
    // ln y has mean 0 and variance 1.5 at a, mean 1 and variance 0.25 at b, and they are correlated.
    let pairs = |stream: &mut Stream| -> Vec<(f64, f64)> {
        let z = stream.normals(2 * seeds);
        let pair = |z: &[f64]| ((1.5f64.sqrt() * z[0]).exp(), (1.0 + 0.5 * (0.6 * z[0] + 0.8 * z[1])).exp());
        z.chunks_exact(2).map(pair).collect()
    };
    let (single, truth) = (1.0 / ratio.ln(), (1.0 + (0.25 - 1.5) / 2.0) / ratio.ln());
    let exponent = |stream: &mut Stream| Evidence::exponent("e", &pairs(stream), ratio, ANY, alpha);
    let missed = misses(runs, truth, exponent);
    assert!(rate(missed, runs).from <= alpha, "{missed} of {runs}");
    // A line through logarithms finds the exponent of single draws, surely not the mean's.
    let line = |stream: &mut Stream| {
        let lines: Vec<Vec<(f64, f64)>> =
            pairs(stream).iter().map(|(a, b)| vec![(0.0, a.ln()), (ratio.ln(), b.ln())]).collect();
        Evidence::slope("s", &lines, ANY, alpha)
    };
    assert!(rate(misses(runs, single, line), runs).from <= alpha);
    assert!(rate(misses(runs, truth, line), runs).from > 0.5);
}

#[test]
fn catoni_covers_every_law_of_known_variance() {
    let (alpha, runs) = (1e-2, 4_000);
    for (name, draw, mean, variance) in laws() {
        let missed = misses(runs, mean, |stream| {
            let values: Vec<f64> = (0..60).map(|_| draw(stream)).collect();
            Evidence::catoni(name, &values, variance, ANY, alpha)
        });
        assert!(rate(missed, runs).from <= alpha, "{name}: {missed} of {runs}");
    }
}

/// One number of a law.
type Draw = fn(&mut Stream) -> f64;

/// Values squeezed into (0, 1) so that their mean is one half: each law is symmetric behind its squeeze.
fn squeezed() -> [(&'static str, Draw); 4] {
    fn logistic(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }
    [
        ("normal", |stream| logistic((laws()[0].1)(stream))),
        ("log-normal", |stream| logistic((laws()[1].1)(stream).ln())),
        ("chi-square", |stream| (-(laws()[2].1)(stream) / 2.0).exp()),
        ("student 3", |stream| logistic((laws()[3].1)(stream))),
    ]
}

/// In how many runs some look, at every eighth value, excludes the mean.
fn ever_missed(runs: usize, draw: fn(&mut Stream) -> f64, at: impl Fn(&[f64]) -> Evidence + Sync) -> usize {
    let missed = |index: usize| {
        let mut stream = Stream::new(index as u64, &[5]);
        let values: Vec<f64> = (0..240).map(|_| draw(&mut stream)).collect();
        (8..=values.len()).step_by(8).any(|n| {
            let interval = at(&values[..n]).interval;
            !(interval.from <= 0.5 && 0.5 <= interval.to)
        })
    };
    (0..runs).into_par_iter().filter(|index| missed(*index)).count()
}

#[test]
fn a_confidence_sequence_covers_at_every_stopping_time_and_a_fixed_interval_does_not() {
    let (alpha, runs) = (5e-2, 1_000);
    let limits = Interval::new(0.0, 1.0);
    for (name, draw) in squeezed() {
        let sequence = ever_missed(runs, draw, |seen| Evidence::bounded(name, seen, limits, ANY, alpha));
        assert!(rate(sequence, runs).from <= alpha, "{name}: {sequence} of {runs}");
    }
    let peeked = ever_missed(runs, squeezed()[0].1, |seen| Evidence::mean("peeking", seen, ANY, alpha));
    assert!(rate(peeked, runs).from > alpha, "{peeked} of {runs}: peeking was not seen");
}

#[test]
fn an_effect_of_twice_the_margin_is_missed_no_more_often_than_stated() {
    const RUNS: usize = 200_000;
    let (degrees, alpha) = (1_000.0, 1e-6);
    let statistic =
        |index: usize| -> f64 { Stream::new(index as u64, &[2]).normals(degrees as usize).iter().map(|z| z * z).sum() };
    let (_, above) = chi_square_quantiles(degrees, alpha / 2.0);
    let missed = |margin: f64| {
        let refuted = |s: f64| s * (1.0 + 2.0 * margin) / above > 1.0 + margin;
        (0..RUNS).into_par_iter().filter(|i| !refuted(statistic(*i))).count()
    };
    // At the margin that the degrees resolve, the stated rate is an upper bound.
    let margin = resolved_margin(degrees, alpha);
    let (_, to) = clopper_pearson(missed(margin) as f64, RUNS as f64, 1e-6);
    assert!(to <= 1e-3, "{}", missed(margin));
    // At two thirds of it misses are frequent, and as frequent as stated.
    let narrow = margin * 2.0 / 3.0;
    let beta = Evidence::pivot("narrow", degrees, degrees, narrow, alpha).beta.unwrap();
    let found = rate(missed(narrow), RUNS);
    assert!(found.from <= beta && beta <= found.to, "{found:?} {beta}");
}

fn graph(name: &str, shape: Shape) -> Graph {
    let registry = Registry::builtin();
    let placement = zoo::placement(name, &registry.vocabulary()).unwrap();
    Graph::new(&placement.at(shape).unwrap(), &Setting::standard(), &registry).unwrap()
}

/// Every placement of the zoo: at each matrix, forward and back, the statistics are chi-square, and all together uniform.
#[test]
fn pivots_are_chi_square_at_every_matrix_of_every_placement() {
    let registry = Registry::builtin();
    let shape = Shape { width: 32, blocks: 3, tokens: 6, heads: 2, ffn_width: 64, causal: true };
    let mut ranks = Vec::new();
    let mut judged = 0;
    for name in zoo::names() {
        let placement = zoo::placement(name, &registry.vocabulary()).unwrap();
        let Ok(concrete) = placement.at(shape) else { continue };
        let setting = placement.overrides.setting().unwrap();
        let graph = Graph::new(&concrete, &setting, &registry).unwrap();
        let seeds = (0..12u64).into_par_iter().map(|seed| pivots(&graph, &Observed::seed(&graph, seed).unwrap()));
        let found = seeds.collect::<Result<Vec<_>, _>>().unwrap_or_else(|error| panic!("{name}: {error}"));
        let all: Vec<Pivot> = found.concat();
        assert!(all.iter().all(|p| p.statistic.is_finite()), "{name}");
        // Placements share weights: only one of them enters the test of uniformity.
        if name == "pre-ln" {
            ranks.extend(all.iter().map(|p| chi_square(p.degrees, p.statistic).0));
        }
        let refuted: Vec<_> = places(&all, WRONG).into_iter().filter(|e| e.verdict() == Verdict::Refuted).collect();
        assert!(refuted.is_empty(), "{name}: {refuted:?}");
        judged += 1;
    }
    println!("{judged} placements");
    assert!(judged > 20);
    // Dvoretzky, Kiefer and Wolfowitz with Massart's constant.
    ranks.sort_by(f64::total_cmp);
    let n = ranks.len() as f64;
    let distance = ranks.iter().enumerate().map(|(i, p)| (p - i as f64 / n).abs().max((i + 1) as f64 / n - p));
    let distance = distance.fold(0.0, f64::max);
    assert!(distance <= ((2.0 / WRONG).ln() / (2.0 * n)).sqrt(), "{distance} over {n}");
}

/// Parameters with some matrices of one block scaled.
fn scaled(graph: &Graph, parameters: Vec<Parameters>, block: usize, matrix: Option<&str>, by: f64) -> Vec<Parameters> {
    let points = Layout::new(graph).parameters;
    let of_call = |(call, parameters): (usize, &Parameters)| {
        let one = |(order, (name, tensor)): (usize, (&str, &candle_core::Tensor))| {
            let point = points.iter().find(|p| p.call == call && p.order == order).unwrap();
            let hit = point.stage.block() == Some(block)
                && name.starts_with("w_")
                && matrix.is_none_or(|matrix| matrix == name);
            (name.to_owned(), if hit { (tensor * by).unwrap() } else { tensor.clone() })
        };
        Parameters::new(parameters.iter().enumerate().map(one).collect())
    };
    parameters.iter().enumerate().map(of_call).collect()
}

const POWER: Shape = Shape { width: 128, blocks: 8, tokens: 64, heads: 4, ffn_width: 512, causal: false };

/// The refuted figures of a network whose matrices in block 3 have a variance that is off.
fn refuted(seeds: u64, fault: f64, matrix: Option<&str>, alpha: f64) -> Vec<String> {
    let graph = graph("pre-ln", POWER);
    let observe = |seed: u64| {
        let parameters = Weights::new(seed).of(&graph, &Device::Cpu, DType::F64).unwrap();
        let parameters = scaled(&graph, parameters, 3, matrix, (1.0 + fault).sqrt());
        let input = draw_input(seed, POWER, &Device::Cpu, DType::F64).unwrap();
        let cotangent = draw_cotangent(seed, POWER, &Device::Cpu, DType::F64).unwrap();
        let run = run(&graph, &parameters, &input, &cotangent).unwrap();
        pivots(&graph, &Observed::of(&graph, &parameters, &input, &cotangent, &run).unwrap()).unwrap()
    };
    let all: Vec<Vec<Pivot>> = (0..seeds).into_par_iter().map(observe).collect();
    let refuted = places(&all.concat(), alpha).into_iter().filter(|e| e.verdict() == Verdict::Refuted);
    refuted.map(|e| e.figure).collect()
}

/// Issue 4: found and located in one run, at a share of the run's budget.
#[test]
fn a_variance_off_by_five_percent_in_one_matrix_is_found_and_its_layer_named() {
    let found = refuted(12, 0.05, Some("w_2"), 1e-11);
    println!("{found:?}");
    assert!(!found.is_empty());
    assert!(found.iter().all(|figure| figure.starts_with("block.3.")), "{found:?}");
    assert_eq!(refuted(3, 0.0, None, 1e-11), Vec::<String>::new());
}

/// The goal of 2%: the entries of all 64 seeds of a run. An attention's matrices have a quarter of the FFN's entries and
/// are found at 2.5%.
#[test]
fn a_variance_off_by_two_percent_in_one_layer_is_found_and_named_by_its_entries() {
    let graph = graph("pre-ln", Shape { tokens: 4, ..POWER });
    let of_seed = |layer: &'static [&'static str], fault: f64| {
        let graph = &graph;
        move |seed: u64| {
            let drawn = Weights::new(seed).of(graph, &Device::Cpu, DType::F32).unwrap();
            let off = |weights, matrix: &&str| scaled(graph, weights, 3, Some(*matrix), (1.0 + fault).sqrt());
            entries(graph, &layer.iter().fold(drawn, off), squares).unwrap()
        }
    };
    let judge = |layer, fault| {
        let all: Vec<Vec<Pivot>> = (0..64u64).into_par_iter().map(of_seed(layer, fault)).collect();
        places(&all.concat(), 1e-11)
    };
    for (layer, fault) in [(&["w_1", "w_2"][..], 0.02), (&["w_2"], 0.02), (&["w_q", "w_k", "w_v", "w_o"], 0.025)] {
        let found = judge(layer, fault).into_iter().filter(|e| e.verdict() == Verdict::Refuted);
        let found: Vec<String> = found.map(|e| e.figure).collect();
        let named = |figure: &String| figure.starts_with("block.3.") || figure.starts_with("block.3 ");
        assert!(!found.is_empty() && found.iter().all(named), "{layer:?}: {found:?}");
    }
    assert!(judge(&["w_2"], 0.0).iter().all(|e| e.verdict() == Verdict::Verified));
}
