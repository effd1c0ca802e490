//! Inner products and combinations of tall matrices with few columns, the arithmetic of sampled rows.
//!
//! The lanes are fixed in the source and nothing is fused, so that every machine and every register width gives
//! the same bits. Knows nothing of tokens or weights.

pub(in crate::op) mod lanes;

use crate::op::{Gram, Rows};
use lanes::Lanes;

/// Numbers in a register of inner products, of whose sums each lane has its own.
const LANES: usize = 4;

/// Entries of a column between two passes over all pairs of columns, so that they stay in the nearest caches.
const CHUNK: usize = 1024;

/// Columns of one width that lie in a slice at one distance.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    data: &'a [f64],
    stride: usize,
    width: usize,
    count: usize,
}

impl<'a> Columns<'a> {
    /// Columns of `width`, one after another.
    pub fn new(data: &'a [f64], width: usize) -> Self {
        Columns { data, stride: width, width, count: data.len() / width.max(1) }
    }

    /// Rows `from .. from + width` of every column.
    pub fn part(of: &'a Rows, from: usize, width: usize) -> Self {
        Columns { data: of.as_slice().get(from..).unwrap_or(&[]), stride: of.nrows(), width, count: of.ncols() }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    fn column(&self, i: usize) -> &'a [f64] {
        &self.data[i * self.stride..][..self.width]
    }
}

impl<'a> From<&'a Rows> for Columns<'a> {
    fn from(rows: &'a Rows) -> Self {
        Columns::part(rows, 0, rows.nrows())
    }
}

/// `a^T b`: entry (i, j) is the inner product of column i of `a` and column j of `b`.
pub fn products<'a>(a: impl Into<Columns<'a>>, b: impl Into<Columns<'a>>) -> Gram {
    let (a, b) = (a.into(), b.into());
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was detected on the line above; the function has no other requirement.
        return unsafe { products_avx2(a, b) };
    }
    products_of::<[f64; LANES]>(a, b)
}

/// `<u, v>`.
pub fn product(u: &[f64], v: &[f64]) -> f64 {
    products(Columns::new(u, u.len()), Columns::new(v, v.len())).sum()
}

/// `|v|^2`.
pub fn square(v: &[f64]) -> f64 {
    product(v, v)
}

/// `out_a += sum over j of coefficients[a, j] basis_j`, column by column.
pub fn combine<'a>(out: &mut Rows, coefficients: &Gram, basis: impl Into<Columns<'a>>) {
    let stride = out.nrows();
    combine_columns(out.as_mut_slice(), stride, &coefficients.transpose(), basis.into());
}

/// As [`combine`], into columns that lie at a distance of `stride`, with the coefficients of an output in a column.
pub fn combine_columns(out: &mut [f64], stride: usize, coefficients: &Gram, basis: Columns) {
    if basis.width == 0 || basis.count == 0 || out.is_empty() {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") {
            // SAFETY: the feature was detected on the line above; the function has no other requirement.
            return unsafe { combine_avx512(out, stride, coefficients, basis) };
        }
        if has!("avx2") {
            // SAFETY: as above.
            return unsafe { combine_avx2(out, stride, coefficients, basis) };
        }
    }
    combine_of::<[f64; LANES], LANES>(out, stride, coefficients, basis);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn products_avx2(a: Columns, b: Columns) -> Gram {
    products_of::<lanes::Avx>(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn combine_avx2(out: &mut [f64], stride: usize, coefficients: &Gram, basis: Columns) {
    combine_of::<lanes::Avx, 4>(out, stride, coefficients, basis);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn combine_avx512(out: &mut [f64], stride: usize, coefficients: &Gram, basis: Columns) {
    combine_of::<lanes::Avx512, 8>(out, stride, coefficients, basis);
}

#[inline(always)]
fn products_of<L: Lanes<LANES>>(a: Columns, b: Columns) -> Gram {
    let (rows, columns) = (a.count, b.count);
    let width = a.width.min(b.width);
    let mut out = Gram::zeros(rows, columns);
    for from in (0..width).step_by(CHUNK) {
        let length = CHUNK.min(width - from);
        let left = |i: usize| &a.column(i)[from..from + length];
        let right = |j: usize| &b.column(j)[from..from + length];
        for j in (0..columns).step_by(2) {
            let pair = j + 1 < columns;
            let fours = rows - rows % 4;
            for i in (0..fours).step_by(4) {
                let of = [left(i), left(i + 1), left(i + 2), left(i + 3)];
                match pair {
                    true => add(&mut out, i, j, products_block::<L, 1, 4, 2>(of, [right(j), right(j + 1)])),
                    false => add(&mut out, i, j, products_block::<L, 2, 4, 1>(of, [right(j)])),
                }
            }
            for i in fours..rows {
                match pair {
                    true => add(&mut out, i, j, products_block::<L, 4, 1, 2>([left(i)], [right(j), right(j + 1)])),
                    false => add(&mut out, i, j, products_block::<L, 8, 1, 1>([left(i)], [right(j)])),
                }
            }
        }
    }
    out
}

#[inline(always)]
fn add<const I: usize, const J: usize>(out: &mut Gram, i: usize, j: usize, block: [[f64; J]; I]) {
    for (k, row) in block.iter().enumerate() {
        for (l, value) in row.iter().enumerate() {
            out[(i + k, j + l)] += value;
        }
    }
}

/// The inner products of a few columns with a few others, all of one length, each in `CHAINS` partial sums so that
/// no addition waits for the one before it.
#[inline(always)]
fn products_block<L: Lanes<LANES>, const CHAINS: usize, const I: usize, const J: usize>(
    a: [&[f64]; I],
    b: [&[f64]; J],
) -> [[f64; J]; I] {
    let length = a[0].len();
    let registers = length / LANES;
    let left = a.map(|c| &c.as_chunks::<LANES>().0[..registers]);
    let right = b.map(|c| &c.as_chunks::<LANES>().0[..registers]);
    let mut sums = [[[L::splat(0.0); J]; I]; CHAINS];
    let whole = registers - registers % CHAINS;
    for first in (0..whole).step_by(CHAINS) {
        for (chain, sums) in sums.iter_mut().enumerate() {
            add_products(sums, &left, &right, first + chain);
        }
    }
    for k in whole..registers {
        add_products(&mut sums[0], &left, &right, k);
    }
    let mut out = [[0.0; J]; I];
    for i in 0..I {
        for j in 0..J {
            let mut total = sums[0][i][j];
            for chain in &sums[1..] {
                total = total.plus(chain[i][j]);
            }
            let [p, q, r, s] = total.store();
            out[i][j] = (p + r) + (q + s);
            for k in registers * LANES..length {
                out[i][j] += a[i][k] * b[j][k];
            }
        }
    }
    out
}

/// Adds the products of register k of every pair of columns.
#[inline(always)]
fn add_products<L: Lanes<LANES>, const I: usize, const J: usize>(
    sums: &mut [[L; J]; I],
    left: &[&[[f64; LANES]]; I],
    right: &[&[[f64; LANES]]; J],
    k: usize,
) {
    let right = right.map(|c| L::load(&c[k]));
    for (sums, left) in sums.iter_mut().zip(left) {
        let left = L::load(&left[k]);
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum = sum.plus(left.times(right));
        }
    }
}

#[inline(always)]
fn combine_of<L: Lanes<N>, const N: usize>(out: &mut [f64], stride: usize, coefficients: &Gram, basis: Columns) {
    let width = basis.width;
    let mut outs = out.chunks_mut(stride).map(|column| &mut column[..width]);
    let coefficient = |a: usize| &coefficients.as_slice()[a * basis.count..][..basis.count];
    let mut a = 0;
    while let Some(first) = outs.next() {
        if outs.len() >= 3 {
            let mut more = || outs.next().expect("three more outputs were counted");
            let four = [first, more(), more(), more()];
            let of = [coefficient(a), coefficient(a + 1), coefficient(a + 2), coefficient(a + 3)];
            combine_block::<L, N, 4>(four, of, basis);
            a += 4;
        } else {
            combine_block::<L, N, 1>([first], [coefficient(a)], basis);
            a += 1;
        }
    }
}

/// A few outputs of one combination; each entry is its own sum in the order of the basis.
#[inline(always)]
fn combine_block<L: Lanes<N>, const N: usize, const I: usize>(
    mut out: [&mut [f64]; I],
    coefficients: [&[f64]; I],
    basis: Columns,
) {
    let mut rank = basis.count;
    // Triangular coefficients end in zeros.
    while rank > 0 && coefficients.iter().all(|c| c[rank - 1] == 0.0) {
        rank -= 1;
    }
    let width = basis.width;
    let pairs = width / (2 * N);
    for k in (0..pairs).map(|pair| pair * 2 * N) {
        let mut sums = [[L::splat(0.0); 2]; I];
        for (sums, out) in sums.iter_mut().zip(&out) {
            *sums = both::<L, N>(&out[k..]);
        }
        for j in 0..rank {
            let [low, high] = both::<L, N>(&basis.data[j * basis.stride + k..]);
            for i in 0..I {
                let c = L::splat(coefficients[i][j]);
                sums[i] = [sums[i][0].plus(c.times(low)), sums[i][1].plus(c.times(high))];
            }
        }
        for (sums, out) in sums.iter().zip(&mut out) {
            out[k..k + N].copy_from_slice(&sums[0].store());
            out[k + N..k + 2 * N].copy_from_slice(&sums[1].store());
        }
    }
    for (out, coefficients) in out.iter_mut().zip(coefficients) {
        for k in pairs * 2 * N..width {
            for (j, c) in coefficients.iter().enumerate().take(rank) {
                out[k] += c * basis.data[j * basis.stride + k];
            }
        }
    }
}

/// Two registers from the start of a slice.
#[inline(always)]
fn both<L: Lanes<N>, const N: usize>(from: &[f64]) -> [L; 2] {
    let chunks = from[..2 * N].as_chunks::<N>().0;
    [L::load(&chunks[0]), L::load(&chunks[1])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn normal(rows: usize, columns: usize, name: u64) -> Rows {
        Rows::from_vec(rows, columns, Stream::new(0, &[name]).normals(rows * columns))
    }

    /// Every sum has at most `terms` roundings of products and as many of partial sums.
    fn bound(terms: usize, magnitude: f64) -> f64 {
        2.0 * terms as f64 * f64::EPSILON * magnitude
    }

    #[test]
    fn products_are_those_of_the_definition_at_every_remainder() {
        for (width, left, right) in [(1, 1, 1), (3, 5, 2), (8, 4, 4), (37, 9, 7), (CHUNK + 5, 6, 3)] {
            let (a, b) = (normal(width, left, 1), normal(width, right, 2));
            let (found, wanted) = (products(&a, &b), a.tr_mul(&b));
            let magnitude = a.abs().tr_mul(&b.abs()).max();
            assert!((found - wanted).abs().max() <= bound(width, magnitude), "width {width}");
        }
    }

    #[test]
    fn combinations_are_those_of_the_definition_at_every_remainder() {
        for (width, outputs, rank) in [(1, 1, 1), (3, 5, 2), (8, 4, 4), (37, 9, 7), (100, 3, 0)] {
            let (basis, coefficients) = (normal(width, rank, 1), normal(outputs, rank, 2));
            let mut found = normal(width, outputs, 3);
            let wanted = &found + &basis * coefficients.transpose();
            let magnitude = found.abs().sum() + basis.abs().sum() * coefficients.abs().sum();
            combine(&mut found, &coefficients, &basis);
            assert!((found - wanted).abs().sum() <= bound(rank + 1, magnitude), "width {width}");
        }
    }

    #[test]
    fn parts_are_the_rows_they_name() {
        let (a, b) = (normal(12, 3, 1), normal(12, 5, 2));
        let rows = |m: &Rows| m.rows(4, 6).into_owned();
        assert_eq!(products(Columns::part(&a, 4, 6), Columns::part(&b, 4, 6)), products(&rows(&a), &rows(&b)));
        let coefficients = normal(3, 5, 3);
        let (mut whole, mut part) = (a.clone(), rows(&a));
        combine_columns(&mut whole.as_mut_slice()[4..], 12, &coefficients.transpose(), Columns::part(&b, 4, 6));
        combine(&mut part, &coefficients, &rows(&b));
        assert_eq!(rows(&whole), part);
        assert_eq!((whole.rows(0, 4), whole.rows(10, 2)), (a.rows(0, 4), a.rows(10, 2)));
    }

    #[test]
    fn wide_registers_give_the_same_bits() {
        let (a, b) = (normal(133, 9, 1), normal(133, 5, 2));
        assert_eq!(products(&a, &b), products_of::<[f64; LANES]>((&a).into(), (&b).into()));
        let coefficients = normal(9, 5, 3);
        let (mut plain, mut wide) = (a.clone(), a.clone());
        combine_of::<[f64; LANES], LANES>(plain.as_mut_slice(), 133, &coefficients.transpose(), (&b).into());
        combine(&mut wide, &coefficients, &b);
        assert_eq!(plain, wide);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            let mut narrower = a.clone();
            // SAFETY: the feature was detected on the line above; the function has no other requirement.
            unsafe { combine_avx2(narrower.as_mut_slice(), 133, &coefficients.transpose(), (&b).into()) };
            assert_eq!(plain, narrower);
        }
    }
}
