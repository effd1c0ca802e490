//! The sampling rule of this op: realised rows forward, cotangents back.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::Result;
use crate::op::attention::InnerNorms;
use crate::op::attention::heads::Heads;
use crate::op::{DrawPull, Drawn, Frame, Gram, Matrices, Op, Pushed, Rows, Site};

type Norm = Option<(Arc<dyn Op>, Site)>;

/// Draws W_Q, W_K, W_V and W_O as x and the weighted values see them; the softmax between them is computed.
pub fn draw(at: &Site, input: &Rows, matrices: &mut dyn Matrices) -> Result<Drawn> {
    let norms = InnerNorms::of(at);
    let outside = Frame::of(input);
    let mut project = |name: &str, norm: &Norm| Projection::draw(at, &outside, name, norm, matrices);
    let scores = match at.setting.uniform_attention {
        true => None,
        false => Some([project("w_q", &norms.q)?, project("w_k", &norms.k)?]),
    };
    let value = project("w_v", &norms.v)?;
    let heads = Heads { count: at.shape.heads, causal: at.shape.causal };
    let weights = match &scores {
        Some([q, k]) => heads.softmax(&q.rows(&outside), &k.rows(&outside)),
        None => heads.uniform(input.ncols()),
    };
    let mut output = heads.mix(&weights, &value.rows(&outside));
    let mut out_norm = None;
    if let Some((op, site)) = &norms.out {
        let drawn = op.draw(site, &output, matrices)?;
        output = drawn.output;
        out_norm = Some(drawn.pull);
    }
    let mut out = None;
    if at.setting.output_projection {
        let inside = Frame::of(&output);
        let pushed = inside.push("w_o", at.width, at.factor("w_o"), matrices);
        output = pushed.rows(&inside);
        out = Some((inside, pushed));
    }
    let silent = if scores.is_some() { 0 } else { silent_parameters(&norms) };
    Ok(Drawn { output, pull: Box::new(Back { heads, outside, scores, silent, value, weights, out_norm, out }) })
}

/// Under uniform attention the norms of q and k act on nothing: how many parameters of theirs have gradient 0.
fn silent_parameters(norms: &InnerNorms) -> usize {
    [&norms.q, &norms.k].into_iter().flatten().map(|(op, site)| op.parameters(site).len()).sum()
}

/// x W, with the norm behind it where there is one.
struct Projection {
    pushed: Pushed,
    norm: Option<Normalized>,
}

struct Normalized {
    /// `(width, tokens)`.
    rows: Rows,
    pull: Box<dyn DrawPull>,
    /// The width of the pieces that the norm acts on: a head, or all of a token.
    piece: usize,
}

impl Projection {
    fn draw(at: &Site, outside: &Frame, matrix: &str, norm: &Norm, matrices: &mut dyn Matrices) -> Result<Self> {
        let pushed = outside.push(matrix, at.width, at.factor(matrix), matrices);
        let Some((op, site)) = norm else { return Ok(Projection { pushed, norm: None }) };
        let raw = pushed.rows(outside);
        let whole = raw.shape();
        let drawn = op.draw(site, &pieces(raw, site.width), matrices)?;
        let norm = Normalized { rows: shaped(drawn.output, whole), pull: drawn.pull, piece: site.width };
        Ok(Projection { pushed, norm: Some(norm) })
    }

    /// The rows behind the norm; without one they are made again rather than kept.
    fn rows(&self, outside: &Frame) -> Cow<'_, Rows> {
        match &self.norm {
            Some(norm) => Cow::Borrowed(&norm.rows),
            None => Cow::Owned(self.pushed.rows(outside)),
        }
    }

    /// The cotangent of x W from that of [`Projection::rows`], and the norm's parameters.
    fn behind(self, c: Rows, matrices: &mut dyn Matrices) -> Result<(Pushed, Rows, Vec<f64>)> {
        let Some(norm) = self.norm else { return Ok((self.pushed, c, Vec::new())) };
        let whole = c.shape();
        let (c, parameters) = norm.pull.pull(pieces(c, norm.piece), matrices)?;
        Ok((self.pushed, shaped(c, whole), parameters))
    }
}

/// `(width, tokens)` as `(piece, tokens * pieces)`, the pieces of a token one after another.
fn pieces(rows: Rows, piece: usize) -> Rows {
    let columns = rows.len() / piece.max(1);
    shaped(rows, (piece, columns))
}

fn shaped(rows: Rows, (height, columns): (usize, usize)) -> Rows {
    Rows::from_vec(height, columns, rows.data.into())
}

struct Back {
    heads: Heads,
    /// Of x.
    outside: Frame,
    /// q and k; `None` under uniform attention.
    scores: Option<[Projection; 2]>,
    silent: usize,
    value: Projection,
    weights: Vec<Gram>,
    out_norm: Option<Box<dyn DrawPull>>,
    /// W_O with the frame of what it reads.
    out: Option<(Frame, Pushed)>,
}

impl DrawPull for Back {
    /// Pulls W_O and the norm before it, then the weighted sums and the softmax, then the norms of q, k and v, and last
    /// W_Q, W_K and W_V together.
    fn pull(self: Box<Self>, cotangent: Rows, matrices: &mut dyn Matrices) -> Result<(Rows, Vec<f64>)> {
        let mut c = cotangent;
        let (mut to_out, mut to_out_norm) = (Vec::new(), Vec::new());
        if let Some((inside, pushed)) = &self.out {
            (c, to_out) = inside.pull(&[(pushed, &c)], matrices);
        }
        if let Some(norm) = self.out_norm {
            (c, to_out_norm) = norm.pull(c, matrices)?;
        }
        let mut uses = Vec::new();
        let mut to_norms = vec![0.0; self.silent];
        if let Some([q, k]) = self.scores {
            let (v, q_rows, k_rows) = (self.value.rows(&self.outside), q.rows(&self.outside), k.rows(&self.outside));
            let (to_q, to_k) = self.heads.softmax_back(&self.weights, &c, &v, &q_rows, &k_rows);
            drop((q_rows, k_rows));
            uses.extend([(q, to_q), (k, to_k)]);
        }
        uses.push((self.value, self.heads.mix_back(&self.weights, &c)));
        let mut pulled = Vec::new();
        for (projection, c) in uses {
            let (pushed, c, parameters) = projection.behind(c, matrices)?;
            pulled.push((pushed, c));
            to_norms.extend(parameters);
        }
        let pulled: Vec<(&Pushed, &Rows)> = pulled.iter().map(|(pushed, c)| (pushed, c)).collect();
        let (x, mut parameters) = self.outside.pull(&pulled, matrices);
        parameters.extend(to_out);
        parameters.extend(to_norms);
        parameters.extend(to_out_norm);
        Ok((x, parameters))
    }
}
