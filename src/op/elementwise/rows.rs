//! The sampling rule of this op: realised rows forward, cotangents back.

use crate::error::Result;
use crate::op::columns::square;
use crate::op::elementwise::Elementwise;
use crate::op::{DrawPull, Drawn, Initial, Matrices, Response, Rows, Site};

/// `gain * squash(alpha x + shift) + bias`, exact.
pub fn draw(op: &Elementwise, at: &Site, input: &Rows) -> Result<Drawn> {
    let back = Back { op: op.clone(), input: input.clone(), initial: Constants::of(op, at) };
    let Constants { gain, bias, .. } = back.initial;
    let output = input.map(|x| gain * op.squash.value(back.initial.inside(x)) + bias);
    Ok(Drawn { output, pull: Box::new(back) })
}

/// The parameters' values at initialization, the same in every coordinate.
#[derive(Clone, Copy, Debug)]
struct Constants {
    gain: f64,
    bias: f64,
    alpha: f64,
    shift: f64,
}

impl Constants {
    fn of(op: &Elementwise, at: &Site) -> Self {
        let parameters = op.parameters(at);
        let value = |name: &str| match parameters.iter().find(|p| p.name == name).map(|p| p.initial) {
            Some(Initial::Constant(value)) => value,
            _ => 0.0,
        };
        Constants { gain: value("gain"), bias: value("bias"), alpha: value("alpha"), shift: value("shift") }
    }

    fn inside(&self, x: f64) -> f64 {
        self.alpha * x + self.shift
    }
}

struct Back {
    op: Elementwise,
    /// `(width, tokens)`.
    input: Rows,
    initial: Constants,
}

impl DrawPull for Back {
    /// With z = alpha x + shift and e = c gain squash'(z): `dx = alpha e`, `dalpha = sum e x`, `dshift = sum e`, and by
    /// coordinate `dgain = sum over tokens of c squash(z)`, `dbias = sum of c`.
    fn pull(self: Box<Self>, mut cotangent: Rows, _: &mut dyn Matrices) -> Result<(Rows, Vec<f64>)> {
        let Constants { gain, alpha, .. } = self.initial;
        let (mut to_gain, mut to_bias) = (vec![0.0; cotangent.nrows()], vec![0.0; cotangent.nrows()]);
        let (mut to_alpha, mut to_shift) = (0.0, 0.0);
        for (mut column, input) in cotangent.column_iter_mut().zip(self.input.column_iter()) {
            for (i, (c, &x)) in column.iter_mut().zip(input.iter()).enumerate() {
                let z = self.initial.inside(x);
                to_gain[i] += *c * self.op.squash.value(z);
                to_bias[i] += *c;
                let inner = *c * gain * self.op.squash.slope(z);
                to_alpha += inner * x;
                to_shift += inner;
                *c = alpha * inner;
            }
        }
        let mut parameters = vec![square(&to_gain), square(&to_bias), to_alpha * to_alpha];
        parameters.extend(self.op.shift.then_some(to_shift * to_shift));
        Ok((cotangent, parameters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::differences::{check_draw, normal, site};
    use crate::random::Stream;

    #[test]
    fn every_way_back_is_the_gradient_by_central_differences() {
        for op in [Elementwise::dyt(), Elementwise::derf()] {
            let (x, c) = (normal(7, 3, 1), normal(7, 3, 2));
            let gradients = check_draw(|x| draw(&op, &site(7), x).unwrap(), &x, &c);
            assert_eq!(gradients.len(), op.parameters(&site(7)).len(), "{}", op.name);
        }
    }

    /// `d/d alpha f(alpha x) = f'(alpha x) x`, so that alpha times it is `<x, dx>`.
    #[test]
    fn the_gradient_of_alpha_is_that_of_a_scaled_input() {
        for op in [Elementwise::dyt(), Elementwise::derf()] {
            let (x, c) = (normal(7, 3, 1), normal(7, 3, 2));
            let pull = draw(&op, &site(7), &x).unwrap().pull;
            let (back, gradients) = pull.pull(c.clone(), &mut Stream::new(0, &[])).unwrap();
            let wanted = (back.dot(&x) / crate::op::elementwise::ALPHA).powi(2);
            let magnitude = (back.abs().dot(&x.abs()) / crate::op::elementwise::ALPHA).powi(2);
            let bound = 4.0 * x.len() as f64 * f64::EPSILON * magnitude;
            assert!((gradients[2] - wanted).abs() <= bound, "{}", op.name);
        }
    }
}
