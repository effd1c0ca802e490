//! How gradients spread over depth.

use crate::claims::experiment::{Curves, Network, placement};
use crate::claims::figures::{
    Figure, QUARTER, TENTH, around, dot, draws, judged, near, run_seeds, seeds, site_behind, width, within,
};
use crate::claims::gradients::XIONG;
use crate::claims::subjects::{built_in, once, refuted, undecidable, without_output, xiong};
use crate::claims::{About, Claim, Lab};
use crate::error::Result;
use crate::profile::Quantity;
use crate::spec::{Setting, Shape};
use crate::verify::budget::split;
use crate::verify::{Evidence, Interval, Verdict};

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, names, expected, plan| Claim {
        id,
        statement,
        source,
        domain: XIONG,
        about: About::BuiltIn(names),
        expected,
        plan,
    };
    vec![
        claim(
            "gradients.post_ln.ffn_stack_preserves",
            "A Post-LN stack of FFNs keeps the gradient's norm: the norm's 2/3 is cancelled by the branch's own 3/2, but for O(1/d) a block.",
            "zoo D15, own",
            &["post-ln"],
            Verdict::Verified,
            |claim, _| once(claim, ffn_stack),
        ),
        claim(
            "gradients.post_ln.two_thirds_decay",
            "Post-LN's gradient of W_2^l carries a factor (2/3)^((L-l)/2).",
            "Xiong et al. 2020, arXiv:2002.04745, appendix F; zoo D16, E6",
            &["post-ln"],
            Verdict::Refuted,
            |claim, _| {
                refuted(claim, two_thirds, |evidence| {
                    format!(
                        "over 16 blocks the first W_2 keeps {:.2} of the last one's gradient, not (2/3)^(15/2) = 0.048: multiplying the \
                         norms' Jacobians leaves out the branches' own gain, which cancels them",
                        evidence[0].found.exp()
                    )
                })
            },
        ),
        claim(
            "gradients.post_ln.token_plateau",
            "The gradient at Post-LN's values falls to 1/sqrt(n) of its top within the blocks where tokens are alike, and stays there: the mode common to the tokens is kept.",
            "zoo D16b, own",
            &["post-ln"],
            Verdict::Verified,
            |claim, _| once(claim, token_plateau),
        ),
        claim(
            "gradients.post_ln.causal_no_decay",
            "With causal attention Post-LN's gradients of W_2 do not decay towards the input either.",
            "zoo D16c, own",
            &["post-ln"],
            Verdict::Verified,
            |claim, _| once(claim, causal),
        ),
        claim(
            "gradients.pre_ln.inverse_second_moment",
            "The squared gradient at Pre-LN's x_l is 1/q_l, whatever L: early layers have larger ones.",
            "zoo D17, own; NormFormer, arXiv:2110.09456, as cited in arXiv:2203.00555",
            &["pre-ln"],
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| inverse_moment(lab, share, "pre-ln", |l| 1.0 + 1.5 * l)),
        ),
        claim(
            "gradients.peri_ln.inverse_second_moment",
            "Peri-LN's squared gradient at x_l is 1/q_l with q_l = 1 + 2 l.",
            "zoo D47, own",
            &["sandwich-ln"],
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| inverse_moment(lab, share, "sandwich-ln", |l| 1.0 + 2.0 * l)),
        ),
        claim(
            "gradients.pre_ln.uniform_over_layers",
            "Pre-LN's gradients are of about the same size in all layers.",
            "Xiong et al. 2020, arXiv:2002.04745, section 3.3 (Figure 3b); zoo E7",
            &["pre-ln"],
            Verdict::Refuted,
            |claim, _| {
                refuted(claim, uniform, |evidence| {
                    format!(
                        "the gradient of W_2 falls by a factor of {:.1} from block 1 to block 32, as sqrt(q_32/q_1)",
                        evidence[0].found.exp()
                    )
                })
            },
        ),
        claim(
            "gradients.pre_ln.blocks_near_identity",
            "The Jacobian of Pre-LN's block l differs from the identity by O(1/sqrt(l)).",
            "Xiong et al. 2020, arXiv:2002.04745, appendix F; Sun et al. 2025, arXiv:2502.05795, Eq. 5; zoo D18",
            &["pre-ln"],
            Verdict::Verified,
            |claim, _| once(claim, near_identity),
        ),
        claim(
            "gradients.pre_ln.jacobian_growth",
            "Without the final norm Pre-LN multiplies squared gradients by q_L/q_0 on the way to x_0.",
            "zoo D46, own",
            &["pre-ln"],
            Verdict::Verified,
            |claim, _| once(claim, jacobian_growth),
        ),
        claim(
            "gradients.peri_ln.smallest",
            "At initialization gradients are ordered Post-LN > Pre-LN > Peri-LN.",
            "Kim et al. 2025, arXiv:2502.02732, as quoted; zoo D47",
            &["post-ln", "pre-ln", "sandwich-ln"],
            Verdict::Refuted,
            |claim, _| {
                refuted(claim, ordering, |evidence| {
                    format!(
                        "of the last W_2 Peri-LN has the larger gradient, {:.2} times Pre-LN's squared: its output norm divides by a \
                         branch of second moment 1/2 and so doubles what Pre-LN has",
                        1.0 / evidence[1].found.exp()
                    )
                })
            },
        ),
        claim(
            "gradients.deepnorm.flat",
            "DeepNorm's gradients at its values are the same in all layers at initialization.",
            "Wang et al. 2022, arXiv:2203.00555; zoo D48",
            &["deepnorm"],
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| flat(lab, share, "deepnorm")),
        ),
        claim(
            "gradients.keel.flat",
            "KEEL's gradients at its values are the same in all layers at initialization.",
            "Chen & Wei 2026, arXiv:2601.19895; zoo D48",
            &["keel"],
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| flat(lab, share, "keel")),
        ),
        Claim {
            domain: "trained translation models",
            ..claim(
                "gradients.post_ln.vanishing_in_decoders",
                "Gradients vanish in Post-LN decoders and not in encoders; LayerNorm is their source.",
                "Liu et al. 2020, arXiv:2004.08249; Takase et al. 2022, arXiv:2206.00330; zoo D53, D54",
                &["post-ln"],
                Verdict::NotApplicable,
                |claim, _| {
                    let reason = "measured while translation models with cross-attention train; at initialization a stack of \
                                  self-attention shows none (gradients.post_ln.two_thirds_decay)";
                    undecidable(claim, reason)
                },
            )
        },
        Claim {
            domain: "setting standard (random W_Q and W_K), at initialization",
            ..claim(
                "gradients.post_ln.scores_vanish_with_collapse",
                "Post-LN's gradients of W_Q fall as 1 - rho: squared, as (1 - rho)^2.",
                "Noci et al. 2022, arXiv:2206.03126; zoo D51, own exponent",
                &["post-ln"],
                Verdict::Verified,
                |claim, _| once(claim, scores_vanish),
            )
        },
    ]
}

/// ln of the ratio of two squared figures, halved: ln of the ratio of norms.
fn half_log_ratio(first: &[f64], last: &[f64]) -> Vec<f64> {
    first.iter().zip(last).map(|(a, b)| (a / b).ln() / 2.0).collect()
}

/// The squared gradients of W_2 in the first block and in the last.
fn first_and_last(curves: &Curves, blocks: usize) -> Result<[Vec<f64>; 2]> {
    Ok([curves.gradient("block.1.call.2.w_2")?, curves.gradient(&format!("block.{blocks}.call.2.w_2"))?])
}

const STACK: &str = "name = \"claim\"\nlayer = \"x = norm(x + ffn(x))\"\n";

fn ffn_stack(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 32;
    let network = Network::xiong_of(placement(STACK, lab.registry)?, width(lab), BLOCKS, 1)?;
    let curves = lab.sampled(&network, draws(lab))?;
    let ratio = half_log_ratio(&curves.at(0, Quantity::Gradient)?, &curves.at(BLOCKS, Quantity::Gradient)?);
    // A norm loses a direction or two of d, and fluctuations take 8 v/d + ... of the logarithm's mean: 3 a block as stated.
    let lost = 3.0 * BLOCKS as f64 / width(lab) as f64;
    let figure = within("ln of the gradient's norm at the input over the output", ratio, Interval::new(-lost, lost));
    Ok(judged(share, vec![figure]))
}

fn two_thirds(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 16;
    let curves = lab.sampled(&xiong(lab, "post-ln", width(lab), BLOCKS, 8)?, draws(lab) / 3)?;
    let [first, last] = first_and_last(&curves, BLOCKS)?;
    let stated = (BLOCKS as f64 - 1.0) / 2.0 * (2f64 / 3.0).ln();
    let figure = around("ln of |dW_2| in block 1 over block 16", half_log_ratio(&first, &last), stated, 2f64.ln());
    Ok(judged(share, vec![figure]))
}

fn token_plateau(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 16;
    let figure = |tokens: usize| -> Result<Figure> {
        let curves = lab.sampled(&xiong(lab, "post-ln", width(lab), BLOCKS, tokens)?, draws(lab) / 2)?;
        // Below the plateau, where tokens are not yet alike, the common mode gains up to 2/(1 + 1/n) a block.
        let ratio =
            half_log_ratio(&curves.at(BLOCKS / 2, Quantity::Gradient)?, &curves.at(BLOCKS, Quantity::Gradient)?);
        let stated = -(tokens as f64).ln() / 2.0;
        Ok(around(format!("ln of gradient, middle block over top, {tokens} tokens"), ratio, stated, QUARTER))
    };
    Ok(judged(share, vec![figure(4)?, figure(8)?]))
}

fn causal(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 16;
    let mut network = xiong(lab, "post-ln", width(lab), BLOCKS, 8)?;
    network.shape.causal = true;
    let [first, last] = first_and_last(&*lab.sampled(&network, draws(lab) / 3)?, BLOCKS)?;
    let no_decay = Interval::at_least(-(2f64.ln()));
    Ok(judged(share, vec![within("ln of |dW_2| in block 1 over block 16", half_log_ratio(&first, &last), no_decay)]))
}

fn inverse_moment(lab: &Lab, share: f64, name: &str, law: fn(f64) -> f64) -> Result<Vec<Evidence>> {
    let mut figures = Vec::new();
    for blocks in [8, 32] {
        let curves = lab.sampled(&xiong(lab, name, width(lab), blocks, 1)?, 2 * draws(lab))?;
        for l in [1, 4, 8] {
            let found = curves.at(l, Quantity::Gradient)?;
            figures.push(near(format!("squared gradient at x_{l}, L = {blocks}"), found, 1.0 / law(l as f64), QUARTER));
        }
    }
    Ok(judged(share, figures))
}

fn uniform(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 32;
    let curves = lab.sampled(&xiong(lab, "pre-ln", width(lab), BLOCKS, 1)?, draws(lab))?;
    let [first, last] = first_and_last(&curves, BLOCKS)?;
    let figure = around("ln of |dW_2| in block 1 over block 32", half_log_ratio(&first, &last), 0.0, 2f64.ln());
    Ok(judged(share, vec![figure]))
}

/// |J^T g - g|/|g| of every block, on the gradient that passes it.
fn near_identity(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const FROM: usize = 4;
    const BLOCKS: usize = 32;
    let network = xiong(lab, "pre-ln", 128, BLOCKS, 1)?;
    let lines = run_seeds(lab, &network, seeds(lab), |graph, run| {
        let at = |l: usize| {
            let missing = || candle_core::Error::Msg(format!("no gradient behind block {l}"));
            run.site_cotangents[site_behind(graph, l)?].as_ref().ok_or_else(missing)
        };
        let point = |l: usize| {
            let (before, behind) = (at(l - 1)?, at(l)?);
            let moved = (before - behind)?;
            Ok(((l as f64 - 1.0 / 3.0).ln(), (dot(&moved, &moved)? / dot(behind, behind)?).ln() / 2.0))
        };
        (FROM..=BLOCKS).map(point).collect::<candle_core::Result<Vec<_>>>()
    })?;
    let slope = Evidence::slope("exponent of |J - 1| in l, l = 4..32", &lines, Interval::around(-0.5, QUARTER), share);
    Ok(vec![slope.stating(-0.5)])
}

fn jacobian_growth(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let figure = |blocks: usize| -> Result<Figure> {
        let placement = without_output(built_in(lab, "pre-ln")?);
        let curves = lab.sampled(&Network::xiong_of(placement, width(lab), blocks, 1)?, draws(lab))?;
        let grown = half_log_ratio(&curves.at(0, Quantity::Gradient)?, &curves.at(blocks, Quantity::Gradient)?);
        let stated = (1.0 + 1.5 * blocks as f64).ln() / 2.0;
        Ok(around(format!("ln of the gradient's norm at x_0 over x_L, L = {blocks}"), grown, stated, 2.0 * TENTH))
    };
    Ok(judged(share, vec![figure(4)?, figure(16)?, figure(32)?]))
}

fn ordering(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 16;
    let last = |name: &str| -> Result<Vec<f64>> {
        let curves = lab.sampled(&xiong(lab, name, width(lab), BLOCKS, 1)?, draws(lab))?;
        curves.gradient(&format!("block.{BLOCKS}.call.2.w_2"))
    };
    let (post, pre, peri) = (last("post-ln")?, last("pre-ln")?, last("sandwich-ln")?);
    let squared = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a / b).ln()).collect();
    let larger = Interval::at_least(0.0);
    Ok(judged(
        share,
        vec![
            within("ln of |dW_2^L|^2, Post-LN over Pre-LN", squared(&post, &pre), larger),
            within("ln of |dW_2^L|^2, Pre-LN over Peri-LN", squared(&pre, &peri), larger),
        ],
    ))
}

fn flat(lab: &Lab, share: f64, name: &str) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 24;
    let mut network = xiong(lab, name, width(lab), BLOCKS, 1)?;
    network.setting.output_projection = true;
    let curves = lab.sampled(&network, draws(lab))?;
    let top = curves.at(BLOCKS, Quantity::Gradient)?;
    let figure = |l: usize| -> Result<Figure> {
        let ratio = half_log_ratio(&curves.at(l, Quantity::Gradient)?, &top);
        Ok(around(format!("ln of the gradient's norm at x_{l} over x_{BLOCKS}"), ratio, 0.0, TENTH))
    };
    Ok(judged(share, vec![figure(1)?, figure(12)?]))
}

fn scores_vanish(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 16;
    let shape = Shape { width: 128, blocks: BLOCKS, tokens: 8, heads: 4, ffn_width: 512, causal: false };
    let network = Network { placement: built_in(lab, "post-ln")?, setting: Setting::standard(), shape };
    let curves = lab.sampled(&network, seeds(lab))?;
    let mut lines = vec![Vec::new(); seeds(lab)];
    for l in 4..=12 {
        let apart = curves.at(l - 1, Quantity::Overlap)?;
        let gradient = curves.gradient(&format!("block.{l}.call.1.w_q"))?;
        for ((line, rho), g) in lines.iter_mut().zip(apart).zip(gradient) {
            line.push(((1.0 - rho).ln(), g.ln()));
        }
    }
    // Half way to the exponents 1 and 3.
    let slope = Evidence::slope("exponent of |dW_Q|^2 in 1 - rho", &lines, Interval::around(2.0, 0.5), split(share, 1));
    Ok(vec![slope.stating(2.0)])
}
