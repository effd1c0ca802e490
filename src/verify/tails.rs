//! Tails and quantiles far out, where verdicts live: relative accuracy, not absolute.
//!
//! No tail here is one minus the other; a probability of 1e-300 keeps its digits.

use std::cell::RefCell;
use std::collections::HashMap;

use statrs::function::beta::beta_reg;

/// P(X <= x) and P(X >= x) for X chi-square with `degrees` degrees of freedom, both to a relative error below 1e-11
/// for 1 to 1e8 degrees, and down to 1e-300.
///
/// The smaller of the two by its own series (Abramowitz and Stegun 1964, 6.5.29) or continued fraction (6.5.31), their
/// common factor by deviances (Loader 2000), so that nothing cancels at many degrees.
///
/// ```
/// let (_, above) = normative::verify::chi_square(1.0, 3.841458820694124);
/// assert!((above - 0.05).abs() < 1e-14);
/// ```
pub fn chi_square(degrees: f64, x: f64) -> (f64, f64) {
    let (a, x) = (degrees / 2.0, x / 2.0);
    match () {
        () if !(a > 0.0 && x.is_finite()) => (f64::NAN, f64::NAN),
        () if x <= 0.0 => (0.0, 1.0),
        () if x < a + 1.0 => {
            let below = poisson(a, x) * series(a, x);
            (below, 1.0 - below)
        }
        () => {
            let above = poisson(a, x) * a * fraction(a, x);
            (1.0 - above, above)
        }
    }
}

/// x^a e^-x / Gamma(a + 1).
fn poisson(a: f64, x: f64) -> f64 {
    (-stirling(a) - deviance(a, x)).exp() / (2.0 * std::f64::consts::PI * a).sqrt()
}

/// a ln(a/x) + x - a, which is not negative.
fn deviance(a: f64, x: f64) -> f64 {
    let u = (x - a) / a;
    if u.abs() > 0.1 {
        return a * (u - (x / a).ln());
    }
    // u - ln(1 + u) = u^2/2 - u^3/3 + ...
    let mut sum = 0.0;
    let mut power = u * u;
    for k in 2..=20 {
        let term = power / f64::from(k);
        sum += if k % 2 == 0 { term } else { -term };
        power *= u;
    }
    a * sum
}

/// ln Gamma(a + 1) - (a + 1/2) ln a + a - ln(2 pi)/2 (Abramowitz and Stegun 6.1.41).
fn stirling(a: f64) -> f64 {
    if a < 16.0 {
        return libm::lgamma(a + 1.0) - (a + 0.5) * libm::log(a) + a - 0.5 * libm::log(2.0 * std::f64::consts::PI);
    }
    let s = 1.0 / (a * a);
    (1.0 / 12.0 - s * (1.0 / 360.0 - s * (1.0 / 1260.0 - s * (1.0 / 1680.0 - s / 1188.0)))) / a
}

/// sum over k of x^k / ((a + 1) ... (a + k)).
fn series(a: f64, x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 0.0);
    while term > sum * f64::EPSILON / 8.0 {
        k += 1.0;
        term *= x / (a + k);
        sum += term;
    }
    sum
}

/// 1/(x + 1 - a - 1 (1 - a)/(x + 3 - a - 2 (2 - a)/(x + 5 - a - ...))), by Lentz's method.
fn fraction(a: f64, x: f64) -> f64 {
    let mut b = x + 1.0 - a;
    let mut c = f64::INFINITY;
    let mut d = 1.0 / b;
    let mut h = d;
    let mut i = 0.0;
    loop {
        i += 1.0;
        let n = -i * (i - a);
        b += 2.0;
        d = 1.0 / (n * d + b);
        c = b + n / c;
        h *= d * c;
        if (d * c - 1.0).abs() <= f64::EPSILON {
            return h;
        }
    }
}

/// The values that chi-square stays above, and below, except with probability `tail` each.
pub fn chi_square_quantiles(degrees: f64, tail: f64) -> (f64, f64) {
    thread_local! {
        // A network's matrices are of few shapes and all judged at one level.
        static KNOWN: RefCell<HashMap<[u64; 2], (f64, f64)>> = RefCell::default();
    }
    let key = [degrees, tail].map(f64::to_bits);
    let find = || (quantile(degrees, tail, false), quantile(degrees, tail, true));
    KNOWN.with_borrow_mut(|known| *known.entry(key).or_insert_with(find))
}

/// Where the upper or lower tail is `tail`: Newton's method on its logarithm, kept between bounds that are known.
fn quantile(degrees: f64, tail: f64, upper: bool) -> f64 {
    let of = |x: f64| if upper { chi_square(degrees, x).1 } else { chi_square(degrees, x).0 };
    let (mut from, mut to) = (0.0, f64::INFINITY);
    let mut x = degrees;
    for _ in 0..200 {
        let found = of(x);
        // The upper tail falls with x, the lower one rises.
        match (found > tail) == upper {
            true => from = x,
            false => to = x,
        }
        let slope = poisson(degrees / 2.0, x / 2.0) * degrees / (2.0 * x) / found;
        let step = (found / tail).ln() / if upper { slope } else { -slope };
        let newton = x + step;
        let next = match newton > from && newton < to {
            true => newton,
            false if to.is_finite() => 0.5 * (from + to),
            false => 2.0 * x,
        };
        if (next - x).abs() <= f64::EPSILON * x || next == from || next == to {
            return next;
        }
        x = next;
    }
    x
}

/// The value that |T| stays below except with probability `alpha`, T Student's with `degrees` degrees of freedom.
pub fn student_quantile(degrees: f64, alpha: f64) -> f64 {
    // P(|T| > t) = I_s(degrees/2, 1/2) at s = degrees/(degrees + t^2).
    let outside = |t: f64| beta_reg(degrees / 2.0, 0.5, degrees / (degrees + t * t));
    if degrees.is_nan() || degrees < 1.0 || alpha.is_nan() || alpha <= 0.0 {
        return f64::INFINITY;
    }
    let mut far = 2.0;
    while far < f64::MAX.sqrt() && outside(far) > alpha {
        far *= 2.0;
    }
    bisect(0.0, far, |t| t == 0.0 || outside(t) > alpha)
}

/// The proportions that fit `successes` of `trials`: outside with probability `alpha` at most (Clopper and Pearson 1934).
pub fn clopper_pearson(successes: f64, trials: f64, alpha: f64) -> (f64, f64) {
    let (k, n, tail) = (successes, trials, alpha / 2.0);
    // P(K >= k) = I_p(k, n - k + 1); P(K <= k) = I_(1 - p)(n - k, k + 1).
    let from = if k <= 0.0 { 0.0 } else { bisect(0.0, 1.0, |p| p == 0.0 || beta_reg(k, n - k + 1.0, p) < tail) };
    let to = if k >= n { 1.0 } else { bisect(0.0, 1.0, |p| p == 0.0 || beta_reg(n - k, k + 1.0, 1.0 - p) > tail) };
    (from, to)
}

/// The point between `from`, where `left` holds, and `to`, where it does not, at which it ends; to the last bit or two.
pub(crate) fn bisect(mut from: f64, mut to: f64, left: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = 0.5 * (from + to);
        if middle <= from || middle >= to {
            break;
        }
        match left(middle) {
            true => from = middle,
            false => to = middle,
        }
    }
    0.5 * (from + to)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Degrees, x, P(X <= x), P(X >= x): mpmath 1.3.0, `gammainc` regularized, 40 digits.
    const TABLE: &[(f64, f64, f64, f64)] = &[
        (1.0, 0.4705075445816187, 0.50724623305540839, 0.49275376694459161),
        (1.0, 126.5376470856489, 1.0, 2.3451056382983395e-29),
        (2.0, 21.947873799725656, 0.99998285727889589, 1.7142721104106294e-5),
        (3.0, 1385.7042229079107, 1.0, 3.7259723211378387e-300),
        (7.0, 0.11683232822358608, 3.958335995155995e-6, 0.99999604166400484),
        (7.0, 119.07496629000457, 1.0, 1.1937342356843997e-22),
        (30.0, 0.3107895238464942, 4.9180737850526858e-25, 1.0),
        (31.0, 167.52072925919938, 1.0, 1.158365643595424e-20),
        (32.0, 9.188260888203022, 2.5895038094144555e-5, 0.99997410496190586),
        (33.0, 931.5074536559729, 1.0, 2.4079557636773412e-174),
        (100.0, 18.863896752616043, 1.7343685851007464e-20, 1.0),
        (100.0, 99.33481371742113, 0.50001938428972741, 0.49998061571027259),
        (1000.0, 648.5931576668859, 9.8701933098675645e-20, 1.0),
        (1000.0, 1458.0498052741295, 1.0, 1.0150912106369687e-19),
    ];

    #[test]
    fn chi_square_tails_are_right_to_thirteen_digits_down_to_1e_300() {
        for (degrees, x, below, above) in TABLE {
            let found = chi_square(*degrees, *x);
            for (found, wanted) in [(found.0, below), (found.1, above)] {
                // An ulp of x moves a tail by about the size of its logarithm.
                let bound = (1e-13_f64).max(-4.0 * wanted.ln() * f64::EPSILON) * wanted;
                assert!((found - wanted).abs() <= bound, "{degrees} {x}: {found:e} for {wanted:e}");
            }
        }
    }

    #[test]
    fn quantiles_invert_the_tails() {
        for degrees in [1.0, 5.0, 40.0, 8192.0, 2.5e6] {
            for tail in [0.3, 1e-3, 1e-9, 1e-13, 1e-20] {
                let (low, high) = chi_square_quantiles(degrees, tail);
                let reached = [chi_square(degrees, low).0, chi_square(degrees, high).1];
                // An ulp of x moves ln F by x f/F ulps, which is below sqrt(degrees) (1 + 2 |ln tail|).
                let bound = 16.0 * f64::EPSILON * degrees.sqrt() * (1.0 - 2.0 * tail.ln());
                for tail_of in reached {
                    assert!((tail_of / tail - 1.0).abs() <= bound, "{degrees} {tail:e}: {tail_of:e}");
                }
            }
        }
    }

    #[test]
    fn student_and_binomial_quantiles_are_the_tabulated_ones() {
        // Root finding by mpmath 1.3.0 on `betainc`, 30 digits.
        for (degrees, alpha, wanted) in STUDENT {
            let found = student_quantile(*degrees, *alpha);
            assert!((found / wanted - 1.0).abs() <= 1e-12, "{degrees} {alpha:e}: {found} for {wanted}");
        }
        for (successes, trials, alpha, from, to) in BINOMIAL {
            let found = clopper_pearson(*successes, *trials, *alpha);
            for (found, wanted) in [(found.0, from), (found.1, to)] {
                assert!((found - wanted).abs() <= 1e-12 * wanted, "{successes}/{trials}: {found} for {wanted}");
            }
        }
    }

    const STUDENT: &[(f64, f64, f64)] = &[
        (1.0, 0.001, 636.6192487687196),
        (7.0, 0.001, 5.4078825208617252),
        (7.0, 1e-12, 114.85534318720377),
        (23.0, 1e-09, 9.8583041209066613),
        (63.0, 1e-13, 9.470886681178129),
        (255.0, 1e-06, 5.0137732715179076),
    ];

    const BINOMIAL: &[(f64, f64, f64, f64, f64)] = &[
        (0.0, 100.0, 1e-06, 0.0, 0.13505259501571658),
        (5.0, 40.0, 0.01, 0.027990542646445421, 0.31512199895215826),
        (30.0, 400.0, 1e-09, 0.019290605458257057, 0.18331742903919354),
        (40.0, 40.0, 0.001, 0.82694047672479694, 1.0),
    ];
}
