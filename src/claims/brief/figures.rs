//! Figures of a statement as evidence: means and exponents over draws, with their intervals.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::verify::{Evidence, Interval, Method};

/// The two-sided error rate of a figure: with fewer than a hundred figures, the whole brief stays below 1e-10.
pub const ALPHA: f64 = 1e-12;

/// What "roughly", "close to" and "about" allow on either side.
pub const ROUGHLY: f64 = 0.25;

/// Within what an expected value is taken to equal a stated one.
pub const MARGIN: f64 = 0.05;

/// Within what an exponent is taken to equal a stated one: a figure that grows with it over sixteenfold depth differs by a third.
pub const EXPONENT: f64 = 0.1;

/// The mean of a figure over draws.
pub fn mean(figure: impl Into<String>, values: Vec<f64>, accepted: Interval) -> Evidence {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    let quantile = StudentsT::new(0.0, 1.0, n - 1.0).map_or(f64::INFINITY, |t| -t.inverse_cdf(ALPHA / 2.0));
    Evidence {
        found: mean,
        interval: Interval::around(mean, quantile * (spread / (n - 1.0) / n).sqrt()),
        method: Method::Student,
        alpha: ALPHA,
        sample: values.len() as u64,
        raw: values,
        ..Evidence::exact(figure, mean, accepted)
    }
}

/// The exponent p of `y = c x^p`: the least-squares slope of ln y against ln x, one a draw, averaged over draws.
pub fn exponent(figure: impl Into<String>, points: &[(f64, Vec<f64>)], accepted: Interval) -> Evidence {
    let x: Vec<f64> = points.iter().map(|(x, _)| x.ln()).collect();
    let centre = x.iter().sum::<f64>() / x.len() as f64;
    let square: f64 = x.iter().map(|x| (x - centre).powi(2)).sum();
    let draws = points.iter().map(|(_, y)| y.len()).min().unwrap_or(0);
    let slope = |draw: usize| {
        let products = x.iter().zip(points).map(|(x, (_, y))| (x - centre) * y[draw].ln());
        products.sum::<f64>() / square
    };
    mean(figure, (0..draws).map(slope).collect(), accepted)
}

/// Depths in powers of two from a sixteenth of the largest, at least 1.
pub fn depths(largest: usize) -> Vec<usize> {
    (0..5).rev().map(|halvings| largest >> halvings).filter(|depth| *depth > 0).collect()
}

/// Square roots: norms of squared gradients, rms of second moments.
pub fn roots(squares: Vec<f64>) -> Vec<f64> {
    squares.into_iter().map(f64::sqrt).collect()
}

/// One ratio a draw.
pub fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(a, b)| a / b).collect()
}
