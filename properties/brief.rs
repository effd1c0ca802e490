//! The brief's statements: all are there, each has the verdict expected of it, and each decidable one has a plant that
//! flips it.

use candle_core::{DType, Device};
use normative::claims::brief::{Basis, Planted, Statement, statements};
use normative::claims::{Experiments, Lab, Tier};
use normative::op::Registry;
use normative::verify::{Evidence, Finding, Verdict};

fn lab(registry: &Registry) -> Lab<'_> {
    Lab {
        registry,
        subjects: &[],
        device: Device::Cpu,
        dtype: DType::F32,
        tier: Tier::Quick,
        seed: 0,
        seeds: 0,
        seeds_per_shape: 0,
        experiments: Experiments::default(),
    }
}

fn figures(evidence: &[Evidence]) -> String {
    let line = |e: &Evidence| {
        format!(
            "\n    {}: {:.4} in [{:.4}, {:.4}], accepted [{:.4}, {:.4}], stated {:?}: {}",
            e.figure,
            e.found,
            e.interval.from,
            e.interval.to,
            e.accepted.from,
            e.accepted.to,
            e.stated,
            e.verdict().word()
        )
    };
    evidence.iter().map(line).collect()
}

fn shown(finding: &Finding) -> String {
    format!("{} {}{}\n    {:?}", finding.claim, finding.verdict.word(), figures(&finding.evidence), finding.reason)
}

#[test]
fn every_statement_has_the_verdict_that_is_expected_of_it() {
    let registry = Registry::builtin();
    let lab = lab(&registry);
    let mut wrong = Vec::new();
    for statement in statements() {
        let expected = match &statement.basis {
            Basis::Trial(trial) => trial.expected,
            Basis::Undecidable(_) => Verdict::NotApplicable,
        };
        let start = std::time::Instant::now();
        let finding = statement.judged(&lab, &Planted::default()).unwrap();
        println!("{} ({:.2} s)", shown(&finding), start.elapsed().as_secs_f64());
        if finding.verdict != expected {
            wrong.push(shown(&finding));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
