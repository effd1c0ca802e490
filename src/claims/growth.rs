//! Growth laws of any placement, a user's included: exponents by depth and width, against the closed form's.
//!
//! The closed form gives the law at once; the exact law (sampled, at any depth) gives the exponent with its interval. By
//! depth means over the blocks of one network, between block N/4 and N or, in the full tier, N/16 and N.
//!
//! Gradients of some placements spread far more between draws than others': a first look has few draws, and further ones as
//! many as their spread asks for.

use std::fmt::{self, Display, Formatter};

use crate::claims::experiment::Network;
use crate::claims::subjects::{pool, replay};
use crate::claims::{About, Claim, Item, Lab, Subject, Tier, share};
use crate::error::{Error, Result};
use crate::predict::predict;
use crate::profile::{Place, Profile, Quantity};
use crate::spec::{Growth, Shape};
use crate::verify::budget::split;
use crate::verify::{
    Evidence, Finding, GROUP_LEVEL, Interval, MOST_DRAWS, Verdict, chi_square_quantiles, mean_is_seen,
};

/// Halfway between the exponents of two classes (constant 0, square root 1/2, linear 1).
const HALFWAY: f64 = 0.25;

/// Tokens of the networks: enough for an overlap, and no more, as cost grows with their square.
const TOKENS: usize = 3;

/// A law that every placement has.
struct Law {
    id: &'static str,
    statement: &'static str,
    quantity: Quantity,
    along: Along,
}

#[derive(Clone, Copy)]
enum Along {
    Depth,
    Width,
}

const LAWS: [Law; 5] = [
    Law {
        id: "growth.second_moment.by_depth",
        statement: "The second moment of x grows over the blocks with the exponent and in the class of the closed form.",
        quantity: Quantity::SecondMoment,
        along: Along::Depth,
    },
    Law {
        id: "growth.gradient.by_depth",
        statement: "The squared gradient at x changes over the blocks with the exponent of the closed form.",
        quantity: Quantity::Gradient,
        along: Along::Depth,
    },
    Law {
        id: "growth.overlap.by_depth",
        statement: "The distance of tokens, 1 - overlap, falls over the blocks with the exponent of the closed form.",
        quantity: Quantity::Overlap,
        along: Along::Depth,
    },
    Law {
        id: "growth.second_moment.by_width",
        statement: "The second moment of x depends on the width with the exponent of the closed form.",
        quantity: Quantity::SecondMoment,
        along: Along::Width,
    },
    Law {
        id: "growth.gradient.by_width",
        statement: "The squared gradient at x depends on the width with the exponent of the closed form.",
        quantity: Quantity::Gradient,
        along: Along::Width,
    },
];

pub fn claims() -> Vec<Claim> {
    let claim = |law: &Law| Claim {
        id: law.id,
        statement: law.statement,
        source: "normative, predict against sample; classes as in [expect]",
        domain: "any placement at initialization, where the closed form gives figures and the exact law holds",
        about: About::EveryPlacement,
        expected: Verdict::Verified,
        plan,
    };
    LAWS.iter().map(claim).collect()
}

fn plan(claim: &Claim, lab: &Lab) -> Result<Vec<Item>> {
    let law = LAWS.iter().find(|law| law.id == claim.id).expect("claims() makes a claim of each law under its own id");
    let item = |(index, subject): (usize, &Subject)| Item {
        key: format!("{} @ {}", claim.id, subject.spec),
        judge: Box::new(move |lab| Ok(vec![finding(lab, law, &lab.subjects[index])?])),
    };
    Ok(lab.subjects.iter().enumerate().map(item).collect())
}

fn finding(lab: &Lab, law: &Law, subject: &Subject) -> Result<Finding> {
    let alpha = split(share(law.id, pool(subject)), lab.subjects.len());
    let (judged, shape) = match law.along {
        Along::Depth => (by_depth(lab, subject, law.quantity, alpha), deep(lab, subject)),
        Along::Width => (by_width(lab, subject, law.quantity, alpha), shape(subject, WIDER, SHALLOW)),
    };
    let judged = match judged {
        Ok(evidence) => Finding::of(law.id, evidence),
        // A law that does not hold here, or a theory that gives no figure, is no fault of the placement.
        Err(Error::Refused { reason, .. }) => Finding::not_applicable(law.id, reason),
        Err(error) => return Err(error),
    };
    Ok(Finding {
        placement: Some(subject.spec.clone()),
        normalizer: Some(subject.setting.normalizer.clone()),
        setting: Some(subject.setting.name.clone()),
        shape: Some(shape),
        replay: replay(lab, &[&subject.spec], law.id),
        ..judged
    })
}

/// Draws of a first look.
fn draws(lab: &Lab) -> usize {
    lab.draws(48, 64)
}

/// How many times as wide as its network a placement is tried.
const WIDER: usize = 4;

/// Blocks of the networks of a law by width.
const SHALLOW: usize = 4;

fn shape(subject: &Subject, wider: usize, blocks: usize) -> Shape {
    let (width, ffn_width) = (wider * subject.shape.width, wider * subject.shape.ffn_width);
    Shape { width, ffn_width, blocks, tokens: TOKENS, ..subject.shape }
}

/// The shape at which a law by depth is judged.
fn deep(lab: &Lab, subject: &Subject) -> Shape {
    match lab.tier {
        Tier::Quick => shape(subject, 1, 16),
        Tier::Full => shape(subject, 1, 1024),
    }
}

/// Between the depths of a ladder. A class is in the increment of the second step over that of the first, which quadruplings
/// tell from the next class's with a seventh of the draws that doublings need; the quick tier has no depth for them.
fn step(lab: &Lab) -> usize {
    match lab.tier {
        Tier::Quick => 2,
        Tier::Full => 4,
    }
}

fn network(subject: &Subject, shape: Shape) -> Network {
    Network { placement: subject.placement.clone(), setting: subject.setting.clone(), shape }
}

/// A predicted figure of x behind a block, or the reason why there is none.
fn predicted(profile: &Profile, block: usize, quantity: Quantity) -> Result<f64> {
    let refused = |reason: &str| Error::Refused {
        subject: format!("{} behind block {block}", quantity.word()),
        reason: reason.to_owned(),
        help: "see `normative predict`".into(),
    };
    let site = profile.layout.sites.iter().rposition(|s| s.stream == "x" && s.block == block);
    let figure = site
        .and_then(|site| profile.get(Place::Site(site), quantity))
        .ok_or_else(|| refused("x is not written there"))?;
    figure.value.ok_or_else(|| refused(figure.reason.as_deref().unwrap_or("the closed form gives no figure")))
}

/// The number whose law is judged: for an overlap the distance from 1.
fn measure(quantity: Quantity, value: f64) -> f64 {
    if quantity == Quantity::Overlap { 1.0 - value } else { value }
}

/// Below this the distance of tokens is rounding of the closed form's cosine.
const COLLAPSED: f64 = 1e-8;

fn by_depth(lab: &Lab, subject: &Subject, quantity: Quantity, alpha: f64) -> Result<Vec<Evidence>> {
    let (deepest, step) = (deep(lab, subject).blocks, step(lab));
    let blocks = [deepest / (step * step), deepest / step, deepest];
    let of_width = |wider: usize| network(subject, shape(subject, wider, deepest));
    let predicted_ladder = |network: &Network| -> Result<[f64; 3]> {
        let profile = predict(&network.graph(lab.registry)?)?;
        let rung = |block| Ok(measure(quantity, predicted(&profile, block, quantity)?));
        Ok([rung(blocks[0])?, rung(blocks[1])?, rung(blocks[2])?])
    };
    let network = of_width(1);
    let ladder = predicted_ladder(&network)?;
    if quantity == Quantity::Gradient {
        carried_by_many(ladder, predicted_ladder(&of_width(WIDE))?, draws(lab))?;
    }
    let curves = lab.sampled(&network, draws(lab))?;
    let of =
        |block| -> Result<Vec<f64>> { Ok(curves.at(block, quantity)?.iter().map(|v| measure(quantity, *v)).collect()) };
    if quantity == Quantity::Overlap && ladder[2] < COLLAPSED {
        let figure = format!("1 - overlap behind block {}: exponential collapse", blocks[2]);
        return Ok(vec![Evidence::mean(figure, &of(blocks[2])?, Interval::at_most(COLLAPSED.sqrt()), alpha)]);
    }
    let found = [of(blocks[0])?, of(blocks[1])?, of(blocks[2])?];
    seen(quantity, &found)?;
    let pairs = pairs(&found[0], &found[2]);
    let ratio = blocks[2] as f64 / blocks[0] as f64;
    let exponent = (ladder[2] / ladder[0]).ln() / ratio.ln();
    let class = Class::of(ladder, step);
    let figure = format!("{}, {class}: exponent in l, l = {}..{}", name(quantity), blocks[0], blocks[2]);
    let classed = lab.tier == Tier::Full && quantity == Quantity::SecondMoment && !class.falls;
    let parts = if classed { 2.0 } else { 1.0 };
    let accepted = around(lab, exponent);
    let found_exponent = Evidence::exponent(figure, &pairs, ratio, accepted, alpha / parts).stating(exponent);
    if found_exponent.exponent_is_beyond_reach() {
        let reason =
            format!("its logarithm spreads so far between draws that {MOST_DRAWS} of them do not tell its exponent");
        return Err(unseen(quantity, reason));
    }
    let mut evidence = vec![found_exponent];
    if classed {
        let ladders: Vec<[f64; 3]> = (0..found[0].len()).map(|i| [found[0][i], found[1][i], found[2][i]]).collect();
        evidence.extend(Evidence::growth(
            format!("second moment, {class}"),
            &ladders,
            step,
            class.growth,
            alpha / parts,
        ));
    }
    Ok(evidence)
}

/// How many times as wide a network is that stands for the wide limit.
const WIDE: usize = 64;

/// Refuses gradients whose mean is so many times a wide network's that not one of the draws may carry it.
///
/// The factors of blocks multiply to about a log-normal law, whose mean is exp(s^2/2) of its typical value, and that is the
/// wide limit's. The draws need not show it: in ResiDual a second path of lesser spread hides the one that carries the mean.
fn carried_by_many(mean: [f64; 3], typical: [f64; 3], draws: usize) -> Result<()> {
    let times = mean.iter().zip(typical).map(|(mean, typical)| mean / typical).fold(0.0, f64::max);
    if mean_is_seen(2.0 * times.ln(), draws) {
        return Ok(());
    }
    Err(unseen(
        Quantity::Gradient,
        format!("its mean is {times:.0e} times that of a wide network: a few rare draws carry it"),
    ))
}

/// Refuses a mean over draws that no look can show.
fn seen(quantity: Quantity, ladder: &[Vec<f64>; 3]) -> Result<()> {
    // The least that the draws allow, so that chance refuses nothing.
    let variance = |values: &Vec<f64>| {
        let logarithms = values.iter().map(|v| v.ln());
        let mean = logarithms.clone().sum::<f64>() / values.len() as f64;
        let (_, above) = chi_square_quantiles(values.len() as f64 - 1.0, GROUP_LEVEL);
        logarithms.map(|v| (v - mean).powi(2)).sum::<f64>() / above
    };
    let widest = ladder.iter().map(variance).fold(0.0, f64::max);
    if mean_is_seen(widest, MOST_DRAWS) {
        return Ok(());
    }
    let rare = (widest / 2.0).exp();
    let reason = format!(
        "its logarithm has a variance above {widest:.0} between draws: one draw in {rare:.0e} carries the mean, which the closed form is of"
    );
    Err(unseen(quantity, reason))
}

fn unseen(quantity: Quantity, reason: String) -> Error {
    Error::Refused { subject: name(quantity).into(), reason, help: "judge it in a wider network: --width".into() }
}

fn by_width(lab: &Lab, subject: &Subject, quantity: Quantity, alpha: f64) -> Result<Vec<Evidence>> {
    const BLOCK: usize = SHALLOW / 2;
    let at = |wider: usize| -> Result<(f64, Vec<f64>)> {
        let network = network(subject, shape(subject, wider, SHALLOW));
        let expected = predicted(&predict(&network.graph(lab.registry)?)?, BLOCK, quantity)?;
        Ok((expected, lab.sampled(&network, draws(lab))?.at(BLOCK, quantity)?))
    };
    let (narrow, wide) = (at(1)?, at(WIDER)?);
    let ratio = WIDER as f64;
    let exponent = (wide.0 / narrow.0).ln() / ratio.ln();
    let width = subject.shape.width;
    let figure = format!("{} behind block {}: exponent in d, d = {width}..{}", name(quantity), BLOCK, WIDER * width);
    let (pairs, accepted) = (pairs(&narrow.1, &wide.1), around(lab, exponent));
    Ok(vec![Evidence::exponent(figure, &pairs, ratio, accepted, alpha).stating(exponent)])
}

/// The exponents that count as the stated one: nearer to it than to the next class's, in the quick tier nearer than to the
/// class after next; where a law is steeper than any class, as much relative to it.
fn around(lab: &Lab, exponent: f64) -> Interval {
    let margin = match lab.tier {
        Tier::Quick => 2.0 * HALFWAY,
        Tier::Full => HALFWAY,
    };
    Interval::around(exponent, margin * exponent.abs().max(1.0))
}

/// A pair a draw.
fn pairs(a: &[f64], b: &[f64]) -> Vec<(f64, f64)> {
    a.iter().copied().zip(b.iter().copied()).collect()
}

fn name(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::SecondMoment => "second moment of x",
        Quantity::Gradient => "squared gradient at x",
        Quantity::Overlap => "1 - overlap of x",
    }
}

/// The class of a law; of its reciprocal where it falls.
struct Class {
    growth: Growth,
    falls: bool,
}

impl Class {
    /// Of y(n), y(s n), y(s^2 n), by the contrasts of [`Evidence::growth`]: constant within a factor s^(2/4), else by the
    /// increment of the second step over that of the first.
    fn of(y: [f64; 3], step: usize) -> Self {
        let s = step as f64;
        let constant = (y[2] / y[0]).ln().abs() <= HALFWAY * 2.0 * s.ln();
        let falls = y[2] < y[0] && !constant;
        let y = if falls { y.map(f64::recip) } else { y };
        let exponent = ((y[2] - y[1]) / (y[1] - y[0])).log(s);
        let logarithms = y.map(f64::ln);
        let of_logarithm = ((logarithms[2] - logarithms[1]) / (logarithms[1] - logarithms[0])).log(s);
        let growth = match () {
            () if constant => Growth::Constant,
            () if of_logarithm > 0.5 => Growth::Exponential,
            () if exponent <= 0.25 => Growth::Logarithmic,
            () if exponent <= 0.75 => Growth::SquareRoot,
            () => Growth::Linear,
        };
        Class { growth, falls }
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let word = Growth::NAMES.iter().find(|(_, known)| *known == self.growth).map_or("", |(word, _)| word);
        write!(f, "{}{word}", if self.falls { "1 / " } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_told_from_the_others() {
        for (law, class_of_it) in [
            ((|_| 1.0) as fn(f64) -> f64, "constant"),
            (|n| n.ln(), "logarithmic"),
            (|n| 1.0 + n.sqrt(), "square_root"),
            (|n| 1.0 + n, "linear"),
            (|n| (n / 16.0).exp2(), "exponential"),
            (|n| 1.0 / (1.0 + n), "1 / linear"),
            (|n| (-n / 16.0).exp2(), "1 / exponential"),
        ] {
            assert_eq!(Class::of([16.0, 32.0, 64.0].map(law), 2).to_string(), class_of_it);
            assert_eq!(Class::of([4.0, 16.0, 64.0].map(law), 4).to_string(), class_of_it);
        }
    }

    #[test]
    fn a_mean_is_refused_where_fewer_than_one_of_the_draws_carries_it() {
        let typical = [1.0, 1.0, 1.0];
        assert!(carried_by_many([63.0, 1.0, 1.0], typical, 64).is_ok());
        let refused = carried_by_many([65.0, 1.0, 1.0], typical, 64).unwrap_err().to_string();
        assert!(refused.contains("6e1 times that of a wide network"), "{refused}");
    }
}
