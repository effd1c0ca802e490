//! What an examination comes to.

use candle_core::DType;

use super::formula::{Formula, Part};
use super::identify::Identified;
use super::judge::Excess;
use crate::kernels::Cast;
use crate::verify::Verdict;

/// Whether a failed check refutes an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Of every implementation.
    Always,
    /// Beyond what most frameworks promise: told as a limit.
    Limit,
}

/// One check of one type.
#[derive(Clone, Debug)]
pub struct Check {
    /// `large mean, forward`.
    pub name: String,
    pub dtype: Option<DType>,
    pub demand: Demand,
    pub verdict: Verdict,
    /// Largest error over bound, where errors have one.
    pub ratio: Option<f64>,
    /// Why it is refuted, or what was not judged.
    pub reason: Option<String>,
    pub counterexample: Option<Counterexample>,
}

/// A row on which an implementation fails, as small as it could be made.
#[derive(Clone, Debug)]
pub struct Counterexample {
    pub row: Vec<f64>,
    pub excess: Excess,
    /// The one command that shows it again.
    pub replay: String,
}

/// The largest error over bound at one width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AtWidth {
    pub pass: &'static str,
    pub dtype: DType,
    pub width: usize,
    pub ratio: f64,
}

/// Everything that was found of a subject.
#[derive(Clone, Debug)]
pub struct Report {
    pub subject: String,
    pub expected: Option<Formula>,
    /// From the outputs in the widest type; `None` where no convention was asked about.
    pub identified: Option<Identified>,
    /// Where each half-precision type rounds, as found.
    pub casts: Vec<(DType, Cast)>,
    pub checks: Vec<Check>,
    pub widths: Vec<AtWidth>,
}

impl Report {
    /// Refuted by any check that is demanded of all; undecided where the convention is none that is known here.
    pub fn verdict(&self) -> Verdict {
        let demanded = self.checks.iter().filter(|check| check.demand == Demand::Always);
        demanded
            .map(|check| check.verdict)
            .filter(|v| *v != Verdict::NotApplicable)
            .max()
            .unwrap_or(Verdict::NotApplicable)
    }

    /// The formula found: the expected one where it explains the outputs, else the first that does.
    pub fn found(&self) -> Option<Formula> {
        let fits = &self.identified.as_ref()?.fits;
        let same = |f: &&Formula| self.expected.is_some_and(|e| differences(&e, f).is_empty());
        fits.iter()
            .find(same)
            .or_else(|| fits.iter().min_by_key(|f| self.expected.map_or(0, |e| differences(&e, f).len())))
            .copied()
    }

    /// The failed checks that are demanded.
    pub fn refuted(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| c.demand == Demand::Always && c.verdict == Verdict::Refuted)
    }

    /// A check by name and type.
    pub fn check(&self, name: &str, dtype: Option<DType>) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name && check.dtype == dtype)
    }
}

/// The parts in which a formula departs from the expected one.
pub fn differences(expected: &Formula, found: &Formula) -> Vec<Part> {
    Part::ALL
        .into_iter()
        .filter(|part| match part {
            Part::Centre => expected.centre != found.centre,
            Part::Divisor => expected.divisor != found.divisor,
            // Without an eps it has no place, which the value tells.
            Part::EpsPlace => found.eps > 0.0 && expected.eps > 0.0 && expected.place != found.place,
            Part::Eps => expected.eps != found.eps,
            Part::Gain => expected.factor != found.factor,
            Part::Bias => expected.bias != found.bias,
        })
        .collect()
}
