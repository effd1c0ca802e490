//! Draws of one coordinate of values, and of their cotangents, in the wide limit.
//!
//! There coordinates are independent and alike, each a function of Gaussians of its own: a sub-layer's output is a fresh one
//! with the predicted Gram, a norm scales it, an op that bends maps it; back the same with slopes. More than Grams is wanted only
//! where ops bend coordinates: behind one with no sub-layer between values are not Gaussian, and cotangents go with their
//! size. Nothing is drawn for a network without any.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fold::Graph;
use crate::op::gaussian::cholesky;
use crate::op::{Gram, mean_products};
use crate::predict::joint::Key;
use crate::random::{Stream, name_key};

const SEED: u64 = 0x5eed;

/// Draws times tokens for a whole network, and draws at least and at most.
const BUDGET: usize = 1 << 20;
const LEAST: usize = 64;
const MOST: usize = 1 << 14;

/// Draws by value; none where no op bends coordinates.
pub struct Coordinates {
    /// Values or cotangents.
    what: &'static str,
    draws: usize,
    rows: BTreeMap<Key, Arc<Gram>>,
}

impl Coordinates {
    pub fn new(graph: &Graph, what: &'static str) -> Self {
        let bends = graph.calls.iter().any(|call| call.op.as_ref().is_some_and(|op| op.bend(0.0).is_some()));
        let shape = graph.network.shape;
        let draws = (BUDGET / (shape.tokens * shape.blocks)).clamp(LEAST, MOST);
        Coordinates { what, draws: if bends { draws } else { 0 }, rows: BTreeMap::new() }
    }

    pub fn get(&self, key: Key) -> Option<Arc<Gram>> {
        self.rows.get(&key).cloned()
    }

    pub fn remove(&mut self, key: Key) {
        self.rows.remove(&key);
    }

    /// Gaussian and independent of all others; `source` tells its draws from theirs.
    pub fn insert_fresh(&mut self, key: Key, gram: &Gram, source: usize) {
        if self.draws > 0 {
            let mut z = Gram::zeros(gram.nrows(), self.draws);
            Stream::new(SEED, &[name_key(self.what), source as u64]).fill_normal(z.as_mut_slice());
            self.rows.insert(key, Arc::new(cholesky(gram) * z));
        }
    }

    pub fn insert_sum(&mut self, key: Key, terms: &[(f64, Key)], tokens: usize) {
        if self.draws > 0 {
            let mut sum = Gram::zeros(tokens, self.draws);
            for (weight, rows) in terms.iter().filter_map(|(weight, key)| Some((weight, self.rows.get(key)?))) {
                sum.zip_apply(rows.as_ref(), |s, x| *s += weight * x);
            }
            self.rows.insert(key, Arc::new(sum));
        }
    }

    /// Token by token in units of its scale.
    pub fn insert_scaled(&mut self, key: Key, of: Key, linear: &[f64]) {
        if let Some(mut rows) = self.get(of) {
            for mut column in Arc::make_mut(&mut rows).column_iter_mut() {
                column.iter_mut().zip(linear).for_each(|(x, l)| *x *= l);
            }
            self.rows.insert(key, rows);
        }
    }

    /// What `v` has in common with each of `others` beyond its linear response to `of`: E[(v_a - l_a of_a) w_b]. Zero where all are
    /// jointly Gaussian (Stein 1981), and so left out where the draws say nothing.
    pub fn beyond(&self, v: Key, of: Key, linear: &[f64], others: &[Key]) -> Vec<(Key, Gram)> {
        let (Some(rest), Some(argument)) = (self.get(v), self.get(of)) else { return Vec::new() };
        let mut rest = rest.as_ref().clone();
        for (mut column, x) in rest.column_iter_mut().zip(argument.column_iter()) {
            column.iter_mut().zip(x.iter()).zip(linear).for_each(|((r, x), l)| *r -= l * x);
        }
        others.iter().filter_map(|w| Some((*w, mean_products(&rest, self.rows.get(w)?.as_ref())))).collect()
    }

    pub fn insert_bent(&mut self, key: Key, of: Key, bend: impl Fn(f64) -> f64) {
        if let Some(mut rows) = self.get(of) {
            Arc::make_mut(&mut rows).apply(|x| *x = bend(*x));
            self.rows.insert(key, rows);
        }
    }

    /// Back through an op that bends: each times the slope at its value.
    pub fn insert_sloped(&mut self, key: Key, of: Key, values: &Gram, slope: impl Fn(f64) -> f64) {
        if let Some(mut rows) = self.get(of) {
            Arc::make_mut(&mut rows).zip_apply(values, |c, x| *c *= slope(x));
            self.rows.insert(key, rows);
        }
    }

    /// Adds weight times `from` to `target`, which starts at zero where it is not there.
    pub fn accumulate(&mut self, target: Key, weight: f64, from: Key) {
        let Some(from) = self.get(from) else { return };
        match self.rows.get_mut(&target) {
            Some(sum) => Arc::make_mut(sum).zip_apply(from.as_ref(), |s, x| *s += weight * x),
            None => drop(self.rows.insert(target, Arc::new(from.as_ref() * weight))),
        }
    }

    pub fn rename(&mut self, key: Key, to: Key) {
        if let Some(rows) = self.rows.remove(&key) {
            self.rows.insert(to, rows);
        }
    }
}
