//! One pass through a network, forward and back.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::execute::attend::{attend, attend_back};
use crate::fold::{Graph, Node, NodeId, Visitor};
use crate::op::{Gradient, Parameters};

/// The tensors of one pass, each value `(batch, tokens, width)`.
#[derive(Clone, Debug)]
pub struct Run {
    pub output: Tensor,
    /// The value at each of [`Graph::sites`].
    pub sites: Vec<Tensor>,
    /// The total cotangent at each of [`Graph::sites`]; `None` where the loss does not depend on it.
    pub site_cotangents: Vec<Option<Tensor>>,
    /// The cotangent of the raw input.
    pub input_cotangent: Option<Tensor>,
    /// By call, then in the order of `Response::parameters`; empty where no cotangent reaches the call.
    pub gradients: Vec<Vec<Gradient>>,
}

/// The output alone.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn forward(graph: &Graph, parameters: &[Parameters], input: &Tensor) -> Result<Tensor> {
    let mut pass = Forward::new(graph, parameters, input, Keep::Output);
    graph.sweep(&mut pass)?;
    pass.value(graph.output).cloned()
}

/// Forward and back: every site's value and cotangent, and every parameter's gradient, for
/// loss = sum of `cotangent` . output.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn run(graph: &Graph, parameters: &[Parameters], input: &Tensor, cotangent: &Tensor) -> Result<Run> {
    let mut pass = Forward::new(graph, parameters, input, Keep::Everything);
    graph.sweep(&mut pass)?;
    let output = pass.value(graph.output)?.clone();
    let sites = graph.sites.iter().map(|site| pass.value(site.node).cloned()).collect::<Result<_>>()?;
    let mut back = Backward {
        graph,
        parameters,
        values: pass.values,
        saved: pass.saved,
        cotangents: vec![None; graph.nodes.len()],
        gradients: vec![Vec::new(); graph.calls.len()],
        site_of: vec![None; graph.nodes.len()],
        site_cotangents: vec![None; graph.sites.len()],
    };
    for (index, site) in graph.sites.iter().enumerate() {
        back.site_of[site.node] = Some(index);
    }
    back.cotangents[graph.output] = Some(cotangent.clone());
    graph.sweep_back(&mut back)?;
    Ok(Run {
        output,
        sites,
        site_cotangents: back.site_cotangents,
        input_cotangent: back.cotangents[0].take(),
        gradients: back.gradients,
    })
}

/// What a forward pass keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Values only as long as they are read.
    Output,
    /// All that the way back and the sites want.
    Everything,
}

struct Forward<'a> {
    graph: &'a Graph,
    parameters: &'a [Parameters],
    input: &'a Tensor,
    keep: Keep,
    values: Vec<Option<Tensor>>,
    /// What each node's op saved for its vjp.
    saved: Vec<Vec<Tensor>>,
}

impl<'a> Forward<'a> {
    fn new(graph: &'a Graph, parameters: &'a [Parameters], input: &'a Tensor, keep: Keep) -> Self {
        let n = graph.nodes.len();
        Forward { graph, parameters, input, keep, values: vec![None; n], saved: vec![Vec::new(); n] }
    }

    fn value(&self, id: NodeId) -> Result<&Tensor> {
        Ok(self.values[id].as_ref().expect("a sweep visits arguments before their readers and releases after"))
    }
}

impl Visitor for Forward<'_> {
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
                let (site, parameters) = (&self.graph.calls[*call].site, &self.parameters[*call]);
                let x = self.value(*argument)?;
                match self.keep {
                    Keep::Output => op.forward(site, parameters, x)?,
                    Keep::Everything => {
                        let (y, saved) = op.forward_saving(site, parameters, x)?;
                        self.saved[id] = saved;
                        y
                    }
                }
            }
            Node::Attend { call, values } => {
                let values = values.iter().map(|v| self.value(*v).cloned()).collect::<Result<Vec<_>>>()?;
                attend(&self.graph.calls[*call].site, &self.parameters[*call], &values)?
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

struct Backward<'a> {
    graph: &'a Graph,
    parameters: &'a [Parameters],
    values: Vec<Option<Tensor>>,
    saved: Vec<Vec<Tensor>>,
    cotangents: Vec<Option<Tensor>>,
    gradients: Vec<Vec<Gradient>>,
    site_of: Vec<Option<usize>>,
    site_cotangents: Vec<Option<Tensor>>,
}

impl Backward<'_> {
    fn accumulate(&mut self, id: NodeId, cotangent: Tensor) -> Result<()> {
        let sum = match self.cotangents[id].take() {
            Some(known) => (known + cotangent).map_err(Error::at("a cotangent"))?,
            None => cotangent,
        };
        self.cotangents[id] = Some(sum);
        Ok(())
    }
}

impl Visitor for Backward<'_> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let Some(cotangent) = self.cotangents[id].clone() else { return Ok(()) };
        if let Some(site) = self.site_of[id] {
            self.site_cotangents[site] = Some(cotangent.clone());
        }
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
                let (site, parameters) = (&self.graph.calls[*call].site, &self.parameters[*call]);
                let x = value(&self.values, *argument);
                let saved = std::mem::take(&mut self.saved[id]);
                let back = op.vjp(site, parameters, &x, &saved, &cotangent)?;
                self.gradients[*call] = back.parameters;
                self.accumulate(*argument, back.input)?;
            }
            Node::Attend { call, values } => {
                let tensors: Vec<Tensor> = values.iter().map(|v| value(&self.values, *v)).collect();
                let (site, parameters) = (&self.graph.calls[*call].site, &self.parameters[*call]);
                let (each, query) = attend_back(site, parameters, &tensors, &cotangent)?;
                self.gradients[*call] = vec![query];
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

/// The Jacobians of a network's calls at one input, each as the map of a cotangent to the cotangent before it.
#[derive(Debug)]
pub struct Factors<'a> {
    graph: &'a Graph,
    parameters: &'a [Parameters],
    values: Vec<Option<Tensor>>,
    saved: Vec<Vec<Tensor>>,
}

/// Runs forward and keeps what every call's Jacobian needs.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn factors<'a>(graph: &'a Graph, parameters: &'a [Parameters], input: &Tensor) -> Result<Factors<'a>> {
    let mut pass = Forward::new(graph, parameters, input, Keep::Everything);
    graph.sweep(&mut pass)?;
    let (values, saved) = (pass.values, pass.saved);
    Ok(Factors { graph, parameters, values, saved })
}

impl Factors<'_> {
    /// The values at which the calls' Jacobians are taken, in order of evaluation.
    pub fn arguments(&self) -> impl Iterator<Item = &Tensor> {
        self.graph.nodes.iter().filter_map(|node| match node {
            Node::Apply { argument, .. } => self.values[*argument].as_ref(),
            _ => None,
        })
    }

    /// How many numbers training keeps from the forward pass for the way back: the calls' arguments and what the ops
    /// saved, each tensor once.
    pub fn kept(&self) -> usize {
        let tensors = self.arguments().chain(self.saved.iter().flatten());
        let sizes: HashMap<_, _> = tensors.map(|tensor| (tensor.id(), tensor.elem_count())).collect();
        sizes.values().sum()
    }

    /// The cotangent before the call of this path (`block.3.call.1`), from the one behind it.
    ///
    /// # Errors
    /// [`Error::Option`] where the network has no such call; a tensor operation that fails.
    pub fn transposed(&self, path: &str, cotangent: &Tensor) -> Result<Tensor> {
        let of_path = |(id, node): (NodeId, &Node)| match node {
            Node::Apply { call, argument } if self.graph.calls[*call].site.path() == path => {
                Some((id, *call, *argument))
            }
            _ => None,
        };
        let found = self.graph.nodes.iter().enumerate().find_map(of_path);
        let Some((id, call, argument)) = found else {
            return Err(Error::Option {
                message: format!("the network has no call {path}"),
                help: "calls are named block.1.call.1, block.1.norm.1, output.norm.1".into(),
            });
        };
        let (Some(op), Some(x)) = (&self.graph.calls[call].op, &self.values[argument]) else {
            unreachable!(
                "the graph gives every applied call an op, and a forward pass that keeps everything its value"
            );
        };
        let site = &self.graph.calls[call].site;
        Ok(op.vjp(site, &self.parameters[call], x, &self.saved[id], cotangent)?.input)
    }
}
