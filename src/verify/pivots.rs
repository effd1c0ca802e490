//! Exact pivots: chi-square statistics of every weight matrix of a network as it was used, forward and back.
//!
//! The sampling rule says which standard normals a product stands for. Here it reads them off a real network: swept through
//! the equations with the network's own values at every site and product, each op's rows computed by its candle-free rule.
//! Given what entered a matrix, the normals of its product are iid N(0, 1), and given the forward pass so are those of its
//! transposed product off the span of what entered: at any width, depth and placement, with no bias in 1/d.
//!
//! Forward: `|Z|^2` with `outputs rank(x)` degrees of freedom; backward `(inputs - rank(x)) rank(c)`. A variance that is off,
//! or a value that is not what the equations say, shows in the matrix that it entered and in no other.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::execute::{Run, Weights, draw_cotangent, draw_input, run};
use crate::fold::{Graph, Node, NodeId, Visitor};
use crate::op::{DrawPull, Frame, Gradient, Matrices, Parameters, Pushed, Rows};
use crate::profile::Layout;
use crate::sample::{Attended, attended};

/// A direction that is narrower than this part of its token carries more rounding than chance, and is dropped.
const NARROWEST: f64 = 1e-6;

/// How a matrix was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Entry by entry.
    Entries,
    Forward,
    Backward,
}

impl Use {
    pub fn word(self) -> &'static str {
        match self {
            Use::Entries => "entries",
            Use::Forward => "forward",
            Use::Backward => "backward",
        }
    }
}

/// One matrix in one use, of one seed or the sum over several: `statistic` is chi-square with `degrees` degrees of freedom if the matrix has the law that the
/// specification gives it and read what the equations say.
#[derive(Clone, Debug, PartialEq)]
pub struct Pivot {
    pub block: usize,
    /// `block.3.call.2`
    pub call: String,
    /// `w_1`
    pub matrix: String,
    pub used: Use,
    pub statistic: f64,
    pub degrees: f64,
}

/// What a network under judgement did, by the names that placements and layouts give things.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// `(width, tokens)`: the raw input, and the cotangent of the output.
    input: Rows,
    cotangent: Rows,
    /// Values and cotangents by stream, block and step.
    sites: HashMap<(String, usize, usize), (Rows, Option<Rows>)>,
    /// y = x W, `(outputs, tokens)`, and c W^T, `(inputs, tokens)`, by the matrix's path.
    products: HashMap<String, (Rows, Rows)>,
}

impl Observed {
    /// What a run on tensors did; products are computed from what its ops say entered each matrix.
    ///
    /// # Errors
    /// A batch of more than one sequence; a tensor operation that fails.
    pub fn of(graph: &Graph, parameters: &[Parameters], input: &Tensor, cotangent: &Tensor, run: &Run) -> Result<Self> {
        let mut sites = HashMap::new();
        for ((site, value), back) in graph.sites.iter().zip(&run.sites).zip(&run.site_cotangents) {
            let back = back.as_ref().map(rows).transpose()?;
            sites.insert((site.stream.clone(), site.block, site.step), (rows(value)?, back));
        }
        let mut products = HashMap::new();
        for point in Layout::new(graph).parameters {
            let (Some(Gradient::Outer { x, d }), Some((_, w))) =
                (run.gradients[point.call].get(point.order), parameters[point.call].iter().nth(point.order))
            else {
                continue;
            };
            let double = |t: &Tensor| t.to_dtype(DType::F64);
            let both = || {
                let (x, d, w) = (double(x)?, double(d)?, double(w)?);
                Ok((x.matmul(&w)?, d.matmul(&w.t()?)?))
            };
            let (y, p) = both().map_err(Error::at(&point.path))?;
            products.insert(point.path, (rows(&y)?, rows(&p)?));
        }
        Ok(Observed { input: rows(input)?, cotangent: rows(cotangent)?, sites, products })
    }

    /// A network of a seed, run in f64.
    ///
    /// # Errors
    /// A tensor operation that fails, with its site.
    pub fn seed(graph: &Graph, seed: u64) -> Result<Self> {
        let (shape, device) = (graph.network.shape, Device::Cpu);
        let parameters = Weights::new(seed).of(graph, &device, DType::F64)?;
        let input = draw_input(seed, shape, &device, DType::F64)?;
        let cotangent = draw_cotangent(seed, shape, &device, DType::F64)?;
        let run = run(graph, &parameters, &input, &cotangent)?;
        Observed::of(graph, &parameters, &input, &cotangent, &run)
    }
}

/// A tensor of one sequence, `(1, tokens, width)` or `(tokens, width)`, as columns.
fn rows(tensor: &Tensor) -> Result<Rows> {
    let read = || {
        let flat = if tensor.rank() == 3 { tensor.squeeze(0)? } else { tensor.clone() };
        let (tokens, width) = flat.dims2()?;
        Ok((width, tokens, flat.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?))
    };
    let (width, tokens, values) = read().map_err(Error::at("an observed value"))?;
    Ok(Rows::from_vec(width, tokens, values))
}

/// The pivots of every weight matrix of a network, in order of evaluation, forward ones first.
///
/// `specified` is the network as its placement has it, and `observed` what a network under judgement did.
///
/// # Errors
/// [`Error::Refused`] for an op without a sampling rule; a value or product that was not observed, by name.
pub fn pivots(specified: &Graph, observed: &Observed) -> Result<Vec<Pivot>> {
    let n = specified.nodes.len();
    let mut forward = Forward {
        graph: specified,
        observed,
        sites: vec![None; n],
        values: vec![None; n],
        kept: specified.calls.iter().map(|_| None).collect(),
        pivots: Vec::new(),
    };
    for (index, site) in specified.sites.iter().enumerate() {
        forward.sites[site.node] = Some(index);
    }
    specified.sweep(&mut forward)?;
    let Forward { sites, kept, pivots, .. } = forward;
    let mut cotangents = vec![None; n];
    cotangents[specified.output] = Some(observed.cotangent.clone());
    let mut back = Backward { graph: specified, observed, sites, kept, cotangents, pivots };
    specified.sweep_back(&mut back)?;
    Ok(back.pivots)
}

/// The products of one call, as its rule asks for them; writes down the pivots.
struct Found<'a> {
    call: String,
    block: usize,
    observed: &'a Observed,
    pivots: &'a mut Vec<Pivot>,
    missing: Option<String>,
}

impl Found<'_> {
    fn write(&mut self, matrix: &str, used: Use, normals: &Rows, wide: &[bool], dimensions: usize) {
        let kept = || wide.iter().enumerate().filter(|(_, wide)| **wide).map(|(j, _)| j);
        self.pivots.push(Pivot {
            block: self.block,
            call: self.call.clone(),
            matrix: matrix.into(),
            used,
            statistic: kept().map(|j| normals.column(j).norm_squared()).sum(),
            degrees: (dimensions * kept().count()) as f64,
        });
    }

    fn product(&mut self, matrix: &str) -> Option<&(Rows, Rows)> {
        let path = format!("{}.{matrix}", self.call);
        let found = self.observed.products.get(&path);
        if found.is_none() {
            self.missing.get_or_insert(path);
        }
        found
    }

    /// Whether the cotangents of this call's queries and keys are rounding, as where nothing normalizes what enters it.
    ///
    /// They pass softmax as `A (dA - sum A dA)`, of which e^-g is left where the largest score stands g above the next: of
    /// normal scores of deviation s on average `s/sqrt(2 ln T)`.
    fn saturated(&self, tokens: usize) -> bool {
        let rms = |matrix: &str| {
            let (y, _) = self.observed.products.get(&format!("{}.{matrix}", self.call))?;
            Some(y.norm() / (y.len() as f64).sqrt())
        };
        let (Some(q), Some(k)) = (rms("w_q"), rms("w_k")) else { return false };
        q * k / (2.0 * (tokens as f64).ln()).sqrt() > (NARROWEST / f64::EPSILON).ln()
    }

    /// # Errors
    /// The first product that was asked for and not observed.
    fn complete(self) -> Result<()> {
        match self.missing {
            None => Ok(()),
            Some(path) => Err(Error::Refused {
                subject: path,
                reason: "the network under judgement has no such product".into(),
                help: "pivots need the cotangent of every weight matrix".into(),
            }),
        }
    }
}

impl Matrices for Found<'_> {
    fn push(&mut self, matrix: &str, frame: &Frame, outputs: usize, deviation: f64) -> Rows {
        match self.product(matrix).map(|(y, _)| y.clone()) {
            Some(y) if y.shape() == (outputs, frame.tokens()) && deviation > 0.0 => {
                let normals = frame.normals(&y, deviation);
                self.write(matrix, Use::Forward, &normals, &frame.directions(NARROWEST), outputs);
                normals
            }
            _ => Rows::zeros(outputs, frame.rank()),
        }
    }

    fn pull(&mut self, frame: &Frame, uses: &[(&Pushed, &Rows)]) -> (Rows, Vec<f64>) {
        let mut sum = Rows::zeros(frame.width(), frame.tokens());
        for (pushed, cotangent) in uses {
            let Some(p) = self.product(pushed.matrix()).map(|(_, p)| p.clone()) else { continue };
            if p.shape() == sum.shape() && pushed.deviation() > 0.0 && cotangent.norm() > 0.0 {
                let of_cotangent = Frame::of(cotangent);
                let normals = of_cotangent.normals(&frame.off(&p), pushed.deviation());
                let rounding = ["w_q", "w_k"].contains(&pushed.matrix()) && self.saturated(frame.tokens());
                let wide = match rounding {
                    true => vec![false; of_cotangent.rank()],
                    false => of_cotangent.directions(NARROWEST),
                };
                self.write(pushed.matrix(), Use::Backward, &normals, &wide, frame.width() - frame.rank());
            }
            sum += p;
        }
        (sum, vec![0.0; uses.len()])
    }
}

enum Kept {
    Op(Box<dyn DrawPull>),
    Attend(Attended),
}

struct Forward<'a> {
    graph: &'a Graph,
    observed: &'a Observed,
    /// The site of each node that is one.
    sites: Vec<Option<usize>>,
    values: Vec<Option<Arc<Rows>>>,
    kept: Vec<Option<Kept>>,
    pivots: Vec<Pivot>,
}

/// What was observed at a node that is a site.
fn at_site<'a>(graph: &Graph, observed: &'a Observed, site: Option<usize>) -> Option<&'a (Rows, Option<Rows>)> {
    let site = &graph.sites[site?];
    observed.sites.get(&(site.stream.clone(), site.block, site.step))
}

fn found<'a>(graph: &Graph, call: usize, observed: &'a Observed, pivots: &'a mut Vec<Pivot>) -> Found<'a> {
    let site = &graph.calls[call].site;
    Found { call: site.path(), block: site.stage.block().unwrap_or(0), observed, pivots, missing: None }
}

impl Visitor for Forward<'_> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let read = |id: NodeId| self.values[id].clone().expect("arguments come before their node and stay until read");
        let value = match node {
            Node::Input => Arc::new(self.observed.input.clone()),
            Node::StopGradient(argument) => read(*argument),
            Node::Sum(terms) => {
                let shape = self.observed.input.shape();
                let add = |sum: Rows, (weight, id): &(f64, NodeId)| sum + read(*id).as_ref() * *weight;
                Arc::new(terms.iter().fold(Rows::zeros(shape.0, shape.1), add))
            }
            Node::Apply { call, argument } => {
                let (x, at) = (read(*argument), &self.graph.calls[*call]);
                let op = at.op.as_ref().expect("only attend has no op, and it is a node of its own kind");
                let mut products = found(self.graph, *call, self.observed, &mut self.pivots);
                let drawn = op.draw(&at.site, &x, &mut products)?;
                products.complete()?;
                self.kept[*call] = Some(Kept::Op(drawn.pull));
                Arc::new(drawn.output)
            }
            Node::Attend { call, values } => {
                let (output, kept) = attended(values.iter().map(|v| read(*v)).collect());
                self.kept[*call] = Some(Kept::Attend(kept));
                Arc::new(output)
            }
        };
        let observed = at_site(self.graph, self.observed, self.sites[id]);
        self.values[id] = Some(observed.map_or(value, |(value, _)| Arc::new(value.clone())));
        Ok(())
    }

    fn release(&mut self, id: NodeId) {
        self.values[id] = None;
    }
}

struct Backward<'a> {
    graph: &'a Graph,
    observed: &'a Observed,
    sites: Vec<Option<usize>>,
    kept: Vec<Option<Kept>>,
    cotangents: Vec<Option<Rows>>,
    pivots: Vec<Pivot>,
}

impl Backward<'_> {
    fn add(&mut self, id: NodeId, part: Rows) {
        match &mut self.cotangents[id] {
            Some(sum) => *sum += part,
            empty => *empty = Some(part),
        }
    }
}

impl Visitor for Backward<'_> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let Some(c) = self.cotangents[id].take() else { return Ok(()) };
        let c = match at_site(self.graph, self.observed, self.sites[id]) {
            Some((_, Some(observed))) => observed.clone(),
            _ => c,
        };
        match node {
            Node::Input | Node::StopGradient(_) => {}
            Node::Sum(terms) => terms.iter().for_each(|(weight, id)| self.add(*id, &c * *weight)),
            Node::Apply { call, argument } => {
                if let Some(Kept::Op(pull)) = self.kept[*call].take() {
                    let mut products = found(self.graph, *call, self.observed, &mut self.pivots);
                    let (c, _) = pull.pull(c, &mut products)?;
                    products.complete()?;
                    self.add(*argument, c);
                }
            }
            Node::Attend { call, values } => {
                if let Some(Kept::Attend(kept)) = self.kept[*call].take() {
                    let (share, _) = kept.back(&c);
                    values.iter().for_each(|value| self.add(*value, &c * share));
                }
            }
        }
        Ok(())
    }
}
