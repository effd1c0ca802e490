//! Claims of the literature come out as they are known to, and each is flipped by a planted change.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use normative::claims::{Battery, Claim, Lab, Subject, Tier};
use normative::op::Registry;
use normative::verify::{Finding, Verdict};

/// A lab without subjects: built-ins come from the zoo.
fn lab<'a>(registry: &'a Registry, subjects: &'a [Subject]) -> Lab<'a> {
    Lab {
        registry,
        subjects,
        device: Device::Cpu,
        dtype: DType::F32,
        tier: Tier::Quick,
        seed: 0,
        seeds: 16,
        seeds_per_shape: 8,
    }
}

fn judge(claim: &Claim, lab: &Lab) -> Vec<Finding> {
    let items = (claim.plan)(claim, lab).unwrap();
    items.iter().flat_map(|item| (item.judge)(lab).unwrap()).collect()
}

fn family(name: &str) {
    let registry = Registry::builtin();
    let lab = lab(&registry, &[]);
    let mut wrong = Vec::new();
    for claim in Battery::matching(Some(&format!("{name}.*"))).unwrap().claims {
        let start = std::time::Instant::now();
        let findings = judge(&claim, &lab);
        assert!(!findings.is_empty(), "{}", claim.id);
        let seconds = start.elapsed().as_secs_f64();
        for finding in findings {
            println!("{} {} ({seconds:.2} s)", finding.verdict.word(), claim.id);
            for e in &finding.evidence {
                println!(
                    "    {} {}: {:.6e} in [{:.6e}, {:.6e}], accepted [{:.6e}, {:.6e}]",
                    e.verdict().word(),
                    e.figure,
                    e.found,
                    e.interval.from,
                    e.interval.to,
                    e.accepted.from,
                    e.accepted.to
                );
            }
            if let Some(reason) = &finding.reason {
                println!("    {reason}");
            }
            if finding.verdict != claim.expected {
                wrong.push(format!("{}: {} instead of {}", claim.id, finding.verdict.word(), claim.expected.word()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn equivalences_hold() {
    family("equivalence");
}
