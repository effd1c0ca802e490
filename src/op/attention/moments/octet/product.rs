//! Products of eight matrices by eight others.

use std::ops::{Mul, Range};

use super::{Eight, LANES, Octet};
use crate::op::columns::lanes::{self, Lanes};

/// Lanes that fit a narrow register.
const HALF: usize = LANES / 2;

impl Mul<&Octet> for &Octet {
    type Output = Octet;
    /// The product of matrices.
    fn mul(self, right: &Octet) -> Octet {
        self.product(right, Part::Whole)
    }
}

/// Which entries of a product are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// Those on and below the diagonal; of the others some.
    Lower,
}

impl Octet {
    /// A A^T.
    pub fn gram(&self) -> Self {
        self.symmetric_product(&self.transpose())
    }

    /// A B where that is symmetric: half of it is computed.
    pub fn symmetric_product(&self, right: &Octet) -> Self {
        let mut out = self.product(right, Part::Lower);
        for b in 1..out.columns {
            (0..b).for_each(|a| out[(a, b)] = out[(b, a)]);
        }
        out
    }

    fn product(&self, right: &Octet, part: Part) -> Octet {
        let mut out = Octet::zeros(self.rows, right.columns);
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") {
                // SAFETY: the feature was detected on the line above; the function has no other requirement.
                unsafe { multiply_avx512(self, right, part, &mut out) };
                return out;
            }
            if has!("avx2") {
                // SAFETY: as above.
                unsafe { multiply_avx2(self, right, part, &mut out) };
                return out;
            }
        }
        multiply::<[f64; HALF], HALF>(self, right, part, &mut out);
        out
    }

    /// Per row, how many entries are left of the zeros at its end, as the factor of a Gram has them.
    fn ends(&self) -> Vec<usize> {
        let last = |a: &usize| (0..self.columns).rev().find(|b| self[(*a, *b)] != [0.0; LANES]);
        (0..self.rows).map(|a| last(&a).map_or(0, |b| b + 1)).collect()
    }

    /// Per column, the zeros at its start.
    fn starts(&self) -> Vec<usize> {
        let zeros = |column: &[Eight]| column.iter().take_while(|x| **x == [0.0; LANES]).count();
        self.by_column().map(zeros).collect()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn multiply_avx2(left: &Octet, right: &Octet, part: Part, out: &mut Octet) {
    multiply::<lanes::Avx, HALF>(left, right, part, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_avx512(left: &Octet, right: &Octet, part: Part, out: &mut Octet) {
    multiply::<lanes::Avx512, LANES>(left, right, part, out);
}

/// Blocks of 4 by 2 entries, whose sums stay in registers; without the products of zeros of triangular factors.
#[inline(always)]
fn multiply<L: Lanes<N>, const N: usize>(left: &Octet, right: &Octet, part: Part, out: &mut Octet) {
    let (ends, starts) = (left.ends(), right.starts());
    let end = |i: usize, rows: usize| ends[i..i + rows].iter().copied().max().unwrap_or(0);
    let start = |j: usize, columns: usize| starts[j..j + columns].iter().copied().min().unwrap_or(0);
    let (rows, columns) = (out.rows - out.rows % 4, out.columns - out.columns % 2);
    let first = |j: usize| if part == Part::Lower { j - j % 4 } else { 0 };
    // Loops and not closures: a closure is compiled without the registers of its caller.
    for lanes in 0..LANES / N {
        for j in (0..columns).step_by(2) {
            let from = start(j, 2);
            for i in (first(j)..rows).step_by(4) {
                block::<L, N, 4, 2>(left, right, out, [i, j, lanes], from..end(i, 4));
            }
            for i in rows..out.rows {
                block::<L, N, 1, 2>(left, right, out, [i, j, lanes], from..end(i, 1));
            }
        }
        for j in columns..out.columns {
            let from = start(j, 1);
            for i in (first(j)..rows).step_by(4) {
                block::<L, N, 4, 1>(left, right, out, [i, j, lanes], from..end(i, 4));
            }
            for i in rows..out.rows {
                block::<L, N, 1, 1>(left, right, out, [i, j, lanes], from..end(i, 1));
            }
        }
    }
}

/// The entries of rows from i and columns from j, in N of the lanes: the sum over `within`.
#[inline(always)]
fn block<L: Lanes<N>, const N: usize, const I: usize, const J: usize>(
    left: &Octet,
    right: &Octet,
    out: &mut Octet,
    [i, j, lanes]: [usize; 3],
    within: Range<usize>,
) {
    let (rows, depth) = (left.rows, right.rows);
    let (from, terms) = (within.start, within.len());
    let part = |entry: &Eight| entry.as_chunks::<N>().0[lanes];
    let b: [&[Eight]; J] = std::array::from_fn(|n| &right.entries[(j + n) * depth + from.min(depth)..][..terms]);
    let mut sums = [[L::splat(0.0); J]; I];
    let columns = left.entries.get(from * rows + i..).unwrap_or(&[]).chunks(rows);
    for (k, column) in columns.take(terms).enumerate() {
        let a: &[Eight; I] = column.first_chunk().expect("the rows of a block lie in the matrix");
        let mut right = [L::splat(0.0); J];
        for (right, b) in right.iter_mut().zip(b) {
            *right = L::load(&part(&b[k]));
        }
        for (sums, a) in sums.iter_mut().zip(a) {
            let left = L::load(&part(a));
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = sum.plus(left.times(right));
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            out.entries[i + m + (j + n) * out.rows].as_chunks_mut::<N>().0[lanes] = sum.store();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rounding;
    use super::*;
    use crate::op::attention::moments::draw::normal;
    use crate::random::Stream;

    #[test]
    fn triangular_factors_have_the_product_of_whole_matrices() {
        let mut stream = Stream::new(3, &[]);
        let whole = Octet::of(|_| normal(9, 9, &mut stream));
        let lower = Octet::from_fn(9, 9, |a, b| if a < b { [0.0; LANES] } else { whole[(a, b)] });
        for (left, right) in [(&lower, &lower), (&lower, &whole), (&whole, &lower), (&lower.transpose(), &lower)] {
            let product = left * right;
            for l in 0..LANES {
                let size = whole.lane(l).amax();
                assert!((product.lane(l) - left.lane(l) * right.lane(l)).amax() <= rounding(9, size));
            }
        }
    }

    #[test]
    fn registers_of_any_width_give_the_same_bits() {
        let mut stream = Stream::new(4, &[]);
        let [a, b] = [0; 2].map(|_| Octet::of(|_| normal(7, 7, &mut stream)));
        let mut plain = Octet::zeros(7, 7);
        multiply::<[f64; HALF], HALF>(&a, &b, Part::Whole, &mut plain);
        assert_eq!((&a * &b).entries, plain.entries);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            let mut narrower = Octet::zeros(7, 7);
            // SAFETY: the feature was detected on the line above; the function has no other requirement.
            unsafe { multiply_avx2(&a, &b, Part::Whole, &mut narrower) };
            assert_eq!(narrower.entries, plain.entries);
        }
    }
}
