//! Which of several placements to use at a depth, and what it would take to make another one hold: an answer from
//! predictions, with the figures that it rests on.

use serde::Serialize;

use crate::error::Result;
use crate::fold::Graph;
use crate::op::Registry;
use crate::predict::predict;
use crate::profile::{Place, Profile, Quantity};
use crate::report::words::digits;
use crate::spec::{Arithmetic, Placement, Scalar, Setting, Shape};

/// Gradients over depth within this factor count as even: one learning rate then fits the first block and the last.
pub const EVEN: f64 = 10.0;

/// Tokens above this overlap are told apart by less than a tenth of their squared length.
pub const ALIKE: f64 = 0.9;

/// The largest number of f16.
const LARGEST: f64 = 65504.0;

/// The smallest factor on the branches that is tried.
const SMALLEST: f64 = 1e-3;

/// What decides whether a placement holds at a depth, as predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fitness {
    pub placement: String,
    /// The largest root mean square of a stream.
    pub largest: f64,
    /// The largest gradient at a stream over the smallest.
    pub spread: f64,
    /// Of the output's tokens; `None` for one token.
    pub overlap: Option<f64>,
}

impl Fitness {
    pub fn of(profile: &Profile) -> Self {
        let sites = || 0..profile.layout.sites.len();
        let figures = |quantity| sites().filter_map(move |s| profile.get(Place::Site(s), quantity)?.value);
        let gradients = || figures(Quantity::Gradient).filter(|gradient| *gradient > 0.0);
        let range = gradients().fold(0.0, f64::max) / gradients().fold(f64::INFINITY, f64::min);
        Fitness {
            placement: profile.layout.placement.clone(),
            largest: figures(Quantity::SecondMoment).fold(0.0, f64::max).sqrt(),
            spread: if range.is_nan() { 1.0 } else { range },
            overlap: profile.get(Place::Output, Quantity::Overlap).and_then(|figure| figure.value),
        }
    }

    /// What does not hold, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.largest > LARGEST {
            faults.push(format!("values reach {}, beyond the largest number of f16", digits(self.largest)));
        }
        if self.spread > EVEN {
            faults.push(format!("gradients differ by a factor of {} over depth", digits(self.spread)));
        }
        if let Some(overlap) = self.overlap.filter(|overlap| *overlap > ALIKE) {
            faults.push(format!("the output's tokens are alike, overlap {}", digits(overlap)));
        }
        faults
    }
}

/// A placement as a comparison has it.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    pub placement: &'a Placement,
    pub setting: &'a Setting,
    pub shape: Shape,
}

/// Sentences: which placements hold at the depth, which to use, and what would make the others hold.
///
/// # Errors
/// Those of [`predict`].
pub fn advice(candidates: &[Candidate], registry: &Registry) -> Result<Vec<String>> {
    let all = candidates.iter().map(|candidate| fitness(candidate, 1.0, registry)).collect::<Result<Vec<_>>>()?;
    let mut sentences = Vec::new();
    // The factor nearest to none with which one would hold, and whose it is.
    let mut mildest: Option<(f64, &str)> = None;
    for (candidate, fitness) in candidates.iter().zip(&all) {
        let (name, blocks) = (&fitness.placement, candidate.shape.blocks);
        let faults = fitness.faults();
        if faults.is_empty() {
            sentences.push(format!(
                "{name} holds at {blocks} blocks: values up to {}, gradients within a factor of {} over depth{}.",
                digits(fitness.largest),
                digits(fitness.spread),
                fitness.overlap.map_or(String::new(), |overlap| format!(", overlap of the output {}", digits(overlap))),
            ));
            continue;
        }
        sentences.push(format!("{name} does not hold at {blocks} blocks: {}.", faults.join("; ")));
        sentences.push(match remedy(candidate, registry)? {
            Some((factor, then)) => {
                if mildest.is_none_or(|(known, _)| factor > known) {
                    mildest = Some((factor, name));
                }
                format!(
                    "{name} would hold with W_O and W_2 drawn {} times as wide: gradients then within a factor of {}.",
                    digits(factor),
                    digits(then.spread),
                )
            }
            None => format!("No factor on W_O and W_2 down to {SMALLEST} makes {name} hold."),
        });
    }
    let holding = all.iter().filter(|fitness| fitness.faults().is_empty());
    sentences.push(match (holding.min_by(|a, b| a.spread.total_cmp(&b.spread)), mildest) {
        (Some(best), _) => format!("Of these, {} has the most even gradients and holds: use it.", best.placement),
        (None, Some((factor, name))) => format!(
            "None of these holds as it stands. The smallest change makes {name} hold: use it with W_O and W_2 drawn {} \
             times as wide.",
            digits(factor)
        ),
        (None, None) => "None of these holds, with any factor on W_O and W_2 that was tried.".into(),
    });
    Ok(sentences)
}

/// The largest factor on the branches' last matrices with which the placement holds, and what it is like then.
fn remedy(candidate: &Candidate, registry: &Registry) -> Result<Option<(f64, Fitness)>> {
    let holds = |factor: f64| -> Result<Option<Fitness>> {
        Ok(Some(fitness(candidate, factor, registry)?).filter(|fitness| fitness.faults().is_empty()))
    };
    let Some(mut best) = holds(SMALLEST)? else { return Ok(None) };
    let (mut low, mut high) = (SMALLEST.ln(), 0.0);
    // Two digits of the factor.
    while high - low > 0.01 {
        let middle = f64::midpoint(low, high);
        match holds(middle.exp())? {
            Some(fitness) => (low, best) = (middle, fitness),
            None => high = middle,
        }
    }
    Ok(Some((low.exp(), best)))
}

/// What a placement is like with its branches' last matrices drawn `factor` times as wide.
fn fitness(candidate: &Candidate, factor: f64, registry: &Registry) -> Result<Fitness> {
    let mut placement = candidate.placement.clone();
    for matrix in ["w_o", "w_2"] {
        let by =
            |scalar: Scalar| Scalar::Binary(Arithmetic::Multiply, Box::new(Scalar::Number(factor)), Box::new(scalar));
        match placement.init.iter_mut().find(|(name, _)| name == matrix) {
            Some((_, scalar)) => *scalar = by(scalar.clone()),
            None => placement.init.push((matrix.into(), Scalar::Number(factor))),
        }
    }
    let graph = Graph::new(&placement.at(candidate.shape)?, candidate.setting, registry)?;
    Ok(Fitness::of(&predict(&graph)?))
}
