//! Forward and back over the parts of a network, keeping no more than one part's values at a time.
//!
//! Before a part only the values are kept that it and later parts read. On the way back each part runs forward once more,
//! with everything kept that its vjps want. A single part runs once, and gives the same bits as many.

use std::ops::Range;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::execute::attend::{attend, attend_back};
use crate::fold::{Graph, Node, NodeId, Visitor};
use crate::op::{Gradient, Parameters};

/// Where parameters come from: drawn again for each use, or kept.
pub trait Source {
    fn parameters(&mut self, call: usize) -> Result<Parameters>;
}

/// What is met on the way back, from the last node to the first.
pub trait Sink {
    /// A position in [`Graph::sites`], its value, and its total cotangent where the loss depends on it.
    fn site(&mut self, site: usize, value: &Tensor, cotangent: Option<&Tensor>) -> Result<()>;
    /// The gradients of a call that a cotangent reaches, in the order of `Response::parameters`.
    fn gradients(&mut self, call: usize, gradients: Vec<Gradient>) -> Result<()>;
}

/// What stands at the two ends of a network.
pub struct Ends {
    pub output: Tensor,
    /// `None` where the loss does not depend on the input.
    pub input_cotangent: Option<Tensor>,
}

/// Forward and back over `parts` ([`Graph::parts`]), for loss = sum of `cotangent` . output.
///
/// # Errors
/// A tensor operation that fails, with its site; those of `source` and `sink`.
pub fn pass(
    graph: &Graph,
    parts: &[Range<NodeId>],
    source: &mut impl Source,
    input: &Tensor,
    cotangent: &Tensor,
    sink: &mut impl Sink,
) -> Result<Ends> {
    let mut values = vec![None; graph.nodes.len()];
    let mut kept: Vec<Vec<(NodeId, Tensor)>> = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let live = graph.live_at(part.start).filter_map(|id| Some((id, values[id].clone()?)));
        kept.push(live.collect());
        if index + 1 < parts.len() {
            let mut forward = Forward { values, ..Forward::new(graph, source, input, Keep::Output) };
            graph.sweep_part(part.clone(), &mut forward)?;
            values = forward.values;
        }
    }
    let mut site_of = vec![None; graph.nodes.len()];
    for (index, site) in graph.sites.iter().enumerate() {
        site_of[site.node] = Some(index);
    }
    let mut cotangents = vec![None; graph.nodes.len()];
    cotangents[graph.output] = Some(cotangent.clone());
    let mut output = None;
    for part in parts.iter().rev() {
        let mut forward = Forward::new(graph, source, input, Keep::Everything);
        for (id, value) in kept.pop().unwrap_or_default() {
            forward.values[id] = Some(value);
        }
        graph.sweep_part(part.clone(), &mut forward)?;
        let Forward { values, saved, .. } = forward;
        output = output.or_else(|| values[graph.output].clone());
        let mut back = Backward { graph, source, sink, values, saved, cotangents, site_of: &site_of };
        graph.sweep_part_back(part.clone(), &mut back)?;
        cotangents = back.cotangents;
    }
    Ok(Ends { output: output.expect("the last part holds the output"), input_cotangent: cotangents[0].take() })
}

/// What a forward pass keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Values only as long as they are read.
    Output,
    /// All that the way back and the sites want.
    Everything,
}

/// The way forward.
pub struct Forward<'a, S> {
    graph: &'a Graph,
    source: &'a mut S,
    input: &'a Tensor,
    keep: Keep,
    pub values: Vec<Option<Tensor>>,
    /// What each node's op saved for its vjp.
    pub saved: Vec<Vec<Tensor>>,
}

impl<'a, S: Source> Forward<'a, S> {
    pub fn new(graph: &'a Graph, source: &'a mut S, input: &'a Tensor, keep: Keep) -> Self {
        let n = graph.nodes.len();
        Forward { graph, source, input, keep, values: vec![None; n], saved: vec![Vec::new(); n] }
    }

    pub fn value(&self, id: NodeId) -> Result<&Tensor> {
        Ok(self.values[id].as_ref().expect("a sweep visits arguments before their readers and releases after"))
    }
}

impl<S: Source> Visitor for Forward<'_, S> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let value = match node {
            Node::Input => self.input.clone(),
            Node::Sum(terms) => {
                let mut terms = terms.iter().map(|(weight, term)| Ok((*weight, self.value(*term)?)));
                let first = terms.next().expect("a sum has at least one term")?;
                let scaled = |(weight, value): (f64, &Tensor)| scale(weight, value);
                terms.try_fold(scaled(first)?, |sum, term| {
                    let term = scaled(term?)?;
                    (sum + term).map_err(Error::at("a sum"))
                })?
            }
            Node::Apply { call, argument } => {
                let Some(op) = &self.graph.calls[*call].op else {
                    unreachable!("the graph gives every applied call an op");
                };
                let (site, parameters) = (&self.graph.calls[*call].site, self.source.parameters(*call)?);
                let x = self.value(*argument)?;
                match self.keep {
                    Keep::Output => op.forward(site, &parameters, x)?,
                    Keep::Everything => {
                        let (y, saved) = op.forward_saving(site, &parameters, x)?;
                        self.saved[id] = saved;
                        y
                    }
                }
            }
            Node::Attend { call, values } => {
                let values = values.iter().map(|v| self.value(*v).cloned()).collect::<Result<Vec<_>>>()?;
                attend(&self.graph.calls[*call].site, &self.source.parameters(*call)?, &values)?
            }
            // Detached, so that a tape that follows the parameters ends here, as the sweep back does.
            Node::StopGradient(value) => self.value(*value)?.detach(),
        };
        self.values[id] = Some(value);
        Ok(())
    }

    fn release(&mut self, id: NodeId) {
        if self.keep == Keep::Output {
            self.values[id] = None;
        }
    }
}

struct Backward<'a, S, K> {
    graph: &'a Graph,
    source: &'a mut S,
    sink: &'a mut K,
    values: Vec<Option<Tensor>>,
    saved: Vec<Vec<Tensor>>,
    cotangents: Vec<Option<Tensor>>,
    site_of: &'a [Option<usize>],
}

impl<S, K> Backward<'_, S, K> {
    fn accumulate(&mut self, id: NodeId, cotangent: Tensor) -> Result<()> {
        let sum = match self.cotangents[id].take() {
            Some(known) => (known + cotangent).map_err(Error::at("a cotangent"))?,
            None => cotangent,
        };
        self.cotangents[id] = Some(sum);
        Ok(())
    }
}

impl<S: Source, K: Sink> Visitor for Backward<'_, S, K> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        if let (Some(site), Some(value)) = (self.site_of[id], &self.values[id]) {
            self.sink.site(site, value, self.cotangents[id].as_ref())?;
        }
        let Some(cotangent) = self.cotangents[id].clone() else { return Ok(()) };
        let value = |values: &[Option<Tensor>], id: NodeId| {
            values[id].clone().expect("values are kept until their cotangent has passed")
        };
        match node {
            Node::Input | Node::StopGradient(_) => {}
            Node::Sum(terms) => {
                for (weight, term) in terms {
                    let part = scale(*weight, &cotangent)?;
                    self.accumulate(*term, part)?;
                }
            }
            Node::Apply { call, argument } => {
                let Some(op) = &self.graph.calls[*call].op else {
                    unreachable!("the graph gives every applied call an op");
                };
                let (site, parameters) = (&self.graph.calls[*call].site, self.source.parameters(*call)?);
                let x = value(&self.values, *argument);
                let saved = std::mem::take(&mut self.saved[id]);
                let back = op.vjp(site, &parameters, &x, &saved, &cotangent)?;
                self.sink.gradients(*call, back.parameters)?;
                self.accumulate(*argument, back.input)?;
            }
            Node::Attend { call, values } => {
                let tensors: Vec<Tensor> = values.iter().map(|v| value(&self.values, *v)).collect();
                let (site, parameters) = (&self.graph.calls[*call].site, self.source.parameters(*call)?);
                let (each, query) = attend_back(site, &parameters, &tensors, &cotangent)?;
                self.sink.gradients(*call, vec![query])?;
                for (id, part) in values.iter().zip(each) {
                    self.accumulate(*id, part)?;
                }
            }
        }
        Ok(())
    }

    fn release(&mut self, id: NodeId) {
        if id != 0 {
            self.cotangents[id] = None;
        }
        self.values[id] = None;
    }
}

/// weight * value, exactly the value where the weight is 1.
fn scale(weight: f64, value: &Tensor) -> Result<Tensor> {
    if weight == 1.0 {
        return Ok(value.clone());
    }
    (value * weight).map_err(Error::at("a coefficient"))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::execute::{Weights, draw_cotangent, draw_input};
    use crate::op::Registry;
    use crate::profile::Layout;
    use crate::zoo;

    struct Drawn<'a>(Weights, &'a Graph, Layout);

    impl Source for Drawn<'_> {
        fn parameters(&mut self, call: usize) -> Result<Parameters> {
            self.0.of_call(self.1, &self.2, call, &Device::Cpu, DType::F32)
        }
    }

    /// Everything that a sink is told, in numbers.
    #[derive(Default, PartialEq, Debug)]
    struct Told(Vec<(String, Vec<f32>)>);

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|t| t.to_vec1()).expect("an f32 tensor on the host")
    }

    impl Sink for Told {
        fn site(&mut self, site: usize, value: &Tensor, cotangent: Option<&Tensor>) -> Result<()> {
            self.0.push((format!("site {site}"), numbers(value)));
            self.0.push((format!("cotangent {site}"), cotangent.map_or(Vec::new(), numbers)));
            Ok(())
        }

        fn gradients(&mut self, call: usize, gradients: Vec<Gradient>) -> Result<()> {
            for gradient in gradients {
                self.0.push((format!("call {call}"), numbers(&gradient.tensor().expect("a gradient"))));
            }
            Ok(())
        }
    }

    #[test]
    fn many_parts_give_the_bits_of_one() {
        let registry = Registry::builtin();
        for placement in zoo::all(&registry.vocabulary()).unwrap() {
            let shape = placement.overrides.shape(12, 7, 4).unwrap();
            let setting = placement.overrides.setting().unwrap();
            let graph = Graph::new(&placement.at(shape).unwrap(), &setting, &registry).unwrap();
            let told = |blocks: usize| {
                let parts = graph.parts(blocks);
                let mut source = Drawn(Weights::new(3), &graph, Layout::new(&graph));
                let input = draw_input(3, shape, &Device::Cpu, DType::F32).unwrap();
                let cotangent = draw_cotangent(3, shape, &Device::Cpu, DType::F32).unwrap();
                let mut told = Told::default();
                let ends = pass(&graph, &parts, &mut source, &input, &cotangent, &mut told).unwrap();
                (parts.len(), told, numbers(&ends.output), ends.input_cotangent.map(|t| numbers(&t)))
            };
            let (one, three, each) = (told(7), told(3), told(1));
            assert_eq!((one.0, three.0, each.0), (1, 3, 7), "{}", placement.name);
            assert!((&one.1, &one.2, &one.3) == (&three.1, &three.2, &three.3), "{}", placement.name);
            assert!((&one.1, &one.2, &one.3) == (&each.1, &each.2, &each.3), "{}", placement.name);
        }
    }
}
