//! Numbers, verdicts and places as people read them, the same on the terminal and on pages.

use crate::spec::Shape;
use crate::verify::{Evidence, Finding, Interval, Verdict};

/// Four significant digits, as people read them.
pub fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        a if (1e-3..1e5).contains(&a) => {
            let decimals = (3 - a.log10().floor() as i32).clamp(0, 6) as usize;
            format!("{value:.decimals$}")
        }
        a if a.is_finite() => format!("{value:.3e}"),
        _ if value.is_nan() => "not a number".into(),
        _ if value > 0.0 => "infinite".into(),
        _ => "minus infinite".into(),
    }
}

/// `[0.97, 1.04]`; an end that is infinite is left open.
pub fn interval(interval: Interval) -> String {
    if interval.from.is_nan() || interval.to.is_nan() {
        return "not a number".into();
    }
    match (interval.from == f64::NEG_INFINITY, interval.to == f64::INFINITY) {
        (true, true) => "any value".into(),
        (true, false) => format!("at most {}", digits(interval.to)),
        (false, true) => format!("at least {}", digits(interval.from)),
        (false, false) if interval.from == interval.to => digits(interval.from),
        (false, false) => format!("[{}, {}]", digits(interval.from), digits(interval.to)),
    }
}

/// `1 claim`, `2 claims`.
pub fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub fn shape(shape: &Shape) -> String {
    format!(
        "width {}, {}, {}, {}, ffn {}{}",
        shape.width,
        count(shape.blocks, "block"),
        count(shape.tokens, "token"),
        count(shape.heads, "head"),
        shape.ffn_width,
        if shape.causal { ", causal" } else { "" },
    )
}

/// Where a finding was made: `pre-ln, width 128, ...`; empty where a claim is about nothing of the kind.
pub fn place(finding: &Finding) -> String {
    let shape = finding.shape.as_ref().map(shape);
    finding.placement.clone().into_iter().chain(shape).collect::<Vec<_>>().join(", ")
}

/// `x block 8 second_moment: stated 13.00, accepted [12.00, 14.00], found 13.10 in [13.05, 13.15]`.
pub fn evidence(evidence: &Evidence) -> String {
    let stated = evidence.stated.map_or(String::new(), |stated| format!("stated {}, ", digits(stated)));
    let (accepted, found) = (interval(evidence.accepted), digits(evidence.found));
    let within = match evidence.interval.from == evidence.interval.to {
        true => String::new(),
        false => format!(" in {}", interval(evidence.interval)),
    };
    format!("{}: {stated}accepted {accepted}, found {found}{within}", evidence.figure)
}

/// A sign beside a verdict's word, never instead of it.
pub fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Verified => "✓",
        Verdict::Refuted => "✗",
        Verdict::Undecided => "?",
        Verdict::NotApplicable => "–",
    }
}
