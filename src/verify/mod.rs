//! Judges agreement: of interpretations with each other, and of tensors with recorded ones.

mod agreement;
pub mod conformance;
mod evidence;
mod parity;
mod shapes;
mod variant;

pub use agreement::{Agreement, Check, FIRST_LEVEL, Family, SECOND_LEVEL, Verdict, WIDEST_MARGIN, agreement, checks};
pub use evidence::{Evidence, Finding, Interval, Method};
pub use parity::{Parity, TensorParity, parity};
pub use shapes::generated_shapes;
pub use variant::{Trial, Variant, variant, verify_together};
