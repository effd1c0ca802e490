//! The conformance kit: judges anybody's normalizer.
//!
//! A [`Subject`] is asked about a corpus of rows. From its outputs alone `identify` finds the
//! convention it follows; its outputs and gradients are then held against the exact values of that convention within
//! derived rounding bounds, and its edges are tried. Start at [`examine`]; README.md beside this file has the format of
//! recordings. The oracle shares no code with the kernels.

mod bounds;
mod corpus;
mod edges;
mod exact;
mod examine;
mod formula;
mod guard;
mod identify;
mod judge;
mod probe;
mod report;
mod shrink;
mod subjects;

pub use bounds::{Algorithm, Product, Roundoff, RowBound};
pub use corpus::{WIDTHS, corpus};
pub use exact::{Dd, sum};
pub use examine::{Request, examine};
pub use formula::{Bias, Centre, Divisor, EpsPlace, Factor, Formula, Part, Row, pull_back};
pub use identify::Identified;
pub use judge::{Back, Excess, Standard, Worst};
pub use probe::{Call, Gradients, Group, Probe, Subject};
pub use report::{AtWidth, Check, Counterexample, Demand, Report, differences};
pub use subjects::{CANDLE, KERNELS, OfOp, OfTensors, Recording, write_probes};
