//! What a report shows of a placement besides verdicts: its equations, its figures over depth by three routes, the
//! depths to which half precision holds it. An entry of the records, so that reports need nothing else.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::claims::{Lab, Subject};
use crate::error::{Error, Result};
use crate::execute::{Measurement, measure};
use crate::explain::{depths, explain, words};
use crate::fold::Graph;
use crate::op::{Initial, Stage};
use crate::predict::predict;
use crate::profile::{Draws, Layout, Place, Quantity};
use crate::report::limits::{self, Limit};
use crate::sample::sample;

/// Draws from the exact law, for the band in which single networks lie.
const DRAWS: usize = 64;

/// The share of single networks inside the band.
pub const BAND: f64 = 0.9;

/// The two-sided level of the measured means' intervals; they are for the eye, no verdict rests on them.
pub const LEVEL: f64 = 1e-3;

/// A placement explained and drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// As the command names the placement.
    pub spec: String,
    pub formula: String,
    pub formula_latex: String,
    pub jacobian: String,
    pub jacobian_latex: String,
    pub diagram_svg: String,
    /// Growth laws and gradient profile in words, from predictions.
    pub sentences: Vec<String>,
    pub seeds: usize,
    /// `None` where the exact law does not hold, for the reason given.
    pub draws: Option<usize>,
    pub not_sampled: Option<String>,
    pub curves: Vec<Curve>,
    pub limits: Vec<Limit>,
}

/// A figure over depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub quantity: Quantity,
    /// `x`, or the name of a matrix.
    pub of: String,
    pub points: Vec<Point>,
}

/// A figure at one block; 0 is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub block: usize,
    pub predicted: Option<f64>,
    /// Between which values [`BAND`] of single networks lie, by the exact law.
    pub sampled: Option<[f64; 2]>,
    /// Mean over seeds, and its interval.
    pub measured: Option<[f64; 3]>,
}

/// Explains a placement of a run and draws its figures.
///
/// # Errors
/// Those of [`explain`], [`predict`] and [`measure`]; what cannot be sampled is left out with its reason.
pub fn draw(lab: &Lab, subject: &Subject) -> Result<Curves> {
    let network = subject.placement.at(subject.shape)?;
    let graph = Graph::new(&network, &subject.setting, lab.registry)?;
    let explained = explain(&subject.placement, &subject.setting, lab.registry, subject.shape)?;
    let predicted = predict(&graph)?;
    let (sampled, not_sampled) = match sample(&graph, DRAWS, lab.seed) {
        Ok(draws) => (Some(draws), None),
        Err(Error::Refused { reason, .. }) => (None, Some(reason)),
        Err(other) => return Err(other),
    };
    let how = Measurement { seeds: lab.seeds, first_seed: lab.seed, device: lab.device.clone(), dtype: lab.dtype };
    let measured = measure(&graph, &how)?;
    let deeper = limits::predictions(lab, subject)?;
    let mut sentences = words(&predicted);
    sentences.extend(depths(&deeper));
    let curve = |(quantity, of, places): (Quantity, String, Vec<(usize, Place)>)| {
        let point = |&(block, place): &(usize, Place)| Point {
            block,
            predicted: predicted.get(place, quantity).and_then(|figure| figure.value),
            sampled: sampled.as_ref().and_then(|draws| band(draws, place, quantity)),
            measured: mean(&measured, place, quantity),
        };
        Curve { quantity, of, points: places.iter().map(point).collect() }
    };
    Ok(Curves {
        spec: subject.spec.clone(),
        formula: explained.formula_text,
        formula_latex: explained.formula_latex,
        jacobian: explained.jacobian_text,
        jacobian_latex: explained.jacobian_latex,
        diagram_svg: explained.diagram_svg,
        sentences,
        seeds: lab.seeds,
        draws: sampled.as_ref().map(|draws| draws.rows.len()),
        not_sampled,
        curves: places(&predicted.layout).into_iter().map(curve).collect(),
        limits: limits::limits(lab, subject, &deeper)?,
    })
}

/// What is drawn, and where: stream x before block 1 and after each block, then every weight matrix of a block.
fn places(layout: &Layout) -> Vec<(Quantity, String, Vec<(usize, Place)>)> {
    let mut after: Vec<(usize, Place)> = Vec::new();
    for (s, site) in layout.sites.iter().enumerate().filter(|(_, site)| site.stream == "x") {
        match after.last_mut() {
            Some(last) if last.0 == site.block => last.1 = Place::Site(s),
            _ => after.push((site.block, Place::Site(s))),
        }
    }
    let stream = [Quantity::SecondMoment, Quantity::Overlap, Quantity::Gradient];
    let mut all: Vec<_> = stream.map(|quantity| (quantity, "x".to_owned(), after.clone())).into();
    for (p, point) in layout.parameters.iter().enumerate() {
        let (Stage::Block(block), Initial::Weight { .. }) = (point.stage, &point.parameter.initial) else { continue };
        let name = &point.parameter.name;
        match all.iter_mut().skip(stream.len()).find(|(_, of, _)| of == name) {
            // Where a block calls a sub-layer twice, the first call stands for it.
            Some((_, _, places)) if places.last().is_some_and(|(last, _)| *last == block) => {}
            Some((_, _, places)) => places.push((block, Place::Parameter(p))),
            None => all.push((Quantity::Gradient, name.clone(), vec![(block, Place::Parameter(p))])),
        }
    }
    all
}

/// The draws of one figure, where all are numbers.
fn values(draws: &Draws, place: Place, quantity: Quantity) -> Option<Vec<f64>> {
    let figure = draws.layout.figures.iter().position(|known| *known == (place, quantity))?;
    let values: Vec<f64> = draws.rows.iter().map(|row| row[figure]).collect();
    values.iter().all(|value| value.is_finite()).then_some(values)
}

/// The central [`BAND`] of the draws.
pub fn band(draws: &Draws, place: Place, quantity: Quantity) -> Option<[f64; 2]> {
    let mut values = values(draws, place, quantity)?;
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    Some([at((1.0 - BAND) / 2.0), at((1.0 + BAND) / 2.0)])
}

/// Mean, and its interval by Student's quantile at [`LEVEL`].
fn mean(draws: &Draws, place: Place, quantity: Quantity) -> Option<[f64; 3]> {
    let values = values(draws, place, quantity)?;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let quantile = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(1.0 - LEVEL / 2.0);
    let reach = quantile * (variance / n).sqrt();
    Some([mean, mean - reach, mean + reach])
}
