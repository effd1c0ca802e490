//! What a prediction keeps in memory and takes to do.

use crate::effort;
use crate::error::Result;
use crate::fold::{Graph, Node};
use crate::memory;
use crate::op::attention_members;

/// Grams that a call keeps for the way back, at most: attention's ensemble and what it made of it.
const GRAMS_A_CALL: u64 = 12;

/// Products of two Grams for one member of an ensemble, forward and back.
const PRODUCTS_A_MEMBER: f64 = 40.0;

/// Refuses a prediction that does not fit: every call keeps Grams, every node has one while it lives; each member of an
/// attention's ensemble costs products of Grams, and every sum one pass over those of its terms.
pub fn check(graph: &Graph) -> Result<()> {
    let tokens = graph.network.shape.tokens as u64;
    let gram = tokens.saturating_mul(tokens).saturating_mul(size_of::<f64>() as u64);
    let kept = (graph.calls.len() as u64).saturating_mul(GRAMS_A_CALL);
    memory::fits(gram.saturating_mul(kept.saturating_add(live(graph))))?;
    let cube = (tokens as f64).powi(3);
    let members = attention_members(&graph.network.shape) as f64;
    effort::fits(graph.calls.len() as f64 * members * PRODUCTS_A_MEMBER * cube * rayon::current_num_threads() as f64)
}

/// Grams of the values that live together, those between pairs included: no more values than one sum reads, and a few.
fn live(graph: &Graph) -> u64 {
    let most = graph.nodes.iter().filter(|node| matches!(node, Node::Sum(_))).map(|node| node.arguments().len()).max();
    (most.unwrap_or(1) as u64 + 8).pow(2) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::op::Registry;
    use crate::spec::{Overrides, Setting};
    use crate::zoo;

    #[test]
    fn more_tokens_than_fit_in_memory_or_a_day_are_refused() {
        let registry = Registry::builtin();
        let placement = zoo::placement("pre-ln", &registry.vocabulary()).unwrap();
        let refused = |tokens| {
            let shape = Overrides::default().shape(128, 8, tokens).unwrap();
            check(&Graph::new(&placement.at(shape).unwrap(), &Setting::standard(), &registry).unwrap())
        };
        assert!(refused(64).is_ok());
        // Which of the two is short depends on the machine.
        assert!(matches!(refused(5_000), Err(Error::Effort { .. } | Error::Memory { .. })));
        assert!(matches!(refused(1 << 20), Err(Error::Memory { .. })));
    }
}
