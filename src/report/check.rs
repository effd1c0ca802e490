//! Computes every verdict again from the raw numbers of its record.

use crate::report::journal::Records;
use crate::report::words;
use crate::verify::{Evidence, Finding};

/// How far an end may differ from what was recorded, relative to the interval's own numbers: half of the digits of f64,
/// which is more than the elementary functions of two machines differ by, and less than any figure that is printed.
const ROUNDING: f64 = 1.0 / (1u64 << 26) as f64;

/// What checking came to.
pub struct Checked {
    pub verdicts: usize,
    pub figures: usize,
    /// One sentence each.
    pub differences: Vec<String>,
}

impl Checked {
    pub fn text(&self) -> String {
        let head = format!(
            "{} verdicts computed again from {} figures: {} differ\n",
            self.verdicts,
            self.figures,
            self.differences.len()
        );
        self.differences.iter().fold(head, |text, difference| text + difference + "\n")
    }
}

/// Every verdict of the records against what its raw numbers give.
pub fn check(records: &Records) -> Checked {
    let mut checked = Checked { verdicts: 0, figures: 0, differences: Vec::new() };
    for finding in records.findings() {
        checked.verdicts += 1;
        checked.figures += finding.evidence.len();
        let name = format!("{} {}", finding.claim, words::place(finding));
        let again: Vec<Evidence> = finding.evidence.iter().map(recomputed).collect();
        for (evidence, again) in finding.evidence.iter().zip(&again).filter(|(a, b)| !same(a, b)) {
            checked.differences.push(format!(
                "{name}: {} is recorded in {}, its raw numbers give {}",
                evidence.figure,
                words::interval(evidence.interval),
                words::interval(again.interval),
            ));
        }
        let verdict = Finding::judged(&again);
        if verdict != finding.verdict {
            checked.differences.push(format!(
                "{name}: recorded as {}, its raw numbers say {}",
                finding.verdict.word(),
                verdict.word()
            ));
        }
    }
    checked
}

fn recomputed(evidence: &Evidence) -> Evidence {
    Evidence { interval: evidence.recomputed(), ..evidence.clone() }
}

/// Whether two intervals are the same but for rounding.
fn same(a: &Evidence, b: &Evidence) -> bool {
    let (a, b) = (a.interval, b.interval);
    let near = |x: f64, y: f64| {
        let scale = a.from.abs().max(a.to.abs());
        x == y || (x.is_nan() && y.is_nan()) || (scale.is_finite() && (x - y).abs() <= ROUNDING * scale)
    };
    near(a.from, b.from) && near(a.to, b.to)
}
