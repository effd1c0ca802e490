//! The forward sweep: realised rows through the equations.

use std::sync::Arc;

use crate::error::Result;
use crate::fold::{Node, NodeId, Visitor};
use crate::op::{DrawPull, Rows};
use crate::sample::attend::{self, Attended};
use crate::sample::plan::{Figures, Key};

/// What the way back through a call needs.
pub enum Kept {
    Op(Box<dyn DrawPull>),
    Attend(Attended),
}

/// Values by node, present from their evaluation to their last reader.
pub struct Forward<'f, 'p, 'a> {
    key: Key,
    values: Vec<Option<Arc<Rows>>>,
    /// By call.
    kept: Vec<Option<Kept>>,
    figures: &'f mut Figures<'p, 'a>,
}

impl<'f, 'p, 'a> Forward<'f, 'p, 'a> {
    pub fn new(key: Key, input: Rows, figures: &'f mut Figures<'p, 'a>) -> Self {
        let graph = figures.plan.graph;
        let mut values = vec![None; graph.nodes.len()];
        values[0] = Some(Arc::new(input));
        Forward { key, values, kept: graph.calls.iter().map(|_| None).collect(), figures }
    }

    /// The network's output and what every call kept.
    pub fn finish(mut self, output: NodeId) -> (Arc<Rows>, Vec<Option<Kept>>) {
        let output = self.values[output].take().expect("the output is released by no node");
        (output, self.kept)
    }

    fn read(&self, id: NodeId) -> &Arc<Rows> {
        self.values[id].as_ref().expect("arguments come before their node and stay until their last reader")
    }

    /// A combination; one term of weight 1 shares its value.
    fn sum(&self, terms: &[(f64, NodeId)]) -> Arc<Rows> {
        if let [(1.0, id)] = terms {
            return self.read(*id).clone();
        }
        let Some(((weight, first), rest)) = terms.split_first() else {
            let input = self.figures.plan.layout.shape;
            return Arc::new(Rows::zeros(input.width, input.tokens));
        };
        let mut sum = self.read(*first).as_ref() * *weight;
        for (weight, id) in rest {
            add_scaled(&mut sum, *weight, self.read(*id));
        }
        Arc::new(sum)
    }
}

/// `to += weight * from`.
pub fn add_scaled(to: &mut Rows, weight: f64, from: &Rows) {
    to.as_mut_slice().iter_mut().zip(from.as_slice()).for_each(|(t, f)| *t += weight * f);
}

impl Visitor for Forward<'_, '_, '_> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let value = match node {
            Node::Input => self.read(id).clone(),
            Node::Sum(terms) => self.sum(terms),
            Node::StopGradient(argument) => self.read(*argument).clone(),
            Node::Apply { call, argument } => {
                let at = &self.figures.plan.graph.calls[*call];
                let op = at.op.as_ref().expect("only attend has no op, and it is a node of its own kind");
                let mut matrices = self.figures.plan.matrices(self.key, "sample forward", *call);
                let drawn = op.draw(&at.site, self.read(*argument), &mut *matrices)?;
                self.kept[*call] = Some(Kept::Op(drawn.pull));
                Arc::new(drawn.output)
            }
            Node::Attend { call, values } => {
                let (output, attended) = attend::forward(values.iter().map(|v| self.read(*v).clone()).collect());
                self.kept[*call] = Some(Kept::Attend(attended));
                Arc::new(output)
            }
        };
        if let Some(place) = self.figures.plan.place(id) {
            self.figures.value(place, &value);
        }
        self.values[id] = Some(value);
        Ok(())
    }

    fn release(&mut self, id: NodeId) {
        self.values[id] = None;
    }
}
