//! This op on tensors, forward and back.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::kernels::{softmax, softmax_backward};
use crate::op::attention::{Attention, InnerNorms};
use crate::op::linear::{linear, linear_back};
use crate::op::{Gradient, Op, Parameters, Site, Vjp};
use std::sync::Arc;

type Inner = Option<(Arc<dyn Op>, Site)>;

/// `(batch, tokens, width)` to `(batch, heads, tokens, d_k)`.
fn split(at: &Site, x: &Tensor) -> candle_core::Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    let heads = at.shape.heads;
    x.reshape((batch, tokens, heads, width / heads))?.transpose(1, 2)?.contiguous()
}

/// The inverse of [`split`].
fn merge(x: &Tensor) -> candle_core::Result<Tensor> {
    let (batch, heads, tokens, d_k) = x.dims4()?;
    x.transpose(1, 2)?.reshape((batch, tokens, heads * d_k))
}

/// An inner norm on `(batch, heads, tokens, d_k)`, seen by the norm as `(batch, heads * tokens, d_k)`;
/// on `(batch, tokens, width)` as it is.
fn normalize(inner: &Inner, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
    match inner {
        None => Ok(x.clone()),
        Some((norm, place)) => {
            let own = parameters.of(place.within.unwrap_or_default());
            let y = norm.forward(place, &own, &rows(place, x)?)?;
            y.reshape(x.shape()).map_err(Error::at(&place.path()))
        }
    }
}

/// The cotangent before an inner norm; its parameters' gradients are appended.
fn normalize_back(
    inner: &Inner,
    parameters: &Parameters,
    x: &Tensor,
    dy: Tensor,
    gradients: &mut Vec<Gradient>,
) -> Result<Tensor> {
    match inner {
        None => Ok(dy),
        Some((norm, place)) => {
            let own = parameters.of(place.within.unwrap_or_default());
            let flat = rows(place, x)?;
            let (_, saved) = norm.forward_saving(place, &own, &flat)?;
            let back = norm.vjp(place, &own, &flat, &saved, &rows(place, &dy)?)?;
            gradients.extend(back.parameters);
            back.input.reshape(x.shape()).map_err(Error::at(&place.path()))
        }
    }
}

fn rows(place: &Site, x: &Tensor) -> Result<Tensor> {
    let flat = || match x.rank() {
        4 => x.flatten(1, 2),
        _ => Ok(x.clone()),
    };
    flat().map_err(Error::at(&place.path()))
}

/// 0 where a token is seen and -inf where it is not, `(tokens, tokens)`.
fn causal_mask(like: &Tensor, tokens: usize) -> candle_core::Result<Tensor> {
    let hidden = |i: usize| if i % tokens > i / tokens { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..tokens * tokens).map(hidden).collect();
    Tensor::from_vec(mask, (tokens, tokens), like.device())?.to_dtype(like.dtype())
}

/// The values of one call, each `(batch, heads, tokens, ..)` but `merged`, which is `(batch, tokens, width)`.
struct Heads {
    /// Raw projections of q and k, before any norm, in the shape in which the norm sees them.
    raw: Option<(Tensor, Tensor)>,
    q_k: Option<(Tensor, Tensor)>,
    raw_v: Tensor,
    v: Tensor,
    /// softmax weights A.
    weights: Tensor,
    merged: Tensor,
}

impl Attention {
    fn heads(&self, at: &Site, parameters: &Parameters, norms: &InnerNorms, x: &Tensor) -> Result<Heads> {
        let site = at.path();
        let tokens = x.dim(1).map_err(Error::at(&site))?;
        let split = |x: &Tensor| split(at, x).map_err(Error::at(&site));
        let raw_v = split(&linear(at, parameters, "w_v", x)?)?;
        let v = normalize(&norms.v, parameters, &raw_v)?;
        let mut raw = None;
        let mut q_k = None;
        let scores = if at.setting.uniform_attention {
            let batch = v.dims()[0];
            Tensor::zeros((batch, at.shape.heads, tokens, tokens), x.dtype(), x.device()).map_err(Error::at(&site))?
        } else {
            let (q, k) = (linear(at, parameters, "w_q", x)?, linear(at, parameters, "w_k", x)?);
            let (raw_q, raw_k) = if norms.wide { (q, k) } else { (split(&q)?, split(&k)?) };
            let (q, k) = (normalize(&norms.q, parameters, &raw_q)?, normalize(&norms.k, parameters, &raw_k)?);
            let (q, k) = if norms.wide { (split(&q)?, split(&k)?) } else { (q, k) };
            let d_k = (at.shape.width / at.shape.heads) as f64;
            let scores = k.t().and_then(|k| q.matmul(&k)).and_then(|s| s / d_k.sqrt()).map_err(Error::at(&site))?;
            raw = Some((raw_q, raw_k));
            q_k = Some((q, k));
            scores
        };
        let attend = || {
            let seen = match at.shape.causal {
                true => scores.broadcast_add(&causal_mask(&scores, tokens)?)?,
                false => scores,
            };
            let weights = softmax(&seen).map_err(candle_core::Error::wrap)?;
            let merged = merge(&weights.matmul(&v)?)?;
            Ok((weights, merged))
        };
        let (weights, merged) = attend().map_err(Error::at(&site))?;
        Ok(Heads { raw, q_k, raw_v, v, weights, merged })
    }
}

impl Op for Attention {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward_saving(at, parameters, x)?.0)
    }

    /// Keeps the softmax weights and every projection.
    fn forward_saving(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let norms = InnerNorms::of(at);
        let heads = self.heads(at, parameters, &norms, x)?;
        let entering = normalize(&norms.out, parameters, &heads.merged)?;
        let y = match at.setting.output_projection {
            true => linear(at, parameters, "w_o", &entering)?,
            false => entering.clone(),
        };
        let Heads { raw, q_k, raw_v, v, weights, merged } = heads;
        let pairs = [raw, q_k].into_iter().flatten().flat_map(|(a, b)| [a, b]);
        Ok((y, [raw_v, v, weights, merged, entering].into_iter().chain(pairs).collect()))
    }

    /// dV = A^T dZ; dA = dZ V^T; dS = A . (dA - sum(A . dA)); dQ = dS K/sqrt(d_k); dK = dS^T Q/sqrt(d_k).
    fn vjp(&self, at: &Site, parameters: &Parameters, x: &Tensor, saved: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        let site = at.path();
        let norms = InnerNorms::of(at);
        let [raw_v, v, weights, merged, entering, scores @ ..] = saved else {
            unreachable!("forward_saving of this op keeps five tensors or more");
        };
        let (d_entering, w_o) = match at.setting.output_projection {
            true => linear_back(at, parameters, "w_o", entering, dy).map(|(d, w)| (d, Some(w)))?,
            false => (dy.clone(), None),
        };
        let mut out = Vec::new();
        let d_merged = normalize_back(&norms.out, parameters, merged, d_entering, &mut out)?;
        let d_z = split(at, &d_merged).map_err(Error::at(&site))?;
        let d_v = weights.t().and_then(|a| a.matmul(&d_z)).map_err(Error::at(&site))?;
        let mut value = Vec::new();
        let d_raw_v = normalize_back(&norms.v, parameters, raw_v, d_v, &mut value)?;
        let d_raw_v = merge(&d_raw_v).map_err(Error::at(&site))?;
        let (mut input, w_v) = linear_back(at, parameters, "w_v", x, &d_raw_v)?;
        let (mut gradients, mut query_key) = (Vec::new(), Vec::new());
        if let [raw_q, raw_k, q, k] = scores {
            let d_k = (at.shape.width / at.shape.heads) as f64;
            let score_gradients = || {
                let d_a = d_z.matmul(&v.t()?)?;
                let d_s = (softmax_backward(weights, &d_a).map_err(candle_core::Error::wrap)? / d_k.sqrt())?;
                let (dq, dk) = (d_s.matmul(k)?, d_s.t()?.matmul(q)?);
                if norms.wide { Ok((merge(&dq)?, merge(&dk)?)) } else { Ok((dq, dk)) }
            };
            let (dq, dk) = score_gradients().map_err(Error::at(&site))?;
            for (name, inner, raw, d) in [("w_q", &norms.q, raw_q, dq), ("w_k", &norms.k, raw_k, dk)] {
                let d_raw = normalize_back(inner, parameters, raw, d, &mut query_key)?;
                let d_raw = if norms.wide { Ok(d_raw) } else { merge(&d_raw) }.map_err(Error::at(&site))?;
                let (more, w) = linear_back(at, parameters, name, x, &d_raw)?;
                input = (input + more).map_err(Error::at(&site))?;
                gradients.push(w);
            }
        }
        gradients.push(w_v);
        gradients.extend(w_o);
        gradients.extend(query_key.into_iter().chain(value).chain(out));
        Ok(Vjp { input, parameters: gradients })
    }

    fn stacks(&self, at: &Site) -> bool {
        at.inner.iter().all(|(_, norm)| norm.stacks(at))
    }
}
