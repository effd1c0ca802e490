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
    /// The sum of z/tr z, and over pairs of |z_c|^2/(tr z)^2: between the members, and of one.
    shape: Octet,
    shapes: [Eight; 2],
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
            shape: zero(),
            shapes: [none; 2],
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
            self.shape += &z.clone().scaled(*inverse);
        }
        self.lengths.see(&z);
        let centred = z.each_ref().map(|z| z.centred());
        let products = [(0, 1), (0, 0), (1, 1)].map(|(i, j)| {
            let product = centred[i].dot(&centred[j]);
            eight(|lane| product[lane] * inverse[i][lane] * inverse[j][lane])
        });
        for lane in 0..LANES {
            self.shapes[0][lane] += products[0][lane];
            self.shapes[1][lane] += (products[1][lane] + products[2][lane]) / 2.0;
        }
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
        let (z, shape) = (self.sum.total() / n, self.shape.total() / n);
        let (pairs, heads) = (n / 2.0, self.lengths.heads);
        // Between Grams fully, between heads by h: f = (cov + (var - cov)/h)/mean^2.
        let relative = |shared: f64, square: f64, mean_square: f64| {
            if mean_square <= 0.0 {
                return 0.0;
            }
            let (cov, var) = (shared / pairs - mean_square, square / pairs - mean_square);
            ((cov + (var - cov).max(0.0) / heads) / mean_square).max(0.0)
        };
        let token = |a: usize| relative(total(&self.shared[a]), total(&self.square[a]), z[(a, a)].powi(2));
        let spread = (0..t).map(token).sum::<f64>() / t as f64;
        let (lengths, held, mixed) = self.lengths.finish(pairs, &z, spread);
        let [u, x, x_square, both] = self.traces.map(|sum| total(&sum) / n);
        let trace = centred_trace(&shape);
        if t < 2 || trace <= t as f64 * f64::EPSILON {
            return Finished { z, spread, freedom: d, centred_elasticity: 1.0, lengths, held, mixed };
        }
        let square = centred_product(&shape, &shape);
        let excess = relative(total(&self.shapes[0]), total(&self.shapes[1]), square) / (1.0 + trace * trace / square);
        let x_variance = x_square - x * x;
        let centred_elasticity = if x_variance > 0.0 { (both - u * x) / x_variance * x / u } else { 1.0 };
        Finished { z, spread, freedom: 1.0 / (1.0 / d + excess), centred_elasticity, lengths, held, mixed }
    }
}

/// 1/x, 0 where there is nothing.
fn reciprocal(of: Eight) -> Eight {
    of.map(|x| if x > 0.0 { 1.0 / x } else { 0.0 })
}
