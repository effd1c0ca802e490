//! Rows in an orthonormal basis of their span.

use crate::op::columns::{Columns, combine, combine_columns, products, square};
use crate::op::{Gram, Matrices, Pushed, Rows};

/// Rows written in an orthonormal basis of their span, `x_a = sum over j of coefficients[a, j] basis_j`.
///
/// Found by Gram-Schmidt with reorthogonalization on the rows themselves, never on their Gram matrix, so that
/// differences between nearly equal tokens keep their leading digits down to `f64::EPSILON` of the rows, not its root.
#[derive(Clone, Debug)]
pub struct Frame {
    /// `(width, rank)`, orthonormal columns.
    pub(super) basis: Rows,
    /// `(tokens, rank)`, lower trapezoidal.
    pub(super) coefficients: Gram,
}

/// Passes of Gram-Schmidt over one row. Two are enough (Giraud, Langou and Rozloznik 2005); the third costs nothing
/// where the first two sufficed.
const PASSES: usize = 3;

/// A pass is the last where it leaves at least this part of the row: what it subtracted then carries no more than
/// `1/KEPT` roundings into the direction that is left.
pub(super) const KEPT: f64 = 1.0 / 16.0;

/// A row whose part off the earlier ones is below this many roundings per token, relative to the row, adds no direction.
pub(super) const DEPENDENT: f64 = 16.0;

/// Orthonormal vectors of one length, found one after another.
pub(super) struct Basis {
    width: usize,
    vectors: Vec<f64>,
}

impl Basis {
    /// Room for so many vectors.
    pub fn new(width: usize, count: usize) -> Self {
        Basis { width, vectors: Vec::with_capacity(width * count) }
    }

    /// Takes in vectors that are orthonormal already, filled up with zeros.
    pub fn extend(&mut self, vectors: &Rows) {
        for vector in vectors.as_slice().chunks_exact(vectors.nrows().max(1)) {
            self.vectors.extend_from_slice(vector);
            self.vectors.resize(self.vectors.len() + self.width - vector.len(), 0.0);
        }
    }

    /// Takes in a row, one of so many: its coefficients on the vectors. Where the row has a direction of its own, that is
    /// the last vector.
    pub fn add(&mut self, row: &[f64], tokens: usize) -> Vec<f64> {
        let earlier = self.vectors.len();
        self.vectors.extend_from_slice(row);
        let (vectors, rest) = self.vectors.split_at_mut(earlier);
        let vectors = Columns::new(vectors, self.width);
        let mut coefficients = vec![0.0; vectors.count()];
        let whole = square(rest).sqrt();
        let mut left = whole;
        for _ in 0..if coefficients.is_empty() { 0 } else { PASSES } {
            let before = left;
            let along = products(vectors, Columns::new(rest, self.width));
            combine_columns(rest, self.width, &-&along, vectors);
            coefficients.iter_mut().zip(along.iter()).for_each(|(sum, c)| *sum += c);
            left = square(rest).sqrt();
            if left > KEPT * before {
                break;
            }
        }
        // What is not finite stays, so that it is seen at the end.
        let dependent = whole.is_finite() && left <= DEPENDENT * tokens as f64 * f64::EPSILON * whole;
        if coefficients.len() < self.width && !dependent {
            let inverse = 1.0 / left;
            rest.iter_mut().for_each(|x| *x *= inverse);
            coefficients.push(left);
        } else {
            self.vectors.truncate(earlier);
        }
        coefficients
    }

    /// The vectors from this one on, `(width, count)`.
    pub fn from(mut self, first: usize) -> Rows {
        let vectors = self.vectors.split_off(first * self.width);
        Rows::from_vec(self.width, vectors.len() / self.width.max(1), vectors)
    }
}

impl Frame {
    /// The frame of rows `(width, tokens)`. Its rank is at most the width, and the number of tokens.
    pub fn of(rows: &Rows) -> Frame {
        let (width, tokens) = rows.shape();
        let mut basis = Basis::new(width, tokens.min(width));
        let mut coefficients = Gram::zeros(tokens, tokens.min(width));
        for (a, row) in rows.as_slice().chunks_exact(width.max(1)).enumerate() {
            for (j, c) in basis.add(row, tokens).into_iter().enumerate() {
                coefficients[(a, j)] = c;
            }
        }
        let basis = basis.from(0);
        let rank = basis.ncols();
        Frame { basis, coefficients: coefficients.resize_horizontally(rank, 0.0) }
    }

    /// The rows' width.
    pub fn width(&self) -> usize {
        self.basis.nrows()
    }

    /// The number of rows.
    pub fn tokens(&self) -> usize {
        self.coefficients.nrows()
    }

    /// The rows' rank.
    pub fn rank(&self) -> usize {
        self.basis.ncols()
    }

    /// `y = x W`, W `(width, outputs)` with entries of mean square factor^2 / width, for every later use of W as well.
    pub fn push(&self, matrix: &str, outputs: usize, factor: f64, matrices: &mut dyn Matrices) -> Pushed {
        let deviation = factor / (self.width() as f64).sqrt();
        Pushed { matrix: matrix.into(), fresh: matrices.push(matrix, self, outputs, deviation), outputs, deviation }
    }

    /// The sum over matrices of `c W^T`, given `x W = y` for each, and the squared Frobenius norm of each `x^T c`.
    ///
    /// Cotangents c `(outputs, tokens)`; result `(width, tokens)`.
    pub fn pull(&self, uses: &[(&Pushed, &Rows)], matrices: &mut dyn Matrices) -> (Rows, Vec<f64>) {
        matrices.pull(self, uses)
    }

    /// The normals for which products stand, `(outputs, rank)`: with x = L Q and `y = deviation L Z`, Z from y by
    /// forward substitution; `products` is y, `(outputs, tokens)`.
    pub fn normals(&self, products: &Rows, deviation: f64) -> Rows {
        let mut normals = Rows::zeros(products.nrows(), self.rank());
        for (j, token) in self.leading().into_iter().enumerate() {
            let mut z = products.column(token) / deviation;
            for i in 0..j {
                z.axpy(-self.coefficients[(token, i)], &normals.column(i), 1.0);
            }
            normals.set_column(j, &(z / self.coefficients[(token, j)]));
        }
        normals
    }

    /// Which directions' normals rounding does not reach: those where the error of [`Frame::normals`], in roundings of the
    /// products, is at most `1/part`. A row brings `|L_a|`, and with it the errors of the directions that are taken off it,
    /// which add up as independent ones do; both are divided by what the row has left.
    pub fn directions(&self, part: f64) -> Vec<bool> {
        let mut reach: Vec<f64> = Vec::with_capacity(self.rank());
        for (j, token) in self.leading().into_iter().enumerate() {
            let row = self.coefficients.row(token);
            let carried: f64 = reach.iter().zip(row.iter()).map(|(reach, c)| (reach * c).powi(2)).sum();
            reach.push((row.norm_squared() + carried).sqrt() / row[j].abs());
        }
        reach.into_iter().map(|reach| reach <= 1.0 / part).collect()
    }

    /// The token that brought each direction of the basis: the first with a coefficient on it.
    fn leading(&self) -> Vec<usize> {
        let first = |j| (0..self.coefficients.nrows()).find(|&a| self.coefficients[(a, j)] != 0.0).unwrap_or(0);
        (0..self.rank()).map(first).collect()
    }

    /// Rows `(width, tokens)` without their part in the frame's span.
    pub fn off(&self, rows: &Rows) -> Rows {
        let mut off = rows.clone();
        combine(&mut off, &-products(rows, &self.basis), &self.basis);
        off
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::matrix_law::tests::{DELTAS, LAWS, OUTPUTS, TOKENS, WIDTH, roundings, rows};
    use crate::random::Stream;

    #[test]
    fn a_frame_is_orthonormal_and_gives_the_rows_back_at_any_condition_number() {
        for delta in DELTAS {
            let x = rows(WIDTH, delta, 1);
            let frame = Frame::of(&x);
            let rank = frame.rank();
            assert_eq!(rank, if delta == 0.0 { 1 } else { TOKENS }, "delta {delta}");
            let gram = frame.basis.tr_mul(&frame.basis);
            let bound = roundings(WIDTH) / KEPT;
            assert!((gram - Gram::identity(rank, rank)).abs().max() <= bound, "delta {delta}");
            let back = &frame.basis * frame.coefficients.transpose();
            let longest = x.column_iter().map(|c| c.norm()).fold(0.0, f64::max);
            let dependent = DEPENDENT * TOKENS as f64 * f64::EPSILON;
            assert!((back - &x).abs().max() <= (dependent + roundings(TOKENS)) * longest, "delta {delta}");
        }
    }

    #[test]
    fn what_is_not_finite_is_seen_in_the_product() {
        for (law, bad) in LAWS.into_iter().flat_map(|law| [f64::NAN, f64::INFINITY, 1e200].map(|b| (law, b))) {
            let mut x = rows(WIDTH, 1.0, 1);
            x[(3, 0)] = bad;
            let frame = Frame::of(&x);
            let y = frame.push("w", OUTPUTS, 1.0, &mut *law.matrices(Stream::new(0, &[1]))).rows(&frame);
            assert!(!y.column(0).iter().all(|y| y.is_finite()), "{law:?}, {bad}");
        }
    }
}
