//! Multi-head self-attention, with inner norms where a placement asks for them.

mod heads;
mod moments;
pub(crate) use moments::members;
mod rows;
mod tensors;

use crate::error::Result;
use crate::op::{Drawn, Initial, Matrices, Moments, Notation, Op, Parameter, Responded, Response, Role, Rows, Site};
use std::sync::Arc;

/// softmax(q k^T / sqrt(d_k)) v W_O with q = x W_Q, k = x W_K, v = x W_V by heads of width d_k = d/h.
///
/// Inner norms: `qk` and `qkv` per head over d_k (one gain for all heads), `qk_wide` over d before the heads are
/// split, `out` over d before W_O. Under uniform attention there are no W_Q, W_K; the setting may leave out W_O.
///
/// Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
#[derive(Clone, Debug)]
pub struct Attention;

/// The inner norms of one call, each with its place.
pub(crate) struct InnerNorms {
    pub q: Option<(Arc<dyn Op>, Site)>,
    pub k: Option<(Arc<dyn Op>, Site)>,
    pub v: Option<(Arc<dyn Op>, Site)>,
    pub out: Option<(Arc<dyn Op>, Site)>,
    /// Whether q and k are normalized over the whole width, before the heads are split.
    pub wide: bool,
}

impl InnerNorms {
    pub fn of(at: &Site) -> Self {
        let (d, d_k) = (at.shape.width, at.shape.width / at.shape.heads);
        let wide = at.inner.iter().any(|(slot, _)| slot == "qk_wide");
        let head = |within| at.inner("qkv", within, d_k).or_else(|| at.inner("qk", within, d_k));
        let (q, k) = match wide {
            _ if at.setting.uniform_attention => (None, None),
            true => (at.inner("qk_wide", "q_norm", d), at.inner("qk_wide", "k_norm", d)),
            false => (head("q_norm"), head("k_norm")),
        };
        InnerNorms { q, k, v: at.inner("qkv", "v_norm", d_k), out: at.inner("out", "out_norm", d), wide }
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Arc<dyn Op>, Site)> {
        [&self.q, &self.k, &self.v, &self.out].into_iter().flatten()
    }
}

/// The parameters of inner norms under the call's own names: `q_norm.gain`.
pub(crate) fn inner_parameters<'a>(norms: impl Iterator<Item = &'a (Arc<dyn Op>, Site)>) -> Vec<Parameter> {
    let named = |(op, site): &(Arc<dyn Op>, Site)| {
        let within = site.within.unwrap_or_default();
        let rename = |p: Parameter| Parameter { name: format!("{within}.{}", p.name), ..p };
        op.parameters(site).into_iter().map(rename).collect::<Vec<_>>()
    };
    norms.flat_map(named).collect()
}

impl Response for Attention {
    fn name(&self) -> &str {
        "attn"
    }

    fn role(&self) -> Role {
        Role::Sublayer
    }

    fn notation(&self) -> Notation {
        Notation { latex: r"\mathrm{attn}".into(), text: "attn".into() }
    }

    fn slots(&self) -> &[&str] {
        &["qk", "qkv", "qk_wide", "out"]
    }

    /// `w_q`, `w_k`, `w_v`, `w_o` (width, width), then the inner norms' own.
    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        let norms = InnerNorms::of(at);
        let d = at.shape.width;
        let weight = |name: &str| Parameter {
            name: name.into(),
            shape: vec![d, d],
            initial: Initial::Weight { factor: at.factor(name) },
        };
        let scores = if at.setting.uniform_attention { &[][..] } else { &["w_q", "w_k"] };
        let output = if at.setting.output_projection { &["w_o"][..] } else { &[] };
        let mut all: Vec<Parameter> = scores.iter().chain(&["w_v"]).chain(output).map(|n| weight(n)).collect();
        all.extend(inner_parameters(norms.iter()));
        all
    }

    fn respond(&self, at: &Site, input: &Moments) -> Result<Responded> {
        moments::respond(at, input)
    }

    fn draw(&self, at: &Site, input: &Rows, matrices: &mut dyn Matrices) -> Result<Drawn> {
        rows::draw(at, input, matrices)
    }
}
