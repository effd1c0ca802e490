//! Normalizers that divide a vector by its own scale: LayerNorm, RMSNorm and their kin.

mod moments;
mod rows;
mod tensors;

use crate::error::Result;
use crate::op::{Drawn, Initial, Matrices, Moments, Notation, Parameter, Responded, Response, Role, Rows, Site};

/// What divides the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// sqrt(mean x^2 + eps).
    Rms,
    /// max(|x|, eps), the Euclidean length.
    Length,
}

/// The learnable factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gain {
    None,
    /// One number a coordinate, 1 at initialization.
    PerCoordinate,
    /// 1 + w, w one number a coordinate, 0 at initialization (Gemma).
    OnePlus,
    /// One number, sqrt(width) at initialization (ScaleNorm).
    Single,
}

/// `gain * (x - centre) / scale(x - centre) + bias`, token by token.
///
/// Sources: LayerNorm, Ba, Kiros & Hinton 2016, arXiv:1607.06450; RMSNorm, Zhang & Sennrich 2019, arXiv:1910.07467;
/// ScaleNorm, Nguyen & Salazar 2019, arXiv:1910.05895; Gemma 2, arXiv:2408.00118.
#[derive(Clone, Debug)]
pub struct Radial {
    pub name: &'static str,
    pub notation: (&'static str, &'static str),
    /// Whether the mean is subtracted first.
    pub centred: bool,
    pub scale: Scale,
    pub gain: Gain,
    /// Whether a bias, 0 at initialization, is added.
    pub bias: bool,
    /// eps where the setting gives none.
    pub eps: f64,
}

impl Radial {
    pub fn layer_norm() -> Self {
        Radial {
            name: "layer_norm",
            notation: (r"\mathrm{LN}", "LN"),
            centred: true,
            scale: Scale::Rms,
            gain: Gain::PerCoordinate,
            bias: true,
            eps: 1e-5,
        }
    }

    pub fn rms_norm() -> Self {
        Radial {
            name: "rms_norm",
            notation: (r"\mathrm{RMS}", "RMS"),
            centred: false,
            bias: false,
            eps: 1e-6,
            ..Radial::layer_norm()
        }
    }

    pub fn gemma_norm() -> Self {
        Radial {
            name: "gemma_norm",
            notation: (r"\mathrm{RMS}_{1+w}", "RMS1"),
            gain: Gain::OnePlus,
            ..Radial::rms_norm()
        }
    }

    pub fn scale_norm() -> Self {
        Radial {
            name: "scale_norm",
            notation: (r"\mathrm{SN}", "SN"),
            scale: Scale::Length,
            gain: Gain::Single,
            eps: 1e-5,
            ..Radial::rms_norm()
        }
    }

    pub fn l2_norm() -> Self {
        Radial {
            name: "l2_norm",
            notation: (r"\mathrm{L2}", "L2"),
            scale: Scale::Length,
            gain: Gain::None,
            eps: 1e-12,
            ..Radial::rms_norm()
        }
    }
}

impl Response for Radial {
    fn name(&self) -> &str {
        self.name
    }

    fn role(&self) -> Role {
        Role::Normalizer
    }

    fn notation(&self) -> Notation {
        Notation { latex: self.notation.0.into(), text: self.notation.1.into() }
    }

    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        let vector = |name: &str, value| Parameter {
            name: name.into(),
            shape: vec![at.width],
            initial: Initial::Constant(value),
        };
        let gain = match self.gain {
            Gain::None => None,
            Gain::PerCoordinate => Some(vector("gain", 1.0)),
            Gain::OnePlus => Some(vector("gain", 0.0)),
            Gain::Single => Some(Parameter {
                name: "gain".into(),
                shape: vec![1],
                initial: Initial::Constant((at.width as f64).sqrt()),
            }),
        };
        gain.into_iter().chain(self.bias.then(|| vector("bias", 0.0))).collect()
    }

    fn respond(&self, at: &Site, input: &Moments) -> Result<Responded> {
        moments::respond(self, at, input)
    }

    fn draw(&self, at: &Site, input: &Rows, _: &mut dyn Matrices) -> Result<Drawn> {
        rows::draw(self, at, input)
    }
}
