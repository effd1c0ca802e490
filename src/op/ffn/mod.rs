//! The feed-forward network: two matrices and an activation, or three with a gate.

mod moments;
mod rows;
mod tensors;

use crate::error::Result;
use crate::op::attention::inner_parameters;
use crate::op::{Drawn, Initial, Matrices, Moments, Notation, Op, Parameter, Responded, Response, Role, Rows, Site};
use crate::spec::Activation;
use std::sync::Arc;

/// phi(x W_1) W_2, or (silu(x W_1) . (x W_3)) W_2 for swiglu.
///
/// Inner norm: `hidden`, over n_h, after the activation or gate.
///
/// Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.3; gated: Shazeer 2020, arXiv:2002.05202.
#[derive(Clone, Debug)]
pub struct Ffn;

/// The inner norm of one call, with its place.
pub(crate) fn hidden_norm(at: &Site) -> Option<(Arc<dyn Op>, Site)> {
    at.inner("hidden", "hidden_norm", at.shape.ffn_width)
}

impl Response for Ffn {
    fn name(&self) -> &str {
        "ffn"
    }

    fn role(&self) -> Role {
        Role::Sublayer
    }

    fn notation(&self) -> Notation {
        Notation { latex: r"\mathrm{ffn}".into(), text: "ffn".into() }
    }

    fn slots(&self) -> &[&str] {
        &["hidden"]
    }

    /// `w_1` (width, ffn_width), `w_2` (ffn_width, width), for swiglu `w_3` (width, ffn_width), then the inner norm's own.
    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        let (d, hidden) = (at.shape.width, at.shape.ffn_width);
        let weight = |name: &str, rows, columns| Parameter {
            name: name.into(),
            shape: vec![rows, columns],
            initial: Initial::Weight { factor: at.factor(name) },
        };
        let mut all = vec![weight("w_1", d, hidden), weight("w_2", hidden, d)];
        all.extend((at.setting.activation == Activation::Swiglu).then(|| weight("w_3", d, hidden)));
        all.extend(inner_parameters(hidden_norm(at).iter()));
        all
    }

    fn respond(&self, at: &Site, input: &Moments) -> Result<Responded> {
        moments::respond(at, input)
    }

    fn draw(&self, at: &Site, input: &Rows, matrices: &mut dyn Matrices) -> Result<Drawn> {
        rows::draw(at, input, matrices)
    }
}
