//! Sums over a row in one fixed order, whatever the width of the machine's registers.
//!
//! A row is dealt to 32 virtual lanes; a block of 1024 elements is summed lane by lane, block sums are added lane by
//! lane, and a binary tree adds the lanes. No summand meets more than [`additions`] additions.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::exponential;
use super::registers::Machine;

/// Virtual lanes: four AVX2 registers of f32, two of AVX-512, eight of SSE2.
pub const LANES: usize = 32;
/// Elements of a block, a multiple of [`LANES`].
const BLOCK: usize = 1024;

/// The type in which statistics are computed: f32 or f64.
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// 32 numbers in a machine's registers.
    type Lanes<M: Machine>: Lanes<Self>;
    const ZERO: Self;
    const ONE: Self;
    /// A mean square below this may have lost squares to underflow: 2^20 times u^-1 times the smallest normal number.
    const TINY: Self;
    /// Largest exponent of a power of two of which the inverse is normal, too.
    const EXPONENT: i32;
    fn of(x: f64) -> Self;
    fn wide(self) -> f64;
    fn fma(self, by: Self, plus: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn exp(self) -> Self;
    fn erf(self) -> Self;
    fn is_finite(self) -> bool;
}

macro_rules! real {
    ($t:ty, $lanes:ident, $exp:path, $erf:path, $tiny:expr, $exponent:expr) => {
        impl Real for $t {
            type Lanes<M: Machine> = M::$lanes;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const TINY: Self = $tiny;
            const EXPONENT: i32 = $exponent;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn fma(self, by: Self, plus: Self) -> Self {
                self.mul_add(by, plus)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}

// 2^-82 and 2^-949: 20 + 24 - 126, 20 + 53 - 1022.
real!(f32, F32, exponential::exp, libm::erff, f32::from_bits((127 - 82) << 23), 126);
real!(f64, F64, f64::exp, libm::erf, f64::from_bits((1023 - 949) << 52), 1022);

/// 32 numbers, one a lane, and arithmetic on each lane.
pub trait Lanes<T: Real>: Copy {
    fn splat(x: T) -> Self;
    fn load(from: &[T; LANES]) -> Self;
    fn store(self, to: &mut [T; LANES]);
    /// As `store`, past the caches where the machine can.
    #[inline(always)]
    fn stream(self, to: &mut [T; LANES]) {
        self.store(to);
    }
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self by + plus`, rounded once.
    fn fma(self, by: Self, plus: Self) -> Self;
    /// `self by - minus`, rounded once.
    fn fms(self, by: Self, minus: Self) -> Self;
    /// `plus - self by`, rounded once.
    fn minus(self, by: Self, plus: Self) -> Self;

    #[inline(always)]
    fn array(self) -> [T; LANES] {
        let mut out = [T::ZERO; LANES];
        self.store(&mut out);
        out
    }

    /// The sum of all lanes, by a binary tree: lane l and l + 16, then l + 8, 4, 2, 1.
    fn sum(self) -> T;
}

/// The tree's last three levels.
#[inline(always)]
pub fn tree_of_eight<T: Real>(b: [T; 8]) -> T {
    let c = [b[0] + b[4], b[1] + b[5], b[2] + b[6], b[3] + b[7]];
    (c[0] + c[2]) + (c[1] + c[3])
}

/// The terms of `K` sums over a row.
pub trait Terms<M: Machine, T: Real, const K: usize> {
    /// Adds the terms of the elements `at..at + 32`.
    fn full(&self, sums: [T::Lanes<M>; K], at: usize) -> [T::Lanes<M>; K];
    /// Adds the terms of one element.
    fn one(&self, sums: [T; K], at: usize) -> [T; K];
}

/// `K` sums over `n` elements, in the order of this module.
#[inline(always)]
pub fn sum<M: Machine, T: Real, const K: usize, F: Terms<M, T, K>>(n: usize, terms: &F) -> [T; K] {
    let zero = [T::Lanes::<M>::splat(T::ZERO); K];
    let mut totals = zero;
    let mut at = 0;
    while at < n {
        let end = n.min(at + BLOCK);
        let mut sums = zero;
        while at + LANES <= end {
            sums = terms.full(sums, at);
            at += LANES;
        }
        if at < end {
            sums = rest(sums, at..end, terms);
            at = end;
        }
        for k in 0..K {
            totals[k] = totals[k].add(sums[k]);
        }
    }
    let mut out = [T::ZERO; K];
    for k in 0..K {
        out[k] = totals[k].sum();
    }
    out
}

/// A row's last elements, fewer than 32, go to the first lanes.
#[inline(always)]
fn rest<M: Machine, T: Real, const K: usize, F: Terms<M, T, K>>(
    sums: [T::Lanes<M>; K],
    elements: std::ops::Range<usize>,
    terms: &F,
) -> [T::Lanes<M>; K] {
    let mut arrays = [[T::ZERO; LANES]; K];
    for k in 0..K {
        sums[k].store(&mut arrays[k]);
    }
    for (l, at) in elements.enumerate() {
        let mut lane = [T::ZERO; K];
        for k in 0..K {
            lane[k] = arrays[k][l];
        }
        lane = terms.one(lane, at);
        for k in 0..K {
            arrays[k][l] = lane[k];
        }
    }
    let mut out = sums;
    for k in 0..K {
        out[k] = T::Lanes::<M>::load(&arrays[k]);
    }
    out
}

/// The largest number of additions that a summand of a row of `n` elements meets: `h` of the rounding bounds.
pub fn additions(n: usize) -> usize {
    let in_lane = n.min(BLOCK).div_ceil(LANES).saturating_sub(1);
    in_lane + n.div_ceil(BLOCK).saturating_sub(1) + LANES.ilog2() as usize
}

/// 32 elements from `at`; the caller's loop keeps within the row.
#[inline(always)]
pub fn at<S>(row: &[S], at: usize) -> &[S; LANES] {
    row[at..at + LANES].first_chunk().expect("the slice has this length")
}

/// As [`at`], to be written.
#[inline(always)]
pub fn at_mut<S>(row: &mut [S], at: usize) -> &mut [S; LANES] {
    row[at..at + LANES].first_chunk_mut().expect("the slice has this length")
}
