//! The prediction rule of this op: moments forward, cotangent Grams back.
//!
//! With s_a the scale of token a, the output's Gram is `g^2 K[a, b]/(s_a s_b)` and a cotangent's is the same with its
//! own Gram. Two terms of relative size 1/d are kept (own, derived here):
//!
//! * The scale is realised, not expected. E[1/q^] = (1/q)(1 + f) with f the relative variance of q^, the second order
//!   of 1/q^ about q.
//! * The vjp removes the radial part, `g -> g - v^ <v^, g>`. Of an isotropic cotangent that is 1/d of the energy; of one
//!   whose radial share is u it is u/d, and the share behind the norm is 0. With eps the part removed is p = q/(q + eps).
//!
//! Between tokens of cosine r both are weaker: E[1/(s_a s_b)] has 3/4 f + r^2/4 f, and two projectors take off (2 - r^2) u/d.
//!
//! A normalizer that subtracts the mean does the same with the constant direction: the variance it divides by is
//! `q (1 - c/d)`, c the value's share along it, and the vjp removes c_g/d of the cotangent. On the first norm of a path
//! both shares are 1 and cancel; later ones are 0.
//!
//! The output's mean cosine between Gaussian tokens is below the cosine of the means by (1 - r^2)/(2d), relative
//! (Hotelling 1953, J. R. Stat. Soc. B 15, Eq. 21, leading order). What lengths do beyond that, as behind one head of attention, comes
//! with the input ([`crate::op::Lengths`]).

use crate::error::{Error, Result};
use crate::op::gaussian::{correlation, symmetric, total};
use crate::op::radial::Radial;
use crate::op::{CANCELS, Cotangent, Gain, Gram, Moments, Pull, Pulled, Responded, Scale, Site};

pub fn respond(op: &Radial, at: &Site, input: &Moments) -> Result<Responded> {
    let n = input.gram.nrows();
    let d = at.width as f64;
    let centred = match (op.centred, &input.mean) {
        (true, Some(mean)) => symmetric(n, |a, b| input.gram[(a, b)] - mean[a] * mean[b]),
        _ => input.gram.clone(),
    };
    let constant = if op.centred && input.mean.is_none() { (input.constant / d).min(0.5) } else { 0.0 };
    let eps = at.eps(op.eps);
    // Per token: (factor on the value, share of the scale that is the value's own).
    let scale = |q: f64| -> (f64, f64) {
        let q = q * (1.0 - constant);
        match op.scale {
            Scale::Rms => (1.0 / (q + eps).sqrt(), q / (q + eps)),
            Scale::Length if (d * q).sqrt() > eps => (1.0 / (d * q).sqrt(), 1.0),
            Scale::Length => (1.0 / eps, 0.0),
        }
    };
    let gain = if op.gain == Gain::Single { d.sqrt() } else { 1.0 };
    let (linear, own): (Vec<f64>, Vec<f64>) = centred.diagonal().iter().map(|&q| scale(q)).unzip();
    let linear: Vec<f64> = linear.iter().map(|l| gain * l).collect();
    if linear.iter().any(|l| !l.is_finite()) {
        return Err(Error::Refused {
            subject: format!("{} at {}", op.name, at.path()),
            reason: "its input is predicted zero and there is no eps".into(),
            help: "set eps, or a coefficient that is not zero".into(),
        });
    }
    let own = own.iter().sum::<f64>() / n as f64;
    let cosine = correlation(&centred);
    let fresh = (input.spread * d / 2.0).min(1.0) * own;
    let shrink = |r: f64| 1.0 - fresh * (1.0 - r * r) / (2.0 * d);
    let lift = |a: usize, b: usize| match &input.lengths {
        Some(lengths) => own * lengths.cosine[(a, b)] * (centred[(a, a)] * centred[(b, b)]).sqrt(),
        None => 0.0,
    };
    let inverse_freedom = input.lengths.as_ref().map_or(0.0, |lengths| own * lengths.inverse_freedom);
    let gram = symmetric(n, |a, b| {
        let realised = if a == b { centred[(a, a)] } else { centred[(a, b)] * shrink(cosine[(a, b)]) + lift(a, b) };
        linear[a] * linear[b] * realised * (1.0 - constant)
    });
    let mean = match (&input.mean, op.centred) {
        (Some(mean), false) => Some(mean.iter().zip(&linear).map(|(m, l)| m * l).collect()),
        _ => None,
    };
    let output = Moments {
        gram,
        spread: input.spread * (1.0 - own).powi(2),
        freedom: 1.0 / (1.0 / input.freedom + inverse_freedom).max(f64::MIN_POSITIVE),
        constant: if op.centred { 0.0 } else { input.constant },
        mean,
        coordinates: None,
        lengths: None,
    };
    let pull = Divide {
        op: op.clone(),
        width: d,
        normalized: output.gram.map(|k| k / gain.powi(2)),
        cosine,
        inverse: linear.clone(),
        spread: input.spread * own * own,
        beyond: input.lengths.as_ref().map(|lengths| &lengths.inverse * (own * own)),
        own,
    };
    Ok(Responded { output, linear: Some(linear), elasticity: 1.0 - own, centred_elasticity: 1.0, pull: Box::new(pull) })
}

/// The radial share below which what is left of a single gain's gradient is rounding.
const CANCELLED: f64 = 1e-6;

struct Divide {
    op: Radial,
    width: f64,
    /// The output's Gram without the gain.
    normalized: Gram,
    /// The input's cosines.
    cosine: Gram,
    /// gain / s.
    inverse: Vec<f64>,
    /// Relative variance of s^2.
    spread: f64,
    /// Of 1/(s_a s_b), beyond the second order.
    beyond: Option<Gram>,
    /// q / (q + eps).
    own: f64,
}

impl Pull for Divide {
    fn pull(&self, cotangent: &Cotangent) -> Pulled {
        let g = &cotangent.gram;
        let kept = (1.0 - self.own).powi(2);
        let radial = cotangent.radial.min(self.width) / self.width;
        let constant = if self.op.centred { cotangent.constant.min(self.width) / self.width } else { 0.0 };
        let factor = (1.0 - radial * (1.0 - kept)) * (1.0 - constant);
        let realised = |a: usize, b: usize| {
            let r2 = self.cosine[(a, b)].powi(2);
            let lost = radial * (1.0 - kept) * (2.0 - r2);
            let beyond = self.beyond.as_ref().map_or(0.0, |beyond| beyond[(a, b)]);
            self.inverse[a]
                * self.inverse[b]
                * (1.0 + self.spread * (3.0 + r2) / 4.0 + beyond)
                * (1.0 - lost).max(0.0)
                * (1.0 - constant)
        };
        // E[1/s] and the projector itself, where realised has their squares.
        let once = (1.0 + 3.0 * self.spread / 8.0) * (1.0 - radial * self.own) * (1.0 - constant);
        let linear: Vec<f64> = self.inverse.iter().map(|i| i * once.max(0.0)).collect();
        let along = g.dot(&self.normalized);
        let together = cotangent.paired.as_ref().map_or(1.0, |paired| paired.together(|x| x));
        // A coordinate's g^2 x^2 is three times as large where g goes along x: E x^4 = 3.
        let coordinates = 1.0 + 2.0 * (cotangent.radial.min(self.width) - 1.0) / self.width;
        let gain = match self.op.gain {
            Gain::None => None,
            Gain::PerCoordinate | Gain::OnePlus => Some(Ok(along * together * cotangent.coupling * coordinates)),
            // The cosine's Gram is the normalized one in units of its length.
            Gain::Single if cotangent.radial < CANCELLED => Some(Err(CANCELS)),
            Gain::Single => Some(Ok(along * cotangent.radial)),
        };
        let bias = self.op.bias.then(|| total(g));
        Pulled {
            cotangent: Cotangent {
                radial: if factor > 0.0 { cotangent.radial * kept / factor } else { 0.0 },
                constant: if self.op.centred { 0.0 } else { cotangent.constant },
                recoil: self.own + (1.0 - self.own) * cotangent.recoil,
                ..Cotangent::fresh(symmetric(g.nrows(), |a, b| realised(a, b) * g[(a, b)]))
            },
            linear: Some(linear),
            parameters: gain.into_iter().chain(bias).collect(),
        }
    }
}
