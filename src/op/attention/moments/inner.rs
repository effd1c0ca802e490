//! An inner norm of q, k or v within the ensemble, by its own rule.

use std::sync::Arc;

use crate::error::Result;
use crate::op::gaussian::cholesky;
use crate::op::{Gram, Moments, Op, Pull, Site};

/// A norm's way back, shared by the members that it is the same for.
pub type Pulls = Arc<dyn Pull>;

/// A norm with its place.
pub struct Inner {
    pub op: Arc<dyn Op>,
    pub site: Site,
    /// Squared gain of the matrix before it.
    pub gain: f64,
    /// How many other heads' coordinates it sees.
    pub others: f64,
    /// What it does to expected moments, where it bends vectors and does not only scale them.
    pub bend: Option<Bend>,
}

/// A linear response and an independent rest.
pub struct Bend {
    pub linear: Vec<f64>,
    /// The factor of the rest's Gram.
    pub rest: Gram,
    pub pull: Pulls,
}

impl Inner {
    pub fn new(norm: Option<(Arc<dyn Op>, Site)>, gain: f64, others: f64, input: &Gram) -> Result<Option<Self>> {
        let Some((op, site)) = norm else { return Ok(None) };
        let mut inner = Inner { op, site, gain, others, bend: None };
        let gram = input * gain;
        let n = gram.nrows();
        let response = inner.op.respond(&inner.site, &inner.realised(gram.clone()))?;
        let output = &response.output.gram;
        let scale: Vec<f64> =
            (0..n).map(|a| if gram[(a, a)] > 0.0 { (output[(a, a)] / gram[(a, a)]).sqrt() } else { 0.0 }).collect();
        let bends = |a: usize, b: usize| {
            let unit = (output[(a, a)] * output[(b, b)]).sqrt();
            (output[(a, b)] - scale[a] * scale[b] * gram[(a, b)]).abs() > 1e6 * f64::EPSILON * unit
        };
        if let Some(linear) = response.linear {
            let moved = |a: usize, b: usize| linear[a] * linear[b] * gram[(a, b)];
            let rest = Gram::from_fn(n, n, |a, b| output[(a, b)] - moved(a, b));
            // Of one token no pair tells; there the rest itself does, but for a subtracted mean's share.
            let alone = n == 1 && rest[(0, 0)] > 2.0 / inner.site.width as f64 * output[(0, 0)];
            if alone || (0..n).any(|a| (0..a).any(|b| bends(a, b))) {
                inner.bend = Some(Bend { rest: cholesky(&rest), linear, pull: response.pull.into() });
            }
        }
        Ok(Some(inner))
    }

    /// The moments of rows whose Gram is known.
    pub fn realised(&self, gram: Gram) -> Moments {
        Moments { spread: 0.0, ..Moments::gaussian(gram, self.site.width) }
    }
}
