//! A seeded ensemble of single heads on realised token Grams, drawn again whenever it is asked for.
//!
//! Given the token Gram K, a head's q and k rows are Gaussian with Grams gq^2 K and gk^2 K; K itself is the realised
//! Gram of vectors with finitely many coordinates. Members come in pairs that share the realised Gram, so that what
//! varies between heads can be told from what varies between Grams; eight pairs are drawn at once, side by side.

use std::rc::Rc;

use crate::error::Result;
use crate::op::attention::InnerNorms;
use crate::op::attention::moments::draw::{bartlett, normal};
use crate::op::attention::moments::inner::{Inner, Pulls};
use crate::op::attention::moments::octet::{Eight, LANES, Octet, eight, sum};
use crate::op::gaussian::{cholesky, correlation, symmetric};
use crate::op::{Gram, Moments, Site, Stage};
use crate::random::{Stream, name_key};
use crate::spec::Shape;

const SEED: u64 = 0x5eed;
/// Members at most, and at least; between them their number falls with the network's T^3 N.
const MOST: usize = 1024;
const LEAST: usize = 2 * LANES;
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

/// How many members every call of a network of this shape gets: whole octets of pairs.
pub fn members(shape: &Shape) -> usize {
    let work = shape.blocks as f64 * ((shape.tokens as f64).powi(3) + OVERHEAD);
    ((BUDGET / work) as usize).clamp(LEAST, MOST) / LEAST * LEAST
}

/// Eight heads with the realised Grams that they meet.
pub struct Heads {
    /// softmax(q k^T / sqrt(d_k)), rows sum to 1.
    pub a: Octet,
    /// The realised input Grams.
    pub x: Rc<Octet>,
    /// The realised Grams of the values, behind their norm.
    pub v: Octet,
    /// Of queries and keys, behind their norms.
    pub kq: Octet,
    pub kk: Octet,
    pub q_norm: Option<[Pulls; LANES]>,
    pub k_norm: Option<[Pulls; LANES]>,
    pub v_norm: Option<[Pulls; LANES]>,
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
        self.uniform.then(|| self.mask(Octet::zeros(t, t)).lane(0))
    }

    /// Calls `see` with eight pairs of members at a time; a pair shares a realised Gram. The same members each time.
    pub fn each(&self, mut see: impl FnMut([Heads; 2])) -> Result<()> {
        for first in (0..self.members / 2).step_by(LANES) {
            let [stage, index, name] = self.key;
            let mut streams: [Stream; LANES] =
                std::array::from_fn(|lane| Stream::new(SEED, &[stage, index, name, (first + lane) as u64]));
            let rows = self.rows(&mut streams);
            let x = Rc::new(rows.gram());
            see([self.heads(&rows, &x, &mut streams)?, self.heads(&rows, &x, &mut streams)?]);
        }
        Ok(())
    }

    /// Realised token vectors R in a basis of their own, R R^T their Gram.
    ///
    /// A Gaussian's lengths vary by 2/nu; those of the input by `spread`: rows are scaled toward their expected length by the
    /// power that leaves that much, and what is beyond a Gaussian's is common to all tokens.
    fn rows(&self, streams: &mut [Stream; LANES]) -> Octet {
        let t = self.factor.nrows();
        let drawn = Octet::of(|lane| bartlett(t, self.freedom, &mut streams[lane]));
        let mut rows = &Octet::splat(&self.factor) * &drawn * (1.0 / self.freedom.sqrt());
        let left = (self.spread * self.freedom / 2.0).min(1.0).sqrt();
        let scale = |(root, square): (&f64, Eight)| {
            square.map(|square| if square > 0.0 { (root / square.sqrt()).powf(1.0 - left) } else { 1.0 })
        };
        let scales: Vec<Eight> = self.roots.iter().zip(rows.row_products(&rows)).map(scale).collect();
        rows.scale_rows(&scales);
        let beyond = (1.0 + (self.spread - 2.0 / self.freedom).max(0.0)).ln();
        if beyond <= 0.0 {
            return rows;
        }
        rows.scaled(eight(|lane| (0.5 * (beyond.sqrt() * streams[lane].normal() - beyond / 2.0)).exp()))
    }

    fn heads(&self, rows: &Octet, x: &Rc<Octet>, streams: &mut [Stream; LANES]) -> Result<Heads> {
        let (t, width) = (rows.columns(), self.head_width);
        let normals =
            |columns: usize, streams: &mut [Stream; LANES]| Octet::of(|lane| normal(t, columns, &mut streams[lane]));
        let per_coordinate = 1.0 / width as f64;
        let (v, v_norm) = match &self.v_norm {
            None => (x.as_ref().clone() * self.gains.v, None),
            Some(_) => {
                let mut v = rows * &normals(width, streams) * self.gains.v.sqrt();
                let pulls = self.normalize(&self.v_norm, &mut v, x, streams)?;
                (v.gram() * per_coordinate, pulls)
            }
        };
        if let Some(a) = self.fixed() {
            let (a, x) = (Octet::splat(&a), x.clone());
            let [kq, kk] = [0; 2].map(|_| x.as_ref().clone());
            return Ok(Heads { a, x, v, kq, kk, q_norm: None, k_norm: None, v_norm });
        }
        // With a norm that bends vectors, coordinates matter; else only inner products, in a basis that starts in q's span.
        let (lq, lk) = match self.q_norm {
            Some(_) => (normals(width, streams), normals(width, streams)),
            None => {
                let span = t.min(width);
                let lq = Octet::of(|lane| bartlett(t, width as f64, &mut streams[lane]));
                let along = normals(span, streams);
                let beyond = Octet::of(|lane| bartlett(t, (width - span) as f64, &mut streams[lane]));
                (lq, along.beside(beyond))
            }
        };
        let mut q = rows * &lq * self.gains.q.sqrt();
        let mut k = rows * &lk * self.gains.k.sqrt();
        let q_norm = self.normalize(&self.q_norm, &mut q, x, streams)?;
        let k_norm = self.normalize(&self.k_norm, &mut k, x, streams)?;
        let (kq, kk) = (q.gram() * per_coordinate, k.gram() * per_coordinate);
        let scores = &q * &k.first_columns(q.columns()).transpose() * (1.0 / (width as f64).sqrt());
        Ok(Heads { a: self.mask(scores), x: x.clone(), v, kq, kk, q_norm, k_norm, v_norm })
    }

    /// Applies an inner norm to heads' rows: one that only scales tokens by its own rule on their realised Gram, another
    /// by its linear response to the expected one, with the rest drawn afresh.
    fn normalize(
        &self,
        norm: &Option<Inner>,
        rows: &mut Octet,
        x: &Octet,
        streams: &mut [Stream; LANES],
    ) -> Result<Option<[Pulls; LANES]>> {
        let Some(norm) = norm else { return Ok(None) };
        let (n, columns) = (rows.rows(), rows.columns());
        if let Some(bend) = &norm.bend {
            rows.scale_rows(&bend.linear.iter().map(|by| [*by; LANES]).collect::<Vec<_>>());
            *rows += &(&Octet::splat(&bend.rest) * &Octet::of(|lane| normal(n, columns, &mut streams[lane])));
            return Ok(Some([0; LANES].map(|_| bend.pull.clone())));
        }
        let own = rows.gram() * (1.0 / columns as f64);
        // Before the heads are split the others' coordinates count as well.
        let grams = (own + &(x.clone() * (norm.gain * norm.others))) * (1.0 / (1.0 + norm.others));
        let mut scales = vec![[0.0; LANES]; n];
        let mut pulls = Vec::with_capacity(LANES);
        for lane in 0..LANES {
            let gram = grams.lane(lane);
            let response = norm.op.respond(&norm.site, &norm.realised(gram.clone()))?;
            for (a, scale) in scales.iter_mut().enumerate().filter(|(a, _)| gram[(*a, *a)] != 0.0) {
                scale[lane] = (response.output.gram[(a, a)] / gram[(a, a)]).max(0.0).sqrt();
            }
            pulls.push(Pulls::from(response.pull));
        }
        rows.scale_rows(&scales);
        Ok(pulls.try_into().ok())
    }

    /// softmax over the keys that a query sees.
    fn mask(&self, mut scores: Octet) -> Octet {
        let t = scores.rows();
        let seen = |a: usize| if self.causal { a + 1 } else { t };
        for a in 0..t {
            let mut most = [f64::NEG_INFINITY; LANES];
            for b in 0..seen(a) {
                most = eight(|lane| most[lane].max(scores[(a, b)][lane]));
            }
            for b in 0..t {
                let below = eight(|lane| scores[(a, b)][lane] - most[lane]);
                scores[(a, b)] = if b < seen(a) { below } else { [f64::NEG_INFINITY; LANES] };
            }
        }
        let mut weights = scores.exp();
        let sums: Vec<Eight> = (0..t).map(|a| sum((0..t).map(|b| &weights[(a, b)]))).collect();
        weights.scale_rows(&sums.iter().map(|sum| sum.map(|x| 1.0 / x)).collect::<Vec<_>>());
        weights
    }
}
