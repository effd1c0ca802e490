//! The prediction rule of this op: moments forward, cotangent Grams back.
//!
//! Coordinates of the input are Gaussian, so with phi(x) = squash(alpha x):
//! `K_out[a, b] = E[phi(u) phi(v)]`, (u, v) ~ N(0, K restricted to a, b); the linear response is E[phi'(u)] (Stein 1981,
//! Ann. Statist. 9, Lemma 1); back `G_in[a, b] = G[a, b] E[phi'(u) phi'(v)]`, with the same linear response.
//!
//! Behind another op that bends, with no sub-layer between, coordinates are not Gaussian: there the Gaussian kernels are
//! multiplied by what draws of one coordinate ([`Moments::coordinates`]) say of their diagonals, and the linear response is
//! E[phi x]/E[x^2], which is E[phi'] for a Gaussian.
//!
//! Own, derived here: a parameter theta of phi has `E (d theta)^2 = sum_ab G[a, b] E[t_a t_b]`, t = d phi/d theta, as the
//! cotangent is independent of the value and coordinates are independent; for a scalar alpha the part of it along the
//! value counts with the cotangent's radial share, for the shift the mean of t with the constant one. A token's realised
//! second moment varies by `Var(phi^2)/(E phi^2)^2/d`, plus what the input's varies beyond a Gaussian's 2/d, times
//! the square of d ln E phi^2/d ln q.

use crate::error::{Error, Result};
use crate::op::elementwise::{ALPHA, Elementwise};
use crate::op::gaussian::{Expansions, correlation, expectation, roots, symmetric, total};
use crate::op::{Cotangent, Gram, Moments, Pull, Pulled, Responded, Site};

pub fn respond(op: &Elementwise, at: &Site, input: &Moments) -> Result<Responded> {
    if input.mean.is_some() {
        return Err(Error::Refused {
            subject: format!("{} at {}", op.name, at.path()),
            reason: format!("{} acts on coordinates that are not Gaussian; its rule needs Gaussian ones", op.name),
            help: "use a normalizer that divides by a scale, such as rms_norm, there".into(),
        });
    }
    let d = at.width as f64;
    let roots = roots(&input.gram);
    let cosine = correlation(&input.gram);
    let phi = |x: f64| op.squash.value(ALPHA * x);
    let slope = |x: f64| ALPHA * op.squash.slope(ALPHA * x);
    let slopes = Expansions::of(&roots, slope);
    let stretches = Expansions::of(&roots, |x| x * op.squash.slope(ALPHA * x));

    let root = roots.iter().sum::<f64>() / roots.len() as f64;
    let gaussian = |f: &dyn Fn(f64) -> f64| expectation(|z| f(root * z));
    let realised = |f: &dyn Fn(f64) -> f64| match &input.coordinates {
        Some(draws) => mean_at(draws, &roots, root, f),
        None => gaussian(f),
    };
    // What coordinates that are not Gaussian make of a kernel, beside Gaussian ones of the same Gram.
    let ratio = |f: &dyn Fn(f64) -> f64| match &input.coordinates {
        Some(_) => realised(f) / gaussian(f).abs().max(f64::MIN_POSITIVE),
        None => 1.0,
    };
    let [q, second] = [root * root, realised(&|x| phi(x).powi(2)).max(f64::MIN_POSITIVE)];
    let gram = Expansions::of(&roots, phi).kernel(&cosine) * ratio(&|x| phi(x).powi(2));
    let straight = ratio(&|x| phi(x) * x);
    let linear: Vec<f64> = slopes.means().iter().map(|l| l * straight).collect();
    let elasticity = realised(&|x| phi(x) * slope(x) * x) / second;
    let own = (realised(&|x| phi(x).powi(4)) / second.powi(2) - 1.0) / d;
    let spread = (own + elasticity.powi(2) * (input.spread - 2.0 / d)).max(0.0);
    // E[f y^n] with y = x^2/q.
    let power = |f: &dyn Fn(f64) -> f64, n| realised(&|x| f(x) * (x * x / q.max(f64::MIN_POSITIVE)).powi(n));
    let slope_powers = [0, 1, 2].map(|n| power(&|x| slope(x).powi(2), n));
    let value_powers = [0, 1].map(|n| power(&|x| phi(x).powi(2), n));
    let kurtosis = power(&|_| 1.0, 2) - 1.0;
    let stretched = slope_powers[1] * q;
    let pull = Slope {
        op: op.clone(),
        slope_powers,
        value_powers,
        kurtosis,
        straight: (linear.iter().sum::<f64>() / linear.len() as f64).powi(2) / slope_powers[0],
        cosine2: (elasticity * second).powi(2) / (second * stretched).max(f64::MIN_POSITIVE),
        elasticity,
        values: gram.clone(),
        slopes: slopes.kernel(&cosine) * ratio(&|x| slope(x).powi(2)),
        stretches: stretches.kernel(&cosine) * ratio(&|x| (x * slope(x)).powi(2)),
        linear: linear.clone(),
    };
    let (freedom, constant) = (input.freedom, input.constant);
    Ok(Responded {
        output: Moments { gram, spread, freedom, constant, mean: None, coordinates: None },
        linear: Some(linear),
        elasticity,
        centred_elasticity: elasticity,
        pull: Box::new(pull),
    })
}

/// The mean of f over draws and tokens, each token's draws brought to the second moment that it has, and that to root^2.
fn mean_at(draws: &Gram, roots: &[f64], root: f64, f: &dyn Fn(f64) -> f64) -> f64 {
    let known = |a: &usize| roots[*a] > 0.0;
    let of_token = |a: usize| {
        let row = draws.row(a);
        let scale = root / (row.norm_squared() / row.len() as f64).sqrt().max(f64::MIN_POSITIVE);
        row.iter().map(|x| f(scale * x)).sum::<f64>() / row.len() as f64
    };
    let tokens: Vec<usize> = (0..roots.len()).filter(known).collect();
    tokens.iter().map(|a| of_token(*a)).sum::<f64>() / tokens.len().max(1) as f64
}

struct Slope {
    op: Elementwise,
    /// E[phi phi].
    values: Gram,
    /// E[phi' phi'], phi' with respect to x.
    slopes: Gram,
    /// E[t t], t = d phi/d alpha.
    stretches: Gram,
    /// E[phi'].
    linear: Vec<f64>,
    /// E[phi'^2 y^n], n = 0, 1, 2, with y = x^2/q; the second over the first is the radial share of an isotropic cotangent
    /// behind the op.
    slope_powers: [f64; 3],
    /// E[phi^2 y^n], n = 0, 1.
    value_powers: [f64; 2],
    /// Var y.
    kurtosis: f64,
    /// The squared cosine between phi and x phi'.
    cosine2: f64,
    elasticity: f64,
    /// (E phi')^2/E[phi'^2]: how much of a direction survives.
    straight: f64,
}

impl Pull for Slope {
    fn pull(&self, cotangent: &Cotangent) -> Pulled {
        let lost = 1.0 - cotangent.constant;
        // A cotangent that goes with its value's size, E[g^2|y] = E g^2 (1 + tilt (y - 1)), meets other slopes than one that does not.
        let tilt = if self.kurtosis > 0.0 { (cotangent.stretch - 1.0) / self.kurtosis } else { 0.0 };
        let tilted = |power: f64, higher: f64| {
            if power > 0.0 { (1.0 - tilt + tilt * higher / power).max(0.0) } else { 1.0 }
        };
        let [slope, stretch, next] = self.slope_powers;
        let [value, larger] = self.value_powers;
        let g = &cotangent.gram;
        // Of t = x phi' only the part along phi counts with the cotangent's share along phi.
        let along = 1.0 - (1.0 - cotangent.radial) * self.cosine2;
        let shift = symmetric(g.nrows(), |a, b| {
            (self.slopes[(a, b)] - lost * self.linear[a] * self.linear[b]) / (ALPHA * ALPHA)
        });
        let alpha = g.dot(&self.stretches) * along * tilted(stretch, next);
        let mut parameters = vec![Ok(g.dot(&self.values) * tilted(value, larger)), total(g), Ok(alpha)];
        parameters.extend(self.op.shift.then(|| Ok(g.dot(&shift))));
        Pulled {
            cotangent: Cotangent {
                radial: stretch / slope.max(f64::MIN_POSITIVE) * along,
                constant: 1.0 - self.straight * lost,
                recoil: self.elasticity * cotangent.recoil,
                ..Cotangent::fresh(g.component_mul(&self.slopes) * tilted(slope, stretch))
            },
            linear: Some(self.linear.clone()),
            parameters,
        }
    }
}
