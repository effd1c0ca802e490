//! Eight small matrices of one shape side by side: every instruction does the same to all of them.
//!
//! Nothing is fused, so that the bits are the same on every machine. Must not know what the matrices are.

mod product;

use std::ops::{Add, AddAssign, Index, IndexMut, Mul, Sub};

use crate::elementary;
use crate::op::Gram;

pub const LANES: usize = 8;

/// A number of each of the eight.
pub type Eight = [f64; LANES];

/// Eight matrices, entry by entry, column after column.
#[derive(Clone, Debug)]
pub struct Octet {
    rows: usize,
    columns: usize,
    entries: Vec<Eight>,
}

impl Octet {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Octet { rows, columns, entries: vec![[0.0; LANES]; rows * columns] }
    }

    /// The same matrix eight times.
    pub fn splat(of: &Gram) -> Self {
        Octet { rows: of.nrows(), columns: of.ncols(), entries: of.iter().map(|x| [*x; LANES]).collect() }
    }

    /// The matrices of one shape that `lane` gives.
    pub fn of(mut lane: impl FnMut(usize) -> Gram) -> Self {
        let first = lane(0);
        let mut out = Octet::splat(&first);
        (1..LANES).for_each(|l| out.set(l, &lane(l)));
        out
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One of the eight.
    pub fn lane(&self, lane: usize) -> Gram {
        Gram::from_iterator(self.rows, self.columns, self.entries.iter().map(|x| x[lane]))
    }

    /// Replaces one of the eight.
    pub fn set(&mut self, lane: usize, by: &Gram) {
        for (entry, x) in self.entries.iter_mut().zip(by.iter()) {
            entry[lane] = *x;
        }
    }

    /// The sum of the eight.
    pub fn total(&self) -> Gram {
        Gram::from_iterator(self.rows, self.columns, self.entries.iter().map(total))
    }

    /// The first columns.
    pub fn first_columns(mut self, columns: usize) -> Self {
        self.columns = columns.min(self.columns);
        self.entries.truncate(self.rows * self.columns);
        self
    }

    /// The columns of `self`, then those of `right`.
    pub fn beside(mut self, right: Octet) -> Self {
        self.columns += right.columns;
        self.entries.extend(right.entries);
        self
    }

    pub fn transpose(&self) -> Self {
        let mut entries = Vec::with_capacity(self.entries.len());
        for a in 0..self.rows {
            entries.extend((0..self.columns).map(|b| self[(a, b)]));
        }
        Octet { rows: self.columns, columns: self.rows, entries }
    }

    /// Entry by entry.
    pub fn component_mul(&self, other: &Octet) -> Self {
        self.zip(other, |x, y| x * y)
    }

    /// e to the power of every entry.
    pub fn exp(mut self) -> Self {
        exp_each(self.entries.as_flattened_mut());
        self
    }

    /// The natural logarithm of every entry, a positive normal number.
    pub fn ln(mut self) -> Self {
        ln_each(self.entries.as_flattened_mut());
        self
    }

    /// The sum of the products of entries.
    pub fn dot(&self, other: &Octet) -> Eight {
        let mut sum = [0.0; LANES];
        for (x, y) in self.entries.iter().zip(&other.entries) {
            (0..LANES).for_each(|l| sum[l] += x[l] * y[l]);
        }
        sum
    }

    /// Per row, <row of A, row of B>: the diagonal of A B^T.
    pub fn row_products(&self, other: &Octet) -> Vec<Eight> {
        let mut sums = vec![[0.0; LANES]; self.rows];
        for (x, y) in self.by_column().zip(other.by_column()) {
            for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
                (0..LANES).for_each(|l| sum[l] += x[l] * y[l]);
            }
        }
        sums
    }

    fn by_column(&self) -> impl Iterator<Item = &[Eight]> {
        self.entries.chunks(self.rows.max(1))
    }

    pub fn diagonal(&self) -> impl Iterator<Item = &Eight> {
        self.entries.iter().step_by(self.rows + 1)
    }

    pub fn trace(&self) -> Eight {
        sum(self.diagonal())
    }

    /// The trace with the mean over tokens taken off.
    pub fn centred_trace(&self) -> Eight {
        let (trace, whole, n) = (self.trace(), sum(&self.entries), self.rows as f64);
        eight(|l| trace[l] - whole[l] / n)
    }

    /// The mean over tokens taken off, entry by entry, as in [`crate::op::gaussian`].
    pub fn centred(&self) -> Self {
        let (n, m) = (self.rows as f64, self.columns as f64);
        let ones = Octet { entries: vec![[1.0; LANES]; self.entries.len()], ..*self };
        let of_rows: Vec<Eight> = self.row_products(&ones).iter().map(|x| x.map(|x| x / m)).collect();
        let mean = sum(&of_rows).map(|x| x / n);
        let mut out = self.clone();
        for column in out.entries.chunks_mut(self.rows.max(1)) {
            let of_column = sum(&*column).map(|x| x / n);
            for (entry, row) in column.iter_mut().zip(&of_rows) {
                (0..LANES).for_each(|l| entry[l] = (entry[l] - row[l]) - (of_column[l] - mean[l]));
            }
        }
        out
    }

    /// As [`crate::op::gaussian::correlation`], lane by lane.
    pub fn correlation(&self) -> Self {
        let roots: Vec<Eight> = self.diagonal().map(|k| k.map(|k| k.max(0.0).sqrt())).collect();
        let cosine = |a: usize, b: usize, l: usize| match (a == b, roots[a][l] * roots[b][l]) {
            (true, _) => 1.0,
            (_, 0.0) => 0.0,
            (_, product) => (self[(a, b)][l] / product).clamp(-1.0, 1.0),
        };
        Octet::from_fn(self.rows(), self.columns(), |a, b| eight(|l| cosine(a, b, l)))
    }

    /// Each row times its factor.
    pub fn scale_rows(&mut self, by: &[Eight]) {
        for column in self.entries.chunks_mut(self.rows.max(1)) {
            for (entry, by) in column.iter_mut().zip(by) {
                (0..LANES).for_each(|l| entry[l] *= by[l]);
            }
        }
    }

    /// Each matrix times its factor.
    pub fn scaled(mut self, by: Eight) -> Self {
        self.entries.iter_mut().for_each(|entry| (0..LANES).for_each(|l| entry[l] *= by[l]));
        self
    }

    /// A number for each entry by its place.
    pub fn from_fn(rows: usize, columns: usize, mut entry: impl FnMut(usize, usize) -> Eight) -> Self {
        let mut entries = Vec::with_capacity(rows * columns);
        for b in 0..columns {
            entries.extend((0..rows).map(|a| entry(a, b)));
        }
        Octet { rows, columns, entries }
    }

    fn zip(&self, other: &Octet, f: impl Fn(f64, f64) -> f64) -> Self {
        let one = |(x, y): (&Eight, &Eight)| eight(|l| f(x[l], y[l]));
        Octet { entries: self.entries.iter().zip(&other.entries).map(one).collect(), ..*self }
    }
}

/// A number for each of the eight.
pub fn eight(of: impl FnMut(usize) -> f64) -> Eight {
    std::array::from_fn(of)
}

/// The sum of the eight.
pub fn total(of: &Eight) -> f64 {
    of.iter().sum()
}

/// Lane by lane.
pub fn sum<'a>(of: impl IntoIterator<Item = &'a Eight>) -> Eight {
    let mut out = [0.0; LANES];
    for x in of {
        (0..LANES).for_each(|l| out[l] += x[l]);
    }
    out
}

impl Index<(usize, usize)> for Octet {
    type Output = Eight;
    fn index(&self, (row, column): (usize, usize)) -> &Eight {
        &self.entries[row + column * self.rows]
    }
}

impl IndexMut<(usize, usize)> for Octet {
    fn index_mut(&mut self, (row, column): (usize, usize)) -> &mut Eight {
        &mut self.entries[row + column * self.rows]
    }
}

impl Add<&Octet> for Octet {
    type Output = Octet;
    fn add(mut self, other: &Octet) -> Octet {
        self += other;
        self
    }
}

impl AddAssign<&Octet> for Octet {
    fn add_assign(&mut self, other: &Octet) {
        for (x, y) in self.entries.iter_mut().zip(&other.entries) {
            (0..LANES).for_each(|l| x[l] += y[l]);
        }
    }
}

impl Sub<&Octet> for Octet {
    type Output = Octet;
    fn sub(mut self, other: &Octet) -> Octet {
        for (x, y) in self.entries.iter_mut().zip(&other.entries) {
            (0..LANES).for_each(|l| x[l] -= y[l]);
        }
        self
    }
}

impl Mul<f64> for Octet {
    type Output = Octet;
    fn mul(self, by: f64) -> Octet {
        self.scaled([by; LANES])
    }
}

/// A function of every number of a slice, compiled for AVX2 where there is that: the same bits.
macro_rules! each {
    ($name:ident, $wide:ident, $function:path) => {
        #[inline(always)]
        fn $name(numbers: &mut [f64]) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn $wide(numbers: &mut [f64]) {
                    // A loop and not a closure, which is compiled without the registers of its caller.
                    for x in numbers {
                        *x = $function(*x);
                    }
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the feature was detected on the line above; the function has no other requirement.
                    return unsafe { $wide(numbers) };
                }
            }
            numbers.iter_mut().for_each(|x| *x = $function(*x));
        }
    };
}

each!(exp_each, exp_avx2, elementary::exp);
each!(ln_each, ln_avx2, elementary::ln);

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::op::attention::moments::draw::normal;
    use crate::random::Stream;

    /// The absolute error of sums of `terms` products of numbers up to `size`, to first order.
    pub fn rounding(terms: usize, size: f64) -> f64 {
        2.0 * (terms * terms) as f64 * f64::EPSILON * size * size
    }

    #[test]
    fn every_lane_is_a_matrix_of_its_own() {
        for (n, k, m) in [(1, 1, 1), (3, 5, 2), (4, 4, 4), (9, 17, 7)] {
            let mut stream = Stream::new(n as u64, &[]);
            let [a, b] = [(n, k), (k, m)].map(|(r, c)| [0; LANES].map(|_| normal(r, c, &mut stream)));
            let (left, right) = (Octet::of(|l| a[l].clone()), Octet::of(|l| b[l].clone()));
            let (product, gram) = (&left * &right, left.gram());
            let (centred, sums) = (gram.centred(), gram.centred_trace());
            for l in 0..LANES {
                let size = a[l].amax().max(b[l].amax());
                assert!((product.lane(l) - &a[l] * &b[l]).amax() <= rounding(k, size));
                let own = &a[l] * a[l].transpose();
                assert!((gram.lane(l) - &own).amax() <= rounding(k, size));
                let off = Gram::from_fn(n, n, |i, j| f64::from(u8::from(i == j)) - 1.0 / n as f64);
                let by_hand = &off * &own * &off;
                assert!((centred.lane(l) - &by_hand).amax() <= rounding(k + 2 * n, size));
                assert!((sums[l] - by_hand.trace()).abs() <= rounding(k + 2 * n, size) * n as f64);
            }
            assert!(
                (product.total() - (0..LANES).map(|l| product.lane(l)).sum::<Gram>()).amax() <= rounding(k * 8, 8.0)
            );
        }
    }
}
