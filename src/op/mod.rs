//! What may be applied to a value: the open set of normalizers and sub-layers.
//!
//! [`Response`] is an op's theory, free of tensors; [`Op`] runs it. Knows nothing of equations' evaluation.

mod attention;
pub(crate) mod columns;
#[cfg(test)]
mod differences;
mod elementwise;
mod ffn;
pub(crate) mod gaussian;
mod identity;
mod linear;
mod matrix_law;
mod paired;
mod radial;
mod registry;
mod response;
mod site;

use candle_core::{Tensor, Var};

use crate::error::{Error, Result};
pub use attention::Attention;
pub(crate) use attention::members as attention_members;
pub use elementwise::{Elementwise, Squash};
pub use ffn::Ffn;
pub use identity::Identity;
pub use linear::Gradient;
pub(crate) use linear::broadcast_back;
pub use matrix_law::{Frame, Matrices, MatrixLaw, Pushed};
pub use paired::Paired;
pub(crate) use paired::mean_products;
pub use radial::{Gain, Radial, Scale};
pub use registry::Registry;
pub use response::{
    CANCELS, Cotangent, DrawPull, Drawn, Expected, Gram, Initial, Lengths, Moments, Notation, Parameter, Pull, Pulled,
    Responded, Response, Role, Rows,
};
pub use site::{Series, Site, Stage};

/// An op that runs: forward on tensors of shape `(batch, tokens, width)`, and back.
///
/// ```
/// use candle_core::{D, Tensor};
/// use normative::error::{Error, Result};
/// use normative::op::{Op, Parameters, Response, Role, Site};
///
/// /// x / mean |x|.
/// #[derive(Debug)]
/// struct MeanAbsolute;
///
/// impl Response for MeanAbsolute {
///     fn name(&self) -> &str {
///         "mean_absolute"
///     }
///     fn role(&self) -> Role {
///         Role::Normalizer
///     }
/// }
///
/// impl Op for MeanAbsolute {
///     fn forward(&self, at: &Site, _: &Parameters, x: &Tensor) -> Result<Tensor> {
///         let scale = x.abs().and_then(|a| a.mean_keepdim(D::Minus1));
///         scale.and_then(|s| x.broadcast_div(&s)).map_err(Error::at(&at.path()))
///     }
/// }
/// ```
pub trait Op: Response {
    /// The output, of the input's shape.
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor>;

    /// Forward, keeping what [`Op::vjp`] wants to find again.
    fn forward_saving(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        Ok((self.forward(at, parameters, x)?, Vec::new()))
    }

    /// The cotangents of the input and of every parameter, from that of the output.
    ///
    /// The default takes candle's autograd of [`Op::forward`] on a detached input.
    fn vjp(&self, at: &Site, parameters: &Parameters, x: &Tensor, _saved: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        autograd(self, at, parameters, x, dy)
    }

    /// Whether forward and vjp also take a stack of networks: values `(networks, tokens, width)`, a weight
    /// `(networks, n_in, n_out)`, a vector `(networks, 1, width)`, and gradients of these shapes. An op that does not is
    /// run one network at a time.
    fn stacks(&self, _at: &Site) -> bool {
        false
    }
}

/// What [`Op::vjp`] gives.
#[derive(Clone, Debug)]
pub struct Vjp {
    /// Of the input's shape.
    pub input: Tensor,
    /// In the order of [`Response::parameters`].
    pub parameters: Vec<Gradient>,
}

/// The parameters of an op at a site, by their names within the op.
#[derive(Clone, Debug, Default)]
pub struct Parameters(Vec<(String, Tensor)>);

impl Parameters {
    pub fn new(named: Vec<(String, Tensor)>) -> Self {
        Parameters(named)
    }

    /// A parameter by name; an error where it is missing names it.
    pub fn get(&self, at: &Site, name: &str) -> Result<&Tensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t).ok_or_else(|| Error::Option {
            message: format!("parameter {}.{name} is missing", at.path()),
            help: "every parameter that Response::parameters declares must be given".into(),
        })
    }

    /// Those of an inner norm, under its own names: `q_norm.gain` becomes `gain`.
    pub fn of(&self, within: &str) -> Parameters {
        let strip = |name: &str| name.strip_prefix(within)?.strip_prefix('.').map(str::to_owned);
        Parameters(self.0.iter().filter_map(|(n, t)| Some((strip(n)?, t.clone()))).collect())
    }

    /// In the order of [`Response::parameters`].
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, t)| (n.as_str(), t))
    }
}

/// The vjp of any op by candle's autograd on a detached input.
///
/// # Errors
/// A tensor error of the op; and [`Error::Refused`] where a gradient that the op should have
/// is absent from candle's tape, as it is behind its fused norms.
pub fn autograd<O: Op + ?Sized>(op: &O, at: &Site, parameters: &Parameters, x: &Tensor, dy: &Tensor) -> Result<Vjp> {
    let site = at.path();
    let var = |t: &Tensor| Var::from_tensor(&t.detach()).map_err(Error::at(&site));
    let input = var(x)?;
    let vars = parameters.0.iter().map(|(n, t)| Ok((n.clone(), var(t)?))).collect::<Result<Vec<_>>>()?;
    let tracked = Parameters(vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect());
    let y = op.forward(at, &tracked, input.as_tensor())?;
    let loss = (y * dy).and_then(|p| p.sum_all()).map_err(Error::at(&site))?;
    let grads = loss.backward().map_err(Error::at(&site))?;
    let gradient = |name: &str, v: &Var| {
        grads.get(v).cloned().ok_or_else(|| Error::Refused {
            subject: format!("{} at {site}", op.name()),
            reason: format!("candle's autograd gives no gradient of {name}: the forward pass uses an op without one"),
            help: "use primitive tensor operations, or implement Op::vjp".into(),
        })
    };
    Ok(Vjp {
        input: gradient("the input", &input)?,
        parameters: vars.iter().map(|(n, v)| gradient(n, v).map(Gradient::Tensor)).collect::<Result<_>>()?,
    })
}
