//! Figures of a statement as evidence, and what its words allow.

use super::Bench;
use crate::verify::{Evidence, Interval};

/// What "roughly", "close to" and "about" allow on either side.
pub const ROUGHLY: f64 = 0.25;

/// Within what an expected value is taken to equal a stated one.
pub const MARGIN: f64 = 0.05;

/// Within what an exponent is taken to equal a stated one: off by it, a figure is off by a third over sixteenfold depth.
pub const EXPONENT: f64 = 0.1;

impl Bench<'_> {
    /// The mean of a figure over draws.
    pub fn mean(&self, figure: impl Into<String>, values: &[f64], accepted: Interval) -> Evidence {
        Evidence::mean(figure, values, accepted, self.alpha)
    }

    /// The exponent p of `y = c x^p` through points of one y a draw.
    pub fn exponent(&self, figure: impl Into<String>, points: &[(f64, Vec<f64>)], accepted: Interval) -> Evidence {
        let draws = points.iter().map(|(_, y)| y.len()).min().unwrap_or(0);
        let line = |draw: usize| points.iter().map(|(x, y)| (x.ln(), y[draw].ln())).collect();
        let lines: Vec<Vec<(f64, f64)>> = (0..draws).map(line).collect();
        Evidence::slope(figure, &lines, accepted, self.alpha)
    }
}

/// Depths in powers of two up to the largest, five of them or as many as there are.
pub fn depths(largest: usize) -> Vec<usize> {
    (0..5).rev().map(|halvings| largest >> halvings).filter(|depth| *depth > 0).collect()
}

/// Square roots: norms of squared gradients, rms of second moments.
pub fn roots(squares: &[f64]) -> Vec<f64> {
    squares.iter().map(|square| square.sqrt()).collect()
}

/// One ratio a draw.
pub fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(a, b)| a / b).collect()
}

/// One difference a draw.
pub fn differences(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(a, b)| a - b).collect()
}
