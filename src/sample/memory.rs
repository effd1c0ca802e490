//! What a draw keeps in memory and takes to do, and how many draws fit.

use crate::error::{Error, Result};
use crate::fold::{Call, Graph, Node, NodeId, Visitor};
use crate::memory;
use crate::op::{MatrixLaw, Series};

/// Bytes of one number.
const NUMBER: u64 = size_of::<f64>() as u64;

/// How many draws to run at once: all that threads can take, or fewer where memory is short.
///
/// # Errors
/// [`Error::Memory`] where not even one fits beside the results.
pub fn draws_at_once(graph: &Graph, law: MatrixLaw, draws: usize, figures: usize) -> Result<usize> {
    let Some(available) = memory::available() else { return Ok(draws) };
    let results = NUMBER.saturating_mul(draws as u64).saturating_mul(figures as u64);
    fitting(one_draw(graph, law)?, results, available, draws, rayon::current_num_threads())
}

fn fitting(one: u64, results: u64, available: u64, draws: usize, threads: usize) -> Result<usize> {
    match available.saturating_sub(results) / one.max(1) {
        0 => Err(Error::Memory { needed: one.saturating_add(results), available }),
        fit if fit as usize >= threads => Ok(draws),
        fit => Ok(fit as usize),
    }
}

/// Bytes that one draw holds at its highest, to within the small matrices between tokens.
///
/// Kept for the way back: for every weight matrix `(n, m)` its frame T n and what it drew, T m or, of an orthogonal
/// one, T max(n, m); for every call one
/// value more; for softmax the weights between tokens. Besides that the values that live at once, and the work of one call.
pub fn one_draw(graph: &Graph, law: MatrixLaw) -> Result<u64> {
    let tokens = graph.network.shape.tokens as u64;
    let value = tokens * graph.network.shape.width as u64;
    let drawn = |n: usize, m: usize| if law == MatrixLaw::Orthogonal { n.max(m) } else { m };
    let mut kept = 0u64;
    let mut work = 0u64;
    for call in &graph.calls {
        let parameters = call.op.as_ref().map_or_else(Vec::new, |op| op.parameters(&call.site));
        let mut of_call = 0u64;
        for parameter in &parameters {
            of_call = of_call.saturating_add(match parameter.shape.as_slice() {
                [n, m] => tokens.saturating_mul(*n as u64 + drawn(*n, *m) as u64),
                _ => 0,
            });
        }
        if call.site.series == Series::Call {
            let heads = call.site.shape.heads as u64;
            of_call = of_call.saturating_add(heads.saturating_mul(tokens * tokens));
        }
        of_call = of_call.saturating_add(value);
        work = work.max(of_call);
        kept = kept.saturating_add(of_call);
    }
    let mut live = Live { count: 0, most: 0 };
    graph.sweep(&mut live)?;
    // Forward values and, on the way back, as many cotangents.
    let values = value.saturating_mul((live.most + attended(graph)) as u64);
    Ok(kept.saturating_add(work).saturating_add(values).saturating_mul(NUMBER))
}

/// Floating-point operations of one draw: a matrix `(n, m)` wants some 20 for each of the T (n + m) numbers drawn for it,
/// and about 10 T^2 (n + m) for frames and combinations; softmax, norms and sums are small beside them.
pub fn one_draw_operations(graph: &Graph) -> f64 {
    let tokens = graph.network.shape.tokens as f64;
    let of_call = |call: &Call| -> f64 {
        let parameters = call.op.as_ref().map_or_else(Vec::new, |op| op.parameters(&call.site));
        parameters.iter().flat_map(|p| &p.shape).map(|n| *n as f64 * tokens * (20.0 + 10.0 * tokens)).sum()
    };
    graph.calls.iter().map(of_call).sum()
}

/// How many values `attend` keeps beyond their last reader.
fn attended(graph: &Graph) -> usize {
    let kept = graph.nodes.iter().filter(|node| matches!(node, Node::Attend { .. })).flat_map(Node::arguments);
    kept.collect::<std::collections::HashSet<NodeId>>().len()
}

/// Counts the values that live at once.
struct Live {
    count: usize,
    most: usize,
}

impl Visitor for Live {
    fn visit(&mut self, _: NodeId, _: &Node) -> Result<()> {
        self.count += 1;
        self.most = self.most.max(self.count);
        Ok(())
    }

    fn release(&mut self, _: NodeId) {
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_fits_once_runs_one_by_one() {
        assert!(matches!(fitting(100, 0, 99, 8, 2), Err(Error::Memory { needed: 100, available: 99 })));
        assert_eq!(fitting(100, 50, 150, 8, 2).ok(), Some(1));
        assert_eq!(fitting(100, 50, 1000, 8, 2).ok(), Some(8));
    }
}
