//! How far rounding reaches in a network's results.

use candle_core::{DType, Device, Tensor};

use crate::fold::Graph;

/// Roundings on the longest path, forward and back: in a matrix product one for each term of a sum, in a norm or softmax one
/// for each coordinate or token and a few more.
pub(super) fn roundings(graph: &Graph, batch: usize) -> f64 {
    let shape = graph.network.shape;
    let (d, hidden, tokens) = (shape.width as f64, shape.ffn_width as f64, (batch * shape.tokens) as f64);
    let calls = graph.calls.len() as f64;
    let widest = 2.0 * d + hidden + 2.0 * tokens + 32.0;
    2.0 * (calls * widest + graph.nodes.len() as f64)
}

/// The largest relative error that rounding explains in a result t of a network run in f32 or f64, `n (u + (u/u32) reach)`.
///
/// u is half the dtype's epsilon and n the number of roundings; `reach`, the relative error of the same network run in f32 on
/// the host, shows how far one rounding goes, since rounding errors are proportional to the roundoff to first order. The
/// second term is what an ill-conditioned gradient needs, above all one that is zero by cancellation.
pub(super) fn bound(roundings: f64, dtype: DType, reach: f64) -> f64 {
    let epsilon = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    roundings * (epsilon / 2.0 + epsilon / f64::from(f32::EPSILON) * reach)
}

/// max |ours - reference| / max |reference|, 0/0 being 0; NaN where a number of ours is.
pub(super) fn relative_error(ours: &Tensor, reference: &Tensor) -> candle_core::Result<f64> {
    let host = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (ours, reference) = (host(ours)?, host(reference)?);
    let largest = reference.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    // f64::max drops NaN, so a NaN is looked for by itself.
    let differences = ours.iter().zip(&reference).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0f64, |m, v| if v.is_nan() || m.is_nan() { f64::NAN } else { m.max(v) });
    Ok(if worst == 0.0 { 0.0 } else { worst / largest })
}
