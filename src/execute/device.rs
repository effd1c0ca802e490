//! What is known of a device.

use candle_core::Device;

/// A CUDA device by its number, with a stream of its own.
///
/// The default stream is another one for each host thread, and nothing would order them.
///
/// # Errors
/// candle's, where there is no such device or the binary was built without the feature `cuda`.
pub fn cuda(index: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda_with_stream(index)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = &device {
        // SAFETY: everything on this device runs on its one stream, in the order in which it was asked for; events between
        // streams, two at each operation, would order nothing.
        unsafe { cuda.disable_event_tracking() };
    }
    Ok(device)
}

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
        Device::Cuda(cuda) => {
            let free = cuda.cuda_stream().context().mem_get_info().map_or(0, |(free, _)| free);
            Some(free as u64 / 2)
        }
        _ => None,
    }
}
