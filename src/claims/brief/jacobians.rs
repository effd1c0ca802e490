//! What the texts say of the Jacobians of blocks and of their products: A43, A44, A47-A49.

use candle_core::Tensor;

use super::bench::Weighted;
use super::exact::largest;
use super::figures::{MARGIN, ROUGHLY, ratios, roots};
use super::{Basis, Bench, Size, Statement, Trial};
use crate::claims::About;
use crate::error::{Error, Result};
use crate::execute::{Factors, factors};
use crate::profile::Quantity;
use crate::verify::{Evidence, Interval, Verdict};

/// Sub-layers of the course's toy.
const LAYERS: i32 = 12;

/// Up to this share a gradient is called attenuated.
const ATTENUATED: f64 = 0.5;

pub fn statements() -> Vec<Statement> {
    use Verdict::{Refuted, Verified};
    let trial = Trial {
        domain: "any weights, gains 1; judged at initialization",
        about: About::BuiltIn(&["pre-ln", "post-ln"]),
        expected: Verified,
        setting: "xiong",
        stated: &[],
        sizes: &[[64, 2, 4]],
        full: None,
        judge: post_ln_route,
        instead: "",
    };
    vec![
        Statement {
            id: "brief.a43.norms_of_a_zero_map_attenuate",
            text: "The sublayer is close to a zero map, so the LayerNorm Jacobian is dominated by its scaling; when you chain this, gradients to \
                   the early layers are attenuated by a factor that compounds with depth.",
            source: "brief 002",
            basis: Basis::Trial(Trial {
                domain: "at initialization, Post-LN with branches of 0.001, as the premise has it",
                about: About::BuiltIn(&["post-ln"]),
                expected: Refuted,
                sizes: &[[16, 4, 1], [64, 24, 4]],
                full: Some([64, 1000, 4]),
                judge: attenuates,
                instead: "Without a branch the sum is already normalized, the norm divides by 1 and attenuates nothing.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a44.pre_ln_gradient_undiminished",
            text: "Differentiating the Pre-LN update gives an identity term plus the sublayer's Jacobian; the identity guarantees that every \
                   layer receives the downstream gradient essentially undiminished no matter how deep the network is.",
            source: "brief 002; 003, Formula view",
            basis: Basis::Trial(Trial {
                about: About::BuiltIn(&["pre-ln"]),
                expected: Refuted,
                sizes: &[[16, 1, 1], [64, 96, 4]],
                full: Some([64, 1000, 4]),
                judge: undiminished,
                instead: "The identity is there, but the final norm divides by sqrt(E x_N^2): the last layers receive the loss's gradient \
                          diminished as 1/sqrt(N), the first layers in full.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a47.toy_1_05_against_0_84",
            text: "Assume each sublayer contributes a small derivative 0.05 and the LayerNorm Jacobian has size 0.8: across 12 layers 1.05^12 \
                   against 0.84^12.",
            source: "brief 003, Worked numerical examples",
            basis: Basis::Trial(Trial {
                domain: "as a model of 12 sub-layers at initialization, with branches of 0.05",
                expected: Refuted,
                stated: &[1.05, 0.84],
                sizes: &[[16, 6, 1], [64, 6, 4]],
                judge: toy,
                instead: "Derivatives in random directions add in squares, and a norm divides by the rms of the very sum whose branch adds the \
                          gain: with branches of 0.05 both products stay near 1.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a48.post_ln_route_multiplied_by_norm_jacobian",
            text: "Post-norm multiplies the route by the LayerNorm Jacobian at every layer.",
            source: "brief 003, Formula view and Interview Q&A",
            basis: Basis::Trial(Trial {
                about: About::BuiltIn(&["post-ln"]),
                instead: "The cotangent does not pass through a norm in every sub-layer.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a49.norm_jacobian_shrinks_or_stretches",
            text: "Each layer's LayerNorm Jacobian can shrink or stretch some directions.",
            source: "brief 003, Formula view",
            basis: Basis::Trial(Trial {
                about: About::Nothing,
                stated: &[2.0, 0.5],
                sizes: &[[64, 1, 4]],
                judge: shrinks_and_stretches,
                instead: "The gain is 1 whatever the input's scale.",
                ..trial
            }),
        },
    ]
}

/// The gradient at the input to block 1, in that behind the last.
fn first_to_last(bench: &Bench, name: &str, size: Size) -> Result<Vec<f64>> {
    let curves = bench.draws(name, size)?;
    let at = |block: usize| curves.at(block, Quantity::Gradient);
    Ok(roots(&ratios(&at(0)?, &at(size.blocks)?)))
}

fn attenuates(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let figure = format!("post-ln of a zero map: gradient at the input, in that behind block {}", size.blocks);
    Ok(vec![bench.mean(figure, &first_to_last(bench, "post-ln of a zero map", size)?, Interval::at_most(ATTENUATED))])
}

fn toy(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let of = |(name, factor): (&str, &f64)| {
        let stated = factor.powi(LAYERS);
        let figure = format!("{name}: gradient {LAYERS} sub-layers below the output, in that at the output");
        Ok(bench.mean(figure, &first_to_last(bench, name, size)?, Interval::within(stated, ROUGHLY)).stating(stated))
    };
    ["toy pre-norm", "toy post-norm"].into_iter().zip(bench.stated).map(of).collect()
}

/// Back through the calls of these paths, the last first.
fn through(factors: &Factors, cotangent: &Tensor, paths: &[&str]) -> Result<Tensor> {
    paths.iter().try_fold(cotangent.clone(), |cotangent, path| factors.transposed(path, &cotangent))
}

fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a + b).map_err(Error::at("a sum of cotangents"))
}

/// The cotangents of `x` behind the statements of a block and before it, the last first.
fn cotangents(network: &Weighted, block: usize) -> Result<Vec<Tensor>> {
    let run = network.run()?;
    let sites = network.graph.sites.iter().zip(&run.site_cotangents).filter(|(site, _)| site.stream == "x");
    let upto = sites.filter(|(site, _)| site.block <= block).filter_map(|(_, cotangent)| cotangent.clone());
    let mut all: Vec<Tensor> = upto.collect();
    all.reverse();
    all.truncate(3);
    Ok(all)
}

/// The largest difference between the cotangents of a block's two sub-layers and what `step` makes of the one behind.
fn route(
    bench: &Bench,
    size: Size,
    name: &str,
    step: fn(&Factors, &Tensor, &str, &str) -> Result<Tensor>,
) -> Result<Evidence> {
    let network = bench.weighted(name, size)?;
    let at = factors(&network.graph, &network.parameters, &network.input)?;
    let block = size.blocks;
    let cotangents = cotangents(&network, block)?;
    let mut error = 0.0f64;
    let mut scale = 0.0f64;
    for (pair, call) in cotangents.windows(2).zip([2, 1]) {
        let before = step(&at, &pair[0], &format!("block.{block}.call.{call}"), &format!("block.{block}.norm.{call}"))?;
        error = error.max(largest(&(&before - &pair[1]).map_err(Error::at("a difference"))?)?);
        scale = scale.max(largest(&pair[1])?);
    }
    let figure = format!("{name}: largest difference of a block's cotangents from the route's");
    Ok(Evidence::rounding(figure, error, network.rounding() * scale))
}

/// `c' = (I + J_F)^T J_norm^T c`.
fn post_ln_route(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let step = |at: &Factors, behind: &Tensor, call: &str, norm: &str| {
        let normalized = through(at, behind, &[norm])?;
        sum(&normalized, &through(at, &normalized, &[call])?)
    };
    Ok(vec![route(bench, size, "post-ln", step)?])
}

/// `c' = c + J_norm^T J_F^T c`, and how much of the loss's gradient comes to the last block.
fn undiminished(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let step =
        |at: &Factors, behind: &Tensor, call: &str, norm: &str| sum(behind, &through(at, behind, &[call, norm])?);
    let behind_last = bench.draws("pre-ln", size)?.at(size.blocks, Quantity::Gradient)?;
    let figure = format!("pre-ln: gradient behind block {}, in that at the output", size.blocks);
    Ok(vec![
        route(bench, Size { blocks: 2, ..size }, "pre-ln", step)?,
        bench.mean(figure, &roots(&behind_last), Interval::at_least(1.0 - ROUGHLY)).stating(1.0),
    ])
}

/// The gain of a norm's transposed Jacobian along a random direction, at rows of a scale.
pub fn norm_gain(bench: &Bench, size: Size, scale: f64) -> Result<f64> {
    let mut network = bench.weighted("norm alone", size)?;
    network.input = (&network.input * scale).map_err(Error::at("an input"))?;
    let before = network.run()?.input_cotangent.ok_or_else(|| Error::Option {
        message: "no gradient reaches the input of a norm".into(),
        help: "plant a norm that has one".into(),
    })?;
    let square = |t: &Tensor| t.sqr().and_then(|s| s.sum_all()?.to_scalar::<f64>()).map_err(Error::at("a norm"));
    Ok((square(&before)? / square(&network.cotangent)?).sqrt())
}

fn shrinks_and_stretches(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let one = |scale: &f64| {
        let accepted = if *scale > 1.0 { Interval::at_most(1.0 - MARGIN) } else { Interval::at_least(1.0 + MARGIN) };
        let figure = format!("gain of the norm's Jacobian at inputs of rms {scale}");
        Ok(Evidence::exact(figure, norm_gain(bench, size, *scale)?, accepted).stating(1.0 / scale))
    };
    bench.stated.iter().map(one).collect()
}
