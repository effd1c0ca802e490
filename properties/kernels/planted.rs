//! The catalogue's faults of normalizers and their gradients, each with the check that refutes it.

use half::bf16;

use super::cases::{Case, Kind, corpus};
use super::faults::{Fault, Faulty};
use super::judge::{Subject, backward, forward};
use super::relations::{Holds, all};

/// What a check by this name says of a subject.
pub fn judged<S: Kind>(check: &str, subject: &dyn Subject<S>) -> Holds {
    let judge = |one: &dyn Fn(&Case<S>) -> Holds| {
        corpus::<S>()
            .iter()
            .filter(|c| c.x.len() < 10_000 && !c.one_plus && !c.rounded_first && !c.name.starts_with("edges"))
            .try_for_each(one)
    };
    match check {
        "forward bound" => judge(&|c| forward(subject, c).map(|_| ())),
        "backward bound" => judge(&|c| backward(subject, c).map(|_| ())),
        relation => {
            let named = all(subject).into_iter().find(|(name, _)| *name == relation);
            named.unwrap_or_else(|| panic!("no relation {relation}")).1
        }
    }
}

/// A fault is judged in f32, or where it needs storage narrower than the statistics in bf16.
pub fn of(fault: Fault, check: &str) -> Holds {
    match fault {
        Fault::AccumulatedInStorage => judged::<bf16>(check, &Faulty(fault)),
        _ => judged::<f32>(check, &Faulty(fault)),
    }
}

/// Number in the catalogue of planted faults, fault, and the check that refutes it.
pub const FAULTS: &[(u8, Fault, &str)] = &[
    (1, Fault::SampleVariance, "dyadic"),
    (2, Fault::EpsOutsideRoot, "scale"),
    (3, Fault::EpsSquared, "scale"),
    (4, Fault::EpsOmitted, "forward bound"),
    (5, Fault::EpsTwice, "forward bound"),
    (6, Fault::EpsInHalf, "forward bound"),
    (7, Fault::OnePassVariance, "forward bound"),
    (8, Fault::OnePassClamped, "forward bound"),
    (9, Fault::AccumulatedInStorage, "forward bound"),
    (10, Fault::MeanNotSubtracted, "dyadic"),
    (11, Fault::MeanSubtractedInRms, "permutation"),
    (12, Fault::MeanSubtractedAfterScaling, "dyadic"),
    (13, Fault::GainBefore, "dyadic"),
    (14, Fault::GainOnePlus, "dyadic"),
    (15, Fault::BiasDropped, "dyadic"),
    (16, Fault::BiasBeforeGain, "dyadic"),
    (17, Fault::GainByToken, "dyadic"),
    (18, Fault::WrongAxis, "isolation"),
    (19, Fault::Jointly, "isolation"),
    (20, Fault::LastSkipped, "dyadic"),
    (21, Fault::PaddingCounted, "forward bound"),
    (22, Fault::MeanAbsoluteDeviation, "forward bound"),
    (23, Fault::RootOmitted, "scale"),
    (24, Fault::EuclideanLength, "dyadic"),
    (25, Fault::StatisticsShared, "isolation"),
    (26, Fault::RoundedTwice, "forward bound"),
    (27, Fault::NanToZero, "isolation"),
    (28, Fault::CoarseRoot, "forward bound"),
    (55, Fault::BackwardAbsent, "backward bound"),
    (56, Fault::MeanProjectionMissing, "backward bound"),
    (57, Fault::RadialProjectionMissing, "backward bound"),
    (58, Fault::BackwardSampleMean, "backward bound"),
    (59, Fault::BackwardEpsIgnored, "backward bound"),
    (60, Fault::GainGradientOverFeatures, "backward bound"),
    (61, Fault::BiasGradientAveraged, "backward bound"),
    (62, Fault::SkipDropped, "backward bound"),
    (63, Fault::SkipDoubled, "backward bound"),
    (64, Fault::ScaleConstant, "backward bound"),
    (65, Fault::AccumulatedTwice, "backward bound"),
    (67, Fault::BackwardInBf16, "backward bound"),
];
