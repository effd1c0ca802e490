//! What tokens' own lengths make of z, as a norm sees it that stands right behind: E cos and E 1/(|z_a| |z_b|).
//!
//! A row of few weights gives a long z, one of many a short one, each token for itself. Of one head that is no small
//! variation, and members show it as it is. Of h heads z is the mean: what is beyond that of the mean Gram is linear in 1/h to
//! leading order, E(h) = E(1) - 2 (E(1) - E(2)) (1 - 1/h), with E(2) from the pairs that share a realised Gram.
//!
//! On the way back the cotangent of such a norm is short where z is long: a member meets it with the factor
//!
//! ```text
//! F_ab = 1 + recoil (1/sqrt(m_a m_b)/E[1/sqrt(m_a m_b)] - 1),    m = z/h + z' (1 - 1/h) on the diagonal,
//! ```
//!
//! z' of the pair's other member, which stands for the other heads: 1 on average, and exact for one head behind which a norm stands alone.

use crate::op::attention::moments::octet::{Eight, LANES, Octet, eight};
use crate::op::gaussian::{correlation, roots, symmetric};
use crate::op::{Gram, Lengths};

/// Sums over pairs.
pub struct Varying {
    pub heads: f64,
    one: Sums,
    two: Sums,
    /// Of 1/sqrt(m_a m_b).
    mixed: Octet,
}

/// Of z_ab/sqrt(z_aa z_bb) and 1/sqrt(z_aa z_bb).
struct Sums {
    cosine: Octet,
    inverse: Octet,
}

impl Sums {
    fn new(t: usize) -> Self {
        Sums { cosine: Octet::zeros(t, t), inverse: Octet::zeros(t, t) }
    }

    fn see(&mut self, z: &Octet) {
        let inverse = inverse_lengths(z.diagonal());
        self.cosine += &z.component_mul(&inverse);
        self.inverse += &inverse;
    }
}

impl Varying {
    pub fn new(t: usize, heads: usize) -> Self {
        Varying { heads: heads as f64, one: Sums::new(t), two: Sums::new(t), mixed: Octet::zeros(t, t) }
    }

    /// Adds eight pairs.
    pub fn see(&mut self, z: &[Octet; 2]) {
        z.iter().for_each(|z| self.one.see(z));
        self.two.see(&((z[0].clone() + &z[1]).scaled([0.5; LANES])));
        let squares = z.each_ref().map(|z| z.diagonal().copied().collect::<Vec<_>>());
        for (own, other) in [(0, 1), (1, 0)] {
            self.mixed += &mixed(&squares[own], &squares[other], self.heads);
        }
    }

    /// Of heads with this mean Gram, whose diagonal has the relative variance `spread`: what a norm behind them should know; the Gram
    /// that W_O's gradient sees behind such a norm, E[z/(|z_a| |z_b|)] / E[1/(|z_a| |z_b|)]; and E 1/sqrt(m_a m_b).
    pub fn finish(&self, pairs: f64, z: &Gram, spread: f64) -> (Lengths, Gram, Gram) {
        let of_heads = |one: &Octet, two: &Octet| {
            let [one, two] = [one.total() / (2.0 * pairs), two.total() / pairs];
            let left = 2.0 * (1.0 - 1.0 / self.heads);
            one * (1.0 - left) + two * left
        };
        let (mean, roots) = (correlation(z), roots(z));
        let cosine = of_heads(&self.one.cosine, &self.two.cosine);
        let inverse = of_heads(&self.one.inverse, &self.two.inverse);
        let second_order = |r: f64| 1.0 + spread * (3.0 + r * r) / 4.0;
        let beyond = symmetric(z.nrows(), |a, b| roots[a] * roots[b] * inverse[(a, b)] - second_order(mean[(a, b)]));
        let held = cosine.zip_map(&inverse, |cosine, inverse| if inverse > 0.0 { cosine / inverse } else { 0.0 });
        let mixed = self.mixed.total() / (2.0 * pairs);
        (Lengths { cosine: cosine - mean, inverse: beyond, inverse_freedom: 0.0 }, held, mixed)
    }
}

/// 1/sqrt(m_a m_b) of members whose z have these diagonals, beside those of their pairs' others.
pub fn mixed(own: &[Eight], other: &[Eight], heads: f64) -> Octet {
    let part = 1.0 / heads;
    let squares: Vec<Eight> =
        own.iter().zip(other).map(|(own, other)| eight(|l| own[l] * part + other[l] * (1.0 - part))).collect();
    inverse_lengths(squares.iter())
}

/// 1/sqrt(z_a z_b) of squared lengths; 0 where there is nothing.
fn inverse_lengths<'a>(squares: impl Iterator<Item = &'a Eight>) -> Octet {
    let root = |z: &Eight| z.map(|z| if z > 0.0 { 1.0 / z.sqrt() } else { 0.0 });
    let roots: Vec<Eight> = squares.map(root).collect();
    Octet::from_fn(roots.len(), roots.len(), |a, b| eight(|l| roots[a][l] * roots[b][l]))
}
