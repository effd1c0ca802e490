//! The verdicts of a run for the terminal: errors, the matrix, and what differs from what is known.

use comfy_table::Cell;

use crate::claims::PREDICTION_AGREES;
use crate::cli::{Outcome, output};
use crate::report::{Counts, Records, Standing, Summary, words};
use crate::verify::{Evidence, Family, Finding, Verdict};

/// How the command ends.
pub fn outcome(records: &Records) -> Outcome {
    match Summary::of(records).standing() {
        Standing::Unexpected => Outcome::Refuted,
        Standing::Open => Outcome::Undecided,
        Standing::Expected => Outcome::Held,
    }
}

pub fn text(records: &Records) -> String {
    let summary = Summary::of(records);
    let mut text = errors(records).unwrap_or_default();
    text += &matrix(records, &summary);
    text += &totals(records, &summary.counts());
    for (claim, finding, standing) in summary.findings().filter(|(_, _, standing)| *standing != Standing::Expected) {
        text += &detail(claim.stated.expected, finding, standing);
    }
    let wrong = summary.claims.iter().filter(|c| c.stated.expected == Verdict::Refuted);
    let mut wrong = wrong.filter(|claim| claim.verdict == Some(Verdict::Refuted)).peekable();
    if wrong.peek().is_some() {
        text += "\nrefuted, as is known:\n";
        for claim in wrong {
            text += &format!("  {}: {}\n", claim.stated.id, claim.stated.statement);
        }
    }
    if !records.complete {
        text += "\nthe run did not come to its end; the same command goes on with it\n";
    }
    for key in records.missing() {
        text += &format!("\nnot run: {key}");
    }
    text
}

/// The largest established error of the prediction, by placement and kind of figure.
fn errors(records: &Records) -> Option<String> {
    let mut table = output::table(&[&["error of the prediction"][..], &Family::ALL.map(Family::word)].concat());
    let mut rows = 0;
    for subject in &records.header.subjects {
        let here = |finding: &&Finding| {
            finding.claim == PREDICTION_AGREES && finding.placement.as_deref() == Some(&subject.spec)
        };
        let evidence: Vec<&Evidence> = records.findings().filter(here).flat_map(|finding| &finding.evidence).collect();
        if evidence.is_empty() {
            continue;
        }
        let worst = Family::ALL.map(|family| {
            let of = evidence.iter().filter(|evidence| Family::named(&evidence.figure) == family);
            let worst = of.filter_map(|evidence| established(family, evidence)).max_by(f64::total_cmp);
            output::number(worst.map_or("-".into(), |error| match family {
                Family::Overlap => format!("{error:.3}"),
                _ => format!("{:.1}%", 100.0 * error),
            }))
        });
        table.add_row([Cell::new(&subject.spec)].into_iter().chain(worst));
        rows += 1;
    }
    let note =
        "largest error that is established (99.9% interval), over all sites, blocks and shapes; overlap: absolute";
    (rows > 0).then(|| format!("{table}\n{note}\n\n"))
}

/// How far the found interval lies from what is stated, relative to it; absolute for an overlap.
fn established(family: Family, evidence: &Evidence) -> Option<f64> {
    let stated = evidence.stated?;
    let scale = if family == Family::Overlap || stated == 0.0 { 1.0 } else { stated.abs() };
    Some((evidence.interval.from - stated).max(stated - evidence.interval.to).max(0.0) / scale)
}

/// Placements by families of claims.
fn matrix(records: &Records, summary: &Summary) -> String {
    let families = &records.header.families;
    let heads = [""].into_iter().chain(families.iter().map(|family| family.name.as_str()));
    let mut table = output::table(&heads.collect::<Vec<_>>());
    let specs = records.header.subjects.iter().map(|subject| Some(subject.spec.as_str()));
    for placement in specs.chain([None]) {
        let cells: Vec<_> = families.iter().map(|family| summary.cell(placement, &family.name)).collect();
        if placement.is_none() && cells.iter().all(|cell| cell.counts.all() == 0) {
            continue;
        }
        let name = Cell::new(placement.unwrap_or("no single placement"));
        table.add_row([name].into_iter().chain(cells.iter().map(|cell| output::number(in_words(&cell.counts)))));
    }
    format!("{table}\n")
}

/// `20 verified, 1 refuted !`; the mark stands where a verdict differs from what is known.
fn in_words(counts: &Counts) -> String {
    let mark = |n: usize| if n > 0 { " !" } else { "" };
    let words: Vec<String> = [
        (counts.verified, "verified", ""),
        (counts.refuted, "refuted", mark(counts.unexpected)),
        (counts.undecided, "undecided", mark(counts.open)),
        (counts.not_applicable, "not applicable", ""),
    ]
    .into_iter()
    .filter(|(n, _, _)| *n > 0)
    .map(|(n, word, mark)| format!("{n} {word}{mark}"))
    .collect();
    if words.is_empty() { "-".into() } else { words.join(", ") }
}

fn totals(records: &Records, counts: &Counts) -> String {
    format!(
        "{}, {}: {} verified, {} refuted, {} undecided, {} not applicable; {} against what is known, {} \
         undecided against it\nprobability that chance refuted anything that holds: at most {:.1e}\n",
        words::count(records.header.claims.len(), "claim"),
        words::count(counts.all(), "verdict"),
        counts.verified,
        counts.refuted,
        counts.undecided,
        counts.not_applicable,
        counts.unexpected,
        counts.open,
        records.alpha(),
    )
}

/// A finding that differs from what is known, with the command that replays it.
fn detail(expected: Verdict, finding: &Finding, standing: Standing) -> String {
    let place = words::place(finding);
    let place = if place.is_empty() { place } else { format!(" on {place}") };
    let known = match standing {
        Standing::Unexpected => format!(", expected {}", expected.word()),
        _ => String::new(),
    };
    let mut text = format!("\n{}{place}: {}{known}", finding.claim, finding.verdict.word());
    if let Some(reason) = &finding.reason {
        text += &format!(" ({reason})");
    }
    text.push('\n');
    for evidence in finding.evidence.iter().filter(|evidence| evidence.verdict() == finding.verdict).take(3) {
        text += &format!("  {}\n", words::evidence(evidence));
    }
    text + &format!("  replay: {}\n", finding.replay)
}
