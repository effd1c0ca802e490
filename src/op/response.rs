//! What an op does to moments and to sampled rows: its theory, free of tensors.
//!
//! An op that knows no theory leaves the defaults; its figures are then null, with the reason.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::op::{Matrices, Paired, Site};

/// A matrix of second moments between tokens, `(tokens, tokens)`.
pub type Gram = nalgebra::DMatrix<f64>;

/// Realised vectors, one column per token: `(width, tokens)`.
pub type Rows = nalgebra::DMatrix<f64>;

/// What kind of op it is: where equations may use it, and how its parameters are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Acts on each token alone; may stand anywhere.
    Normalizer,
    /// Has weight matrices; may stand in a layer only.
    Sublayer,
}

/// How formulas print an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notation {
    /// In LaTeX, such as `\mathrm{LN}`.
    pub latex: String,
    /// In one line of text, such as `LN`.
    pub text: String,
}

/// A parameter of an op at a site.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Within the op: `w_q`, `gain`, `q_norm.gain`.
    pub name: String,
    pub shape: Vec<usize>,
    pub initial: Initial,
}

/// A parameter's value at initialization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// Every entry the same.
    Constant(f64),
    /// Independent entries of variance `factor^2 / fan_in`, fan_in the first dimension (y = x W), by the setting's law.
    Weight { factor: f64 },
}

/// The law of a value over random weights, as far as the prediction follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// K[a, b] = E<v_a, v_b>/d, per coordinate.
    pub gram: Gram,
    /// Relative variance between draws of a token's realised second moment; 0 after a norm, 2/d for fresh Gaussians.
    pub spread: f64,
    /// How many independent Gaussian coordinates would make the realised Gram's distance from token collapse (the trace
    /// with the mean over tokens taken off, over the whole) vary as much; d for fresh Gaussians, less behind a random Gram.
    pub freedom: f64,
    /// The share of the value along the constant direction 1/sqrt(d), in units of an isotropic one's:
    /// 1 for fresh Gaussians, 0 behind a normalizer that subtracts the mean.
    pub constant: f64,
    /// Per token, a mean over coordinates that is the same in every draw, such as that of ReLU's output;
    /// `None` where it is zero. Where there is one the coordinates are not Gaussian.
    pub mean: Option<Vec<f64>>,
    /// Draws of one coordinate, `(tokens, draws)`, where it is not Gaussian because an op that bends coordinates came before
    /// and no sub-layer since.
    pub coordinates: Option<Arc<Gram>>,
    /// What its tokens' own lengths do beyond the second order; `None` where that is enough.
    pub lengths: Option<Lengths>,
}

/// Where tokens' lengths vary much, and apart from their inner products, as behind one head of attention: what changes for a norm
/// that divides by them, beyond the second order in [`Moments::spread`] (own, derived here). Without unit. With q^ and K^ the realised moments:
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    /// `(tokens, tokens)`: E K^_ab/sqrt(q^_a q^_b) less the same of the means.
    pub cosine: Gram,
    /// `(tokens, tokens)`: E sqrt(q_a q_b/(q^_a q^_b)) less 1 + spread (3 + r^2)/4, r the cosine of the means.
    pub inverse: Gram,
    /// 1/[`Moments::freedom`] of tokens of unit length less that of these.
    pub inverse_freedom: f64,
}

impl Lengths {
    /// What is left of it in a sum of which this value is a share: of second order, so that it falls as the share's square.
    pub fn diluted(&self, share: f64) -> Self {
        let share = share.powi(2);
        Lengths {
            cosine: &self.cosine * share,
            inverse: &self.inverse * share,
            inverse_freedom: self.inverse_freedom * share,
        }
    }

    /// That of a sum of two independent values, each diluted by its share.
    pub fn plus(self, other: Self) -> Self {
        let Lengths { cosine, inverse, inverse_freedom } = other;
        Lengths {
            cosine: self.cosine + cosine,
            inverse: self.inverse + inverse,
            inverse_freedom: self.inverse_freedom + inverse_freedom,
        }
    }
}

impl Moments {
    /// Independent Gaussian coordinates, `width` of them, with this Gram between tokens.
    pub fn gaussian(gram: Gram, width: usize) -> Self {
        let width = width.max(1) as f64;
        Moments {
            gram,
            spread: 2.0 / width,
            freedom: width,
            constant: 1.0,
            mean: None,
            coordinates: None,
            lengths: None,
        }
    }
}

/// What an op makes of the moments of its input.
pub struct Responded {
    pub output: Moments,
    /// Per token, the linear response: `C_out,w[a, b] = linear[a] C_in,w[a, b]` for every other value w.
    /// `None`: the output is independent of everything before it (fresh zero-mean weights).
    pub linear: Option<Vec<f64>>,
    /// d ln q_out / d ln q_in, by which a fluctuation of the input's second moment reaches the output's; 0 for a norm.
    pub elasticity: f64,
    /// The same for the distance from token collapse; 1 where only the scale changes.
    pub centred_elasticity: f64,
    /// The way back.
    pub pull: Box<dyn Pull>,
}

/// The cotangent side of one op at one site.
pub trait Pull: Send + Sync {
    /// The Gram of the cotangent at the op's input, from that at its output.
    fn pull(&self, cotangent: &Cotangent) -> Pulled;
}

/// The law of a cotangent.
#[derive(Clone, Debug, PartialEq)]
pub struct Cotangent {
    /// G[a, b] = E<g_a, g_b>, summed over coordinates.
    pub gram: Gram,
    /// The share of the cotangent along its own value, in units of an isotropic one's:
    /// `d E<v, g>^2 / (|v|^2 |g|^2)`; 1 for a fresh cotangent, 0 behind a norm.
    pub radial: f64,
    /// The share along the constant direction, as in [`Moments::constant`].
    pub constant: f64,
    /// Draws of a coordinate of it and of the op's argument, of a sub-layer's output, where the two depend on each other
    /// because ops that bend coordinates lie behind and no sub-layer between.
    pub paired: Option<Paired>,
    /// By how much the cotangent's energy falls as its value's second moment rises, -d ln |g|^2/d ln q between draws:
    /// 1 before a norm, 0 for a fresh cotangent.
    pub recoil: f64,
    /// E sum_ab K^_ab G^_ab, K^ the realised Gram of its own value and G^ its own, over the same of the means: 1 for a fresh
    /// cotangent, more behind a sub-layer, which gives tokens that happen to be alike cotangents that are.
    pub coupling: f64,
}

impl Cotangent {
    /// A cotangent independent of its value, and of no preferred direction.
    pub fn fresh(gram: Gram) -> Self {
        Cotangent { gram, radial: 1.0, constant: 1.0, paired: None, recoil: 0.0, coupling: 1.0 }
    }
}

/// What a cotangent becomes behind an op.
pub struct Pulled {
    pub cotangent: Cotangent,
    /// As in [`Responded::linear`], for the other live cotangents.
    pub linear: Option<Vec<f64>>,
    /// Expected squared Frobenius norm of each parameter's gradient, in the order of [`Response::parameters`].
    pub parameters: Vec<Expected>,
}

/// A figure, or why theory gives none.
pub type Expected = std::result::Result<f64, &'static str>;

/// The reason for the gradient of a parameter whose contributions cancel exactly.
pub const CANCELS: &str = "the gradient cancels: what is left of it is rounding";

/// One draw of an op from its exact law, without its weights (theory: "the exact law without weights").
pub struct Drawn {
    /// `(width, tokens)`.
    pub output: Rows,
    pub pull: Box<dyn DrawPull>,
}

/// The way back of one draw.
pub trait DrawPull: Send {
    /// The cotangent at the input, `(width, tokens)`, and each parameter's squared gradient in the order of
    /// [`Response::parameters`].
    fn pull(self: Box<Self>, cotangent: Rows, matrices: &mut dyn Matrices) -> Result<(Rows, Vec<f64>)>;
}

/// What may be known of an op without running it.
pub trait Response: Send + Sync + Debug {
    /// The name in equations, options and files.
    fn name(&self) -> &str;

    fn role(&self) -> Role;

    fn notation(&self) -> Notation {
        Notation { latex: format!(r"\mathrm{{{}}}", self.name().replace('_', r"\_")), text: self.name().into() }
    }

    /// The names under which a call may pass inner norms, such as `qk`.
    fn slots(&self) -> &[&str] {
        &[]
    }

    /// The op's parameters at a site, in a fixed order, those of its inner norms included.
    fn parameters(&self, _at: &Site) -> Vec<Parameter> {
        Vec::new()
    }

    /// What becomes of one coordinate, and the slope there, for an op that bends each by itself; `None` for every other op.
    fn bend(&self, _coordinate: f64) -> Option<(f64, f64)> {
        None
    }

    /// The moments of the output and the way back, in the wide limit with the leading finite-width terms.
    fn respond(&self, at: &Site, _input: &Moments) -> Result<Responded> {
        Err(unknown(self.name(), at, "gives no prediction rule", "implement Response::respond"))
    }

    /// One draw of the output and the way back, exact at any width.
    fn draw(&self, at: &Site, _input: &Rows, _matrices: &mut dyn Matrices) -> Result<Drawn> {
        Err(unknown(self.name(), at, "gives no sampling rule", "implement Response::draw"))
    }
}

fn unknown(name: &str, at: &Site, reason: &str, help: &str) -> Error {
    Error::Refused {
        subject: format!("{} at {}", name, at.path()),
        reason: format!("the op {name} {reason}"),
        help: help.into(),
    }
}
