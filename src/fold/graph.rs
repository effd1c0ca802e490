//! A network written down: nodes in order of evaluation, and the sweeps over them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::fold::{Algebra, Walk, fold_network};
use crate::memory;
use crate::op::{Op, Registry, Role, Series, Site, Stage};
use crate::spec::{Apply, Coefficient, Concrete, History, Setting};

/// What the nodes and calls of one block take, within a factor of a few.
const BYTES_A_BLOCK: u64 = 16_384;

/// A node's position in [`Graph::nodes`]; arguments come before their node.
pub type NodeId = usize;

/// One step of evaluation.
#[derive(Clone, Debug)]
pub enum Node {
    /// The raw input.
    Input,
    /// A linear combination; a stream's site is one with a single term of weight 1.
    Sum(Vec<(f64, NodeId)>),
    /// A normalizer or sub-layer: a position in [`Graph::calls`].
    Apply { call: usize, argument: NodeId },
    /// Sum over i of softmax_i(query . rms_norm(v_i)) v_i.
    Attend { call: usize, values: Vec<NodeId> },
    /// Forward the value, backward 0.
    StopGradient(NodeId),
}

impl Node {
    /// The nodes read, in order.
    pub fn arguments(&self) -> Vec<NodeId> {
        match self {
            Node::Input => vec![],
            Node::Sum(terms) => terms.iter().map(|(_, id)| *id).collect(),
            Node::Apply { argument, .. } | Node::StopGradient(argument) => vec![*argument],
            Node::Attend { values, .. } => values.clone(),
        }
    }
}

/// An op at its place. `attend` has no op: its rule belongs to the language.
#[derive(Clone, Debug)]
pub struct Call {
    pub op: Option<Arc<dyn Op>>,
    pub site: Site,
}

/// A place where a stream's value is recorded (design section 3, "site").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePoint {
    pub stream: String,
    /// 0 before the first block.
    pub block: usize,
    /// The statement of the layer, from 1; 0 before the first block.
    pub step: usize,
    pub node: NodeId,
}

/// A network as nodes, with its calls and sites in order of evaluation.
#[derive(Clone, Debug)]
pub struct Graph {
    pub network: Concrete,
    pub setting: Arc<Setting>,
    /// Node 0 is the raw input.
    pub nodes: Vec<Node>,
    pub calls: Vec<Call>,
    pub sites: Vec<SitePoint>,
    pub output: NodeId,
    /// The last node that reads each node; itself where none does.
    last_read: Vec<NodeId>,
}

/// Something that sweeps over a graph: one visit a node, then a release when nothing will read it again.
pub trait Visitor {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()>;
    /// Node `id` will not be read again in this sweep.
    fn release(&mut self, _id: NodeId) {}
}

impl Graph {
    /// Writes down a network; named ops are looked up in the registry.
    ///
    /// # Errors
    /// An op that the registry does not know; [`crate::error::Error::Memory`] where the nodes do not fit.
    pub fn new(network: &Concrete, setting: &Setting, registry: &Registry) -> Result<Graph> {
        memory::fits((network.shape.blocks as u64).saturating_mul(BYTES_A_BLOCK))?;
        let mut writer = Writer {
            registry,
            graph: Graph {
                network: network.clone(),
                setting: Arc::new(setting.clone()),
                nodes: vec![Node::Input],
                calls: Vec::new(),
                sites: Vec::new(),
                output: 0,
                last_read: Vec::new(),
            },
            stage: Stage::Input,
            counts: HashMap::new(),
            factors: Arc::new(Vec::new()),
            sums: HashMap::new(),
        };
        let output = fold_network(network, Linear(vec![(1.0, 0)]), &mut writer)?;
        writer.graph.output = writer.node_of(output);
        let mut graph = writer.graph;
        graph.last_read = (0..graph.nodes.len()).collect();
        for (id, node) in graph.nodes.iter().enumerate() {
            for argument in node.arguments() {
                graph.last_read[argument] = id;
            }
        }
        graph.last_read[graph.output] = graph.nodes.len();
        Ok(graph)
    }

    /// Visits every node, arguments first.
    pub fn sweep(&self, visitor: &mut impl Visitor) -> Result<()> {
        self.sweep_part(0..self.nodes.len(), visitor)
    }

    /// Visits the nodes of a part, arguments first; the parts before it have been swept.
    pub fn sweep_part(&self, part: Range<NodeId>, visitor: &mut impl Visitor) -> Result<()> {
        for id in part {
            let node = &self.nodes[id];
            visitor.visit(id, node)?;
            let mut read = node.arguments();
            read.push(id);
            read.sort_unstable();
            read.dedup();
            for argument in read {
                if self.last_read[argument] == id {
                    visitor.release(argument);
                }
            }
        }
        Ok(())
    }

    /// Visits the nodes of a part on the transposed graph, readers first; a node is released after its visit.
    pub fn sweep_part_back(&self, part: Range<NodeId>, visitor: &mut impl Visitor) -> Result<()> {
        for id in part.rev() {
            visitor.visit(id, &self.nodes[id])?;
            visitor.release(id);
        }
        Ok(())
    }

    /// Visits every node on the transposed graph, readers first; a node is released after its visit.
    pub fn sweep_back(&self, visitor: &mut impl Visitor) -> Result<()> {
        self.sweep_part_back(0..self.nodes.len(), visitor)
    }

    /// The nodes before `cut` that are read at it or later.
    pub fn live_at(&self, cut: NodeId) -> impl Iterator<Item = NodeId> {
        (0..cut).filter(move |id| self.last_read[*id] >= cut)
    }

    /// The nodes in parts of whole blocks, `blocks` of them each; what stands before the blocks is in the first part, what
    /// stands behind them in the last.
    pub fn parts(&self, blocks: usize) -> Vec<Range<NodeId>> {
        let mut starts = vec![0];
        for (id, node) in self.nodes.iter().enumerate() {
            let (Node::Apply { call, .. } | Node::Attend { call, .. }) = node else { continue };
            let block = self.calls[*call].site.stage.block().unwrap_or(0);
            if block > starts.len() * blocks.max(1) {
                starts.push(id);
            }
        }
        let ends = starts[1..].iter().copied().chain([self.nodes.len()]);
        starts.iter().copied().zip(ends).map(|(from, to)| from..to).collect()
    }

    /// The first site of a stream in a block or before it, by node.
    pub fn site_of(&self, node: NodeId) -> Option<&SitePoint> {
        self.sites.iter().find(|site| site.node == node)
    }
}

/// A linear combination of nodes that is not yet a node.
#[derive(Clone, Debug)]
struct Linear(Vec<(f64, NodeId)>);

/// The algebra that writes nodes.
struct Writer<'a> {
    registry: &'a Registry,
    graph: Graph,
    stage: Stage,
    counts: HashMap<Series, usize>,
    factors: Arc<Vec<(String, f64)>>,
    /// For each history, the node of the sum of its first values, so that a mean costs one term more than the last.
    sums: HashMap<String, (usize, NodeId)>,
}

impl Writer<'_> {
    fn push(&mut self, node: Node) -> NodeId {
        self.graph.nodes.push(node);
        self.graph.nodes.len() - 1
    }

    fn node_of(&mut self, value: Linear) -> NodeId {
        match value.0.as_slice() {
            [(weight, id)] if *weight == 1.0 => *id,
            _ => self.push(Node::Sum(value.0)),
        }
    }

    fn site(&mut self, series: Series) -> Site {
        let count = self.counts.entry(series).or_default();
        *count += 1;
        Site {
            stage: self.stage,
            series,
            index: *count,
            width: self.graph.network.shape.width,
            shape: self.graph.network.shape,
            setting: self.graph.setting.clone(),
            factors: self.factors.clone(),
            inner: Vec::new(),
            within: None,
        }
    }

    fn normalizer(&self, name: &str) -> Result<Arc<dyn Op>> {
        let name = if name == "norm" { &self.graph.setting.normalizer } else { name };
        self.registry.get(name, Role::Normalizer)
    }

    fn weighted(value: Linear, weight: f64) -> Linear {
        Linear(value.0.into_iter().map(|(w, id)| (w * weight, id)).collect())
    }

    fn coefficient(&self, by: &Coefficient) -> f64 {
        self.graph.network.value(by, self.stage.block())
    }
}

impl Algebra for Writer<'_> {
    type Value = Linear;

    fn apply(&mut self, call: &Apply, argument: Linear) -> Result<Linear> {
        let argument = self.node_of(argument);
        let (op, series) = match self.is_branch(call) {
            true => (self.registry.get(&call.op, Role::Sublayer)?, Series::Call),
            false => (self.normalizer(&call.op)?, Series::Norm),
        };
        let inner = call.inner.iter().map(|i| Ok((i.slot.clone(), self.normalizer(&i.normalizer)?)));
        let inner = inner.collect::<Result<Vec<_>>>()?;
        let site = Site { inner, ..self.site(series) };
        self.graph.calls.push(Call { op: Some(op), site });
        let call = self.graph.calls.len() - 1;
        Ok(Linear(vec![(1.0, self.push(Node::Apply { call, argument }))]))
    }

    fn add(&mut self, left: Linear, right: Linear) -> Result<Linear> {
        let mut terms = left.0;
        for (weight, id) in right.0 {
            match terms.iter_mut().find(|(_, known)| *known == id) {
                Some((known, _)) => *known += weight,
                None => terms.push((weight, id)),
            }
        }
        Ok(Linear(terms))
    }

    fn scale(&mut self, by: &Coefficient, value: Linear) -> Result<Linear> {
        let weight = self.coefficient(by);
        Ok(Self::weighted(value, weight))
    }

    fn over(&mut self, value: Linear, by: &Coefficient) -> Result<Linear> {
        let weight = 1.0 / self.coefficient(by);
        Ok(Self::weighted(value, weight))
    }

    fn negate(&mut self, value: Linear) -> Result<Linear> {
        Ok(Self::weighted(value, -1.0))
    }

    fn mean(&mut self, of: &History, values: &[Linear]) -> Result<Linear> {
        let name = match of {
            History::Branches => String::new(),
            History::Stream(stream, _) => stream.clone(),
        };
        let (mut terms, from) = match self.sums.get(&name) {
            Some((counted, sum)) => (vec![(1.0, *sum)], *counted),
            None => (Vec::new(), 0),
        };
        terms.extend(values[from..].iter().flat_map(|v| v.0.iter().copied()));
        let sum = self.node_of(Linear(terms));
        self.sums.insert(name, (values.len(), sum));
        Ok(Linear(vec![(1.0 / values.len() as f64, sum)]))
    }

    fn attend(&mut self, _: &History, values: &[Linear]) -> Result<Linear> {
        let values = values.iter().map(|v| self.node_of(v.clone())).collect();
        let site = self.site(Series::Attend);
        self.graph.calls.push(Call { op: None, site });
        let call = self.graph.calls.len() - 1;
        Ok(Linear(vec![(1.0, self.push(Node::Attend { call, values }))]))
    }

    fn stop_gradient(&mut self, value: Linear) -> Result<Linear> {
        let node = self.node_of(value);
        Ok(Linear(vec![(1.0, self.push(Node::StopGradient(node)))]))
    }

    fn is_branch(&self, call: &Apply) -> bool {
        self.registry.get(&call.op, Role::Sublayer).is_ok()
    }

    fn named(&mut self, value: Linear) -> Result<Linear> {
        Ok(Linear(vec![(1.0, self.node_of(value))]))
    }
}

impl Walk for Writer<'_> {
    fn enter(&mut self, stage: Stage) {
        if self.stage == Stage::Input {
            // Before the blocks a history holds values, from there on the sites that these become.
            self.sums.clear();
        }
        self.stage = stage;
        self.counts.clear();
        let network = &self.graph.network;
        let factor = |l: usize| {
            let matrices = network.placement.init.iter();
            matrices.map(|(matrix, _)| (matrix.clone(), network.init_factor(matrix, l))).collect()
        };
        self.factors = Arc::new(stage.block().map_or_else(Vec::new, factor));
    }

    fn site(&mut self, stream: &str, stage: Stage, step: usize, value: Linear) -> Result<Linear> {
        let node = self.push(Node::Sum(value.0));
        let block = stage.block().unwrap_or(0);
        self.graph.sites.push(SitePoint { stream: stream.to_owned(), block, step, node });
        Ok(Linear(vec![(1.0, node)]))
    }
}
