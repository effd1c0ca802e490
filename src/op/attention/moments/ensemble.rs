//! A seeded ensemble of single heads on realised token Grams, drawn again whenever it is asked for.
//!
//! Given the token Gram K, a head's q and k rows are Gaussian with Grams gq^2 K and gk^2 K; K itself is the realised
//! Gram of vectors with finitely many coordinates. Members come in pairs that share the realised Gram, so that what
//! varies between heads can be told from what varies between Grams.

use crate::error::Result;
use crate::op::attention::InnerNorms;
use crate::op::attention::moments::draw::{bartlett, normal};
use crate::op::attention::moments::inner::{Inner, Pulls};
use crate::op::gaussian::{cholesky, correlation, symmetric};
use crate::op::{Gram, Moments, Site, Stage};
use crate::random::{Stream, name_key};
use crate::spec::Shape;

const SEED: u64 = 0x5eed;
/// Members at most, and at least; between them their number falls with the network's T^3 N.
const MOST: usize = 1024;
const LEAST: usize = 16;
/// Member token-cubes for a whole network: 16 members a block at N = 1000, T = 16.
const BUDGET: f64 = 16.0 * 1000.0 * 4096.0;

/// What a member costs besides, in token-cubes.
const OVERHEAD: f64 = 2000.0;

/// The law from which heads are drawn.
pub struct Ensemble {
    factor: Gram,
    /// Per token, the root second moment of the input.
    roots: Vec<f64>,
    spread: f64,
    pub freedom: f64,
    gains: Gains,
    q_norm: Option<Inner>,
    k_norm: Option<Inner>,
    v_norm: Option<Inner>,
    pub heads: usize,
    head_width: usize,
    causal: bool,
    uniform: bool,
    key: [u64; 3],
    pub members: usize,
}

/// Squared gains of the four matrices.
#[derive(Clone, Copy, Debug)]
pub struct Gains {
    pub q: f64,
    pub k: f64,
    pub v: f64,
    pub o: f64,
}

/// How many members every call of a network of this shape gets: an even number.
pub fn members(shape: &Shape) -> usize {
    let work = shape.blocks as f64 * ((shape.tokens as f64).powi(3) + OVERHEAD);
    ((BUDGET / work) as usize).clamp(LEAST, MOST) & !1
}

/// One head with the realised Grams it meets.
pub struct Member {
    /// softmax(q k^T / sqrt(d_k)), rows sum to 1.
    pub a: Gram,
    /// The realised input Gram.
    pub x: Gram,
    /// The realised Gram of the values, behind their norm.
    pub v: Gram,
    /// Of queries and keys, behind their norms.
    pub kq: Gram,
    pub kk: Gram,
    pub q_norm: Option<Pulls>,
    pub k_norm: Option<Pulls>,
    pub v_norm: Option<Pulls>,
}

impl Ensemble {
    pub fn new(at: &Site, input: &Moments, gains: Gains, norms: InnerNorms) -> Result<Self> {
        let t = input.gram.nrows();
        let stage = match at.stage {
            Stage::Input => 0,
            Stage::Block(l) => l as u64,
            Stage::Output => u64::MAX,
        };
        let others = if norms.wide { at.shape.heads as f64 - 1.0 } else { 0.0 };
        let inner = |norm, gain, others| Inner::new(norm, gain, others, &input.gram);
        // Rows scaled to their length have cosines below the drawn Gram's by (1 - r^2)/(2 nu), relative.
        let freedom = input.freedom.max(1.0);
        let scaled = 1.0 - (input.spread * freedom / 2.0).min(1.0).sqrt();
        let cosine = correlation(&input.gram);
        let lifted = symmetric(t, |a, b| match a == b {
            true => input.gram[(a, b)],
            false => input.gram[(a, b)] * (1.0 + scaled * (1.0 - cosine[(a, b)].powi(2)) / (2.0 * freedom)),
        });
        Ok(Ensemble {
            factor: cholesky(&lifted),
            roots: input.gram.diagonal().iter().map(|k| k.max(0.0).sqrt()).collect(),
            spread: input.spread,
            freedom,
            gains,
            q_norm: inner(norms.q, gains.q, others)?,
            k_norm: inner(norms.k, gains.k, others)?,
            v_norm: inner(norms.v, gains.v, 0.0)?,
            heads: at.shape.heads,
            head_width: at.shape.width / at.shape.heads,
            causal: at.shape.causal,
            uniform: at.setting.uniform_attention,
            key: [stage, at.index as u64, name_key("predict")],
            members: members(&at.shape),
        })
    }

    /// The weights of every head where they are the same in all draws.
    pub fn fixed(&self) -> Option<Gram> {
        let t = self.factor.nrows();
        self.uniform.then(|| self.mask(Gram::zeros(t, t)))
    }

    /// Calls `see` with every pair of members that share a realised Gram; the same members each time.
    pub fn each(&self, mut see: impl FnMut([Member; 2])) -> Result<()> {
        for pair in 0..self.members / 2 {
            let mut stream = Stream::new(SEED, &[self.key[0], self.key[1], self.key[2], pair as u64]);
            let rows = self.rows(&mut stream);
            let x = &rows * rows.transpose();
            see([self.head(&rows, &x, &mut stream)?, self.head(&rows, &x, &mut stream)?]);
        }
        Ok(())
    }

    /// Realised token vectors R in a basis of their own, R R^T their Gram.
    ///
    /// A Gaussian's lengths vary by 2/nu; those of the input by `spread`: rows are scaled toward their expected length by the
    /// power that leaves that much, and what is beyond a Gaussian's is common to all tokens.
    fn rows(&self, stream: &mut Stream) -> Gram {
        let mut rows = &self.factor * bartlett(self.factor.nrows(), self.freedom, stream) / self.freedom.sqrt();
        let left = (self.spread * self.freedom / 2.0).min(1.0).sqrt();
        for (a, root) in self.roots.iter().enumerate() {
            let length = rows.row(a).norm();
            if length > 0.0 {
                rows.row_mut(a).scale_mut((root / length).powf(1.0 - left));
            }
        }
        let beyond = (1.0 + (self.spread - 2.0 / self.freedom).max(0.0)).ln();
        if beyond > 0.0 {
            rows.scale_mut((0.5 * (beyond.sqrt() * stream.normal() - beyond / 2.0)).exp());
        }
        rows
    }

    fn head(&self, rows: &Gram, x: &Gram, stream: &mut Stream) -> Result<Member> {
        let (t, width) = (rows.ncols(), self.head_width);
        let (v, v_norm) = match &self.v_norm {
            None => (x * self.gains.v, None),
            Some(_) => {
                let mut v = rows * normal(t, width, stream) * self.gains.v.sqrt();
                let pull = self.normalize(&self.v_norm, &mut v, x, stream)?;
                (&v * v.transpose() / width as f64, pull)
            }
        };
        if let Some(a) = self.fixed() {
            return Ok(Member { a, x: x.clone(), v, kq: x.clone(), kk: x.clone(), q_norm: None, k_norm: None, v_norm });
        }
        // With a norm that bends vectors, coordinates matter; else only inner products, in a basis that starts in q's span.
        let (lq, lk) = match self.q_norm {
            Some(_) => (normal(t, width, stream), normal(t, width, stream)),
            None => {
                let span = t.min(width);
                let lq = bartlett(t, width as f64, stream);
                let along = normal(t, span, stream);
                (lq, columns(along, bartlett(t, (width - span) as f64, stream)))
            }
        };
        let mut q = rows * lq * self.gains.q.sqrt();
        let mut k = rows * lk * self.gains.k.sqrt();
        let q_norm = self.normalize(&self.q_norm, &mut q, x, stream)?;
        let k_norm = self.normalize(&self.k_norm, &mut k, x, stream)?;
        let scores = &q * k.columns(0, q.ncols()).transpose() / (width as f64).sqrt();
        let kq = &q * q.transpose() / width as f64;
        let kk = &k * k.transpose() / width as f64;
        Ok(Member { a: self.mask(scores), x: x.clone(), v, kq, kk, q_norm, k_norm, v_norm })
    }

    /// Applies an inner norm to a head's rows: one that only scales tokens by its own rule on their realised Gram, another
    /// by its linear response to the expected one, with the rest drawn afresh.
    fn normalize(&self, norm: &Option<Inner>, rows: &mut Gram, x: &Gram, stream: &mut Stream) -> Result<Option<Pulls>> {
        let Some(norm) = norm else { return Ok(None) };
        let n = rows.nrows();
        if let Some(bend) = &norm.bend {
            scale_rows(rows, &bend.linear);
            *rows += &bend.rest * normal(n, rows.ncols(), stream);
            return Ok(Some(bend.pull.clone()));
        }
        let own = &*rows * rows.transpose() / rows.ncols() as f64;
        // Before the heads are split the others' coordinates count as well.
        let gram = (&own + x * (norm.gain * norm.others)) / (1.0 + norm.others);
        let response = norm.op.respond(&norm.site, &norm.realised(gram.clone()))?;
        let scale = |a: usize| match gram[(a, a)] {
            0.0 => 0.0,
            q => (response.output.gram[(a, a)] / q).max(0.0).sqrt(),
        };
        scale_rows(rows, &(0..n).map(scale).collect::<Vec<_>>());
        Ok(Some(response.pull.into()))
    }

    /// softmax over the keys that a query sees.
    fn mask(&self, mut scores: Gram) -> Gram {
        let t = scores.nrows();
        for a in 0..t {
            let seen = if self.causal { a + 1 } else { t };
            let most = (0..seen).map(|b| scores[(a, b)]).fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            for b in 0..t {
                let e = if b < seen { (scores[(a, b)] - most).exp() } else { 0.0 };
                scores[(a, b)] = e;
                sum += e;
            }
            scores.row_mut(a).unscale_mut(sum);
        }
        scores
    }
}

fn scale_rows(rows: &mut Gram, by: &[f64]) {
    for (mut row, by) in rows.row_iter_mut().zip(by) {
        row.scale_mut(*by);
    }
}

fn columns(left: Gram, right: Gram) -> Gram {
    let (n, l, r) = (left.nrows(), left.ncols(), right.ncols());
    let mut out = left.resize_horizontally(l + r, 0.0);
    out.view_mut((0, l), (n, r)).copy_from(&right);
    out
}
