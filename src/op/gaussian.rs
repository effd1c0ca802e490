//! Expectations of functions of one and of two Gaussian coordinates.
//!
//! E[f(u) g(v)] for a Gaussian pair of correlation r is a power series in r with the products of Hermite
//! coefficients (Mehler 1866), so that a T x T kernel costs T one-dimensional quadratures and T^2 short sums.
//! Must not know which op asks.

use std::sync::LazyLock;

use crate::op::{CANCELS, Expected, Gram};

/// Hermite coefficients kept; the rest of the energy goes into one further power of r, so that r = 1 is exact.
const ORDER: usize = 40;
/// Half width and step of the trapezoidal rule. For functions analytic in a strip of half width w its error falls as
/// exp(-2 pi w/h) (Trefethen & Weideman 2014, SIAM Review 56, theorem 5.1): below 1e-16 for tanh(z/2).
const REACH: f64 = 12.0;
const STEP: f64 = 0.05;

/// Points, Gaussian weights, and h_n(z) times the weight for every n below [`ORDER`].
struct Grid {
    points: Vec<f64>,
    weights: Vec<f64>,
    hermite: Vec<[f64; ORDER]>,
}

static GRID: LazyLock<Grid> = LazyLock::new(|| {
    let half = (REACH / STEP).round() as i64;
    let points: Vec<f64> = (-half..=half).map(|i| i as f64 * STEP).collect();
    let scale = STEP / (2.0 * std::f64::consts::PI).sqrt();
    let weights: Vec<f64> = points.iter().map(|z| scale * (-z * z / 2.0).exp()).collect();
    let hermite = points.iter().zip(&weights).map(|(&z, w)| hermite(z).map(|h| h * w)).collect();
    Grid { points, weights, hermite }
});

/// The normalized Hermite polynomials h_0..: E[h_m(z) h_n(z)] = 1 where m = n, else 0.
fn hermite(z: f64) -> [f64; ORDER] {
    let mut h = [1.0; ORDER];
    h[1] = z;
    for n in 1..ORDER - 1 {
        h[n + 1] = (z * h[n] - (n as f64).sqrt() * h[n - 1]) / ((n + 1) as f64).sqrt();
    }
    h
}

/// E[f(z)], z ~ N(0, 1).
pub(crate) fn expectation(f: impl Fn(f64) -> f64) -> f64 {
    GRID.points.iter().zip(&GRID.weights).map(|(z, w)| w * f(*z)).sum()
}

/// A function of a standard normal as Hermite coefficients.
#[derive(Clone, Debug)]
pub(crate) struct Expansion {
    coefficients: [f64; ORDER],
    /// The root of the energy beyond the coefficients.
    rest: f64,
}

impl Expansion {
    pub fn of(f: impl Fn(f64) -> f64) -> Self {
        let mut coefficients = [0.0; ORDER];
        let mut energy = 0.0;
        for ((z, w), h) in GRID.points.iter().zip(&GRID.weights).zip(&GRID.hermite) {
            let value = f(*z);
            energy += w * value * value;
            for (c, h) in coefficients.iter_mut().zip(h) {
                *c += value * h;
            }
        }
        let kept: f64 = coefficients.iter().map(|c| c * c).sum();
        Expansion { coefficients, rest: (energy - kept).max(0.0).sqrt() }
    }

    /// E[f].
    pub fn mean(&self) -> f64 {
        self.coefficients[0]
    }

    /// E[f(u) g(v)], corr(u, v) = r.
    pub fn pair(&self, other: &Expansion, r: f64) -> f64 {
        let products = self.coefficients.iter().zip(&other.coefficients).rev();
        products.fold(self.rest * other.rest, |sum, (c, d)| sum * r + c * d)
    }
}

/// One expansion a token, shared by tokens of the same second moment.
pub(crate) struct Expansions {
    distinct: Vec<Expansion>,
    of: Vec<usize>,
}

impl Expansions {
    /// Expands z -> f(root * z) for every token's root second moment.
    pub fn of(roots: &[f64], f: impl Fn(f64) -> f64) -> Self {
        let mut known: Vec<f64> = Vec::new();
        let of = roots.iter().map(|&root| {
            let same = |k: &f64| (k - root).abs() <= 4.0 * f64::EPSILON * root.abs();
            known.iter().position(same).unwrap_or_else(|| {
                known.push(root);
                known.len() - 1
            })
        });
        let of = of.collect();
        let distinct = known.iter().map(|root| Expansion::of(|z| f(root * z))).collect();
        Expansions { distinct, of }
    }

    pub fn at(&self, token: usize) -> &Expansion {
        &self.distinct[self.of[token]]
    }

    /// E[f_a f_b] for all pairs of tokens.
    pub fn kernel(&self, correlation: &Gram) -> Gram {
        symmetric(correlation.nrows(), |a, b| self.at(a).pair(self.at(b), correlation[(a, b)]))
    }

    /// E[f_a], token by token.
    pub fn means(&self) -> Vec<f64> {
        self.of.iter().map(|&i| self.distinct[i].mean()).collect()
    }
}

/// A symmetric matrix from its lower triangle.
pub(crate) fn symmetric(n: usize, entry: impl Fn(usize, usize) -> f64) -> Gram {
    let mut out = Gram::zeros(n, n);
    for b in 0..n {
        for a in b..n {
            let value = entry(a, b);
            out[(a, b)] = value;
            out[(b, a)] = value;
        }
    }
    out
}

/// Per token, the root of the diagonal.
pub(crate) fn roots(gram: &Gram) -> Vec<f64> {
    gram.diagonal().iter().map(|k| k.max(0.0).sqrt()).collect()
}

/// K_ab/sqrt(K_aa K_bb), exactly 1 on the diagonal; 0 between tokens of which one is zero.
pub(crate) fn correlation(gram: &Gram) -> Gram {
    let roots = roots(gram);
    symmetric(gram.nrows(), |a, b| match (a == b, roots[a] * roots[b]) {
        (true, _) => 1.0,
        (_, 0.0) => 0.0,
        (_, product) => (gram[(a, b)] / product).clamp(-1.0, 1.0),
    })
}

/// The lower triangular factor of a positive semidefinite Gram. A pivot lost to rounding, as where tokens
/// coincide, gives a zero column instead of a failure.
pub(crate) fn cholesky(k: &Gram) -> Gram {
    let n = k.nrows();
    let mut l = Gram::zeros(n, n);
    for j in 0..n {
        let pivot = k[(j, j)] - (0..j).map(|i| l[(j, i)].powi(2)).sum::<f64>();
        if pivot <= 8.0 * n as f64 * f64::EPSILON * k[(j, j)] {
            continue;
        }
        let root = pivot.sqrt();
        l[(j, j)] = root;
        for a in j + 1..n {
            l[(a, j)] = (k[(a, j)] - (0..j).map(|i| l[(a, i)] * l[(j, i)]).sum::<f64>()) / root;
        }
    }
    l
}

/// tr K with the mean over tokens taken off.
pub(crate) fn centred_trace(k: &Gram) -> f64 {
    k.trace() - k.sum() / k.nrows() as f64
}

/// K_c: the mean over tokens taken off, entry by entry, so that what is left of tokens that are nearly alike keeps its digits.
fn centred(k: &Gram) -> Gram {
    let (rows, columns, mean) = (k.column_mean(), k.row_mean(), k.mean());
    Gram::from_fn(k.nrows(), k.ncols(), |a, b| (k[(a, b)] - rows[a]) - (columns[b] - mean))
}

/// tr K_c L_c of two symmetric Grams with the mean over tokens taken off.
pub(crate) fn centred_product(k: &Gram, l: &Gram) -> f64 {
    centred(k).dot(&centred(l))
}

/// nu times the relative variance of tr K_c^/tr K^ for a Wishart matrix of nu degrees: how the distance from
/// token collapse varies.
///
/// 2 tr (M K)^2 with M = P/tr(P K) - I/tr K, P taking off the mean over tokens.
pub(crate) fn collapse_unit(k: &Gram) -> f64 {
    let n = k.nrows() as f64;
    let (whole, centred) = (k.trace(), centred_trace(k));
    let square = k.norm_squared();
    let half = square - k.row_sum().norm_squared() / n;
    2.0 * (centred_product(k, k) / centred.powi(2) - 2.0 * half / (centred * whole) + square / whole.powi(2))
}

/// The sum of a Gram's entries, |sum_a g_a|^2; none where tokens cancel and what is left is rounding.
pub(crate) fn total(gram: &Gram) -> Expected {
    let sum = gram.sum();
    let size: f64 = gram.iter().map(|g| g.abs()).sum();
    if size > 0.0 && sum <= size * (gram.len() as f64) * f64::EPSILON { Err(CANCELS) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variance_of_the_distance_from_collapse_keeps_its_digits_near_it() {
        // Tokens of one correlation r: what is left of them is 1 - r times the same whatever r is, and the whole varies apart from it.
        let unit =
            |distance: f64| collapse_unit(&Gram::from_fn(3, 3, |a, b| if a == b { 1.0 } else { 1.0 - distance }));
        let near = unit(1e-4);
        for distance in [1e-6, 1e-9, 1e-12] {
            // Entries are known to EPSILON, and so is the distance between them, several times.
            let reach = 2.0 * (1e-4 + 16.0 * f64::EPSILON / distance);
            assert!((unit(distance) / near - 1.0).abs() < reach, "{distance}: {} for {near}", unit(distance));
        }
    }

    #[test]
    fn pair_expectations_of_erf_match_their_closed_form() {
        // E[erf(a u) erf(a v)] = (2/pi) asin(2 a^2 r/(1 + 2 a^2)) (Williams 1998, Eq. 10).
        for a in [0.3, 1.0, 2.0] {
            let erf = Expansion::of(|z| libm::erf(a * z));
            for r in [-0.9, -0.2, 0.0, 0.5, 0.99, 1.0] {
                let exact = (2.0 * a * a * r / (1.0 + 2.0 * a * a)).asin() * 2.0 / std::f64::consts::PI;
                // The series is cut at ORDER; what is beyond is at most the rest's energy, either sign at r < 0, and 0 at r = 1.
                let power = r.abs().powi(ORDER as i32);
                let cut = erf.rest.powi(2) * if r < 0.0 { 2.0 * power } else { power - power * power };
                assert!((erf.pair(&erf, r) - exact).abs() <= cut + 1e3 * f64::EPSILON, "a {a} r {r}");
            }
        }
    }

    #[test]
    fn hermite_polynomials_are_orthonormal_on_the_grid() {
        for n in 0..12 {
            let h = Expansion::of(|z| hermite(z)[n]);
            assert!((h.coefficients[n] - 1.0).abs() < 1e4 * f64::EPSILON);
            assert!(h.rest < 1e4 * f64::EPSILON.sqrt());
        }
    }

    #[test]
    fn a_singular_gram_has_a_factor() {
        let k = Gram::from_element(5, 5, 2.0);
        let l = cholesky(&k);
        assert!((&l * l.transpose() - k).amax() < 1e2 * f64::EPSILON);
    }
}
