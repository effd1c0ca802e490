//! What holds exactly of one placement: identities at the start, scales that do not matter, bounds for any weights.

use candle_core::Tensor;

use crate::claims::equivalence::small;
use crate::claims::exact::{Both, Pass, Results, bounded, equal, unequal};
use crate::claims::subjects::{built_in, graph, layer, once, with_let, with_output_of, without_output};
use crate::claims::{About, Claim, Lab};
use crate::error::{Error, Result};
use crate::spec::{Placement, Setting};
use crate::verify::{Evidence, Interval, Verdict};

/// A factor on weights that is no power of two.
const LOUDER: f64 = 10.0;

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, names, plan| Claim {
        id,
        statement,
        source,
        domain: "any weights, any shape; eps = 0",
        about: About::BuiltIn(names),
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            "equivalence.identity.at_initialization",
            "ReZero, SkipInit and LayerScale at 0 start as the identity: output and input gradient pass unchanged, and no weight has a gradient.",
            "zoo D10; arXiv:2003.04887, arXiv:2002.10444, arXiv:2103.17239",
            &["rezero", "skipinit", "layerscale"],
            |claim, _| once(claim, identity_at_start),
        ),
        claim(
            "equivalence.pre_ln.telescoping",
            "A Pre-LN stream is its start plus the sum of all branches.",
            "zoo D2; definition",
            &["pre-ln"],
            |claim, _| once(claim, telescoping),
        ),
        claim(
            "equivalence.post_ln.hidden_length",
            "Every hidden state of Post-LN has length sqrt(d) exactly, not only in expectation, whatever the weights.",
            "zoo D1; Xiong et al. 2020, arXiv:2002.04745, section 3.2",
            &["post-ln"],
            |claim, _| once(claim, hidden_length),
        ),
        claim(
            "equivalence.output_norm.scale_free_weights",
            "A matrix that feeds a norm linearly has no scale: out(cW) = out(W), grad(cW) = grad(W)/c, <W, grad W> = 0.",
            "zoo D6, D30; Peri-LN, arXiv:2502.02732, section 3",
            &["peri-ln", "output-norm"],
            |claim, _| once(claim, scale_free),
        ),
        claim(
            "equivalence.pre_ln.weights_have_scale",
            "Pre-LN's branches are not normalized: out(cW_2) is not out(W_2), and the gradient of W_2 grows in proportion to the hidden values.",
            "zoo D7; Kim et al. 2025, arXiv:2502.02732, Proposition 3.1(1)",
            &["pre-ln"],
            |claim, _| once(claim, |lab| hidden_scale(lab, "pre-ln", LOUDER)),
        ),
        claim(
            "equivalence.peri_ln.gradient_regulates_itself",
            "Peri-LN's gradient of W_2 depends on hidden values over branch: scaling W_1 leaves it unchanged.",
            "zoo D8; Kim et al. 2025, arXiv:2502.02732, Proposition 3.1(2)",
            &["peri-ln"],
            |claim, _| once(claim, |lab| hidden_scale(lab, "peri-ln", 1.0)),
        ),
        claim(
            "equivalence.peri_ln.growth_bound",
            "In Peri-LN RMS(x_l) <= RMS(x_0) + 2 l, whatever the weights.",
            "zoo D9; triangle inequality, own",
            &["peri-ln", "sandwich-ln"],
            |claim, _| once(claim, growth_bound),
        ),
        claim(
            "equivalence.gpas.scales_forward_alone",
            "GPAS multiplies the value by 1 - SiLU(alpha) and leaves every gradient as it is.",
            "zoo D11; Chen et al. 2025, arXiv:2506.22049",
            &["pre-ln"],
            |claim, _| once(claim, gradient_preserving_scale),
        ),
        claim(
            "equivalence.attention.equal_tokens_have_no_score_gradient",
            "Where all tokens are equal the gradients of W_Q and W_K are zero: rank collapse stops them.",
            "zoo D49; Noci et al. 2022, arXiv:2206.03126, Theorem 3.2",
            &["post-ln", "pre-ln"],
            |claim, _| once(claim, equal_tokens),
        ),
        claim(
            "equivalence.residual.no_feedback",
            "In ResiDual the dual stream feeds nothing: the block's Jacobian from r to x is zero.",
            "zoo D52; Li et al. 2026, arXiv:2602.08064, appendix A.2; Xie et al. 2023, arXiv:2304.14802",
            &["residual"],
            |claim, _| once(claim, no_feedback),
        ),
        claim(
            "equivalence.pre_ln.centred_weights_need_no_mean",
            "Pre-LN whose input and output matrices have no mean over the width is Pre-RMSNorm.",
            "zoo B.4.11; Jiang et al. 2023, arXiv:2305.14858",
            &["pre-ln"],
            |claim, _| once(claim, centred_weights),
        ),
    ]
}

fn setting(normalizer: &str) -> Setting {
    Setting { normalizer: normalizer.into(), eps: Some(0.0), ..Setting::standard() }
}

fn pass(lab: &Lab, placement: &Placement, normalizer: &str, blocks: usize) -> Result<Pass> {
    Pass::new(graph(lab, placement, &setting(normalizer), small(blocks, false))?, lab.seed)
}

/// The largest entry among the gradients of weight matrices.
fn largest_weight_gradient(results: &Results) -> f64 {
    results.select(|name| name.contains(".w_")).map(|(_, v)| v.largest()).fold(0.0, f64::max)
}

fn identity_at_start(lab: &Lab) -> Result<Vec<Evidence>> {
    let still = layer(lab, "x = x", "x")?;
    let expected = pass(lab, &still, "layer_norm", 3)?.results()?;
    let mut evidence = Vec::new();
    for (name, factor) in [("rezero", "alpha"), ("skipinit", "alpha"), ("layerscale", "lambda")] {
        let mut placement = without_output(built_in(lab, name)?);
        if name == "layerscale" {
            placement = with_let(placement, factor, 0.0);
        }
        let found = pass(lab, &placement, "layer_norm", 3)?.results()?;
        let same = found.equal(&expected, |name| name == "output" || name == "grad.input");
        evidence.push(Evidence { figure: format!("{name} {}", same.figure), ..same });
        let zero = Interval::new(0.0, 0.0);
        evidence.push(Evidence::exact(
            format!("{name}, largest gradient of a weight"),
            largest_weight_gradient(&found),
            zero,
        ));
    }
    Ok(evidence)
}

fn telescoping(lab: &Lab) -> Result<Vec<Evidence>> {
    let stream = without_output(built_in(lab, "pre-ln")?);
    let sum = layer(lab, "x = x + attn(norm(x))\nx = x + ffn(norm(x))", "(2*N + 1)*mean(history)")?;
    let sum = with_output_of(stream.clone(), &sum);
    ["layer_norm", "rms_norm"]
        .into_iter()
        .map(|normalizer| {
            let both = [pass(lab, &stream, normalizer, 4)?.results()?, pass(lab, &sum, normalizer, 4)?.results()?];
            Ok(both[0].equal(&both[1], |name| name == "output"))
        })
        .collect()
}

/// |v|^2/d of every token.
fn squared_lengths(values: &Both, width: usize) -> Both {
    values.of_rows(width, |row| row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64)
}

fn hidden_length(lab: &Lab) -> Result<Vec<Evidence>> {
    let placement = built_in(lab, "post-ln")?;
    let mut evidence = Vec::new();
    for normalizer in ["layer_norm", "rms_norm"] {
        for factor in [1.0, LOUDER] {
            let louder = |w: &Tensor| w * factor;
            let results = pass(lab, &placement, normalizer, 3)?.with("w_1", louder)?.with("w_v", louder)?.results()?;
            let sites = results.select(|name| name.starts_with("x.block.") && !name.starts_with("x.block.0"));
            let longest = sites.map(|(name, values)| {
                let lengths = squared_lengths(values, 24);
                equal(
                    format!("{normalizer}, weights x {factor}, {name}: |x|^2/d - 1"),
                    &lengths,
                    &lengths.ones(),
                    results.roundings,
                )
            });
            evidence.extend(longest.max_by(|a, b| a.found.total_cmp(&b.found)));
        }
    }
    Ok(evidence)
}

fn scale_free(lab: &Lab) -> Result<Vec<Evidence>> {
    let mut evidence = Vec::new();
    for name in ["peri-ln", "output-norm"] {
        let placement = built_in(lab, name)?;
        let plain = pass(lab, &placement, "layer_norm", 2)?;
        let before = plain.results()?;
        for matrix in ["w_2", "w_o"] {
            let louder = pass(lab, &placement, "layer_norm", 2)?.with(matrix, |w| w * LOUDER)?;
            let after = louder.results()?;
            let same = before.equal(&after, |name| name == "output");
            evidence.push(Evidence { figure: format!("{name}, {matrix} x {LOUDER}: {}", same.figure), ..same });
            let call = if matrix == "w_2" { 2 } else { 1 };
            for block in [1, 2] {
                let path = format!("grad.block.{block}.call.{call}.{matrix}");
                let (small, large) = (before.get(&path)?, after.get(&path)?.times(LOUDER));
                evidence.push(equal(format!("{name}, {LOUDER} {path}"), small, &large, before.roundings));
            }
        }
        let path = "block.1.call.2.w_2";
        let along = plain.along(path, before.get(&format!("grad.{path}"))?)?;
        evidence.push(Evidence::rounding(
            format!("{name}, <W, grad W> of {path}"),
            along.0,
            before.roundings * along.1,
        ));
    }
    Ok(evidence)
}

/// Scales W_1 of one block without a final norm: hidden values are as many times larger, and the gradient of W_2 is
/// `expected` times as large.
fn hidden_scale(lab: &Lab, name: &str, expected: f64) -> Result<Vec<Evidence>> {
    let placement = without_output(built_in(lab, name)?);
    let before = pass(lab, &placement, "layer_norm", 1)?.results()?;
    let after = pass(lab, &placement, "layer_norm", 1)?.with("w_1", |w| w * LOUDER)?.results()?;
    let path = "grad.block.1.call.2.w_2";
    let (n, large) = (before.roundings, before.get(path)?.times(expected));
    let gradient = equal(format!("{path} with W_1 x {LOUDER}, over {expected}"), after.get(path)?, &large, n);
    let moved = pass(lab, &placement, "layer_norm", 1)?.with("w_2", |w| w * LOUDER)?.results()?;
    let (left, right) = (before.get("output")?, moved.get("output")?);
    let figure = format!("output with W_2 x {LOUDER}");
    let output = if expected == 1.0 { equal(figure, left, right, n) } else { unequal(figure, left, right, n) };
    Ok(vec![gradient, output])
}

fn growth_bound(lab: &Lab) -> Result<Vec<Evidence>> {
    let mut evidence = Vec::new();
    for name in ["peri-ln", "sandwich-ln"] {
        let placement = built_in(lab, name)?;
        for factor in [1.0, LOUDER] {
            let louder = |w: &Tensor| w * factor;
            let results =
                pass(lab, &placement, "layer_norm", 3)?.with("w_2", louder)?.with("w_v", louder)?.results()?;
            let lengths = |site: &str| Ok::<_, Error>(squared_lengths(results.get(site)?, 24).map(f64::sqrt));
            let start = lengths("x.block.0.step.0")?.largest();
            for block in 1..=3 {
                let limit = start + 2.0 * block as f64;
                let figure = format!("{name}, weights x {factor}, block {block}: largest RMS of a token");
                evidence.push(bounded(figure, &lengths(&format!("x.block.{block}.step.2"))?, limit, results.roundings));
            }
        }
    }
    Ok(evidence)
}

fn gradient_preserving_scale(lab: &Lab) -> Result<Vec<Evidence>> {
    const CUT: f64 = 0.3;
    let placement = without_output(built_in(lab, "pre-ln")?);
    let scaled = layer(lab, "x = x", &format!("x - {CUT}*stop_gradient(x)"))?;
    let scaled = with_output_of(placement.clone(), &scaled);
    let (plain, scaled) =
        (pass(lab, &placement, "layer_norm", 2)?.results()?, pass(lab, &scaled, "layer_norm", 2)?.results()?);
    let output = plain.get("output")?.times(1.0 - CUT);
    Ok(vec![
        equal(format!("output over {}", 1.0 - CUT), scaled.get("output")?, &output, plain.roundings),
        scaled.equal(&plain, |name| name.starts_with("grad.")),
    ])
}

fn equal_tokens(lab: &Lab) -> Result<Vec<Evidence>> {
    let mut evidence = Vec::new();
    for name in ["post-ln", "pre-ln"] {
        let mut pass = pass(lab, &built_in(lab, name)?, "layer_norm", 2)?;
        let first = || pass.input.narrow(1, 0, 1)?.broadcast_as(pass.input.shape())?.contiguous();
        pass.input = first().map_err(Error::at("equal tokens"))?;
        let results = pass.results()?;
        let scores = |name: &str| name.ends_with(".w_q") || name.ends_with(".w_k");
        let largest = results.select(scores).map(|(_, v)| v.largest()).fold(0.0, f64::max);
        let figure = format!("{name}, equal tokens: largest gradient of W_Q and W_K");
        evidence.push(Evidence::rounding(figure, largest, results.cancelled()));
    }
    Ok(evidence)
}

fn no_feedback(lab: &Lab) -> Result<Vec<Evidence>> {
    let results = pass(lab, &without_output(built_in(lab, "residual")?), "layer_norm", 3)?.results()?;
    let largest =
        |start: &str| results.select(|name| name.starts_with(start)).map(|(_, v)| v.largest()).fold(0.0, f64::max);
    let zero = Interval::new(0.0, 0.0);
    Ok(vec![
        Evidence::exact("largest cotangent that x gives r", largest("grad.r.block."), zero),
        Evidence::exact("largest cotangent of x", largest("grad.x.block."), Interval::at_least(f64::MIN_POSITIVE)),
    ])
}

fn centred_weights(lab: &Lab) -> Result<Vec<Evidence>> {
    let placement = built_in(lab, "pre-ln")?;
    let centre = |w: &Tensor| w.broadcast_sub(&w.mean_keepdim(candle_core::D::Minus1)?);
    let results = |normalizer: &str| -> Result<Results> {
        let mut pass = pass(lab, &placement, normalizer, 3)?.with("w_o", centre)?.with("w_2", centre)?;
        pass.input = centre(&pass.input).map_err(Error::at("the input"))?;
        pass.results()
    };
    Ok(vec![results("layer_norm")?.equal(&results("rms_norm")?, |name| name == "output")])
}
