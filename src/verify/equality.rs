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
/// A gradient below what rounding in f32 leaves of the largest one counts as that: behind a saturated softmax it is zero in
/// some draws, and only the precision says in which.
pub fn contrasts(one: &Draws, other: &Draws) -> Vec<Contrast> {
    let rounding = Rounding::of(one);
    let contrast = |figure: usize| {
        let (_, quantity) = one.layout.figures[figure];
        let columns = [one, other].map(|draws| draws.rows.iter().map(|row| row[figure]).collect::<Vec<f64>>());
        if rounding.decides(&columns, quantity) {
            return None;
        }
        let value = |v: &f64| match quantity {
            Quantity::Overlap => *v,
            Quantity::Gradient => v.max(rounding.floor).ln(),
            Quantity::SecondMoment => v.max(f64::MIN_POSITIVE).ln(),
        };
        let [a, b] = columns.map(|column| Summary::of(column.iter().map(value)));
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

/// What rounding in f32 leaves of a network's figures.
struct Rounding {
    /// Of a figure, relative to itself.
    relative: f64,
    /// Of a gradient that cancels: the square of it, of the largest gradient.
    floor: f64,
}

impl Rounding {
    fn of(draws: &Draws) -> Self {
        let shape = draws.layout.shape;
        let roundings = (shape.blocks * (2 * shape.width + shape.ffn_width + shape.tokens)) as f64;
        let relative = roundings * f64::from(f32::EPSILON);
        let gradients = |row: &Vec<f64>| {
            let of = draws.layout.figures.iter().zip(row).filter(|((_, quantity), _)| *quantity == Quantity::Gradient);
            of.map(|(_, v)| *v).fold(0.0f64, f64::max)
        };
        let largest = draws.rows.iter().map(gradients).fold(0.0, f64::max);
        Rounding { relative, floor: (relative.powi(2) * largest).max(f64::MIN_POSITIVE) }
    }

    /// Whether a figure is nothing but rounding: its spread against its size, or its size against its call's largest.
    fn decides(&self, columns: &[Vec<f64>; 2], quantity: Quantity) -> bool {
        let all = || columns.iter().flatten();
        let size = all().fold(0.0f64, |most, v| most.max(v.abs()));
        let spread = all().fold(0.0f64, |most, v| most.max((v - columns[0][0]).abs()));
        spread <= self.relative * size || (quantity == Quantity::Gradient && size <= self.floor)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::Graph;
    use crate::op::Registry;
    use crate::profile::{Kind, Layout};
    use crate::random::Stream;
    use crate::spec::{Overrides, Setting};
    use crate::zoo;

    /// Draws of which every figure is `of` a normal number.
    fn draws(seed: u64, of: impl Fn(f64) -> f64) -> Draws {
        let registry = Registry::builtin();
        let network = zoo::placement("pre-ln", &registry.vocabulary()).unwrap();
        let network = network.at(Overrides::default().shape(16, 1, 2).unwrap()).unwrap();
        let layout = Layout::new(&Graph::new(&network, &Setting::standard(), &registry).unwrap());
        let mut stream = Stream::new(seed, &[]);
        let rows = (0..64).map(|_| layout.figures.iter().map(|_| of(stream.normal())).collect()).collect();
        Draws { kind: Kind::Sampled, layout, rows }
    }

    fn refuted(one: impl Fn(f64) -> f64 + Copy, other: impl Fn(f64) -> f64 + Copy) -> bool {
        let again = || Ok::<_, ()>((draws(3, one), draws(4, other)));
        !equality(&draws(1, one), &draws(2, other), again).unwrap().refuted.is_empty()
    }

    #[test]
    fn gradients_that_only_the_precision_makes_zero_are_not_apart_and_those_of_one_side_are() {
        // Half of the draws are below rounding: 0 in f32, e^-100 in f64.
        let fine = |z: f64| if z < 0.0 { libm::exp(-100.0) } else { libm::exp(z) };
        let coarse = |z: f64| if z < 0.0 { 0.0 } else { libm::exp(z) };
        let one = draws(1, fine);
        for contrast in contrasts(&one, &draws(1, coarse)) {
            let second_moment = one.layout.figures[contrast.figure].1 == Quantity::SecondMoment;
            assert_eq!(contrast.difference != 0.0, second_moment, "{contrast:?}");
        }
        assert!(refuted(libm::exp, |_| 0.0));
        assert!(!refuted(libm::exp, libm::exp));
    }
}
