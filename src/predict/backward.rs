//! The sweep back: the cotangent Gram of every value, and the expected squared gradient of every parameter.
//!
//! A cotangent carries the share of it along its own value (`radial`). Through a sum v = sum c_i w_i the contribution to
//! w_i has share cos^2 u + 1 - cos^2, cos between w_i and v: the part along v keeps v's share u, the rest is isotropic (own,
//! derived here). It also carries how it recoils from its value's second moment: a term's cotangent recoils as v's second moment moves with it,
//! how it is coupled with its value's tokens, and whether it goes with its value coordinate by coordinate, as behind an op that bends them (`coordinates.rs`).
//! Contributions to one value add by energy.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::fold::{Graph, Node, NodeId, Visitor};
use crate::op::{Cotangent, Expected, Gram, Paired, Role};
use crate::predict::coordinates::Coordinates;
use crate::predict::forward::{Known, Reason, Step, Term};
use crate::predict::history::Query;
use crate::predict::joint::{Joint, Key};
use crate::predict::plan::Plan;

/// The sweep's state; after it, the gradient at every node and of every parameter.
pub struct Backward<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    steps: &'a [Step],
    joint: Joint,
    /// Of values, and of cotangents.
    values: &'a Coordinates,
    coordinates: Coordinates,
    shares: BTreeMap<Key, Shares>,
    unknown: BTreeMap<Key, Reason>,
    /// A key that stands for nothing yet.
    scratch: Key,
    /// By node.
    pub gradients: Vec<Known<f64>>,
    /// By call; empty where the call has no cotangent.
    pub parameters: Vec<Known<Vec<Expected>>>,
}

/// Directions of a cotangent, as in [`Cotangent`].
#[derive(Clone, Copy, Debug)]
struct Shares {
    radial: f64,
    constant: f64,
    recoil: f64,
    coupling: f64,
    /// Whether it goes with its value, as an op that bends coordinates came before it and no sub-layer since.
    sloped: bool,
}

impl<'a> Backward<'a> {
    pub fn new(graph: &'a Graph, plan: &'a Plan, steps: &'a [Step], values: &'a Coordinates) -> Self {
        let tokens = graph.network.shape.tokens;
        let mut joint = Joint::default();
        let start = Gram::identity(tokens, tokens) / tokens as f64;
        let mut coordinates = Coordinates::new(graph, "cotangents");
        coordinates.insert_fresh(graph.output, &start, graph.nodes.len());
        joint.insert_fresh(graph.output, start);
        Backward {
            graph,
            plan,
            steps,
            joint,
            values,
            coordinates,
            shares: BTreeMap::from([(graph.output, FRESH)]),
            unknown: BTreeMap::new(),
            scratch: graph.nodes.len() + plan.histories.len(),
            gradients: vec![Ok(0.0); graph.nodes.len()],
            parameters: vec![Ok(Vec::new()); graph.calls.len()],
        }
    }

    /// Adds weight times the cotangent `from`, of these shares, to that of `target`.
    fn add(&mut self, target: Key, weight: f64, from: Key, shares: Shares) {
        if weight == 0.0 {
            return;
        }
        if let Some(reason) = self.unknown.get(&from).cloned() {
            self.unknown.entry(target).or_insert(reason);
            return;
        }
        let Some(added) = self.joint.gram(from).map(|g| weight * weight * g.trace()) else { return };
        let before = self.joint.gram(target).map(Gram::trace);
        self.joint.accumulate(target, weight, from);
        self.coordinates.accumulate(target, weight, from);
        let total = self.joint.gram(target).map_or(0.0, Gram::trace);
        let known = self.shares.get(&target).copied();
        let merged = match (before, known) {
            (Some(before), Some(known)) if total > 0.0 => {
                let cross = total - before - added;
                let blend = |u: f64, v: f64| {
                    ((u * before + v * added + (u * v).max(0.0).sqrt() * cross) / total).clamp(0.0, 1e6)
                };
                Shares {
                    radial: blend(known.radial, shares.radial),
                    constant: blend(known.constant, shares.constant),
                    sloped: known.sloped || shares.sloped,
                    recoil: (known.recoil * before + shares.recoil * added) / (before + added),
                    coupling: (known.coupling * before + shares.coupling * added) / (before + added),
                }
            }
            _ => shares,
        };
        self.shares.insert(target, merged);
    }

    fn distribute(&mut self, from: Key, terms: &[Term]) {
        let Some(&shares) = self.shares.get(&from).or(self.unknown.contains_key(&from).then_some(&FRESH)) else {
            return;
        };
        for term in terms {
            let radial = term.cos2 * shares.radial + 1.0 - term.cos2;
            let recoil = term.slope * shares.recoil;
            let coupling = 1.0 + term.cos2 * (shares.coupling - 1.0);
            self.add(term.key, term.weight, from, Shares { radial, recoil, coupling, ..shares });
        }
    }

    fn apply(&mut self, id: NodeId, call: usize, argument: NodeId, step: &Step) {
        let step = match (self.unknown.get(&id), step) {
            (Some(reason), _) => Err(reason.clone()),
            (_, Step::Unknown(reason)) if self.joint.contains(id) => Err(reason.clone()),
            (_, Step::Apply(pull)) => Ok(pull),
            _ => return,
        };
        let pull = match step {
            Ok(pull) => pull,
            Err(reason) => {
                self.unknown.entry(argument).or_insert_with(|| reason.clone());
                self.parameters[call] = Err(reason);
                return;
            }
        };
        let (Some(gram), Some(shares)) = (self.joint.gram(id), self.shares.get(&id)) else { return };
        let Shares { radial, constant, recoil, coupling, sloped } = *shares;
        let drawn = (self.coordinates.get(id), self.values.get(argument));
        // Behind a sub-layer no coordinate is one of its argument's.
        let sublayer = self.graph.calls[call].op.as_ref().is_some_and(|op| op.role() == Role::Sublayer);
        let beside = self.values.get(if sublayer { id } else { argument });
        let paired = match (&drawn.0, beside) {
            (Some(cotangent), Some(value)) if sloped => Some(Paired { cotangent: cotangent.clone(), value }),
            _ => None,
        };
        let pulled = pull.pull(&Cotangent { gram: gram.clone(), radial, constant, paired, recoil, coupling });
        self.parameters[call] = Ok(pulled.parameters);
        let Cotangent { gram, radial, constant, recoil, coupling, .. } = pulled.cotangent;
        let bends = self.graph.calls[call].op.as_ref().is_some_and(|op| op.bend(0.0).is_some());
        let bend = |x: f64| self.graph.calls[call].op.as_ref().and_then(|op| op.bend(x));
        match (&pulled.linear, drawn.1) {
            (Some(_), Some(value)) if bends => {
                let slope = |x| bend(x).map_or(1.0, |(_, slope)| slope);
                self.coordinates.insert_sloped(self.scratch, id, &value, slope);
            }
            (Some(linear), _) => self.coordinates.insert_scaled(self.scratch, id, linear),
            (None, _) => self.coordinates.insert_fresh(self.scratch, &gram, id),
        }
        match &pulled.linear {
            Some(linear) => self.joint.insert_response(self.scratch, id, linear, gram),
            None => self.joint.insert_fresh(self.scratch, gram),
        }
        if let (true, Some(linear)) = (bends, &pulled.linear) {
            let related = self.joint.related(self.scratch);
            for (w, cross) in self.coordinates.beyond(self.scratch, id, linear, &related) {
                self.joint.add_cross(self.scratch, w, cross);
            }
        }
        let sloped = pulled.linear.is_some() && (sloped || bends);
        let shares = Shares { radial, constant, recoil, coupling, sloped };
        if self.joint.contains(argument) {
            self.add(argument, 1.0, self.scratch, shares);
            self.joint.remove(self.scratch);
            self.coordinates.remove(self.scratch);
        } else {
            self.joint.rename(self.scratch, argument);
            self.coordinates.rename(self.scratch, argument);
            self.shares.insert(argument, shares);
        }
    }

    fn attend(&mut self, id: NodeId, call: usize, history: usize, sum: &[Term], query: &Known<Query>) {
        let history = &self.plan.histories[history];
        self.parameters[call] = match (self.joint.gram(id), query) {
            (None, _) => Ok(vec![Ok(0.0)]),
            (Some(g), Ok(query)) => Ok(vec![Ok(query.gradient(g, self.shares.get(&id).map_or(1.0, |s| s.radial)))]),
            (Some(_), Err(reason)) => Err(reason.clone()),
        };
        if let Some(reason) = self.unknown.get(&id) {
            self.parameters[call] = Err(reason.clone());
        }
        self.distribute(id, &[Term { weight: 1.0 / history.values as f64, key: history.sum, cos2: 1.0, slope: 1.0 }]);
        self.distribute(history.sum, sum);
        self.joint.remove(history.sum);
        self.coordinates.remove(history.sum);
        self.shares.remove(&history.sum);
    }

    /// An unknown value makes its readers' cotangents unknown, and so its own.
    fn unknown_value(&mut self, id: NodeId, node: &Node, reason: &Reason) {
        if !self.joint.contains(id) && !self.unknown.contains_key(&id) {
            return;
        }
        for argument in node.arguments() {
            self.unknown.entry(argument).or_insert_with(|| reason.clone());
        }
        if let Node::Attend { call, .. } = node {
            self.parameters[*call] = Err(reason.clone());
        }
    }

    fn gradient(&self, id: NodeId) -> Known<f64> {
        if let Some(reason) = self.unknown.get(&id) {
            return Err(reason.clone());
        }
        match self.joint.gram(id).map(Gram::trace) {
            None => Ok(0.0),
            Some(g) if g.is_finite() && g <= f64::from(f32::MAX) => Ok(g.max(0.0)),
            Some(g) => Err(format!("the gradient overflows f32: {g:.3e}").into()),
        }
    }
}

const FRESH: Shares = Shares { radial: 1.0, constant: 1.0, recoil: 0.0, coupling: 1.0, sloped: false };

impl Visitor for Backward<'_> {
    fn visit(&mut self, id: NodeId, node: &Node) -> Result<()> {
        self.gradients[id] = self.gradient(id);
        let steps = self.steps;
        match (&steps[id], node) {
            (step, Node::Apply { call, argument }) => self.apply(id, *call, *argument, step),
            (Step::Unknown(reason), node) => self.unknown_value(id, node, reason),
            (Step::Sum(terms), _) => self.distribute(id, terms),
            (Step::Attend { history, sum, query }, Node::Attend { call, .. }) => {
                self.attend(id, *call, *history, sum, query);
            }
            _ => {}
        }
        Ok(())
    }

    fn release(&mut self, id: NodeId) {
        self.joint.remove(id);
        self.coordinates.remove(id);
        self.shares.remove(&id);
        self.unknown.remove(&id);
    }
}
