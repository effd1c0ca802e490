//! The content of a report, which its JSON is and its pages show.

use serde::Serialize;
use serde_json::Value;

use crate::report::curves::Curves;
use crate::report::environment::Environment;
use crate::report::journal::{Outcome, Records};
use crate::report::record::{FamilyOfClaims, Judged, Stated};
use crate::report::score::Score;
use crate::report::summary::{ClaimResult, Counts, Standing, Summary};
use crate::verify::{Finding, Verdict};

/// The form of `report.json`; `report.schema.json` describes it.
pub const SCHEMA: &str = "normative/report/1";

/// A report.
#[derive(Serialize)]
pub struct Report<'a> {
    pub schema: &'static str,
    pub command: &'a str,
    pub tier: crate::claims::Tier,
    pub seed: u64,
    pub environment: &'a Environment,
    /// Planted faults, with the check that refutes each.
    pub score: &'a Score,
    pub counts: Counts,
    pub standing: Standing,
    /// The probability that chance refuted anything that holds, at most.
    pub alpha: f64,
    /// Items that the run was cut off before.
    pub not_run: Vec<&'a str>,
    /// Items that ended in an error.
    pub failed: Vec<Failure<'a>>,
    pub families: &'a [FamilyOfClaims],
    pub placements: Vec<Placement<'a>>,
    pub claims: Vec<Claim<'a>>,
}

/// An item that ended in an error.
#[derive(Serialize)]
pub struct Failure<'a> {
    pub item: &'a str,
    pub message: &'a str,
}

/// A placement, with what is drawn of it.
#[derive(Serialize)]
pub struct Placement<'a> {
    #[serde(flatten)]
    pub judged: &'a Judged,
    pub curves: Option<&'a Curves>,
}

/// A claim, with what was found of it.
#[derive(Serialize)]
pub struct Claim<'a> {
    #[serde(flatten)]
    pub stated: &'a Stated,
    pub family: &'a str,
    /// Absent where nothing was judged.
    pub verdict: Option<Verdict>,
    pub standing: Standing,
    pub findings: Vec<Found<'a>>,
}

/// A finding, and how it stands to what is known.
#[derive(Serialize)]
pub struct Found<'a> {
    #[serde(flatten)]
    pub finding: &'a Finding,
    pub standing: Standing,
}

impl<'a> Report<'a> {
    pub fn of(records: &'a Records, summary: &'a Summary<'a>) -> Self {
        let header = &records.header;
        let failure = |(item, outcome): (&'a String, &'a Outcome)| match outcome {
            Outcome::Failed(message) => Some(Failure { item, message }),
            Outcome::Done(_) => None,
        };
        let failed: Vec<Failure> = records.outcomes.iter().filter_map(failure).collect();
        let placement = |judged: &'a Judged| Placement {
            judged,
            curves: records.curves().find(|curves| curves.spec == judged.spec),
        };
        Report {
            schema: SCHEMA,
            command: &header.command,
            tier: header.tier,
            seed: header.seed,
            environment: &header.environment,
            score: &header.score,
            counts: summary.counts(),
            standing: summary.standing(),
            alpha: records.alpha(),
            not_run: records.missing().filter(|key| !records.outcomes.contains_key(*key)).collect(),
            failed,
            families: &header.families,
            placements: header.subjects.iter().map(placement).collect(),
            claims: summary.claims.iter().map(claim).collect(),
        }
    }
}

fn claim<'a>(result: &'a ClaimResult<'a>) -> Claim<'a> {
    let found = |(finding, standing): &(&'a Finding, Standing)| Found { finding, standing: *standing };
    Claim {
        stated: result.stated,
        family: result.family(),
        verdict: result.verdict,
        standing: result.standing,
        findings: result.findings.iter().map(found).collect(),
    }
}

/// A report as JSON, schema `normative/report/1`.
pub fn json(records: &Records) -> Value {
    let summary = Summary::of(records);
    serde_json::to_value(Report::of(records, &summary)).unwrap_or_default()
}
