//! What a verdict rests on: an interval that was found, against one that the claim accepts.

use serde::{Deserialize, Serialize};

use crate::spec::Shape;
use crate::verify::Verdict;

/// A closed interval; an end may be infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub from: f64,
    pub to: f64,
}

impl Interval {
    pub fn new(from: f64, to: f64) -> Self {
        Interval { from, to }
    }

    /// `[centre - reach, centre + reach]`.
    pub fn around(centre: f64, reach: f64) -> Self {
        Interval { from: centre - reach, to: centre + reach }
    }

    /// `[target (1 - margin), target (1 + margin)]`, whatever the target's sign.
    pub fn within(target: f64, margin: f64) -> Self {
        Interval::around(target, (target * margin).abs())
    }

    pub fn at_most(to: f64) -> Self {
        Interval { from: f64::NEG_INFINITY, to }
    }

    pub fn at_least(from: f64) -> Self {
        Interval { from, to: f64::INFINITY }
    }

    pub fn contains(&self, other: &Interval) -> bool {
        self.from <= other.from && other.to <= self.to
    }

    /// Whether they have a point in common; an end that is not a number has none.
    pub fn meets(&self, other: &Interval) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// By what an interval was found; with `raw` it can be computed again, by [`Evidence::recomputed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Arithmetic or a count: the interval is the number itself, or the two ends that `raw` gives.
    Exact,
    /// A largest error, beside a derived rounding bound; `raw` is that error.
    Rounding,
    /// `raw = [statistic, degrees of freedom]`; the interval of the factor is `statistic/quantiles`.
    ChiSquare,
    /// `raw` is one value a seed; the hull of Student's intervals of groups of seeds.
    Student,
    /// `raw = [mean, standard error, seeds, level, rounding]`; Student's quantile at that level, widened by what rounding can do.
    Summary,
    /// `raw` is one positive value a seed; intervals of both parameters of the log-normal law.
    LogNormal,
    /// `raw` is a value a seed, then the bound on their variance; Catoni's estimator.
    Catoni,
    /// `raw` is, line by line, the number of points and their pairs x, y; a least-squares slope each, then as `Student`.
    Slope,
    /// `raw` is ln(b/a), then a pair of positive values a seed, at a and at b; intervals of the parameters of log-normal laws.
    Exponent,
    /// `raw = [from, to, values...]`, one a seed within these limits; an empirical-Bernstein sequence.
    Bounded,
    /// `raw = [successes, trials]`; Clopper and Pearson's interval.
    Binomial,
}

/// One figure of a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is, with its place: `x block 8 second moment`.
    pub figure: String,
    /// The value the claim states, where it states one.
    #[serde(with = "wire::stated")]
    pub stated: Option<f64>,
    /// The values with which the claim stands.
    pub accepted: Interval,
    #[serde(with = "wire::number")]
    pub found: f64,
    /// Where the truth lies: two-sided at `alpha`, or for a [`Method::Summary`] of two stages at the level in `raw`.
    pub interval: Interval,
    pub method: Method,
    /// Two-sided; 0 where chance has no part.
    pub alpha: f64,
    /// The probability of missing an effect as large as the margin, where the design states one.
    pub beta: Option<f64>,
    /// Independent draws: seeds, or degrees of freedom for a pivot; 0 where chance has no part.
    pub sample: u64,
    /// What the interval was computed from, as [`Method`] says.
    #[serde(with = "wire::numbers")]
    pub raw: Vec<f64>,
}

impl Evidence {
    /// Verified where every value found is accepted, refuted where none is, else undecided. What is not a number
    /// proves nothing.
    ///
    /// ```
    /// use normative::verify::{Evidence, Interval, Verdict};
    /// let growth = |from, to| Evidence::exact("slope", 0.0, Interval::around(1.0, 0.05)).found_in(from, to);
    /// assert_eq!(growth(0.97, 1.04).verdict(), Verdict::Verified);
    /// assert_eq!(growth(0.40, 0.60).verdict(), Verdict::Refuted);
    /// assert_eq!(growth(0.90, 1.04).verdict(), Verdict::Undecided);
    /// ```
    pub fn verdict(&self) -> Verdict {
        let numbers = [self.found, self.interval.from, self.interval.to, self.accepted.from, self.accepted.to];
        match () {
            () if numbers.iter().any(|n| n.is_nan()) => Verdict::Undecided,
            () if self.accepted.contains(&self.interval) => Verdict::Verified,
            () if !self.accepted.meets(&self.interval) => Verdict::Refuted,
            () => Verdict::Undecided,
        }
    }

    /// A number in which chance has no part.
    pub fn exact(figure: impl Into<String>, found: f64, accepted: Interval) -> Self {
        Evidence {
            figure: figure.into(),
            stated: None,
            accepted,
            found,
            interval: Interval::new(found, found),
            method: Method::Exact,
            alpha: 0.0,
            beta: None,
            sample: 0,
            raw: vec![found],
        }
    }

    /// A largest error within its derived bound.
    pub fn rounding(figure: impl Into<String>, error: f64, bound: f64) -> Self {
        Evidence { method: Method::Rounding, ..Evidence::exact(figure, error, Interval::at_most(bound)) }
    }

    /// The same with another interval found.
    pub fn found_in(self, from: f64, to: f64) -> Self {
        Evidence { found: (from + to) / 2.0, interval: Interval::new(from, to), raw: vec![from, to], ..self }
    }

    /// The same with the value that the claim states.
    pub fn stating(self, stated: f64) -> Self {
        Evidence { stated: Some(stated), ..self }
    }
}

/// What a claim comes to at one place: a line of the records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The claim's id.
    pub claim: String,
    /// `None` where the claim is about no single placement.
    pub placement: Option<String>,
    pub normalizer: Option<String>,
    pub setting: Option<String>,
    pub shape: Option<Shape>,
    pub verdict: Verdict,
    /// What the verdict follows from; [`Finding::judged`] is the rule.
    pub evidence: Vec<Evidence>,
    /// Why nothing was judged, or what was not; for a refuted claim, what is true instead.
    pub reason: Option<String>,
    /// The one command that repeats it.
    pub replay: String,
}

impl Finding {
    /// The verdict of several figures: refuted by any that is, else undecided by any that is, else verified; nothing to
    /// judge is not applicable.
    pub fn judged(evidence: &[Evidence]) -> Verdict {
        evidence.iter().map(Evidence::verdict).max().unwrap_or(Verdict::NotApplicable)
    }

    /// A finding with the verdict that its evidence has.
    pub fn of(claim: &str, evidence: Vec<Evidence>) -> Self {
        Finding {
            claim: claim.into(),
            placement: None,
            normalizer: None,
            setting: None,
            shape: None,
            verdict: Finding::judged(&evidence),
            evidence,
            reason: None,
            replay: format!("normative verify --claim {claim}"),
        }
    }

    /// A claim that nothing here can decide, with the reason in a sentence.
    pub fn not_applicable(claim: &str, reason: impl Into<String>) -> Self {
        Finding { reason: Some(reason.into()), ..Finding::of(claim, Vec::new()) }
    }

    /// The figure that decides: the first with the finding's own verdict.
    pub fn decisive(&self) -> Option<&Evidence> {
        self.evidence.iter().find(|e| e.verdict() == self.verdict)
    }
}

/// Numbers as JSON can hold them, so that a record reads back as it was written: what is not finite is a word.
mod wire {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Interval;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Other(Word),
    }

    #[derive(Serialize, Deserialize)]
    enum Word {
        #[serde(rename = "inf")]
        Infinity,
        #[serde(rename = "-inf")]
        MinusInfinity,
        #[serde(rename = "nan")]
        NotANumber,
    }

    impl From<f64> for Number {
        fn from(value: f64) -> Self {
            match value {
                _ if value.is_finite() => Number::Finite(value),
                f64::INFINITY => Number::Other(Word::Infinity),
                f64::NEG_INFINITY => Number::Other(Word::MinusInfinity),
                _ => Number::Other(Word::NotANumber),
            }
        }
    }

    impl From<Number> for f64 {
        fn from(number: Number) -> Self {
            match number {
                Number::Finite(value) => value,
                Number::Other(Word::Infinity) => f64::INFINITY,
                Number::Other(Word::MinusInfinity) => f64::NEG_INFINITY,
                Number::Other(Word::NotANumber) => f64::NAN,
            }
        }
    }

    pub mod number {
        use super::*;

        pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
            Number::from(*value).serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
            Number::deserialize(deserializer).map(f64::from)
        }
    }

    pub mod stated {
        use super::*;

        pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
            value.map(Number::from).serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
            Ok(Option::<Number>::deserialize(deserializer)?.map(f64::from))
        }
    }

    pub mod numbers {
        use super::*;

        pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(values.iter().map(|value| Number::from(*value)))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
            Ok(Vec::<Number>::deserialize(deserializer)?.into_iter().map(f64::from).collect())
        }
    }

    impl Serialize for Interval {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (Number::from(self.from), Number::from(self.to)).serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for Interval {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (from, to): (Number, Number) = Deserialize::deserialize(deserializer)?;
            Ok(Interval { from: from.into(), to: to.into() })
        }
    }
}
