//! The law of a uniform orthogonal matrix, given its products.

use crate::op::columns::{Columns, combine, products};
use crate::op::matrix_law::frame::Basis;
use crate::op::{Frame, Gram, Matrices, Pushed, Rows};
use crate::random::Stream;

/// Draws for `W = s sqrt(N) H` cut to `(inputs, outputs)`, H uniform among the orthogonal N x N matrices,
/// N = max(inputs, outputs).
pub(super) struct Haar(pub Stream);

impl Matrices for Haar {
    /// `sqrt(N) U^T`, U = Q H uniform among r orthonormal rows: `(N, r)`, of which the first rows make the product.
    fn push(&mut self, _: &str, frame: &Frame, outputs: usize, _: f64) -> Rows {
        let whole = frame.width().max(outputs);
        uniform(&Rows::zeros(frame.width(), 0), whole, frame.rank(), &mut self.0) * (whole as f64).sqrt()
    }

    /// With `x = L Q` and c filled up with zeros to N, `c = A U + M P` (P orthonormal, off U), and F uniform off Q:
    /// `p = s sqrt(N) (A Q + M F)` cut to the inputs, and `|x^T c|^2 = |L^T A|^2 + |L^T M|^2`.
    fn pull(&mut self, frame: &Frame, uses: &[(&Pushed, &Rows)]) -> (Rows, Vec<f64>) {
        let mut pulled = Rows::zeros(frame.width(), frame.tokens());
        let mut gradients = Vec::new();
        for (pushed, cotangent) in uses {
            // sqrt(N) U, so that what is taken along it is sqrt(N) A.
            let rows = &pushed.fresh;
            let whole = rows.nrows() as f64;
            let known = products(*cotangent, Columns::part(rows, 0, cotangent.nrows()));
            let mut rest = (*cotangent).clone().resize_vertically(rows.nrows(), 0.0);
            combine(&mut rest, &(&known * (-1.0 / whole)), rows);
            let root = Frame::of(&rest).coefficients;
            let squares = |m: &Gram| frame.coefficients.tr_mul(m).norm_squared();
            gradients.push(squares(&known) / whole + squares(&root));
            let fresh = uniform(&frame.basis, rows.nrows(), root.ncols(), &mut self.0);
            combine(&mut pulled, &(known * pushed.deviation), &frame.basis);
            let inputs = Columns::part(&fresh, 0, frame.width());
            combine(&mut pulled, &(root * (pushed.deviation * whole.sqrt())), inputs);
        }
        (pulled, gradients)
    }
}

/// Orthonormal columns `(width, count)`, uniform among those orthogonal to the given ones, which may be shorter.
///
/// Gram-Schmidt on Gaussian vectors, whose law no rotation that leaves the given ones in place changes.
fn uniform(given: &Rows, width: usize, count: usize, stream: &mut Stream) -> Rows {
    let vectors = given.ncols() + count;
    let mut basis = Basis::new(width, vectors);
    basis.extend(given);
    for _ in 0..count {
        basis.add(&stream.normals(width), vectors);
    }
    basis.from(given.ncols())
}
