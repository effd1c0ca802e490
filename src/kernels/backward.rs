//! The cotangents of the rows, the gain and the bias.
//!
//! With `g = gain dy` and z the normalized row: `dx = (g - mean(g) - z mean(g z)) inverse scale`, without `mean(g)` where
//! nothing is centred; `dgain = sum of dy z` and `dbias = sum of dy` over rows.

use super::dispatch::Task;
use super::forward::{normalized, normalized_one};
use super::lanes::{LANES, Lanes, Real, Terms, at, at_mut, sum};
use super::registers::{Machine, fence, prefetch};
use super::statistics::Statistics;
use super::storage::Storage;

/// Rows to pull back, at most a chunk of them; all slices hold whole rows of `gain.len()` elements.
pub struct Backward<'a, S: Storage> {
    pub x: &'a [S],
    pub dy: &'a [S],
    /// What else the row's cotangent has: that of the sum which a residual norm gives beside its output.
    pub dsum: Option<&'a [S]>,
    pub gain: &'a [S::Real],
    pub centred: bool,
    pub eps: f64,
    /// What the forward pass found; computed again where absent.
    pub statistics: Option<&'a [Statistics<S::Real>]>,
    /// Whether dx is written past the caches.
    pub past: bool,
    pub dx: &'a mut [S],
    /// `sum of dy z`, then `sum of dy`, over these rows in their order; added to.
    pub strip: &'a mut Strip<S::Real>,
}

/// Partial gradients of gain and bias.
#[derive(Clone, Debug)]
pub struct Strip<T> {
    pub gain: Vec<T>,
    pub bias: Vec<T>,
}

impl<T: Real> Strip<T> {
    pub fn zeros(width: usize) -> Self {
        Strip { gain: vec![T::ZERO; width], bias: vec![T::ZERO; width] }
    }

    /// Adds another strip, that of later rows.
    pub fn merge(&mut self, later: &Strip<T>) {
        for (sum, more) in [(&mut self.gain, &later.gain), (&mut self.bias, &later.bias)] {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += *more);
        }
    }
}

impl<S: Storage> Task for Backward<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        match (self.centred, self.gain.len(), self.dsum) {
            (true, NARROW, None) => self.narrow::<M, true>(),
            (false, NARROW, None) => self.narrow::<M, false>(),
            (true, ..) => self.rows::<M, true>(),
            (false, ..) => self.rows::<M, false>(),
        }
    }
}

/// A width at which a row, its gain and its strip fit the registers.
const NARROW: usize = 2 * LANES;

impl<S: Storage> Backward<'_, S> {
    #[inline(always)]
    fn rows<M: Machine, const CENTRED: bool>(self) {
        let width = self.gain.len();
        for (r, dx) in self.dx.chunks_exact_mut(width).enumerate() {
            let row = r * width..(r + 1) * width;
            let (x, dy) = (&self.x[row.clone()], &self.dy[row.clone()]);
            let statistics = match self.statistics {
                Some(kept) => kept[r],
                None => Statistics::of::<M, S, CENTRED>(x, self.eps),
            };
            let next = [&self.x[row.end..], &self.dy[row.end..]];
            let back = Row::<S, CENTRED> { x, dy, next, gain: self.gain, statistics, past: self.past };
            match self.dsum {
                Some(dsum) => back.write::<M, true>(dx, self.strip, &dsum[row]),
                None => back.write::<M, false>(dx, self.strip, dy),
            }
        }
        if self.past {
            fence();
        }
    }
}

impl<S: Storage> Backward<'_, S> {
    /// As `rows` at [`NARROW`], operation for operation; what `rows` reads and writes again stays in registers here.
    #[inline(always)]
    fn narrow<M: Machine, const CENTRED: bool>(self) {
        let n = S::Real::of(NARROW as f64);
        let zero = <S::Real as Real>::Lanes::<M>::splat(S::Real::ZERO);
        let gain = [Lanes::load(at(self.gain, 0)), Lanes::load(at(self.gain, LANES))];
        let mut dgain = [Lanes::load(at(&self.strip.gain, 0)), Lanes::load(at(&self.strip.gain, LANES))];
        let mut dbias = [Lanes::load(at(&self.strip.bias, 0)), Lanes::load(at(&self.strip.bias, LANES))];
        let rows = self.x.chunks_exact(NARROW).zip(self.dy.chunks_exact(NARROW));
        for (r, (dx, (x, dy))) in self.dx.chunks_exact_mut(NARROW).zip(rows).enumerate() {
            let s = match self.statistics {
                Some(kept) => kept[r],
                None => Statistics::of::<M, S, CENTRED>(x, self.eps),
            };
            let dy = [S::load::<M>(at(dy, 0)), S::load::<M>(at(dy, LANES))];
            let x = [S::load::<M>(at(x, 0)), S::load::<M>(at(x, LANES))];
            let z = [normalized::<_, _, CENTRED>(x[0], &s), normalized::<_, _, CENTRED>(x[1], &s)];
            let g = [dy[0].mul(gain[0]), dy[1].mul(gain[1])];
            // The order of `sum`, its zeros among it: they make a negative zero positive.
            let mean = if CENTRED { zero.add(zero.add(g[0]).add(g[1])).sum() / n } else { S::Real::ZERO };
            let along = zero.add(g[1].fma(z[1], g[0].fma(z[0], zero))).sum() / n;
            for k in 0..2 {
                let g = if CENTRED { g[k].sub(Lanes::splat(mean)) } else { g[k] };
                let out = z[k].minus(Lanes::splat(along), g).mul(Lanes::splat(s.inverse)).mul(Lanes::splat(s.scale));
                S::stream::<M>(out, at_mut(dx, k * LANES), self.past);
                dgain[k] = dy[k].fma(z[k], dgain[k]);
                if CENTRED {
                    dbias[k] = dy[k].add(dbias[k]);
                }
            }
        }
        for k in 0..2 {
            dgain[k].store(at_mut(&mut self.strip.gain, k * LANES));
            dbias[k].store(at_mut(&mut self.strip.bias, k * LANES));
        }
        if self.past {
            fence();
        }
    }
}

struct Row<'a, S: Storage, const CENTRED: bool> {
    x: &'a [S],
    dy: &'a [S],
    /// What follows x and dy, asked for while dx is written.
    next: [&'a [S]; 2],
    gain: &'a [S::Real],
    statistics: Statistics<S::Real>,
    past: bool,
}

impl<S: Storage, const CENTRED: bool> Row<'_, S, CENTRED> {
    /// mean(g), 0 where nothing is centred, and mean(g z).
    #[inline(always)]
    fn means<M: Machine>(&self) -> (S::Real, S::Real) {
        let n = S::Real::of(self.x.len() as f64);
        if CENTRED {
            let [g, gz] = sum::<M, _, 2, _>(self.x.len(), self);
            (g / n, gz / n)
        } else {
            let [gz] = sum::<M, _, 1, _>(self.x.len(), self);
            (S::Real::ZERO, gz / n)
        }
    }

    /// dx, plus `more` where the row's sum was an output, too; and this row's share of the strip.
    #[inline(always)]
    fn write<M: Machine, const MORE: bool>(&self, dx: &mut [S], strip: &mut Strip<S::Real>, more: &[S]) {
        let (mean, along) = self.means::<M>();
        let s = self.statistics;
        let (dgain, dbias) = (&mut strip.gain[..dx.len()], &mut strip.bias[..dx.len()]);
        let mut from = 0;
        while from + LANES <= dx.len() {
            let dy = S::load::<M>(at(self.dy, from));
            let z = normalized::<_, _, CENTRED>(S::load::<M>(at(self.x, from)), &s);
            let g = dy.mul(Lanes::load(at(self.gain, from)));
            let g = if CENTRED { g.sub(Lanes::splat(mean)) } else { g };
            let mut out = z.minus(Lanes::splat(along), g).mul(Lanes::splat(s.inverse)).mul(Lanes::splat(s.scale));
            if MORE {
                out = out.add(S::load::<M>(at(more, from)));
            }
            S::stream::<M>(out, at_mut(dx, from), self.past);
            let dgain = at_mut(dgain, from);
            dy.fma(z, Lanes::load(dgain)).store(dgain);
            if CENTRED {
                let dbias = at_mut(dbias, from);
                dy.add(Lanes::load(dbias)).store(dbias);
            }
            prefetch(self.next[0], from);
            prefetch(self.next[1], from);
            from += LANES;
        }
        for i in from..dx.len() {
            let dy = self.dy[i].widen();
            let z = normalized_one::<_, CENTRED>(self.x[i].widen(), &s);
            let g = dy * self.gain[i];
            let g = if CENTRED { g - mean } else { g };
            let out = (-z).fma(along, g) * s.inverse * s.scale;
            dx[i] = S::narrow(if MORE { out + more[i].widen() } else { out });
            dgain[i] = dy.fma(z, dgain[i]);
            if CENTRED {
                dbias[i] += dy;
            }
        }
    }

    /// g and g z of 32 elements.
    #[inline(always)]
    fn terms<M: Machine>(&self, from: usize) -> [<S::Real as Real>::Lanes<M>; 2] {
        let g = S::load::<M>(at(self.dy, from)).mul(Lanes::load(at(self.gain, from)));
        [g, normalized::<_, _, CENTRED>(S::load::<M>(at(self.x, from)), &self.statistics)]
    }

    #[inline(always)]
    fn terms_one(&self, i: usize) -> [S::Real; 2] {
        let z = normalized_one::<_, CENTRED>(self.x[i].widen(), &self.statistics);
        [self.dy[i].widen() * self.gain[i], z]
    }
}

/// Sums of g and of g z.
impl<M: Machine, S: Storage, const CENTRED: bool> Terms<M, S::Real, 2> for Row<'_, S, CENTRED> {
    #[inline(always)]
    fn full(&self, [one, along]: [<S::Real as Real>::Lanes<M>; 2], from: usize) -> [<S::Real as Real>::Lanes<M>; 2] {
        let [g, z] = self.terms::<M>(from);
        [one.add(g), g.fma(z, along)]
    }

    #[inline(always)]
    fn one(&self, [one, along]: [S::Real; 2], i: usize) -> [S::Real; 2] {
        let [g, z] = self.terms_one(i);
        [one + g, g.fma(z, along)]
    }
}

/// The sum of g z.
impl<M: Machine, S: Storage, const CENTRED: bool> Terms<M, S::Real, 1> for Row<'_, S, CENTRED> {
    #[inline(always)]
    fn full(&self, [along]: [<S::Real as Real>::Lanes<M>; 1], from: usize) -> [<S::Real as Real>::Lanes<M>; 1] {
        let [g, z] = self.terms::<M>(from);
        [g.fma(z, along)]
    }

    #[inline(always)]
    fn one(&self, [along]: [S::Real; 1], i: usize) -> [S::Real; 1] {
        let [g, z] = self.terms_one(i);
        [g.fma(z, along)]
    }
}
