//! The normalizer that does nothing, to take a norm out of a placement.

use candle_core::Tensor;

use crate::error::Result;
use crate::op::{
    Cotangent, DrawPull, Drawn, Matrices, Moments, Notation, Op, Parameters, Pull, Pulled, Responded, Response, Role,
    Rows, Site, Vjp,
};

/// `x`.
#[derive(Clone, Debug)]
pub struct Identity;

impl Response for Identity {
    fn name(&self) -> &str {
        "identity"
    }

    fn role(&self) -> Role {
        Role::Normalizer
    }

    fn notation(&self) -> Notation {
        Notation { latex: r"\mathrm{id}".into(), text: "id".into() }
    }

    fn respond(&self, _: &Site, input: &Moments) -> Result<Responded> {
        let linear = Some(vec![1.0; input.gram.nrows()]);
        Ok(Responded {
            output: input.clone(),
            linear,
            elasticity: 1.0,
            centred_elasticity: 1.0,
            pull: Box::new(Identity),
        })
    }

    fn draw(&self, _: &Site, input: &Rows, _: &mut dyn Matrices) -> Result<Drawn> {
        Ok(Drawn { output: input.clone(), pull: Box::new(Identity) })
    }
}

impl Pull for Identity {
    fn pull(&self, cotangent: &Cotangent) -> Pulled {
        let linear = Some(vec![1.0; cotangent.gram.nrows()]);
        Pulled { cotangent: cotangent.clone(), linear, parameters: Vec::new() }
    }
}

impl DrawPull for Identity {
    fn pull(self: Box<Self>, cotangent: Rows, _: &mut dyn Matrices) -> Result<(Rows, Vec<f64>)> {
        Ok((cotangent, Vec::new()))
    }
}

impl Op for Identity {
    fn forward(&self, _: &Site, _: &Parameters, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }

    fn vjp(&self, _: &Site, _: &Parameters, _: &Tensor, _: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        Ok(Vjp { input: dy.clone(), parameters: Vec::new() })
    }

    fn stacks(&self, _: &Site) -> bool {
        true
    }
}
