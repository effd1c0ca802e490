//! The fault score: which planted faults the checks of this program refute.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Planted faults with what became of them, as `cargo test --test faults` found it for these sources; that test fails where
/// it finds anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// `normative/faults/1`.
    pub schema: String,
    pub faults: Vec<Planted>,
}

/// A fault of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    pub number: u8,
    pub fault: String,
    /// The check that has to refute it.
    pub check: String,
    /// Why that check refuted it; `None` where it did not.
    pub cause: Option<String>,
}

impl Score {
    /// The score of these sources.
    ///
    /// # Errors
    /// A committed score that cannot be read, which is a defect.
    pub fn known() -> Result<Score> {
        serde_json::from_str(include_str!("../../reports/faults.json")).map_err(|error| Error::Refused {
            subject: "the fault score".into(),
            reason: error.to_string(),
            help: "this is a defect of normative; `cargo test --test faults` writes reports/faults.json".into(),
        })
    }

    pub fn refuted(&self) -> usize {
        self.faults.iter().filter(|planted| planted.cause.is_some()).count()
    }

    /// Number, fault, check and whether it was refuted: what has to be the same on every machine. Causes hold measured
    /// numbers.
    pub fn outcomes(&self) -> Vec<(u8, &str, &str, bool)> {
        self.faults.iter().map(|p| (p.number, p.fault.as_str(), p.check.as_str(), p.cause.is_some())).collect()
    }
}
