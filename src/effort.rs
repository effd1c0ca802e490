//! What a request takes in time, so that one without end is refused before it starts.

use crate::error::{Error, Result};

/// Floating-point operations that one core does in a second, from below: small matrices in f64.
const RATE: f64 = 1e9;

/// The longest that one command may be expected to run, in hours.
const LONGEST: f64 = 24.0;

/// Refuses a request of so many operations, spread over rayon's threads.
///
/// # Errors
/// [`Error::Effort`] where it would run for more than a day.
pub fn fits(operations: f64) -> Result<()> {
    let hours = operations / RATE / rayon::current_num_threads() as f64 / 3600.0;
    if hours > LONGEST { Err(Error::Effort { hours, longest: LONGEST }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_more_than_a_day_is_refused_with_its_hours() {
        let a_day = RATE * rayon::current_num_threads() as f64 * 3600.0 * LONGEST;
        assert!(fits(a_day).is_ok());
        let refused = fits(2.0 * a_day).expect_err("two days").to_string();
        assert_eq!(refused, "this request would run for about 48 hours here, and 24 are the most");
    }
}
