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
            (true, NARROW, None) if self.past => self.narrow::<M, true, true>(),
            (false, NARROW, None) if self.past => self.narrow::<M, false, true>(),
            (true, NARROW, None) => self.narrow::<M, true, false>(),
            (false, NARROW, None) => self.narrow::<M, false, false>(),
            (true, ..) => self.rows::<M, true>(),
            (false, ..) => self.rows::<M, false>(),
        }
    }
}

/// A width at which a row, its gain and its strip fit the registers.
const NARROW: usize = 2 * LANES;

impl<'a, S: Storage> Backward<'a, S> {
    /// Two rows at a time where they are written past the caches: they share a reading of the gain, and a reading and a
    /// writing of the strip. Stores to two rows that are fetched first would wait for each other.
    #[inline(always)]
    fn rows<M: Machine, const CENTRED: bool>(mut self) {
        let rows = self.dx.len() / self.gain.len();
        let paired = if self.past { rows - rows % 2 } else { 0 };
        for r in (0..paired).step_by(2) {
            let pair = [self.row::<M, CENTRED>(r), self.row::<M, CENTRED>(r + 1)];
            match self.dsum {
                Some(_) => self.pair::<M, CENTRED, true>(r, pair),
                None => self.pair::<M, CENTRED, false>(r, pair),
            }
        }
        for r in paired..rows {
            let row = self.row::<M, CENTRED>(r);
            match self.dsum {
                Some(_) => self.single::<M, CENTRED, true>(r, row),
                None => self.single::<M, CENTRED, false>(r, row),
            }
        }
        if self.past {
            fence();
        }
    }

    /// A row and its means.
    #[inline(always)]
    fn row<M: Machine, const CENTRED: bool>(&self, r: usize) -> Row<'a, S, CENTRED> {
        let width = self.gain.len();
        let (x, dy) = (&self.x[r * width..][..width], &self.dy[r * width..][..width]);
        let more = self.dsum.map_or(&x[..0], |dsum| &dsum[r * width..][..width]);
        let statistics = match self.statistics {
            Some(kept) => kept[r],
            None => Statistics::of::<M, S, CENTRED>(x, self.eps),
        };
        let next = [self.x, self.dy].map(|all| all.get((r + 2) * width..).unwrap_or_default());
        let row = Row { x, dy, more, next, gain: self.gain, statistics, means: [S::Real::ZERO; 2] };
        Row { means: row.means::<M>(), ..row }
    }

    #[inline(always)]
    fn pair<M: Machine, const CENTRED: bool, const MORE: bool>(
        &mut self,
        r: usize,
        [one, two]: [Row<'_, S, CENTRED>; 2],
    ) {
        let width = self.gain.len();
        let (first, second) = self.dx[r * width..][..2 * width].split_at_mut(width);
        let (gain, dgain, dbias) = (self.gain, &mut self.strip.gain[..width], &mut self.strip.bias[..width]);
        let mut from = 0;
        while from + LANES <= width {
            let gain = Lanes::load(at(gain, from));
            let (dgain, dbias) = (at_mut(dgain, from), at_mut(dbias, from));
            let strip = [Lanes::load(dgain), Lanes::load(dbias)];
            let strip = one.step::<M, MORE>(from, gain, strip, first, true);
            let strip = two.step::<M, MORE>(from, gain, strip, second, true);
            strip[0].store(dgain);
            if CENTRED {
                strip[1].store(dbias);
            }
            from += LANES;
        }
        one.rest::<MORE>(from, self.strip, first);
        two.rest::<MORE>(from, self.strip, second);
    }

    #[inline(always)]
    fn single<M: Machine, const CENTRED: bool, const MORE: bool>(&mut self, r: usize, row: Row<'_, S, CENTRED>) {
        let width = self.gain.len();
        let dx = &mut self.dx[r * width..][..width];
        let (gain, dgain, dbias) = (self.gain, &mut self.strip.gain[..width], &mut self.strip.bias[..width]);
        let mut from = 0;
        while from + LANES <= width {
            let (dgain, dbias) = (at_mut(dgain, from), at_mut(dbias, from));
            let strip = [Lanes::load(dgain), Lanes::load(dbias)];
            let strip = row.step::<M, MORE>(from, Lanes::load(at(gain, from)), strip, dx, false);
            strip[0].store(dgain);
            if CENTRED {
                strip[1].store(dbias);
            }
            from += LANES;
        }
        row.rest::<MORE>(from, self.strip, dx);
    }
}

impl<S: Storage> Backward<'_, S> {
    /// As `rows` at [`NARROW`], operation for operation; what `rows` reads and writes again stays in registers here.
    #[inline(always)]
    fn narrow<M: Machine, const CENTRED: bool, const PAST: bool>(self) {
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
                S::stream::<M>(out, at_mut(dx, k * LANES), PAST);
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
        if PAST {
            fence();
        }
    }
}

#[derive(Clone, Copy)]
struct Row<'a, S: Storage, const CENTRED: bool> {
    x: &'a [S],
    dy: &'a [S],
    /// Added to dx where the row's sum was an output, too; else empty.
    more: &'a [S],
    /// What later rows read, asked for while dx is written.
    next: [&'a [S]; 2],
    gain: &'a [S::Real],
    statistics: Statistics<S::Real>,
    /// mean(g), 0 where nothing is centred, and mean(g z).
    means: [S::Real; 2],
}

impl<S: Storage, const CENTRED: bool> Row<'_, S, CENTRED> {
    #[inline(always)]
    fn means<M: Machine>(&self) -> [S::Real; 2] {
        let n = S::Real::of(self.x.len() as f64);
        if CENTRED {
            let [g, gz] = sum::<M, _, 2, _>(self.x.len(), self);
            [g / n, gz / n]
        } else {
            let [gz] = sum::<M, _, 1, _>(self.x.len(), self);
            [S::Real::ZERO, gz / n]
        }
    }

    /// dx of 32 elements; the strip's 32 sums of dy z and of dy, with this row's added.
    #[inline(always)]
    fn step<M: Machine, const MORE: bool>(
        &self,
        from: usize,
        gain: <S::Real as Real>::Lanes<M>,
        [along_z, plain]: [<S::Real as Real>::Lanes<M>; 2],
        dx: &mut [S],
        past: bool,
    ) -> [<S::Real as Real>::Lanes<M>; 2] {
        let (s, [mean, along]) = (self.statistics, self.means);
        let dy = S::load::<M>(at(self.dy, from));
        let z = normalized::<_, _, CENTRED>(S::load::<M>(at(self.x, from)), &s);
        let g = dy.mul(gain);
        let g = if CENTRED { g.sub(Lanes::splat(mean)) } else { g };
        let mut out = z.minus(Lanes::splat(along), g).mul(Lanes::splat(s.inverse)).mul(Lanes::splat(s.scale));
        if MORE {
            out = out.add(S::load::<M>(at(self.more, from)));
        }
        S::stream::<M>(out, at_mut(dx, from), past);
        prefetch(self.next[0], from);
        prefetch(self.next[1], from);
        [dy.fma(z, along_z), if CENTRED { dy.add(plain) } else { plain }]
    }

    /// As `step`, for the last elements, fewer than 32.
    #[inline(always)]
    fn rest<const MORE: bool>(&self, from: usize, strip: &mut Strip<S::Real>, dx: &mut [S]) {
        let (s, [mean, along]) = (self.statistics, self.means);
        for i in from..dx.len() {
            let dy = self.dy[i].widen();
            let z = normalized_one::<_, CENTRED>(self.x[i].widen(), &s);
            let g = dy * self.gain[i];
            let g = if CENTRED { g - mean } else { g };
            let out = (-z).fma(along, g) * s.inverse * s.scale;
            dx[i] = S::narrow(if MORE { out + self.more[i].widen() } else { out });
            strip.gain[i] = dy.fma(z, strip.gain[i]);
            if CENTRED {
                strip.bias[i] += dy;
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
