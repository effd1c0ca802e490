//! Runs a network: tensors by candle, forward and back, on any device.
//!
//! The reverse sweep walks the same graph as the forward one, so that every site's cotangent is there
//! without a tape. Knows nothing of predictions. Start at [`measure`] for statistics over seeds, at [`run`] for one pass.

mod attend;
mod device;
mod figures;
mod measure;
mod memory;
mod pass;
mod run;
mod stacks;
mod weights;

pub use device::{cuda, describe};
pub use measure::{Measurement, measure, measure_on_same_weights};
pub use run::{Factors, Run, Values, factors, forward, run};
pub use stacks::by_network;
pub use weights::{Seeds, Weights, draw_cotangent, draw_input};
