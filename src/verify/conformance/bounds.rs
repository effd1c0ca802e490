//! Rounding bounds of norms, derived; u is the roundoff of the statistics, v that of storage (0 where they are one
//! type), h the additions that a summand meets, `gamma(k) = k u/(1 - k u)` (Higham 2002, Lemma 3.1).
//!
//! LayerNorm. The first pass errs in the mean by at most delta = gamma(h+1) mean|x|. With A = mean(c^2)/var for c = x - m,
//! m the computed mean, A - 1 is at most (delta/std)^2.
//!
//! Two passes: the sum of squares errs by A gamma(h+3) + (A - 1), and z by delta/std besides: `offset` below. This is
//! first order in the conditioning |mean|/std, and what any sound implementation keeps to; one pass, E x^2 - (E x)^2, is
//! second order in it and does not.
//!
//! Corrected (the kernels of this crate): A is at most 4 by construction, the corrected sum of squares errs by
//! A gamma(h+3) + 2 gamma(h+1) sqrt(A) + 2u (A-1) + u relatively, and the corrected mean by gamma(h+2) mean|c| <=
//! gamma(h+2) std sqrt(A). No conditioning but in A, where it is capped.
//!
//! Corrected from zero (the same on a GPU): A is `1 + mean^2/var` where the squares about 0 are kept, 4/3 at most. The mean of g z
//! is formed from those of g and of g c, and `c/std` is z and what is taken off again, sqrt(A - 1).

use candle_core::DType;

use super::exact::Dd;
use super::formula::Row;

/// How the statistics are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The mean, then squares about it.
    TwoPass,
    /// The same with both corrected by the sum of deviations.
    Corrected,
    /// The same about 0 where that is near enough to the mean.
    CorrectedFromZero,
}

/// Of one implementation at one width.
#[derive(Clone, Copy, Debug)]
pub struct Roundoff {
    pub algorithm: Algorithm,
    pub u: f64,
    /// Of a store; 0 where storage is the computed type.
    pub store: f64,
    pub h: usize,
    /// Smallest positive numbers of the computed and of the stored type.
    pub tiny: f64,
    pub tiny_stored: f64,
    /// Largest finite number stored.
    pub largest: f64,
}

/// Errors of the normalized row.
pub struct RowBound {
    /// Relative, of the inverse scale.
    pub inverse: f64,
    /// Absolute, of each z.
    pub z: Vec<f64>,
    /// The error of the mean that is taken off again, over the scale.
    pub lost: f64,
}

impl Roundoff {
    /// Of any two-pass implementation in storage of a type, statistics in f32 at least, sums in whatever order.
    /// `None` for a type that is no floating-point type of the kernels.
    pub fn any_order(dtype: DType, width: usize) -> Option<Roundoff> {
        let (single, double) = (f64::from(f32::EPSILON) / 2.0, f64::EPSILON / 2.0);
        let least: f64 = f32::from_bits(1).into();
        let (u, store, tiny, tiny_stored, largest) = match dtype {
            DType::F64 => (double, 0.0, f64::from_bits(1), f64::from_bits(1), f64::MAX),
            DType::F32 => (single, 0.0, least, least, f32::MAX.into()),
            DType::BF16 => (single, 1.0 / 256.0, least, half::bf16::from_bits(1).to_f64(), half::bf16::MAX.to_f64()),
            DType::F16 => (single, 1.0 / 2048.0, least, half::f16::from_bits(1).to_f64(), half::f16::MAX.to_f64()),
            _ => return None,
        };
        let h = width.saturating_sub(1);
        Some(Roundoff { algorithm: Algorithm::TwoPass, u, store, h, tiny, tiny_stored, largest })
    }

    pub fn gamma(&self, k: usize) -> f64 {
        let ku = k as f64 * self.u;
        if ku < 1.0 { ku / (1.0 - ku) } else { f64::INFINITY }
    }

    pub fn row(&self, row: &Row, centred: bool) -> RowBound {
        let (u, s) = (self.u, row.share);
        let deviations = match (centred, self.algorithm) {
            (false, _) => Deviations { variance: self.gamma(self.h + 2), shift: 0.0, lost: 0.0, offset: 0.0 },
            (true, Algorithm::TwoPass) => self.two_pass(row),
            (true, Algorithm::Corrected | Algorithm::CorrectedFromZero) => self.corrected(row),
        };
        let Deviations { variance, shift, lost, offset } = deviations;
        let under_root = s * variance + shift + (1.0 - s) * u + u * (1.0 + variance);
        let inverse = match under_root < 1.0 {
            true => 0.5 * under_root / (1.0 - under_root) + self.root() * (1.0 + under_root),
            false => f64::INFINITY,
        };
        // c and z may be subnormal; c is then multiplied by an inverse of at most 2 sqrt(d), the row's largest being 1/2.
        let lost_to_underflow = self.tiny * (2.0 + 2.0 * (row.z.len() as f64).sqrt());
        let of = |z: &Dd| {
            let z = z.abs();
            let before = z * inverse + (1.0 + inverse) * ((z + 2.0 * lost) * u * (1.0 + u) + offset);
            let rounded = if centred { u * (z + before) } else { 0.0 };
            // 0 times a scale of which nothing is known is 0 times infinity.
            let whole = before + rounded + lost_to_underflow;
            if whole.is_nan() { f64::INFINITY } else { whole }
        };
        RowBound { inverse, z: row.z.iter().map(of).collect(), lost }
    }

    /// Of 1/sqrt: a root and a division correctly rounded; of an implementation that is not ours, a reciprocal root of two
    /// units in the last place (CUDA's rsqrtf).
    fn root(&self) -> f64 {
        match self.algorithm {
            Algorithm::TwoPass => 4.0 * self.u,
            Algorithm::Corrected | Algorithm::CorrectedFromZero => 2.0 * self.u,
        }
    }

    /// A constant row has no deviation, but an offset all the same.
    fn two_pass(&self, row: &Row) -> Deviations {
        let offset = self.gamma(self.h + 1) * row.magnitude;
        let variance = self.gamma(self.h + 3);
        Deviations { variance, shift: offset * offset * (1.0 + variance), lost: offset, offset }
    }

    fn corrected(&self, row: &Row) -> Deviations {
        let (u, h, s) = (self.u, self.h, row.share);
        let a = self.spread(row.conditioning);
        let cross = 2.0 * self.gamma(h + 1) * (a * (a - 1.0)).sqrt();
        Deviations {
            variance: a * self.gamma(h + 3) + cross + 2.0 * u * (a - 1.0) + 2.0 * u,
            shift: 0.0,
            lost: (s * (a - 1.0)).sqrt(),
            offset: self.gamma(h + 2) * (s * a).sqrt(),
        }
    }

    /// A: how much larger the mean square about the computed mean is than the variance.
    fn spread(&self, conditioning: f64) -> f64 {
        if !conditioning.is_finite() {
            return 1.0;
        }
        // The kernel moves the mean where the computed quotient of lost and kept squares is above 3/4, or 1/4 about 0.
        let cap = |kept: f64| 1.0 / (kept - 1.5 * self.gamma(2 * self.h + 8));
        let offset = self.gamma(self.h + 1) * conditioning;
        let about_mean = (1.0 + offset * offset).min(cap(0.25));
        match self.algorithm {
            Algorithm::CorrectedFromZero => about_mean.max((1.0 + conditioning * conditioning).min(cap(0.75))),
            Algorithm::TwoPass | Algorithm::Corrected => about_mean,
        }
    }

    /// Of `z factor + bias`; `one_plus` where the factor was rounded when it was formed.
    pub fn output(&self, z: f64, dz: f64, factor: f64, y: f64, one_plus: bool) -> f64 {
        let formed = if one_plus { self.u * (z + dz) } else { 0.0 };
        let computed = factor.abs() * (dz + formed) * (1.0 + self.u) + self.u * y.abs();
        self.stored(y, computed) + 4.0 * self.tiny * (1.0 + factor.abs())
    }

    /// As `output`, where z, factor and their product are rounded to storage on the way.
    pub fn output_rounded_first(&self, z: f64, dz: f64, factor: f64, y: f64, one_plus: bool, bias: bool) -> f64 {
        let (u, v) = (self.u, self.store);
        let dz = dz * (1.0 + v) + v * z + self.tiny_stored;
        let formed = if one_plus { (u + v) * (1.0 + u) * (z + dz) } else { 0.0 };
        let product = factor.abs() * z;
        let mut computed = factor.abs() * (dz + formed) * (1.0 + u) + u * product;
        if bias {
            computed = computed * (1.0 + v) + v * product + self.tiny_stored + u * y.abs() * (1.0 + u);
        }
        self.stored(y, computed * (1.0 + u)) + 4.0 * self.tiny * (1.0 + factor.abs())
    }

    fn stored(&self, value: f64, computed: f64) -> f64 {
        computed * (1.0 + self.store) + self.store * value.abs() + self.tiny_stored
    }

    /// Of dx, `g` the exact factor times dy; `by` says how that is formed.
    pub fn cotangent(&self, row: &Row, of: &RowBound, g: &[Dd], centred: bool, by: Product, dx: &[Dd]) -> Vec<f64> {
        let n = g.len() as f64;
        let formed = by.roundings;
        // Of each g, to storage; the rounding of a product of rounded numbers is second order but counted.
        let kept = by.stores as f64 * self.store * (1.0 + by.stores as f64 * self.store);
        let inverse = row.inverse.abs();
        let pairs = || g.iter().zip(&row.z).zip(&of.z).map(|((g, z), dz)| (g.abs(), z.abs(), *dz));
        let mean_g = pairs().map(|(g, _, _)| g).sum::<f64>() / n;
        let mean_gz = pairs().map(|(g, z, _)| g * z).sum::<f64>() / n;
        let mean_gdz = pairs().map(|(g, _, dz)| g * dz).sum::<f64>() / n;
        let signed = |f: &dyn Fn(usize) -> f64| (0..g.len()).map(f).sum::<f64>() / n;
        let (one, along) = (signed(&|i| g[i].0).abs(), signed(&|i| (g[i] * row.z[i]).0).abs());
        let d_one = if centred { (self.gamma(self.h + 1 + formed) + kept) * mean_g } else { 0.0 };
        // Of the mean of g z formed from those of g and g c: more roundings, what is taken off, what underflows.
        let (more, taken_off, lost) = match self.algorithm {
            Algorithm::CorrectedFromZero => (2, 2.0 * of.lost * mean_g, self.tiny * inverse),
            Algorithm::TwoPass | Algorithm::Corrected => (0, 0.0, 0.0),
        };
        let d_along =
            (self.gamma(self.h + 2 + more + formed) + kept) * (mean_gz + mean_gdz + taken_off) + mean_gdz + lost;
        let each = pairs().zip(dx).map(|((g, z, dz), dx)| {
            let subtracted = if centred { self.u * (g + one) } else { 0.0 };
            let factors = (self.gamma(formed) + kept) * g + d_one + subtracted + z * d_along + dz * (along + d_along);
            let inner = factors * (1.0 + self.u) + self.u * (g + one + z * along);
            let scaled = inverse * inner * (1.0 + of.inverse + 2.0 * self.u);
            let computed = scaled + dx.abs() * (of.inverse + self.u) * (1.0 + self.u);
            // The z that is multiplied may be a little off, the means of tiny products entirely.
            self.stored(dx.abs(), computed) + 8.0 * self.tiny * (1.0 + inverse * (1.0 + z))
        });
        each.collect()
    }

    /// Of a sum over `rows` in chunks of 64 merged by a tree: the additions a row's term meets.
    pub fn over_rows(&self, rows: usize, chunk: usize, magnitude: f64, of_terms: f64, value: f64) -> f64 {
        let tree = rows.div_ceil(chunk).next_power_of_two().ilog2() as usize;
        let computed = self.gamma(rows.min(chunk) + tree) * (magnitude + of_terms) + of_terms;
        self.stored(value, computed) + rows as f64 * self.tiny
    }
}

/// The roundings of `factor dy` in a backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// To the type computed in: 1, and 1 more where 1 + w is formed.
    pub roundings: usize,
    /// To storage: 0 where arithmetic is wider.
    pub stores: usize,
}

/// Errors of a centred row before the root.
struct Deviations {
    /// Relative, of the variance.
    variance: f64,
    /// Of the variance, relative to it with eps: what an error of the mean adds.
    shift: f64,
    /// The error of the mean that is taken off again, over the scale.
    lost: f64,
    /// The error of the mean that stays, over the scale.
    offset: f64,
}
