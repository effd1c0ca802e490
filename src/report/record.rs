//! What the lines of records say.

use serde::{Deserialize, Serialize};

use crate::claims::{Claim, Lab, Tier, families};
use crate::error::Result;
use crate::report::curves::Curves;
use crate::report::environment::{Environment, sha256};
use crate::report::score::Score;
use crate::spec::Shape;
use crate::verify::{Finding, Verdict};

/// The form of `records.jsonl`, changed when an older program could misread it.
pub const SCHEMA: &str = "normative/records/1";

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first line: what is to be judged, with what.
    Header(Box<Header>),
    /// A part of an item's result.
    Result(Box<Entry>),
    /// Closes an item whose `entries` stand on the lines before.
    Done { item: String, entries: usize },
    /// An item that ended in an error; it is tried again when the run goes on.
    Failed { item: String, message: String },
    /// The last line of a run that has judged every item.
    Footer { items: usize, entries: usize },
}

/// A part of what an item comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    Finding(Finding),
    Curves(Curves),
}

/// What a run is to judge, and with what. Two runs with the same header come to the same result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub schema: String,
    pub environment: Environment,
    /// What the checks of this program are known to find.
    pub score: Score,
    /// The command that makes these records, without where it writes them.
    pub command: String,
    pub tier: Tier,
    /// The root of every seed.
    pub seed: u64,
    pub families: Vec<FamilyOfClaims>,
    pub claims: Vec<Stated>,
    pub subjects: Vec<Judged>,
    /// The keys of all items, in the order of the report.
    pub items: Vec<String>,
}

/// A family of claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyOfClaims {
    pub name: String,
    pub about: String,
}

/// A claim as its source states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    pub id: String,
    pub statement: String,
    pub source: String,
    pub domain: String,
    pub expected: Verdict,
}

/// A placement of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// As the command names it.
    pub spec: String,
    pub name: String,
    pub title: Option<String>,
    pub source: Option<String>,
    pub normalizer: String,
    pub setting: String,
    pub shape: Shape,
    /// SHA-256 of the file.
    pub text: String,
}

impl Header {
    /// The header of a run over these claims and items.
    ///
    /// # Errors
    /// Those of [`Score::known`].
    pub fn new(
        environment: Environment,
        command: String,
        lab: &Lab,
        claims: &[Claim],
        items: Vec<String>,
    ) -> Result<Self> {
        let mut present: Vec<FamilyOfClaims> = Vec::new();
        for (name, about, _) in families() {
            if claims.iter().any(|claim| claim.family() == name) {
                present.push(FamilyOfClaims { name: name.into(), about: about.into() });
            }
        }
        let stated = |claim: &Claim| Stated {
            id: claim.id.into(),
            statement: claim.statement.into(),
            source: claim.source.into(),
            domain: claim.domain.into(),
            expected: claim.expected,
        };
        let subject = |subject: &crate::claims::Subject| Judged {
            spec: subject.spec.clone(),
            name: subject.placement.name.clone(),
            title: subject.placement.title.clone(),
            source: subject.placement.source.clone(),
            normalizer: subject.setting.normalizer.clone(),
            setting: subject.setting.name.clone(),
            shape: subject.shape,
            text: sha256(subject.placement.text.content.as_bytes()),
        };
        Ok(Header {
            schema: SCHEMA.into(),
            environment,
            score: Score::known()?,
            command,
            tier: lab.tier,
            seed: lab.seed,
            families: present,
            claims: claims.iter().map(stated).collect(),
            subjects: lab.subjects.iter().map(subject).collect(),
            items,
        })
    }

    /// In what another header differs, in words; `None` where it is the same.
    pub fn difference(&self, other: &Header) -> Option<String> {
        let [ours, theirs] = [self, other].map(|header| serde_json::to_value(header).unwrap_or_default());
        let environment = |value: &serde_json::Value, key: &str| value["environment"][key].clone();
        for key in ours["environment"].as_object().into_iter().flat_map(|map| map.keys()) {
            let (a, b) = (environment(&ours, key), environment(&theirs, key));
            if a != b {
                return Some(format!("its {key} is {b}, this run's {a}"));
            }
        }
        let different = ours.as_object()?.keys().find(|key| ours[key.as_str()] != theirs[key.as_str()])?;
        Some(match different.as_str() {
            key @ ("command" | "tier" | "seed" | "schema") => {
                format!("its {key} is {}, this run's {}", theirs[key], ours[key])
            }
            "score" => "its fault score is not that of this program".into(),
            key => format!("its {key} are not those of this run"),
        })
    }
}
