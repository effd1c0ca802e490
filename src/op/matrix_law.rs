//! A Gaussian weight matrix as its two uses see it, without the matrix: forward `y = x W`, backward `p = c W^T`.
//!
//! [`Frame::push`] and [`Frame::pull`] are what a sub-layer's sampling rule is written with. Derivation, proof and
//! accuracy: the page of [`crate::sample`].

use crate::op::columns::{Columns, combine, combine_columns, products, square};
use crate::op::{Gram, Rows};
use crate::random::Stream;

/// Rows written in an orthonormal basis of their span, `x_a = sum over j of coefficients[a, j] basis_j`.
///
/// Found by Gram-Schmidt with reorthogonalization on the rows themselves, never on their Gram matrix, so that
/// differences between nearly equal tokens keep their leading digits down to `f64::EPSILON` of the rows, not its root.
#[derive(Clone, Debug)]
pub struct Frame {
    /// `(width, rank)`, orthonormal columns.
    basis: Rows,
    /// `(tokens, rank)`, lower trapezoidal.
    coefficients: Gram,
}

/// Where the normals come from that a Gaussian matrix stands for: drawn afresh by a [`Stream`], or found in a real
/// network's products, of which they then must have the law.
pub trait Matrices {
    /// What the rows of a frame's basis become in a matrix of this name, over its entries' standard deviation:
    /// `(outputs, rank)`, iid N(0, 1).
    fn push(&mut self, matrix: &str, frame: &Frame, outputs: usize, deviation: f64) -> Rows;

    /// As [`Frame::pull`].
    fn pull(&mut self, frame: &Frame, uses: &[(&Pushed, &Rows)]) -> (Rows, Vec<f64>);
}

impl Matrices for Stream {
    fn push(&mut self, _: &str, frame: &Frame, outputs: usize, _: f64) -> Rows {
        normal(outputs, frame.rank(), self)
    }

    fn pull(&mut self, frame: &Frame, uses: &[(&Pushed, &Rows)]) -> (Rows, Vec<f64>) {
        frame.draw_pull(uses, self)
    }
}

/// One product `y = x W`, kept as `y = deviation * coefficients . fresh`.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The matrix's name.
    matrix: String,
    /// `(outputs, rank)`: what the rows of the frame's basis became, over the deviation; iid N(0, 1).
    fresh: Rows,
    /// The standard deviation of the matrix's entries.
    deviation: f64,
}

/// Passes of Gram-Schmidt over one row. Two are enough (Giraud, Langou and Rozloznik 2005); the third costs nothing
/// where the first two sufficed.
const PASSES: usize = 3;

/// A pass is the last where it leaves at least this part of the row: what it subtracted then carries no more than
/// `1/KEPT` roundings into the direction that is left.
const KEPT: f64 = 1.0 / 16.0;

/// A row whose part off the earlier ones is below this many roundings per token, relative to the row, adds no direction.
const DEPENDENT: f64 = 16.0;

impl Frame {
    /// The frame of rows `(width, tokens)`. Its rank is at most the width, and the number of tokens.
    pub fn of(rows: &Rows) -> Frame {
        let (width, tokens) = rows.shape();
        let mut basis = Vec::with_capacity(width * tokens.min(width));
        let mut coefficients = Gram::zeros(tokens, tokens.min(width));
        let mut rank = 0;
        for (a, row) in rows.as_slice().chunks_exact(width.max(1)).enumerate() {
            basis.extend_from_slice(row);
            let (earlier, rest) = basis.split_at_mut(rank * width);
            let earlier = Columns::new(earlier, width);
            let whole = square(rest).sqrt();
            let mut left = whole;
            for _ in 0..if rank == 0 { 0 } else { PASSES } {
                let before = left;
                let along = products(earlier, Columns::new(rest, width));
                combine_columns(rest, width, &-&along, earlier);
                for (j, c) in along.iter().enumerate() {
                    coefficients[(a, j)] += c;
                }
                left = square(rest).sqrt();
                if left > KEPT * before {
                    break;
                }
            }
            // What is not finite stays, so that it is seen at the end.
            let dependent = whole.is_finite() && left <= DEPENDENT * tokens as f64 * f64::EPSILON * whole;
            if rank < width && !dependent {
                let inverse = 1.0 / left;
                rest.iter_mut().for_each(|x| *x *= inverse);
                coefficients[(a, rank)] = left;
                rank += 1;
            } else {
                basis.truncate(rank * width);
            }
        }
        Frame { basis: Rows::from_vec(width, rank, basis), coefficients: coefficients.resize_horizontally(rank, 0.0) }
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

    /// `y = x W`, W `(width, outputs)` with entries N(0, factor^2 / width), for every later use of W as well.
    pub fn push(&self, matrix: &str, outputs: usize, factor: f64, matrices: &mut dyn Matrices) -> Pushed {
        let deviation = factor / (self.width() as f64).sqrt();
        Pushed { matrix: matrix.into(), fresh: matrices.push(matrix, self, outputs, deviation), deviation }
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

    /// The sum over matrices of `c W^T`, given `x W = y` for each, and the squared Frobenius norm of each `x^T c`.
    ///
    /// With `x = L Q`, `y = s L Z`, `c = M P` (Q and P orthonormal), and Z' fresh:
    /// `p = s (c Z^T) Q + s M Z' (1 - Q^T Q)` and `|x^T c|^2 = |L^T M|^2`. The fresh parts of several matrices are
    /// independent Gaussians, so one is drawn for their sum. Cotangents c `(outputs, tokens)`; result `(width, tokens)`.
    pub fn pull(&self, uses: &[(&Pushed, &Rows)], matrices: &mut dyn Matrices) -> (Rows, Vec<f64>) {
        matrices.pull(self, uses)
    }

    fn draw_pull(&self, uses: &[(&Pushed, &Rows)], stream: &mut Stream) -> (Rows, Vec<f64>) {
        let tokens = self.coefficients.nrows();
        let mut along = Gram::zeros(tokens, self.basis.ncols());
        let mut roots = Vec::new();
        let mut gradients = Vec::new();
        for (pushed, cotangent) in uses {
            along += products(*cotangent, &pushed.fresh) * pushed.deviation;
            let root = Frame::of(cotangent).coefficients;
            gradients.push(self.coefficients.tr_mul(&root).norm_squared());
            roots.push(root * pushed.deviation);
        }
        let root = root_of_sum(roots, tokens);
        let fresh = normal(self.width(), root.ncols(), stream);
        along -= &root * products(&fresh, &self.basis);
        let mut pulled = Rows::zeros(self.width(), tokens);
        combine(&mut pulled, &along, &self.basis);
        combine(&mut pulled, &root, &fresh);
        (pulled, gradients)
    }
}

impl Pushed {
    pub fn matrix(&self) -> &str {
        &self.matrix
    }

    /// The standard deviation of the matrix's entries.
    pub fn deviation(&self) -> f64 {
        self.deviation
    }

    /// `y = x W`, `(outputs, tokens)`, of the frame that was pushed.
    pub fn rows(&self, frame: &Frame) -> Rows {
        let mut rows = Rows::zeros(self.fresh.nrows(), frame.coefficients.nrows());
        combine(&mut rows, &(&frame.coefficients * self.deviation), &self.fresh);
        rows
    }
}

/// A matrix R with `R R^T = sum of r r^T`, at most `(tokens, tokens)`.
fn root_of_sum(mut roots: Vec<Gram>, tokens: usize) -> Gram {
    if roots.len() == 1 {
        return roots.swap_remove(0);
    }
    let stacked: Vec<f64> = (0..tokens)
        .flat_map(|a| roots.iter().flat_map(move |r| r.row(a).iter().copied().collect::<Vec<_>>()))
        .collect();
    Frame::of(&Rows::from_vec(stacked.len() / tokens.max(1), tokens, stacked)).coefficients
}

/// Independent N(0, 1) numbers.
fn normal(width: usize, columns: usize, stream: &mut Stream) -> Rows {
    Rows::from_vec(width, columns, stream.normals(width * columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 40;
    const OUTPUTS: usize = 24;
    const TOKENS: usize = 6;

    /// Rows that differ by about `delta` of their length.
    fn rows(width: usize, delta: f64, name: u64) -> Rows {
        let mut stream = Stream::new(0, &[name]);
        let (common, own) = (normal(width, 1, &mut stream), normal(width, TOKENS, &mut stream));
        Rows::from_fn(width, TOKENS, |i, a| common[i] + delta * own[(i, a)])
    }

    const DELTAS: [f64; 6] = [1.0, 1e-2, 1e-6, 1e-10, 1e-13, 0.0];

    /// Roundings of an inner product of this length, relative to the lengths of its factors.
    fn roundings(length: usize) -> f64 {
        2.0 * length as f64 * f64::EPSILON
    }

    #[test]
    fn a_frame_is_orthonormal_and_gives_the_rows_back_at_any_condition_number() {
        for delta in DELTAS {
            let x = rows(WIDTH, delta, 1);
            let frame = Frame::of(&x);
            let rank = frame.basis.ncols();
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

    /// x, y and c with their frame, at a collapse of `delta`.
    fn used(delta: f64, seed: u64) -> (Rows, Frame, Pushed, Rows) {
        let x = rows(WIDTH, delta, 1);
        let frame = Frame::of(&x);
        let pushed = frame.push("w", OUTPUTS, 1.3, &mut Stream::new(seed, &[2]));
        (x, frame, pushed, rows(OUTPUTS, 1.0, 3))
    }

    #[test]
    fn a_pull_agrees_with_its_push_on_every_pair_of_tokens() {
        for delta in DELTAS {
            let (x, frame, pushed, c) = used(delta, 1);
            let y = pushed.rows(&frame);
            let (p, _) = frame.pull(&[(&pushed, &c)], &mut Stream::new(1, &[4]));
            let error = (p.tr_mul(&x) - c.tr_mul(&y)).abs().max();
            let dropped = DEPENDENT * TOKENS as f64 * f64::EPSILON;
            let bound = (roundings(WIDTH + OUTPUTS) / KEPT + dropped) * (p.norm() * x.norm() + c.norm() * y.norm());
            assert!(error <= bound, "delta {delta}: {error} > {bound}");
        }
    }

    #[test]
    fn what_the_pull_draws_is_orthogonal_to_what_the_push_read() {
        for delta in DELTAS {
            let (x, frame, pushed, c) = used(delta, 1);
            let pull = |name| frame.pull(&[(&pushed, &c)], &mut Stream::new(1, &[name])).0;
            let fresh = pull(4) - pull(5);
            let along = fresh.tr_mul(&frame.basis).abs().max().max(fresh.tr_mul(&x).abs().max() / x.norm());
            let bound = (roundings(WIDTH) / KEPT + DEPENDENT * TOKENS as f64 * f64::EPSILON) * fresh.norm();
            assert!(along <= bound, "delta {delta}: {along} > {bound}");
        }
    }

    #[test]
    fn the_gradient_is_the_squared_length_of_the_outer_product() {
        for delta in DELTAS {
            let (x, frame, pushed, c) = used(delta, 1);
            let (_, gradients) = frame.pull(&[(&pushed, &c)], &mut Stream::new(1, &[4]));
            let wanted = (&x * c.transpose()).norm();
            let bound = (roundings(WIDTH) / KEPT + DEPENDENT * TOKENS as f64 * f64::EPSILON) * x.norm() * c.norm();
            assert!((gradients[0].sqrt() - wanted).abs() <= bound, "delta {delta}");
        }
    }

    #[test]
    fn what_is_not_finite_is_seen_in_the_product() {
        for bad in [f64::NAN, f64::INFINITY, 1e200] {
            let mut x = rows(WIDTH, 1.0, 1);
            x[(3, 0)] = bad;
            let frame = Frame::of(&x);
            let y = frame.push("w", OUTPUTS, 1.0, &mut Stream::new(0, &[1])).rows(&frame);
            assert!(!y.column(0).iter().all(|y| y.is_finite()), "{bad}");
        }
    }

    /// Figures of one network `x -> x W -> c = y^3 -> c W^T`, W real or not, with two matrices on the same input.
    fn figures(p: &Rows, y: &Rows) -> Vec<f64> {
        let gram = p.tr_mul(p);
        let y = y.tr_mul(y);
        vec![gram[(0, 0)], gram[(0, 1)], gram[(1, 2)], gram.trace(), gram.trace().powi(2), y[(0, 0)], y[(1, 2)]]
    }

    fn drawn(x: &Rows, frame: &Frame, seed: u64) -> Vec<f64> {
        let mut stream = Stream::new(seed, &[7]);
        let (one, other) = (frame.push("w", OUTPUTS, 0.8, &mut stream), frame.push("w", OUTPUTS, 1.2, &mut stream));
        let (y, z) = (one.rows(frame), other.rows(frame));
        let (c, e) = (y.map(|y| y.powi(3)), y.component_mul(&z));
        let (p, gradients) = frame.pull(&[(&one, &c), (&other, &e)], &mut stream);
        assert_eq!(x.shape(), p.shape());
        [figures(&p, &y), gradients].concat()
    }

    fn real(x: &Rows, seed: u64) -> Vec<f64> {
        let mut stream = Stream::new(seed, &[8]);
        let mut matrix = |factor: f64| normal(WIDTH, OUTPUTS, &mut stream) * (factor / (WIDTH as f64).sqrt());
        let (one, other) = (matrix(0.8), matrix(1.2));
        let (y, z) = (one.tr_mul(x), other.tr_mul(x));
        let (c, e) = (y.map(|y| y.powi(3)), y.component_mul(&z));
        let p = &one * &c + &other * &e;
        let gradient = |c: &Rows| (x * c.transpose()).norm_squared();
        [figures(&p, &y), vec![gradient(&c), gradient(&e)]].concat()
    }

    #[test]
    fn pushes_and_pulls_have_the_law_of_real_matrices() {
        const DRAWS: u64 = 4000;
        let x = rows(WIDTH, 0.5, 1);
        let frame = Frame::of(&x);
        let sampled: Vec<Vec<f64>> = (0..DRAWS).map(|seed| drawn(&x, &frame, seed)).collect();
        let measured: Vec<Vec<f64>> = (0..DRAWS).map(|seed| real(&x, seed)).collect();
        let count = sampled[0].len();
        // The two-sided normal quantile at a false-alarm rate of 1e-6 over all figures.
        let limit = libm::sqrt(-2.0 * libm::log(1e-6 / count as f64));
        let moments = |of: &[Vec<f64>], i: usize| {
            let mean = of.iter().map(|f| f[i]).sum::<f64>() / DRAWS as f64;
            let square = of.iter().map(|f| (f[i] - mean).powi(2)).sum::<f64>() / DRAWS as f64;
            (mean, square / DRAWS as f64)
        };
        for i in 0..count {
            let ((a, va), (b, vb)) = (moments(&sampled, i), moments(&measured, i));
            let z = (a - b) / (va + vb).sqrt();
            assert!(z.abs() <= limit, "figure {i}: {a} against {b}, z = {z}");
        }
    }
}
