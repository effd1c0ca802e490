//! Where the law holds, and what is refused.

use crate::error::{Error, Result};
use crate::fold::Graph;
use crate::op::{Initial, MatrixLaw};
use crate::spec::InitLaw;

/// The law of the weights; refuses what is not covered, with the reason and the remedy.
pub fn check(graph: &Graph, draws: usize) -> Result<MatrixLaw> {
    let shape = graph.network.shape;
    let refuse = |reason: String, help: &str| {
        let subject = format!("sampling {}", graph.network.placement.name);
        Err(Error::Refused { subject, reason, help: help.into() })
    };
    if draws == 0 {
        return Err(Error::Option { message: "no draws were asked for".into(), help: "ask for at least 1".into() });
    }
    for (what, width) in [("width", shape.width), ("FFN width", shape.ffn_width)] {
        if shape.tokens >= width {
            return refuse(
                format!(
                    "{} tokens are not fewer than the {what} {width}, so that no weights would be left to draw",
                    shape.tokens
                ),
                "lower --tokens, raise --width or --ffn-width, or measure real networks",
            );
        }
    }
    match MatrixLaw::of(graph.setting.init) {
        None => refuse(
            format!(
                "the conditional law of weights is known where it looks alike from every direction, not for init {}",
                word(graph.setting.init)
            ),
            "use --init gaussian or --init orthogonal, or measure real networks",
        ),
        Some(MatrixLaw::Orthogonal) if 2 * shape.tokens > narrowest(graph) => refuse(
            format!(
                "{0} rows and {0} cotangents have more directions than an orthogonal matrix of side {1}, so that none would be left to draw",
                shape.tokens,
                narrowest(graph)
            ),
            "lower --tokens to half the width or less, use --init gaussian, or measure real networks",
        ),
        Some(law) => Ok(law),
    }
}

/// The longer side of the weight matrix in which it is shortest; without end where there is no matrix.
fn narrowest(graph: &Graph) -> usize {
    let parameters = graph.calls.iter().flat_map(|call| call.op.iter().flat_map(|op| op.parameters(&call.site)));
    let weights = parameters.filter(|p| matches!(p.initial, Initial::Weight { .. }));
    weights.filter_map(|p| p.shape.into_iter().max()).min().unwrap_or(usize::MAX)
}

fn word(law: InitLaw) -> &'static str {
    InitLaw::NAMES.iter().find(|(_, named)| *named == law).map_or("", |(name, _)| name)
}
