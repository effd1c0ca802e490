//! This op on tensors, forward and back.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::kernels::{Curve, activation, activation_backward};
use crate::op::ffn::{Ffn, hidden_norm};
use crate::op::linear::{linear, linear_back};
use crate::op::{Gradient, Op, Parameters, Site, Vjp};
use crate::spec::Activation;

/// The kernel's curve of phi; silu for swiglu's gate.
fn curve(at: &Site) -> Curve {
    match at.setting.activation {
        Activation::Relu => Curve::Relu,
        Activation::Gelu => Curve::Gelu,
        Activation::Silu | Activation::Swiglu => Curve::Silu,
    }
}

impl Op for Ffn {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward_saving(at, parameters, x)?.0)
    }

    /// Keeps x W_1, the activation, what enters W_2, and for swiglu x W_3.
    fn forward_saving(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let site = at.path();
        let h = linear(at, parameters, "w_1", x)?;
        let active = activation(curve(at), &h)?;
        let gate = match at.setting.activation {
            Activation::Swiglu => Some(linear(at, parameters, "w_3", x)?),
            _ => None,
        };
        let hidden = match &gate {
            Some(gate) => (&active * gate).map_err(Error::at(&site))?,
            None => active.clone(),
        };
        let entering = match hidden_norm(at) {
            Some((norm, place)) => norm.forward(&place, &parameters.of("hidden_norm"), &hidden)?,
            None => hidden,
        };
        let y = linear(at, parameters, "w_2", &entering)?;
        Ok((y, [h, active, entering].into_iter().chain(gate).collect()))
    }

    fn vjp(&self, at: &Site, parameters: &Parameters, x: &Tensor, saved: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        let site = at.path();
        let (h, active, entering, gate) = match saved {
            [h, active, entering] => (h, active, entering, None),
            [h, active, entering, gate] => (h, active, entering, Some(gate)),
            _ => unreachable!("forward_saving of this op keeps three or four tensors"),
        };
        let (d_entering, w_2) = linear_back(at, parameters, "w_2", entering, dy)?;
        let mut inner = Vec::new();
        let d_hidden = match hidden_norm(at) {
            Some((norm, place)) => {
                let own = parameters.of("hidden_norm");
                let hidden = gate.map_or_else(|| Ok(active.clone()), |g| active * g).map_err(Error::at(&site))?;
                let (_, kept) = norm.forward_saving(&place, &own, &hidden)?;
                let back = norm.vjp(&place, &own, &hidden, &kept, &d_entering)?;
                inner = back.parameters;
                back.input
            }
            None => d_entering,
        };
        let through = |factor: Option<&Tensor>| match factor {
            Some(factor) => &d_hidden * factor,
            None => Ok(d_hidden.clone()),
        };
        let d_active = through(gate).map_err(Error::at(&site))?;
        let d_h = activation_backward(curve(at), h, &d_active)?;
        let (mut input, w_1) = linear_back(at, parameters, "w_1", x, &d_h)?;
        let mut gradients: Vec<Gradient> = vec![w_1, w_2];
        if gate.is_some() {
            let d_gate = through(Some(active)).map_err(Error::at(&site))?;
            let (more, w_3) = linear_back(at, parameters, "w_3", x, &d_gate)?;
            input = (input + more).map_err(Error::at(&site))?;
            gradients.push(w_3);
        }
        gradients.extend(inner);
        Ok(Vjp { input, parameters: gradients })
    }

    fn stacks(&self, at: &Site) -> bool {
        at.inner.iter().all(|(_, norm)| norm.stacks(at))
    }
}
