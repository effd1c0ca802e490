//! Lemmas 1 and 2 of Xiong et al. 2020, and the recursion behind them.

use crate::claims::experiment::{Network, placement};
use crate::claims::figures::{Figure, TENTH, argument_moments, around, draws, judged, near, seeds, width, within};
use crate::claims::moments::XIONG;
use crate::claims::subjects::{once, xiong};
use crate::claims::{About, Claim, Lab, meanfield};
use crate::error::Result;
use crate::profile::Quantity;
use crate::verify::{Evidence, Interval, Verdict};

const LEMMA_2: &str = "Xiong et al. 2020, arXiv:2002.04745, Lemma 2";

/// How far a cosine of finitely many coordinates may lie from the mean field's: half of the margin, as cosines end at 1.
const COSINE: f64 = TENTH / 2.0;

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, about, plan| Claim {
        id,
        statement,
        source,
        domain: XIONG,
        about,
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            "moments.ffn.relu_half",
            "E|relu(X)|^2 = sigma^2 d/2 for Gaussian X: a ReLU FFN halves the second moment.",
            "Xiong et al. 2020, arXiv:2002.04745, Lemma 1; zoo D20",
            About::Nothing,
            |claim, _| once(claim, relu_half),
        ),
        claim(
            "moments.post_ln.second_norm_input",
            "The input of Post-LN's second norm has E|x|^2 = 3 d/2 in every block.",
            LEMMA_2,
            About::BuiltIn(&["post-ln"]),
            |claim, _| once(claim, second_norm_input),
        ),
        claim(
            "moments.post_ln.first_norm_input",
            "The input of Post-LN's first norm has (1 + a) d with a = (1 + (n-1) rho)/n, between d and 2 d.",
            "Xiong et al. 2020, arXiv:2002.04745, Lemma 2; zoo D21, own recursion",
            About::BuiltIn(&["post-ln"]),
            |claim, _| once(claim, first_norm_input),
        ),
        claim(
            "moments.pre_ln.lemma_2_bounds",
            "(1 + l/2) d <= E|x_l|^2 <= (1 + 3l/2) d.",
            LEMMA_2,
            About::BuiltIn(&["pre-ln"]),
            |claim, _| once(claim, lemma_2_bounds),
        ),
        claim(
            "moments.pre_ln.recursion",
            "q and the moment between tokens grow by a = (1 + (n-1) rho)/n, then by 1/2 and kappa(rho)/2.",
            "zoo D23, own; arc-cosine kernel, Cho & Saul 2009",
            About::BuiltIn(&["pre-ln"]),
            |claim, _| once(claim, recursion),
        ),
        claim(
            "moments.pre_ln.single_token",
            "With one token q_l = 1 + 3l/2 exactly: Lemma 2's upper bound is reached.",
            "zoo D24, own",
            About::BuiltIn(&["pre-ln"]),
            |claim, _| once(claim, |lab, share| at_blocks(lab, share, "pre-ln", &[1, 8, 64], |l| 1.0 + 1.5 * l)),
        ),
        claim(
            "moments.peri_ln.two_a_block",
            "Without the norm of the embedding Peri-LN has q_l = q_0 + 2 l: each branch has second moment 1.",
            "Kim et al. 2025, arXiv:2502.02732; zoo D29",
            About::BuiltIn(&["sandwich-ln"]),
            |claim, _| once(claim, |lab, share| at_blocks(lab, share, "sandwich-ln", &[1, 8, 64], |l| 1.0 + 2.0 * l)),
        ),
        claim(
            "moments.output_norm.two_a_block",
            "The output norm inside the residual has the same q_l = q_0 + 2 l.",
            "zoo D30; OLMo 2",
            About::BuiltIn(&["output-norm"]),
            |claim, _| once(claim, |lab, share| at_blocks(lab, share, "output-norm", &[1, 8, 64], |l| 1.0 + 2.0 * l)),
        ),
        claim(
            "moments.lns.harmonic",
            "LayerNorm Scaling has q_l = 1 + 3/2 H_l, H the harmonic numbers: logarithmic growth.",
            "zoo D32, own; rule of Sun et al. 2025, arXiv:2502.05795",
            About::BuiltIn(&["lns"]),
            |claim, _| {
                once(claim, |lab, share| {
                    at_blocks(lab, share, "lns", &[1, 8, 64], |l| {
                        1.0 + 1.5 * (1..=l as usize).map(|k| 1.0 / k as f64).sum::<f64>()
                    })
                })
            },
        ),
        claim(
            "moments.pre_ln.concentration",
            "|x_L|^2 is (0.1, 0.125)-bounded: it exceeds its mean by a tenth with probability 0.125 at most.",
            "Xiong et al. 2020, arXiv:2002.04745, Definition 1 and section 3.3; zoo D41",
            About::BuiltIn(&["pre-ln"]),
            |claim, _| once(claim, concentration),
        ),
        claim(
            "moments.ffn.xavier_wide_hidden",
            "With a hidden width of 4 d, Xavier's variance 2/(d + 4d) gives the FFN 0.32 in place of 1/2.",
            "zoo E28, own",
            About::Nothing,
            |claim, _| once(claim, xavier_wide),
        ),
    ]
}

/// A placement's text in the setting of Xiong et al., one token.
fn text(lab: &Lab, text: &str, blocks: usize) -> Result<Network> {
    Network::xiong_of(placement(text, lab.registry)?, width(lab), blocks, 1)
}

fn relu_half(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let scaled = |sigma: u32| -> Result<Figure> {
        let network = text(lab, &format!("name = \"claim\"\nlayer = \"x = ffn({sigma}*x)\""), 1)?;
        let found = lab.sampled(&network, 2 * draws(lab))?.output(Quantity::SecondMoment)?;
        Ok(near(format!("second moment, sigma = {sigma}"), found, f64::from(sigma).powi(2) / 2.0, TENTH))
    };
    Ok(judged(share, vec![scaled(1)?, scaled(3)?]))
}

fn xavier_wide(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    // Over 1/fan_in: sqrt(0.4/d d) for W_1, sqrt(0.4/d 4d) for W_2.
    let xavier = "name = \"claim\"\ninit = { w_1 = \"sqrt(2/5)\", w_2 = \"sqrt(8/5)\" }\nlayer = \"x = ffn(x)\"";
    let mut network = text(lab, xavier, 1)?;
    network.shape.ffn_width = 4 * network.shape.width;
    let found = lab.sampled(&network, draws(lab))?.output(Quantity::SecondMoment)?;
    Ok(judged(share, vec![near("second moment of the FFN, hidden width 4 d", found, 0.32, TENTH)]))
}

/// The second moments of the inputs of one norm of each Post-LN block (0 the first, 1 the second).
fn norm_inputs(lab: &Lab, tokens: usize, blocks: usize, which: usize) -> Result<Vec<Vec<f64>>> {
    const CALLS: usize = 4;
    let network = xiong(lab, "post-ln", 128, blocks, tokens)?;
    let all = argument_moments(lab, &network, 3 * seeds(lab))?;
    let of = |l: usize| all.iter().map(|seed| seed[CALLS * l + 1 + 2 * which]).collect();
    Ok((0..blocks).map(of).collect())
}

fn second_norm_input(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let inputs = norm_inputs(lab, 4, 6, 1)?;
    let figure =
        |(l, values): (usize, Vec<f64>)| near(format!("block {}, input of the second norm", l + 1), values, 1.5, TENTH);
    Ok(judged(share, inputs.into_iter().enumerate().map(figure).collect()))
}

fn first_norm_input(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let expected = meanfield::post_ln(6, 4);
    let inputs = norm_inputs(lab, 4, 6, 0)?;
    let figure = |(l, values): (usize, Vec<f64>)| {
        near(format!("block {}, input of the first norm", l + 1), values, expected[l].0.q, TENTH)
    };
    Ok(judged(share, inputs.into_iter().enumerate().map(figure).collect()))
}

const DEPTHS: [usize; 4] = [1, 3, 8, 24];

fn lemma_2_bounds(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let curves = lab.sampled(&xiong(lab, "pre-ln", width(lab), 24, 4)?, draws(lab))?;
    let figure = |l: usize| {
        let bounds = Interval::new(1.0 + l as f64 / 2.0, 1.0 + 1.5 * l as f64);
        Ok(within(format!("block {l}, second moment"), curves.at(l, Quantity::SecondMoment)?, bounds))
    };
    Ok(judged(share, DEPTHS.into_iter().map(figure).collect::<Result<_>>()?))
}

fn recursion(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let expected = meanfield::pre_ln(24, 4);
    let curves = lab.sampled(&xiong(lab, "pre-ln", width(lab), 24, 4)?, draws(lab))?;
    let mut figures = Vec::new();
    for l in DEPTHS {
        let (q, rho) = (curves.at(l, Quantity::SecondMoment)?, curves.at(l, Quantity::Overlap)?);
        figures.push(near(format!("block {l}, second moment"), q, expected[l].q, TENTH));
        figures.push(around(format!("block {l}, overlap"), rho, expected[l].cosine(), COSINE));
    }
    Ok(judged(share, figures))
}

/// Second moments behind some blocks against a law in l, with one token, where the law is exact at any width.
fn at_blocks(lab: &Lab, share: f64, name: &str, blocks: &[usize], law: fn(f64) -> f64) -> Result<Vec<Evidence>> {
    let deepest = blocks.iter().copied().max().unwrap_or(1);
    let curves = lab.sampled(&xiong(lab, name, width(lab), deepest, 1)?, draws(lab))?;
    let figure = |&l: &usize| {
        Ok(near(format!("block {l}, second moment"), curves.at(l, Quantity::SecondMoment)?, law(l as f64), TENTH))
    };
    Ok(judged(share, blocks.iter().map(figure).collect::<Result<_>>()?))
}

fn concentration(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 6;
    let trials = 4 * draws(lab);
    let curves = lab.sampled(&xiong(lab, "pre-ln", 512, BLOCKS, 1)?, trials)?;
    let mean = 1.0 + 1.5 * BLOCKS as f64;
    let kept = curves.at(BLOCKS, Quantity::SecondMoment)?.iter().filter(|q| **q <= 1.1 * mean).count();
    let figure = "share of draws up to a tenth above the mean";
    Ok(vec![Evidence::proportion(figure, kept as u64, trials as u64, Interval::at_least(1.0 - 0.125), share)])
}
