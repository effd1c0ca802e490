//! How many draws a figure asks for that the ones it has leave open.

use crate::verify::Verdict;
use crate::verify::estimate::exponent_reach;
use crate::verify::evidence::{Evidence, Interval, Method};

/// Draws of another look, at most; where there were many already, four times as many.
pub const MOST_DRAWS: usize = 4096;
const MOST_TIMES: f64 = 4.0;

/// The part of the way to the nearest end of what is accepted that another look's interval is to reach: two thirds.
const BEYOND: f64 = 1.5;

/// About how many deviations an interval at the levels of a run reaches: Student's and the normal quantile near 1e-12. It says how
/// many draws are asked for, and has no part in a verdict.
const DEVIATIONS: f64 = 7.0;

impl Evidence {
    /// How many times as many draws, all fresh, are likely to decide; `None` where the verdict is reached, where draws change
    /// nothing, as nothing is a number, where the most that another look has are not likely to, or where they were asked for
    /// already ([`Method::Summary`]).
    ///
    /// An interval narrows as one over the square root of the draws; it is to reach two thirds of the way from what was found
    /// to the nearest end of what is accepted, which is taken to be a deviation away at least, as what was found is off by
    /// about that much. Where it is so near that the most draws would not tell even if it were a deviation farther, none are
    /// asked for: what lies on an end is not decided by any number.
    ///
    /// ```
    /// use normative::verify::{Evidence, Interval};
    /// let heads = |share| Evidence::proportion("heads", 52, 100, share, 1e-9).draws_to_decide();
    /// assert_eq!(heads(Interval::new(0.1, 0.9)), None);
    /// assert_eq!(heads(Interval::new(0.4, 0.6)), Some(28));
    /// ```
    pub fn draws_to_decide(&self) -> Option<usize> {
        let by_chance = !matches!(self.method, Method::Exact | Method::Rounding | Method::Summary);
        let numbers = [self.found, self.interval.from, self.interval.to, self.accepted.from, self.accepted.to];
        if !by_chance || numbers.iter().any(|number| number.is_nan()) || self.verdict() != Verdict::Undecided {
            return None;
        }
        let most = (MOST_DRAWS as f64 / self.sample.max(1) as f64).max(MOST_TIMES);
        let half = |interval: Interval| (interval.to - interval.from) / 2.0;
        let to_an_end = (self.found - self.accepted.from).abs().min((self.found - self.accepted.to).abs());
        let reach = half(self.interval);
        if reach.is_infinite() {
            // No interval yet: all there is, if that was not had.
            return (self.sample < MOST_DRAWS as u64).then_some(most.ceil() as usize);
        }
        let deviation = reach / DEVIATIONS;
        if (reach / (to_an_end + deviation)).powi(2) > most {
            return None;
        }
        let room = to_an_end.max(deviation).min(half(self.accepted));
        Some((BEYOND * reach / room).powi(2).ceil().clamp(2.0, most.ceil()) as usize)
    }

    /// Whether an open exponent stays so with [`MOST_DRAWS`] that spread as its own do: half its interval would still be more
    /// than half of what is accepted.
    pub fn exponent_is_beyond_reach(&self) -> bool {
        let (Method::Exponent, Verdict::Undecided, [span, pairs @ ..]) = (self.method, self.verdict(), &self.raw[..])
        else {
            return false;
        };
        let half = (self.accepted.to - self.accepted.from) / 2.0;
        exponent_reach(*span, pairs, MOST_DRAWS, self.alpha) > half
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Evidence on so many draws that found an interval, where one is accepted.
    fn found(from: f64, to: f64, accepted: Interval) -> Evidence {
        let exact = Evidence::exact("slope", 0.0, accepted).found_in(from, to);
        Evidence { method: Method::Student, sample: 64, ..exact }
    }

    #[test]
    fn what_is_decided_or_not_by_chance_asks_for_no_draws() {
        let accepted = Interval::around(1.0, 0.5);
        assert_eq!(found(0.9, 1.1, accepted).draws_to_decide(), None, "verified");
        assert_eq!(found(1.6, 1.8, accepted).draws_to_decide(), None, "refuted");
        let open = found(0.0, 2.0, accepted);
        for method in [Method::Exact, Method::Rounding, Method::Summary] {
            assert_eq!(Evidence { method, ..open.clone() }.draws_to_decide(), None, "{method:?}");
        }
    }

    #[test]
    fn draws_are_asked_for_by_spread_and_by_distance_to_the_end() {
        let accepted = Interval::around(1.0, 0.5);
        // Twice as wide as what is accepted: two thirds of it takes three times the precision.
        assert_eq!(found(0.0, 2.0, accepted).draws_to_decide(), Some(9));
        // At the end itself a deviation is all the room there is: (1.5 * 7)^2, of 64 draws at most 4096.
        assert_eq!(found(1.4, 1.6, accepted).draws_to_decide(), Some(64));
        assert_eq!(found(1.1, 1.51, accepted).draws_to_decide(), Some(3));
        assert_eq!(found(0.8, 1.501, accepted).draws_to_decide(), Some(3));
        assert_eq!(found(f64::NAN, f64::NAN, accepted).draws_to_decide(), None);
        let unknown = found(f64::NEG_INFINITY, f64::INFINITY, accepted);
        assert_eq!(Evidence { found: 1.0, ..unknown.clone() }.draws_to_decide(), Some(64));
        assert_eq!(Evidence { found: 1.0, sample: MOST_DRAWS as u64, ..unknown }.draws_to_decide(), None);
        let above = found(-1.0, 3.0, Interval::at_least(0.0));
        assert_eq!(above.draws_to_decide(), Some(9));
        let of_many = |from, to| Evidence { sample: 100_000, ..found(from, to, Interval::at_least(0.0)) };
        assert_eq!(of_many(-0.4, 1.6).draws_to_decide(), Some(4));
        assert_eq!(of_many(-1.0, 1.01).draws_to_decide(), None, "on the end");
        let of_some = Evidence { sample: 256, ..found(-1.0, 1.0, Interval::at_least(0.0)) };
        assert_eq!(of_some.draws_to_decide(), None, "nothing grows at no rate");
    }

    /// Pairs whose logarithms have this deviation, and the second twice that.
    fn pairs(deviation: f64, count: usize) -> Vec<(f64, f64)> {
        let normals = Stream::new(0, &[]).normals(2 * count);
        normals.chunks_exact(2).map(|z| ((deviation * z[0]).exp(), (2.0 * deviation * z[1]).exp())).collect()
    }

    #[test]
    fn an_exponent_reaches_as_far_as_its_interval() {
        let pairs = pairs(0.3, 500);
        let found = Evidence::exponent("exponent", &pairs, 4.0, Interval::around(0.0, 1.0), 1e-9);
        let reach = exponent_reach(found.raw[0], &found.raw[1..], pairs.len(), found.alpha);
        let half = (found.interval.to - found.interval.from) / 2.0;
        assert!((reach / half - 1.0).abs() < 1e-12, "{reach} for {half}");
    }

    #[test]
    fn an_open_exponent_is_beyond_reach_where_its_logarithms_spread_too_far() {
        let open = |deviation: f64| {
            let found = Evidence::exponent("exponent", &pairs(deviation, 64), 4.0, Interval::around(0.0, 0.5), 1e-9);
            assert_eq!(found.verdict(), Verdict::Undecided);
            found.exponent_is_beyond_reach()
        };
        assert!(!open(0.3) && open(2.0));
        let told = Evidence::exponent("exponent", &pairs(0.3, 64), 4.0, Interval::around(0.0, 5.0), 1e-9);
        assert!(told.verdict() == Verdict::Verified && !told.exponent_is_beyond_reach());
    }
}
