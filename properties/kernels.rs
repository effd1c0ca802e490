//! The fused norms against a double-double oracle within derived bounds, on the whole corpus of edge inputs; exact
//! relations; gradients by two further routes; determinism. The faults that the same checks must refute are in faults.rs.

#[path = "kernels/cases.rs"]
mod cases;
#[path = "kernels/judge.rs"]
mod judge;
#[allow(dead_code, reason = "faults.rs uses the rest")]
#[path = "kernels/layouts.rs"]
mod layouts;
#[path = "kernels/relations.rs"]
mod relations;
mod support;
#[path = "kernels/tensors.rs"]
mod tensors;

use cases::{Case, Kind, corpus};
use half::{bf16, f16};
use judge::{Kernels, Subject, backward, forward};
use normative::kernels::slices::Path;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::collections::BTreeMap;

/// The worst error over bound by norm, pass and width, printed with `--nocapture`.
fn all_within_bounds<S: Kind>() {
    let subject = Kernels(Path::best());
    let mut worst: BTreeMap<(&str, &str, usize), f64> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in corpus::<S>() {
        let norm = if case.centred { "layer_norm" } else { "rms_norm" };
        let passes = [("forward", forward(&subject, &case)), ("backward", backward(&subject, &case))];
        for (pass, judgement) in passes {
            match judgement {
                Ok(ratio) => {
                    let kept = worst.entry((norm, pass, case.width)).or_default();
                    *kept = kept.max(ratio);
                }
                Err(failure) => failures.push(failure),
            }
        }
    }
    for ((norm, pass, width), ratio) in worst {
        println!("{} {norm} {pass} width {width}: {ratio:.3} of the bound", S::NAME);
    }
    assert!(failures.is_empty(), "{} failures, first {:#?}", failures.len(), &failures[..failures.len().min(12)]);
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

#[test]
fn exact_relations_hold_to_the_bit() {
    fn all<S: Kind>() {
        for path in Path::available() {
            for (name, holds) in relations::all::<S>(&Kernels(*path)) {
                assert_eq!(holds, Ok(()), "{name} of {} on {path:?}", S::NAME);
            }
        }
    }
    all::<f32>();
    all::<f64>();
    all::<bf16>();
    all::<f16>();
}

fn bits<S: Kind>(v: &[S]) -> Vec<u64> {
    v.iter().map(|v| if v.value().is_nan() { f64::NAN.to_bits() } else { v.value().to_bits() }).collect()
}

/// Every width of registers gives the same bits; NaN is NaN whatever its payload.
#[test]
fn paths_give_the_same_bits() {
    fn all<S: Kind>() {
        for case in corpus::<S>().into_iter().filter(|c| c.x.len() < 20_000) {
            let of = |path: Path| {
                let back = Subject::<S>::backward(&Kernels(path), &case);
                let all = [Some(Subject::<S>::forward(&Kernels(path), &case)), back.dx, back.dgain, back.dbias];
                all.map(|v| bits(&v.unwrap_or_default()))
            };
            let baseline = of(Path::Baseline);
            for path in Path::available() {
                assert_eq!(of(*path), baseline, "{} {} on {path:?}", S::NAME, case.name);
            }
        }
    }
    all::<f32>();
    all::<f64>();
    all::<bf16>();
    all::<f16>();
}

fn config() -> ProptestConfig {
    let persistence = FileFailurePersistence::Direct("properties/regressions.txt");
    ProptestConfig { failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Any finite row of f32, from any bits, is normalized within its bound, forward and back.
    #[test]
    fn any_row_of_f32_is_within_its_bound(
        words in prop::collection::vec(any::<u32>(), 1..80),
        centred: bool,
        eps in prop::sample::select(vec![0.0, 1e-12, 1e-5, 1.0]),
    ) {
        let finite = |w: u32| f64::from(Some(f32::from_bits(w)).filter(|x| x.is_finite()).unwrap_or(1.0));
        let case = Case::<f32>::new("bits", words.len(), centred, eps, words.into_iter().map(finite).collect());
        prop_assert!(forward(&Kernels(Path::best()), &case).is_ok(), "{:?}", forward(&Kernels(Path::best()), &case));
    }

    /// Rows of nearby numbers, of any mean and spread.
    #[test]
    fn any_mean_and_spread_is_within_its_bound(
        width in 1usize..300,
        mean in -1e6f64..1e6,
        spread in -12i32..6,
        seed: u64,
    ) {
        let normals = normative::random::Stream::new(seed, &[]).normals(width);
        let x = normals.into_iter().map(|v| mean + v * 10f64.powi(spread)).collect();
        let case = Case::<f32>::new("near", width, true, 1e-5, x);
        for judgement in [forward(&Kernels(Path::best()), &case), backward(&Kernels(Path::best()), &case)] {
            prop_assert!(judgement.is_ok(), "{judgement:?}");
        }
    }
}
