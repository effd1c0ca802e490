//! What a measurement keeps in memory, and what it takes to do.

use candle_core::DType;

use crate::execute::weights::HELD;
use crate::fold::{Graph, Node};
use crate::profile::Layout;

/// Bytes of values that a pass keeps for its way back before it goes over the network in parts.
const KEPT: u64 = 128 << 20;

/// What one network of a graph takes.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Blocks of one part of a pass ([`Graph::parts`]).
    pub blocks: usize,
    /// Bytes at the highest: weights, what forward keeps for the way back, cotangents.
    pub bytes: u64,
}

/// Numbers of one network.
struct Sizes {
    weights: u64,
    /// Of the largest matrix.
    largest: u64,
    /// What a pass keeps for its way back.
    kept: u64,
}

impl Sizes {
    fn of(graph: &Graph) -> Self {
        let shape = graph.network.shape;
        let tokens = shape.tokens as u64;
        let mut sizes = Sizes { weights: 0, largest: 0, kept: 0 };
        for point in &Layout::new(graph).parameters {
            let sides: Vec<u64> = point.parameter.shape.iter().map(|n| *n as u64).collect();
            let matrix = sides.iter().fold(1, |product: u64, n| product.saturating_mul(*n));
            sizes.weights = sizes.weights.saturating_add(matrix);
            sizes.largest = sizes.largest.max(matrix);
            // What enters and leaves a matrix; a norm keeps two values.
            sizes.kept = sizes.kept.saturating_add(tokens.saturating_mul(sides.iter().sum::<u64>()));
        }
        for node in &graph.nodes {
            let softmax = match node {
                Node::Apply { .. } => tokens.saturating_mul(tokens).saturating_mul(shape.heads as u64),
                _ => 0,
            };
            sizes.kept = sizes.kept.saturating_add(value(graph)).saturating_add(softmax);
        }
        sizes
    }

    /// Bytes of matrices that are kept as they were drawn, the host's in f64.
    fn drawn(&self, number: u64) -> u64 {
        let bytes = |numbers: u64| numbers.saturating_mul(number + 8);
        bytes(self.weights).min(HELD as u64).max(bytes(self.largest))
    }
}

/// Numbers of one value.
fn value(graph: &Graph) -> u64 {
    (graph.network.shape.tokens as u64).saturating_mul(graph.network.shape.width as u64)
}

/// The parts in which a pass over a graph runs, and what it holds at its highest.
///
/// Values kept for the way back are those of one part, and between the parts of the streams: least for parts of sqrt(N)
/// blocks.
pub fn need(graph: &Graph, dtype: DType) -> Need {
    let number = dtype.size_in_bytes() as u64;
    let (all, sizes) = (graph.network.shape.blocks, Sizes::of(graph));
    let kept = sizes.kept.saturating_mul(number);
    let blocks = if kept <= KEPT { all } else { all.isqrt().max(1) };
    let parts = all.div_ceil(blocks);
    let starts: u64 = graph.parts(blocks).iter().map(|part| graph.live_at(part.start).count() as u64).sum();
    // A cotangent stands beside each value of the part that is swept.
    let between = starts.saturating_mul(value(graph)).saturating_mul(number);
    let bytes = sizes.drawn(number).saturating_add((kept / parts as u64).saturating_mul(2)).saturating_add(between);
    Need { blocks, bytes }
}

/// Bytes of a pass that keeps all: weights, values and cotangents.
pub fn need_of_all(graph: &Graph, dtype: DType) -> u64 {
    let number = dtype.size_in_bytes() as u64;
    let sizes = Sizes::of(graph);
    let kept = sizes.kept.saturating_mul(2).saturating_add(sizes.weights).saturating_mul(number);
    sizes.drawn(number).saturating_add(kept)
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
