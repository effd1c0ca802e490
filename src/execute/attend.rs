//! `attend(h)`: sum over i of softmax_i(query . rms_norm(v_i)) v_i, on tensors, forward and back.

use candle_core::{D, Tensor};

use crate::error::{Error, Result};
use crate::op::{Gradient, Parameters, Site, broadcast_back};

/// eps of the rms_norm inside; it has no gain.
const EPS: f64 = 1e-6;

/// What forward keeps, stacked over the history's values: `(values, batch, tokens, ..)`.
struct Attended {
    v: Tensor,
    /// rms_norm(v).
    r: Tensor,
    /// 1/sqrt(mean v^2 + eps), last dimension 1.
    inverse: Tensor,
    /// softmax over the first dimension, last dimension 1.
    weights: Tensor,
}

fn attended(query: &Tensor, values: &[Tensor]) -> candle_core::Result<Attended> {
    let v = Tensor::stack(values, 0)?;
    let inverse = (v.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?.recip()?;
    let r = v.broadcast_mul(&inverse)?;
    let scores = r.broadcast_mul(query)?.sum_keepdim(D::Minus1)?;
    let e = scores.broadcast_sub(&scores.max_keepdim(0)?)?.exp()?;
    let weights = e.broadcast_div(&e.sum_keepdim(0)?)?;
    Ok(Attended { v, r, inverse, weights })
}

/// The attended value, `(batch, tokens, width)`.
pub fn attend(at: &Site, parameters: &Parameters, values: &[Tensor]) -> Result<Tensor> {
    let query = parameters.get(at, "query")?;
    let forward = || {
        let a = attended(query, values)?;
        a.v.broadcast_mul(&a.weights)?.sum(0)
    };
    forward().map_err(Error::at(&at.path()))
}

/// The cotangents of the values, in their order, and the gradient of the query.
///
/// With p the weights and s_i = g . v_i: ds_i = p_i (s_i - sum p s), dquery = sum ds_i r_i,
/// dv_i = p_i g + rms_norm's vjp of ds_i query.
pub fn attend_back(
    at: &Site,
    parameters: &Parameters,
    values: &[Tensor],
    dy: &Tensor,
) -> Result<(Vec<Tensor>, Gradient)> {
    let query = parameters.get(at, "query")?;
    let back = || {
        let a = attended(query, values)?;
        let g = dy.unsqueeze(0)?;
        let s = a.v.broadcast_mul(&g)?.sum_keepdim(D::Minus1)?;
        let mean = (&a.weights * &s)?.sum_keepdim(0)?;
        let d_score = (&a.weights * s.broadcast_sub(&mean)?)?;
        let d_query = broadcast_back(&a.r.broadcast_mul(&d_score)?.sum(0)?, query)?;
        let d_r = d_score.broadcast_mul(query)?;
        let along = (&d_r * &a.r)?.mean_keepdim(D::Minus1)?;
        let through_norm = (d_r - a.r.broadcast_mul(&along)?)?.broadcast_mul(&a.inverse)?;
        let d_v = (a.weights.broadcast_mul(&g)? + through_norm)?;
        let each = (0..values.len()).map(|i| d_v.get(i)).collect::<candle_core::Result<Vec<_>>>()?;
        Ok((each, Gradient::Tensor(d_query)))
    };
    back().map_err(Error::at(&at.path()))
}
