//! Views of tensors, and whether an operation reads them as what they are.

use candle_core::{DType, Device, Result, Tensor};
use normative::random::Stream;

pub fn normals(seed: u64, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    Tensor::from_vec(Stream::new(seed, &[]).normals(n), shape, &Device::Cpu).unwrap()
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Views of one tensor: transposed, broadcast, offset, every second row.
pub fn views(base: &Tensor) -> Result<Vec<Tensor>> {
    let (rows, width) = base.dims2()?;
    Ok(vec![
        base.clone(),
        base.t()?.contiguous()?.t()?,
        base.narrow(0, 1, rows - 1)?,
        base.narrow(1, 1, width - 1)?,
        base.narrow(0, 0, 1)?.broadcast_as((3, width))?,
        base.narrow(1, 0, 1)?.broadcast_as((rows, width))?,
        base.reshape((rows / 2, 2, width))?.narrow(1, 1, 1)?.squeeze(1)?,
    ])
}

/// A view gives the bits that its contiguous copy gives; `Err` says for which it does not.
pub fn layouts(f: &dyn Fn(&Tensor) -> Result<Tensor>) -> std::result::Result<(), String> {
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let base = normals(3, &[6, 33]).to_dtype(dtype).unwrap();
        for (i, view) in views(&base).unwrap().into_iter().enumerate() {
            let copy = Tensor::from_vec(values(&view), view.shape(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            if values(&f(&view).unwrap()) != values(&f(&copy).unwrap()) {
                return Err(format!("view {i} of type {dtype:?}"));
            }
        }
    }
    Ok(())
}

/// A kernel that reads its storage from the start, whatever the strides.
pub fn ignorant(x: &Tensor) -> Result<Tensor> {
    let (storage, layout) = x.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else { candle_core::bail!("not on the host") };
    let flat = Tensor::from_slice(
        &match storage {
            candle_core::CpuStorage::F32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            candle_core::CpuStorage::F64(v) => v.clone(),
            candle_core::CpuStorage::BF16(v) => v.iter().map(|v| v.to_f64()).collect(),
            candle_core::CpuStorage::F16(v) => v.iter().map(|v| v.to_f64()).collect::<Vec<_>>(),
            _ => candle_core::bail!("not a float"),
        }[..],
        storage_len(storage),
        &Device::Cpu,
    )?;
    let n = layout.shape().elem_count();
    let from = layout.start_offset().min(storage_len(storage).saturating_sub(n));
    let read = flat.narrow(0, from, n.min(storage_len(storage)))?;
    read.broadcast_as((n.div_ceil(read.elem_count()), read.elem_count()))?
        .flatten_all()?
        .narrow(0, 0, n)?
        .reshape(layout.shape())
}

fn storage_len(storage: &candle_core::CpuStorage) -> usize {
    match storage {
        candle_core::CpuStorage::F32(v) => v.len(),
        candle_core::CpuStorage::F64(v) => v.len(),
        candle_core::CpuStorage::BF16(v) => v.len(),
        candle_core::CpuStorage::F16(v) => v.len(),
        _ => 0,
    }
}
