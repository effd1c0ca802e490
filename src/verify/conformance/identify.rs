//! Which convention an implementation follows, from its outputs alone: every formula is held against them.

use super::bounds::Roundoff;
use super::exact::Dd;
use super::formula::{Bias, Centre, Divisor, EpsPlace, Factor, Formula};
use super::judge::Standard;
use super::probe::Probe;
use crate::kernels::Cast;

/// What was found.
#[derive(Clone, Debug)]
pub struct Identified {
    /// Every formula that explains all outputs, the usual ones first; none where no convention known here does.
    pub fits: Vec<Formula>,
    /// Where none fits, the one that explains most of them, and how many of how many.
    pub nearest: Option<(Formula, usize, usize)>,
}

/// A probe with its roundings and the output that was given.
pub struct Seen<'a> {
    pub probe: &'a Probe,
    pub roundoff: Roundoff,
    pub y: Vec<f64>,
}

/// Holds every formula against the outputs; eps is solved for, and is the declared one where that lies within what the
/// outputs allow.
pub fn identify(seen: &[Seen], declared: f64) -> Identified {
    let mut fits: Vec<Formula> = Vec::new();
    let mut nearest: Option<(Formula, usize, usize)> = None;
    for stem in Formula::all(declared) {
        let (eps, slack) = eps_range(&stem, seen).choose(declared);
        let formula = Formula { eps, ..stem };
        let (within, of) = explained(&formula, slack, seen);
        // Without eps it has no place.
        let twin = |f: &Formula| Formula { place: formula.place, ..*f } == formula && eps == 0.0;
        if within == of && !fits.iter().any(twin) {
            fits.push(formula);
        }
        if nearest.is_none_or(|(_, most, _)| within > most) {
            nearest = Some((formula, within, of));
        }
    }
    let nearest = nearest.filter(|_| fits.is_empty());
    Identified { fits, nearest }
}

/// Between what eps must lie, by every row that shows it; an end is not finite where no row does.
#[derive(Clone, Copy, Debug)]
struct Range {
    from: f64,
    to: f64,
}

impl Range {
    /// The declared eps, that eps rounded to a narrower type, 0, or else the middle with half the range.
    fn choose(&self, declared: f64) -> (f64, f64) {
        let half = |f: fn(f64) -> f64| f(declared);
        let usual = [
            declared,
            half(|e| f64::from(e as f32)),
            half(|e| half::f16::from_f64(e).to_f64()),
            half(|e| half::bf16::from_f64(e).to_f64()),
            0.0,
        ];
        match usual.into_iter().find(|eps| (self.from..=self.to).contains(eps)) {
            Some(eps) => (eps, 0.0),
            None => ((self.from + self.to) / 2.0, (self.to - self.from) / 2.0),
        }
    }
}

/// The eps with which a formula explains the rows; one that it does not explain says nothing.
fn eps_range(stem: &Formula, seen: &[Seen]) -> Range {
    let bare = Formula { eps: 0.0, place: EpsPlace::InsideRoot, ..*stem };
    let standard = Standard { formula: bare, cast: Cast::BeforeGain };
    let mut range = Range { from: 0.0, to: f64::MAX };
    for Seen { probe, roundoff, y } in seen {
        for r in 0..probe.rows() {
            let at = r * probe.width..(r + 1) * probe.width;
            let entering = bare.entering(&probe.x[at.clone()], &probe.gain);
            let row = bare.row(&entering);
            let bounds = roundoff.row(&row, bare.centre != Centre::Never);
            // The coordinate that tells most: the largest share of the output that is not bias.
            let share = |i: &usize| row.z[*i].abs() * bare.factor(probe.gain[*i]).abs();
            let Some(i) = (0..probe.width).max_by(|a, b| share(a).total_cmp(&share(b))) else { continue };
            let (z, factor, y) = (row.z[i], bare.factor(probe.gain[i]), y[at.start + i]);
            let bias = match bare.bias {
                Bias::None => Dd::default(),
                Bias::AfterGain => Dd::new(probe.bias[i]),
                Bias::BeforeGain => Dd::new(probe.bias[i]) * factor,
            };
            let rest = Dd::new(y) - bias;
            let times = (z * factor / rest).0;
            if !(times.is_finite() && times > 0.0) || row.inverse.0 == 0.0 {
                continue;
            }
            let error = standard.output_bound(roundoff, z.abs() / times, bounds.z[i] / times, probe.gain[i], y);
            // The arithmetic of this function is in f64, a few roundings.
            let relative = reach(&bare) * error / rest.abs() + 4.0 * f64::EPSILON;
            if relative >= 1.0 || relative.is_nan() {
                continue;
            }
            let sigma = 1.0 / row.inverse.0;
            let (low, high) = (times * (1.0 - relative), times / (1.0 - relative));
            let (low, high) = match (stem.place, stem.divisor) {
                (EpsPlace::InsideRoot, Divisor::Square) | (EpsPlace::OutsideRoot, _) => {
                    (sigma * (low - 1.0), sigma * (high - 1.0))
                }
                (EpsPlace::InsideRoot, divisor) => {
                    let of = if divisor == Divisor::ScaledUp { probe.width as f64 } else { 1.0 };
                    (sigma * sigma * (low * low - 1.0) / of, sigma * sigma * (high * high - 1.0) / of)
                }
                (EpsPlace::Floor, _) => (if low > 1.0 { sigma * low } else { 0.0 }, sigma * high),
            };
            if low <= range.to && high >= range.from {
                range = Range { from: range.from.max(low), to: range.to.min(high) };
            }
        }
    }
    range
}

/// Without the root, errors under it count in full.
fn reach(formula: &Formula) -> f64 {
    if formula.divisor == Divisor::Square { 2.0 } else { 1.0 }
}

/// How many outputs a formula explains, and of how many.
fn explained(formula: &Formula, slack: f64, seen: &[Seen]) -> (usize, usize) {
    let standard = Standard { formula: *formula, cast: Cast::BeforeGain };
    let (mut within, mut of) = (0, 0);
    for Seen { probe, roundoff, y } in seen {
        for r in 0..probe.rows() {
            let at = r * probe.width..(r + 1) * probe.width;
            let row = formula.row(&formula.entering(&probe.x[at.clone()], &probe.gain));
            let bounds = roundoff.row(&row, formula.centre != Centre::Never);
            // How far the scale, and with it z, moves within the range of eps.
            let moves = match (formula.place, formula.divisor) {
                (EpsPlace::InsideRoot, Divisor::ScaledUp) => slack * row.inverse.0 * row.inverse.0 * probe.width as f64,
                (EpsPlace::InsideRoot, Divisor::Square) => slack * row.inverse.0,
                (EpsPlace::InsideRoot, _) => slack * row.inverse.0 * row.inverse.0,
                (EpsPlace::OutsideRoot | EpsPlace::Floor, _) => slack * row.inverse.0,
            };
            let product = if formula.factor == Factor::BeforeStatistics { 2.0 * roundoff.u } else { 0.0 };
            for i in 0..probe.width {
                let z = row.z[i];
                let dz = reach(formula) * bounds.z[i] + z.abs() * moves + product * row.magnitude.max(z.abs());
                let exact = formula.output(z, probe.gain[i], probe.bias[i]);
                let inner = if formula.bias == Bias::BeforeGain { probe.bias[i].abs() * roundoff.u } else { 0.0 };
                let bound = standard.output_bound(roundoff, z.abs(), dz + inner, probe.gain[i], exact.0);
                of += 1;
                within += usize::from(exact.off(y[at.start + i]) <= bound);
            }
        }
    }
    (within, of)
}
