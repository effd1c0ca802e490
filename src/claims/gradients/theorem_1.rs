//! The gradient of the last FFN's W_2: Theorem 1 of Xiong et al., as stated and as it is.

use crate::claims::figures::{Figure, TENTH, draws, judged, near, width};
use crate::claims::gradients::XIONG;
use crate::claims::subjects::{once, refuted, xiong};
use crate::claims::{About, Claim, Lab};
use crate::error::Result;
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
            "gradients.post_ln.last_ffn",
            "Post-LN's last W_2 has a gradient of norm sqrt(d/3), with one token.",
            "zoo D14, own; Xiong et al. 2020, arXiv:2002.04745, Theorem 1",
            &["post-ln"],
            |claim, _| once(claim, |lab, share| last_ffn(lab, share, "post-ln", |_| 1.0 / 3.0)),
        ),
        claim(
            "gradients.pre_ln.last_ffn",
            "Pre-LN's last W_2 has a gradient of norm sqrt(d/2)/sqrt(1 + 3L/2), with one token.",
            "zoo D14, own; Xiong et al. 2020, arXiv:2002.04745, Theorem 1",
            &["pre-ln"],
            |claim, _| once(claim, |lab, share| last_ffn(lab, share, "pre-ln", |l| 0.5 / (1.0 + 1.5 * l))),
        ),
        claim(
            "gradients.post_ln.theorem_1_bound",
            "|dW_2^L|_F^2 <= d^2 2 ln(100 d) |J_LN|^2 with probability 0.99 - delta - eps/(0.9 + eps).",
            "Xiong et al. 2020, arXiv:2002.04745, Theorem 1 with the proof's constants; zoo D42",
            &["post-ln"],
            |claim, _| once(claim, |lab, share| bound(lab, share, "post-ln", |_| 2.0 / 3.0)),
        ),
        claim(
            "gradients.pre_ln.theorem_1_bound",
            "|dW_2^L|_F^2 <= d^2 2 ln(100 d) |J_LN|^2, |J_LN|^2 = 1/q_L, with probability 0.99 - delta - eps/(0.9 + eps).",
            "Xiong et al. 2020, arXiv:2002.04745, Theorem 1 with the proof's constants; zoo D42",
            &["pre-ln"],
            |claim, _| once(claim, |lab, share| bound(lab, share, "pre-ln", |l| 1.0 / (1.0 + 1.5 * l))),
        ),
        Claim {
            expected: Verdict::Refuted,
            ..claim(
                "gradients.post_ln.theorem_1_size",
                "Post-LN's last W_2 has a gradient of the size d sqrt(ln d).",
                "Xiong et al. 2020, arXiv:2002.04745, Theorem 1 read as a size; zoo E5",
                &["post-ln"],
                |claim, _| {
                    refuted(claim, size_in_width, |evidence| {
                        format!("the bound is loose: the gradient grows as d^{:.2}, sqrt(d/3) of it", evidence[0].found)
                    })
                },
            )
        },
        claim(
            "gradients.post_ln.independent_of_depth",
            "The gradient of Post-LN's last W_2 does not depend on L.",
            "Xiong et al. 2020, arXiv:2002.04745, Theorem 1; zoo D43",
            &["post-ln"],
            |claim, _| once(claim, |lab, share| in_depth(lab, share, "post-ln", 0.0)),
        ),
        claim(
            "gradients.pre_ln.inverse_root_of_depth",
            "The gradient of Pre-LN's last W_2 falls as L^(-1/2).",
            "Xiong et al. 2020, arXiv:2002.04745, Theorem 1; zoo D44",
            &["pre-ln"],
            |claim, _| once(claim, |lab, share| in_depth(lab, share, "pre-ln", -0.5)),
        ),
    ]
}

/// Squared gradients of the last W_2, one a draw.
fn last_gradients(lab: &Lab, name: &str, width: usize, blocks: usize) -> Result<Vec<f64>> {
    lab.sampled(&xiong(lab, name, width, blocks, 1)?, draws(lab))?.gradient(&format!("block.{blocks}.call.2.w_2"))
}

fn last_ffn(lab: &Lab, share: f64, name: &str, law: fn(f64) -> f64) -> Result<Vec<Evidence>> {
    let d = width(lab);
    let figure = |blocks: usize| -> Result<Figure> {
        let found = last_gradients(lab, name, d, blocks)?.iter().map(|g| g / d as f64).collect();
        Ok(near(format!("|dW_2|^2/d, N = {blocks}"), found, law(blocks as f64), 1.5 * TENTH))
    };
    Ok(judged(share, vec![figure(4)?, figure(16)?]))
}

fn bound(lab: &Lab, share: f64, name: &str, jacobian: fn(f64) -> f64) -> Result<Vec<Evidence>> {
    const BLOCKS: usize = 16;
    // (0.1, 0.125)-bounded, as the paper measures.
    const LEAST: f64 = 0.99 - 0.125 - 0.1 / (0.9 + 0.1);
    let d = width(lab) as f64;
    let limit = d * d * 2.0 * (100.0 * d).ln() * jacobian(BLOCKS as f64);
    let found = last_gradients(lab, name, width(lab), BLOCKS)?;
    let kept = found.iter().filter(|g| **g <= limit).count() as u64;
    let figure = format!("share of draws below the bound {limit:.0}");
    Ok(vec![Evidence::proportion(figure, kept, found.len() as u64, Interval::at_least(LEAST), share).stating(LEAST)])
}

/// A line a draw of ln |dW_2| against a coordinate of the network.
fn lines(rungs: Vec<(f64, Vec<f64>)>) -> Vec<Vec<(f64, f64)>> {
    let draws = rungs.iter().map(|(_, found)| found.len()).min().unwrap_or(0);
    (0..draws).map(|i| rungs.iter().map(|(x, found)| (*x, found[i].ln() / 2.0)).collect()).collect()
}

fn size_in_width(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let rung = |d: usize| Ok(((d as f64).ln(), last_gradients(lab, "post-ln", d, 4)?));
    let rungs = [64, 128, 256, 512].into_iter().map(rung).collect::<Result<Vec<_>>>()?;
    // d sqrt(ln d) has a slope of a little more than 1 over these widths; the root of d has 1/2, and the middle is between.
    let slope = Evidence::slope("exponent of |dW_2| in d", &lines(rungs), Interval::new(0.75, 1.25), share);
    Ok(vec![slope.stating(1.0)])
}

fn in_depth(lab: &Lab, share: f64, name: &str, exponent: f64) -> Result<Vec<Evidence>> {
    // The law is in the second moment 1 + 3L/2, so in L + 2/3.
    let rung = |blocks: usize| Ok(((blocks as f64 + 2.0 / 3.0).ln(), last_gradients(lab, name, width(lab), blocks)?));
    let rungs = [2, 4, 8, 16, 32, 64].into_iter().map(rung).collect::<Result<Vec<_>>>()?;
    let slope =
        Evidence::slope("exponent of |dW_2| in L, L = 2..64", &lines(rungs), Interval::around(exponent, TENTH), share);
    Ok(vec![slope.stating(exponent)])
}
