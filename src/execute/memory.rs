//! What a measurement keeps in memory, and what it takes to do.

use candle_core::DType;

use crate::fold::{Graph, Node};
use crate::profile::Layout;

/// Bytes that one seed of a graph holds at its highest: weights, what forward keeps for the way back, cotangents.
pub fn one_seed(graph: &Graph, dtype: DType) -> u64 {
    let shape = graph.network.shape;
    let tokens = shape.tokens as u64;
    let mut weights = 0u64;
    let mut kept = 0u64;
    for point in &Layout::new(graph).parameters {
        let sizes: Vec<u64> = point.parameter.shape.iter().map(|n| *n as u64).collect();
        weights = weights.saturating_add(sizes.iter().fold(1, |product: u64, n| product.saturating_mul(*n)));
        // What enters and leaves a matrix, and their cotangents; a norm keeps two values.
        kept = kept.saturating_add(tokens.saturating_mul(sizes.iter().sum::<u64>()).saturating_mul(2));
    }
    for node in &graph.nodes {
        let value = tokens.saturating_mul(shape.width as u64);
        let softmax = match node {
            Node::Apply { .. } => tokens.saturating_mul(tokens).saturating_mul(2 * shape.heads as u64),
            _ => 0,
        };
        kept = kept.saturating_add(value).saturating_add(softmax);
    }
    // The host draws each matrix in f64 and keeps it for the other placements.
    let number = dtype.size_in_bytes() as u64;
    weights.saturating_mul(number + 8).saturating_add(kept.saturating_mul(number))
}

/// Floating-point operations of one seed: every entry of a matrix is drawn (some 20) and meets each token three times,
/// forward, for the input's cotangent and for its own; attention's pairs of tokens alike.
pub fn one_seed_operations(graph: &Graph) -> f64 {
    let shape = graph.network.shape;
    let tokens = shape.tokens as f64;
    let layout = Layout::new(graph);
    let sizes = layout.parameters.iter().map(|p| p.parameter.shape.iter().map(|n| *n as f64).product::<f64>());
    let calls = graph.calls.len() as f64;
    sizes.sum::<f64>() * (20.0 + 6.0 * tokens) + calls * 12.0 * tokens * tokens * shape.width as f64
}
