//! The examination: ask, identify, judge.

use std::collections::BTreeMap;

use candle_core::DType;

use super::bounds::Roundoff;
use super::edges;
use super::formula::{Bias, Centre, Factor, Formula};
use super::guard::ask;
use super::identify::{Identified, Seen, identify};
use super::judge::{Back, Standard, Worst};
use super::probe::{Gradients, Group, Probe, Subject, numbers};
use super::report::{AtWidth, Check, Demand, Report, differences};
use super::shrink::{Pass, counterexample};
use crate::error::Result;
use crate::kernels::Cast;
use crate::verify::Verdict;

/// What a subject is examined for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it claims to compute; without it the convention found is what it is held against.
    pub expected: Option<Formula>,
    pub eps: f64,
    pub probes: Vec<Probe>,
    /// The command that repeats the examination, for counterexamples to add a row to.
    pub command: String,
}

/// An answer: numbers, or why there are none. Absent where the subject has none to give.
type Answered = Option<std::result::Result<Vec<f64>, String>>;

/// What was asked, and what was answered.
type Asked<'a> = (&'a Probe, Option<&'a std::result::Result<Vec<f64>, String>>);

/// Examines a subject.
///
/// # Errors
/// A probe that cannot be made; what a subject does wrong is part of the report.
pub fn examine(subject: &dyn Subject, request: &Request) -> Result<Report> {
    let mut report = Report {
        subject: subject.name(),
        expected: request.expected,
        identified: None,
        casts: Vec::new(),
        checks: Vec::new(),
        widths: Vec::new(),
    };
    let mut asked = Vec::new();
    for probe in &request.probes {
        let call = probe.call()?;
        let answer = ask(|| subject.forward(&call)).transpose();
        let answer: Answered = answer.map(|y| y.and_then(|y| of_size(&y, probe.x.len(), "y")));
        asked.push((probe, answer));
    }
    let dtypes: Vec<DType> = [DType::F64, DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .filter(|d| asked.iter().any(|(p, _)| p.dtype == *d))
        .collect();
    let mut supported = Vec::new();
    for dtype in dtypes {
        let of = || asked.iter().filter(|(p, answer)| p.dtype == dtype && answer.is_some());
        match of().find_map(|(_, answer)| answer.as_ref()?.as_ref().err()) {
            // What it refuses for every row, it refuses for the type.
            Some(reason) if of().all(|(_, answer)| matches!(answer, Some(Err(_)))) => {
                report.checks.push(Check {
                    verdict: Verdict::NotApplicable,
                    reason: Some(reason.clone()),
                    ..check("type", Some(dtype), Demand::Limit)
                });
            }
            _ => supported.push(dtype),
        }
    }
    let Some(&widest) = supported.first() else {
        report.checks.push(Check {
            verdict: Verdict::Refuted,
            reason: Some("no type is answered".into()),
            ..check("type", None, Demand::Always)
        });
        return Ok(report);
    };
    report.identified = convention(&asked, widest, request.eps);
    let convention = conventions(&report, widest);
    report.checks.extend(convention);
    let formula = report.found().or(request.expected);
    for &dtype in &supported {
        let of: Vec<_> = asked.iter().filter(|(p, _)| p.dtype == dtype).map(|(p, a)| (*p, a.as_ref())).collect();
        let standard = formula.map(|formula| Standard { formula, cast: cast(formula, dtype, &of) });
        if let Some(standard) = standard
            && matches!(dtype, DType::BF16 | DType::F16)
        {
            report.casts.push((dtype, standard.cast));
        }
        examine_type(subject, request, dtype, &of, standard, &mut report)?;
        if subject.is_live() {
            report.checks.push(edges::views(subject, request.eps, dtype, standard.as_ref())?);
        }
    }
    if subject.is_live() {
        report.checks.extend(edges::empty(subject, request.eps, widest));
    }
    Ok(report)
}

/// A check that nothing speaks against yet.
pub fn check(name: impl Into<String>, dtype: Option<DType>, demand: Demand) -> Check {
    Check {
        name: name.into(),
        dtype,
        demand,
        verdict: Verdict::Verified,
        ratio: None,
        reason: None,
        counterexample: None,
    }
}

fn of_size(tensor: &candle_core::Tensor, size: usize, what: &str) -> std::result::Result<Vec<f64>, String> {
    match numbers(tensor) {
        Ok(values) if values.len() == size => Ok(values),
        Ok(values) => Err(format!("{what} has {} elements, not {size}", values.len())),
        Err(error) => Err(error.to_string()),
    }
}

fn convention(asked: &[(&Probe, Answered)], dtype: DType, eps: f64) -> Option<Identified> {
    let answered = |group: Option<Group>| -> Vec<Seen> {
        let of = asked.iter().filter(|(p, _)| p.dtype == dtype && group.is_none_or(|g| p.group == g));
        of.filter_map(|(probe, answer)| {
            let y = answer.as_ref()?.as_ref().ok()?.clone();
            Some(Seen { probe, roundoff: Roundoff::any_order(dtype, probe.width)?, y })
        })
        .collect()
    };
    let mut seen = answered(Some(Group::Convention));
    if seen.is_empty() {
        // A user's own rows tell what they tell.
        seen = answered(Some(Group::Recorded));
    }
    (!seen.is_empty()).then(|| identify(&seen, eps))
}

/// The convention found against the expected one.
fn conventions(report: &Report, dtype: DType) -> Option<Check> {
    let identified = report.identified.as_ref()?;
    let plain = check("convention", Some(dtype), Demand::Always);
    let Some(found) = report.found() else {
        let nearest = identified.nearest.map(|(formula, within, of)| {
            format!("no convention known here explains the outputs; the nearest explains {within} of {of}: {formula}")
        });
        let verdict = if report.expected.is_some() { Verdict::Refuted } else { Verdict::Undecided };
        return Some(Check { verdict, reason: nearest, ..plain });
    };
    let Some(expected) = report.expected else { return Some(plain) };
    let departs = differences(&expected, &found);
    if departs.is_empty() {
        return Some(plain);
    }
    let words = departs.iter().map(|part| format!("{}, not {}", part.words(&found), part.words(&expected)));
    let reason = Some(words.collect::<Vec<_>>().join("; "));
    Some(Check { verdict: Verdict::Refuted, reason, ..plain })
}

/// Where an implementation rounds to half precision: after the gain where its outputs keep the narrower bound.
fn cast(formula: Formula, dtype: DType, of: &[Asked<'_>]) -> Cast {
    let keeps = |cast: Cast| {
        let standard = Standard { formula, cast };
        of.iter().filter(|(p, _)| matches!(p.group, Group::Plain | Group::Recorded)).all(|(probe, answer)| {
            let (Some(Ok(y)), Some(roundoff)) = (answer, Roundoff::any_order(dtype, probe.width)) else { return true };
            standard.forward(&roundoff, probe, y).ratio <= 1.0
        })
    };
    match keeps(Cast::AfterGain) || !keeps(Cast::BeforeGain) {
        true => Cast::AfterGain,
        false => Cast::BeforeGain,
    }
}

/// Every check of one type.
fn examine_type(
    subject: &dyn Subject,
    request: &Request,
    dtype: DType,
    asked: &[Asked<'_>],
    standard: Option<Standard>,
    report: &mut Report,
) -> Result<()> {
    let mut backs = Vec::new();
    for (probe, _) in asked {
        let call = probe.call()?;
        backs.push(ask(|| subject.backward(&call)).transpose());
    }
    let missing = gradients(standard.map(|s| s.formula), dtype, &backs);
    let has_gradients = missing.as_ref().is_some_and(|check| check.verdict == Verdict::Verified);
    report.checks.extend(missing);
    let mut widths: BTreeMap<(&'static str, usize), f64> = BTreeMap::new();
    let mut failing = Vec::new();
    for group in Group::ALL.into_iter().filter(|g| *g != Group::Poisoned) {
        let of = || asked.iter().zip(&backs).filter(|((p, _), _)| p.group == group);
        if of().next().is_none() || (group == Group::Convention && standard.is_none()) {
            continue;
        }
        for pass in [Pass::Forward, Pass::Backward] {
            if pass == Pass::Backward && !(has_gradients && standard.is_none_or(|s| s.formula.is_radial())) {
                continue;
            }
            let mut worst = Worst::default();
            let mut failed: Option<(&Probe, Worst)> = None;
            let mut silent = None;
            for ((probe, y), back) in of() {
                let Some(roundoff) = Roundoff::any_order(dtype, probe.width) else { continue };
                let judged = match (pass, y, back) {
                    (_, Some(Err(reason)), _) | (Pass::Backward, _, Some(Err(reason))) => Err(reason.clone()),
                    (Pass::Forward, Some(Ok(y)), _) => Ok(standard.map(|s| s.forward(&roundoff, probe, y))),
                    (Pass::Backward, _, Some(Ok(back))) => {
                        let back = numbers_of(back, probe);
                        back.map(|back| standard.map(|s| s.backward(&roundoff, probe, &back)))
                    }
                    _ => continue,
                };
                match judged {
                    Err(reason) => silent = silent.or(Some(format!("width {}: {reason}", probe.width))),
                    Ok(None) => {}
                    Ok(Some(seen)) => {
                        if seen.judged > 0 && !matches!(group, Group::Tiny | Group::Huge) {
                            let kept = widths.entry((pass.word(), probe.width)).or_default();
                            *kept = kept.max(seen.ratio);
                        }
                        if seen.excess.is_some() && failed.as_ref().is_none_or(|(p, _)| probe.width < p.width) {
                            failed = Some((probe, seen.clone()));
                        }
                        worst = worst.or(seen);
                    }
                }
            }
            let demand = if matches!(group, Group::Tiny | Group::Huge) { Demand::Limit } else { Demand::Always };
            let mut check = check(format!("{}, {}", group.word(), pass.word()), Some(dtype), demand);
            match (standard, silent, failed) {
                (_, Some(reason), _) => {
                    check.verdict = Verdict::Refuted;
                    check.reason = Some(reason);
                }
                (None, ..) => {
                    check.verdict = Verdict::NotApplicable;
                    check.reason = Some("no convention found to judge by".into());
                }
                (Some(standard), None, Some((probe, seen))) => {
                    check.verdict = Verdict::Refuted;
                    check.ratio = Some(worst.ratio);
                    check.counterexample = counterexample(subject, &standard, pass, probe, &seen, request);
                    check.reason = Some(why(group, &standard, worst.ratio, failing.contains(&pass)));
                    failing.extend((group == Group::Plain).then_some(pass));
                }
                (Some(_), None, None) => {
                    check.ratio = Some(worst.ratio);
                    if worst.judged == 0 {
                        check.verdict = Verdict::NotApplicable;
                        check.reason = Some("no rounding bound is finite here".into());
                    }
                }
            }
            report.checks.push(check);
        }
    }
    report.checks.extend(edges::isolation(dtype, asked, &backs));
    let at = |((pass, width), ratio)| AtWidth { pass, dtype, width, ratio };
    report.widths.extend(widths.into_iter().map(at));
    Ok(())
}

/// What a failure says; at large means it is cancellation only where plain rows do not fail.
fn why(group: Group, standard: &Standard, ratio: f64, plain_fails: bool) -> String {
    let error = if ratio.is_finite() { format!("error {ratio:.3e} times its bound") } else { "not a number".into() };
    match group {
        Group::LargeMean if standard.formula.centre == Centre::First && !plain_fails => {
            format!("{error}: the spread is lost beside the mean (E x^2 - (E x)^2, or too narrow a type)")
        }
        Group::Tiny => format!("{error}: squares underflow"),
        Group::Huge => format!("{error}: squares overflow"),
        _ => error,
    }
}

/// A backward pass as numbers.
pub fn numbers_of(back: &Gradients, probe: &Probe) -> std::result::Result<Back, String> {
    let get = |t: &Option<candle_core::Tensor>, size: usize, what: &str| {
        t.as_ref().map(|t| of_size(t, size, what)).transpose()
    };
    Ok(Back {
        dx: get(&back.input, probe.x.len(), "dx")?.ok_or("dx is absent")?,
        dgain: get(&back.gain, probe.width, "dgain")?,
        dbias: get(&back.bias, probe.width, "dbias")?,
    })
}

/// Whether there is a gradient of everything that the output depends on; `None` where no backward pass was recorded.
fn gradients(
    formula: Option<Formula>,
    dtype: DType,
    backs: &[Option<std::result::Result<Gradients, String>>],
) -> Option<Check> {
    let plain = check("gradients", Some(dtype), Demand::Always);
    let mut answers = backs.iter().flatten().peekable();
    answers.peek()?;
    let first = answers.find_map(|answer| answer.as_ref().ok());
    let Some(first) = first else {
        let reason = backs.iter().flatten().find_map(|answer| answer.as_ref().err().cloned());
        return Some(Check { verdict: Verdict::Refuted, reason, ..plain });
    };
    let gain = formula.is_some_and(|f| f.factor != Factor::None);
    let bias = formula.is_some_and(|f| f.bias != Bias::None);
    let absent = [("x", true, &first.input), ("the gain", gain, &first.gain), ("the bias", bias, &first.bias)];
    let absent: Vec<&str> = absent.iter().filter(|(_, wanted, g)| *wanted && g.is_none()).map(|(n, ..)| *n).collect();
    if absent.is_empty() {
        return Some(plain);
    }
    let reason =
        format!("no gradient of {}: what lies before it does not train, and no error says so", absent.join(", "));
    Some(Check { verdict: Verdict::Refuted, reason: Some(reason), ..plain })
}
