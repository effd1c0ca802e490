//! What a normalizer may compute: the conventions in which implementations differ, and the exact values of each.

use std::fmt;

use super::exact::{Dd, sum};

/// Where the mean is subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Centre {
    /// Nowhere (RMSNorm).
    Never,
    /// Before the scale is taken (LayerNorm).
    First,
    /// After division by a scale about 0.
    Last,
}

/// What the (centred) row is divided by, eps aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// sqrt(sum c^2 / d).
    Biased,
    /// sqrt(sum c^2 / (d - 1)).
    Sample,
    /// sqrt(sum c^2).
    Length,
    /// sqrt(d (sum c^2 / d + eps)): a root mean square too large by sqrt(d).
    ScaledUp,
    /// sum |c| / d.
    MeanAbsolute,
    /// sum c^2 / d, without the root.
    Square,
}

/// Where eps enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpsPlace {
    /// sqrt(scale^2 + eps); where the root is omitted, eps is added.
    InsideRoot,
    /// scale + eps.
    OutsideRoot,
    /// max(scale, eps).
    Floor,
}

/// What the gain's parameter w multiplies by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    None,
    W,
    OnePlusW,
    /// w, before the statistics are taken: the scale contains the gain.
    BeforeStatistics,
}

/// Where the bias is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    None,
    AfterGain,
    BeforeGain,
}

/// One normalizer's formula, without its roundings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formula {
    pub centre: Centre,
    pub divisor: Divisor,
    pub place: EpsPlace,
    pub eps: f64,
    pub factor: Factor,
    pub bias: Bias,
}

impl Formula {
    /// Ba, Kiros & Hinton 2016, arXiv:1607.06450, Eq. 4.
    pub fn layer_norm(eps: f64) -> Self {
        Formula { centre: Centre::First, bias: Bias::AfterGain, ..Formula::rms_norm(eps) }
    }

    /// Zhang & Sennrich 2019, arXiv:1910.07467, Eq. 4.
    pub fn rms_norm(eps: f64) -> Self {
        Formula {
            centre: Centre::Never,
            divisor: Divisor::Biased,
            place: EpsPlace::InsideRoot,
            eps,
            factor: Factor::W,
            bias: Bias::None,
        }
    }

    /// RMSNorm with 1 + w: Gemma 2, arXiv:2408.00118.
    pub fn gemma_norm(eps: f64) -> Self {
        Formula { factor: Factor::OnePlusW, ..Formula::rms_norm(eps) }
    }

    /// Every combination of conventions at one eps, the usual ones first.
    pub fn all(eps: f64) -> impl Iterator<Item = Formula> {
        use {Bias as B, Centre as C, Divisor as D, EpsPlace as P, Factor as F};
        let centres = [C::First, C::Never, C::Last];
        let divisors = [D::Biased, D::Sample, D::Length, D::ScaledUp, D::MeanAbsolute, D::Square];
        let places = [P::InsideRoot, P::OutsideRoot, P::Floor];
        let factors = [F::W, F::OnePlusW, F::None, F::BeforeStatistics];
        let biases = [B::AfterGain, B::None, B::BeforeGain];
        let all = centres.into_iter().flat_map(move |centre| divisors.map(move |divisor| (centre, divisor)));
        let all = all.flat_map(move |(centre, divisor)| places.map(move |place| (centre, divisor, place)));
        let all = all.flat_map(move |stem| factors.map(move |factor| (stem, factor)));
        let all = all.flat_map(move |(stem, factor)| biases.map(move |bias| (stem, factor, bias)));
        let all = all.map(move |((centre, divisor, place), factor, bias)| Formula {
            centre,
            divisor,
            place,
            eps,
            factor,
            bias,
        });
        // What has no root has no outside; what has no gain has no place before it.
        all.filter(|f| f.place == P::InsideRoot || !matches!(f.divisor, D::Square | D::ScaledUp))
            .filter(|f| f.bias != B::BeforeGain || matches!(f.factor, F::W | F::OnePlusW))
    }

    /// The factor of a coordinate after normalization.
    pub fn factor(&self, w: f64) -> Dd {
        match self.factor {
            Factor::None | Factor::BeforeStatistics => Dd::new(1.0),
            Factor::W => Dd::new(w),
            Factor::OnePlusW => Dd::new(1.0) + Dd::new(w),
        }
    }

    /// What is normalized: the row, times the gain where that comes first.
    pub fn entering(&self, x: &[f64], gain: &[f64]) -> Vec<f64> {
        match self.factor {
            Factor::BeforeStatistics => x.iter().zip(gain).map(|(x, w)| x * w).collect(),
            _ => x.to_vec(),
        }
    }

    /// The output of one coordinate.
    pub fn output(&self, z: Dd, w: f64, bias: f64) -> Dd {
        match self.bias {
            Bias::None => z * self.factor(w),
            Bias::AfterGain => z * self.factor(w) + Dd::new(bias),
            Bias::BeforeGain => (z + Dd::new(bias)) * self.factor(w),
        }
    }

    /// Whether its gradient is the one that the bounds are derived for.
    pub fn is_radial(&self) -> bool {
        self.centre != Centre::Last
            && self.divisor == Divisor::Biased
            && self.place == EpsPlace::InsideRoot
            && self.factor != Factor::BeforeStatistics
            && self.bias != Bias::BeforeGain
    }

    /// A row normalized. It is scaled by a power of two first, so that nothing over- or underflows; exact.
    pub fn row(&self, x: &[f64]) -> Row {
        let n = Dd::new(x.len() as f64);
        let own = match self.place {
            EpsPlace::InsideRoot => self.eps.sqrt(),
            EpsPlace::OutsideRoot | EpsPlace::Floor => self.eps,
        };
        let largest = x.iter().fold(own, |m, x| m.max(x.abs()));
        let exponent = if largest > 0.0 { largest.log2().floor().clamp(-1000.0, 1000.0) } else { 0.0 };
        let by = (-exponent).exp2();
        let scaled: Vec<Dd> = x.iter().map(|x| Dd::new(x * by)).collect();
        let mean = sum(scaled.iter().copied()) / n;
        // The rounding of the double-double mean is corrected, so that a constant row is exactly constant.
        let constant = x.windows(2).all(|w| w[0] == w[1]);
        let centred: Vec<Dd> = scaled.iter().map(|x| if constant { Dd::default() } else { *x - mean }).collect();
        let about = if self.centre == Centre::First { &centred } else { &scaled };
        let over = if self.centre == Centre::Never { &scaled } else { &centred };
        let squares = sum(about.iter().map(|c| *c * *c));
        let (square, scale) = self.scale(about, squares, by);
        let inverse = if scale.0 == 0.0 { Dd::default() } else { Dd::new(1.0) / scale };
        let magnitude = sum(scaled.iter().map(|x| Dd::new(x.abs()))) / n;
        let variance = (squares / n).0;
        Row {
            z: over.iter().map(|c| *c * inverse).collect(),
            inverse: inverse * Dd::new(by),
            share: if scale.0 == 0.0 { 0.0 } else { (square / scale).0.powi(2).min(1.0) },
            conditioning: magnitude.0 / variance.sqrt(),
            magnitude: magnitude.0 * inverse.0,
        }
    }

    /// The scale without and with eps, of a row times `by`.
    fn scale(&self, about: &[Dd], squares: Dd, by: f64) -> (Dd, Dd) {
        let n = Dd::new(about.len() as f64);
        let absolute = || sum(about.iter().map(|c| Dd::new(c.abs()))) / n;
        let square = match self.divisor {
            Divisor::Biased | Divisor::Square => squares / n,
            Divisor::Sample => squares / Dd::new((about.len() as f64 - 1.0).max(1.0)),
            Divisor::Length | Divisor::ScaledUp => squares,
            Divisor::MeanAbsolute => absolute() * absolute(),
        };
        let eps = Dd::new(self.eps * by);
        let inside = match self.divisor {
            Divisor::ScaledUp => eps * Dd::new(by) * n,
            _ => eps * Dd::new(by),
        };
        if self.divisor == Divisor::Square {
            // In units of the row's scale, one more of it is taken off here.
            let square = square / Dd::new(by);
            return (square, square + eps);
        }
        let plain = square.sqrt();
        let scale = match self.place {
            EpsPlace::InsideRoot => (square + inside).sqrt(),
            EpsPlace::OutsideRoot => plain + eps,
            EpsPlace::Floor if plain.0 > eps.0 => plain,
            EpsPlace::Floor => eps,
        };
        (plain, scale)
    }
}

/// One row, normalized, and what the rounding bounds want to know of it.
#[derive(Clone, Debug)]
pub struct Row {
    pub z: Vec<Dd>,
    /// dz/dx along free directions: 1/sqrt(var + eps).
    pub inverse: Dd,
    /// var/(var + eps).
    pub share: f64,
    /// mean |x| over the standard deviation; infinite for a constant row.
    pub conditioning: f64,
    /// mean |x| over the scale with eps.
    pub magnitude: f64,
}

/// The cotangent of a row, `g = factor dy` given: `(g - mean(g) - z mean(g z)) inverse`.
pub fn pull_back(row: &Row, g: &[Dd], centred: bool) -> Vec<Dd> {
    let n = Dd::new(g.len() as f64);
    let mean = if centred { sum(g.iter().copied()) / n } else { Dd::default() };
    let along = sum(g.iter().zip(&row.z).map(|(g, z)| *g * *z)) / n;
    g.iter().zip(&row.z).map(|(g, z)| (*g - mean - *z * along) * row.inverse).collect()
}

impl fmt::Display for Formula {
    /// In words: `mean subtracted; divided by the biased standard deviation, eps 1.0e-5 inside the root; gain w; bias`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Part::ALL.map(|part| part.words(self));
        write!(f, "{}", words.join("; "))
    }
}

/// A part of a formula in which implementations differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Centre,
    Divisor,
    EpsPlace,
    Eps,
    Gain,
    Bias,
}

impl Part {
    pub const ALL: [Part; 6] = [Part::Centre, Part::Divisor, Part::EpsPlace, Part::Eps, Part::Gain, Part::Bias];

    pub fn name(self) -> &'static str {
        match self {
            Part::Centre => "mean",
            Part::Divisor => "divisor",
            Part::EpsPlace => "eps place",
            Part::Eps => "eps",
            Part::Gain => "gain",
            Part::Bias => "bias",
        }
    }

    /// What a formula has here.
    pub fn words(self, formula: &Formula) -> String {
        let words = match self {
            Part::Centre => match formula.centre {
                Centre::Never => "mean not subtracted",
                Centre::First => "mean subtracted",
                Centre::Last => "mean subtracted after scaling",
            },
            Part::Divisor => match (formula.divisor, formula.centre) {
                (Divisor::Biased, Centre::First) => "biased deviation (d)",
                (Divisor::Biased, _) => "root mean square",
                (Divisor::Sample, _) => "sample deviation (d - 1)",
                (Divisor::Length, _) => "Euclidean length",
                (Divisor::ScaledUp, _) => "Euclidean length, eps times d",
                (Divisor::MeanAbsolute, _) => "mean absolute value",
                (Divisor::Square, _) => "mean square, root omitted",
            },
            Part::EpsPlace => match formula.place {
                _ if formula.eps == 0.0 => "no eps",
                EpsPlace::InsideRoot => "eps inside the root",
                EpsPlace::OutsideRoot => "eps outside the root",
                EpsPlace::Floor => "eps as a floor of the scale",
            },
            Part::Eps => return format!("eps {}", number(formula.eps)),
            Part::Gain => match formula.factor {
                Factor::None => "no gain",
                Factor::W => "gain w",
                Factor::OnePlusW => "gain 1 + w",
                Factor::BeforeStatistics => "gain applied before normalization",
            },
            Part::Bias => match formula.bias {
                Bias::None => "no bias",
                Bias::AfterGain => "bias",
                Bias::BeforeGain => "bias added before the gain",
            },
        };
        words.into()
    }
}

/// Four digits, as eps is written.
fn number(value: f64) -> String {
    let text = format!("{value:.3e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    if value == 0.0 { "0".into() } else { format!("{digits}e{exponent}") }
}
