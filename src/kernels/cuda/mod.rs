//! The kernels on NVIDIA GPUs: sources in CUDA C++, the choice among them, and (feature `cuda`) their launch.

pub mod plan;
