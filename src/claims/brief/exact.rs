//! What the texts say the two placements are, and what holds of them for any weights: A1-A3, A50.

use candle_core::{DType, Tensor};

use super::figures::MARGIN;
use super::{Basis, Bench, Size, Statement, Trial};
use crate::claims::About;
use crate::error::{Error, Result};
use crate::fold::Graph;
use crate::op::Parameters;
use crate::profile::{Layout, Quantity};
use crate::reference::{Around, Block, Canonical, forward as by_hand};
use crate::spec::Shape;
use crate::verify::{Evidence, Interval, Verdict};

pub fn statements() -> Vec<Statement> {
    vec![
        Statement {
            id: "brief.a1.post_ln_equation",
            text: "Post-LN: x' = LayerNorm(x + SubLayer(x)).",
            source: "brief 001, The Two Variants; also 000, 002, 003",
            basis: Basis::Trial(Trial {
                domain: "any weights",
                about: About::BuiltIn(&["post-ln"]),
                expected: Verdict::Verified,
                setting: "standard",
                stated: &[],
                sizes: &[[64, 2, 4]],
                full: None,
                judge: |bench, size| written_out(bench, size, Canonical::PostLn),
                instead: "the placement is not that equation.",
            }),
        },
        Statement {
            id: "brief.a2.pre_ln_equation",
            text: "Pre-LN: x' = x + SubLayer(LayerNorm(x)), with a final layer normalization after the last layer.",
            source: "brief 001, The Two Variants; also 000, 002 and 003, which do not mention the final one",
            basis: Basis::Trial(Trial {
                domain: "any weights",
                about: About::BuiltIn(&["pre-ln"]),
                expected: Verdict::Verified,
                setting: "standard",
                stated: &[],
                sizes: &[[64, 2, 4]],
                full: None,
                judge: |bench, size| written_out(bench, size, Canonical::PreLn),
                instead: "the placement is not that equation.",
            }),
        },
        Statement {
            id: "brief.a3.post_ln_norm_constant",
            text: "Post-LN hidden states have constant norm across layers.",
            source: "brief 001, Why Post-LN Is Unstable; Xiong et al. 2020, arXiv:2002.04745, Lemma 2",
            basis: Basis::Trial(Trial {
                domain: "any weights, gains 1",
                about: About::BuiltIn(&["post-ln"]),
                expected: Verdict::Verified,
                setting: "xiong",
                stated: &[1.0],
                sizes: &[[64, 32, 4]],
                full: Some([64, 1000, 4]),
                judge: norm_constant,
                instead: "the norm changes from block to block.",
            }),
        },
        Statement {
            id: "brief.a50.final_output_normalized_post_not_pre",
            text: "Final block output normalized? Pre-norm: not guaranteed. Post-norm: yes.",
            source: "brief 003, Stability cheat sheet",
            basis: Basis::Trial(Trial {
                domain: "any weights, gains 1; judged at initialization",
                about: About::BuiltIn(&["pre-ln", "post-ln"]),
                expected: Verdict::Verified,
                setting: "xiong",
                stated: &[1.0],
                sizes: &[[64, 8, 4]],
                full: None,
                judge: output_normalized,
                instead: "the last block's output is normalized in both, or in neither.",
            }),
        },
    ]
}

/// The placement against the equations typed by hand, on the same weights.
fn written_out(bench: &Bench, size: Size, canonical: Canonical) -> Result<Vec<Evidence>> {
    let network = bench.weighted(canonical.name(), size)?;
    let Shape { heads, causal, .. } = network.graph.network.shape;
    let eps = 1e-5;
    let around = Around { heads, causal, centred: true, eps };
    let at = Error::at("the equations by hand");
    let theirs = by_hand(canonical, &blocks(&network.graph, &network.parameters), around, &network.input);
    let theirs = theirs.map_err(at)?;
    let ours = network.run()?.output;
    let scale = largest(&theirs)?.max(1.0);
    let difference = (ours - theirs).map_err(Error::at("a difference"))?;
    let figure = format!("largest difference from {} written out by hand", canonical.name());
    Ok(vec![Evidence::rounding(figure, largest(&difference)?, network.rounding() * scale)])
}

/// The weight matrices by block.
fn blocks(graph: &Graph, parameters: &[Parameters]) -> Vec<Block> {
    let points = Layout::new(graph).parameters;
    let weights = points.iter().filter(|p| p.parameter.name.starts_with("w_"));
    let tensors: Vec<&Tensor> =
        weights.filter_map(|p| parameters[p.call].iter().nth(p.order).map(|(_, tensor)| tensor)).collect();
    let block = |w: &[&Tensor]| {
        let [w_q, w_k, w_v, w_o, w_1, w_2] = std::array::from_fn(|i| w[i].clone());
        Block { w_q, w_k, w_v, w_o, w_1, w_2 }
    };
    tensors.chunks_exact(6).map(block).collect()
}

/// The largest entry.
pub fn largest(values: &Tensor) -> Result<f64> {
    let entries = values.to_dtype(DType::F64).and_then(|v| v.flatten_all()?.to_vec1::<f64>());
    Ok(entries.map_err(Error::at("a figure"))?.iter().fold(0.0, |largest: f64, v| largest.max(v.abs())))
}

/// What rounding can do to the second moment of normalized values: sums of `width` terms in the mean, the variance and
/// the moment itself, the moment also over tokens, with a root and a division, each a rounding on either side.
pub fn moment_rounding(size: Size) -> f64 {
    (6 * size.width + 2 * size.tokens + 16) as f64 * f64::EPSILON
}

fn norm_constant(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let curves = bench.draws("post-ln", size)?;
    let mut error = 0.0f64;
    for block in 1..=size.blocks {
        let moments = curves.at(block, Quantity::SecondMoment)?;
        error = moments.iter().fold(error, |error, q| error.max((q - bench.stated[0]).abs()));
    }
    let figure = format!("post-ln: largest |E x^2 - {}| behind blocks 1 to {}", bench.stated[0], size.blocks);
    Ok(vec![Evidence::rounding(figure, error, moment_rounding(size)).stating(0.0)])
}

fn output_normalized(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let behind_last = |name: &str| bench.draws(name, size)?.at(size.blocks, Quantity::SecondMoment);
    let post = behind_last("post-ln")?;
    let error = post.iter().fold(0.0, |error: f64, q| error.max((q - bench.stated[0]).abs()));
    Ok(vec![
        Evidence::rounding("post-ln: largest |E x^2 - 1| of the last block's output", error, moment_rounding(size)),
        bench.mean(
            "pre-ln: E x^2 of the last block's output",
            &behind_last("pre-ln")?,
            Interval::at_least(bench.stated[0] + MARGIN),
        ),
    ])
}
