//! What an ensemble of heads makes of the values: E z, and how z varies between draws.

use crate::op::attention::moments::ensemble::Heads;
use crate::op::attention::moments::lengths::Varying;
use crate::op::attention::moments::octet::{Eight, LANES, Octet, eight, total};
use crate::op::gaussian::{centred_product, centred_trace};
use crate::op::{Gram, Lengths};

/// z = A V A^T over the members, and how its diagonal and its centred part vary. Sums of eight lanes each.
pub struct Values {
    sum: Octet,
    /// Per token, sums over pairs of z_1 z_2 and of (z_1^2 + z_2^2)/2.
    shared: Vec<Eight>,
    square: Vec<Eight>,
    /// Of z as it is, and of its tokens at unit length.
    shape: Shape,
    unit_shape: Shape,
    /// Sums over members for u = tr z_c/tr z and the same of x: u, u of x, its square, their product.
    traces: [Eight; 4],
    lengths: Varying,
}

/// What comes of the members.
pub struct Finished {
    /// E z.
    pub z: Gram,
    /// The relative variance of its diagonal.
    pub spread: f64,
    /// The freedom of its Gram.
    pub freedom: f64,
    /// The elasticity of its distance from token collapse.
    pub centred_elasticity: f64,
    pub lengths: Lengths,
    /// As in [`Varying`].
    pub held: Gram,
    pub mixed: Gram,
}

impl Values {
    pub fn new(t: usize, heads: usize) -> Self {
        let zero = || Octet::zeros(t, t);
        let none = [0.0; LANES];
        Values {
            sum: zero(),
            shared: vec![none; t],
            square: vec![none; t],
            shape: Shape::new(t),
            unit_shape: Shape::new(t),
            traces: [none; 4],
            lengths: Varying::new(t, heads),
        }
    }

    /// Adds eight pairs of members.
    pub fn see(&mut self, pair: &[Heads; 2]) {
        let z = pair.each_ref().map(|heads| (&heads.a * &heads.v).symmetric_product(&heads.a.transpose()));
        let inverse = z.each_ref().map(|z| reciprocal(z.trace()));
        let (x_trace, x_inverse) = (pair[0].x.centred_trace(), reciprocal(pair[0].x.trace()));
        for (z, inverse) in z.iter().zip(&inverse) {
            let trace = z.centred_trace();
            for lane in 0..LANES {
                let (u, x) = (trace[lane] * inverse[lane], x_trace[lane] * x_inverse[lane]);
                for (sum, term) in self.traces.iter_mut().zip([u, x, x * x, x * u]) {
                    sum[lane] += term;
                }
            }
            self.sum += z;
        }
        self.lengths.see(&z);
        self.shape.see(&z);
        self.unit_shape.see(&z.each_ref().map(Octet::correlation));
        for (a, (first, second)) in z[0].diagonal().zip(z[1].diagonal()).enumerate() {
            for lane in 0..LANES {
                let (f, s) = (first[lane], second[lane]);
                self.shared[a][lane] += f * s;
                self.square[a][lane] += (f * f + s * s) / 2.0;
            }
        }
    }

    /// `d`: how many coordinates W_V gives the values beside what the members show.
    pub fn finish(self, d: f64, members: usize) -> Finished {
        let (n, t) = (members as f64, self.sum.rows());
        let z = self.sum.total() / n;
        let (pairs, heads) = (n / 2.0, self.lengths.heads);
        let token = |a: usize| relative([&self.shared[a], &self.square[a]], pairs, z[(a, a)].powi(2), heads);
        let spread = (0..t).map(token).sum::<f64>() / t as f64;
        let [of_z, of_units] = [&self.shape, &self.unit_shape].map(|shape| shape.excess(pairs, heads));
        let (mut lengths, held, mixed) = self.lengths.finish(pairs, &z, spread);
        lengths.inverse_freedom = of_units.unwrap_or(0.0) - of_z.unwrap_or(0.0);
        let [u, x, x_square, both] = self.traces.map(|sum| total(&sum) / n);
        let x_variance = x_square - x * x;
        let follows = of_z.is_some() && x_variance > 0.0;
        let centred_elasticity = if follows { (both - u * x) / x_variance * x / u } else { 1.0 };
        let freedom = 1.0 / (1.0 / d + of_z.unwrap_or(0.0));
        Finished { z, spread, freedom, centred_elasticity, lengths, held, mixed }
    }
}

/// How a Gram in units of its trace varies.
struct Shape {
    /// The sum over members.
    sum: Octet,
    /// Sums over pairs of its centred part's product with the other member's, and of its square.
    shared: Eight,
    square: Eight,
}

impl Shape {
    fn new(t: usize) -> Self {
        Shape { sum: Octet::zeros(t, t), shared: [0.0; LANES], square: [0.0; LANES] }
    }

    fn see(&mut self, pair: &[Octet; 2]) {
        let inverse = pair.each_ref().map(|k| reciprocal(k.trace()));
        let centred = pair.each_ref().map(Octet::centred);
        let product = |i: usize, j: usize| {
            let product = centred[i].dot(&centred[j]);
            eight(|lane| product[lane] * inverse[i][lane] * inverse[j][lane])
        };
        let (shared, first, second) = (product(0, 1), product(0, 0), product(1, 1));
        for lane in 0..LANES {
            self.shared[lane] += shared[lane];
            self.square[lane] += (first[lane] + second[lane]) / 2.0;
        }
        for (k, inverse) in pair.iter().zip(&inverse) {
            self.sum += &k.clone().scaled(*inverse);
        }
    }

    /// 1/nu of the Wishart matrix whose centred part has the same mean square; none where tokens coincide.
    fn excess(&self, pairs: f64, heads: f64) -> Option<f64> {
        let mean = self.sum.total() / (2.0 * pairs);
        let (t, trace) = (mean.nrows(), centred_trace(&mean));
        if t < 2 || trace <= t as f64 * f64::EPSILON {
            return None;
        }
        let square = centred_product(&mean, &mean);
        Some(relative([&self.shared, &self.square], pairs, square, heads) / (1.0 + trace * trace / square))
    }
}

/// Between Grams fully, between heads by h: (cov + (var - cov)/h)/mean^2, from sums over pairs of products and of squares.
fn relative([shared, square]: [&Eight; 2], pairs: f64, mean_square: f64, heads: f64) -> f64 {
    if mean_square <= 0.0 {
        return 0.0;
    }
    let [cov, var] = [shared, square].map(|sum| total(sum) / pairs - mean_square);
    ((cov + (var - cov).max(0.0) / heads) / mean_square).max(0.0)
}

/// 1/x, 0 where there is nothing.
fn reciprocal(of: Eight) -> Eight {
    of.map(|x| if x > 0.0 { 1.0 / x } else { 0.0 })
}
