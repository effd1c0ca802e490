//! The sampling rule of this op: realised rows forward, cotangents back.

use crate::error::Result;
use crate::op::columns::{product, square};
use crate::op::radial::{Gain, Radial, Scale};
use crate::op::{DrawPull, Drawn, Initial, Matrices, Response, Rows, Site};

/// `factor * xhat + bias`, `xhat = (x - centre) / scale`, exact; `factor` is 1, gain or 1 + gain as the op has it.
pub fn draw(op: &Radial, at: &Site, input: &Rows) -> Result<Drawn> {
    let gain = initial(op, at, "gain");
    let factor = match op.gain {
        Gain::None => 1.0,
        Gain::PerCoordinate | Gain::Single => gain,
        Gain::OnePlus => 1.0 + gain,
    };
    let eps = at.eps(op.eps);
    let mut normalized = input.clone();
    let inverse = normalized.column_iter_mut().map(|mut x| op.normalize(x.as_mut_slice(), eps)).collect();
    let mut output = &normalized * factor;
    if op.bias {
        output.add_scalar_mut(initial(op, at, "bias"));
    }
    Ok(Drawn { output, pull: Box::new(Back { op: op.clone(), normalized, inverse, factor }) })
}

/// The value that every entry of a parameter has at initialization; 0 where there is no such parameter.
fn initial(op: &Radial, at: &Site, name: &str) -> f64 {
    let parameters = op.parameters(at);
    let value = parameters.iter().find(|p| p.name == name).map(|p| p.initial);
    if let Some(Initial::Constant(value)) = value { value } else { 0.0 }
}

/// Coordinates summed at once, few enough for the registers.
const STRIP: usize = 16;

/// 1/scale of one token, and whether the scale follows the vector or stands at its floor.
#[derive(Clone, Copy, Debug)]
struct Inverse {
    scale: f64,
    follows: bool,
}

impl Radial {
    /// Centres and divides one token's vector in place.
    fn normalize(&self, x: &mut [f64], eps: f64) -> Inverse {
        if self.centred {
            centre(x);
        }
        let length = square(x);
        let inverse = match self.scale {
            Scale::Rms => Inverse { scale: 1.0 / (length / x.len() as f64 + eps).sqrt(), follows: true },
            Scale::Length => Inverse { scale: 1.0 / length.sqrt().max(eps), follows: length.sqrt() > eps },
        };
        x.iter_mut().for_each(|x| *x *= inverse.scale);
        inverse
    }
}

fn centre(x: &mut [f64]) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter_mut().for_each(|x| *x -= mean);
}

struct Back {
    op: Radial,
    /// xhat, `(width, tokens)`.
    normalized: Rows,
    /// By token.
    inverse: Vec<Inverse>,
    factor: f64,
}

impl DrawPull for Back {
    /// With r = 1/scale: `dx = r (factor c - xhat <factor c, xhat> / n)`, n the width for [`Scale::Rms`] and 1 for
    /// [`Scale::Length`], then centred as the forward pass was; `dgain = sum over tokens of c . xhat`, `dbias = sum of c`.
    fn pull(self: Box<Self>, mut cotangent: Rows, _: &mut dyn Matrices) -> Result<(Rows, Vec<f64>)> {
        let parameters = self.parameters(&cotangent);
        let share = match self.op.scale {
            Scale::Rms => 1.0 / cotangent.nrows() as f64,
            Scale::Length => 1.0,
        };
        let width = cotangent.nrows().max(1);
        let tokens =
            cotangent.as_mut_slice().chunks_exact_mut(width).zip(self.normalized.as_slice().chunks_exact(width));
        for ((c, xhat), inverse) in tokens.zip(&self.inverse) {
            let by = self.factor * inverse.scale;
            let radial = if inverse.follows { product(c, xhat) * share } else { 0.0 };
            c.iter_mut().zip(xhat).for_each(|(c, x)| *c = by * (*c - radial * x));
            if self.op.centred {
                centre(c);
            }
        }
        Ok((cotangent, parameters))
    }
}

impl Back {
    /// Squared gradients of gain and bias, as far as the op has them.
    fn parameters(&self, cotangent: &Rows) -> Vec<f64> {
        let mut all = Vec::new();
        match self.op.gain {
            Gain::None => {}
            Gain::PerCoordinate | Gain::OnePlus => all.push(token_sum(cotangent, Some(&self.normalized))),
            Gain::Single => all.push(cotangent.dot(&self.normalized).powi(2)),
        }
        if self.op.bias {
            all.push(token_sum(cotangent, None));
        }
        all
    }
}

/// `|sum over tokens of c . v|^2`, coordinate by coordinate; v is 1 where absent.
fn token_sum(cotangent: &Rows, value: Option<&Rows>) -> f64 {
    let width = cotangent.nrows();
    let mut total = 0.0;
    for from in (0..width).step_by(STRIP) {
        let strip = from..width.min(from + STRIP);
        let mut sum = [0.0; STRIP];
        for a in 0..cotangent.ncols() {
            let here = a * width + strip.start..a * width + strip.end;
            let c = &cotangent.as_slice()[here.clone()];
            match value {
                Some(value) => {
                    let v = &value.as_slice()[here];
                    sum.iter_mut().zip(c.iter().zip(v)).for_each(|(s, (c, v))| *s += c * v);
                }
                None => sum.iter_mut().zip(c).for_each(|(s, c)| *s += c),
            }
        }
        total += sum.iter().map(|s| s * s).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::differences::{check_draw, normal, site};

    fn all() -> [Radial; 5] {
        [Radial::layer_norm(), Radial::rms_norm(), Radial::gemma_norm(), Radial::scale_norm(), Radial::l2_norm()]
    }

    #[test]
    fn every_way_back_is_the_gradient_by_central_differences() {
        for op in all() {
            let (x, c) = (normal(7, 3, 1), normal(7, 3, 2));
            let gradients = check_draw(|x| draw(&op, &site(7), x).unwrap(), &x, &c);
            assert_eq!(gradients.len(), op.parameters(&site(7)).len(), "{}", op.name);
        }
    }

    #[test]
    fn a_vector_shorter_than_the_floor_is_divided_by_the_floor() {
        let op = Radial { eps: 10.0, ..Radial::l2_norm() };
        let (x, c) = (normal(7, 3, 1), normal(7, 3, 2));
        check_draw(|x| draw(&op, &site(7), x).unwrap(), &x, &c);
        assert_eq!(draw(&op, &site(7), &x).unwrap().output, x * (1.0 / 10.0));
    }

    #[test]
    fn gain_and_bias_gradients_are_those_of_the_affine_map() {
        let (x, c) = (normal(7, 3, 1), normal(7, 3, 2));
        let output = draw(&Radial::layer_norm(), &site(7), &x).unwrap().output;
        let by_gain = output.component_mul(&c).column_sum().norm_squared();
        let by_bias = c.column_sum().norm_squared();
        let found = check_draw(|x| draw(&Radial::layer_norm(), &site(7), x).unwrap(), &x, &c);
        let bound = 2.0 * c.len() as f64 * f64::EPSILON * (by_gain + by_bias);
        assert!((found[0] - by_gain).abs() <= bound && (found[1] - by_bias).abs() <= bound, "{found:?}");
    }
}
