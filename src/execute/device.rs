//! What is known of a device.

use candle_core::Device;

/// The device in words: `cpu`, or a GPU's name as its driver gives it.
pub fn describe(device: &Device) -> String {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => cuda.cuda_stream().context().name().unwrap_or_else(|_| "unknown CUDA device".into()),
        _ => "cpu".into(),
    }
}

/// Bytes that a measurement may fill on a device, or `None` on the host: half of what is free, since the driver's pool
/// keeps freed buffers of other sizes.
pub fn room(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => {
            let free = candle_core::cuda_backend::cudarc::driver::result::mem_get_info().map_or(0, |(free, _)| free);
            Some(free as u64 / 2)
        }
        _ => None,
    }
}
