//! What the findings of a run come to: by claim, by placement and family, against what is known.

use std::collections::HashMap;

use serde::Serialize;

use crate::claims::LOOKS;
use crate::report::curves::Curves;
use crate::report::journal::{Outcome, Records};
use crate::report::record::{Entry, Stated};
use crate::verify::{Finding, Verdict};

/// How a finding stands to what is known of its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As is known; a claim that its source has wrong and that is refuted, too.
    Expected,
    /// Not decided, where a decision is known to be possible.
    Open,
    /// Refuted, where the claim is known to hold; or held, where it is known not to.
    Unexpected,
}

/// A claim with its findings.
pub struct ClaimResult<'a> {
    pub stated: &'a Stated,
    /// Each with how it stands.
    pub findings: Vec<(&'a Finding, Standing)>,
    /// `None` where nothing was found yet.
    pub verdict: Option<Verdict>,
    pub standing: Standing,
}

/// Findings by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub verified: usize,
    pub refuted: usize,
    pub undecided: usize,
    pub not_applicable: usize,
    /// Those refuted, or held, against what is known.
    pub unexpected: usize,
    /// Those undecided against what is known.
    pub open: usize,
}

/// A placement and a family of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub counts: Counts,
    /// The verdict that a reader has to see first; `None` where nothing was judged.
    pub verdict: Option<Verdict>,
}

impl Records {
    /// All findings, in the order of the plan.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.entries().filter_map(|entry| match entry {
            Entry::Finding(finding) => Some(finding),
            Entry::Curves(_) => None,
        })
    }

    /// What is drawn, in the order of the plan.
    pub fn curves(&self) -> impl Iterator<Item = &Curves> {
        self.entries().filter_map(|entry| match entry {
            Entry::Curves(curves) => Some(curves),
            Entry::Finding(_) => None,
        })
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let outcomes = self.header.items.iter().filter_map(|key| self.outcomes.get(key));
        outcomes.flat_map(|outcome| match outcome {
            Outcome::Done(entries) => entries.as_slice(),
            Outcome::Failed(_) => &[],
        })
    }

    /// The share of the error budget that the run's verdicts spend, all looks at each figure: the probability that any
    /// interval that decides misses its truth.
    pub fn alpha(&self) -> f64 {
        let once: f64 = self.findings().flat_map(|finding| &finding.evidence).map(|evidence| evidence.alpha).sum();
        LOOKS as f64 * once
    }
}

/// The findings of a run by claim.
pub struct Summary<'a> {
    pub claims: Vec<ClaimResult<'a>>,
}

impl<'a> Summary<'a> {
    pub fn of(records: &'a Records) -> Self {
        let mut by_claim: HashMap<&str, Vec<&Finding>> = HashMap::new();
        for finding in records.findings() {
            by_claim.entry(&finding.claim).or_default().push(finding);
        }
        let claim = |stated: &'a Stated| result(stated, by_claim.remove(stated.id.as_str()).unwrap_or_default());
        Summary { claims: records.header.claims.iter().map(claim).collect() }
    }

    /// How the run stands: its worst claim.
    pub fn standing(&self) -> Standing {
        self.claims.iter().map(|claim| claim.standing).max().unwrap_or(Standing::Expected)
    }

    /// Every finding, with its claim and how it stands.
    pub fn findings(&self) -> impl Iterator<Item = (&ClaimResult<'a>, &'a Finding, Standing)> {
        self.claims
            .iter()
            .flat_map(|claim| claim.findings.iter().map(move |(finding, standing)| (claim, *finding, *standing)))
    }

    /// All findings by verdict.
    pub fn counts(&self) -> Counts {
        self.findings().fold(Counts::default(), |counts, (_, finding, standing)| counts.and(finding.verdict, standing))
    }

    /// The findings of one family on one placement; on none, those about no single placement.
    pub fn cell(&self, placement: Option<&str>, family: &str) -> Cell {
        let claims = self.claims.iter().filter(|claim| claim.family() == family);
        let findings = || claims.clone().flat_map(|claim| &claim.findings);
        let here = || findings().filter(|(finding, _)| finding.placement.as_deref() == placement);
        Cell {
            counts: here().fold(Counts::default(), |counts, (f, standing)| counts.and(f.verdict, *standing)),
            verdict: together(here().map(|(finding, _)| finding.verdict)),
        }
    }
}

impl ClaimResult<'_> {
    pub fn family(&self) -> &str {
        self.stated.id.split('.').next().unwrap_or(&self.stated.id)
    }
}

fn result<'a>(stated: &'a Stated, findings: Vec<&'a Finding>) -> ClaimResult<'a> {
    let verdict = together(findings.iter().map(|finding| finding.verdict));
    // What is known to be wrong need not be wrong everywhere: one counterexample is enough.
    let shown = stated.expected == Verdict::Refuted && verdict == Some(Verdict::Refuted);
    let standing = |finding: &Finding| if shown { Standing::Expected } else { against(stated, finding.verdict) };
    let findings: Vec<_> = findings.into_iter().map(|finding| (finding, standing(finding))).collect();
    let standing = findings.iter().map(|(_, standing)| *standing).max().unwrap_or(Standing::Expected);
    ClaimResult { stated, findings, verdict, standing }
}

impl Counts {
    pub fn and(mut self, verdict: Verdict, standing: Standing) -> Self {
        match verdict {
            Verdict::Verified => self.verified += 1,
            Verdict::Refuted => self.refuted += 1,
            Verdict::Undecided => self.undecided += 1,
            Verdict::NotApplicable => self.not_applicable += 1,
        }
        match standing {
            Standing::Expected => {}
            Standing::Open => self.open += 1,
            Standing::Unexpected => self.unexpected += 1,
        }
        self
    }

    pub fn all(&self) -> usize {
        self.verified + self.refuted + self.undecided + self.not_applicable
    }
}

/// Several verdicts as one: the worst of those that were reached.
fn together(verdicts: impl Iterator<Item = Verdict>) -> Option<Verdict> {
    // What does not apply says nothing where something else does.
    let weight = |verdict: &Verdict| match verdict {
        Verdict::NotApplicable => 0,
        Verdict::Verified => 1,
        Verdict::Undecided => 2,
        Verdict::Refuted => 3,
    };
    verdicts.max_by_key(weight)
}

/// A verdict against what is known of its claim.
fn against(stated: &Stated, verdict: Verdict) -> Standing {
    match (stated.expected, verdict) {
        (_, Verdict::NotApplicable) | (Verdict::Undecided, Verdict::Undecided) => Standing::Expected,
        (Verdict::Refuted, Verdict::Verified) => Standing::Unexpected,
        (Verdict::Refuted, Verdict::Refuted) => Standing::Expected,
        (_, Verdict::Refuted) => Standing::Unexpected,
        (_, Verdict::Undecided) => Standing::Open,
        (_, Verdict::Verified) => Standing::Expected,
    }
}
