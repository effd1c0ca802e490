//! Realised Grams: Wishart matrices by their Cholesky factors, so that a draw needs T^2/2 numbers whatever the width.
//!
//! For Z with independent N(0, 1) entries, (n, nu), Z Z^T = L L^T with L lower triangular, L_ii^2 chi-square with nu - i
//! degrees of freedom (i from 0), and independent normals below (Bartlett 1933, Proc. R. Soc. Edinb. 53; Anderson
//! 2003, section 7.2). A chi of many degrees is drawn from one normal by the cube-root transformation (Wilson & Hilferty 1931,
//! PNAS 17), which gives fractional degrees a meaning.

use crate::op::Gram;
use crate::random::Stream;

/// Degrees of freedom from which one normal stands for a chi-square (its error in the mean is below 1e-4 from here).
const MANY: f64 = 12.0;

/// L, (n, min(n, nu)), with L L^T the Wishart matrix of `freedom` degrees and unit covariance.
pub fn bartlett(n: usize, freedom: f64, stream: &mut Stream) -> Gram {
    let columns = n.min(freedom.ceil().max(0.0) as usize);
    let mut l = Gram::zeros(n, columns);
    for j in 0..columns {
        l[(j, j)] = chi(freedom - j as f64, stream);
        stream.fill_normal(&mut l.as_mut_slice()[j * n + j + 1..(j + 1) * n]);
    }
    l
}

/// The root of a chi-square variable.
fn chi(freedom: f64, stream: &mut Stream) -> f64 {
    if freedom >= MANY {
        let variance = 2.0 / (9.0 * freedom);
        let cube_root = 1.0 - variance + variance.sqrt() * stream.normal();
        return (freedom * cube_root.powi(3)).max(0.0).sqrt();
    }
    let squares = (0..freedom.round() as usize).map(|_| stream.normal().powi(2));
    squares.sum::<f64>().sqrt()
}

/// Independent N(0, 1) entries.
pub fn normal(rows: usize, columns: usize, stream: &mut Stream) -> Gram {
    let mut z = Gram::zeros(rows, columns);
    stream.fill_normal(z.as_mut_slice());
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bartlett_factors_have_the_wishart_mean_and_variance() {
        let (n, freedom, draws) = (4, 20.5, 20_000);
        let mut stream = Stream::new(1, &[]);
        let (mut mean, mut square) = (Gram::zeros(n, n), Gram::zeros(n, n));
        for _ in 0..draws {
            let l = bartlett(n, freedom, &mut stream);
            let w = &l * l.transpose();
            square += w.component_mul(&w);
            mean += w;
        }
        (mean, square) = (mean / draws as f64, square / draws as f64);
        for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
            let (expected, variance) = if a == b { (freedom, 2.0 * freedom) } else { (0.0, freedom) };
            // Six standard errors; the relative variance of a squared deviation is below 3 here.
            let (of_mean, of_variance) = ((variance / draws as f64).sqrt(), variance * (3.0 / draws as f64).sqrt());
            assert!((mean[(a, b)] - expected).abs() < 6.0 * of_mean);
            assert!((square[(a, b)] - mean[(a, b)].powi(2) - variance).abs() < 6.0 * of_variance);
        }
    }
}
