//! A weight matrix as its two uses see it, without the matrix: forward `y = x W`, backward `p = c W^T`.
//!
//! [`Frame::push`] and [`Frame::pull`] are what a sub-layer's sampling rule is written with; a [`MatrixLaw`] says what they
//! draw. Derivation, proof and accuracy: the page of [`crate::sample`].

mod frame;
mod gaussian;
mod orthogonal;

use crate::op::Rows;
use crate::op::columns::{Columns, combine};
use crate::random::Stream;
use crate::spec::InitLaw;
pub use frame::Frame;
use orthogonal::Haar;

/// The laws of a weight matrix that are known given its products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixLaw {
    /// Independent entries N(0, s^2).
    Gaussian,
    /// Orthonormal rows or columns, uniform among them, times the factor that makes the entries' mean square s^2.
    Orthogonal,
}

impl MatrixLaw {
    /// The law of an init, where it is known: both laws look alike from every direction, which entries that are uniform or cut do not.
    pub fn of(init: InitLaw) -> Option<MatrixLaw> {
        match init {
            InitLaw::Gaussian => Some(MatrixLaw::Gaussian),
            InitLaw::Orthogonal => Some(MatrixLaw::Orthogonal),
            InitLaw::Uniform | InitLaw::TruncatedNormal => None,
        }
    }

    /// Draws the products of matrices of this law.
    pub fn matrices(self, stream: Stream) -> Box<dyn Matrices> {
        match self {
            MatrixLaw::Gaussian => Box::new(stream),
            MatrixLaw::Orthogonal => Box::new(Haar(stream)),
        }
    }
}

/// Where the products of matrices come from: drawn from a [`MatrixLaw`], or found in a real network. A [`Stream`] draws
/// those of Gaussian matrices.
pub trait Matrices {
    /// What the rows of a frame's basis become in a matrix of this name, over its entries' standard deviation: mean
    /// square 1, `(outputs, rank)`, or more rows where the pull wants more of them than the product shows.
    fn push(&mut self, matrix: &str, frame: &Frame, outputs: usize, deviation: f64) -> Rows;

    /// As [`Frame::pull`].
    fn pull(&mut self, frame: &Frame, uses: &[(&Pushed, &Rows)]) -> (Rows, Vec<f64>);
}

/// One product `y = x W`, kept as `y = deviation * coefficients . fresh`.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The matrix's name.
    matrix: String,
    /// What the rows of the frame's basis became, over the deviation, as [`Matrices::push`] gave it.
    fresh: Rows,
    outputs: usize,
    /// The root of the mean square of the matrix's entries.
    deviation: f64,
}

impl Pushed {
    pub fn matrix(&self) -> &str {
        &self.matrix
    }

    /// The root of the mean square of the matrix's entries.
    pub fn deviation(&self) -> f64 {
        self.deviation
    }

    /// `y = x W`, `(outputs, tokens)`, of the frame that was pushed.
    pub fn rows(&self, frame: &Frame) -> Rows {
        let mut rows = Rows::zeros(self.outputs, frame.tokens());
        combine(&mut rows, &(&frame.coefficients * self.deviation), Columns::part(&self.fresh, 0, self.outputs));
        rows
    }
}

/// Independent N(0, 1) numbers.
fn normal(width: usize, columns: usize, stream: &mut Stream) -> Rows {
    Rows::from_vec(width, columns, stream.normals(width * columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Gram;
    use crate::op::matrix_law::frame::{DEPENDENT, KEPT};

    pub const LAWS: [MatrixLaw; 2] = [MatrixLaw::Gaussian, MatrixLaw::Orthogonal];
    pub const WIDTH: usize = 40;
    pub const OUTPUTS: usize = 24;
    pub const TOKENS: usize = 6;

    /// Rows that differ by about `delta` of their length.
    pub fn rows(width: usize, delta: f64, name: u64) -> Rows {
        let mut stream = Stream::new(0, &[name]);
        let (common, own) = (normal(width, 1, &mut stream), normal(width, TOKENS, &mut stream));
        Rows::from_fn(width, TOKENS, |i, a| common[i] + delta * own[(i, a)])
    }

    pub const DELTAS: [f64; 6] = [1.0, 1e-2, 1e-6, 1e-10, 1e-13, 0.0];

    /// Roundings of an inner product of this length, relative to the lengths of its factors.
    pub fn roundings(length: usize) -> f64 {
        2.0 * length as f64 * f64::EPSILON
    }

    /// What a frame leaves out of rows, and an inner product of this length rounds, relative to the lengths of its factors.
    fn left_out(length: usize) -> f64 {
        roundings(length) / KEPT + DEPENDENT * TOKENS as f64 * f64::EPSILON
    }

    fn stream(seed: u64, name: u64) -> Stream {
        Stream::new(seed, &[name])
    }

    /// A matrix's products, forward and back.
    struct Used {
        law: MatrixLaw,
        x: Rows,
        frame: Frame,
        pushed: Pushed,
        c: Rows,
    }

    impl Used {
        fn pull(&self, name: u64) -> (Rows, Vec<f64>) {
            self.frame.pull(&[(&self.pushed, &self.c)], &mut *self.law.matrices(stream(1, name)))
        }
    }

    /// Matrices of either law, wide, square and tall, at every collapse of the rows.
    fn used() -> impl Iterator<Item = (String, Used)> {
        let shapes = [(WIDTH, OUTPUTS), (WIDTH, WIDTH), (OUTPUTS, WIDTH)];
        let cases = LAWS.into_iter().flat_map(move |law| shapes.map(|shape| (law, shape)));
        cases.flat_map(|(law, shape)| DELTAS.map(|delta| (law, shape, delta))).map(|(law, (inputs, outputs), delta)| {
            let x = rows(inputs, delta, 1);
            let frame = Frame::of(&x);
            let pushed = frame.push("w", outputs, 1.3, &mut *law.matrices(stream(1, 2)));
            (
                format!("{law:?}, {inputs} to {outputs}, delta {delta}"),
                Used { law, x, frame, pushed, c: rows(outputs, 1.0, 3) },
            )
        })
    }

    #[test]
    fn a_pull_agrees_with_its_push_on_every_pair_of_tokens() {
        for (case, used) in used() {
            let (x, c, y, (p, _)) = (&used.x, &used.c, used.pushed.rows(&used.frame), used.pull(4));
            let error = (p.tr_mul(x) - c.tr_mul(&y)).abs().max();
            let bound = left_out(WIDTH + OUTPUTS) * (p.norm() * x.norm() + c.norm() * y.norm());
            assert!(error <= bound, "{case}: {error} > {bound}");
        }
    }

    #[test]
    fn what_the_pull_draws_is_orthogonal_to_what_the_push_read() {
        for (case, used) in used() {
            let fresh = used.pull(4).0 - used.pull(5).0;
            let along = fresh.tr_mul(&used.frame.basis).abs().max();
            let along = along.max(fresh.tr_mul(&used.x).abs().max() / used.x.norm());
            let bound = left_out(WIDTH) * fresh.norm();
            assert!(fresh.norm() > 0.0 && along <= bound, "{case}: {along} > {bound}");
        }
    }

    #[test]
    fn the_gradient_is_the_squared_length_of_the_outer_product() {
        for (case, used) in used() {
            let (_, gradients) = used.pull(4);
            let wanted = (&used.x * used.c.transpose()).norm();
            let bound = left_out(WIDTH) * used.x.norm() * used.c.norm();
            assert!((gradients[0].sqrt() - wanted).abs() <= bound, "{case}");
        }
    }

    /// Whether inner products are kept, up to the square of a factor and rounding.
    fn kept(before: &Rows, after: &Rows, factor: f64) -> bool {
        let error = (after.tr_mul(after) - before.tr_mul(before) * factor.powi(2)).abs().max();
        error <= left_out(2 * WIDTH) * before.norm_squared() * factor.powi(2)
    }

    /// An orthogonal matrix keeps inner products exactly where its outputs are not fewer than its inputs, and so does its
    /// transpose where they are not more: `|x W| = factor |x|` where it is square. A Gaussian one, the planted fault, does neither.
    #[test]
    fn orthogonal_matrices_keep_inner_products_and_gaussian_ones_do_not() {
        for (case, used) in used() {
            let (inputs, outputs) = (used.x.nrows() as f64, used.c.nrows() as f64);
            let factor = 1.3 * (outputs / inputs).max(1.0).sqrt();
            let orthogonal = used.law == MatrixLaw::Orthogonal;
            let (forward, back) = (used.pushed.rows(&used.frame), used.pull(4).0);
            assert_eq!(kept(&used.x, &forward, factor), orthogonal && outputs >= inputs, "forward: {case}");
            assert_eq!(kept(&used.c, &back, factor), orthogonal && outputs <= inputs, "back: {case}");
        }
    }

    #[test]
    fn an_orthogonal_push_draws_orthonormal_rows() {
        for (case, used) in used().filter(|(_, used)| used.law == MatrixLaw::Orthogonal) {
            let fresh = &used.pushed.fresh;
            let gram = fresh.tr_mul(fresh) / fresh.nrows() as f64;
            let error = (gram - Gram::identity(fresh.ncols(), fresh.ncols())).abs().max();
            assert!(fresh.ncols() == used.frame.rank() && error <= roundings(WIDTH) / KEPT, "{case}: {error}");
        }
    }

    /// Figures of one network `x -> x W -> c = y^3 -> c W^T`, W real or not, with two matrices on the same input.
    fn figures(p: &Rows, y: &Rows) -> Vec<f64> {
        let gram = p.tr_mul(p);
        let y = y.tr_mul(y);
        vec![gram[(0, 0)], gram[(0, 1)], gram[(1, 2)], gram.trace(), gram.trace().powi(2), y[(0, 0)], y[(1, 2)]]
    }

    fn drawn(law: MatrixLaw, x: &Rows, frame: &Frame, outputs: usize, seed: u64) -> Vec<f64> {
        let mut matrices = law.matrices(stream(seed, 7));
        let [one, other] = [0.8, 1.2].map(|factor| frame.push("w", outputs, factor, &mut *matrices));
        let (y, z) = (one.rows(frame), other.rows(frame));
        let (c, e) = (y.map(|y| y.powi(3)), y.component_mul(&z));
        let (p, gradients) = frame.pull(&[(&one, &c), (&other, &e)], &mut *matrices);
        assert_eq!(x.shape(), p.shape());
        [figures(&p, &y), gradients].concat()
    }

    /// A matrix of the law, whole.
    fn matrix(law: MatrixLaw, inputs: usize, outputs: usize, factor: f64, stream: &mut Stream) -> Rows {
        let (long, short) = (inputs.max(outputs), inputs.min(outputs));
        let standard = match law {
            MatrixLaw::Gaussian => normal(inputs, outputs, stream),
            MatrixLaw::Orthogonal => {
                let (q, r) = normal(long, short, stream).qr().unpack();
                let q = Rows::from_fn(long, short, |i, j| q[(i, j)] * r[(j, j)].signum()) * (long as f64).sqrt();
                if inputs == long { q } else { q.transpose() }
            }
        };
        standard * (factor / (inputs as f64).sqrt())
    }

    fn real(law: MatrixLaw, x: &Rows, outputs: usize, seed: u64) -> Vec<f64> {
        let mut stream = stream(seed, 8);
        let [one, other] = [0.8, 1.2].map(|factor| matrix(law, x.nrows(), outputs, factor, &mut stream));
        let (y, z) = (one.tr_mul(x), other.tr_mul(x));
        let (c, e) = (y.map(|y| y.powi(3)), y.component_mul(&z));
        let p = &one * &c + &other * &e;
        let gradient = |c: &Rows| (x * c.transpose()).norm_squared();
        [figures(&p, &y), vec![gradient(&c), gradient(&e)]].concat()
    }

    /// The largest difference of mean figures over draws of one law and of real matrices of another, and the quantile of a
    /// normal that it exceeds by chance once in a million.
    fn apart(drawn_law: MatrixLaw, real_law: MatrixLaw, (inputs, outputs): (usize, usize)) -> (f64, f64) {
        const DRAWS: u64 = 4000;
        let x = rows(inputs, 0.5, 1);
        let frame = Frame::of(&x);
        let sampled: Vec<Vec<f64>> = (0..DRAWS).map(|seed| drawn(drawn_law, &x, &frame, outputs, seed)).collect();
        let measured: Vec<Vec<f64>> = (0..DRAWS).map(|seed| real(real_law, &x, outputs, seed)).collect();
        let count = sampled[0].len();
        let limit = libm::sqrt(-2.0 * libm::log(1e-6 / count as f64));
        let moments = |of: &[Vec<f64>], i: usize| {
            let mean = of.iter().map(|f| f[i]).sum::<f64>() / DRAWS as f64;
            let square = of.iter().map(|f| (f[i] - mean).powi(2)).sum::<f64>() / DRAWS as f64;
            (mean, square / DRAWS as f64)
        };
        // What is the same in every draw is so on both sides, to rounding.
        let z = |i| {
            let ((a, va), (b, vb)) = (moments(&sampled, i), moments(&measured, i));
            (a - b).abs() / ((va + vb).sqrt() + roundings(WIDTH) * a.abs())
        };
        ((0..count).map(z).fold(0.0, f64::max), limit)
    }

    #[test]
    fn pushes_and_pulls_have_the_law_of_real_matrices() {
        for law in LAWS {
            for shape in [(WIDTH, OUTPUTS), (OUTPUTS, OUTPUTS), (OUTPUTS, WIDTH), (2 * TOKENS, TOKENS)] {
                let (z, limit) = apart(law, law, shape);
                assert!(z <= limit, "{law:?}, {shape:?}: z = {z}");
            }
        }
    }

    #[test]
    fn one_law_in_place_of_the_other_is_found() {
        for (drawn, real) in
            [(MatrixLaw::Gaussian, MatrixLaw::Orthogonal), (MatrixLaw::Orthogonal, MatrixLaw::Gaussian)]
        {
            let (z, limit) = apart(drawn, real, (WIDTH, OUTPUTS));
            assert!(z > limit, "{drawn:?} for {real:?}: z = {z}");
        }
    }
}
