//! The kernels on NVIDIA GPUs: sources in CUDA C++, the choice among them, and (feature `cuda`) their launch.

#[cfg(feature = "cuda")]
mod bench;
#[cfg(feature = "cuda")]
pub(super) mod launch;
pub mod plan;

#[cfg(feature = "cuda")]
pub use bench::{Timing, bench};
