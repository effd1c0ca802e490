//! How far a stream turns: cosines between blocks, and what share of it a block contributes.

use crate::claims::experiment::{Network, placement};
use crate::claims::figures::{QUARTER, TENTH, cosine, dot, draws, judged, near, run_seeds, seeds, site_behind, width};
use crate::claims::moments::XIONG;
use crate::claims::subjects::{once, xiong};
use crate::claims::{About, Claim, Lab};
use crate::error::Result;
use crate::profile::Quantity;
use crate::verify::{Evidence, Interval, Verdict};

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, names, plan| Claim {
        id,
        statement,
        source,
        domain: XIONG,
        about: About::BuiltIn(names),
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            "moments.pre_ln.adjacent_layers_alike",
            "1 - cos(x_l, x_(l+1)) falls as 1/(2l) in Pre-LN: adjacent layers become alike.",
            "Xie et al. 2023 (ResiDual), arXiv:2304.14802; zoo D27, D85",
            &["pre-ln"],
            |claim, _| once(claim, adjacent_layers),
        ),
        claim(
            "moments.pre_ln.dilution",
            "A block contributes 1/sqrt(l + 2/3) of the stream: a tenth at block 96; the FFN alone 0.059.",
            "zoo D28, own; Theta(1/sqrt(l)) follows from Xiong et al. 2020, Lemma 2",
            &["pre-ln"],
            |claim, _| once(claim, dilution),
        ),
        claim(
            "moments.post_ln.forgets",
            "A Post-LN block keeps cos(x_(l+1), x_l) = 1/sqrt(1.5 (1 + a)), 0.577 for equal tokens: old layers fade geometrically.",
            "zoo D39, own",
            &["post-ln"],
            |claim, _| once(claim, forgets),
        ),
        claim(
            "moments.deepnorm.near_identity",
            "DeepNorm's stack starts near the identity: cos(x_N, x_0) = exp(-0.0663/sqrt(N)), closer for deeper networks.",
            "zoo D37, own; Wang et al. 2022, arXiv:2203.00555",
            &["deepnorm"],
            |claim, _| once(claim, |lab, share| near_identity(lab, share, "deepnorm", |n| (-0.0663 / n.sqrt()).exp())),
        ),
        claim(
            "moments.keel.near_identity",
            "KEEL's stack starts near the identity: cos(x_N, x_0) = exp(-0.1875/N).",
            "zoo D38, own; Chen & Wei 2026, arXiv:2601.19895",
            &["keel"],
            |claim, _| once(claim, |lab, share| near_identity(lab, share, "keel", |n| (-0.1875 / n).exp())),
        ),
        claim(
            "moments.depth_mup.change_independent_of_depth",
            "With branches times N^(-1/2), |x_N - x_0|^2 does not depend on N.",
            "Yang et al. 2023, arXiv:2310.02244; zoo D35",
            &["depth-mup"],
            |claim, _| once(claim, |lab, share| change(lab, share, "depth-mup", 0.0)),
        ),
        claim(
            "moments.completep.change_inverse_in_depth",
            "With branches times 1/N, |x_N - x_0|^2 falls as 1/N.",
            "Dey et al. 2025, arXiv:2505.01618; zoo D35",
            &["completep"],
            |claim, _| once(claim, |lab, share| change(lab, share, "completep", -1.0)),
        ),
    ]
}

fn adjacent_layers(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const FROM: usize = 4;
    const BLOCKS: usize = 32;
    let network = xiong(lab, "pre-ln", 128, BLOCKS + 1, 1)?;
    let lines = run_seeds(lab, &network, seeds(lab), |graph, run| {
        let value = |l: usize| Ok::<_, candle_core::Error>(&run.sites[site_behind(graph, l)?]);
        // The law in q_l = 1 + 3l/2 is in l + 2/3; the middle of the block is half a block on.
        let point = |l: usize| Ok(((l as f64 + 7.0 / 6.0).ln(), (1.0 - cosine(value(l)?, value(l + 1)?)?).ln()));
        (FROM..=BLOCKS).map(point).collect::<candle_core::Result<Vec<_>>>()
    })?;
    let last: Vec<f64> = lines.iter().map(|line| line.last().map_or(f64::NAN, |(x, y)| 2.0 * (x + y).exp())).collect();
    let mut evidence = judged(share / 2.0, vec![near("2 (l + 7/6)(1 - cos) at block 32", last, 1.0, QUARTER)]);
    let slope = Evidence::slope("exponent of 1 - cos in l", &lines, Interval::around(-1.0, QUARTER), share / 2.0);
    evidence.push(slope.stating(-1.0));
    Ok(evidence)
}

/// Pre-LN with its block's contribution, and the FFN's, as streams of their own.
const CONTRIBUTION: &str = r#"
name = "claim"
streams = { f = "x", g = "x" }
layer = """
f = attn(norm(x))
y = x + f
g = ffn(norm(y))
x = y + g
f = f + g
"""
"#;

fn dilution(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let network = Network::xiong_of(placement(CONTRIBUTION, lab.registry)?, width(lab), 96, 1)?;
    let curves = lab.sampled(&network, draws(lab))?;
    let mut figures = Vec::new();
    for l in [4, 24, 96] {
        let of = |stream: &str| {
            let (part, whole) =
                (curves.stream(stream, l, Quantity::SecondMoment)?, curves.at(l, Quantity::SecondMoment)?);
            Ok::<_, crate::error::Error>(part.iter().zip(whole).map(|(p, q)| (p / q).sqrt()).collect())
        };
        let shape = (l as f64 + 2.0 / 3.0).sqrt();
        figures.push(near(format!("block {l} over stream"), of("f")?, 1.0 / shape, TENTH));
        figures.push(near(format!("FFN {l} over stream"), of("g")?, 1.0 / (3f64.sqrt() * shape), TENTH));
    }
    // The text is Pre-LN: its stream is that of the built-in.
    let built_in = lab.sampled(&xiong(lab, "pre-ln", width(lab), 96, 1)?, draws(lab))?;
    figures.push(near(
        "stream of the built-in behind block 96",
        built_in.at(96, Quantity::SecondMoment)?,
        145.0,
        TENTH,
    ));
    Ok(judged(share, figures))
}

fn forgets(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let network = xiong(lab, "post-ln", 128, 4, 1)?;
    let cosines = run_seeds(lab, &network, seeds(lab), |graph, run| {
        let value = |l: usize| Ok::<_, candle_core::Error>(&run.sites[site_behind(graph, l)?]);
        (1..4).map(|l| cosine(value(l)?, value(l + 1)?)).collect::<candle_core::Result<Vec<f64>>>()
    })?;
    let figure = |l: usize| {
        let values = cosines.iter().map(|seed| seed[l]).collect();
        near(format!("cos of blocks {} and {}", l + 1, l + 2), values, 1.0 / 3f64.sqrt(), TENTH)
    };
    Ok(judged(share, (0..3).map(figure).collect()))
}

/// 1 - cos(x_N, x_0) of normalized streams against a law in N.
fn near_identity(lab: &Lab, share: f64, name: &str, law: fn(f64) -> f64) -> Result<Vec<Evidence>> {
    let mut figures = Vec::new();
    for blocks in [6, 24] {
        // Published with W_O, which the setting of Xiong et al. leaves out; without the mean, which a norm takes from x_0.
        let mut network = xiong(lab, name, 128, blocks, 1)?;
        network.setting.output_projection = true;
        network.setting.normalizer = "rms_norm".into();
        let found = run_seeds(lab, &network, seeds(lab), |graph, run| {
            Ok(1.0 - cosine(&run.sites[site_behind(graph, 0)?], &run.sites[site_behind(graph, blocks)?])?)
        })?;
        figures.push(near(format!("1 - cos(x_N, x_0), N = {blocks}"), found, 1.0 - law(blocks as f64), QUARTER));
    }
    Ok(judged(share, figures))
}

/// The exponent of |x_N - x_0|^2 in N.
fn change(lab: &Lab, share: f64, name: &str, exponent: f64) -> Result<Vec<Evidence>> {
    let mut lines = vec![Vec::new(); seeds(lab)];
    for blocks in [4, 8, 16] {
        let network = xiong(lab, name, 64, blocks, 1)?;
        let found = run_seeds(lab, &network, lines.len(), |graph, run| {
            let moved = (&run.sites[site_behind(graph, blocks)?] - &run.sites[site_behind(graph, 0)?])?;
            dot(&moved, &moved)
        })?;
        for (line, change) in lines.iter_mut().zip(found) {
            line.push(((blocks as f64).ln(), change.ln()));
        }
    }
    let slope = Evidence::slope("exponent of |x_N - x_0|^2 in N", &lines, Interval::around(exponent, QUARTER), share);
    Ok(vec![slope.stating(exponent)])
}
