//! A report's content as its templates print it: every number in words, every list in its order.

use serde::Serialize;

use crate::error::Result;
use crate::report::curves::Curves;
use crate::report::journal::{Outcome, Records};
use crate::report::limits::Limit;
use crate::report::plot;
use crate::report::record::Header;
use crate::report::summary::{Cell, ClaimResult, Counts, Standing, Summary};
use crate::report::words;
use crate::verify::{Evidence, Finding, Verdict};

/// What the templates see.
#[derive(Serialize)]
pub struct Sheet<'a> {
    pub header: &'a Header,
    pub built_from: String,
    /// `90 of 90`.
    pub faults_refuted: String,
    pub counts: Counts,
    pub verdicts: usize,
    pub standing: Standing,
    pub alpha: String,
    /// Each placement by family, then what is about no single placement.
    pub matrix: Vec<Row>,
    pub suites: Vec<Suite<'a>>,
    pub claims: Vec<Claim<'a>>,
    /// Findings against what is known, refuted or held first.
    pub surprises: Vec<Found>,
    pub not_run: Vec<&'a str>,
    pub failed: Vec<(&'a str, &'a str)>,
}

/// A row of the matrix.
#[derive(Serialize)]
pub struct Row {
    pub placement: Option<String>,
    pub cells: Vec<Square>,
}

/// A placement and a family.
#[derive(Serialize)]
pub struct Square {
    pub family: String,
    pub mark: &'static str,
    pub word: &'static str,
    /// `20 of 21 verified`.
    pub text: String,
    pub standing: Standing,
}

/// A family with how many findings it has.
#[derive(Serialize)]
pub struct Suite<'a> {
    pub name: &'a str,
    pub about: &'a str,
    pub tests: usize,
    pub failures: usize,
    pub skipped: usize,
}

/// A claim with what was found of it.
#[derive(Serialize)]
pub struct Claim<'a> {
    pub id: &'a str,
    pub family: String,
    pub statement: &'a str,
    pub source: &'a str,
    pub domain: &'a str,
    pub expected: &'static str,
    pub word: &'static str,
    pub standing: Standing,
    pub counts: Counts,
    pub found: Vec<Found>,
    /// The finding that shows it best: against what is known, else refuted, else the first.
    pub best: Option<usize>,
}

/// A placement with what is drawn of it.
#[derive(Serialize)]
pub struct Placement<'a> {
    pub anchor: String,
    pub spec: &'a str,
    pub title: &'a str,
    pub source: Option<&'a str>,
    pub shape: String,
    pub normalizer: &'a str,
    pub setting: &'a str,
    pub curves: Option<&'a Curves>,
    pub pictures: Vec<Picture>,
    pub limits: Vec<String>,
    pub verdicts: usize,
    pub lines: Vec<Line<'a>>,
}

/// The findings of one verdict on one claim and placement.
#[derive(Serialize)]
pub struct Line<'a> {
    pub claim: &'a str,
    pub statement: &'a str,
    pub word: &'static str,
    pub verdict: Verdict,
    pub standing: Standing,
    pub times: usize,
    /// Of the first of them.
    pub reason: Option<String>,
}

/// A picture, its name, and what it shows in a sentence.
#[derive(Serialize)]
pub struct Picture {
    pub name: String,
    pub words: String,
    pub svg: String,
}

/// A finding.
#[derive(Clone, Serialize)]
pub struct Found {
    pub claim: String,
    pub placement: Option<String>,
    pub place: String,
    pub mark: &'static str,
    pub word: &'static str,
    pub verdict: Verdict,
    pub standing: Standing,
    pub reason: Option<String>,
    pub evidence: Vec<Figure>,
    pub replay: String,
}

/// A figure of a verdict.
#[derive(Clone, Serialize)]
pub struct Figure {
    pub figure: String,
    pub stated: Option<String>,
    pub accepted: String,
    pub found: String,
    pub interval: String,
    pub decisive: bool,
    pub alpha: Option<String>,
    pub sample: u64,
    pub line: String,
}

impl<'a> Sheet<'a> {
    pub fn of(records: &'a Records, summary: &'a Summary<'a>) -> Self {
        let header = &records.header;
        let counts = summary.counts();
        let specs = header.subjects.iter().map(|subject| Some(subject.spec.as_str()));
        let row = |placement: Option<&str>| Row {
            placement: placement.map(str::to_owned),
            cells: header.families.iter().map(|f| square(&f.name, &summary.cell(placement, &f.name))).collect(),
        };
        let matrix = specs
            .chain([None])
            .map(row)
            .filter(|row| row.placement.is_some() || row.cells.iter().any(|cell| !cell.text.is_empty()));
        let suite = |family: &'a crate::report::FamilyOfClaims| {
            let claims = summary.claims.iter().filter(|claim| claim.family() == family.name);
            let findings: Vec<&(&Finding, Standing)> = claims.flat_map(|claim| &claim.findings).collect();
            let count = |of: &dyn Fn(Verdict, Standing) -> bool| {
                findings.iter().filter(|(finding, standing)| of(finding.verdict, *standing)).count()
            };
            Suite {
                name: &family.name,
                about: &family.about,
                tests: findings.len(),
                failures: count(&|_, standing| standing != Standing::Expected),
                skipped: count(&|verdict, standing| standing == Standing::Expected && is_skipped(verdict)),
            }
        };
        let surprising = |wanted: Standing| {
            summary
                .findings()
                .filter(move |(_, _, standing)| *standing == wanted)
                .map(|(_, finding, s)| found(finding, s))
        };
        let failed = |(item, outcome): (&'a String, &'a Outcome)| match outcome {
            Outcome::Failed(message) => Some((item.as_str(), message.as_str())),
            Outcome::Done(_) => None,
        };
        Sheet {
            header,
            built_from: header.environment.built_from(),
            faults_refuted: format!("{} of {}", header.score.refuted(), header.score.faults.len()),
            counts,
            verdicts: counts.all(),
            standing: summary.standing(),
            alpha: format!("{:.1e}", records.alpha()),
            matrix: matrix.collect(),
            suites: header.families.iter().map(suite).collect(),
            claims: summary.claims.iter().map(claim).collect(),
            surprises: surprising(Standing::Unexpected).chain(surprising(Standing::Open)).collect(),
            not_run: records.missing().filter(|key| !records.outcomes.contains_key(*key)).collect(),
            failed: records.outcomes.iter().filter_map(failed).collect(),
        }
    }
}

/// The placements of a run with their pictures, for the page.
///
/// # Errors
/// A picture that cannot be drawn, which is a defect.
pub fn placements<'a>(records: &'a Records, sheet: &Sheet<'a>) -> Result<Vec<Placement<'a>>> {
    let one = |(index, judged): (usize, &'a crate::report::Judged)| {
        let curves = records.curves().find(|curves| curves.spec == judged.spec);
        let pictures = curves.map(plot::pictures).transpose()?.unwrap_or_default();
        let lines: Vec<Line> = sheet.claims.iter().flat_map(|claim| lines(claim, &judged.spec)).collect();
        Ok(Placement {
            anchor: format!("placement-{}", index + 1),
            spec: &judged.spec,
            title: judged.title.as_deref().unwrap_or(&judged.name),
            source: judged.source.as_deref(),
            shape: words::shape(&judged.shape),
            normalizer: &judged.normalizer,
            setting: &judged.setting,
            curves,
            pictures: pictures.into_iter().map(|p| Picture { name: p.name, words: p.words, svg: p.svg }).collect(),
            limits: curves.map_or_else(Vec::new, |curves| curves.limits.iter().map(limit).collect()),
            verdicts: lines.iter().map(|line| line.times).sum(),
            lines,
        })
    };
    records.header.subjects.iter().enumerate().map(one).collect()
}

/// What was found of a claim on a placement, what a reader has to see first before the rest.
fn lines<'a>(claim: &Claim<'a>, spec: &str) -> Vec<Line<'a>> {
    let mut lines: Vec<Line> = Vec::new();
    for found in claim.found.iter().filter(|found| found.placement.as_deref() == Some(spec)) {
        match lines.iter_mut().find(|line| (line.verdict, line.standing) == (found.verdict, found.standing)) {
            Some(line) => line.times += 1,
            None => lines.push(Line {
                claim: claim.id,
                statement: claim.statement,
                word: found.word,
                verdict: found.verdict,
                standing: found.standing,
                times: 1,
                reason: found.reason.clone(),
            }),
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.standing));
    lines
}

/// `f16: values overflow from 31 blocks, gradients fit at 512`.
fn limit(limit: &Limit) -> String {
    let of = |what: &str, breaks: &str, blocks: Option<usize>| match blocks {
        Some(blocks) => format!("{what} {breaks} from {blocks} blocks"),
        None => format!("{what} fit up to {} blocks", limit.up_to),
    };
    format!(
        "{}: {}; {}",
        limit.format,
        of("values", "overflow", limit.values),
        of("gradients", "span more than its range", limit.gradients)
    )
}

/// Whether CI systems show a finding as skipped, where it is as expected.
fn is_skipped(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::NotApplicable | Verdict::Undecided)
}

fn square(family: &str, cell: &Cell) -> Square {
    let counts = &cell.counts;
    let of = match cell.verdict {
        Some(Verdict::Verified) => counts.verified,
        Some(Verdict::Refuted) => counts.refuted,
        Some(Verdict::Undecided) => counts.undecided,
        Some(Verdict::NotApplicable) => counts.not_applicable,
        None => 0,
    };
    let judged = counts.all() - if of == counts.not_applicable { 0 } else { counts.not_applicable };
    Square {
        family: family.into(),
        mark: cell.verdict.map_or("", words::mark),
        word: cell.verdict.map_or("not asked", Verdict::word),
        text: if judged == 0 { String::new() } else { format!("{of} of {judged}") },
        standing: match (counts.unexpected, counts.open) {
            (0, 0) => Standing::Expected,
            (0, _) => Standing::Open,
            _ => Standing::Unexpected,
        },
    }
}

fn claim<'a>(result: &'a ClaimResult<'a>) -> Claim<'a> {
    let stated = result.stated;
    let all: Vec<Found> = result.findings.iter().map(|(finding, standing)| found(finding, *standing)).collect();
    let weight = |found: &Found| (found.standing, Some(found.verdict) == result.verdict);
    let best = (0..all.len()).rev().max_by_key(|i| weight(&all[*i]));
    let mut counts = Counts::default();
    for (finding, standing) in &result.findings {
        counts = counts.and(finding.verdict, *standing);
    }
    Claim {
        id: &stated.id,
        family: result.family().into(),
        statement: &stated.statement,
        source: &stated.source,
        domain: &stated.domain,
        expected: stated.expected.word(),
        word: result.verdict.map_or("not run", Verdict::word),
        standing: result.standing,
        counts,
        found: all,
        best,
    }
}

fn found(finding: &Finding, standing: Standing) -> Found {
    Found {
        claim: finding.claim.clone(),
        placement: finding.placement.clone(),
        place: words::place(finding),
        mark: words::mark(finding.verdict),
        word: finding.verdict.word(),
        verdict: finding.verdict,
        standing,
        reason: finding.reason.clone(),
        evidence: finding.evidence.iter().map(|evidence| figure(evidence, finding.verdict)).collect(),
        replay: finding.replay.clone(),
    }
}

fn figure(evidence: &Evidence, verdict: Verdict) -> Figure {
    Figure {
        figure: evidence.figure.clone(),
        stated: evidence.stated.map(words::digits),
        accepted: words::interval(evidence.accepted),
        found: words::digits(evidence.found),
        interval: words::interval(evidence.interval),
        decisive: evidence.verdict() == verdict,
        alpha: (evidence.alpha > 0.0).then(|| format!("{:.0e}", evidence.alpha)),
        sample: evidence.sample,
        line: words::evidence(evidence),
    }
}
