//! Placements on trial: prediction against measurement at one shape and at generated ones.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::execute::{Measurement, measure, measure_on_same_weights};
use crate::fold::Graph;
use crate::op::Registry;
use crate::predict::predict;
use crate::spec::{File, Placement, Setting, Shape};
use crate::verify::{Agreement, Verdict, agreement, generated_shapes};

/// Several placements measured on the same weights.
#[derive(Clone, Debug)]
pub struct Trial {
    /// One for each placement.
    pub shapes: Vec<Shape>,
    /// One for each placement.
    pub settings: Vec<Setting>,
    pub how: Measurement,
}

/// The verdict on a variant.
#[derive(Clone, Debug)]
pub struct Variant {
    pub placement: String,
    /// One for each shape, the default shape first.
    pub agreements: Vec<Agreement>,
}

impl Variant {
    /// The worst of the shapes' verdicts.
    pub fn verdict(&self) -> Verdict {
        self.agreements.iter().map(|a| a.verdict).max().unwrap_or(Verdict::NotApplicable)
    }
}

/// Verifies a placement, given as the text of its file, with one's own ops in the registry:
/// prediction against measurement at the default shape (64 seeds) and at 5 generated shapes (24 seeds each).
///
/// # Errors
/// Whatever is wrong with the text; a tensor operation that fails.
///
/// ```
/// use normative::op::Registry;
/// use normative::verify::{Verdict, variant};
/// let text = "name = \"mine\"\nlayer = \"\"\"\nx = x + ffn(norm(x))\n\"\"\"";
/// assert_eq!(variant(&Registry::builtin(), text)?.verdict(), Verdict::Verified);
/// # Ok::<(), normative::error::Error>(())
/// ```
pub fn variant(registry: &Registry, text: &str) -> Result<Variant> {
    let placement = Placement::new(File::parse("variant.toml", text)?, &registry.vocabulary())?;
    let mut shapes = vec![(placement.overrides.shape(128, 8, 16)?, 64)];
    shapes.extend(generated_shapes(5, 0).into_iter().map(|shape| (shape, 24)));
    let judge = |(shape, seeds)| {
        let trial = Trial {
            shapes: vec![shape],
            settings: vec![placement.overrides.setting()?],
            how: Measurement { seeds, ..Measurement::default() },
        };
        Ok(verify_together(std::slice::from_ref(&placement), &trial, registry)?.remove(0))
    };
    let agreements = shapes.into_iter().map(judge).collect::<Result<_>>()?;
    Ok(Variant { placement: placement.name, agreements })
}

/// Prediction against measurement of several placements, measured on the same weights where their shapes agree.
///
/// # Errors
/// A shape that a placement cannot have; a tensor operation that fails.
pub fn verify_together(placements: &[Placement], trial: &Trial, registry: &Registry) -> Result<Vec<Agreement>> {
    let cases: Vec<_> = placements.iter().zip(&trial.shapes).zip(&trial.settings).collect();
    let graphs = cases
        .into_iter()
        .map(|((placement, shape), setting)| Graph::new(&placement.at(*shape)?, setting, registry))
        .collect::<Result<Vec<_>>>()?;
    // Beside each other: the host predicts while a device measures.
    let (predicted, measured) = rayon::join(
        || graphs.par_iter().map(predict).collect::<Result<Vec<_>>>(),
        || measure_on_same_weights(&graphs.iter().collect::<Vec<_>>(), &trial.how),
    );
    let (predicted, measured) = (predicted?, measured?);
    let judge = |((graph, predicted), first): ((&Graph, _), crate::profile::Draws)| {
        let agreement =
            agreement(predicted, &first.profile(), |numbers| match measure(graph, &of_numbers(&trial.how, numbers)) {
                Err(Error::Memory { .. } | Error::Effort { .. }) => Ok(None),
                draws => Ok(Some(draws?.profile())),
            })?;
        Ok(Agreement { first_seed: trial.how.first_seed, ..agreement })
    };
    graphs.iter().zip(&predicted).zip(measured).map(judge).collect()
}

/// A measurement on the seeds of these numbers, counted from the first.
fn of_numbers(how: &Measurement, numbers: Range<usize>) -> Measurement {
    let first_seed = how.first_seed.wrapping_add(numbers.start as u64);
    Measurement { first_seed, seeds: numbers.len(), ..how.clone() }
}
