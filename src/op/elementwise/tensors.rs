//! This op on tensors, forward and back.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::op::elementwise::{Elementwise, Squash};
use crate::op::linear::broadcast_back;
use crate::op::{Gradient, Op, Parameters, Site, Vjp};

impl Elementwise {
    /// alpha x + shift.
    fn inside(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        let scaled = x.broadcast_mul(parameters.get(at, "alpha")?).map_err(Error::at(&at.path()))?;
        match self.shift {
            true => scaled.broadcast_add(parameters.get(at, "shift")?).map_err(Error::at(&at.path())),
            false => Ok(scaled),
        }
    }
}

impl Op for Elementwise {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward_saving(at, parameters, x)?.0)
    }

    fn forward_saving(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let inside = self.inside(at, parameters, x)?;
        let (gain, bias) = (parameters.get(at, "gain")?, parameters.get(at, "bias")?);
        let forward = || {
            let squashed = match self.squash {
                Squash::Tanh => inside.tanh()?,
                Squash::Erf => inside.erf()?,
            };
            let y = squashed.broadcast_mul(gain)?.broadcast_add(bias)?;
            Ok((y, vec![inside.clone(), squashed]))
        };
        forward().map_err(Error::at(&at.path()))
    }

    /// With u = alpha x + shift and g = gain . dy: dx = alpha g squash'(u), dalpha = sum g squash'(u) x.
    fn vjp(&self, at: &Site, parameters: &Parameters, x: &Tensor, saved: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        let [inside, squashed] = saved else {
            unreachable!("forward_saving of this op keeps two tensors");
        };
        let gain = parameters.get(at, "gain")?;
        let (bias, alpha) = (parameters.get(at, "bias")?, parameters.get(at, "alpha")?);
        let backward = || -> candle_core::Result<Vjp> {
            let slope = match self.squash {
                Squash::Tanh => (1.0 - squashed.sqr()?)?,
                Squash::Erf => (inside.sqr()?.neg()?.exp()? * std::f64::consts::FRAC_2_SQRT_PI)?,
            };
            let g = (dy.broadcast_mul(gain)? * slope)?;
            let mut gradients = vec![
                broadcast_back(&(dy * squashed)?, gain)?,
                broadcast_back(dy, bias)?,
                broadcast_back(&(&g * x)?, alpha)?,
            ];
            if self.shift {
                gradients.push(broadcast_back(&g, alpha)?);
            }
            Ok(Vjp {
                input: g.broadcast_mul(alpha)?,
                parameters: gradients.into_iter().map(Gradient::Tensor).collect(),
            })
        };
        backward().map_err(Error::at(&at.path()))
    }

    fn stacks(&self, _: &Site) -> bool {
        true
    }
}
