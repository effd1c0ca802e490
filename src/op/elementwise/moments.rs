//! The prediction rule of this op: moments forward, cotangent Grams back.
//!
//! Coordinates of the input are Gaussian, so with phi(x) = squash(alpha x):
//! `K_out[a, b] = E[phi(u) phi(v)]`, (u, v) ~ N(0, K restricted to a, b); the linear response is E[phi'(u)] (Stein 1981,
//! Ann. Statist. 9, Lemma 1); back `G_in[a, b] = G[a, b] E[phi'(u) phi'(v)]`, with the same linear response.
//!
//! Behind another op that bends, with no sub-layer between, coordinates are not Gaussian: there the Gaussian kernels' diagonals
//! are multiplied by what draws of one coordinate ([`Moments::coordinates`]) say of them, correlations are those of the draws,
//! and the linear response is E[phi x]/E[x^2], which is E[phi'] for a Gaussian. A draw's chance is that of phi's bend alone: the
//! part linear in x, of slope l, is taken off the draws and given back as l_a l_b K[a, b]. A cotangent that depends on the value
//! ([`Cotangent::paired`]) adds to `G_in` the covariance of g_a g_b with phi'_a phi'_b.
//!
//! Own, derived here: a parameter theta of phi has `E (d theta)^2 = sum_ab G[a, b] E[t_a t_b]`, t = d phi/d theta, as the
//! cotangent is independent of the value and coordinates are independent; for a scalar alpha the part of it along the
//! value counts with the cotangent's radial share, for the shift the mean of t with the constant one. A token's realised
//! second moment varies by `Var(phi^2)/(E phi^2)^2/d`, plus what the input's varies beyond a Gaussian's 2/d, times
//! the square of d ln E phi^2/d ln q.

use crate::error::{Error, Result};
use crate::op::elementwise::{ALPHA, Elementwise};
use crate::op::gaussian::{Expansions, correlation, expectation, roots, symmetric, total};
use crate::op::{Cotangent, Gram, Moments, Pull, Pulled, Responded, Site, mean_products};

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
    let drawn = input.coordinates.as_ref().map(|draws| rescaled(draws, &roots));
    let common = input.coordinates.as_ref().map(|draws| rescaled(draws, &vec![root; roots.len()]));
    let realised = |f: &dyn Fn(f64) -> f64| common.as_ref().map_or_else(|| gaussian(f), |x| x.map(f).mean());
    // What coordinates that are not Gaussian make of a kernel's diagonal, beside Gaussian ones of the same second moment.
    let ratio = |f: &dyn Fn(f64) -> f64| match &common {
        Some(_) => realised(f) / gaussian(f).abs().max(f64::MIN_POSITIVE),
        None => 1.0,
    };
    let kernel = |expansions: &Expansions, f: &dyn Fn(f64) -> f64| {
        let kernel = expansions.kernel(&cosine);
        match &drawn {
            Some(x) => correlated(&(kernel * ratio(&|x| f(x).powi(2))), &products(x, f, &input.gram)),
            None => kernel,
        }
    };
    let [q, second] = [root * root, realised(&|x| phi(x).powi(2)).max(f64::MIN_POSITIVE)];
    let gram = kernel(&Expansions::of(&roots, phi), &phi);
    let straight = ratio(&|x| phi(x) * x);
    let linear: Vec<f64> = slopes.means().iter().map(|l| l * straight).collect();
    let elasticity = realised(&|x| phi(x) * slope(x) * x) / second;
    let own = (realised(&|x| phi(x).powi(4)) / second.powi(2) - 1.0) / d;
    let spread = (own + elasticity.powi(2) * (input.spread - 2.0 / d)).max(0.0);
    let energy = realised(&|x| slope(x).powi(2)).max(f64::MIN_POSITIVE);
    let stretched = realised(&|x| (x * slope(x)).powi(2));
    let pull = Slope {
        op: op.clone(),
        stretch: if q > 0.0 { stretched / (q * energy) } else { 1.0 },
        straight: (linear.iter().sum::<f64>() / linear.len() as f64).powi(2) / energy,
        cosine2: (elasticity * second).powi(2) / (second * stretched).max(f64::MIN_POSITIVE),
        elasticity,
        values: gram.clone(),
        slopes: kernel(&slopes, &slope),
        stretches: kernel(&stretches, &|x| x * op.squash.slope(ALPHA * x)),
        linear: linear.clone(),
    };
    let (freedom, constant) = (input.freedom, input.constant);
    Ok(Responded {
        output: Moments { gram, spread, freedom, constant, mean: None, coordinates: None, lengths: None },
        linear: Some(linear),
        elasticity,
        centred_elasticity: elasticity,
        pull: Box::new(pull),
    })
}

/// Each token's draws brought to the second moment that it has.
fn rescaled(draws: &Gram, roots: &[f64]) -> Gram {
    let mut out = draws.clone();
    for (mut row, root) in out.row_iter_mut().zip(roots) {
        let length = (row.norm_squared() / row.len() as f64).sqrt();
        row.scale_mut(if length > 0.0 { root / length } else { 0.0 });
    }
    out
}

/// E[f_a f_b] of values x with Gram K: the draws' own, but for the part of f that is linear in x.
fn products(x: &Gram, f: &dyn Fn(f64) -> f64, k: &Gram) -> Gram {
    let values = x.map(f);
    let (own, drawn) = (mean_products(&values, &values), mean_products(x, x));
    let slope = |a: usize| match drawn[(a, a)] > 0.0 {
        true => values.row(a).dot(&x.row(a)) / x.row(a).norm_squared(),
        false => 0.0,
    };
    let slopes: Vec<f64> = (0..x.nrows()).map(slope).collect();
    symmetric(x.nrows(), |a, b| own[(a, b)] + slopes[a] * slopes[b] * (k[(a, b)] - drawn[(a, b)]))
}

/// The diagonal of one kernel with the correlations of another.
fn correlated(diagonal: &Gram, products: &Gram) -> Gram {
    let cosine = correlation(products);
    symmetric(diagonal.nrows(), |a, b| cosine[(a, b)] * (diagonal[(a, a)] * diagonal[(b, b)]).sqrt())
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
    /// E[phi'^2 x^2]/(E[phi'^2] E[x^2]), the radial share of an isotropic cotangent behind the op.
    stretch: f64,
    /// The squared cosine between phi and x phi'.
    cosine2: f64,
    elasticity: f64,
    /// (E phi')^2/E[phi'^2]: how much of a direction survives.
    straight: f64,
}

impl Pull for Slope {
    fn pull(&self, cotangent: &Cotangent) -> Pulled {
        let lost = 1.0 - cotangent.constant;
        let g = &cotangent.gram;
        let phi = |x: f64| self.op.squash.value(ALPHA * x);
        let slope = |x: f64| ALPHA * self.op.squash.slope(ALPHA * x);
        let paired = cotangent.paired.as_ref();
        let together = |f: &dyn Fn(f64) -> f64| paired.map_or(1.0, |paired| paired.together(f));
        let mut behind = g.component_mul(&self.slopes);
        if let Some(paired) = paired {
            let covariance = paired.covariance(slope);
            behind += symmetric(g.nrows(), |a, b| covariance[(a, b)] * (g[(a, a)] * g[(b, b)]).sqrt());
        }
        // Of t = x phi' only the part along phi counts with the cotangent's share along phi.
        let along = 1.0 - (1.0 - cotangent.radial) * self.cosine2;
        let shift = symmetric(g.nrows(), |a, b| {
            (self.slopes[(a, b)] - lost * self.linear[a] * self.linear[b]) / (ALPHA * ALPHA)
        });
        let alpha = g.dot(&self.stretches) * along * together(&|x| x * slope(x));
        let mut parameters = vec![Ok(g.dot(&self.values) * together(&phi) * cotangent.coupling), total(g), Ok(alpha)];
        parameters.extend(self.op.shift.then(|| Ok(g.dot(&shift))));
        Pulled {
            cotangent: Cotangent {
                radial: paired.map_or(self.stretch, |paired| paired.stretch(slope)) * along,
                constant: 1.0 - self.straight * lost,
                recoil: self.elasticity * cotangent.recoil,
                ..Cotangent::fresh(behind)
            },
            linear: Some(self.linear.clone()),
            parameters,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::op::Paired;
    use crate::op::differences::site;
    use crate::op::gaussian::cholesky;
    use crate::random::Stream;

    const DRAWS: usize = 1 << 14;

    /// Draws of a Gaussian coordinate with this Gram.
    fn gaussian(gram: &Gram, draws: usize, seed: u64) -> Gram {
        let mut z = Gram::zeros(gram.nrows(), draws);
        Stream::new(seed, &[]).fill_normal(z.as_mut_slice());
        cholesky(gram) * z
    }

    #[test]
    fn coordinates_that_are_not_gaussian_give_their_own_kernel() {
        // Close to a coin: phi of it is another, where a Gaussian of that second moment loses a third of its energy.
        let k = Gram::from_row_slice(2, 2, &[1.0, 0.4, 0.4, 1.0]);
        let coin = |draws, seed| gaussian(&k, draws, seed).map(|u| 4.0 * (3.0 * u).tanh());
        let (x, many) = (coin(DRAWS, 1), coin(16 * DRAWS, 2));
        let input = Moments { coordinates: Some(Arc::new(x)), ..Moments::gaussian(mean_products(&many, &many), 128) };
        let op = Elementwise::dyt();
        let found = respond(&op, &site(128), &input).unwrap().output.gram;
        let values = many.map(|x| op.squash.value(ALPHA * x));
        // Products of values below 1: six standard errors.
        let margin = 6.0 / (DRAWS as f64).sqrt();
        assert!((&found - mean_products(&values, &values)).amax() < margin, "{found}");
        let plain = respond(&op, &site(128), &Moments { coordinates: None, ..input }).unwrap().output.gram;
        assert!((&found - plain).amax() > 3.0 * margin);
    }

    #[test]
    fn a_cotangent_that_went_through_the_same_slope_before_meets_it_again() {
        let op = Elementwise::dyt();
        let q = 16.0_f64;
        let slope = |x: f64| ALPHA * op.squash.slope(ALPHA * x);
        let power = |n| expectation(|z| slope(q.sqrt() * z).powi(n));
        let k = Gram::from_element(1, 1, q);
        let value = gaussian(&k, DRAWS, 3);
        let fresh = gaussian(&Gram::identity(1, 1), DRAWS, 4);
        let paired = Paired { cotangent: Arc::new(fresh.zip_map(&value, |g, x| g * slope(x))), value: Arc::new(value) };
        let pull = respond(&op, &site(128), &Moments::gaussian(k, 128)).unwrap().pull;
        let cotangent = Cotangent::fresh(Gram::from_element(1, 1, power(2)));
        let behind = |paired| pull.pull(&Cotangent { paired, ..cotangent.clone() }).cotangent.gram[(0, 0)];
        // E[g^2 phi'^4] of g independent; six standard errors of the draws' mean.
        let deviation = (3.0 * power(8) / power(4).powi(2)).sqrt() / (DRAWS as f64).sqrt();
        assert!((behind(Some(paired)) / power(4) - 1.0).abs() < 6.0 * deviation);
        assert!(behind(None) < power(4) * (1.0 - 12.0 * deviation));
    }
}
