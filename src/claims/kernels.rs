//! That this crate's kernels are what they say, and that candle-nn's fused norms are not: the conformance kit as claims.

use candle_core::DType;

use crate::claims::{About, Claim, Item, Lab, Tier};
use crate::error::Result;
use crate::verify::conformance::{CANDLE, Demand, Formula, KERNELS, Report, Request, Subject, corpus, examine};
use crate::verify::{Evidence, Finding, Interval, Verdict};

const EPS: f64 = 1e-5;
const CANDLE_SOURCE: &str = "candle-nn 0.11.1, src/ops.rs; candle issues 2168 and 3011";
const CANDLE_DOMAIN: &str = "f32 on the CPU, widths 0 to 4097, |mean| up to 1e5 standard deviations";
const OUR_DOMAIN: &str =
    "f64, f32, f16 and bf16 on the CPU, any layout, widths 0 to 4097, any mean, rows whose squares over- or underflow";

pub fn claims() -> Vec<Claim> {
    let ours = |id, statement, source| Claim {
        id,
        statement,
        source,
        domain: OUR_DOMAIN,
        about: About::Nothing,
        expected: Verdict::Verified,
        plan: plan_ours,
    };
    let candles = |id, statement, expected| Claim {
        id,
        statement,
        source: CANDLE_SOURCE,
        domain: CANDLE_DOMAIN,
        about: About::Nothing,
        expected,
        plan: plan_candles,
    };
    vec![
        ours(
            "kernels.layer_norm.within_bounds",
            "The kernel layer_norm and its gradients are within their rounding bounds, at every edge input.",
            "Ba, Kiros & Hinton 2016, arXiv:1607.06450, Eq. 4; bounds: src/verify/conformance/bounds.rs",
        ),
        ours(
            "kernels.rms_norm.within_bounds",
            "The kernel rms_norm and its gradients are within their rounding bounds, at every edge input.",
            "Zhang & Sennrich 2019, arXiv:1910.07467, Eq. 4; bounds: src/verify/conformance/bounds.rs",
        ),
        candles("kernels.candle_layer_norm.gradients", "candle's fused layer_norm has gradients.", Verdict::Refuted),
        candles(
            "kernels.candle_layer_norm.large_mean",
            "candle's fused layer_norm is within the bound of two passes at large means.",
            Verdict::Refuted,
        ),
        candles(
            "kernels.candle_layer_norm.width_0",
            "candle's fused layer_norm gives an empty tensor for rows of width 0.",
            Verdict::Refuted,
        ),
        candles("kernels.candle_rms_norm.gradients", "candle's fused rms_norm has gradients.", Verdict::Refuted),
        candles(
            "kernels.candle_rms_norm.large_mean",
            "candle's fused rms_norm is within its bound at large means.",
            Verdict::Verified,
        ),
        candles(
            "kernels.candle_rms_norm.width_0",
            "candle's fused rms_norm gives an empty tensor for rows of width 0.",
            Verdict::Refuted,
        ),
    ]
}

/// The kernel or candle's function that a claim is about, by the second part of its id.
fn subject(id: &str) -> Option<(&'static str, Formula)> {
    let name = id.split('.').nth(1)?;
    let (own, candle) = (format!("kernel:{name}"), name.replace("candle_", "candle:"));
    let known = KERNELS.iter().chain(&CANDLE).map(|subject| subject.name);
    let name = known.into_iter().find(|known| *known == own || *known == candle)?;
    let formula = if name.ends_with("layer_norm") { Formula::layer_norm(EPS) } else { Formula::rms_norm(EPS) };
    Some((name, formula))
}

fn report(id: &str, dtypes: &[DType]) -> Result<Option<Report>> {
    let Some((name, formula)) = subject(id) else { return Ok(None) };
    let mut probes = Vec::new();
    for dtype in dtypes {
        probes.extend(corpus(*dtype, EPS)?);
    }
    let request = Request { expected: Some(formula), eps: EPS, probes, command: format!("normative kernel {name}") };
    let of = |subject: &dyn Subject| examine(subject, &request);
    let known = KERNELS.iter().chain(&CANDLE).find(|subject| subject.name == name);
    known.map(|subject| of(subject)).transpose()
}

fn plan_ours(claim: &Claim, lab: &Lab) -> Result<Vec<Item>> {
    let id = claim.id;
    let dtypes = match lab.tier {
        Tier::Quick => vec![DType::F32, DType::BF16],
        Tier::Full => vec![DType::F64, DType::F32, DType::F16, DType::BF16],
    };
    let judge = move |_: &Lab| Ok(report(id, &dtypes)?.map(|report| whole(id, &report)).into_iter().collect());
    Ok(vec![Item { key: id.into(), judge: Box::new(judge) }])
}

fn plan_candles(claim: &Claim, _: &Lab) -> Result<Vec<Item>> {
    let id = claim.id;
    let judge = move |_: &Lab| Ok(report(id, &[DType::F32])?.map(|report| part(id, &report)).into_iter().collect());
    Ok(vec![Item { key: id.into(), judge: Box::new(judge) }])
}

/// Every check of a report that is demanded of all.
fn whole(id: &str, report: &Report) -> Finding {
    let demanded = report.checks.iter().filter(|check| check.demand == Demand::Always);
    let reason = report.refuted().find_map(|check| check.reason.clone());
    finding(id, report, demanded.filter_map(evidence).collect(), reason)
}

/// The one check that a claim is about, by the last part of its id.
fn part(id: &str, report: &Report) -> Finding {
    let check = match id.rsplit('.').next() {
        Some("gradients") => "gradients",
        Some("large_mean") => "large mean, forward",
        _ => "width 0",
    };
    let check = report.checks.iter().find(|found| found.name == check);
    finding(id, report, check.and_then(evidence).into_iter().collect(), check.and_then(|check| check.reason.clone()))
}

fn finding(id: &str, report: &Report, evidence: Vec<Evidence>, reason: Option<String>) -> Finding {
    let mut finding = Finding::of(id, evidence);
    finding.normalizer = Some(report.subject.clone());
    finding.reason = reason;
    finding.replay = format!("normative kernel {} --eps {EPS}", report.subject);
    finding
}

/// A check as a figure: its largest error over bound, or whether it failed.
fn evidence(check: &crate::verify::conformance::Check) -> Option<Evidence> {
    let dtype = check.dtype.map_or(String::new(), |dtype| format!(", {}", dtype.as_str()));
    let figure = format!("{}{dtype}{}", check.name, if check.demand == Demand::Limit { ", limit" } else { "" });
    match (check.ratio, check.verdict) {
        // A NaN is above every bound.
        (Some(ratio), _) => Some(Evidence::rounding(figure, ratio.min(f64::MAX), 1.0)),
        (None, Verdict::Verified | Verdict::Refuted) => {
            let failures = f64::from(u8::from(check.verdict == Verdict::Refuted));
            Some(Evidence::exact(format!("{figure}: failures"), failures, Interval::at_most(0.0)))
        }
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_has_its_subject() {
        for claim in claims() {
            assert!(subject(claim.id).is_some(), "{}", claim.id);
        }
    }

    #[test]
    fn what_is_expected_of_candle_is_found() {
        for claim in claims().iter().filter(|claim| claim.id.contains("candle")) {
            let found = part(claim.id, &report(claim.id, &[DType::F32]).unwrap().unwrap());
            assert_eq!(found.verdict, claim.expected, "{}: {found:?}", claim.id);
        }
    }
}
