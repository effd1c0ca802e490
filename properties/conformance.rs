//! The conformance kit on implementations whose faults are known: candle's fused norms, planted faults, and what is right.

#[allow(dead_code, reason = "the kernels' own tests use the rest")]
#[path = "kernels/cases.rs"]
mod cases;
#[allow(dead_code, reason = "the kernels' own tests use the rest")]
#[path = "kernels/faults.rs"]
mod faults;
#[allow(dead_code, reason = "the kernels' own tests use the rest")]
#[path = "kernels/judge.rs"]
mod judge;

use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use cases::{Case, Kind};
use faults::{Fault, Faulty};
use half::bf16;
use judge::Subject as _;
use normative::cli;
use normative::error::Result;
use normative::op::{Registry, Role};
use normative::verify::Verdict;
use normative::verify::conformance::{
    CANDLE, Call, Centre, Check, Formula, Gradients, KERNELS, OfOp, OfTensors, Probe, Report, Request, Subject, corpus,
    examine,
};

const EPS: f64 = 1e-5;

fn probes(dtypes: &[DType]) -> Vec<Probe> {
    dtypes.iter().flat_map(|dtype| corpus(*dtype, EPS).unwrap()).collect()
}

fn report(subject: &dyn Subject, expected: Formula, probes: Vec<Probe>) -> Report {
    let command = format!("normative kernel {}", subject.name());
    examine(subject, &Request { expected: Some(expected), eps: EPS, probes, command }).unwrap()
}

/// The names of the checks that refute.
fn refuted(report: &Report) -> Vec<String> {
    let mut names: Vec<String> = report.refuted().map(|check| check.name.clone()).collect();
    names.dedup();
    names
}

fn expected(name: &str) -> Formula {
    if name.contains("layer_norm") { Formula::layer_norm(EPS) } else { Formula::rms_norm(EPS) }
}

#[test]
fn the_kernels_are_verified_in_every_type() {
    for subject in &KERNELS {
        let found = report(subject, expected(subject.name), probes(&[DType::F64, DType::F32, DType::BF16, DType::F16]));
        assert_eq!(found.verdict(), Verdict::Verified, "{}: {:#?}", subject.name, found.refuted().collect::<Vec<_>>());
        assert_eq!(found.found(), Some(expected(subject.name)));
        // What is beyond the demands is kept, too; but candle's tape, which adds what the kernel gives to zeros, loses
        // subnormal bf16 on the way (kernels.rs judges the kernel without it).
        let tape = |check: &&Check| check.name == "huge rows, backward" && check.dtype == Some(DType::BF16);
        let failed = found.checks.iter().filter(|check| check.verdict == Verdict::Refuted);
        let limits: Vec<_> = failed.filter(|check| !tape(check)).collect();
        assert!(limits.is_empty(), "{limits:#?}");
    }
}

#[test]
fn the_registrys_normalizers_are_verified() {
    let registry = Registry::builtin();
    let all = [
        ("layer_norm", Formula::layer_norm(EPS)),
        ("rms_norm", Formula::rms_norm(EPS)),
        ("gemma_norm", Formula::gemma_norm(EPS)),
    ];
    for (name, formula) in all {
        let found =
            report(&OfOp(registry.get(name, Role::Normalizer).unwrap()), formula, probes(&[DType::F64, DType::F32]));
        assert_eq!(found.verdict(), Verdict::Verified, "{name}: {:#?}", found.refuted().collect::<Vec<_>>());
    }
}

#[test]
fn candles_fused_norms_are_refuted_for_what_they_are() {
    for subject in CANDLE.iter().filter(|subject| !subject.name.ends_with("slow")) {
        let found = report(subject, expected(subject.name), probes(&[DType::F32]));
        let reason = |name: &str| {
            let check =
                found.check(name, Some(DType::F32)).unwrap_or_else(|| panic!("{}: no check {name}", subject.name));
            assert_eq!(check.verdict, Verdict::Refuted, "{}: {name}", subject.name);
            check.reason.clone().unwrap_or_default()
        };
        assert!(reason("gradients").contains("no gradient of x, the gain"), "{}", reason("gradients"));
        assert!(reason("width 0").starts_with("panic"), "{}", reason("width 0"));
        let cancels = found.check("large mean, forward", Some(DType::F32)).unwrap();
        match subject.name {
            "candle:layer_norm" => {
                assert!(reason("large mean, forward").contains("E x^2 - (E x)^2"));
                // The smallest row that shows it is short, and the command that shows it names it.
                let example = cancels.counterexample.as_ref().unwrap();
                assert!(example.row.len() <= 4 && example.replay.contains("--row="), "{example:?}");
                assert!((example.excess.computed - example.excess.exact).abs() > example.excess.bound);
            }
            // Without a centre nothing cancels.
            _ => assert_eq!(cancels.verdict, Verdict::Verified),
        }
    }
}

/// A planted fault as a subject, in f32 or bf16; `centred` is what it claims to be.
struct Planted {
    fault: Fault,
    centred: bool,
}

impl Planted {
    fn case<S: Kind>(&self, call: &Call) -> Case<S> {
        let numbers = |t: &Tensor| -> Vec<S> {
            let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
            t.to_vec1::<f64>().unwrap().into_iter().map(S::of).collect()
        };
        Case {
            name: call.name.clone(),
            width: call.x.dim(1).unwrap(),
            centred: self.centred,
            one_plus: false,
            rounded_first: false,
            eps: call.eps,
            x: numbers(&call.x),
            gain: numbers(&call.gain),
            bias: self.centred.then(|| numbers(&call.bias)),
            dy: numbers(&call.dy),
            dsum: None,
        }
    }

    fn answer<S: Kind>(&self, call: &Call) -> Tensor {
        Tensor::from_vec(Faulty(self.fault).forward(&self.case::<S>(call)), call.x.shape(), &Device::Cpu).unwrap()
    }

    fn back<S: Kind>(&self, call: &Call) -> Gradients {
        let back = Faulty(self.fault).backward(&self.case::<S>(call));
        let tensor = |v: Option<Vec<S>>, like: &Tensor| Some(Tensor::from_vec(v?, like.shape(), &Device::Cpu).unwrap());
        Gradients {
            input: tensor(back.dx, &call.x),
            gain: tensor(back.dgain, &call.gain),
            bias: tensor(back.dbias, &call.bias),
        }
    }
}

impl Subject for Planted {
    fn name(&self) -> String {
        format!("{:?}", self.fault)
    }

    fn forward(&self, call: &Call) -> Result<Option<Tensor>> {
        Ok(Some(match call.x.dtype() {
            _ if call.x.elem_count() == 0 => call.x.clone(),
            DType::BF16 => self.answer::<bf16>(call),
            _ => self.answer::<f32>(call),
        }))
    }

    fn backward(&self, call: &Call) -> Result<Option<Gradients>> {
        Ok(Some(match call.x.dtype() {
            DType::BF16 => self.back::<bf16>(call),
            _ => self.back::<f32>(call),
        }))
    }
}

/// Without the widest rows, whose double-double oracle takes long; every group is there.
static SINGLE: LazyLock<Vec<Probe>> =
    LazyLock::new(|| probes(&[DType::F32]).into_iter().filter(|probe| probe.width < 1000).collect());

fn planted(fault: Fault, centred: bool) -> Report {
    let formula = if centred { Formula::layer_norm(EPS) } else { Formula::rms_norm(EPS) };
    report(&Planted { fault, centred }, formula, SINGLE.clone())
}

#[test]
fn a_norm_without_a_fault_is_verified() {
    for centred in [true, false] {
        let found = planted(Fault::None, centred);
        assert_eq!(found.verdict(), Verdict::Verified, "{:#?}", found.refuted().collect::<Vec<_>>());
    }
}

#[test]
fn faults_of_the_convention_are_named_as_what_they_are() {
    use Fault::*;
    for (fault, centred, words) in [
        (SampleVariance, true, "sample deviation (d - 1), not biased deviation (d)"),
        (EpsOutsideRoot, true, "eps outside the root, not eps inside the root"),
        (EpsSquared, true, "eps 1e-10, not eps 1e-5"),
        (EpsOmitted, true, "eps 0, not eps 1e-5"),
        (EpsTwice, false, "eps 2e-5, not eps 1e-5"),
        (EpsInHalf, false, "eps 1.001e-5, not eps 1e-5"),
        (MeanNotSubtracted, true, "mean not subtracted, not mean subtracted"),
        (MeanSubtractedInRms, false, "mean subtracted, not mean not subtracted"),
        // It takes off the mean of the row that was not scaled.
        (MeanSubtractedAfterScaling, true, "no convention known here explains"),
        (GainBefore, true, "gain applied before normalization, not gain w"),
        (GainOnePlus, true, "gain 1 + w, not gain w"),
        (BiasDropped, true, "no bias, not bias"),
        (BiasBeforeGain, true, "bias added before the gain, not bias"),
        (MeanAbsoluteDeviation, true, "mean absolute value, not biased deviation (d)"),
        (RootOmitted, false, "mean square, root omitted, not root mean square"),
        (EuclideanLength, false, "Euclidean length, eps times d, not root mean square"),
        (GainByToken, true, "no convention known here explains"),
        (LastSkipped, true, "no convention known here explains"),
        (PaddingCounted, true, "no convention known here explains"),
    ] {
        let found = planted(fault, centred);
        let check = found.check("convention", Some(DType::F32)).unwrap();
        assert_eq!(check.verdict, Verdict::Refuted, "{fault:?}");
        let reason = check.reason.clone().unwrap_or_default();
        // The fault alone is named, and nothing beside it.
        assert!(reason.starts_with(words) && !reason[words.len()..].contains(", not"), "{fault:?}: {reason}");
    }
}

/// x/rms(x) less its mean.
#[test]
fn a_mean_subtracted_after_scaling_is_named() {
    let subject = OfTensors {
        name: "centred last",
        function: |c| {
            let rms = (c.x.sqr()?.mean_keepdim(1)? + c.eps)?.sqrt()?;
            let z = c.x.broadcast_div(&rms)?;
            z.broadcast_sub(&z.mean_keepdim(1)?)?.broadcast_mul(&c.gain)?.broadcast_add(&c.bias)
        },
    };
    let found = report(&subject, Formula::layer_norm(EPS), probes(&[DType::F64]));
    let reason = found.check("convention", Some(DType::F64)).unwrap().reason.clone();
    assert_eq!(reason.unwrap(), "mean subtracted after scaling, not mean subtracted");
}

#[test]
fn faults_beyond_the_convention_are_refuted_by_their_check() {
    use Fault::*;
    for (fault, centred, name) in [
        (OnePassVariance, true, "large mean, forward"),
        (OnePassClamped, true, "large mean, forward"),
        (RoundedTwice, true, "plain rows, forward"),
        (CoarseRoot, true, "plain rows, forward"),
        (WrongAxis, true, "inf and NaN stay in their row"),
        (Jointly, true, "inf and NaN stay in their row"),
        (StatisticsShared, true, "many rows, forward"),
        (NanToZero, true, "inf and NaN stay in their row"),
        (BackwardAbsent, true, "gradients"),
        (MeanProjectionMissing, true, "plain rows, backward"),
        (RadialProjectionMissing, false, "plain rows, backward"),
        (BackwardSampleMean, true, "plain rows, backward"),
        (BackwardEpsIgnored, true, "convention, backward"),
        (GainGradientOverFeatures, true, "plain rows, backward"),
        (BiasGradientAveraged, true, "plain rows, backward"),
        (ScaleConstant, false, "plain rows, backward"),
        (AccumulatedTwice, true, "plain rows, backward"),
        (BackwardInBf16, true, "plain rows, backward"),
    ] {
        let found = planted(fault, centred);
        assert!(refuted(&found).iter().any(|check| check == name), "{fault:?}: {:?}", refuted(&found));
        if !matches!(fault, WrongAxis | Jointly | StatisticsShared | RoundedTwice | CoarseRoot) {
            assert_eq!(found.found().map(|f| f.centre != Centre::Never), Some(centred), "{fault:?}");
        }
    }
    let half = Planted { fault: AccumulatedInStorage, centred: true };
    let found = report(&half, Formula::layer_norm(EPS), probes(&[DType::BF16]));
    assert!(found.refuted().any(|check| check.dtype == Some(DType::BF16)), "{:?}", refuted(&found));
}

#[test]
fn the_command_judges_and_its_replay_shows_the_same() {
    let run = |line: &str| cli::run(&Registry::builtin(), line.split(' ').map(Into::into));
    assert_eq!(run("normative kernel kernel:layer_norm --dtype f32 --check constant"), 2);
    assert_eq!(run("normative kernel kernel:rms_norm --dtype f32 --row=4096,4097,4098"), 0);
    assert_eq!(run("normative kernel candle:layer_norm --dtype f32 --row=4096,4097,4098 --format json"), 1);
    assert_eq!(run("normative kernel rms_norm --as layer_norm --dtype f64 --row=1,2,4"), 1);
    assert_eq!(run("normative kernel candle:layer_nrm"), 2);
    assert_eq!(run("normative kernel kernel:rms_norm --eps -1"), 2);
}

/// What is recorded of a subject is judged as the subject is.
#[test]
fn a_recording_is_judged_as_its_subject() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, subject: &dyn Subject, back: bool| {
        let probes = SINGLE.clone();
        let mut tensors = std::collections::HashMap::new();
        for probe in &probes {
            let call = probe.call().unwrap();
            let y = subject.forward(&call).unwrap();
            let back = if back { subject.backward(&call).unwrap().unwrap() } else { Gradients::default() };
            let all = [("y", y), ("dx", back.input), ("dgain", back.gain), ("dbias", back.bias)];
            let inputs =
                [("x", Some(call.x)), ("gain", Some(call.gain)), ("bias", Some(call.bias)), ("dy", Some(call.dy))];
            let named =
                inputs.into_iter().chain(all).filter_map(|(what, t)| Some((format!("{}.{what}", call.name), t?)));
            tensors.extend(named);
        }
        let path = folder.path().join(name);
        let about = [("normative.kernel".to_owned(), r#"{"eps": 1e-5, "framework": "here"}"#.to_owned())];
        safetensors::serialize_to_file(&tensors, Some(about.into()), &path).unwrap();
        let line = format!("normative kernel {} --as layer_norm", path.display());
        cli::run(&Registry::builtin(), line.split(' ').map(Into::into))
    };
    let planted = |fault| Planted { fault, centred: true };
    assert_eq!(write("right.safetensors", &planted(Fault::None), true), 0);
    assert_eq!(write("outputs.safetensors", &planted(Fault::None), false), 0);
    assert_eq!(write("sample.safetensors", &planted(Fault::SampleVariance), true), 1);
    assert_eq!(write("slope.safetensors", &planted(Fault::MeanProjectionMissing), true), 1);
    std::fs::write(folder.path().join("none.safetensors"), "no tensors").unwrap();
    let line = format!("normative kernel {}", folder.path().join("none.safetensors").display());
    assert_eq!(cli::run(&Registry::builtin(), line.split(' ').map(Into::into)), 2);
}
