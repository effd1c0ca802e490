//! How far tokens are apart behind the hidden layer, and how that varies between draws.

use crate::op::gaussian::{centred_trace, cholesky, collapse_unit};
use crate::op::{Gram, Moments, Site, mean_products};
use crate::random::Stream;

const SEED: u64 = 0xf4ee;

/// Draws times tokens for a whole network, and draws at least and at most.
const BUDGET: usize = 1 << 18;
const LEAST: usize = 64;
const MOST: usize = 2048;

/// A hidden layer by its Grams, and what becomes of one of its units.
pub struct Hidden<'a> {
    /// Of the pre-activations, and of the gate's other factor where there is one.
    pub before: Gram,
    pub gate: Option<Gram>,
    pub value: &'a dyn Fn(f64) -> f64,
    /// Behind the activation, before any norm.
    pub gram: &'a Gram,
    /// d K/d K_in, entry by entry.
    pub slope: &'a Gram,
    /// Whether a norm takes off the mean over units, and each token's length.
    pub centred: bool,
    pub scaled: bool,
}

/// The freedom of the output's Gram `out`, and the elasticity of its distance from token collapse.
///
/// A change of every correlation alike changes k1 by k0 (Price 1958, IRE Trans. Inf. Theory 4). What varies between hidden units is
/// taken from draws of one.
pub fn freedom(at: &Site, input: &Moments, hidden: &Hidden, out: &Gram) -> (f64, f64) {
    let (d, n_h) = (at.shape.width as f64, at.shape.ffn_width as f64);
    let k = &input.gram;
    let n = k.nrows() as f64;
    let (trace, hidden_trace) = (centred_trace(k), centred_trace(hidden.gram));
    if n < 2.0 || collapsed(k, trace) || collapsed(hidden.gram, hidden_trace) || collapsed(out, centred_trace(out)) {
        return (d, 1.0);
    }
    let mean_slope = (hidden.slope.sum() - hidden.slope.trace()) / (n * (n - 1.0));
    let elasticity = mean_slope * trace / hidden_trace;
    let draws = (BUDGET / (at.shape.tokens * at.shape.blocks)).clamp(LEAST, MOST);
    let own = unit(hidden, draws, &mut Stream::new(SEED, &[at.index as u64]));
    // A Wishart matrix's variance is positive but for rounding.
    let (Some(own), behind @ f64::MIN_POSITIVE..) = (own, collapse_unit(out)) else { return (d, 1.0) };
    let excess = elasticity.powi(2) * collapse_unit(k) / input.freedom + own / n_h;
    (1.0 / (1.0 / d + excess / behind), elasticity)
}

/// n_h times the relative variance of the distance from token collapse, tr K_c^/tr K^ of the hidden layer: as [`collapse_unit`]
/// for units that are not Gaussian, the variance of a^T P a/tr K_c - a^T a/tr K over units a, P taking off the mean over
/// tokens. Where a norm holds each token's length only correlations vary: a_a a_b loses K_ab (a_a^2/K_aa + a_b^2/K_bb)/2.
/// `None` where the draws' tokens are alike to rounding.
fn unit(hidden: &Hidden, draws: usize, stream: &mut Stream) -> Option<f64> {
    let n = hidden.before.nrows();
    let mut normal = |gram: &Gram| {
        let mut z = Gram::zeros(n, draws);
        stream.fill_normal(z.as_mut_slice());
        cholesky(gram) * z
    };
    let mut units = normal(&hidden.before).map(hidden.value);
    if let Some(gate) = &hidden.gate {
        units.component_mul_assign(&normal(gate));
    }
    for mut row in units.row_iter_mut() {
        let mean = if hidden.centred { row.mean() } else { 0.0 };
        row.add_scalar_mut(-mean);
        let length = (row.norm_squared() / draws as f64).sqrt();
        row.scale_mut(if hidden.scaled && length > 0.0 { 1.0 / length } else { 1.0 });
    }
    let second = mean_products(&units, &units);
    let (whole, centred) = (second.trace(), centred_trace(&second));
    if collapsed(&second, centred) {
        return None;
    }
    let off_mean: Vec<f64> = (0..n).map(|a| second[(a, a)] - second.row(a).mean()).collect();
    let deviation = |a: nalgebra::DVectorView<f64>| {
        let square = a.norm_squared();
        let apart = square - a.sum().powi(2) / n as f64;
        match hidden.scaled {
            true => (apart - a.iter().zip(&off_mean).map(|(a, p)| a * a * p).sum::<f64>()) / centred,
            false => apart / centred - square / whole,
        }
    };
    Some(units.column_iter().map(|a| deviation(a.as_view()).powi(2)).sum::<f64>() / draws as f64)
}

/// Whether tokens with this trace behind the centring are alike to rounding.
fn collapsed(k: &Gram, centred: f64) -> bool {
    let apart = centred > k.nrows() as f64 * f64::EPSILON * k.trace();
    // What is not a number is not above anything.
    !apart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden<'a>(gram: &'a Gram, value: &'a dyn Fn(f64) -> f64, gate: Option<Gram>) -> Hidden<'a> {
        Hidden { before: gram.clone(), gate, value, gram, slope: gram, centred: false, scaled: false }
    }

    fn correlated(r: f64) -> Gram {
        Gram::from_fn(3, 3, |a, b| if a == b { 1.0 } else { r })
    }

    const DRAWS: usize = 1 << 16;
    /// Six standard errors of a mean of squares whose own relative variance is that of a product of four normals at most.
    const MARGIN: f64 = 6.0 * 10.0 / 256.0;

    #[test]
    fn gaussian_units_have_the_variance_of_a_wishart_matrix() {
        for r in [0.0, 0.5, 0.9] {
            let gram = correlated(r);
            let found = unit(&hidden(&gram, &|x| x, None), DRAWS, &mut Stream::new(1, &[])).expect("tokens apart");
            assert!((found / collapse_unit(&gram) - 1.0).abs() < MARGIN, "{r}: {found}");
        }
    }

    #[test]
    fn draws_that_are_alike_to_rounding_say_nothing() {
        let gram = correlated(1.0 - f64::EPSILON);
        assert_eq!(unit(&hidden(&gram, &|x| x, None), 64, &mut Stream::new(3, &[])), None);
    }

    #[test]
    fn a_gate_widens_the_variance_of_collapsing_tokens_and_not_of_independent_ones() {
        let found = |r| {
            let gram = correlated(r);
            let product = gram.component_mul(&gram);
            let unit = unit(&hidden(&gram, &|x| x, Some(gram.clone())), DRAWS, &mut Stream::new(2, &[]));
            unit.expect("tokens apart") / collapse_unit(&product)
        };
        // Pairs of independent tokens vary by E a_a^2 a_b^2 = 1, whatever the fourth moment, 9.
        assert!((found(0.0) - 1.0).abs() < 3.0 * MARGIN && found(0.99) > 2.0);
    }
}
