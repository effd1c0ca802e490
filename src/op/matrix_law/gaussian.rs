//! The law of a matrix with independent Gaussian entries, given its products.

use crate::op::columns::{combine, products};
use crate::op::matrix_law::normal;
use crate::op::{Frame, Gram, Matrices, Pushed, Rows};
use crate::random::Stream;

impl Matrices for Stream {
    /// Z `(outputs, rank)`, iid N(0, 1).
    fn push(&mut self, _: &str, frame: &Frame, outputs: usize, _: f64) -> Rows {
        normal(outputs, frame.rank(), self)
    }

    /// With `x = L Q`, `y = s L Z`, `c = M P` (Q and P orthonormal), and Z' fresh:
    /// `p = s (c Z^T) Q + s M Z' (1 - Q^T Q)` and `|x^T c|^2 = |L^T M|^2`. The fresh parts of several matrices are
    /// independent Gaussians, so one is drawn for their sum.
    fn pull(&mut self, frame: &Frame, uses: &[(&Pushed, &Rows)]) -> (Rows, Vec<f64>) {
        let tokens = frame.tokens();
        let mut along = Gram::zeros(tokens, frame.rank());
        let mut roots = Vec::new();
        let mut gradients = Vec::new();
        for (pushed, cotangent) in uses {
            along += products(*cotangent, &pushed.fresh) * pushed.deviation;
            let root = Frame::of(cotangent).coefficients;
            gradients.push(frame.coefficients.tr_mul(&root).norm_squared());
            roots.push(root * pushed.deviation);
        }
        let root = root_of_sum(roots, tokens);
        let fresh = normal(frame.width(), root.ncols(), self);
        along -= &root * products(&fresh, &frame.basis);
        let mut pulled = Rows::zeros(frame.width(), tokens);
        combine(&mut pulled, &along, &frame.basis);
        combine(&mut pulled, &root, &fresh);
        (pulled, gradients)
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
