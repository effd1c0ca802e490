//! Double-double arithmetic: relative errors below 2^-95, negligible beside every bound. Shares no code with the kernels.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// high + low, unevaluated, |low| <= ulp(high)/2 (Dekker 1971; Knuth, TAOCP 4.2.2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Dd(pub f64, pub f64);

impl Dd {
    pub fn new(x: f64) -> Self {
        Dd(x, 0.0)
    }

    pub fn abs(self) -> f64 {
        self.0.abs()
    }

    pub fn sqrt(self) -> Self {
        if self.0 <= 0.0 {
            return Dd(self.0.sqrt(), 0.0);
        }
        // One Newton step from the rounded root.
        let root = self.0.sqrt();
        let rest = self - Dd::new(root) * Dd::new(root);
        Dd::new(root) + Dd::new(rest.0 / (2.0 * root))
    }

    /// What a computed value is off.
    pub fn off(self, computed: f64) -> f64 {
        ((computed - self.0) - self.1).abs()
    }

    fn of_sum(a: f64, b: f64) -> Self {
        let sum = a + b;
        let part = sum - a;
        Dd(sum, (a - (sum - part)) + (b - part))
    }
}

impl Add for Dd {
    type Output = Dd;
    fn add(self, other: Dd) -> Dd {
        let (high, low) = (Dd::of_sum(self.0, other.0), Dd::of_sum(self.1, other.1));
        let high = Dd::of_sum(high.0, high.1 + low.0);
        Dd::of_sum(high.0, high.1 + low.1)
    }
}

impl Neg for Dd {
    type Output = Dd;
    fn neg(self) -> Dd {
        Dd(-self.0, -self.1)
    }
}

impl Sub for Dd {
    type Output = Dd;
    fn sub(self, other: Dd) -> Dd {
        self + -other
    }
}

impl Mul for Dd {
    type Output = Dd;
    fn mul(self, other: Dd) -> Dd {
        let product = self.0 * other.0;
        let error = self.0.mul_add(other.0, -product);
        Dd::of_sum(product, error + (self.0 * other.1 + self.1 * other.0))
    }
}

impl Div for Dd {
    type Output = Dd;
    fn div(self, other: Dd) -> Dd {
        let first = self.0 / other.0;
        let rest = self - other * Dd::new(first);
        let second = rest.0 / other.0;
        let rest = rest - other * Dd::new(second);
        Dd::of_sum(first, second) + Dd::new(rest.0 / other.0)
    }
}

pub fn sum(terms: impl Iterator<Item = Dd>) -> Dd {
    terms.fold(Dd::default(), |sum, term| sum + term)
}
