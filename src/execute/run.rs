//! One pass through a network, forward and back, with its tensors kept.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::execute::pass::{Forward, Keep, Sink, Source, pass};
use crate::fold::{Graph, Node, NodeId};
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

/// What a network's values and their cotangents were, on the host, each value `(1, tokens, width)`.
#[derive(Clone, Debug)]
pub struct Values {
    pub output: Tensor,
    /// The value at each of [`Graph::sites`].
    pub sites: Vec<Tensor>,
    /// The total cotangent at each of [`Graph::sites`]; `None` where the loss does not depend on it.
    pub site_cotangents: Vec<Option<Tensor>>,
}

impl Run {
    /// The values of each network of a stack.
    ///
    /// # Errors
    /// Of tensors that are not of so many networks.
    pub fn values(&self, networks: usize) -> candle_core::Result<Vec<Values>> {
        let host = |tensor: &Tensor| tensor.to_device(&Device::Cpu);
        let output = host(&self.output)?;
        let sites = self.sites.iter().map(host).collect::<candle_core::Result<Vec<_>>>()?;
        let cotangents = self.site_cotangents.iter().map(|cotangent| cotangent.as_ref().map(host).transpose());
        let cotangents = cotangents.collect::<candle_core::Result<Vec<_>>>()?;
        let of_network = |network: usize| {
            let own = |tensor: &Tensor| tensor.narrow(0, network, 1);
            Ok(Values {
                output: own(&output)?,
                sites: sites.iter().map(own).collect::<candle_core::Result<_>>()?,
                site_cotangents: cotangents
                    .iter()
                    .map(|cotangent| cotangent.as_ref().map(own).transpose())
                    .collect::<candle_core::Result<_>>()?,
            })
        };
        (0..networks).map(of_network).collect()
    }
}

/// The output alone.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn forward(graph: &Graph, parameters: &[Parameters], input: &Tensor) -> Result<Tensor> {
    let mut source = Given(parameters);
    let mut pass = Forward::new(graph, &mut source, input, Keep::Output);
    graph.sweep(&mut pass)?;
    pass.value(graph.output).cloned()
}

/// Forward and back: every site's value and cotangent, and every parameter's gradient, for
/// loss = sum of `cotangent` . output.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn run(graph: &Graph, parameters: &[Parameters], input: &Tensor, cotangent: &Tensor) -> Result<Run> {
    let mut kept = Kept {
        sites: vec![None; graph.sites.len()],
        site_cotangents: vec![None; graph.sites.len()],
        gradients: vec![Vec::new(); graph.calls.len()],
    };
    let parts = graph.parts(usize::MAX);
    let ends = pass(graph, &parts, &mut Given(parameters), input, cotangent, &mut kept)?;
    let sites = kept.sites.into_iter().map(|value| value.expect("a pass meets every site")).collect();
    Ok(Run {
        output: ends.output,
        sites,
        site_cotangents: kept.site_cotangents,
        input_cotangent: ends.input_cotangent,
        gradients: kept.gradients,
    })
}

/// Parameters that are all there.
struct Given<'a>(&'a [Parameters]);

impl Source for Given<'_> {
    fn parameters(&mut self, call: usize) -> Result<Parameters> {
        Ok(self.0[call].clone())
    }
}

struct Kept {
    sites: Vec<Option<Tensor>>,
    site_cotangents: Vec<Option<Tensor>>,
    gradients: Vec<Vec<Gradient>>,
}

impl Sink for Kept {
    fn site(&mut self, site: usize, value: &Tensor, cotangent: Option<&Tensor>) -> Result<()> {
        self.sites[site] = Some(value.clone());
        self.site_cotangents[site] = cotangent.cloned();
        Ok(())
    }

    fn gradients(&mut self, call: usize, gradients: Vec<Gradient>) -> Result<()> {
        self.gradients[call] = gradients;
        Ok(())
    }
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
    let mut source = Given(parameters);
    let mut pass = Forward::new(graph, &mut source, input, Keep::Everything);
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
