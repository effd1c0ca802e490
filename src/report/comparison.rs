//! Several placements side by side, as a page: their figures over depth in one picture each, and the answer in words.

use crate::error::Result;
use crate::op::Registry;
use crate::profile::{Draws, Layout, Place, Profile, Quantity};
use crate::report::advice::{Candidate, advice};
use crate::report::curves::{Curve, LEVEL, Point, band, stream};
use crate::report::page::rendered;
use crate::report::plot::{Picture, picture};
use crate::report::words::digits;
use crate::verify::student_quantile;

/// A placement by its routes.
pub struct Compared<'a> {
    pub candidate: Candidate<'a>,
    pub predicted: Profile,
    /// Where the exact law holds.
    pub sampled: Option<Draws>,
    /// On the weights of the first placement; absent where their shapes differ.
    pub measured: Option<Draws>,
}

/// What is said of the placements: which hold, which to use, by how much measured figures differ on the same weights.
///
/// # Errors
/// Those of [`advice`].
pub fn sentences(all: &[Compared], registry: &Registry) -> Result<Vec<String>> {
    let candidates: Vec<Candidate> = all.iter().map(|compared| compared.candidate).collect();
    let mut sentences = advice(&candidates, registry)?;
    let Some((first, others)) = all.split_first() else { return Ok(sentences) };
    for other in others {
        let (Some(ours), Some(theirs)) = (&first.measured, &other.measured) else { continue };
        for (words, quantity, place) in [
            ("second moment of x after the last block", Quantity::SecondMoment, last as fn(&Layout) -> Option<Place>),
            ("overlap of the output", Quantity::Overlap, |_| Some(Place::Output)),
            ("gradient at the raw input", Quantity::Gradient, |_| Some(Place::Input)),
        ] {
            let rows = values(ours, quantity, place).zip(values(theirs, quantity, place));
            sentences.extend(
                rows.and_then(|(ours, theirs)| difference(words, quantity, name(other), name(first), &theirs, &ours)),
            );
        }
    }
    Ok(sentences)
}

fn name<'a>(compared: &'a Compared) -> &'a str {
    &compared.predicted.layout.placement
}

/// The last site of x.
fn last(layout: &Layout) -> Option<Place> {
    layout.sites.iter().rposition(|site| site.stream == "x").map(Place::Site)
}

/// A figure in every seed.
fn values(draws: &Draws, quantity: Quantity, place: fn(&Layout) -> Option<Place>) -> Option<Vec<f64>> {
    let place = place(&draws.layout)?;
    let figure = draws.layout.figures.iter().position(|known| *known == (place, quantity))?;
    let values: Vec<f64> = draws.rows.iter().map(|row| row[figure]).collect();
    values.iter().all(|value| value.is_finite()).then_some(values)
}

/// `On the same weights post-ln's gradient at the raw input is 0.21 [0.20, 0.22] times pre-ln's.` by seed, a ratio's mean in
/// the logarithm; an overlap's difference.
fn difference(
    words: &str,
    quantity: Quantity,
    name: &str,
    reference: &str,
    theirs: &[f64],
    ours: &[f64],
) -> Option<String> {
    let relative = quantity != Quantity::Overlap;
    let positive = theirs.iter().chain(ours).all(|value| *value > 0.0);
    if relative && !positive {
        return None;
    }
    let pair = |(a, b): (&f64, &f64)| if relative { (a / b).ln() } else { a - b };
    let pairs: Vec<f64> = theirs.iter().zip(ours).map(pair).collect();
    let n = pairs.len() as f64;
    let mean = pairs.iter().sum::<f64>() / n;
    let variance = pairs.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let reach = if variance == 0.0 { 0.0 } else { student_quantile(n - 1.0, LEVEL) * (variance / n).sqrt() };
    let shown = |value: f64| digits(if relative { value.exp() } else { value });
    let interval = format!("{} [{}, {}]", shown(mean), shown(mean - reach), shown(mean + reach));
    Some(match relative {
        true => format!("On the same weights, {name}'s {words} is {interval} times that of {reference}."),
        false => format!("On the same weights, {name}'s {words} is that of {reference} plus {interval}."),
    })
}

/// The page of a comparison.
///
/// # Errors
/// A picture or template that fails, which is a defect.
pub fn page(all: &[Compared], sentences: &[String], command: &str) -> Result<String> {
    let mut pictures = Vec::new();
    for (name, quantity) in [
        ("second moment of x", Quantity::SecondMoment),
        ("overlap of tokens", Quantity::Overlap),
        ("gradient at x", Quantity::Gradient),
    ] {
        let curves: Vec<Curve> = all.iter().map(|compared| curve(compared, quantity)).collect();
        pictures.extend(picture(name, &curves.iter().collect::<Vec<_>>())?);
    }
    let pictures: Vec<_> = pictures.iter().map(|Picture { name, words, svg }| (name, words, svg)).collect();
    let names: Vec<&str> = all.iter().map(name).collect();
    rendered("comparison.html", minijinja::context! { pictures, names, sentences, command })
}

fn curve(compared: &Compared, quantity: Quantity) -> Curve {
    let point = |(block, place): (usize, Place)| Point {
        block,
        predicted: compared.predicted.get(place, quantity).and_then(|figure| figure.value),
        sampled: compared.sampled.as_ref().and_then(|draws| band(draws, place, quantity)),
        measured: None,
    };
    let layout = &compared.predicted.layout;
    Curve { quantity, of: layout.placement.clone(), points: stream(layout).into_iter().map(point).collect() }
}
