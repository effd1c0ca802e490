//! Judges agreement: of interpretations with each other, and of tensors with recorded ones.

mod agreement;
pub mod budget;
pub mod conformance;
mod equality;
mod estimate;
mod evidence;
mod parity;
mod pivots;
mod places;
mod power;
mod rounding;
pub mod selftest;
mod shapes;
mod tails;
mod variant;

pub use agreement::{
    Agreement, Check, FIRST_LEVEL, Family, SECOND_LEVEL, Verdict, WIDEST_MARGIN, agreement, checks, rounding,
};
pub use equality::{Contrast, Equality, contrasts, equality};
pub use estimate::{GROUP_LEVEL, GROUP_SEEDS, mean_is_seen};
pub use evidence::{Evidence, Finding, Interval, Method};
pub use parity::{Parity, TensorParity, parity};
pub use pivots::{Observed, Pivot, Use, pivots};
pub use places::{entries, places, resolved_margin, squares};
pub use power::MOST_DRAWS;
pub use selftest::{Part, Probe};
pub use shapes::generated_shapes;
pub use tails::{chi_square, chi_square_quantiles, clopper_pearson, student_quantile};
pub use variant::{Trial, Variant, variant, verify_together};
