//! The catalogue of planted faults: each is refuted by the check named for it, with the cause, while the same check passes
//! the subject without the fault on the same seeds.
//!
//! Faults are data of this target (altered equations, altered parameters, wrapped ops, altered statistics), so that none
//! is in the program that ships.

#[allow(dead_code, reason = "the kernels' own target uses the rest")]
#[path = "kernels/cases.rs"]
mod cases;
#[allow(dead_code, reason = "the kernels' own target uses the rest")]
#[path = "kernels/faults.rs"]
mod faults;
#[path = "faults/init.rs"]
mod init;
#[allow(dead_code, reason = "the kernels' own target uses the rest")]
#[path = "kernels/judge.rs"]
mod judge;
#[allow(dead_code, reason = "the kernels' own target uses the rest")]
#[path = "kernels/layouts.rs"]
mod layouts;
#[path = "faults/networks.rs"]
mod networks;
#[allow(dead_code, reason = "the kernels' own target uses the rest")]
#[path = "kernels/planted.rs"]
mod planted;
#[path = "faults/records.rs"]
mod records;
#[allow(dead_code, reason = "the kernels' own target uses the rest")]
#[path = "kernels/relations.rs"]
mod relations;
#[path = "faults/statistics.rs"]
mod statistics;
mod support;
#[path = "faults/wiring.rs"]
mod wiring;

use std::collections::HashMap;

use normative::report::{Planted, Score};
use rayon::prelude::*;

/// `Ok`, or the cause for which a subject is refuted.
pub type Judged = Result<(), String>;

type Subject = Box<dyn Fn() -> Judged + Send + Sync>;

/// A fault of the catalogue (testing.md, section 4) with the check that must refute it.
pub struct Fault {
    pub number: u8,
    pub name: String,
    pub check: &'static str,
    /// What is judged without the fault: subjects of one name are judged once.
    pub clean: (String, Subject),
    pub faulty: Subject,
}

impl Fault {
    pub fn new(
        number: u8,
        name: &str,
        check: &'static str,
        clean: impl Fn() -> Judged + Send + Sync + 'static,
        faulty: impl Fn() -> Judged + Send + Sync + 'static,
    ) -> Fault {
        let clean: (String, Subject) = (format!("{check} of {number}"), Box::new(clean));
        Fault { number, name: name.into(), check, clean, faulty: Box::new(faulty) }
    }
}

fn norms() -> Vec<Fault> {
    use faults::Fault as Norm;
    let one = |(number, fault, check): &(u8, Norm, &'static str)| {
        let (check, fault) = (*check, *fault);
        let narrow = fault == Norm::AccumulatedInStorage;
        let clean = move || match narrow {
            true => planted::judged::<half::bf16>(check, &faults::Faulty(Norm::None)),
            false => planted::of(Norm::None, check),
        };
        let name = format!("{check} of norms{}", if narrow { " in bf16" } else { "" });
        Fault {
            number: *number,
            name: format!("{fault:?}"),
            check,
            clean: (name, Box::new(clean)),
            faulty: Box::new(move || planted::of(fault, check)),
        }
    };
    let mut all: Vec<Fault> = planted::FAULTS.iter().map(one).collect();
    let copy = |x: &candle_core::Tensor| x.contiguous();
    all.push(Fault::new(
        29,
        "strided input read as contiguous",
        "views",
        move || layouts::layouts(&copy),
        || layouts::layouts(&layouts::ignorant),
    ));
    all
}

fn catalogue() -> Vec<Fault> {
    let mut all = [norms(), wiring::faults(), init::faults(), statistics::faults(), records::faults()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    all.sort_by_key(|fault| fault.number);
    all
}

#[test]
fn every_fault_of_the_catalogue_is_refuted_by_its_check_and_no_subject_without_it() {
    let all = catalogue();
    // Every number once.
    assert!(all.iter().map(|fault| fault.number).eq(1..=90), "{:?}", all.iter().map(|f| f.number).collect::<Vec<_>>());

    let mut subjects: HashMap<&str, &Subject> = HashMap::new();
    for fault in &all {
        subjects.entry(&fault.clean.0).or_insert(&fault.clean.1);
    }
    let subjects: Vec<(&str, &Subject)> = subjects.into_iter().collect();
    let refuted: Vec<String> = subjects
        .par_iter()
        .filter_map(|(name, subject)| subject().err().map(|cause| format!("{name}: {cause}")))
        .collect();
    assert!(refuted.is_empty(), "subjects without a fault are refuted: {refuted:#?}");

    let timed = |fault: &Fault| {
        let begun = std::time::Instant::now();
        let judged = (fault.faulty)();
        println!(
            "{:2} {:.2} s {} [{}]: {judged:?}",
            fault.number,
            begun.elapsed().as_secs_f64(),
            fault.name,
            fault.check
        );
        judged
    };
    let judged: Vec<Judged> = all.par_iter().map(timed).collect();
    let missed: Vec<_> = all.iter().zip(&judged).filter(|(_, j)| j.is_ok()).map(|(f, _)| (f.number, &f.name)).collect();
    assert!(missed.is_empty(), "not refuted: {missed:?}");
    keep(&score(&all, &judged));
}

fn score(all: &[Fault], judged: &[Judged]) -> Score {
    let planted = |(fault, judged): (&Fault, &Judged)| Planted {
        number: fault.number,
        fault: fault.name.clone(),
        check: fault.check.into(),
        cause: judged.clone().err(),
    };
    Score { schema: "normative/faults/1".into(), faults: all.iter().zip(judged).map(planted).collect() }
}

/// The program holds the committed score: one that is not what was just found is written anew, and has to be committed.
fn keep(found: &Score) {
    let known = Score::known().unwrap();
    if known.outcomes() == found.outcomes() {
        return;
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/faults.json");
    std::fs::write(path, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
    panic!("reports/faults.json was not what the faults come to; it is written anew, look at it and commit it");
}
