//! y = x W on tensors, and the gradient of W as an outer product that is not multiplied out.

use candle_core::{D, DType, Tensor};

use crate::error::{Error, Result};
use crate::kernels::squares;
use crate::op::{Parameters, Site};

/// The gradient of one parameter.
#[derive(Clone, Debug)]
pub enum Gradient {
    Tensor(Tensor),
    /// X^T D for x `(rows, n_in)` and d `(rows, n_out)`, in a stack of networks `(networks, rows, ..)`: matrices that are
    /// rarely needed as such.
    Outer {
        x: Tensor,
        d: Tensor,
    },
}

impl Gradient {
    /// The gradient itself, of the parameter's shape.
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        match self {
            Gradient::Tensor(t) => Ok(t.clone()),
            Gradient::Outer { x, d } => x.t()?.matmul(d),
        }
    }

    /// The squared Frobenius norm in each of several stacked networks, `(networks,)` in f64. For an outer product by
    /// |X^T D|^2 = <X X^T, D D^T> where that is cheaper: in f64, whose products take twice as long, it costs
    /// 2 rows^2 (n_in + n_out) instead of rows n_in n_out.
    pub fn squared_norms(&self, networks: usize) -> candle_core::Result<Tensor> {
        match self {
            Gradient::Tensor(t) => squares(t, networks).map_err(candle_core::Error::wrap),
            Gradient::Outer { x, d } if gram_is_cheaper(x.dims(), d.dims()) => {
                let gram = |t: &Tensor| {
                    let t = t.to_dtype(DType::F64)?;
                    t.matmul(&t.t()?)
                };
                (gram(x)? * gram(d)?)?.reshape((networks, ()))?.sum(1)
            }
            Gradient::Outer { .. } => Gradient::Tensor(self.tensor()?).squared_norms(networks),
        }
    }
}

/// For x `(.., rows, n_in)` and d `(.., rows, n_out)`.
fn gram_is_cheaper(x: &[usize], d: &[usize]) -> bool {
    match (x, d) {
        ([.., rows, n_in], [.., n_out]) => 2 * rows * (n_in + n_out) < n_in * n_out,
        _ => false,
    }
}

/// x W for x `(batch, tokens, n_in)` and a weight by name, `(n_in, n_out)` or one a sequence, `(batch, n_in, n_out)`.
pub(crate) fn linear(at: &Site, parameters: &Parameters, weight: &str, x: &Tensor) -> Result<Tensor> {
    let w = parameters.get(at, weight)?;
    let product = || {
        let (batch, tokens, width) = x.dims3()?;
        match w.rank() {
            2 => x.reshape((batch * tokens, width))?.matmul(w)?.reshape((batch, tokens, ())),
            _ => x.matmul(w),
        }
    };
    product().map_err(Error::at(&at.path()))
}

/// The cotangent of x, dy W^T, and the gradient of W.
pub(crate) fn linear_back(
    at: &Site,
    parameters: &Parameters,
    weight: &str,
    x: &Tensor,
    dy: &Tensor,
) -> Result<(Tensor, Gradient)> {
    let w = parameters.get(at, weight)?;
    let back = || {
        let (batch, tokens, width) = x.dims3()?;
        match w.rank() {
            2 => {
                let d = dy.reshape((batch * tokens, ()))?;
                let dx = d.matmul(&w.t()?)?.reshape((batch, tokens, width))?;
                Ok((dx, Gradient::Outer { x: x.reshape((batch * tokens, width))?, d }))
            }
            _ => Ok((dy.matmul(&w.t()?)?, Gradient::Outer { x: x.clone(), d: dy.clone() })),
        }
    };
    back().map_err(Error::at(&at.path()))
}

/// The gradient of a parameter that was broadcast against `(batch, tokens, width)`, from that of every element: summed to
/// the parameter's shape, `(width,)` or `(1,)`, or in a stack of networks one row of it each, `(batch, 1, ..)`.
pub(crate) fn broadcast_back(each: &Tensor, parameter: &Tensor) -> candle_core::Result<Tensor> {
    let networks = if parameter.rank() == 1 { 1 } else { parameter.dim(0)? };
    let sum = match parameter.dim(D::Minus1)? {
        1 => each.reshape((networks, ()))?.sum(1)?,
        width => each.reshape((networks, (), width))?.sum(1)?,
    };
    sum.reshape(parameter.shape())
}
