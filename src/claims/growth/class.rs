//! The class of a growth law: constant, logarithmic, square root, linear or exponential.

use std::fmt::{self, Display, Formatter};

use crate::claims::growth::HALFWAY;
use crate::spec::Growth;

/// The class of a law; of its reciprocal where it falls.
pub struct Class {
    pub growth: Growth,
    pub falls: bool,
}

impl Class {
    /// Of y(n), y(s n), y(s^2 n), by the contrasts of [`Evidence::growth`]: constant within a factor s^(2/4), else by the
    /// increment of the second step over that of the first.
    pub fn of(y: [f64; 3], step: usize) -> Self {
        let s = step as f64;
        let constant = (y[2] / y[0]).ln().abs() <= HALFWAY * 2.0 * s.ln();
        let falls = y[2] < y[0] && !constant;
        let y = if falls { y.map(f64::recip) } else { y };
        let exponent = ((y[2] - y[1]) / (y[1] - y[0])).log(s);
        let logarithms = y.map(f64::ln);
        let of_logarithm = ((logarithms[2] - logarithms[1]) / (logarithms[1] - logarithms[0])).log(s);
        let growth = match () {
            () if constant => Growth::Constant,
            () if of_logarithm > 0.5 => Growth::Exponential,
            () if exponent <= 0.25 => Growth::Logarithmic,
            () if exponent <= 0.75 => Growth::SquareRoot,
            () => Growth::Linear,
        };
        Class { growth, falls }
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let word = Growth::NAMES.iter().find(|(_, known)| *known == self.growth).map_or("", |(word, _)| word);
        write!(f, "{}{word}", if self.falls { "1 / " } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_told_from_the_others() {
        for (law, class_of_it) in [
            ((|_| 1.0) as fn(f64) -> f64, "constant"),
            (|n| n.ln(), "logarithmic"),
            (|n| 1.0 + n.sqrt(), "square_root"),
            (|n| 1.0 + n, "linear"),
            (|n| (n / 16.0).exp2(), "exponential"),
            (|n| 1.0 / (1.0 + n), "1 / linear"),
            (|n| (-n / 16.0).exp2(), "1 / exponential"),
        ] {
            assert_eq!(Class::of([16.0, 32.0, 64.0].map(law), 2).to_string(), class_of_it);
            assert_eq!(Class::of([4.0, 16.0, 64.0].map(law), 4).to_string(), class_of_it);
        }
    }
}
