//! What is said of norm placements, and how it is judged: one file per family of claims, and the battery of them all.
//!
//! A [`Claim`] is a statement with its source. It plans [`Item`]s, the pieces of work of a run; judging one gives
//! [`Finding`]s. Knows nothing of records or pages.

mod author;
mod battery;
pub mod brief;
mod equivalence;
mod exact;
pub mod experiment;
mod figures;
pub mod gradients;
mod growth;
pub mod init;
mod kernels;
mod look;
pub mod meanfield;
pub mod moments;
pub mod normalizer;
mod prediction;
pub mod rank;
mod sampling;
mod subjects;
mod update;

pub use battery::{Battery, families, share};
pub use experiment::Experiments;
pub use look::LOOKS;
pub use prediction::AGREES as PREDICTION_AGREES;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::op::Registry;
use crate::spec::{Placement, Setting, Shape};
use crate::verify::budget::{self, Pool};
use crate::verify::{Finding, Verdict};

/// How much of a claim's domain a run covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// For every change: a minute on two cores.
    Quick,
    /// Depths to 1000, wide shapes, the smallest effects.
    Full,
}

/// Which placements a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Every placement of a run, a user's among them.
    EveryPlacement,
    /// These built-in placements, by name, as the claim's source has them; judged where a run has one of them.
    BuiltIn(&'static [&'static str]),
    /// No placement: a normalizer, an implementation, a piece of arithmetic. Judged in a run over the whole zoo, or by name.
    Nothing,
}

/// A statement that can be judged.
pub struct Claim {
    /// `family.quantity.statement`, never changed: `growth.second_moment.pre_ln_linear`.
    pub id: &'static str,
    /// What is claimed, in one sentence, as its source says it.
    pub statement: &'static str,
    /// Citation with equation, table or section.
    pub source: &'static str,
    /// Where it is claimed to hold.
    pub domain: &'static str,
    pub about: About,
    /// What is known of it: a run in which a claim turns out otherwise has found something.
    pub expected: Verdict,
    /// The pieces of work, cheap to list.
    pub plan: fn(&Claim, &Lab) -> Result<Vec<Item>>,
}

impl Claim {
    /// The first part of the id.
    pub fn family(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }

    /// The alpha of each of `figures` figures that this claim judges in one look on built-in subjects, or about nothing.
    pub fn alpha(&self, figures: usize) -> f64 {
        budget::split(share(self.id, Pool::BuiltIn), figures)
    }

    /// The alpha of each figure on one subject, `figures` being the claim's figures on it: the built-in subjects of a run
    /// share one pool and the user's another.
    pub fn alpha_on(&self, lab: &Lab, subject: &Subject, figures: usize) -> f64 {
        let pool = subject.pool();
        let subjects = lab.subjects.iter().filter(|other| other.pool() == pool).count();
        budget::split(share(self.id, pool), figures * subjects.max(1))
    }
}

/// A piece of work of a run, done whole or again.
pub struct Item {
    /// Unique in a run and the same in every run of one plan: `claim id`, or `claim id @ placement, shape`.
    pub key: String,
    /// One look; [`Item::judged`] has more where they are needed.
    pub judge: Judge,
}

/// Gives the findings of one item; may be called from any thread.
pub type Judge = Box<dyn Fn(&Lab) -> Result<Vec<Finding>> + Send + Sync>;

/// A placement of a run, at the shape and in the setting that the run asks for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As the user named it: a built-in's name, or a file's path; for replay commands.
    pub spec: String,
    pub placement: Placement,
    pub setting: Setting,
    pub shape: Shape,
    /// The same placement at a generated shape, with what the command line and its file fix about it.
    pub generated: Vec<Shape>,
}

impl Subject {
    /// Whose budget its claims spend: a file's path is a user's.
    pub fn pool(&self) -> Pool {
        match self.spec.contains('/') || self.spec.ends_with(".toml") {
            true => Pool::User,
            false => Pool::BuiltIn,
        }
    }
}

/// What a run judges with.
pub struct Lab<'a> {
    pub registry: &'a Registry,
    pub subjects: &'a [Subject],
    pub device: Device,
    pub dtype: DType,
    pub tier: Tier,
    /// The root of every seed of the run.
    pub seed: u64,
    /// Networks measured at the shape asked for.
    pub seeds: usize,
    /// Networks measured at each generated shape.
    pub seeds_per_shape: usize,
    /// How many times the draws of a first look: 1 but in a further one.
    pub times: usize,
    /// What was drawn so far: claims about one network share its draws.
    pub experiments: Experiments,
}

impl<'a> Lab<'a> {
    /// The quick tier on the CPU in f32 from seed 0, with no networks measured of the subjects until `seeds` and
    /// `seeds_per_shape` say how many; nothing is drawn yet.
    pub fn quick(registry: &'a Registry, subjects: &'a [Subject]) -> Self {
        Lab {
            registry,
            subjects,
            device: Device::Cpu,
            dtype: DType::F32,
            tier: Tier::Quick,
            seed: 0,
            seeds: 0,
            seeds_per_shape: 0,
            times: 1,
            experiments: Experiments::default(),
        }
    }
}
