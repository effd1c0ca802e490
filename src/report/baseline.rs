//! A variant's figures as a small text file to be committed, and what has moved since.
//!
//! A comparison on the baseline's own seeds runs the very networks again: what differs beyond rounding is the variant or the
//! program. On other seeds it is by overlap of intervals.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::profile::{Layout, Place, Profile, Quantity};
use crate::verify::{Interval, rounding, student_quantile};

/// The form of a baseline's file.
pub const SCHEMA: &str = "normative/baseline/1";

/// The probability that chance moves a figure of an unchanged variant on other seeds: with a thousand figures, an alarm in a
/// million comparisons.
const LEVEL: f64 = 1e-9;

/// A variant's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    pub schema: String,
    pub placement: String,
    pub measured: How,
    /// Mean and standard error, by the figure's name; only those that are numbers.
    pub figures: BTreeMap<String, [f64; 2]>,
}

/// What networks were measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// The options of shape and setting that were given.
    pub options: Vec<String>,
    pub dtype: String,
    pub seeds: usize,
    pub seed: u64,
}

/// A figure that is not what it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    pub figure: String,
    /// Absent where there was no number, or is none.
    pub before: Option<f64>,
    pub now: Option<f64>,
    /// How far both could differ by rounding or chance.
    pub reach: f64,
}

impl Baseline {
    pub fn new(placement: &str, measured: How, profile: &Profile) -> Self {
        let names = (0..profile.layout.figures.len()).map(|figure| profile.layout.name(figure));
        let numbers = names.zip(&profile.figures).filter_map(|(name, figure)| {
            let (value, se) = (figure.value?, figure.se?);
            Some((name, [value, se]))
        });
        Baseline { schema: SCHEMA.into(), placement: placement.into(), measured, figures: numbers.collect() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no baseline.
    pub fn read(path: &Path) -> Result<Baseline> {
        let help = "`normative baseline save` writes one";
        let error = |cause: String| Error::File { path: path.into(), cause, help: help.into() };
        let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        let baseline: Baseline = toml::from_str(&text).map_err(|e| error(e.message().to_owned()))?;
        match baseline.schema == SCHEMA {
            true => Ok(baseline),
            false => Err(error(format!("this is \"{}\", not \"{SCHEMA}\"", baseline.schema))),
        }
    }

    /// The file's text.
    pub fn text(&self) -> Result<String> {
        let text = toml::to_string(self).map_err(|e| Error::Refused {
            subject: "the baseline".into(),
            reason: e.to_string(),
            help: "this is a defect of normative".into(),
        })?;
        Ok(format!("# Figures of a variant (mean, standard error), written by `normative baseline save`.\n{text}"))
    }

    /// The figures that differ from a measurement beyond rounding and chance, in the order in which a change reaches them.
    pub fn moved(&self, now: &Profile, how: &How) -> Vec<Moved> {
        let same_networks = (how.seed, how.seeds) == (self.measured.seed, self.measured.seeds);
        let layout = &now.layout;
        let mut moved = Vec::new();
        let mut known: Vec<&String> = self.figures.keys().collect();
        for figure in order(layout) {
            let name = layout.name(figure);
            known.retain(|other| **other != name);
            let value = now.figures[figure].value.zip(now.figures[figure].se);
            let (before, reach) = match (self.figures.get(&name), value) {
                (None, None) => continue,
                (Some([before, se]), Some((value, se_now))) => {
                    let size = match layout.figures[figure].1 {
                        // A cosine of nearly zero is the sum of products that are not.
                        Quantity::Overlap => 1.0,
                        _ => before.abs().max(value.abs()),
                    };
                    let numbers = rounding(now, figure, size, roundoff(&how.dtype));
                    let chance = |se: f64, seeds: usize| match se == 0.0 {
                        true => 0.0,
                        false => se * student_quantile(seeds as f64 - 1.0, LEVEL),
                    };
                    let [was, is] = match same_networks {
                        true => [numbers / 2.0; 2],
                        false => [chance(*se, self.measured.seeds), chance(se_now, how.seeds) + numbers],
                    };
                    if Interval::around(*before, was).meets(&Interval::around(value, is)) {
                        continue;
                    }
                    (Some(*before), was + is)
                }
                (before, _) => (before.map(|[value, _]| *value), 0.0),
            };
            moved.push(Moved { figure: name, before, now: value.map(|(value, _)| value), reach });
        }
        // Sites and parameters that the variant no longer has.
        let gone = known.into_iter().map(|name| Moved {
            figure: name.clone(),
            before: Some(self.figures[name][0]),
            now: None,
            reach: 0.0,
        });
        moved.extend(gone);
        moved
    }
}

/// Half the distance from 1 to the next number of a precision.
fn roundoff(dtype: &str) -> f64 {
    match dtype {
        "f64" => f64::EPSILON,
        "bf16" => f64::from(half::bf16::EPSILON),
        _ => f64::from(f32::EPSILON),
    }
}

/// Figures as a change reaches them: forward from site to site, then gradients from the output back, then parameters.
fn order(layout: &Layout) -> Vec<usize> {
    let of = |wanted: fn(&(Place, Quantity)) -> bool| {
        let figures = layout.figures.iter().enumerate().filter(move |(_, figure)| wanted(figure));
        figures.map(|(index, _)| index)
    };
    let forward = of(|(_, quantity)| *quantity != Quantity::Gradient);
    let sites = of(|(place, quantity)| *quantity == Quantity::Gradient && !matches!(place, Place::Parameter(_)));
    let parameters = of(|(place, _)| matches!(place, Place::Parameter(_)));
    let mut back: Vec<usize> = sites.collect();
    back.reverse();
    forward.chain(back).chain(parameters).collect()
}
