//! Two profiles of one network against each other: does the measurement agree with the prediction?
//!
//! Looks, never a retry: a figure that leaves its band in the first look, at a mild level, is judged again on fresh
//! seeds, more of them, at a stricter level, and is refuted only if it leaves the band again on the same side.
//! A figure inside its band is verified within a margin that is stated, since it depends on the seeds spent; a family of
//! figures that the first look does not resolve is looked at on the fresh seeds too, and once more on others if it must be.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::profile::{Layout, Place, Profile, Quantity};
use crate::verify::tails::student_quantile;

/// Two-sided level at which a figure leaves its band in the first look.
pub const FIRST_LEVEL: f64 = 1e-3;

/// Two-sided level of further looks, on fresh seeds. It and the first together 5e-16 a figure, since both must miss on the same side:
/// the two hundred thousand figures of a run over the zoo spend a tenth of its budget.
pub const SECOND_LEVEL: f64 = 1e-12;

/// The widest relative margin that still says something, a factor of two. A figure beyond it is unresolved, and a network
/// with a whole family of such figures undecided.
pub const WIDEST_MARGIN: f64 = 1.0;

/// What the evidence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No figure outside its band, and figures of every family inside it within a stated margin.
    Verified,
    /// There is nothing to judge; the reason says why.
    NotApplicable,
    /// The seeds do not resolve it.
    Undecided,
    /// Outside the band.
    Refuted,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::NotApplicable => "not applicable",
            Verdict::Undecided => "undecided",
            Verdict::Refuted => "refuted",
        }
    }
}

/// What figures are judged and reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    SecondMoment,
    Overlap,
    /// Cotangents at the input and at sites.
    Gradient,
    /// W_V, W_O, W_1, W_2, W_3, and norms' parameters.
    WeightGradient,
    /// W_Q and W_K and the parameters of their norms.
    ScoreGradient,
}

impl Family {
    pub const ALL: [Family; 5] =
        [Family::SecondMoment, Family::Overlap, Family::Gradient, Family::WeightGradient, Family::ScoreGradient];

    /// The family of a figure of a layout.
    pub fn of(layout: &Layout, figure: usize) -> Family {
        match layout.figures[figure] {
            (_, Quantity::SecondMoment) => Family::SecondMoment,
            (_, Quantity::Overlap) => Family::Overlap,
            (Place::Parameter(p), Quantity::Gradient) => {
                let name = &layout.parameters[p].parameter.name;
                match ["w_q", "w_k", "q_norm", "k_norm"].iter().any(|score| name.starts_with(score)) {
                    true => Family::ScoreGradient,
                    false => Family::WeightGradient,
                }
            }
            (_, Quantity::Gradient) => Family::Gradient,
        }
    }

    /// The family of a figure by its name, as [`Layout::name`] has it.
    pub fn named(figure: &str) -> Family {
        let score = [".w_q", ".w_k", ".q_norm", ".k_norm"].iter().any(|name| figure.contains(name));
        match figure.rsplit_once(' ') {
            Some((_, "second_moment")) => Family::SecondMoment,
            Some((_, "overlap")) => Family::Overlap,
            // The name of a site has spaces, the path of a parameter has none.
            Some((place, _)) if place.contains(' ') => Family::Gradient,
            _ if score => Family::ScoreGradient,
            _ => Family::WeightGradient,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Family::SecondMoment => "second moment",
            Family::Overlap => "overlap",
            Family::Gradient => "gradient",
            Family::WeightGradient => "weight gradients",
            Family::ScoreGradient => "query/key gradients",
        }
    }
}

/// The verdict on one figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The position in [`Layout::figures`].
    pub figure: usize,
    pub family: Family,
    pub predicted: f64,
    /// How far the truth may lie from the prediction.
    pub law: f64,
    pub measured: f64,
    pub se: f64,
    /// The half-width of the measurement's confidence interval at the level given, with what rounding can do.
    pub reach: f64,
    /// The part of the reach that is rounding, not chance.
    pub rounding: f64,
    /// What the error is relative to: 1 for an overlap, else the prediction.
    pub scale: f64,
    /// On how many seeds, and at which two-sided level.
    pub seeds: usize,
    pub level: f64,
}

impl Check {
    /// Whether the whole confidence interval lies outside the law's band.
    pub fn outside(&self) -> bool {
        let inside = (self.measured - self.predicted).abs() <= self.law + self.reach;
        !inside
    }

    /// The error of the prediction that the measurement establishes: the least in its confidence interval,
    /// relative to the prediction (absolute for an overlap).
    pub fn established(&self) -> f64 {
        ((self.measured - self.predicted).abs() - self.reach).max(0.0) / self.scale
    }

    /// The error that is left when two standard errors of the measurement are taken off, in the same unit.
    pub fn excess(&self) -> f64 {
        ((self.measured - self.predicted).abs() - 2.0 * self.se).max(0.0) / self.scale
    }

    /// How much of its law the figure uses, after two standard errors.
    pub fn used(&self) -> f64 {
        match self.law > 0.0 {
            true => self.excess() * self.scale / self.law,
            false => 0.0,
        }
    }

    /// The margin within which the measurement shows agreement: the largest error in its confidence interval,
    /// relative to the prediction (absolute for an overlap).
    pub fn margin(&self) -> f64 {
        ((self.measured - self.predicted).abs() + self.reach) / self.scale
    }

    /// Whether the seeds resolve the figure within [`WIDEST_MARGIN`].
    pub fn resolved(&self) -> bool {
        self.margin() <= WIDEST_MARGIN
    }

    /// Whether the measurement lies above the prediction.
    fn above(&self) -> bool {
        self.measured > self.predicted
    }
}

/// Every figure that both profiles have, judged at a two-sided level on the measured profile's seeds.
///
/// A figure leaves its band when `|measured - predicted| > law + t se`, t being Student's quantile and the seed the unit; one
/// predicted exactly (law 0) has no band but rounding, and one predicted zero must be measured zero.
pub fn checks(predicted: &Profile, measured: &Profile, level: f64) -> Vec<Check> {
    let seeds = measured.seeds.unwrap_or(1);
    let quantile = student_quantile(seeds as f64 - 1.0, level);
    let layout = &predicted.layout;
    let check = |figure: usize| {
        let (theory, fact) = (&predicted.figures[figure], &measured.figures[figure]);
        let (p, m) = (theory.value?, fact.value?);
        let (law, se) = (theory.law.unwrap_or(0.0), fact.se.unwrap_or(f64::INFINITY));
        let family = Family::of(layout, figure);
        let scale = if family == Family::Overlap || p == 0.0 { 1.0 } else { p.abs() };
        let chance = if se == 0.0 { 0.0 } else { quantile * se };
        let rounding = rounding(measured, figure, p, f64::from(f32::EPSILON));
        let reach = chance + rounding;
        Some(Check { figure, family, predicted: p, law, measured: m, se, reach, rounding, scale, seeds, level })
    };
    (0..layout.figures.len()).filter_map(check).collect()
}

/// How far rounding by u = `roundoff` can move a figure: n u of itself, n the roundings on a path through the network; and where a
/// parameter's gradient is zero by cancellation (softmax does not see a bias of the keys), (n u)^2 of the largest squared
/// gradient of its call. A call that the loss does not depend on has gradients that are exactly zero.
pub fn rounding(measured: &Profile, figure: usize, predicted: f64, roundoff: f64) -> f64 {
    let layout = &measured.layout;
    let shape = layout.shape;
    let roundings = (shape.blocks * (2 * shape.width + shape.ffn_width + shape.tokens)) as f64;
    let relative = roundings * roundoff;
    let cancelled = match layout.figures[figure].0 {
        Place::Parameter(p) => {
            let first = figure - layout.parameters[p].order;
            let of_call = layout.parameters[p..].iter().take_while(|q| q.call == layout.parameters[p].call).count();
            let figures = &measured.figures[first..figure + of_call];
            figures.iter().filter_map(|f| f.value).fold(0.0, f64::max)
        }
        _ => 0.0,
    };
    relative * predicted.abs() + relative.powi(2) * cancelled
}

/// The agreement of two interpretations on one network.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    pub layout: Layout,
    pub verdict: Verdict,
    /// Seeds of the first look, and of all further ones together.
    pub seeds: (usize, usize),
    /// The first seed of the first look.
    pub first_seed: u64,
    /// Every figure on the first seeds; those of a family that these left open, on those of the last look.
    pub checks: Vec<Check>,
    /// The figures that left their band in two looks running, on the same side.
    pub refuted: Vec<Check>,
    /// Why nothing or not everything was judged.
    pub reason: Option<String>,
}

impl Agreement {
    /// The check of a family with the largest established error, and among equals the widest margin.
    pub fn worst(&self, family: Family) -> Option<&Check> {
        self.checks
            .iter()
            .filter(|c| c.family == family)
            .max_by(|a, b| a.established().total_cmp(&b.established()).then(a.margin().total_cmp(&b.margin())))
    }
}

/// Judges a prediction by a measurement; `again` measures on fresh seeds where a look asks for them: those of these numbers,
/// counted from the first seed of the first look; `None` where so many do not fit.
///
/// # Errors
/// Those of `again`.
pub fn agreement<E>(
    predicted: &Profile,
    first: &Profile,
    mut again: impl FnMut(Range<usize>) -> Result<Option<Profile>, E>,
) -> Result<Agreement, E> {
    let seeds = first.seeds.unwrap_or(1);
    let mut last = checks(predicted, first, FIRST_LEVEL);
    let (mut judged, mut refuted, mut used, mut count) = (last.clone(), Vec::new(), seeds, seeds);
    for times in FURTHER {
        let open = unresolved(&judged);
        if !refuted.is_empty() || (open.is_empty() && !last.iter().any(Check::outside)) {
            break;
        }
        count *= escalation(&judged, &open, times);
        let Some(fresh) = again(used..used + count)? else { break };
        let fresh = checks(predicted, &fresh, SECOND_LEVEL);
        used += count;
        let alarmed = |c: &Check| last.iter().any(|l| l.figure == c.figure && l.outside() && l.above() == c.above());
        refuted = fresh.iter().filter(|c| c.outside() && alarmed(c)).cloned().collect();
        judged.retain(|check| !open.contains(&check.family));
        judged.extend(fresh.iter().filter(|check| open.contains(&check.family)).cloned());
        last = fresh;
    }
    let seeds = (seeds, used - seeds);
    let reason = predicted
        .figures
        .iter()
        .chain(&first.figures)
        .find_map(|f| f.reason.clone().filter(|_| predicted.layout.shape.tokens > 1));
    let verdict = match () {
        () if !refuted.is_empty() => Verdict::Refuted,
        () if judged.is_empty() => Verdict::NotApplicable,
        () if !unresolved(&judged).is_empty() => Verdict::Undecided,
        () => Verdict::Verified,
    };
    let layout = predicted.layout.clone();
    Ok(Agreement { layout, verdict, seeds, first_seed: 0, checks: judged, refuted, reason })
}

/// Fresh seeds of the second look and of the third, as a multiple of those of the one before: at least, and at most.
/// Four times at least, as the figure that seems to vary least was chosen for it.
const FURTHER: [(usize, usize); 2] = [(4, 32), (4, 8)];

/// With so many times the seeds, the figure of every open family that varies least has an interval that reaches two thirds
/// of the widest margin.
fn escalation(checks: &[Check], open: &[Family], (least, most): (usize, usize)) -> usize {
    let times = |check: &Check| {
        let seeds = check.seeds * least;
        let reach = student_quantile(seeds as f64 - 1.0, SECOND_LEVEL) * check.se;
        (1.5 * reach / (WIDEST_MARGIN * check.scale)).powi(2)
    };
    let of = |family: Family| checks.iter().filter(move |check| check.family == family).map(times);
    let wanted = open.iter().map(|family| of(*family).fold(f64::INFINITY, f64::min)).fold(0.0, f64::max);
    (wanted.ceil() as usize).clamp(least, most)
}

/// The families of which no figure is resolved.
fn unresolved(checks: &[Check]) -> Vec<Family> {
    let of = |family: Family| checks.iter().filter(move |check| check.family == family);
    Family::ALL.into_iter().filter(|family| of(*family).count() > 0 && of(*family).all(|c| !c.resolved())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::Graph;
    use crate::op::Registry;
    use crate::predict::predict;
    use crate::profile::Kind;
    use crate::spec::{Setting, Shape};
    use crate::zoo;

    fn predicted() -> Profile {
        let registry = Registry::builtin();
        let shape = Shape { width: 64, blocks: 2, tokens: 4, heads: 2, ffn_width: 256, causal: false };
        let network = zoo::placement("pre-ln", &registry.vocabulary()).expect("built in").at(shape).expect("a shape");
        predict(&Graph::new(&network, &Setting::standard(), &registry).expect("a graph")).expect("a prediction")
    }

    /// A measurement that finds `times` what is predicted, with a standard error of `spread` of it; of one family another.
    fn measured(predicted: &Profile, seeds: usize, times: f64, spread: impl Fn(Family) -> f64) -> Profile {
        let mut profile = Profile { kind: Kind::Measured, seeds: Some(seeds), ..predicted.clone() };
        for (index, figure) in profile.figures.iter_mut().enumerate() {
            let family = Family::of(&predicted.layout, index);
            figure.se = figure.value.map(|value| spread(family) * value.abs());
            figure.value =
                figure.value.map(|value| if family == Family::ScoreGradient { times * value } else { value });
        }
        profile
    }

    #[test]
    fn a_family_that_the_first_seeds_leave_open_is_judged_on_fresh_ones() {
        let predicted = predicted();
        let wide = |family| if family == Family::ScoreGradient { 0.5 } else { 1e-3 };
        let first = measured(&predicted, 16, 1.1, wide);
        let judge = |times: f64, spread: f64| {
            let second = measured(&predicted, 64, times, |_| spread);
            let mut next = 16;
            let again = |numbers: Range<usize>| {
                assert!(numbers.start == next && numbers.len() >= 4 * 16, "no seed twice");
                next = numbers.end;
                Ok::<_, ()>(Some(second.clone()))
            };
            agreement(&predicted, &first, again).expect("it cannot fail")
        };
        let settled = judge(1.1, 1e-3);
        // (1.5 t(63) 0.5)^2 is more than any look has.
        assert_eq!((settled.verdict, settled.seeds), (Verdict::Verified, (16, 16 * FURTHER[0].1)));
        for check in &settled.checks {
            let second = check.family == Family::ScoreGradient;
            let expected = if second { (64, SECOND_LEVEL) } else { (16, FIRST_LEVEL) };
            assert_eq!((check.seeds, check.level), expected);
        }
        assert_eq!(judge(1.1, 0.5).verdict, Verdict::Undecided);
    }

    #[test]
    fn what_the_first_seeds_settle_is_not_measured_again() {
        let predicted = predicted();
        let first = measured(&predicted, 16, 1.0, |_| 1e-3);
        let judged = agreement(&predicted, &first, |_| Err("measured again")).expect("one look is enough");
        assert_eq!((judged.verdict, judged.seeds), (Verdict::Verified, (16, 0)));
    }

    #[test]
    fn what_varies_more_gets_more_fresh_seeds() {
        let predicted = predicted();
        let times = |spread: f64| {
            let first =
                measured(&predicted, 32, 1.0, |family| if family == Family::ScoreGradient { spread } else { 1e-3 });
            let mut asked = Vec::new();
            let again = |numbers: Range<usize>| {
                asked.push(numbers.len() / 32);
                Ok::<_, ()>(Some(Profile { seeds: Some(numbers.len()), ..first.clone() }))
            };
            agreement(&predicted, &first, again).expect("it cannot fail");
            asked
        };
        // t is 7.9 at the second level: twice the error takes four times the seeds.
        assert!(times(0.1).is_empty());
        assert_eq!(times(0.3)[0], 13);
        assert_eq!(times(0.42)[0], 25);
        // A measurement that stays as wide: as much as there is, twice.
        assert_eq!(times(3.0), [FURTHER[0].1, FURTHER[0].1 * FURTHER[1].1]);
    }

    #[test]
    fn what_does_not_fit_leaves_open_what_was_open() {
        let predicted = predicted();
        let first = measured(&predicted, 16, 1.0, |_| 3.0);
        let judged = agreement(&predicted, &first, |_| Ok::<_, ()>(None)).expect("it cannot fail");
        assert_eq!((judged.verdict, judged.seeds), (Verdict::Undecided, (16, 0)));
    }

    #[test]
    fn a_figure_outside_its_band_in_two_looks_running_on_one_side_is_refuted() {
        let predicted = predicted();
        // What each look finds, in units of what is predicted, and how it spreads.
        let judge = |looks: [(f64, f64); 3]| {
            let profile = |seeds, (times, spread): (f64, f64)| measured(&predicted, seeds, times, |_| spread);
            let mut further = looks[1..].iter();
            let again = |_| Ok::<_, ()>(further.next().map(|look| profile(64, *look)));
            agreement(&predicted, &profile(16, looks[0]), again).expect("it cannot fail").verdict
        };
        let (right, above, below, wide) = ((1.0, 1e-3), (3.0, 1e-3), (0.2, 1e-3), (1.1, 0.5));
        assert_eq!(judge([above, above, right]), Verdict::Refuted);
        assert_eq!(judge([wide, above, above]), Verdict::Refuted);
        for once in [[above, right, right], [above, below, right], [wide, above, right], [wide, above, below]] {
            assert_ne!(judge(once), Verdict::Refuted, "{once:?}");
        }
    }
}
