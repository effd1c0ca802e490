//! Rules that keep a stream from growing, and what is printed of growth: GPT-2's init, DeepScaleLM, Admin, and the lemmas of
//! The Curse of Depth.

use crate::claims::experiment::{Network, placement};
use crate::claims::figures::{TENTH, cosine, draws, judged, near, run_seeds, seeds, width, within};
use crate::claims::moments::XIONG;
use crate::claims::subjects::{built_in, once, refuted, xiong};
use crate::claims::{About, Claim, Lab};
use crate::error::Result;
use crate::profile::Quantity;
use crate::spec::{Growth, Setting, Shape};
use crate::verify::{Evidence, Interval, Verdict};

const CURSE: &str = "Sun et al. 2025 (The Curse of Depth), arXiv:2502.05795";

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, about, expected, plan| Claim {
        id,
        statement,
        source,
        domain: XIONG,
        about,
        expected,
        plan,
    };
    let built_in = |name: &'static [&'static str]| About::BuiltIn(name);
    vec![
        claim(
            "moments.gpt2_init.independent_of_depth",
            "GPT-2's factor 1/sqrt(2N) on W_O and W_2 makes q_N = 1.75 at every depth.",
            "Radford et al. 2019, section 2.3; zoo D31, own figure",
            built_in(&["gpt2-init"]),
            Verdict::Verified,
            |claim, _| once(claim, gpt2),
        ),
        claim(
            "moments.deepscalelm.unit_variance",
            "DeepScaleLM keeps unit variance at every layer for all N.",
            "Kedia et al. 2024, arXiv:2403.09635, abstract; zoo D36",
            built_in(&["deepscalelm"]),
            Verdict::Refuted,
            |claim, _| {
                refuted(claim, unit_variance, |evidence| {
                    format!(
                        "with the published scales and one token the FFN keeps 1 and attention 1/2, so that the stream of 12 blocks \
                         ends at {:.3}, on its way to their mean 3/4; averaging over tokens takes off more",
                        evidence[0].found
                    )
                })
            },
        ),
        claim(
            "moments.admin.profile_linear",
            "Admin's profile omega_i^2 = 1 + sum of Var F_j makes it Pre-LN up to O(1/sqrt(d)): the outputs agree.",
            "Liu et al. 2020, arXiv:2004.08249; zoo D40, B.4.4",
            built_in(&["pre-ln"]),
            Verdict::Verified,
            |claim, _| once(claim, admin),
        ),
        claim(
            "moments.pre_ln.grows_exponentially",
            "The variance of Pre-LN grows exponentially with depth.",
            "Sun et al. 2025, arXiv:2502.05795, abstract and Lemma 3.2, read of networks at initialization; zoo D33, E8",
            built_in(&["pre-ln"]),
            Verdict::Refuted,
            |claim, _| {
                refuted(
                    claim,
                    |lab, share| growth(lab, share, "pre-ln", 64, draws(lab), Growth::Exponential),
                    |_| {
                        "independent branches add their variances, so that q_l grows as l; exp(l) is the trivial upper bound of the \
                     lemma's product"
                        .into()
                    },
                )
            },
        ),
        claim(
            "moments.pre_ln.grows_linearly",
            "The variance of Pre-LN grows as Theta(l) at initialization.",
            "Xiong et al. 2020, arXiv:2002.04745, Lemma 2; zoo D24",
            built_in(&["pre-ln"]),
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| growth(lab, share, "pre-ln", 64, draws(lab), Growth::Linear)),
        ),
        claim(
            "moments.lns.at_least_linear",
            "The variance of LayerNorm Scaling is at least Theta(L).",
            "Sun et al. 2025, arXiv:2502.05795, Lemma 4.1, read of networks at initialization; zoo D34, E8",
            built_in(&["lns"]),
            Verdict::Refuted,
            |claim, _| {
                refuted(
                    claim,
                    |lab, share| growth(lab, share, "lns", 16, 4 * draws(lab), Growth::Linear),
                    |_| "independent branches of second moment 3/(2l) add to 3/2 H_l: the growth is logarithmic".into(),
                )
            },
        ),
        claim(
            "moments.lns.grows_logarithmically",
            "The variance of LayerNorm Scaling grows as ln l at initialization.",
            "zoo D32, own",
            built_in(&["lns"]),
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| growth(lab, share, "lns", 16, 4 * draws(lab), Growth::Logarithmic)),
        ),
        claim(
            "moments.curse_of_depth.lemma_3_2_is_quadratic",
            "The printed recursion sigma_l^2 = sigma_1^2 prod(1 + 1/sigma_k) solves to Theta(L^2): neither L nor exp(L).",
            "Sun et al. 2025, arXiv:2502.05795, Lemma 3.2; solution own, zoo D33",
            About::Nothing,
            Verdict::Verified,
            |claim, _| once(claim, |_, _| Ok(vec![recursion_exponent(2.0, |_, sigma| 1.0 / sigma)])),
        ),
        claim(
            "moments.curse_of_depth.lemma_4_1_is_linear",
            "The printed recursion of LayerNorm Scaling, prod(1 + 1/(sqrt(k) sigma_k)), solves to Theta(L) exactly.",
            "Sun et al. 2025, arXiv:2502.05795, Lemma 4.1; solution own, zoo D34",
            About::Nothing,
            Verdict::Verified,
            |claim, _| once(claim, |_, _| Ok(vec![recursion_exponent(1.0, |k, sigma| 1.0 / (k.sqrt() * sigma))])),
        ),
        Claim {
            domain: "the recursion as printed",
            ..claim(
                "moments.curse_of_depth.lemma_3_2_exponential",
                "The recursion's solution grows exponentially.",
                CURSE,
                About::Nothing,
                Verdict::Refuted,
                |claim, _| {
                    refuted(
                        claim,
                        |_, _| Ok(vec![exponential_recursion(|_, sigma| 1.0 / sigma)]),
                        |evidence| format!("ln sigma^2 grows as {:.4} ln L between L = 1e5 and 2e5", evidence[0].found),
                    )
                },
            )
        },
    ]
}

fn gpt2(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let mut figures = Vec::new();
    for blocks in [4, 16, 64] {
        // The rule scales W_O, which the setting of Xiong et al. has not; with it attention is W_V W_O.
        let mut network = xiong(lab, "gpt2-init", width(lab), blocks, 1)?;
        network.setting.output_projection = true;
        let found = lab.sampled(&network, draws(lab))?.at(blocks, Quantity::SecondMoment)?;
        figures.push(near(format!("q_N, N = {blocks}"), found, 1.75, TENTH));
    }
    Ok(judged(share, figures))
}

fn unit_variance(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let mut figures = Vec::new();
    for blocks in [12, 96] {
        let width = width(lab);
        let shape = Shape { width, blocks, tokens: 1, heads: 1, ffn_width: 4 * width, causal: false };
        let network = Network { placement: built_in(lab, "deepscalelm")?, setting: Setting::standard(), shape };
        let found = lab.sampled(&network, draws(lab) / 2)?.at(blocks, Quantity::SecondMoment)?;
        figures.push(near(format!("q_N, N = {blocks}, one token"), found, 1.0, TENTH));
    }
    Ok(judged(share, figures))
}

/// Admin's profile in the setting of Xiong et al. with one token, where attention adds 1 and the FFN 1/2.
const ADMIN: &str = r#"
name = "claim"
let = { attn_ = "sqrt(1 + 3/2*(l - 1))", ffn_ = "sqrt(2 + 3/2*(l - 1))" }
layer = """
x = norm(attn_*x + attn(x))
x = norm(ffn_*x + ffn(x))
"""
"#;

fn admin(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 8;
    let width = width(lab) / 2;
    let outputs = |network: &Network| run_seeds(lab, network, seeds(lab), |_, run| Ok(run.output.clone()));
    let pre = outputs(&xiong(lab, "pre-ln", width, BLOCKS, 1)?)?;
    let admin = outputs(&Network::xiong_of(placement(ADMIN, lab.registry)?, width, BLOCKS, 1)?)?;
    let cosines = pre.iter().zip(&admin).map(|(a, b)| cosine(a, b)).collect::<candle_core::Result<Vec<f64>>>();
    let cosines = cosines.map_err(crate::error::Error::at("a cosine"))?;
    // Second moments differ by sqrt(2/d) of themselves between tokens, and angles as much; a block at a time they add up.
    let angle = (2.0 / width as f64).sqrt() * (BLOCKS as f64).sqrt();
    Ok(judged(
        share,
        vec![within("cos of the outputs of Admin and Pre-LN", cosines, Interval::at_least(1.0 - angle * angle / 2.0))],
    ))
}

/// The class of growth of a stream's second moment with one token.
fn growth(lab: &Lab, share: f64, name: &str, blocks: usize, draws: usize, class: Growth) -> Result<Vec<Evidence>> {
    let curves = lab.sampled(&xiong(lab, name, width(lab), blocks, 1)?, draws)?;
    let at = |l| curves.at(l, Quantity::SecondMoment);
    let ladder = [at(blocks / 4)?, at(blocks / 2)?, at(blocks)?];
    let ladders: Vec<[f64; 3]> = (0..ladder[0].len()).map(|i| [ladder[0][i], ladder[1][i], ladder[2][i]]).collect();
    Ok(Evidence::growth(
        format!("second moment behind blocks {}, {}, {blocks}", blocks / 4, blocks / 2),
        &ladders,
        2,
        class,
        share,
    ))
}

/// ln of sigma_L^2 at L and at 2 L, of sigma^2 <- sigma^2 (1 + step(k, sigma)).
fn solved(step: fn(f64, f64) -> f64) -> (f64, f64) {
    const L: usize = 100_000;
    let (mut logarithm, mut half) = (0.0f64, 0.0);
    for k in 1..2 * L {
        logarithm += step(k as f64, (logarithm / 2.0).exp()).ln_1p();
        if k + 1 == L {
            half = logarithm;
        }
    }
    (half, logarithm)
}

/// The exponent of the solution in L, between 1e5 and 2e5; it approaches its limit as ln(L)/L or faster than 1/ln(L)^2.
pub fn recursion_exponent(expected: f64, step: fn(f64, f64) -> f64) -> Evidence {
    let (half, whole) = solved(step);
    let exponent = (whole - half) / 2f64.ln();
    let law = 1.0 / 1e5f64.ln().powi(2);
    Evidence::exact("exponent of sigma_L^2 in L, from 1e5 to 2e5", exponent, Interval::around(expected, law))
        .stating(expected)
}

/// The same against the least that an exponential has.
pub fn exponential_recursion(step: fn(f64, f64) -> f64) -> Evidence {
    let (half, whole) = solved(step);
    // An exponential has ln sigma^2 proportional to L, so that it grows by L ln 2 over a doubling: more than any power's.
    let accepted = Interval::at_least(1e5f64.sqrt());
    Evidence::exact("exponent of sigma_L^2 in L, from 1e5 to 2e5", (whole - half) / 2f64.ln(), accepted)
}
