//! Two sets of draws of one network's figures: are they of one law?
//!
//! No margin for bias: what is compared has the same law at this width, so that only chance separates the two. Means are
//! compared, of the logarithm of what is never negative (squared lengths have heavy tails, their logarithms have not), of overlaps
//! as they are. Two stages, never a retry, as in agreement: a figure that differs at the first level is judged again on
//! fresh draws of both sides at the second, and differs only if it does so again in the same direction.

use crate::profile::{Draws, Quantity};
use crate::verify::{FIRST_LEVEL, Family, SECOND_LEVEL, student_quantile};

/// One figure on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    /// The position in [`crate::profile::Layout::figures`].
    pub figure: usize,
    pub family: Family,
    /// The second side's mean less the first's; of logarithms, except for an overlap.
    pub difference: f64,
    pub se: f64,
    /// The standard deviation of one draw, of both sides together.
    pub deviation: f64,
    /// Welch's degrees of freedom.
    pub freedom: f64,
}

impl Contrast {
    /// The half-width of the difference's interval at a two-sided level.
    pub fn reach(&self, level: f64) -> f64 {
        if self.se == 0.0 { 0.0 } else { student_quantile(self.freedom, level) * self.se }
    }

    /// Whether chance does not explain the difference.
    pub fn apart(&self, level: f64) -> bool {
        let together = self.difference.abs() <= self.reach(level);
        !together
    }
}

/// Every figure that chance moves on both sides; what rounding alone decides, such as a norm's second moment or a gradient that
/// cancels, has no law to compare.
///
/// A figure that is zero in every draw of one side and not of the other is infinitely far apart.
pub fn contrasts(one: &Draws, other: &Draws) -> Vec<Contrast> {
    let contrast = |figure: usize| {
        let (_, quantity) = one.layout.figures[figure];
        let columns = [one, other].map(|draws| draws.rows.iter().map(|row| row[figure]).collect::<Vec<f64>>());
        if decided_by_rounding(&columns, one, figure) {
            return None;
        }
        let logarithmic = quantity != Quantity::Overlap;
        let [a, b] = columns.map(|column| Summary::of(column.iter().map(|v| if logarithmic { v.ln() } else { *v })));
        let (parts, difference) = ([a.variance / a.count, b.variance / b.count], b.mean - a.mean);
        let variance = parts[0] + parts[1];
        let freedom = variance.powi(2) / (parts[0].powi(2) / (a.count - 1.0) + parts[1].powi(2) / (b.count - 1.0));
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        let family = Family::of(&one.layout, figure);
        let deviation = ((a.variance + b.variance) / 2.0).sqrt();
        Some(Contrast { figure, family, difference, se: variance.sqrt(), deviation, freedom })
    };
    (0..one.layout.figures.len()).filter_map(contrast).collect()
}

/// Whether a figure is nothing but rounding in f32: its spread against its size, or its size against its call's largest.
fn decided_by_rounding(columns: &[Vec<f64>; 2], draws: &Draws, figure: usize) -> bool {
    let all = || columns.iter().flatten();
    let size = all().fold(0.0f64, |most, v| most.max(v.abs()));
    let spread = all().fold(0.0f64, |most, v| most.max((v - columns[0][0]).abs()));
    let shape = draws.layout.shape;
    let roundings = (shape.blocks * (2 * shape.width + shape.ffn_width + shape.tokens)) as f64;
    let relative = roundings * f64::from(f32::EPSILON);
    let gradients = |row: &Vec<f64>| {
        let of = draws.layout.figures.iter().zip(row).filter(|((_, quantity), _)| *quantity == Quantity::Gradient);
        of.map(|(_, v)| *v).fold(0.0f64, f64::max)
    };
    let largest = draws.rows.iter().map(gradients).fold(0.0, f64::max);
    let cancelled = draws.layout.figures[figure].1 == Quantity::Gradient && size <= relative.powi(2) * largest;
    spread <= relative * size || cancelled
}

struct Summary {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Summary {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / count;
        let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Summary { count, mean, variance }
    }
}

/// Two interpretations drawn from, and the figures whose laws differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Equality {
    pub contrasts: Vec<Contrast>,
    /// Those of the second stage that differ again in the same direction.
    pub refuted: Vec<Contrast>,
}

/// Judges equality in law; `again` draws both sides afresh where the first stage asks for it.
///
/// # Errors
/// Those of `again`.
pub fn equality<E>(
    one: &Draws,
    other: &Draws,
    again: impl FnOnce() -> Result<(Draws, Draws), E>,
) -> Result<Equality, E> {
    let contrasts = contrasts(one, other);
    let alarms: Vec<&Contrast> = contrasts.iter().filter(|c| c.apart(FIRST_LEVEL)).collect();
    let mut refuted = Vec::new();
    if !alarms.is_empty() {
        let (one, other) = again()?;
        let alarmed = |c: &Contrast| {
            alarms
                .iter()
                .any(|a| a.figure == c.figure && a.difference.is_sign_positive() == c.difference.is_sign_positive())
        };
        refuted = self::contrasts(&one, &other);
        refuted.retain(|c| c.apart(SECOND_LEVEL) && alarmed(c));
    }
    Ok(Equality { contrasts, refuted })
}
