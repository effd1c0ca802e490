//! Tensors' storages as slices and back, whatever their layout.

use std::borrow::Cow;

use candle_core::{CpuStorage, Layout, Tensor, WithDType};

use super::storage::Storage;

/// A type that is stored in tensors and that the kernels compute on.
pub trait Element: Storage + WithDType {}

impl<S: Storage + WithDType> Element for S {}

/// The elements in the order of their indices: borrowed where they lie so, else gathered.
pub fn elements<'a, S: Element>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<Cow<'a, [S]>> {
    let all = S::cpu_storage_as_slice(storage)?;
    Ok(match layout.contiguous_offsets() {
        Some((from, to)) => Cow::Borrowed(&all[from..to]),
        None => Cow::Owned(places(layout).into_iter().map(|i| all[i]).collect()),
    })
}

/// Where each element lies, in the order of indices: axis by axis, each place is followed by its repetitions along it.
fn places(layout: &Layout) -> Vec<usize> {
    let axes = layout.dims().iter().zip(layout.stride());
    axes.fold(vec![layout.start_offset()], |outer, (&n, &stride)| {
        outer.iter().flat_map(|&place| (0..n).map(move |i| place + i * stride)).collect()
    })
}

/// Rows and width of a shape: the width is its last dimension.
pub fn rows(layout: &Layout) -> (usize, usize) {
    let (width, outer) = layout.dims().split_last().map_or((1, &[][..]), |(width, outer)| (*width, outer));
    (outer.iter().product(), width)
}

/// Calls a generic function for the element type of a storage, on whichever device.
macro_rules! by_type {
    ($storage:expr, $call:ident $(:: $method:ident)? ( $($argument:expr),* )) => {
        match candle_core::backend::BackendStorage::dtype($storage) {
            candle_core::DType::F32 => $call $(.$method)? ::<f32>($($argument),*),
            candle_core::DType::F64 => $call $(.$method)? ::<f64>($($argument),*),
            candle_core::DType::BF16 => $call $(.$method)? ::<half::bf16>($($argument),*),
            candle_core::DType::F16 => $call $(.$method)? ::<half::f16>($($argument),*),
            other => candle_core::bail!("{other:?} is not a floating-point type of the kernels"),
        }
    };
}

pub(crate) use by_type;

/// As the device's kernels read it: the CPU's take any layout.
pub fn readable(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.device().is_cpu() { Ok(x.clone()) } else { x.contiguous() }
}
