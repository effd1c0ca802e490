//! Rank collapse: how fast tokens become alike.

use candle_core::{DType, Device, Tensor};

use crate::claims::exact::{entries, normal};
use crate::claims::experiment::{Network, placement};
use crate::claims::figures::{Figure, QUARTER, TENTH, around, draws, judged, near, seeds, width, within};
use crate::claims::subjects::{built_in, once, refuted, undecidable, xiong};
use crate::claims::{About, Claim, Lab, meanfield};
use crate::error::{Error, Result};
use crate::execute::{Weights, forward};
use crate::profile::Quantity;
use crate::spec::{Setting, Shape};
use crate::verify::{Evidence, Interval, Verdict};

const XIONG: &str = "setting xiong, uniform attention, at initialization";

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, domain, about, plan| Claim {
        id,
        statement,
        source,
        domain,
        about,
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            "rank.post_ln.halves_a_block",
            "In Post-LN the distance of tokens, 1 - rho, halves with every block once they are alike.",
            "zoo D25, own; Wang, Han, Luo & Zhang 2026",
            XIONG,
            About::BuiltIn(&["post-ln"]),
            |claim, _| once(claim, halves),
        ),
        claim(
            "rank.post_ln.recursion",
            "Post-LN's overlaps follow the mean field: rho + (1 - rho) a/(1 + a) by attention, then the arc-cosine kernel.",
            "zoo D25, D.6, own",
            XIONG,
            About::BuiltIn(&["post-ln"]),
            |claim, _| once(claim, post_recursion),
        ),
        claim(
            "rank.pre_ln.power_law",
            "In Pre-LN 1 - rho falls as a power of l with the local exponent of the mean field, -2/3 in the end.",
            "zoo D26, own recursion",
            XIONG,
            About::BuiltIn(&["pre-ln"]),
            |claim, _| once(claim, power_law),
        ),
        claim(
            "rank.mean_field.exponent_two_thirds",
            "The Pre-LN recursion ends at 1 - rho proportional to l^(-2/3).",
            "zoo D26, own",
            "the recursion, n = 512",
            About::Nothing,
            |claim, _| once(claim, |_, _| Ok(vec![two_thirds(meanfield::pre_ln)])),
        ),
        claim(
            "rank.attention.cubic",
            "Attention alone, without skips or FFN, makes the part of a value in which tokens differ cubically smaller: a rate of 3^L.",
            "Dong, Cordonnier & Loukas 2021, arXiv:2103.03404, Theorem 2.2; zoo D80",
            "setting standard, small differences between tokens",
            About::Nothing,
            |claim, _| once(claim, cubic),
        ),
        claim(
            "rank.skip.stops_collapse",
            "With skip connections tokens that differ go on differing: the rate is no longer cubic.",
            "Dong, Cordonnier & Loukas 2021, arXiv:2103.03404, section 3; zoo D81",
            "setting standard, small differences between tokens",
            About::Nothing,
            |claim, _| once(claim, skip),
        ),
        claim(
            "rank.depth_mup.overlap_bounded",
            "Branches times 1/sqrt(N) keep the overlap of tokens away from 1 at any depth; without the factor it approaches 1.",
            "Noci et al. 2022, arXiv:2206.03126, section 4; zoo D50",
            "setting standard, at initialization",
            About::BuiltIn(&["depth-mup", "pre-ln"]),
            |claim, _| once(claim, scaled_branches),
        ),
        Claim {
            expected: Verdict::NotApplicable,
            ..claim(
                "rank.layer_norm.can_stop_collapse",
                "With suitable value matrices attention with LayerNorm has equilibria of any rank.",
                "Wu et al. 2024, arXiv:2405.18781; zoo D82",
                "value matrices chosen, not drawn",
                About::Nothing,
                |claim, _| undecidable(claim, "a statement about chosen value matrices; here they are drawn at random"),
            )
        },
        Claim {
            expected: Verdict::NotApplicable,
            ..claim(
                "rank.attention.two_failure_modes",
                "Below a threshold of score size attention's output is uniform-like, above it entropy collapses.",
                "Giorlandino & Goldt 2026, arXiv:2505.24333; zoo D83",
                "infinitely many tokens, scores growing as their logarithm",
                About::Nothing,
                |claim, _| {
                    let reason = "the threshold is sharp only for infinitely many tokens with scores that grow as their logarithm; \
                                  no placement here scales scores with the number of tokens";
                    undecidable(claim, reason)
                },
            )
        },
        Claim {
            expected: Verdict::NotApplicable,
            ..claim(
                "rank.pre_ln.angular_distance_when_trained",
                "The angular distance of layers shrinks with depth in trained Pre-LN models and grows in Post-LN.",
                "Sun et al. 2025, arXiv:2502.05795, Eq. 1; zoo D86",
                "trained models",
                About::Nothing,
                |claim, _| undecidable(claim, "a measurement on trained models; nothing is trained here"),
            )
        },
        Claim {
            expected: Verdict::Refuted,
            ..claim(
                "rank.pre_ln.tokens_collapse_exponentially",
                "Pre-LN's tokens collapse exponentially with depth.",
                "popular reading of Dong et al. 2021 for deep Pre-LN; zoo E10",
                XIONG,
                About::BuiltIn(&["pre-ln"]),
                |claim, _| {
                    refuted(claim, exponential, |evidence| {
                        format!(
                            "between blocks 8 and 32 the distance of tokens keeps {:.2} of itself, a power law; Post-LN would keep 2^(-24)",
                            evidence[0].found
                        )
                    })
                },
            )
        },
    ]
}

/// 1 - rho behind a block, one a draw.
fn apart(lab: &Lab, network: &Network, block: usize, draws: usize) -> Result<Vec<f64>> {
    let overlaps = lab.sampled(network, draws)?.at(block, Quantity::Overlap)?;
    Ok(overlaps.iter().map(|rho| 1.0 - rho).collect())
}

fn halves(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let network = xiong(lab, "post-ln", width(lab), 16, 8)?;
    let figure = |l: usize| -> Result<Figure> {
        let (before, behind) = (apart(lab, &network, l - 1, draws(lab) / 3)?, apart(lab, &network, l, draws(lab) / 3)?);
        let ratio = before.iter().zip(behind).map(|(b, a)| a / b).collect();
        // The FFN widens what attention narrows by (1 - rho)^(1/2) of itself, below a tenth from here on; finite width adds to it.
        Ok(near(format!("1 - rho, block {l} over block {}", l - 1), ratio, 0.5, QUARTER))
    };
    Ok(judged(share, vec![figure(12)?, figure(15)?]))
}

fn post_recursion(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let expected = meanfield::post_ln(6, 8);
    let curves = lab.sampled(&xiong(lab, "post-ln", width(lab), 16, 8)?, draws(lab) / 3)?;
    let figure = |l: usize| -> Result<Figure> {
        let stated = expected[l - 1].1.cosine();
        Ok(around(format!("overlap behind block {l}"), curves.at(l, Quantity::Overlap)?, stated, TENTH))
    };
    Ok(judged(share, [1, 2, 3, 6].into_iter().map(figure).collect::<Result<_>>()?))
}

fn power_law(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const DEPTHS: [usize; 5] = [8, 12, 16, 24, 32];
    let expected = meanfield::pre_ln(32, 4);
    let points = DEPTHS.map(|l| ((l as f64).ln(), (1.0 - expected[l].cosine()).ln()));
    let ends = |points: &[(f64, f64)]| (points[4].1 - points[0].1) / (points[4].0 - points[0].0);
    let network = xiong(lab, "pre-ln", width(lab), 32, 4)?;
    let mut lines = vec![Vec::new(); draws(lab)];
    for l in DEPTHS {
        for (line, apart) in lines.iter_mut().zip(apart(lab, &network, l, draws(lab))?) {
            line.push(((l as f64).ln(), apart.ln()));
        }
    }
    let stated = ends(&points);
    let slope = Evidence::slope("exponent of 1 - rho in l, l = 8..32", &lines, Interval::around(stated, TENTH), share);
    Ok(vec![slope.stating(stated)])
}

/// The local exponent of a recursion over the last doubling before block 4096.
pub fn two_thirds(recursion: fn(usize, usize) -> Vec<meanfield::Field>) -> Evidence {
    const L: usize = 4096;
    let fields = recursion(L, 512);
    let ln = |l: usize| (1.0 - fields[l].cosine()).ln();
    let exponent = (ln(L) - ln(L / 2)) / 2f64.ln();
    // It approaches its limit as l^(-1/3): the next order of 1 - rho is its square root.
    let law = (L as f64).powf(-1.0 / 3.0);
    Evidence::exact("local exponent at l = 2048..4096", exponent, Interval::around(-2.0 / 3.0, law)).stating(-2.0 / 3.0)
}

/// The exponent with which the differing part of a layer's output follows that of its input, over small differences.
fn exponent(lab: &Lab, layer: &str) -> Result<f64> {
    const TOKENS: usize = 6;
    let shape = Shape { width: 32, blocks: 1, tokens: TOKENS, heads: 2, ffn_width: 32, causal: false };
    let text = format!("name = \"claim\"\nlayer = \"{layer}\"\n");
    let network = Network { placement: placement(&text, lab.registry)?, setting: Setting::standard(), shape };
    let graph = network.graph(lab.registry)?;
    let parameters = Weights::new(lab.seed).of(&graph, &Device::Cpu, DType::F64)?;
    let common = normal(lab.seed, "common part", &[1, 1, shape.width])?;
    let apart = normal(lab.seed, "differing part", &[1, TOKENS, shape.width])?;
    let differing = |scale: f64| -> Result<f64> {
        let input = (&apart * scale).and_then(|a| a.broadcast_add(&common)).map_err(Error::at("an input"))?;
        let output = forward(&graph, &parameters, &input)?;
        let part = |t: &Tensor| entries(&t.broadcast_sub(&t.mean_keepdim(1)?)?);
        let values = part(&output).map_err(Error::at("an output"))?;
        Ok(values.iter().map(|v| v * v).sum::<f64>().sqrt())
    };
    let (large, small) = (f64::EPSILON.powf(0.125), f64::EPSILON.powf(0.1875));
    Ok((differing(large)? / differing(small)?).ln() / (large / small).ln())
}

fn cubic(lab: &Lab, _: f64) -> Result<Vec<Evidence>> {
    // The weights differ between tokens by the product of two differences, and weigh differences: three in all. Any other
    // whole exponent is one away.
    Ok(vec![
        Evidence::exact("exponent of attention", exponent(lab, "x = attn(x)")?, Interval::around(3.0, 0.5))
            .stating(3.0),
    ])
}

fn skip(lab: &Lab, _: f64) -> Result<Vec<Evidence>> {
    let found = exponent(lab, "x = x + attn(x)")?;
    Ok(vec![Evidence::exact("exponent of x + attention", found, Interval::around(1.0, 0.5)).stating(1.0)])
}

fn scaled_branches(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const TOKENS: usize = 4;
    let overlap = |name: &str, blocks: usize| -> Result<Vec<f64>> {
        let shape = Shape { width: 128, blocks, tokens: TOKENS, heads: 4, ffn_width: 512, causal: false };
        let network = Network { placement: built_in(lab, name)?, setting: Setting::standard(), shape };
        lab.sampled(&network, seeds(lab))?.at(blocks, Quantity::Overlap)
    };
    // What 16 blocks of Pre-LN reach in the mean field is the line between bounded and not.
    let line = meanfield::pre_ln(16, TOKENS)[16].cosine() - 2.0 * TENTH;
    let mut figures = Vec::new();
    for blocks in [8, 64] {
        let figure = format!("overlap with branches times 1/sqrt(N), N = {blocks}");
        figures.push(within(figure, overlap("depth-mup", blocks)?, Interval::at_most(line)));
    }
    figures.push(within("overlap without the factor, N = 64", overlap("pre-ln", 64)?, Interval::at_least(line)));
    Ok(judged(share, figures))
}

fn exponential(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let network = xiong(lab, "pre-ln", width(lab), 32, 4)?;
    let (near_input, far) = (apart(lab, &network, 8, draws(lab))?, apart(lab, &network, 32, draws(lab))?);
    let kept = near_input.iter().zip(far).map(|(a, b)| b / a).collect();
    // The weakest exponential that four times the depth would show: 1 - rho = exp(-l/8) keeps exp(-3).
    Ok(judged(share, vec![within("1 - rho, block 32 over block 8", kept, Interval::at_most((-3f64).exp()))]))
}
