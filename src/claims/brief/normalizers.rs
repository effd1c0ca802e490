//! What the texts say of normalizers as implementations: A17, A29, A45, A46.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{DType, Tensor};

use super::exact::largest;
use super::figures::ROUGHLY;
use super::jacobians::norm_gain;
use super::{Basis, Bench, Size, Statement, Trial};
use crate::claims::{About, Lab};
use crate::error::{Error, Result};
use crate::execute::{draw_input, factors};
use crate::kernels::slices::{Affine, Cotangents, Norm, Statistics};
use crate::random::{Stream, name_key};
use crate::verify::{Evidence, Interval, Verdict};

/// Pairs of times.
const READINGS: usize = 256;

/// Repetitions of which a reading is the fastest, so that an interruption spoils none.
const REPEATS: usize = 5;

pub fn statements() -> Vec<Statement> {
    let trial = Trial {
        domain: "any weights",
        about: About::Nothing,
        expected: Verdict::Refuted,
        setting: "standard",
        stated: &[],
        sizes: &[],
        full: None,
        judge: memory,
        instead: "",
    };
    vec![
        Statement {
            id: "brief.a17.pre_ln_takes_22_percent_more_memory",
            text: "Pre-norm's larger activations mean higher GPU memory usage - up to 22% more.",
            source: "brief 000, Post-Norm's Hidden Strengths",
            basis: Basis::Trial(Trial {
                domain: "numbers kept for the way back in training, batch of one sequence, any values",
                about: About::BuiltIn(&["pre-ln", "post-ln"]),
                stated: &[0.22],
                sizes: &[[32, 1, 4], [64, 12, 16]],
                full: Some([64, 96, 16]),
                instead: "Memory counts tensors, not how large their numbers are, and both placements keep the same ones but for the final norm.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a29.post_ln_needs_no_clipping",
            text: "Post-norm doesn't need gradient clipping because it naturally suppresses outliers.",
            source: "brief 000, comments",
            basis: Basis::Trial(Trial {
                domain: "what a norm guarantees by itself: |y_i| <= sqrt(d - 1), and a gradient no larger than the one behind it",
                setting: "xiong",
                stated: &[1.0, 1e-3],
                sizes: &[[8, 1, 2], [64, 1, 4]],
                judge: outliers,
                instead: "Values are bounded, gradients are not: the Jacobian's norm is one over the row's deviation.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a45.rms_norm_15_percent_faster",
            text: "RMSNorm drops the mean subtraction and the bias, which buys roughly 15% faster normalization with no measurable loss in quality.",
            source: "brief 002; Zhang & Sennrich 2019, arXiv:1910.07467, report 7% to 64% of whole models' time",
            basis: Basis::Trial(Trial {
                // No eps, whose defaults differ.
                setting: "xiong",
                domain: "this crate's kernels on this machine, one thread, f32; quality is not decided here",
                stated: &[0.15],
                sizes: &[[256, 1, 128], [1024, 1, 32]],
                judge: faster,
                instead: "The identity holds on centred rows; the saving depends on the implementation and the machine, and is another here.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a46.layer_norm_costs_two_passes",
            text: "Standard LayerNorm subtracts the mean and divides by the standard deviation, which costs two passes over the feature dimension.",
            source: "brief 002",
            basis: Basis::Trial(Trial {
                domain: "rows whose mean is no larger than their deviation, statistics in f32",
                stated: &[2.0, 1.0],
                sizes: &[[8, 1, 4], [1024, 1, 16]],
                judge: passes,
                instead: "Mean and deviation come from one pass (Welford 1962) within the rounding of two.",
                ..trial
            }),
        },
    ]
}

/// What Pre-LN keeps for the way back beyond what Post-LN does, and what larger numbers change about it.
fn memory(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let kept = |name: &str| {
        let network = bench.weighted(name, size)?;
        Ok(factors(&network.graph, &network.parameters, &network.input)?.kept() as f64)
    };
    let more = kept("pre-ln")? / kept("post-ln")? - 1.0;
    let figure = format!("numbers kept for the way back, pre-ln over post-ln, less 1, {} blocks", size.blocks);
    let accepted = Interval::at_least(bench.stated[0] * (1.0 - ROUGHLY));
    Ok(vec![Evidence::exact(figure, more, accepted).stating(bench.stated[0])])
}

fn outliers(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [bound, small] = bench.stated else { return Ok(Vec::new()) };
    let mut network = bench.weighted("norm alone", size)?;
    // The row that comes closest to the bound: one entry alone.
    let one = (0..size.tokens * size.width).map(|i| if i % size.width == 0 { 1e4 } else { 0.0 }).collect::<Vec<f64>>();
    let spiked = Tensor::from_vec(one, network.input.shape(), network.input.device());
    network.input = spiked.map_err(Error::at("an input"))?;
    let highest = largest(&network.run()?.output)? / ((size.width - 1) as f64).sqrt();
    let gain = norm_gain(bench, size, *small)?;
    Ok(vec![
        Evidence::exact(
            "largest entry behind a norm, in sqrt(d - 1)",
            highest,
            Interval::at_most(bound + network.rounding()),
        ),
        Evidence::exact(format!("gain of the norm's Jacobian at rows of rms {small}"), gain, Interval::at_most(*bound)),
    ])
}

/// Saved by the forward pass alone, as in use, and by forward and back, as in training.
fn faster(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let saved = |(passes, back): (&str, bool)| {
        let readings = match &bench.planted.clock {
            Some(readings) => readings.clone(),
            None => clock(bench.lab, size, back)?,
        };
        let saved: Vec<f64> = readings.iter().map(|[layer_norm, rms_norm]| 1.0 - rms_norm / layer_norm).collect();
        let figure = format!("time saved by rms_norm {passes}, width {}", size.width);
        Ok(bench.mean(figure, &saved, Interval::within(bench.stated[0], ROUGHLY)).stating(bench.stated[0]))
    };
    let timed = [("forward", false), ("forward and back", true)].into_iter().map(saved);
    std::iter::once(centred_rows(bench, size)).chain(timed).collect()
}

/// Times of LayerNorm with bias and RMSNorm without, in turn.
fn clock(lab: &Lab, Size { width, tokens, .. }: Size, back: bool) -> Result<Vec<[f64; 2]>> {
    let mut stream = Stream::new(lab.seed, &[name_key("rows")]);
    let mut rows = || stream.normals(tokens * width).iter().map(|v| *v as f32).collect::<Vec<f32>>();
    let (x, dy) = (rows(), rows());
    let (mut y, mut dx) = (x.clone(), x.clone());
    let mut statistics = vec![Statistics::default(); tokens];
    let mut time = |centred: bool| -> Result<f64> {
        let norm = Norm::new(width, centred, 1e-5)?;
        let affine = Affine { gain: vec![1.0; width], bias: centred.then(|| vec![0.0; width]) };
        let mut fastest = f64::INFINITY;
        for _ in 0..REPEATS {
            let start = Instant::now();
            norm.forward(black_box(&x), &affine, &mut y, Some(&mut statistics))?;
            if back {
                let cotangents = Cotangents { output: &dy, sum: None };
                black_box(norm.backward(&x, &affine, cotangents, Some(&statistics), &mut dx)?);
            }
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        Ok(fastest)
    };
    (0..lab.draws(READINGS, READINGS)).map(|_| Ok([time(true)?, time(false)?])).collect()
}

/// RMSNorm of centred rows against LayerNorm of them.
fn centred_rows(bench: &Bench, size: Size) -> Result<Evidence> {
    let output = |normalizer: &str| {
        let mut network = bench.weighted("norm alone", size)?;
        network.graph = bench.graph_with("norm alone", size, normalizer)?;
        let mean = network.input.mean_keepdim(2).and_then(|mean| network.input.broadcast_sub(&mean));
        network.input = mean.map_err(Error::at("an input"))?;
        Ok((network.run()?.output, network.rounding()))
    };
    let ((layer_norm, rounding), (rms_norm, _)) = (output("layer_norm")?, output("rms_norm")?);
    let difference = largest(&(&layer_norm - &rms_norm).map_err(Error::at("a difference"))?)?;
    let bound = rounding * largest(&layer_norm)?;
    Ok(Evidence::rounding("largest difference of rms_norm from layer_norm on centred rows", difference, bound))
}

/// Mean and deviation of features that are seen once (Welford 1962).
fn one_pass(features: impl Iterator<Item = f32>) -> (f32, f32) {
    let (mut count, mut mean, mut squares) = (0.0f32, 0.0f32, 0.0f32);
    for x in features {
        count += 1.0;
        let from = x - mean;
        mean += from / count;
        squares += from * (x - mean);
    }
    (mean, (squares / count).sqrt())
}

/// One where rows normalized in one pass are right within f32's rounding of two, else two.
fn passes(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [stated, mean] = bench.stated else { return Ok(Vec::new()) };
    let input = draw_input(bench.lab.seed, bench.shape(size)?, &candle_core::Device::Cpu, DType::F32)?;
    let rows = input.flatten_all().and_then(|x| x.to_vec1::<f32>()).map_err(Error::at("an input"))?;
    let rows: Vec<f32> = rows.iter().map(|x| x + *mean as f32).collect();
    let mut error = 0.0f64;
    let mut highest = 0.0f64;
    for row in rows.chunks(size.width) {
        let exact: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let centre = exact.iter().sum::<f64>() / size.width as f64;
        let deviation = (exact.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / size.width as f64).sqrt();
        let (m, s) = one_pass(row.iter().copied());
        for (x, exact) in row.iter().zip(&exact) {
            let right = (exact - centre) / deviation;
            error = error.max((f64::from((x - m) / s) - right).abs());
            highest = highest.max(right.abs());
        }
    }
    // A rounding for each term of either sum, and a few, as in two passes.
    let bound = (2 * size.width + 8) as f64 * f64::from(f32::EPSILON) * (1.0 + highest);
    let suffice = if error <= bound { 1.0 } else { 2.0 };
    let figure = format!("passes over {} features that suffice", size.width);
    Ok(vec![Evidence::exact(figure, suffice, Interval::at_least(*stated)).stating(*stated)])
}
