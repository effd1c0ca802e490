//! How deep a placement can be in half precision, by its predicted figures.

use serde::{Deserialize, Serialize};

use crate::claims::{Lab, Subject};
use crate::error::Result;
use crate::fold::Graph;
use crate::predict::predict;
use crate::profile::{Place, Profile, Quantity};
use crate::spec::Shape;

/// The depths looked at, each twice the one before; what holds at the last is not followed further.
const DEPTHS: [usize; 8] = [4, 8, 16, 32, 64, 128, 256, 512];

/// A number format of 16 bits.
struct Format {
    name: &'static str,
    largest: f64,
    /// The smallest positive number.
    smallest: f64,
}

const FORMATS: [Format; 2] = [
    Format { name: "f16", largest: 65504.0, smallest: 5.960_464_477_539_063e-8 },
    Format { name: "bf16", largest: 3.389_531_389_251_535e38, smallest: 9.183_549_615_799_121e-41 },
];

/// The smallest number of blocks at which a format no longer holds a network's values or gradients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub format: String,
    /// Blocks at which a stream's root mean square passes the largest number.
    pub values: Option<usize>,
    /// Blocks at which gradients span more than the format's range, so that no loss scale holds them all.
    pub gradients: Option<usize>,
    /// The deepest network looked at.
    pub up_to: usize,
}

/// The placement predicted at each of the depths looked at.
pub fn predictions(lab: &Lab, subject: &Subject) -> Result<Vec<Profile>> {
    DEPTHS.iter().map(|blocks| at(lab, subject, *blocks)).collect()
}

/// The limits in every format, from predictions at the depths looked at.
pub fn limits(lab: &Lab, subject: &Subject, deeper: &[Profile]) -> Result<Vec<Limit>> {
    let first = |broken: &dyn Fn(&Profile) -> bool| -> Result<Option<usize>> {
        let Some(over) = deeper.iter().position(broken) else { return Ok(None) };
        let (mut holds, mut fails) = (if over == 0 { 0 } else { DEPTHS[over - 1] }, DEPTHS[over]);
        while fails - holds > 1 {
            let middle = holds.midpoint(fails);
            match broken(&at(lab, subject, middle)?) {
                true => fails = middle,
                false => holds = middle,
            }
        }
        Ok(Some(fails))
    };
    let one = |format: &Format| {
        Ok(Limit {
            format: format.name.into(),
            values: first(&|profile| largest_value(profile) > format.largest)?,
            gradients: first(&|profile| gradient_range(profile) > format.largest / format.smallest)?,
            up_to: DEPTHS[DEPTHS.len() - 1],
        })
    };
    FORMATS.iter().map(one).collect()
}

fn at(lab: &Lab, subject: &Subject, blocks: usize) -> Result<Profile> {
    let network = subject.placement.at(Shape { blocks, ..subject.shape })?;
    predict(&Graph::new(&network, &subject.setting, lab.registry)?)
}

/// The largest root mean square of a stream; infinite where the prediction overflowed.
fn largest_value(profile: &Profile) -> f64 {
    figures(profile, Quantity::SecondMoment).fold(0.0, f64::max).sqrt()
}

/// The largest root mean square of a stream's cotangent over the smallest that is not zero.
fn gradient_range(profile: &Profile) -> f64 {
    let positive = || figures(profile, Quantity::Gradient).filter(|value| *value > 0.0);
    (positive().fold(0.0, f64::max) / positive().fold(f64::INFINITY, f64::min)).sqrt()
}

fn figures(profile: &Profile, quantity: Quantity) -> impl Iterator<Item = f64> {
    let sites = 0..profile.layout.sites.len();
    sites.filter_map(move |s| profile.get(Place::Site(s), quantity)?.value)
}
