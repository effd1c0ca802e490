//! Whether draws can show a mean at all: not where rare ones carry it.

use crate::claims::growth::name;
use crate::error::{Error, Result};
use crate::profile::Quantity;
use crate::verify::{GROUP_LEVEL, MOST_DRAWS, chi_square_quantiles, mean_is_seen};

/// Refuses gradients whose mean is so many times a wide network's that not one of the draws may carry it.
///
/// The factors of blocks multiply to about a log-normal law, whose mean is exp(s^2/2) of its typical value, and that is the
/// wide limit's. The draws need not show it: in ResiDual a second path of lesser spread hides the one that carries the mean.
pub fn carried_by_many(mean: [f64; 3], typical: [f64; 3], draws: usize) -> Result<()> {
    let times = mean.iter().zip(typical).map(|(mean, typical)| mean / typical).fold(0.0, f64::max);
    if mean_is_seen(2.0 * times.ln(), draws) {
        return Ok(());
    }
    Err(unseen(
        Quantity::Gradient,
        format!("its mean is {times:.0e} times that of a wide network: a few rare draws carry it"),
    ))
}

/// Refuses a mean over draws that no look can show.
pub fn seen(quantity: Quantity, ladder: &[Vec<f64>; 3]) -> Result<()> {
    // The least that the draws allow, so that chance refuses nothing.
    let variance = |values: &Vec<f64>| {
        let logarithms = values.iter().map(|v| v.ln());
        let mean = logarithms.clone().sum::<f64>() / values.len() as f64;
        let (_, above) = chi_square_quantiles(values.len() as f64 - 1.0, GROUP_LEVEL);
        logarithms.map(|v| (v - mean).powi(2)).sum::<f64>() / above
    };
    let widest = ladder.iter().map(variance).fold(0.0, f64::max);
    if mean_is_seen(widest, MOST_DRAWS) {
        return Ok(());
    }
    let rare = (widest / 2.0).exp();
    let reason = format!(
        "its logarithm has a variance above {widest:.0} between draws: one draw in {rare:.0e} carries the mean, which the closed form is of"
    );
    Err(unseen(quantity, reason))
}

/// That no look can show it.
pub fn unseen(quantity: Quantity, reason: String) -> Error {
    Error::Refused { subject: name(quantity).into(), reason, help: "judge it in a wider network: --width".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_refused_where_fewer_than_one_of_the_draws_carries_it() {
        let typical = [1.0, 1.0, 1.0];
        assert!(carried_by_many([63.0, 1.0, 1.0], typical, 64).is_ok());
        let refused = carried_by_many([65.0, 1.0, 1.0], typical, 64).unwrap_err().to_string();
        assert!(refused.contains("6e1 times that of a wide network"), "{refused}");
    }
}
