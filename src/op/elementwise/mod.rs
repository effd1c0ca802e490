//! Normalizers that act on each coordinate alone: DyT and Derf.

mod moments;
mod rows;
mod tensors;

use crate::error::Result;
use crate::op::{Drawn, Initial, Matrices, Moments, Notation, Parameter, Responded, Response, Role, Rows, Site};

/// The squashing function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    Tanh,
    Erf,
}

impl Squash {
    /// The function.
    fn value(self, x: f64) -> f64 {
        match self {
            Squash::Tanh => libm::tanh(x),
            Squash::Erf => libm::erf(x),
        }
    }

    /// Its derivative.
    fn slope(self, x: f64) -> f64 {
        match self {
            Squash::Tanh => 1.0 - libm::tanh(x).powi(2),
            Squash::Erf => std::f64::consts::FRAC_2_SQRT_PI * libm::exp(-x * x),
        }
    }
}

/// `gain * squash(alpha x + shift) + bias`; alpha 0.5, shift 0, gain 1, bias 0 at initialization.
///
/// Sources: DyT, Zhu et al. 2025, arXiv:2503.10622; Derf, Chen et al. 2025, arXiv:2512.10938.
#[derive(Clone, Debug)]
pub struct Elementwise {
    pub name: &'static str,
    pub notation: (&'static str, &'static str),
    pub squash: Squash,
    /// Whether there is a learnable shift inside (Derf).
    pub shift: bool,
}

/// alpha at initialization.
pub const ALPHA: f64 = 0.5;

impl Elementwise {
    pub fn dyt() -> Self {
        Elementwise { name: "dyt", notation: (r"\mathrm{DyT}", "DyT"), squash: Squash::Tanh, shift: false }
    }

    pub fn derf() -> Self {
        Elementwise { name: "derf", notation: (r"\mathrm{Derf}", "Derf"), squash: Squash::Erf, shift: true }
    }
}

impl Response for Elementwise {
    fn name(&self) -> &str {
        self.name
    }

    fn role(&self) -> Role {
        Role::Normalizer
    }

    fn notation(&self) -> Notation {
        Notation { latex: self.notation.0.into(), text: self.notation.1.into() }
    }

    /// `gain` and `bias` (width,), `alpha` and, for Derf, `shift` (1,).
    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        let parameter = |name: &str, size, value| Parameter {
            name: name.into(),
            shape: vec![size],
            initial: Initial::Constant(value),
        };
        let mut all =
            vec![parameter("gain", at.width, 1.0), parameter("bias", at.width, 0.0), parameter("alpha", 1, ALPHA)];
        all.extend(self.shift.then(|| parameter("shift", 1, 0.0)));
        all
    }

    fn respond(&self, at: &Site, input: &Moments) -> Result<Responded> {
        moments::respond(self, at, input)
    }

    fn draw(&self, at: &Site, input: &Rows, _: &mut dyn Matrices) -> Result<Drawn> {
        rows::draw(self, at, input)
    }
}
