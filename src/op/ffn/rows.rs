//! The sampling rule of this op: realised rows forward, cotangents back.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use crate::error::Result;
use crate::op::ffn::hidden_norm;
use crate::op::{DrawPull, Drawn, Frame, Matrices, Pushed, Rows, Site};
use crate::spec::Activation;

/// `y = norm(phi(x W_1)) W_2`, or `norm(silu(x W_1) . (x W_3)) W_2`; the norm where the call has one.
pub fn draw(at: &Site, input: &Rows, matrices: &mut dyn Matrices) -> Result<Drawn> {
    let shape = &at.shape;
    let activation = at.setting.activation;
    let outside = Frame::of(input);
    let up = outside.push("w_1", shape.ffn_width, at.factor("w_1"), matrices);
    let gated = activation == Activation::Swiglu;
    let gate = gated.then(|| outside.push("w_3", shape.ffn_width, at.factor("w_3"), matrices));
    let mut hidden = up.rows(&outside);
    hidden.iter_mut().for_each(|h| *h = value(activation, *h));
    if let Some(gate) = &gate {
        hidden.component_mul_assign(&gate.rows(&outside));
    }
    let mut norm = None;
    if let Some((op, site)) = hidden_norm(at) {
        let drawn = op.draw(&site, &hidden, matrices)?;
        hidden = drawn.output;
        norm = Some(drawn.pull);
    }
    let inside = Frame::of(&hidden);
    let down = inside.push("w_2", at.width, at.factor("w_2"), matrices);
    let output = down.rows(&inside);
    Ok(Drawn { output, pull: Box::new(Back { activation, outside, up, gate, norm, inside, down }) })
}

struct Back {
    activation: Activation,
    /// Of x.
    outside: Frame,
    up: Pushed,
    gate: Option<Pushed>,
    norm: Option<Box<dyn DrawPull>>,
    /// Of the hidden rows that W_2 reads.
    inside: Frame,
    down: Pushed,
}

impl DrawPull for Back {
    /// Pulls W_2, then the norm, then `c phi'(x W_1)`, or for the gated unit `c silu'(a) b` and `c silu(a)` with
    /// a = x W_1 and b = x W_3, through W_1 (and W_3).
    fn pull(self: Box<Self>, cotangent: Rows, matrices: &mut dyn Matrices) -> Result<(Rows, Vec<f64>)> {
        let (mut c, to_down) = self.inside.pull(&[(&self.down, &cotangent)], matrices);
        let mut within = Vec::new();
        if let Some(norm) = self.norm {
            (c, within) = norm.pull(c, matrices)?;
        }
        let a = self.up.rows(&self.outside);
        let (x, to_up) = match &self.gate {
            None => {
                c.zip_apply(&a, |c, a| *c *= slope(self.activation, a));
                self.outside.pull(&[(&self.up, &c)], matrices)
            }
            Some(gate) => {
                let b = gate.rows(&self.outside);
                let to_gate = c.zip_map(&a, |c, a| c * value(self.activation, a));
                c.zip_zip_apply(&a, &b, |c, a, b| *c *= slope(self.activation, a) * b);
                self.outside.pull(&[(&self.up, &c), (gate, &to_gate)], matrices)
            }
        };
        let mut parameters = vec![to_up[0], to_down[0]];
        parameters.extend(&to_up[1..]);
        parameters.extend(within);
        Ok((x, parameters))
    }
}

/// phi; for the gated unit, of the gated half. What is not a number stays so.
fn value(activation: Activation, a: f64) -> f64 {
    match activation {
        Activation::Relu if a <= 0.0 => 0.0,
        Activation::Relu => a,
        Activation::Gelu => a * normal_cdf(a),
        Activation::Silu | Activation::Swiglu => a * sigmoid(a),
    }
}

/// phi', 0 at the corner of ReLU.
fn slope(activation: Activation, a: f64) -> f64 {
    match activation {
        Activation::Relu => f64::from(a > 0.0),
        Activation::Gelu => normal_cdf(a) + a * libm::exp(-a * a / 2.0) / (2.0 * PI).sqrt(),
        Activation::Silu | Activation::Swiglu => {
            let s = sigmoid(a);
            s * (1.0 + a * (1.0 - s))
        }
    }
}

fn normal_cdf(a: f64) -> f64 {
    0.5 * libm::erfc(-a * FRAC_1_SQRT_2)
}

fn sigmoid(a: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::differences::{check, normal, site};
    use crate::random::Stream;

    #[test]
    fn slopes_are_those_of_the_activation_by_central_differences() {
        for activation in [Activation::Relu, Activation::Gelu, Activation::Silu] {
            let (x, c) = (normal(50, 1, 1), normal(50, 1, 2));
            let back = c.zip_map(&x, |c, x| c * slope(activation, x));
            check(|x| x.map(|x| value(activation, x)), &x, &c, &back);
        }
    }

    #[test]
    fn parameters_come_in_the_order_that_the_op_declares() {
        use crate::op::{Ffn, Radial, Response};
        for activation in [Activation::Relu, Activation::Swiglu] {
            let mut at = site(16);
            at.setting = std::sync::Arc::new(crate::spec::Setting { activation, ..(*at.setting).clone() });
            at.inner = vec![("hidden".into(), std::sync::Arc::new(Radial::layer_norm()))];
            let mut stream = Stream::new(0, &[3]);
            let drawn = draw(&at, &normal(16, 3, 1), &mut stream).unwrap();
            let (back, gradients) = drawn.pull.pull(normal(16, 3, 2), &mut stream).unwrap();
            assert_eq!((back.shape(), gradients.len()), ((16, 3), Ffn.parameters(&at).len()));
            // The hidden norm's bias alone has a gradient of the size of its cotangent, that of W_2 is wider by far.
            assert!(gradients.iter().all(|g| *g > 0.0), "{gradients:?}");
        }
    }
}
