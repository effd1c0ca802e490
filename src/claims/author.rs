//! What a placement's author promises under `[expect]`, judged at the shape and in the setting of the run.

use candle_core::{D, DType};

use crate::claims::experiment::Network;
use crate::claims::figures::{around, judged, run_seeds, within};
use crate::claims::subjects::{pool, replay};
use crate::claims::{About, Claim, Item, Lab, Subject, Tier, share};
use crate::error::Result;
use crate::profile::Quantity;
use crate::spec::{Expect, Shape};
use crate::verify::budget::split;
use crate::verify::{Evidence, Finding, Interval, Verdict};

/// One kind of promise.
struct Promise {
    id: &'static str,
    statement: &'static str,
    /// Whether a placement makes it.
    made: fn(&Expect) -> bool,
    judge: fn(&Lab, &Subject, f64) -> Result<Vec<Evidence>>,
}

const PROMISES: [Promise; 4] = [
    Promise {
        id: "author.second_moment.growth",
        statement: "The second moment of x grows over the blocks in the class that the author promises.",
        made: |expect| expect.growth.is_some(),
        judge: growth,
    },
    Promise {
        id: "author.gradient.ratio",
        statement: "The gradient before block 1 over that behind the last block lies where the author promises.",
        made: |expect| expect.gradient_ratio.is_some(),
        judge: gradient_ratio,
    },
    Promise {
        id: "author.overlap.bounded",
        statement: "The overlap of the output is no larger than the author promises.",
        made: |expect| expect.overlap.is_some(),
        judge: overlap,
    },
    Promise {
        id: "author.stable.no_overflow",
        statement: "Up to the promised number of blocks no value at any site overflows in f16.",
        made: |expect| expect.stable_blocks.is_some(),
        judge: stable,
    },
];

pub fn claims() -> Vec<Claim> {
    let claim = |promise: &Promise| Claim {
        id: promise.id,
        statement: promise.statement,
        source: "the placement's file, [expect]",
        domain: "the setting, width and tokens of the run, at initialization",
        about: About::EveryPlacement,
        expected: Verdict::Verified,
        plan,
    };
    PROMISES.iter().map(claim).collect()
}

/// One item for each placement that makes the promise.
fn plan(claim: &Claim, lab: &Lab) -> Result<Vec<Item>> {
    let known = PROMISES.iter().find(|promise| promise.id == claim.id);
    let promise = known.expect("claims() makes a claim of each promise under its own id");
    let made = |(_, subject): &(usize, &Subject)| (promise.made)(&subject.placement.expect);
    let item = |(index, subject): (usize, &Subject)| Item {
        key: format!("{} @ {}", claim.id, subject.spec),
        judge: Box::new(move |lab| Ok(vec![finding(lab, promise, &lab.subjects[index])?])),
    };
    Ok(lab.subjects.iter().enumerate().filter(made).map(item).collect())
}

fn finding(lab: &Lab, promise: &Promise, subject: &Subject) -> Result<Finding> {
    let alpha = split(share(promise.id, pool(subject)), lab.subjects.len());
    Ok(Finding {
        placement: Some(subject.spec.clone()),
        normalizer: Some(subject.setting.normalizer.clone()),
        setting: Some(subject.setting.name.clone()),
        shape: Some(subject.shape),
        replay: replay(lab, &[&subject.spec], promise.id),
        ..Finding::of(promise.id, (promise.judge)(lab, subject, alpha)?)
    })
}

/// Draws of the exact law: a class of growth is in differences of second moments, which vary as these do.
fn draws(lab: &Lab) -> usize {
    lab.draws(256, 1024)
}

fn network(subject: &Subject, blocks: usize) -> Network {
    let shape = Shape { blocks, ..subject.shape };
    Network { placement: subject.placement.clone(), setting: subject.setting.clone(), shape }
}

fn growth(lab: &Lab, subject: &Subject, alpha: f64) -> Result<Vec<Evidence>> {
    let deepest = match lab.tier {
        Tier::Quick => 64,
        Tier::Full => 256,
    };
    let curves = lab.sampled(&network(subject, deepest), draws(lab))?;
    let at = |l| curves.at(l, Quantity::SecondMoment);
    let ladder = [at(deepest / 4)?, at(deepest / 2)?, at(deepest)?];
    let ladders: Vec<[f64; 3]> = (0..ladder[0].len()).map(|i| [ladder[0][i], ladder[1][i], ladder[2][i]]).collect();
    let Some(class) = subject.placement.expect.growth else { return Ok(Vec::new()) };
    Ok(Evidence::growth(
        format!("second moment behind blocks {}, {}, {deepest}", deepest / 4, deepest / 2),
        &ladders,
        2,
        class,
        alpha,
    ))
}

fn gradient_ratio(lab: &Lab, subject: &Subject, alpha: f64) -> Result<Vec<Evidence>> {
    let Some(promised) = subject.placement.expect.gradient_ratio else { return Ok(Vec::new()) };
    let curves = lab.sampled(&network(subject, promised.blocks), draws(lab) / 2)?;
    let (first, last) = (curves.at(0, Quantity::Gradient)?, curves.at(promised.blocks, Quantity::Gradient)?);
    let ratio = first.iter().zip(last).map(|(f, l)| (f / l).ln()).collect();
    let figure = format!("ln of the gradient before block 1 over that behind block {}", promised.blocks);
    Ok(judged(alpha, vec![around(figure, ratio, promised.first_over_last.ln(), promised.factor.ln())]))
}

fn overlap(lab: &Lab, subject: &Subject, alpha: f64) -> Result<Vec<Evidence>> {
    let Some(promised) = subject.placement.expect.overlap else { return Ok(Vec::new()) };
    let found = lab.sampled(&network(subject, subject.shape.blocks), draws(lab) / 2)?.output(Quantity::Overlap)?;
    Ok(judged(alpha, vec![within("overlap of the output", found, Interval::at_most(promised))]))
}

/// The largest absolute entry of any site, in networks of that many blocks.
fn stable(lab: &Lab, subject: &Subject, alpha: f64) -> Result<Vec<Evidence>> {
    let Some(blocks) = subject.placement.expect.stable_blocks else { return Ok(Vec::new()) };
    let largest = run_seeds(lab, &network(subject, blocks), lab.draws(16, 16), |_, run| {
        let of =
            |t: &candle_core::Tensor| t.abs()?.flatten_all()?.max(D::Minus1)?.to_dtype(DType::F64)?.to_scalar::<f64>();
        let all = run.sites.iter().map(of).collect::<candle_core::Result<Vec<f64>>>()?;
        // What is past every number is as large as the largest, so that its mean is one.
        Ok(all.into_iter().fold(0.0, |m: f64, v| if v.is_nan() { f64::MAX } else { m.max(v) }).min(f64::MAX).ln())
    })?;
    let limit = half::f16::MAX.to_f64().ln();
    let figure = format!("ln of the largest entry at any site, {blocks} blocks");
    Ok(judged(alpha, vec![within(figure, largest, Interval::at_most(limit))]))
}
