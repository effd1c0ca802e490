//! Faults 44-54: weights that are not drawn as specified.

use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Tensor};
use half::bf16;
use normative::claims::init::Shared;
use normative::claims::init::independence::{Pair, correlations, in_seed, neighbours, queries_keys};
use normative::execute::{Measurement, measure};
use normative::fold::Graph;
use normative::op::Parameters;
use normative::random::Stream;
use normative::spec::{InitLaw, Shape};
use normative::verify::{Evidence, Interval, Verdict};
use rayon::prelude::*;

use crate::networks::{ALPHA, SHAPE, Spec, altered, by_entries, pre_ln};
use crate::support::{Network, values};
use crate::{Fault, Judged};

const LAYER: &str = "x = x + attn(norm(x))\nx = x + ffn(norm(x))";

/// A specification against weights drawn as another text says, by the entries' variances.
fn drawn(number: u8, name: &str, specified: Spec, subject: Spec) -> Fault {
    let clean = specified.clone();
    Fault::new(
        number,
        name,
        "entries",
        move || by_entries(&clean, 8, |seed| clean.network(SHAPE, seed)),
        move || by_entries(&specified, 8, |seed| subject.network(SHAPE, seed)),
    )
}

/// The placement with these factors on all of some matrices.
fn with_factors(matrices: &[&str], factor: &str) -> Spec {
    let each: Vec<String> = matrices.iter().map(|m| format!("{m} = \"{factor}\"")).collect();
    Spec::layer(LAYER, &format!("init = {{ {} }}\noutput = \"norm(x)\"", each.join(", ")))
}

const ALL: [&str; 6] = ["w_q", "w_k", "w_v", "w_o", "w_1", "w_2"];

/// Entries of unit variance and a law, times a factor.
fn of_law(law: InitLaw, factor: &str) -> Spec {
    with_factors(&ALL, factor).with(|setting| setting.init = law)
}

pub fn faults() -> Vec<Fault> {
    let fan_out = || {
        let factors = "init = { w_1 = \"(1/4)^(1/2)\", w_2 = \"4^(1/2)\" }\noutput = \"norm(x)\"";
        Spec::layer(LAYER, factors)
    };
    vec![
        drawn(44, "fan_out for fan_in", pre_ln(), fan_out()),
        drawn(45, "gain sqrt(2) missing", with_factors(&["w_1"], "2^(1/2)"), pre_ln()),
        drawn(46, "std used where variance was meant", pre_ln(), with_factors(&ALL, "d^(-1/2)")),
        drawn(
            47,
            "1/sqrt(2N) on all matrices, not only outputs",
            with_factors(&["w_o", "w_2"], "(2*N)^(-1/2)"),
            with_factors(&ALL, "(2*N)^(-1/2)"),
        ),
        // The law that is left when the standard deviation of the cut normal is not made up for.
        drawn(
            48,
            "truncated normal without variance correction",
            of_law(InitLaw::TruncatedNormal, "1"),
            of_law(InitLaw::TruncatedNormal, "0.87962566"),
        ),
        drawn(
            49,
            "uniform limit sqrt(1/fan) for sqrt(3/fan)",
            of_law(InitLaw::Uniform, "1"),
            of_law(InitLaw::Uniform, "3^(-1/2)"),
        ),
        related(50, "the same seed for every layer", neighbours, |network| {
            let first = block_of(&network, 1);
            altered(network, move |_, name, t| {
                first.iter().find(|(n, _)| n == name).map_or_else(|| t.clone(), |(_, first)| first.clone())
            })
        }),
        related(51, "Q and K drawn from the same stream", queries_keys, |mut network| {
            for parameters in &mut network.parameters {
                let q = parameters.iter().find(|(name, _)| *name == "w_q").map(|(_, t)| t.clone());
                let each =
                    |(n, t): (&str, &Tensor)| (n.to_owned(), if n == "w_k" { q.clone().unwrap() } else { t.clone() });
                *parameters = Parameters::new(parameters.iter().map(each).collect());
            }
            network
        }),
        coarse(),
        order(),
        transposed(),
    ]
}

fn block_of(network: &Network, block: usize) -> Vec<(String, Tensor)> {
    let calls = network.graph.calls.iter().zip(&network.parameters);
    calls
        .filter(|(call, _)| call.site.stage.block() == Some(block))
        .flat_map(|(_, parameters)| parameters.iter().map(|(n, t)| (n.to_owned(), t.clone())).collect::<Vec<_>>())
        .filter(|(name, _)| name.starts_with("w_"))
        .collect()
}

/// By the correlation of pairs of matrices.
fn related(
    number: u8,
    name: &str,
    pairs: fn(&Graph) -> Vec<Pair>,
    alter: impl Fn(Network) -> Network + Send + Sync + 'static,
) -> Fault {
    let judge = move |subject: &dyn Fn(u64) -> Network| -> Judged {
        let pairs = pairs(&pre_ln().graph(SHAPE));
        let seeds: Vec<Vec<f64>> =
            (0..32).map(|s| in_seed(&pairs, &subject(s).parameters, &mut Shared::default()).unwrap()).collect();
        let evidence = correlations(&pairs, &seeds, ALPHA);
        match evidence.iter().find(|e| e.verdict() == Verdict::Refuted) {
            None => Ok(()),
            Some(e) => Err(format!("{} is {:.3}", e.figure, e.found)),
        }
    };
    Fault::new(
        number,
        name,
        "correlation",
        move || judge(&|seed| pre_ln().network(SHAPE, seed)),
        move || judge(&|seed| alter(pre_ln().network(SHAPE, seed))),
    )
}

/// 52: a number of 24 bits lies on the grid of bf16 with probability 2^-16.
fn coarse() -> Fault {
    let judge = |narrow: bool| -> Judged {
        let weights = block_of(&pre_ln().network(SHAPE, 1), 1);
        let numbers: Vec<f64> = weights.iter().flat_map(|(_, t)| values(t)).collect();
        let round = |x: f64| if narrow { bf16::from_f64(x).to_f64() } else { x };
        let on_grid = numbers.iter().filter(|x| bf16::from_f64(round(**x)).to_f64() == round(**x)).count();
        let share = Evidence::proportion(
            "entries on the grid of bf16",
            on_grid as u64,
            numbers.len() as u64,
            Interval::at_most(1e-2),
            ALPHA,
        );
        match share.verdict() {
            Verdict::Verified => Ok(()),
            _ => Err(format!("{} of {} entries lie on the grid of bf16", on_grid, numbers.len())),
        }
    };
    Fault::new(52, "weights drawn in bf16 then widened", "grid", move || judge(false), move || judge(true))
}

/// 53: what a seed gives does not depend on what was drawn before it.
fn order() -> Fault {
    let same = |draw: &(dyn Fn(u64) -> Vec<f64> + Sync)| -> Judged {
        let upwards: Vec<Vec<f64>> = (0..8).map(draw).collect();
        let mut downwards: Vec<Vec<f64>> = (0..8).rev().map(draw).collect();
        downwards.reverse();
        let parallel: Vec<Vec<f64>> = (0..8u64).into_par_iter().map(draw).collect();
        match upwards == downwards && upwards == parallel {
            true => Ok(()),
            false => Err("the bits of a seed depend on the order of drawing".into()),
        }
    };
    let shape = Shape { width: 16, blocks: 1, tokens: 2, heads: 1, ffn_width: 32, causal: false };
    let figures = move |seed: u64| {
        let how = Measurement { seeds: 1, first_seed: seed, dtype: DType::F32, ..Measurement::default() };
        measure(&pre_ln().graph(shape), &how).unwrap().rows.remove(0)
    };
    Fault::new(
        53,
        "seed depends on the order of drawing",
        "bitwise run in another order",
        move || same(&figures),
        move || {
            let drawn = AtomicU64::new(0);
            same(&|_| Stream::new(drawn.fetch_add(1, Ordering::SeqCst), &[]).normals(4))
        },
    )
}

/// 54: y = x W with small integers, where every sum is exact; no Gaussian law tells W from its transpose.
fn transposed() -> Fault {
    let judge = |transpose: bool| -> Judged {
        let shape = Shape { width: 4, blocks: 1, tokens: 1, heads: 1, ffn_width: 4, causal: false };
        let spec = Spec::layer("x = attn(x)", "").with(|s| (s.uniform_attention, s.output_projection) = (true, false));
        let w: Vec<f64> = (0..16).map(f64::from).collect();
        let w_v = Tensor::from_vec(w.clone(), (4, 4), &Device::Cpu).unwrap();
        let w_v = if transpose { w_v.t().unwrap().contiguous().unwrap() } else { w_v };
        let mut network = spec.network(shape, 0);
        network.input = Tensor::new(&[[[1.0, 2.0, -1.0, 3.0]]], &Device::Cpu).unwrap();
        let network = altered(network, |_, name, t| if name == "w_v" { w_v.clone() } else { t.clone() });
        let ours = values(&network.run().unwrap().output);
        let theirs: Vec<f64> = (0..4).map(|j| w[j] + 2.0 * w[4 + j] - w[8 + j] + 3.0 * w[12 + j]).collect();
        match ours == theirs {
            true => Ok(()),
            false => Err(format!("x W of integers is {ours:?}, not {theirs:?}")),
        }
    };
    Fault::new(54, "matrix transposed when square", "integer weights", move || judge(false), move || judge(true))
}
