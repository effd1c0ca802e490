//! Fused kernels with gradients: LayerNorm and RMSNorm, alone or of a sum with a residual; softmax; slopes of activations.
//!
//! Storage f32, f64, bf16 and f16, statistics in f32 (f64 for f64); any layout; eps inside the root. The same bits for
//! every number of threads and every width of registers. Start at [`layer_norm`] for tensors, at [`slices::Norm`] for
//! slices; accuracy is stated at [`statistics`](slices::Statistics) and judged in properties/kernels.rs.
//! Knows nothing of ops, sites or equations.

mod activation;
mod backward;
mod convention;
pub mod cuda;
mod custom;
mod dispatch;
mod exponential;
mod forward;
mod lanes;
mod packed;
mod registers;
mod softmax;
mod squares;
mod statistics;
mod storage;
mod tensors;

pub mod slices;

pub use activation::{Curve, activation, activation_backward};
pub use convention::{Cast, Convention};
pub use softmax::{softmax, softmax_backward};
pub use squares::{overlaps, squares};
pub use tensors::{Gradients, add_layer_norm, add_rms_norm, layer_norm, norm_backward, rms_norm};
