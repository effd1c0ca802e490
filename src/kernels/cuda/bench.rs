//! The speed of the kernels beside a copy of the same bytes, in one run on one device.

use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaDType, CudaDevice, WrapErr, kernels};
use candle_core::{DType, Device, Result, Storage, Tensor};

use crate::kernels::{add_layer_norm, layer_norm, norm_backward, rms_norm, softmax};

/// What one call takes, and the fewest bytes that it reads and writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    pub kernel: &'static str,
    pub dtype: DType,
    pub rows: usize,
    pub width: usize,
    pub seconds: f64,
    pub bytes: usize,
}

/// Of one tensor: several times what a device's caches hold.
const BYTES: usize = 256 << 20;
/// Calls before and during a measurement.
const CALLS: usize = 20;
/// Tensors that take turns, so that none is left in a cache from the call before.
const TURNS: usize = 2;

/// Norms forward and back at widths 64 to 16384 in f32 and bf16, a copy of the same bytes beside each shape (`copy`), and
/// candle's own LayerNorm. About 5 seconds and 3 GiB; the driver compiles the kernels first.
///
/// # Errors
/// Where the device is not a CUDA device, or fails.
pub fn bench(device: &Device) -> Result<Vec<Timing>> {
    let cuda = device.as_cuda_device()?;
    let mut all = Vec::new();
    for dtype in [DType::F32, DType::BF16] {
        for width in [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384] {
            all.extend(shape(cuda, device, dtype, BYTES / width / dtype.size_in_bytes(), width)?);
        }
    }
    Ok(all)
}

fn shape(cuda: &CudaDevice, device: &Device, dtype: DType, rows: usize, width: usize) -> Result<Vec<Timing>> {
    // Rows alike, of a mean near 0: no number changes the kernels' time but a mean beyond 0.58 deviations, which takes
    // LayerNorm one more sweep over what it holds.
    let tensor = |seed: usize| -> Result<Tensor> {
        let row: Vec<f64> = (0..width).map(|i| ((i * 7919 + seed) % 1009) as f64 / 504.0 - 1.0).collect();
        Tensor::from_vec(row, (1, width), device)?.to_dtype(dtype)?.broadcast_as((rows, width))?.contiguous()
    };
    let draws = |seed: usize| (0..TURNS).map(|turn| tensor(seed + turn)).collect::<Result<Vec<_>>>();
    let (xs, dys) = (draws(1)?, draws(11)?);
    let (gain, bias) = (Tensor::ones(width, dtype, device)?, Tensor::zeros(width, dtype, device)?);
    let tensor_bytes = rows * width * dtype.size_in_bytes();
    let fused = |r: crate::error::Result<()>| r.map_err(candle_core::Error::wrap);
    let mut timings = Vec::new();
    let mut time = |kernel, tensors: usize, call: &dyn Fn(usize) -> Result<()>| -> Result<()> {
        let seconds = seconds(cuda, call)?;
        timings.push(Timing { kernel, dtype, rows, width, seconds, bytes: tensors * tensor_bytes });
        Ok(())
    };
    // The driver's copy within the device, into a new tensor as the kernels' outputs are.
    time("copy", 2, &|turn| xs[turn].copy().map(|_| ()))?;
    time("layer_norm forward", 2, &|turn| fused(layer_norm(&xs[turn], Some(&gain), Some(&bias), 1e-5).map(|_| ())))?;
    time("rms_norm forward", 2, &|turn| fused(rms_norm(&xs[turn], Some(&gain), 1e-6).map(|_| ())))?;
    time("add_layer_norm forward", 4, &|turn| {
        fused(add_layer_norm(&xs[turn], &dys[turn], Some(&gain), Some(&bias), 1e-5).map(|_| ()))
    })?;
    time("layer_norm backward", 3, &|turn| {
        fused(norm_backward(true, &xs[turn], Some(&gain), &dys[turn], 1e-5).map(|_| ()))
    })?;
    time("rms_norm backward", 3, &|turn| {
        fused(norm_backward(false, &xs[turn], Some(&gain), &dys[turn], 1e-6).map(|_| ()))
    })?;
    time("softmax forward", 2, &|turn| fused(softmax(&xs[turn]).map(|_| ())))?;
    time("candle layer_norm forward", 2, &|turn| match dtype {
        DType::F32 => candle_layer_norm::<f32>(cuda, "layernorm_f32", [&xs[turn], &gain, &bias]),
        _ => candle_layer_norm::<half::bf16>(cuda, "layernorm_bf16", [&xs[turn], &gain, &bias]),
    })?;
    Ok(timings)
}

/// Of a call, by the device's clock, the calls one after the other on its stream.
fn seconds(cuda: &CudaDevice, call: &dyn Fn(usize) -> Result<()>) -> Result<f64> {
    let stream = cuda.cuda_stream();
    (0..CALLS).try_for_each(|i| call(i % TURNS))?;
    let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).w()?;
    (0..CALLS).try_for_each(|i| call(i % TURNS))?;
    let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).w()?;
    end.synchronize().w()?;
    Ok(f64::from(start.elapsed_ms(&end).w()?) / 1e3 / CALLS as f64)
}

/// candle's kernel, launched as candle-nn launches it.
fn candle_layer_norm<S: CudaDType + DeviceRepr>(
    cuda: &CudaDevice,
    name: &str,
    [x, gain, bias]: [&Tensor; 3],
) -> Result<()> {
    let (rows, width) = x.dims2()?;
    let threads: u32 = if width < 1024 { 32 } else { 1024 };
    let (x, gain, bias) = (x.storage_and_layout().0, gain.storage_and_layout().0, bias.storage_and_layout().0);
    let (Storage::Cuda(x), Storage::Cuda(gain), Storage::Cuda(bias)) = (&*x, &*gain, &*bias) else {
        candle_core::bail!("the tensors are not on the device")
    };
    let function = cuda.get_or_load_func(name, &kernels::REDUCE)?;
    // SAFETY: nobody reads it.
    let mut y = unsafe { cuda.alloc::<S>(rows * width)? };
    let (columns, block, eps) = (width as i32, threads as i32, 1e-5f32);
    let config = LaunchConfig { grid_dim: (rows as u32, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
    let mut launch = function.builder();
    launch.arg(x.as_cuda_slice::<S>()?).arg(&mut y).arg(gain.as_cuda_slice::<S>()?).arg(bias.as_cuda_slice::<S>()?);
    launch.arg(&columns).arg(&block).arg(&eps);
    // SAFETY: the arguments are those of candle-kernels' layernorm; x, y have rows of width elements.
    unsafe { launch.launch(config) }.w()?;
    Ok(())
}
