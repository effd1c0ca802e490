//! The reverse sweep: cotangents through the transposed equations.

use crate::error::Result;
use crate::fold::{Node, NodeId, Visitor};
use crate::op::Rows;
use crate::sample::forward::{Kept, add_scaled};
use crate::sample::plan::{Figures, Key};

/// Cotangents by node, complete when the node is visited; absent where nothing that was read reached the output.
pub struct Backward<'f, 'p, 'a> {
    key: Key,
    kept: Vec<Option<Kept>>,
    cotangents: Vec<Option<Rows>>,
    figures: &'f mut Figures<'p, 'a>,
}

impl<'f, 'p, 'a> Backward<'f, 'p, 'a> {
    pub fn new(
        key: Key,
        kept: Vec<Option<Kept>>,
        output: NodeId,
        cotangent: Rows,
        figures: &'f mut Figures<'p, 'a>,
    ) -> Self {
        let mut cotangents = vec![None; figures.plan.graph.nodes.len()];
        cotangents[output] = Some(cotangent);
        Backward { key, kept, cotangents, figures }
    }

    /// `weight * c` joins what has reached a node already.
    fn add(&mut self, node: NodeId, weight: f64, c: &Rows) {
        match &mut self.cotangents[node] {
            Some(sum) => add_scaled(sum, weight, c),
            empty => *empty = Some(c * weight),
        }
    }

    /// As [`Backward::add`] with weight 1, for a cotangent that nothing else wants.
    fn give(&mut self, node: NodeId, c: Rows) {
        match &mut self.cotangents[node] {
            Some(sum) => add_scaled(sum, 1.0, &c),
            empty => *empty = Some(c),
        }
    }
}

impl Visitor for Backward<'_, '_, '_> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let Some(c) = self.cotangents[id].take() else { return Ok(()) };
        if let Some(place) = self.figures.plan.place(id) {
            self.figures.cotangent(place, &c);
        }
        match node {
            Node::Input | Node::StopGradient(_) => {}
            Node::Sum(terms) => match terms.as_slice() {
                [(1.0, only)] => self.give(*only, c),
                terms => terms.iter().for_each(|(weight, id)| self.add(*id, *weight, &c)),
            },
            Node::Apply { call, argument } => {
                if let Some(Kept::Op(pull)) = self.kept[*call].take() {
                    let mut matrices = self.figures.plan.matrices(self.key, "sample backward", *call);
                    let (c, parameters) = pull.pull(c, &mut *matrices)?;
                    self.figures.parameters(*call, &parameters);
                    self.give(*argument, c);
                }
            }
            Node::Attend { call, values } => {
                if let Some(Kept::Attend(attended)) = self.kept[*call].take() {
                    let (share, query) = attended.back(&c);
                    self.figures.parameters(*call, &[query]);
                    values.iter().for_each(|value| self.add(*value, share, &c));
                }
            }
        }
        Ok(())
    }
}
