//! That the closed form says what networks do: every figure of a placement, at the shape asked for and at generated ones.

use crate::claims::{About, Claim, Item, Lab};
use crate::error::Result;
use crate::execute::Measurement;
use crate::spec::Shape;
use crate::verify::{
    Agreement, Check, Evidence, FIRST_LEVEL, Family, Finding, Interval, Method, SECOND_LEVEL, Trial, Verdict,
    WIDEST_MARGIN, verify_together,
};

/// The claim's id.
pub const AGREES: &str = "prediction.figures.agree";

pub fn claims() -> Vec<Claim> {
    vec![Claim {
        id: AGREES,
        statement: "Second moments, overlaps and gradients of every site and parameter lie within the stated law of the closed form.",
        source: "normative, predict; Noci et al. 2022, arXiv:2206.03126; Kedia et al. 2024, arXiv:2403.09635",
        domain: "at initialization, at any shape and in any setting in which the closed form gives a figure",
        about: About::EveryPlacement,
        expected: Verdict::Verified,
        plan,
    }]
}

/// One item a shape, all placements of it on the same weights: the shape asked for, then the generated ones.
fn plan(claim: &Claim, lab: &Lab) -> Result<Vec<Item>> {
    let generated = lab.subjects.iter().map(|subject| subject.generated.len()).min().unwrap_or(0);
    let item = |index: usize| Item {
        key: format!("{} @ {}", claim.id, if index == 0 { "asked".into() } else { format!("shape {index}") }),
        judge: Box::new(move |lab: &Lab| judge(lab, index)),
    };
    Ok((0..=generated).map(item).collect())
}

fn judge(lab: &Lab, index: usize) -> Result<Vec<Finding>> {
    let seeds = if index == 0 { lab.seeds } else { lab.seeds_per_shape };
    let first_seed = lab.seed.wrapping_add(1_000_000 * index as u64);
    let trial = Trial {
        shapes: lab.subjects.iter().map(|s| if index == 0 { s.shape } else { s.generated[index - 1] }).collect(),
        settings: lab.subjects.iter().map(|s| s.setting.clone()).collect(),
        how: Measurement { seeds, first_seed, device: lab.device.clone(), dtype: lab.dtype },
    };
    let placements: Vec<_> = lab.subjects.iter().map(|s| s.placement.clone()).collect();
    let agreements = verify_together(&placements, &trial, lab.registry)?;
    Ok(lab.subjects.iter().zip(&agreements).map(|(subject, agreement)| finding(&subject.spec, agreement)).collect())
}

/// The finding of an agreement: the refuted figures, else the worst resolved figure of every family.
fn finding(spec: &str, agreement: &Agreement) -> Finding {
    let refuted = agreement.refuted.iter().map(|check| evidence(agreement, check, check.law));
    let worst = |family: Family| {
        let of = || agreement.checks.iter().filter(move |check| check.family == family);
        let resolved = of().filter(|check| check.resolved());
        let by_error = |a: &&Check, b: &&Check| {
            a.established().total_cmp(&b.established()).then(a.margin().total_cmp(&b.margin()))
        };
        let check = resolved.max_by(by_error).or_else(|| of().min_by(|a, b| a.margin().total_cmp(&b.margin())))?;
        Some(evidence(agreement, check, WIDEST_MARGIN * check.scale))
    };
    let evidence = match agreement.refuted.is_empty() {
        false => refuted.collect(),
        true => Family::ALL.into_iter().filter_map(worst).collect(),
    };
    let layout = &agreement.layout;
    let Shape { width, blocks, tokens, heads, ffn_width, causal } = layout.shape;
    Finding {
        placement: Some(spec.into()),
        normalizer: Some(layout.normalizer.clone()),
        setting: Some(layout.setting.clone()),
        shape: Some(layout.shape),
        reason: agreement.reason.clone(),
        replay: format!(
            "normative verify {spec} --claim {AGREES} --shapes 0 --width {width} --blocks {blocks} --tokens {tokens} --heads {heads} \
             --ffn-width {ffn_width} --causal={causal} --normalizer {} --seeds {} --seed {}",
            layout.normalizer, agreement.seeds.0, agreement.first_seed,
        ),
        ..Finding::of(AGREES, evidence)
    }
}

fn evidence(agreement: &Agreement, check: &Check, accepted: f64) -> Evidence {
    let layout = &agreement.layout;
    Evidence {
        figure: layout.name(check.figure),
        stated: Some(check.predicted),
        accepted: Interval::around(check.predicted, accepted),
        found: check.measured,
        interval: Interval::around(check.measured, check.reach),
        method: Method::Summary,
        alpha: FIRST_LEVEL * SECOND_LEVEL,
        beta: None,
        sample: check.seeds as u64,
        raw: vec![check.measured, check.se, check.seeds as f64, check.level, check.rounding],
    }
}
