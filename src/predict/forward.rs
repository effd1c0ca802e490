//! The sweep forward: the moments of every value, and the way back of every op.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fold::{Graph, Node, NodeId, Visitor};
use crate::op::gaussian::{correlation, symmetric};
use crate::op::{Gram, Lengths, Moments, Pull, Responded, Role};
use crate::predict::coordinates::Coordinates;
use crate::predict::fluctuation::{Fluctuations, Share};
use crate::predict::history::{Memory, Query};
use crate::predict::joint::{Joint, Key};
use crate::predict::plan::Plan;

/// Why a figure cannot be given.
pub type Reason = Arc<str>;

/// A figure's number, or why there is none.
pub type Known<T> = std::result::Result<T, Reason>;

/// A term of a sum: its weight, key, the squared cosine between it and the sum, and how the sum's
/// second moment moves with its own, d ln q_sum/d ln q_term.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    pub weight: f64,
    pub key: Key,
    pub cos2: f64,
    pub slope: f64,
}

/// What the sweep back needs of a node.
pub enum Step {
    Input,
    Sum(Vec<Term>),
    Apply(Box<dyn Pull>),
    /// The running sum's terms, and the query's gradient.
    Attend {
        history: usize,
        sum: Vec<Term>,
        query: Known<Query>,
    },
    StopGradient,
    /// Of a value that is unknown; or one that is known, with no way back.
    Unknown(Reason),
}

/// The share of its terms' energy below which a sum is rounding: an amplitude of 1e-5, of which f32 keeps two digits.
const CANCELLED: f64 = 1e-10;

/// The relative variance f of what a norm divides by from which there is no way back through it. The cotangent meets
/// E[1/q^] = (1/q)(1 + f + ...), whose remainder is f^2/(1 - f) where q^ is a sum of squares of Gaussians (a Gamma variable, E[1/q^] =
/// 1/(q (1 - f))): at 1/2 as large as the term that is kept. Only sums that nearly cancel come there.
const NO_SMALL_PARAMETER: f64 = 0.5;

/// Second moment and overlap of a value.
pub type Sizes = Known<(f64, f64)>;

/// The sweep's state; after it, what was found at every node.
pub struct Forward<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    joint: Joint,
    fluctuations: Fluctuations,
    /// Kept for the way back.
    pub coordinates: Coordinates,
    traits: BTreeMap<Key, Traits>,
    unknown: BTreeMap<Key, Reason>,
    memories: BTreeMap<usize, Known<Memory>>,
    pub steps: Vec<Step>,
    pub sizes: Vec<Sizes>,
}

/// What is known of a live value besides its Gram.
#[derive(Clone, Debug)]
struct Traits {
    constant: f64,
    mean: Option<Vec<f64>>,
    /// Whether it answered what came before it, as a fresh sub-layer's output does not.
    dependent: bool,
    /// Whether an op bent its coordinates, and no sub-layer came since.
    bent: bool,
    lengths: Option<Lengths>,
}

impl<'a> Forward<'a> {
    pub fn new(graph: &'a Graph, plan: &'a Plan) -> Self {
        Forward {
            graph,
            plan,
            joint: Joint::default(),
            fluctuations: Fluctuations::new(graph.network.shape.width),
            coordinates: Coordinates::new(graph, "values"),
            traits: BTreeMap::new(),
            unknown: BTreeMap::new(),
            memories: BTreeMap::new(),
            steps: Vec::new(),
            sizes: Vec::new(),
        }
    }

    fn tokens(&self) -> usize {
        self.graph.network.shape.tokens
    }

    fn input(&mut self) -> Step {
        self.joint.insert_fresh(0, Gram::identity(self.tokens(), self.tokens()));
        self.coordinates.insert_fresh(0, &Gram::identity(self.tokens(), self.tokens()), 0);
        self.traits.insert(0, Traits { constant: 1.0, mean: None, dependent: true, bent: false, lengths: None });
        Step::Input
    }

    /// Inserts a linear combination; terms of weight zero are not there.
    fn sum(&mut self, key: Key, terms: &[(f64, Key)]) -> Known<Vec<Term>> {
        let terms: Vec<(f64, Key)> = terms.iter().copied().filter(|(weight, _)| *weight != 0.0).collect();
        if let Some(reason) = terms.iter().find_map(|(_, w)| self.unknown.get(w)) {
            return Err(reason.clone());
        }
        self.joint.insert_sum(key, &terms, self.tokens());
        if !self.joint.contains(key) {
            self.joint.insert_fresh(key, Gram::zeros(self.tokens(), self.tokens()));
        }
        let gram = self.joint.gram(key).cloned().unwrap_or_else(|| Gram::zeros(self.tokens(), self.tokens()));
        let energy: f64 =
            terms.iter().map(|(weight, w)| weight * weight * self.joint.gram(*w).map_or(0.0, Gram::trace)).sum();
        if gram.trace() != 0.0 && gram.trace() < CANCELLED * energy {
            self.joint.remove(key);
            return Err("the terms of a sum cancel: what is left of them is rounding".into());
        }
        let mut shares = Vec::new();
        let mut out = Vec::new();
        let mut traits = Traits { constant: 0.0, mean: None, dependent: true, bent: false, lengths: None };
        for &(weight, w) in &terms {
            let cross = self.joint.with_cross(w, key, |c| c.to_gram());
            let cross = cross.unwrap_or_else(|| Gram::zeros(gram.nrows(), gram.nrows()));
            let share = Share::of_term(weight, &cross, &gram);
            shares.push((w, share));
            let cos2 = self.joint.gram(w).map_or(0.0, |k| squared_cosine(&cross, k, &gram));
            out.push(Term { weight, key: w, cos2, slope: share.token });
            let part = &self.traits[&w];
            traits.constant += share.token * part.constant;
            traits.bent |= part.bent;
            let lengths = part.lengths.as_ref().map(|lengths| lengths.diluted(share.token));
            traits.lengths = match (traits.lengths.take(), lengths) {
                (Some(of_sum), Some(of_term)) => Some(of_sum.plus(of_term)),
                (of_sum, of_term) => of_sum.or(of_term),
            };
            if let Some(mean) = &part.mean {
                let sum = traits.mean.get_or_insert_with(|| vec![0.0; gram.nrows()]);
                sum.iter_mut().zip(mean).for_each(|(s, m)| *s += weight * m);
            }
        }
        traits.constant = traits.constant.max(0.0);
        self.fluctuations.insert_sum(key, &shares, &self.joint);
        self.coordinates.insert_sum(key, &terms, self.tokens());
        for term in &mut out {
            term.slope = self.fluctuations.slope(key, term.key, &self.joint).unwrap_or(term.slope);
        }
        self.traits.insert(key, traits);
        Ok(out)
    }

    fn apply(&mut self, id: NodeId, call: usize, argument: NodeId) -> Known<Step> {
        if let Some(reason) = self.unknown.get(&argument) {
            return Err(reason.clone());
        }
        let call = &self.graph.calls[call];
        let input = self.moments(argument).ok_or("an op without an argument")?;
        let op = call.op.as_ref().ok_or("an op that is not there")?;
        let responded = op.respond(&call.site, &input).map_err(|error| reason(&error))?;
        let bends = op.bend(0.0).is_some();
        match &responded.linear {
            _ if bends => self.coordinates.insert_bent(id, argument, |x| op.bend(x).map_or(x, |(value, _)| value)),
            Some(linear) => self.coordinates.insert_scaled(id, argument, linear),
            None => self.coordinates.insert_fresh(id, &responded.output.gram, id),
        }
        self.insert(id, argument, &responded, op.role() == Role::Sublayer, bends);
        let bent = bends || responded.linear.is_some() && self.traits[&argument].bent;
        self.traits.entry(id).and_modify(|traits| traits.bent = bent);
        let divided = (1.0 - responded.elasticity).powi(2) * input.spread;
        if op.role() == Role::Normalizer && divided >= NO_SMALL_PARAMETER {
            return Ok(Step::Unknown(
                format!(
                    "what {} divides by nearly cancels: its square varies by {divided:.2} of its mean's square between draws, \
                     and the mean of its inverse has no expansion from {NO_SMALL_PARAMETER}",
                    call.site.path()
                )
                .into(),
            ));
        }
        Ok(Step::Apply(responded.pull))
    }

    fn insert(&mut self, id: NodeId, argument: NodeId, responded: &Responded, sublayer: bool, bends: bool) {
        let gram = responded.output.gram.clone();
        match &responded.linear {
            Some(linear) => self.joint.insert_response(id, argument, linear, gram),
            None => self.joint.insert_fresh(id, gram),
        }
        if let (true, Some(linear)) = (bends, &responded.linear) {
            let related = self.joint.related(id);
            for (w, cross) in self.coordinates.beyond(id, argument, linear, &related) {
                self.joint.add_cross(id, w, cross);
            }
        }
        self.joint.shorten(id);
        self.fluctuations.insert_response(id, argument, responded, &self.joint);
        let Moments { constant, mean, lengths, .. } = responded.output.clone();
        let dependent = responded.linear.is_some() || !sublayer;
        self.traits.insert(id, Traits { constant, mean, dependent, bent: false, lengths });
    }

    fn moments(&self, key: Key) -> Option<Moments> {
        let gram = self.joint.gram(key)?;
        let traits = self.traits.get(&key)?;
        let (spread, freedom) = self.fluctuations.of(key, gram);
        let coordinates = traits.bent.then(|| self.coordinates.get(key)).flatten();
        let (constant, mean) = (traits.constant, traits.mean.clone());
        let lengths = traits.lengths.clone();
        Some(Moments { gram: gram.clone(), spread, freedom, constant, mean, coordinates, lengths })
    }

    fn attend(&mut self, id: NodeId) -> Known<Step> {
        let at = self.plan.of_node[&id];
        let history = &self.plan.histories[at];
        let query = self.query(at);
        let before = history.continues.map(|k| self.plan.histories[k].sum);
        let terms: Vec<(f64, Key)> = before.into_iter().chain(history.new.iter().copied()).map(|k| (1.0, k)).collect();
        let sum = self.sum(history.sum, &terms).inspect_err(|reason| {
            self.unknown.insert(history.sum, reason.clone());
        })?;
        self.sum(id, &[(1.0 / history.values as f64, history.sum)])?;
        Ok(Step::Attend { history: at, sum, query })
    }

    /// W of the query's gradient; remembers the history's new values.
    fn query(&mut self, at: usize) -> Known<Query> {
        let history = &self.plan.histories[at];
        let memory = match history.continues {
            // The history that is continued last takes the memory with it.
            Some(k) => match self.plan.histories.iter().skip(at + 1).any(|h| h.continues == Some(k)) {
                true => self.memories.get(&k).cloned(),
                false => self.memories.remove(&k),
            },
            None => None,
        };
        let mut memory = memory.unwrap_or_else(|| Ok(Memory::new(self.tokens())));
        for (order, key) in (history.values - history.new.len()..).zip(&history.new) {
            let dependent = self.traits.get(key).is_none_or(|t| t.dependent);
            memory = match (memory, self.unknown.get(key)) {
                (Err(reason), _) => Err(reason),
                (_, Some(reason)) => Err(reason.clone()),
                _ if history.branches && order > 0 && dependent => {
                    Err("a sub-layer's output that depends on earlier values has no rule for the query of attend"
                        .into())
                }
                (Ok(mut memory), None) => {
                    memory.add(*key, &self.joint, !history.branches);
                    Ok(memory)
                }
            };
        }
        let query = match &memory {
            Ok(memory) => Ok(memory.query(history.values, self.graph.network.shape.width)),
            Err(reason) => Err(reason.clone()),
        };
        self.memories.insert(at, memory);
        query
    }

    /// The value's size, or why there is none: the largest second moment that f32 tells from infinity is in reach.
    fn size(&self, id: NodeId) -> Sizes {
        let gram = self.joint.gram(id).ok_or("a value that is not there")?;
        let q = gram.trace() / gram.nrows() as f64;
        let squares = q * self.graph.network.shape.width as f64;
        if !gram.iter().all(|k| k.is_finite()) || squares > f64::from(f32::MAX) {
            return Err(format!("the stack overflows f32: a second moment of {q:.3e}").into());
        }
        let (spread, _) = self.fluctuations.of(id, gram);
        let lengths = self.traits.get(&id).and_then(|traits| traits.lengths.as_ref());
        Ok((q, overlap(gram, spread, lengths, self.graph.network.shape.width)))
    }
}

/// Mean over pairs of the expected cosine, which for Gaussian tokens is below that of the means by (1 - r^2)/(2d), relative.
fn overlap(gram: &Gram, spread: f64, lengths: Option<&Lengths>, width: usize) -> f64 {
    let n = gram.nrows();
    let fresh = (spread * width as f64 / 2.0).min(1.0) / (2.0 * width as f64);
    let cosine = correlation(gram);
    let mut expected = symmetric(n, |a, b| cosine[(a, b)] * (1.0 - fresh * (1.0 - cosine[(a, b)].powi(2))));
    if let Some(lengths) = lengths {
        expected += &lengths.cosine;
    }
    (expected.sum() - expected.trace()) / (n * (n - 1)) as f64
}

/// Mean over tokens of C_vw[a, a]^2/(K_v K_w).
fn squared_cosine(cross: &Gram, v: &Gram, w: &Gram) -> f64 {
    let n = v.nrows();
    let one = |a: usize| match v[(a, a)] * w[(a, a)] {
        0.0 => 0.0,
        product => (cross[(a, a)].powi(2) / product).min(1.0),
    };
    (0..n).map(one).sum::<f64>() / n as f64
}

fn reason(error: &Error) -> Reason {
    match error {
        Error::Refused { reason, .. } => reason.as_str().into(),
        other => other.to_string().into(),
    }
}

impl Visitor for Forward<'_> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let step = match node {
            Node::Input => Ok(self.input()),
            Node::Sum(terms) => self.sum(id, terms).map(Step::Sum),
            Node::Apply { call, argument } => self.apply(id, *call, *argument),
            Node::Attend { .. } => self.attend(id),
            Node::StopGradient(argument) => self.sum(id, &[(1.0, *argument)]).map(|_| Step::StopGradient),
        };
        let size = match &step {
            Ok(_) => self.size(id),
            Err(reason) => Err(reason.clone()),
        };
        let step = match (step, &size) {
            (Ok(step), Ok(_)) => step,
            (_, Ok(_)) => unreachable!("a size is taken of known values only"),
            (_, Err(reason)) => {
                self.unknown.insert(id, reason.clone());
                self.joint.remove(id);
                Step::Unknown(reason.clone())
            }
        };
        self.steps.push(step);
        self.sizes.push(size);
        for &key in self.plan.released_after(id) {
            self.joint.remove(key);
            self.fluctuations.remove(key);
            self.traits.remove(&key);
        }
        Ok(())
    }
}
