//! Launches on a candle device. Arguments stand in the order and in the types of the signatures in the sources.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg, ValidAsZeroBits,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, WrapErr};
use candle_core::{Layout, Result};

use super::plan::{Plan, Rows, elementwise, merges};
use crate::kernels::Cast;
use crate::kernels::activation::Curve;
use crate::kernels::custom::Kind;
use crate::kernels::packed::{Element, rows};

/// Where a missing tensor would be.
static NULL: u64 = 0;
/// Bytes of shared memory that a kernel has without asking, less what norm.cu declares itself.
const UNASKED: usize = 40 << 10;

/// A type whose kernels were compiled.
pub trait OnDevice: Element<Real: DeviceRepr> + CudaDType + DeviceRepr + ValidAsZeroBits {
    const NORM: Module;
    const SOFTMAX: Module;
    const CURVE: Module;
}

pub struct Module {
    name: &'static str,
    ptx: &'static str,
}

macro_rules! on_device {
    ($t:ty, $name:literal) => {
        impl OnDevice for $t {
            const NORM: Module = Module {
                name: concat!("normative-norm-", $name),
                ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, "/norm.ptx")),
            };
            const SOFTMAX: Module = Module {
                name: concat!("normative-softmax-", $name),
                ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, "/softmax.ptx")),
            };
            const CURVE: Module = Module {
                name: concat!("normative-curve-", $name),
                ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, "/curve.ptx")),
            };
        }
    };
}

on_device!(f32, "f32");
on_device!(f64, "f64");
on_device!(half::bf16, "bf16");
on_device!(half::f16, "f16");

type Stored<'a> = (&'a CudaStorage, &'a Layout);

/// The elements of a contiguous tensor, and whether they start at a multiple of 16 bytes.
fn view<'a, S: OnDevice>((storage, layout): Stored<'a>) -> Result<(CudaView<'a, S>, bool)> {
    let Some((from, to)) = layout.contiguous_offsets() else { candle_core::bail!("the tensor is not contiguous") };
    Ok((storage.as_cuda_slice::<S>()?.slice(from..to), (from * size_of::<S>()).is_multiple_of(16)))
}

/// To be written by a kernel as a whole; never of length 0, which the driver refuses.
fn blank<T: DeviceRepr>(device: &CudaDevice, elements: usize) -> Result<CudaSlice<T>> {
    // SAFETY: the kernels write every element before anyone reads it.
    unsafe { device.alloc::<T>(elements.max(1)) }
}

/// A kernel with where and how it runs.
struct Prepared {
    function: CudaFunction,
    stream: Arc<CudaStream>,
    config: LaunchConfig,
}

impl Prepared {
    fn new(device: &CudaDevice, module: &Module, plan: &Plan) -> Result<Self> {
        let function = device.get_or_load_custom_func(&plan.kernel, module.name, module.ptx)?.into_cuda_function();
        if plan.shared > UNASKED {
            let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(most, plan.shared as i32).w()?;
        }
        let Ok(blocks) = u32::try_from(plan.blocks) else { candle_core::bail!("{} blocks are too many", plan.blocks) };
        let config = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (plan.threads as u32, 1, 1),
            shared_mem_bytes: plan.shared as u32,
        };
        Ok(Prepared { function, stream: device.cuda_stream(), config })
    }

    fn arguments(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

fn narrow(width: usize) -> Result<i32> {
    i32::try_from(width).map_err(candle_core::Error::wrap)
}

fn flags(kind: &Kind) -> i32 {
    let before = kind.convention.cast == Cast::BeforeGain;
    i32::from(kind.centred) | i32::from(kind.convention.one_plus) << 1 | i32::from(before) << 2
}

/// The sum with the residual, empty without one, and its norm.
pub fn forward<S: OnDevice>(
    kind: &Kind,
    x: Stored,
    residual: Option<Stored>,
    gain: Stored,
    bias: Stored,
) -> Result<[CudaStorage; 2]> {
    let (device, (total, width)) = (x.0.device(), rows(x.1));
    let (x, residual) = (view::<S>(x)?, residual.map(view::<S>).transpose()?);
    let gain = kind.gain.then(|| view::<S>(gain)).transpose()?;
    let bias = kind.bias.then(|| view::<S>(bias)).transpose()?;
    let others = [&residual, &gain, &bias].into_iter().flatten();
    let aligned = others.fold(x.1, |all, (_, aligned)| all && *aligned);
    let mut sum = blank::<S>(device, if residual.is_some() { total * width } else { 0 })?;
    let mut y = blank::<S>(device, total * width)?;
    if total * width > 0 {
        let rows = Rows { groups: kind.groups, rows: total / kind.groups, width, bytes: size_of::<S>(), aligned };
        let kernel = Prepared::new(device, &S::NORM, &rows.forward())?;
        let (all, group, width) = (total as i64, rows.rows as i64, narrow(width)?);
        let (flags, eps) = (flags(kind), kind.convention.eps);
        let mut launch = kernel.arguments();
        launch.arg(&x.0);
        for optional in [&residual, &gain, &bias] {
            match optional {
                Some((view, _)) => launch.arg(view),
                None => launch.arg(&NULL),
            };
        }
        launch.arg(&mut sum).arg(&mut y).arg(&all).arg(&group).arg(&width).arg(&flags).arg(&eps);
        // SAFETY: the arguments are those of FORWARD_SIGNATURE, and the plan's teams write within y and sum.
        unsafe { launch.launch(kernel.config) }.w()?;
    }
    Ok([sum, y].map(|slice| CudaStorage::wrap_cuda_slice(slice, device.clone())))
}

/// (rows of dx, dgain of each group, dbias of each group), each a row of one tensor.
pub fn backward<S: OnDevice>(kind: &Kind, x: Stored, gain: Stored, dy: Stored) -> Result<CudaStorage> {
    let (device, (total, width), groups) = (x.0.device(), rows(x.1), kind.groups);
    let ((x, x_aligned), (dy, dy_aligned)) = (view::<S>(x)?, view::<S>(dy)?);
    let gain = kind.gain.then(|| view::<S>(gain)).transpose()?;
    let aligned = x_aligned && dy_aligned && gain.as_ref().is_none_or(|(_, aligned)| *aligned);
    let rows = Rows { groups, rows: total / groups, width, bytes: size_of::<S>(), aligned };
    if total * width == 0 {
        let zeros = device.alloc_zeros::<S>(((total + 2 * groups) * width).max(1))?;
        return Ok(CudaStorage::wrap_cuda_slice(zeros, device.clone()));
    }
    let mut out = blank::<S>(device, (total + 2 * groups) * width)?;
    let (parts, mut count) = (if kind.centred { 2 } else { 1 }, rows.chunks());
    let columns = parts * width;
    let mut strips = blank::<S::Real>(device, groups * count * columns)?;
    let (group_rows, chunk_rows, narrow_width) = (rows.rows as i64, narrow(rows.chunk_rows())?, narrow(width)?);
    let (flags, eps) = (flags(kind), kind.convention.eps);
    let (mut dx, mut parameters) = out.split_at_mut(total * width);

    let kernel = Prepared::new(device, &S::NORM, &rows.backward())?;
    let mut launch = kernel.arguments();
    launch.arg(&x);
    match &gain {
        Some((gain, _)) => launch.arg(gain),
        None => launch.arg(&NULL),
    };
    launch.arg(&dy).arg(&mut dx).arg(&mut strips).arg(&group_rows).arg(&chunk_rows);
    launch.arg(&narrow_width).arg(&flags).arg(&eps);
    // SAFETY: the arguments are those of BACKWARD_SIGNATURE; a block writes its rows of dx and its strip.
    unsafe { launch.launch(kernel.config) }.w()?;

    let (all_groups, all_columns) = (groups as i64, columns as i64);
    for (plan, left) in merges(groups, count, columns) {
        let mut merged = blank::<S::Real>(device, groups * left * columns)?;
        let kernel = Prepared::new(device, &S::NORM, &plan)?;
        let before = count as i64;
        let mut launch = kernel.arguments();
        launch.arg(&strips).arg(&mut merged).arg(&all_groups).arg(&before).arg(&all_columns);
        // SAFETY: the arguments are those of merge_strips, which writes groups * left * columns sums.
        unsafe { launch.launch(kernel.config) }.w()?;
        (strips, count) = (merged, left);
    }
    let kernel = Prepared::new(device, &S::NORM, &elementwise("finish_strips", 2 * groups * width))?;
    let (left, parts) = (count as i64, parts as i32);
    let mut launch = kernel.arguments();
    launch.arg(&strips).arg(&mut parameters).arg(&all_groups).arg(&left).arg(&narrow_width).arg(&parts);
    // SAFETY: the arguments are those of finish_strips, which writes 2 groups * width elements.
    unsafe { launch.launch(kernel.config) }.w()?;
    Ok(CudaStorage::wrap_cuda_slice(out, device.clone()))
}

/// softmax of each row.
pub fn softmax<S: OnDevice>(x: Stored) -> Result<CudaStorage> {
    let (device, (total, width)) = (x.0.device(), rows(x.1));
    let (x, aligned) = view::<S>(x)?;
    let mut y = blank::<S>(device, total * width)?;
    if total * width > 0 {
        let plan = Rows { groups: 1, rows: total, width, bytes: size_of::<S>(), aligned }.softmax("softmax");
        let kernel = Prepared::new(device, &S::SOFTMAX, &plan)?;
        let (total, width) = (total as i64, narrow(width)?);
        let mut launch = kernel.arguments();
        launch.arg(&x).arg(&mut y).arg(&total).arg(&width);
        // SAFETY: the arguments are those of SOFTMAX_SIGNATURE; every row of y is written.
        unsafe { launch.launch(kernel.config) }.w()?;
    }
    Ok(CudaStorage::wrap_cuda_slice(y, device.clone()))
}

/// dx of softmax, from its output and the output's cotangent.
pub fn softmax_backward<S: OnDevice>(y: Stored, dy: Stored) -> Result<CudaStorage> {
    let (device, (total, width)) = (y.0.device(), rows(y.1));
    let ((y, y_aligned), (dy, dy_aligned)) = (view::<S>(y)?, view::<S>(dy)?);
    let mut dx = blank::<S>(device, total * width)?;
    if total * width > 0 {
        let rows = Rows { groups: 1, rows: total, width, bytes: size_of::<S>(), aligned: y_aligned && dy_aligned };
        let kernel = Prepared::new(device, &S::SOFTMAX, &rows.softmax("softmax_backward"))?;
        let (total, width) = (total as i64, narrow(width)?);
        let mut launch = kernel.arguments();
        launch.arg(&y).arg(&dy).arg(&mut dx).arg(&total).arg(&width);
        // SAFETY: the arguments are those of BACKWARD_SIGNATURE in softmax.cu; every row of dx is written.
        unsafe { launch.launch(kernel.config) }.w()?;
    }
    Ok(CudaStorage::wrap_cuda_slice(dx, device.clone()))
}

/// phi(h), or `dy phi'(h)` where dy is given.
pub fn curve<S: OnDevice>(curve: Curve, h: Stored, dy: Option<Stored>) -> Result<CudaStorage> {
    let (device, elements) = (h.0.device(), h.1.shape().elem_count());
    let ((h, h_aligned), dy) = (view::<S>(h)?, dy.map(view::<S>).transpose()?);
    let mut out = blank::<S>(device, elements)?;
    if elements > 0 {
        let full = 16 / size_of::<S>();
        let aligned = h_aligned && dy.as_ref().is_none_or(|(_, aligned)| *aligned);
        let (kind, vectors) = match aligned && elements.is_multiple_of(full) {
            true => ("vector", elements / full),
            false => ("scalar", elements),
        };
        let pass = if dy.is_some() { "curve_backward" } else { "curve" };
        let kernel = Prepared::new(device, &S::CURVE, &elementwise(&format!("{pass}_{kind}"), vectors))?;
        let (vectors, number) = (vectors as i64, curve as i32);
        let mut launch = kernel.arguments();
        launch.arg(&h);
        if let Some((dy, _)) = &dy {
            launch.arg(dy);
        }
        launch.arg(&mut out).arg(&vectors).arg(&number);
        // SAFETY: the arguments are those of curve_* or curve_backward_*; every element is written.
        unsafe { launch.launch(kernel.config) }.w()?;
    }
    Ok(CudaStorage::wrap_cuda_slice(out, device.clone()))
}
