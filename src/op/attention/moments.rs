//! The prediction rule of this op: moments forward, cotangent Grams back.
//!
//! For one head with weights A, realised input Gram X, realised Grams V of its values, Q of its queries, P of its keys
//! (each behind its inner norm), per coordinate, and G_z the cotangent Gram of the heads' joint output:
//!
//! ```text
//! z   = A V A^T           r = A V        p = A P        y = A P A^T
//! G_v = A^T G_z A
//! G_q = G_z . [ A (V.P) A^T - (r.p) A^T - A (r.p)^T + z.y ]
//! H   = G_z . Q           M = A^T (r . (H A))
//! G_k = V . (A^T H A) - M - M^T + A^T (H.z) A
//! G_in = gv^2 G_v + gq^2 G_q + gk^2 G_k                       ( . entry by entry )
//! E|dW_V|^2 = d sum X.G_v,   W_Q, W_K alike,   E|dW_O|^2 = d sum z.G
//! ```
//!
//! each the mean over an ensemble of realised heads. Derivation (own): the cotangent of z is Gaussian and independent of the
//! values, so E[dA_ab dA_cd] = G_z[a,c] V[b,d]/h; the softmax takes off its mean under A, dS_ab = A_ab (dA_ab - sum_e A_ae
//! dA_ae)/sqrt(d_k); dq_a = sum_b dS_ab k_b, dk_b = sum_a dS_ab q_a.
//!
//! A cotangent whose radial share u at the output is not 1 lacks the direction of z. As dS takes off what is along z within a head,
//! this shows in q and k: V[b,d] of E[dA_ab dA_cd] loses (1 - u)/h (r_ab - z_aa)(r_cd - z_cc) z_ac/(z_aa z_cc), exact for a = c
//! and near token collapse.
//!
//! A cotangent from a norm recoils from the output's second moment, and that moves with z: each member meets its own G_z, and
//! W_O's gradient another Gram than E z (`lengths.rs`).
//!
//! The output's realised second moment varies by 2/d (W_O), 2/d (W_V), and by what A X A^T varies: between Grams fully,
//! between heads by their mean over h. Its freedom is that of the Wishart matrix whose centred part has the same mean square:
//! E|W_c|^2 = |K_c|^2 + (|K_c|^2 + (tr K_c)^2)/nu.

mod draw;
mod ensemble;
mod inner;
mod lengths;
mod octet;
mod sums;
mod values;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::op::attention::InnerNorms;
use crate::op::gaussian::correlation;
use crate::op::{Cotangent, Expected, Gram, Moments, Paired, Pull, Pulled, Responded, Site};
pub use ensemble::members;
use ensemble::{Ensemble, Gains};
use octet::{Eight, Octet, eight, total};
use sums::Sums;
use values::{Finished, Values};

/// Standard deviation of the scores from which a softmax counts as saturated where no norm holds its input.
const SATURATED: f64 = 32.0;

/// The freedom of the input's Gram below which a Wishart matrix is no model of its distance from token collapse.
const COLLAPSING: f64 = 12.0;
const COLLAPSES: &str =
    "tokens collapse: how far they are apart varies too much between draws for the gradient through the scores";

pub fn respond(at: &Site, input: &Moments) -> Result<Responded> {
    let norms = InnerNorms::of(at);
    let d = at.shape.width as f64;
    let [q, k, v, o] = ["w_q", "w_k", "w_v", "w_o"].map(|w| at.factor(w).powi(2));
    let gains = Gains { q, k, v, o: if at.setting.output_projection { o } else { 1.0 } };
    refuse_saturation(at, input, gains, norms.q.is_some())?;
    let out_norm = norms.out.clone();
    let inner = [&norms.q, &norms.k, &norms.v].map(|n| n.as_ref().map_or(0, |(op, site)| op.parameters(site).len()));
    let plain_values = norms.v.is_none();
    let ensemble = Ensemble::new(at, input, gains, norms)?;
    let mut values = Values::new(input.gram.nrows(), at.shape.heads);
    ensemble.each(|pair| values.see(&pair))?;
    // What W_V adds to what the members show: those with a norm of their own are drawn with it.
    let of_values = if plain_values { 1.0 / d } else { 0.0 };
    let Finished { z, spread, freedom, centred_elasticity, mut lengths, held, mixed } =
        values.finish(1.0 / of_values, ensemble.members);
    let z = match ensemble.fixed().filter(|_| plain_values) {
        Some(a) => &a * &input.gram * a.transpose() * gains.v,
        None => z,
    };
    let mean_squares = z.diagonal().iter().copied().collect();
    if at.setting.output_projection && out_norm.is_none() {
        // W_V's Gaussian coordinates shrink cosines once and W_O's again; the next norm knows of the last alone.
        let cosine = correlation(&z);
        lengths.cosine -= cosine.map(|r| of_values * r * (1.0 - r * r) / 2.0);
    }
    let lengths = Some(lengths);
    let heads = Moments { spread: 2.0 * of_values + spread, freedom, lengths, ..Moments::gaussian(z, at.shape.width) };
    let norm = out_norm.map(|(op, site)| op.respond(&site, &heads)).transpose()?;
    // What moves W_O's input beside the values of the members.
    let (behind, held, steady, out_norm) = match norm {
        Some(norm) => (norm.output.clone(), norm.output.gram, norm.output.spread, Some(norm.pull)),
        None => (heads, held, 2.0 * of_values, None),
    };
    let projected = at.setting.output_projection;
    let fresh = if projected { 2.0 / d } else { 0.0 };
    let output = Moments {
        gram: &behind.gram * gains.o,
        spread: behind.spread + fresh,
        freedom: if projected { 1.0 / (1.0 / d + 1.0 / behind.freedom) } else { behind.freedom },
        constant: if projected { 1.0 } else { behind.constant },
        mean: None,
        coordinates: None,
        lengths: behind.lengths,
    };
    let scored = !at.setting.uniform_attention;
    let pull = Back {
        width: d,
        gains,
        input: input.gram.clone(),
        ensemble,
        inner,
        steady,
        z: behind.gram,
        held,
        mixed,
        mean_squares,
        out_norm,
        scored,
        projected,
    };
    Ok(Responded { output, linear: None, elasticity: 1.0, centred_elasticity, pull: Box::new(pull) })
}

/// Scores are N(0, gq^2 gk^2 K_aa K_bb): where nothing holds K, its fluctuation grows with depth as the scores do.
fn refuse_saturation(at: &Site, input: &Moments, gains: Gains, held: bool) -> Result<()> {
    let t = input.gram.nrows() as f64;
    let deviation = (gains.q * gains.k).sqrt() * input.gram.trace() / t;
    if held || at.setting.uniform_attention || t < 2.0 || input.spread == 0.0 || deviation <= SATURATED {
        return Ok(());
    }
    Err(Error::Refused {
        subject: format!("attn at {}", at.path()),
        reason: format!(
            "the softmax is saturated: its scores have standard deviation {deviation:.3e}, and no norm holds them"
        ),
        help: "normalize the input of attn, or its q and k".into(),
    })
}

struct Back {
    width: f64,
    gains: Gains,
    input: Gram,
    ensemble: Ensemble,
    /// How many parameters the norms of q, k, v have.
    inner: [usize; 3],
    /// The Gram that enters W_O, the same behind a norm that its lengths recoil from, and the relative variance
    /// of its second moments beside what the members show.
    z: Gram,
    held: Gram,
    steady: f64,
    /// E 1/sqrt(m_a m_b).
    mixed: Gram,
    /// The diagonal of E z, before its norm.
    mean_squares: Vec<f64>,
    out_norm: Option<Box<dyn Pull>>,
    /// Whether there are W_Q and W_K.
    scored: bool,
    projected: bool,
}

impl Pull for Back {
    fn pull(&self, cotangent: &Cotangent) -> Pulled {
        let g = &cotangent.gram;
        let constant = if self.projected { 1.0 } else { cotangent.constant };
        // What is missing of the cotangent along a value is missing behind its matrix, the rest of which is independent of it.
        let lost = |radial: f64| (1.0 - (1.0 - radial) / self.width).max(0.0);
        let passed = if self.projected { self.gains.o * lost(cotangent.radial) } else { 1.0 };
        let paired = if self.projected { None } else { cotangent.paired.as_ref().map(|paired| self.inside(paired)) };
        let behind = Cotangent { gram: g * passed, constant, paired, ..cotangent.clone() };
        let (Cotangent { gram: g_z, recoil, radial, .. }, out_gains) = match &self.out_norm {
            Some(norm) => {
                let pulled = norm.pull(&behind);
                (pulled.cotangent, pulled.parameters)
            }
            None => (behind, Vec::new()),
        };
        let missing = (1.0 - radial) / self.ensemble.heads as f64;
        let t = g.nrows();
        let mut sums = Sums::new(t, self.inner);
        let scores = (self.scored && t > 1).then_some(&self.mean_squares);
        let g_z = Octet::splat(&g_z);
        // The same members as forward; none of them fails, as none did then.
        let drawn = self.ensemble.each(|pair| {
            if recoil == 0.0 {
                return pair.iter().for_each(|heads| sums.see(heads, &g_z, [radial, missing], scores));
            }
            let squares = pair.each_ref().map(|heads| (&heads.a * &heads.v).row_products(&heads.a));
            for (i, heads) in pair.iter().enumerate() {
                let g_z = self.recoiled(&g_z, recoil, &squares[i], &squares[1 - i]);
                sums.see(heads, &g_z, [radial, missing], scores);
            }
        });
        debug_assert!(drawn.is_ok());
        let n = self.ensemble.members as f64;
        // <v, g_v> = <z, g_z>, and nothing is along q, k or v behind a norm of theirs that undoes their scale.
        let Gains { q, k, v, .. } = self.gains;
        let parts = [(v, &sums.v), (q, &sums.q), (k, &sums.k)];
        let mut gram = Gram::zeros(t, t);
        let (mut along, mut whole, mut coupled) = (0.0, 0.0, 0.0);
        for (gain, part) in parts {
            let part_gram = part.gram.total();
            let energy = part_gram.trace();
            let share = if energy > 0.0 { total(&part.along) / energy } else { 1.0 };
            (along, whole) = (along + gain * share * energy, whole + gain * energy);
            coupled += gain * lost(share) * total(&part.weight) / n;
            gram += part_gram * (gain * lost(share) / n);
        }
        let radial = if whole > 0.0 { along / whole } else { radial };
        let apart = self.input.dot(&gram);
        let coupling = if apart > 0.0 { coupled / apart } else { 1.0 };
        let weight = |part: Eight| self.width * total(&part) / n;
        let mut parameters = Vec::new();
        if self.scored {
            parameters.extend([self.scores(weight(sums.q.weight)), self.scores(weight(sums.k.weight))]);
        }
        parameters.push(Ok(weight(sums.v.weight)));
        let seen = &self.z * (1.0 - cotangent.recoil) + &self.held * cotangent.recoil;
        let w_o = self.width * seen.dot(g) * (1.0 - cotangent.recoil * self.steady).max(0.0);
        parameters.extend(self.projected.then_some(Ok(w_o)));
        let mean = |p: &Expected| p.map(|p| p / n);
        let of_scores = |p: &Expected| mean(p).and_then(|p| self.scores(p));
        parameters.extend(sums.q.inner.iter().chain(&sums.k.inner).map(of_scores));
        parameters.extend(sums.v.inner.iter().map(mean).chain(out_gains));
        Pulled { cotangent: Cotangent { radial, recoil, coupling, ..Cotangent::fresh(gram) }, linear: None, parameters }
    }
}

impl Back {
    /// A gradient that is quadratic in the centred token Gram, if that is a Wishart matrix still.
    fn scores(&self, gradient: f64) -> Expected {
        if gradient != 0.0 && self.ensemble.freedom < COLLAPSING { Err(COLLAPSES) } else { Ok(gradient) }
    }

    /// Draws that stand for z, the argument of the output's norm, by those of the output.
    fn inside(&self, paired: &Paired) -> Paired {
        let mut z = paired.value.as_ref().clone();
        for (mut row, mean) in z.row_iter_mut().zip(&self.mean_squares) {
            let square = row.norm_squared() / row.len() as f64;
            row.scale_mut(if square > 0.0 { (mean / square).sqrt() } else { 0.0 });
        }
        Paired { value: Arc::new(z), ..paired.clone() }
    }

    /// G_z as each member meets it.
    fn recoiled(&self, g_z: &Octet, recoil: f64, own: &[Eight], other: &[Eight]) -> Octet {
        let mixed = lengths::mixed(own, other, self.ensemble.heads as f64);
        Octet::from_fn(g_z.rows(), g_z.columns(), |a, b| {
            let (mean, shorter) = (self.mixed[(a, b)], &mixed[(a, b)]);
            let factor = |l: usize| if mean > 0.0 { 1.0 + recoil * (shorter[l] / mean - 1.0) } else { 1.0 };
            eight(|l| g_z[(a, b)][l] * factor(l))
        })
    }
}
