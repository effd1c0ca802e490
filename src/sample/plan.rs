//! Where the figures of one draw go, and the draw itself.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::Result;
use crate::fold::{Graph, NodeId};
use crate::op::columns::square;
use crate::op::{Matrices, MatrixLaw, Rows};
use crate::profile::{Layout, Place, Quantity};
use crate::random::{Stream, name_key};
use crate::sample::backward::Backward;
use crate::sample::forward::Forward;

/// A graph with its layout and the positions of its figures.
pub struct Plan<'a> {
    pub graph: &'a Graph,
    pub layout: Layout,
    /// Of every weight matrix.
    law: MatrixLaw,
    positions: HashMap<(Place, Quantity), usize>,
    /// The place that a node's value is recorded at.
    places: Vec<Option<Place>>,
    /// The parameters of each call in the layout.
    parameters: Vec<Range<usize>>,
}

impl<'a> Plan<'a> {
    pub fn new(graph: &'a Graph, law: MatrixLaw) -> Self {
        let layout = Layout::new(graph);
        let positions = layout.figures.iter().copied().zip(0..).collect();
        let mut places = vec![None; graph.nodes.len()];
        places[0] = Some(Place::Input);
        for (s, site) in layout.sites.iter().enumerate() {
            places[site.node] = Some(Place::Site(s));
        }
        let mut parameters = vec![0..0; graph.calls.len()];
        for (p, point) in layout.parameters.iter().enumerate() {
            let range = &mut parameters[point.call];
            *range = if *range == (0..0) { p..p + 1 } else { range.start..p + 1 };
        }
        Plan { graph, layout, law, positions, places, parameters }
    }

    /// The place that a node's value is recorded at, if it is.
    pub fn place(&self, node: NodeId) -> Option<Place> {
        self.places[node]
    }

    /// The matrices of one call, on one of its two ways.
    pub fn matrices(&self, key: Key, way: &str, call: usize) -> Box<dyn Matrices> {
        self.law.matrices(key.stream(way, call))
    }

    /// One draw, in the order of [`Layout::figures`]: forward, then back from a cotangent R, iid N(0, 1/(T d)).
    pub fn draw(&self, seed: u64, draw: u64) -> Result<Vec<f64>> {
        let key = Key { seed, draw };
        let mut figures = Figures { plan: self, values: vec![0.0; self.layout.figures.len()] };
        let (width, tokens) = (self.layout.shape.width, self.layout.shape.tokens);
        let normal = |what: &str| Rows::from_vec(width, tokens, key.stream(what, 0).normals(width * tokens));
        let mut forward = Forward::new(key, normal("sample input"), &mut figures);
        self.graph.sweep(&mut forward)?;
        let (output, kept) = forward.finish(self.graph.output);
        figures.value(Place::Output, &output);
        let cotangent = normal("sample cotangent") / ((width * tokens) as f64).sqrt();
        let mut backward = Backward::new(key, kept, self.graph.output, cotangent, &mut figures);
        self.graph.sweep_back(&mut backward)?;
        Ok(figures.values)
    }
}

/// What names the random numbers of one draw.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    seed: u64,
    draw: u64,
}

impl Key {
    /// A stream for one purpose at one call, independent of when it is asked for.
    pub fn stream(self, purpose: &str, call: usize) -> Stream {
        Stream::new(self.seed, &[name_key(purpose), self.draw, call as u64])
    }
}

/// The figures of one draw, 0 until they are known: what no cotangent reaches has gradient 0.
pub struct Figures<'p, 'a> {
    pub plan: &'p Plan<'a>,
    values: Vec<f64>,
}

impl Figures<'_, '_> {
    fn set(&mut self, place: Place, quantity: Quantity, value: f64) {
        if let Some(&at) = self.plan.positions.get(&(place, quantity)) {
            self.values[at] = value;
        }
    }

    /// Second moment and overlap of a value.
    pub fn value(&mut self, place: Place, rows: &Rows) {
        self.set(place, Quantity::SecondMoment, square(rows.as_slice()) / rows.len() as f64);
        self.set(place, Quantity::Overlap, overlap(rows));
    }

    /// The gradient at a value.
    pub fn cotangent(&mut self, place: Place, rows: &Rows) {
        self.set(place, Quantity::Gradient, square(rows.as_slice()));
    }

    /// The squared gradients of a call's parameters.
    pub fn parameters(&mut self, call: usize, gradients: &[f64]) {
        for (p, gradient) in self.plan.parameters[call].clone().zip(gradients) {
            self.set(Place::Parameter(p), Quantity::Gradient, *gradient);
        }
    }
}

/// Mean cosine between pairs of different tokens, `(|sum_a u_a|^2 - T)/(T (T - 1))` with u_a the unit vectors;
/// 0 in place of what does not exist for one token.
fn overlap(rows: &Rows) -> f64 {
    let (width, tokens) = rows.shape();
    if tokens < 2 {
        return 0.0;
    }
    let mut sum = vec![0.0; width];
    for row in rows.as_slice().chunks_exact(width) {
        let inverse = 1.0 / square(row).sqrt();
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += x * inverse);
    }
    let count = tokens as f64;
    (square(&sum) - count) / (count * (count - 1.0))
}
