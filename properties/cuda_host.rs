//! The CUDA kernels' own source, run on the CPU under a shim: within the bounds of the CPU kernels on the whole corpus of
//! edge inputs, both for tensors that are aligned and for those that are not, groups, softmax and activations; and planted faults.

#[path = "kernels/bounds.rs"]
mod bounds;
#[path = "kernels/cases.rs"]
mod cases;
#[path = "cuda/host.rs"]
mod host;
#[path = "kernels/judge.rs"]
mod judge;
#[path = "kernels/oracle.rs"]
mod oracle;

use cases::{Case, corpus};
use half::{bf16, f16};
use host::{Host, Stored};
use judge::{Subject, backward, forward};

/// Of the CPU's corpus, what the device's kernels have: no cotangent of a sum.
fn cases<S: Stored>() -> impl Iterator<Item = Case<S>> {
    corpus::<S>().into_iter().filter(|case| case.dsum.is_none())
}

fn failures<S: Stored>(host: &Host, cases: impl Iterator<Item = Case<S>>) -> Vec<String> {
    cases.flat_map(|case| [forward(host, &case), backward(host, &case)]).filter_map(|judged| judged.err()).collect()
}

fn all_within_bounds<S: Stored>() {
    let mut host = Host::new::<S>("norm", None);
    for aligned in [true, false] {
        host.aligned = aligned;
        let found = failures(&host, cases::<S>());
        assert!(found.is_empty(), "aligned {aligned}: {} failures, {:#?}", found.len(), &found[..found.len().min(8)]);
    }
}

#[test]
fn f32_is_within_its_rounding_bounds() {
    all_within_bounds::<f32>();
}

#[test]
fn f64_is_within_its_rounding_bounds() {
    all_within_bounds::<f64>();
}

#[test]
fn bf16_is_within_its_rounding_bounds() {
    all_within_bounds::<bf16>();
}

#[test]
fn f16_is_within_its_rounding_bounds() {
    all_within_bounds::<f16>();
}
