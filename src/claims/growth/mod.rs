//! Growth laws of any placement, a user's included: exponents by depth and width, against the closed form's.
//!
//! The closed form gives the law at once; the exact law (sampled, at any depth) gives the exponent with its interval. By
//! depth means over the blocks of one network, between block N/4 and N or, in the full tier, N/16 and N.
//!
//! Gradients of some placements spread far more between draws than others': a first look has few draws, and further ones as
//! many as their spread asks for.

mod class;
mod spread;

use crate::claims::experiment::Network;
use crate::claims::growth::class::Class;
use crate::claims::growth::spread::{carried_by_many, seen, unseen};
use crate::claims::subjects::{pool, replay};
use crate::claims::{About, Claim, Item, Lab, Subject, Tier, share};
use crate::error::{Error, Result};
use crate::predict::predict;
use crate::profile::{Place, Profile, Quantity};
use crate::spec::Shape;
use crate::verify::budget::split;
use crate::verify::{Evidence, Finding, Interval, MOST_DRAWS, Verdict};

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

/// How many times as wide a network is that stands for the wide limit.
const WIDE: usize = 64;

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
