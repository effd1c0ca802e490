//! The prediction rule of this op: moments forward, cotangent Grams back.
//!
//! With gains g1, g2 on the standard deviations, pre-activations are Gaussian of Gram g1^2 K, and
//!
//! ```text
//! K_out = g2^2 k1          G_h = g2^2 k0 . G        G_in = g1^2 G_h           ( . entry by entry )
//! E|dW2|^2 = n_h sum_ab k1.G            E|dW1|^2 = d sum_ab K.G_h
//! ```
//!
//! with k1 = E[phi phi], k0 = E[phi' phi'] (Cho & Saul 2009; backward as in Jacot et al. 2018, arXiv:1806.07572,
//! theorem 1). Gated: k1 is multiplied by the linear branch's Gram g3^2 K, G_u = E[phi phi] . G_a is that branch's
//! cotangent. An inner norm maps k1 and G_a by its own rule at width n_h.
//!
//! Own, derived here: the output's realised second moment varies by 2/d (Gaussian given the hidden layer) plus the
//! hidden layer's own (kurtosis/n_h + elasticity^2 f). The distance from token collapse varies with the hidden units (`freedom.rs`).
//! A cotangent from a norm recoils from the output's second moment, with which the hidden layer's moves: W_2's gradient, their
//! product, is smaller by their covariance, and so is what passes the slopes. What it lacks along the hidden layer a, a share
//! 1 - u of a_i^2/|a|^2 at unit i, it lacks most where the slopes s_i are steep: sum s_i a_i^2 is more than sum s_i |a|^2/n_h
//! by that covariance again.

mod activation;
mod freedom;

use crate::error::Result;
use crate::op::ffn::hidden_norm;
use crate::op::gaussian::{roots, symmetric};
use crate::op::{Cotangent, Gram, Moments, Pull, Pulled, Responded, Site};
use crate::spec::Activation;
use activation::{kernels, value};
use freedom::{Hidden, freedom};

pub fn respond(at: &Site, input: &Moments) -> Result<Responded> {
    let (d, n_h) = (at.shape.width as f64, at.shape.ffn_width as f64);
    let activation = at.setting.activation;
    let gated = activation == Activation::Swiglu;
    let [g1, g2, g3] = ["w_1", "w_2", "w_3"].map(|w| at.factor(w).powi(2));
    let k = kernels(activation, &(&input.gram * g1), input.freedom);
    // A gate's other factor has the same realised correlation r^, of which its Gram is one more power.
    let roots = roots(&input.gram);
    let scaled = |kernel: &Gram, c: f64| symmetric(roots.len(), |a, b| c * roots[a] * roots[b] * kernel[(a, b)]);
    let through = |kernels: &[Gram]| if gated { scaled(&kernels[1], g3) } else { kernels[0].clone() };
    let (kurtosis, elasticity, mean) = match gated {
        // The square of a product of independent factors, the second Gaussian: E u^4 = 3.
        true => (3.0 * (k.kurtosis + 1.0) - 1.0, k.elasticity + 1.0, vec![0.0; k.mean.len()]),
        false => (k.kurtosis, k.elasticity, k.mean.clone()),
    };
    // The same factors of u on both sides where there is a gate.
    let toward_h = if gated { 3.0 * (k.slope_covariance + 1.0) - 1.0 } else { k.slope_covariance };
    let covariances = [toward_h / n_h, k.kurtosis / n_h];
    let (stretched, cosine2) = if gated { k.gated_scaling } else { k.scaling };
    let hidden = Moments {
        // E q^p for a fluctuating q, to second order.
        gram: through(&k.value) * (1.0 + 0.5 * elasticity * (elasticity - 1.0) * input.spread),
        spread: kurtosis / n_h + elasticity.powi(2) * input.spread,
        freedom: n_h,
        constant: 1.0,
        mean: Some(mean),
        coordinates: None,
        lengths: None,
    };
    let hidden_elasticity = elasticity;
    let norm = hidden_norm(at).map(|(op, site)| op.respond(&site, &hidden)).transpose()?;
    let held = norm.as_ref().map_or(1.0, |norm| norm.elasticity);
    let (output, pull_hidden) = match norm {
        Some(norm) => (norm.output, Some(norm.pull)),
        None => (hidden.clone(), None),
    };
    let elasticity = elasticity * held;
    let gram = &output.gram * g2;
    // d K/d K_in: of a product with the gate's Gram both factors move.
    let slope = through(&k.slope) * g1 + if gated { &k.value[0] * g3 } else { Gram::zeros(roots.len(), roots.len()) };
    let units = Hidden {
        before: &input.gram * g1,
        gate: gated.then(|| &input.gram * g3),
        value: &|x| value(activation, x),
        gram: &hidden.gram,
        slope: &slope,
        centred: pull_hidden.is_some() && output.mean.is_none(),
        scaled: held < 0.5,
    };
    let (freedom, centred_elasticity) = freedom(at, input, &units, &gram);
    let pull = Back {
        width: d,
        hidden_width: n_h,
        gains: [g1, g2, g3],
        input: input.gram.clone(),
        elasticity: hidden_elasticity,
        stretched,
        cosine2,
        covariances,
        spread: output.spread,
        second: output.gram,
        first: scaled(&through(&k.slope[1..]), 1.0),
        slope: through(&k.slope),
        gate: gated.then(|| (k.value[0].clone(), scaled(&k.value[1], 1.0))),
        input_spread: input.spread,
        norm: pull_hidden,
    };
    let output = Moments { spread: 2.0 / d + output.spread, freedom, ..Moments::gaussian(gram, at.shape.width) };
    Ok(Responded { output, linear: None, elasticity, centred_elasticity, pull: Box::new(pull) })
}

struct Back {
    width: f64,
    hidden_width: f64,
    /// Squared gains of W_1, W_2, W_3.
    gains: [f64; 3],
    input: Gram,
    /// Relative variance of the input's second moment.
    input_spread: f64,
    /// d ln E a^2/d ln q of the hidden layer.
    elasticity: f64,
    /// E s^2/(q E phi'^2), s how the hidden layer moves as h is scaled: the radial share of an isotropic cotangent behind it;
    /// and the squared cosine between s and the hidden layer.
    stretched: f64,
    cosine2: f64,
    /// Covariances of the hidden layer's second moment with the squared slopes toward h, and toward u.
    covariances: [f64; 2],
    /// Relative variance of the second moment that enters W_2.
    spread: f64,
    /// The Gram that enters W_2.
    second: Gram,
    /// E[K . k0], what the first matrix's gradient sees.
    first: Gram,
    slope: Gram,
    /// E[phi phi] of the gate, and E[K . phi phi], what W_3's gradient sees.
    gate: Option<(Gram, Gram)>,
    norm: Option<Box<dyn Pull>>,
}

impl Pull for Back {
    fn pull(&self, cotangent: &Cotangent) -> Pulled {
        let [g1, g2, g3] = self.gains;
        let g = &cotangent.gram;
        let w_2 = self.hidden_width * self.second.dot(g) * (1.0 - cotangent.recoil * self.spread).max(0.0);
        // <a, g_a> = <y, g>: the share along the value passes through W_2, and what is missing of it is missing behind the
        // matrix, as the rest of W is independent of y.
        let lost = |radial: f64, width: f64| (1.0 - (1.0 - radial) / width).max(0.0);
        let passed = g2 * lost(cotangent.radial, self.hidden_width);
        let behind = Cotangent { gram: g * passed, constant: 1.0, paired: None, ..cotangent.clone() };
        let (Cotangent { gram: g_a, radial, recoil, .. }, inner) = match &self.norm {
            Some(norm) => {
                let pulled = norm.pull(&behind);
                (pulled.cotangent, pulled.parameters)
            }
            None => (behind, Vec::new()),
        };
        let [to_h, to_u] = self.covariances.map(|c| (1.0 - (recoil + 1.0 - radial) * c).max(0.0));
        let g_h = g_a.component_mul(&self.slope) * to_h;
        // As q rises the slopes rise by its power elasticity - 1, and what recoils from the output falls by elasticity.
        let recoil = self.elasticity * recoil - (self.elasticity - 1.0);
        let together = (1.0 - recoil * self.input_spread).max(0.0);
        let w_1 = self.width * self.first.dot(&g_a) * to_h * together;
        let mut coupled = g1 * to_h * self.first.dot(&g_a);
        let mut gram = g_h * g1;
        let mut parameters = vec![Ok(w_1), Ok(w_2)];
        if let Some((gate, third)) = &self.gate {
            parameters.push(Ok(self.width * third.dot(&g_a) * to_u * together));
            coupled += g3 * to_u * third.dot(&g_a);
            gram += g_a.component_mul(gate) * (to_u * g3);
        }
        // Scaling h moves a along s = h phi'(h), or with a gate along (h phi' + phi) u: only what of it is along a is missing.
        let radial = self.stretched * (1.0 - (1.0 - radial) * self.cosine2);
        let apart = self.input.dot(&gram);
        let coupling = if apart > 0.0 { coupled / apart } else { 1.0 };
        gram *= lost(radial, self.width);
        parameters.extend(inner);
        Pulled { cotangent: Cotangent { radial, recoil, coupling, ..Cotangent::fresh(gram) }, linear: None, parameters }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::op::differences::site;
    use crate::random::Stream;
    use crate::spec::Setting;

    #[test]
    fn tokens_that_happen_to_be_alike_have_cotangents_that_are() {
        let (at, t) = (site(32), 3);
        let (d, n) = (at.width, at.shape.ffn_width);
        let half = Gram::from_fn(t, t, |a, b| if a == b { 1.0 } else { 0.5 });
        let pull = respond(&at, &Moments::gaussian(Gram::identity(t, t), d)).unwrap().pull;
        let rule = pull.pull(&Cotangent::fresh(half.clone())).cotangent.coupling;
        // The same by hand, for ReLU.
        let draws = 32_000;
        let mut stream = Stream::new(5, &[]);
        let mut normal = |rows: usize, columns: usize, variance: f64| {
            Gram::from_vec(rows, columns, stream.normals(rows * columns)) * variance.sqrt()
        };
        let factor = crate::op::gaussian::cholesky(&half);
        let (mut mean, mut coupled) = (Gram::zeros(t, t), Vec::new());
        for _ in 0..draws {
            let (x, w_1) = (normal(t, d, 1.0), normal(d, n, 1.0 / d as f64));
            let (c, w_2) = (&factor * normal(t, d, 1.0), normal(n, d, 1.0 / n as f64));
            let slopes = (&x * &w_1).map(|h| f64::from(h > 0.0));
            let g = (c * w_2.transpose()).component_mul(&slopes) * w_1.transpose();
            let gram = &g * g.transpose();
            // A token's own length is independent of its cotangent's: only noise here.
            let alike = &x * x.transpose() / d as f64;
            coupled.push(alike.dot(&gram) - alike.diagonal().dot(&gram.diagonal()));
            mean += gram / draws as f64;
        }
        let shares: Vec<f64> = coupled.iter().map(|sum| sum / mean.trace()).collect();
        let found = shares.iter().sum::<f64>() / draws as f64;
        let variance = shares.iter().map(|share| (share - found).powi(2)).sum::<f64>() / draws as f64;
        // Six standard errors; the next order is smaller by a few tokens over d.
        let expected = rule - 1.0;
        let margin = 6.0 * (variance / draws as f64).sqrt() + expected * 2.0 * t as f64 / d as f64;
        assert!((found - expected).abs() < margin && expected > margin, "{found} {expected} {margin}");
    }

    #[test]
    fn a_cotangent_that_lacks_the_hidden_layers_direction_loses_most_where_slopes_are_steep() {
        let mut at = site(64);
        at.setting = Arc::new(Setting { activation: Activation::Swiglu, ..Setting::standard() });
        let n = at.shape.ffn_width;
        let pull = respond(&at, &Moments::gaussian(Gram::identity(1, 1), 64)).unwrap().pull;
        let w_1 = |radial| {
            let cotangent = Cotangent { radial, ..Cotangent::fresh(Gram::identity(1, 1)) };
            pull.pull(&cotangent).parameters[0].unwrap()
        };
        // The same by hand: of sum s_i g_i^2, g isotropic, what is lost with g's part along a.
        let draws = 20_000;
        let mut stream = Stream::new(7, &[]);
        let (mut whole, mut lost) = (0.0, Vec::new());
        for _ in 0..draws {
            let [h, u, g] = [0; 3].map(|_| stream.normals(n));
            let a: Vec<f64> = h.iter().zip(&u).map(|(h, u)| value(Activation::Swiglu, *h) * u).collect();
            let along = a.iter().zip(&g).map(|(a, g)| a * g).sum::<f64>() / a.iter().map(|a| a * a).sum::<f64>();
            let slope = |i: usize| (activation::derivative(Activation::Swiglu, h[i]) * u[i]).powi(2);
            let energy = |along: f64| (0..n).map(|i| slope(i) * (g[i] - along * a[i]).powi(2)).sum::<f64>();
            whole += energy(0.0) / draws as f64;
            lost.push(energy(0.0) - energy(along));
        }
        let mean = lost.iter().sum::<f64>() / draws as f64;
        let deviation = (lost.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws as f64).sqrt();
        let (found, expected) = (1.0 - w_1(0.0) / w_1(1.0), mean / whole);
        // Six standard errors; the rule stops at the first order in 1/n_h, the next is smaller by a few times what is lost.
        let margin = 6.0 * deviation / mean / (draws as f64).sqrt() + 4.0 * expected;
        assert!((found / expected - 1.0).abs() < margin, "{found} {expected} {margin}");
        assert!(1.0 / (n as f64) < expected * (1.0 - margin));
    }
}
