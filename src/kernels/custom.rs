//! The norms as candle operations, so that its tape has their gradients.
//!
//! `bwd` calls a second operation with its own `cpu_fwd` and `cuda_fwd`, so that one `bwd` serves every device. The GPU's
//! backward pass finds the statistics again rather than reading them: it has the row in registers, and is bound by memory.

use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Storage as TensorStorage, Tensor};

use super::convention::Convention;
#[cfg(feature = "cuda")]
use super::cuda::launch;
use super::forward::Affine;
use super::packed::{Element, by_type, elements, readable, rows};
use super::slices::{Cotangents, Norm, Statistics};
use super::storage::Storage;

/// Which norm, and which of its parameters are there; any tensor is passed for an absent one.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub centred: bool,
    pub convention: Convention,
    pub gain: bool,
    pub bias: bool,
    /// Into how many equal parts the rows fall, each with a gain and bias of its own.
    pub groups: usize,
}

type Stored<'a> = (&'a CpuStorage, &'a Layout);

impl Kind {
    fn norm(&self, width: usize) -> Result<Norm> {
        Norm::new(width, self.centred, self.convention).map_err(candle_core::Error::wrap)
    }

    /// The parameters of each group.
    fn affine<S: Element>(&self, width: usize, gain: Stored, bias: Option<Stored>) -> Result<Vec<Affine<S::Real>>> {
        let gain = if self.gain { Some(elements::<S>(gain.0, gain.1)?) } else { None };
        let bias = match bias {
            Some(bias) if self.bias => Some(elements::<S>(bias.0, bias.1)?),
            _ => None,
        };
        let of_group = |g: usize| {
            let own = g * width..(g + 1) * width;
            let (gain, bias) = (gain.as_ref().map(|w| &w[own.clone()]), bias.as_ref().map(|b| &b[own]));
            Affine::new(width, self.convention, gain, bias)
        };
        Ok((0..self.groups).map(of_group).collect())
    }
}

/// What a forward pass leaves for the one that follows it: statistics for the backward pass, and the output where the
/// operation before has computed it already.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    statistics: Arc<OnceLock<Box<dyn Any + Send + Sync>>>,
    output: Arc<Mutex<Option<TensorStorage>>>,
}

impl Kept {
    fn keep<S: Storage>(&self, statistics: Vec<Statistics<S::Real>>) {
        // A second forward pass of one operation would find the same statistics.
        let _ = self.statistics.set(Box::new(statistics));
    }

    fn statistics<S: Storage>(&self) -> Option<&[Statistics<S::Real>]> {
        Some(self.statistics.get()?.downcast_ref::<Vec<Statistics<S::Real>>>()?)
    }

    fn hand_over(&self, output: TensorStorage) {
        *self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(output);
    }

    fn take(&self) -> Option<TensorStorage> {
        self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

/// (x, gain, bias) to y.
#[derive(Debug)]
pub struct Normalize {
    pub kind: Kind,
    pub kept: Kept,
}

impl Normalize {
    fn run<S: Element>(&self, x: Stored, gain: Stored, bias: Stored) -> Result<CpuStorage> {
        let (rows, width) = rows(x.1);
        let affine = self.kind.affine::<S>(width, gain, Some(bias))?;
        let mut statistics = vec![Statistics::default(); rows];
        let mut y = vec![S::default(); rows * width];
        let x = elements::<S>(x.0, x.1)?;
        let (norm, rows) = (self.kind.norm(width)?, rows / self.kind.groups);
        for (g, affine) in affine.iter().enumerate() {
            let (rows, own) = (g * rows..(g + 1) * rows, g * rows * width..(g + 1) * rows * width);
            norm.forward(&x[own.clone()], affine, &mut y[own], Some(&mut statistics[rows]))
                .map_err(candle_core::Error::wrap)?;
        }
        self.kept.keep::<S>(statistics);
        Ok(S::to_cpu_storage_owned(y))
    }
}

impl CustomOp3 for Normalize {
    fn name(&self) -> &'static str {
        if self.kind.centred { "layer-norm" } else { "rms-norm" }
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = match self.kept.take() {
            Some(TensorStorage::Cpu(y)) => y,
            _ => by_type!(s1, self::run((s1, l1), (s2, l2), (s3, l3)))?,
        };
        Ok((y, l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        use launch::forward;
        let y = match self.kept.take() {
            Some(TensorStorage::Cuda(y)) => y,
            _ => {
                let [_, y] = by_type!(s1, forward(&self.kind, (s1, l1), None, (s2, l2), (s3, l3)))?;
                y
            }
        };
        Ok((y, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dgain, dbias) = pull_back(self.kind, self.kept.clone(), x, gain, dy)?;
        let like =
            |d: Tensor, parameter: &Tensor, present: bool| present.then(|| d.reshape(parameter.shape())).transpose();
        Ok((Some(dx), like(dgain, gain, self.kind.gain)?, like(dbias, bias, self.kind.bias)?))
    }
}

/// dx, and dgain and dbias of shape `(groups, width)`.
pub fn pull_back(kind: Kind, kept: Kept, x: &Tensor, gain: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let packed = x.apply_op3_no_bwd(&readable(gain)?, &readable(dy)?, &NormalizeBack { kind, kept })?;
    let rows = packed.dim(0)? - 2 * kind.groups;
    let dx = packed.narrow(0, 0, rows)?.reshape(x.shape())?;
    Ok((dx, packed.narrow(0, rows, kind.groups)?, packed.narrow(0, rows + kind.groups, kind.groups)?))
}

/// (x, gain, dy) to dx with more rows: dgain of each group, then dbias of each.
struct NormalizeBack {
    kind: Kind,
    kept: Kept,
}

impl NormalizeBack {
    fn run<S: Element>(&self, x: Stored, gain: Stored, dy: Stored) -> Result<CpuStorage> {
        let (rows, width) = rows(x.1);
        let affine = self.kind.affine::<S>(width, gain, None)?;
        let groups = self.kind.groups;
        let mut out = vec![S::default(); (rows + 2 * groups) * width];
        let (dx, parameters) = out.split_at_mut(rows * width);
        let (dgain, dbias) = parameters.split_at_mut(groups * width);
        let (x, dy) = (elements::<S>(x.0, x.1)?, elements::<S>(dy.0, dy.1)?);
        let (norm, rows) = (self.kind.norm(width)?, rows / groups);
        for (g, affine) in affine.iter().enumerate() {
            let (own_rows, own) = (g * rows..(g + 1) * rows, g * rows * width..(g + 1) * rows * width);
            let statistics = self.kept.statistics::<S>().map(|all| &all[own_rows]);
            let cotangents = Cotangents { output: &dy[own.clone()], sum: None };
            let strip = norm
                .backward(&x[own.clone()], affine, cotangents, statistics, &mut dx[own])
                .map_err(candle_core::Error::wrap)?;
            let own = g * width..(g + 1) * width;
            for (out, sums) in [(&mut dgain[own.clone()], strip.gain), (&mut dbias[own], strip.bias)] {
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = S::narrow(sum));
            }
        }
        Ok(S::to_cpu_storage_owned(out))
    }
}

impl CustomOp3 for NormalizeBack {
    fn name(&self) -> &'static str {
        if self.kind.centred { "layer-norm-backward" } else { "rms-norm-backward" }
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let packed = by_type!(s1, self::run((s1, l1), (s2, l2), (s3, l3)))?;
        let (rows, width) = rows(l1);
        Ok((packed, Shape::from((rows + 2 * self.kind.groups, width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        use launch::backward;
        let packed = by_type!(s1, backward(&self.kind, (s1, l1), (s2, l2), (s3, l3)))?;
        let (rows, width) = rows(l1);
        Ok((packed, Shape::from((rows + 2 * self.kind.groups, width))))
    }
}

/// (x, residual) to their sum; the norm of the sum, computed in the same sweep, is handed over to [`Normalize`].
#[derive(Debug)]
pub struct AddNormalize {
    pub kind: Kind,
    pub kept: Kept,
    pub gain: Tensor,
    pub bias: Tensor,
}

impl AddNormalize {
    fn run<S: Element>(&self, x: Stored, residual: Stored) -> Result<CpuStorage> {
        let (rows, width) = rows(x.1);
        let (gain, bias) = (self.gain.storage_and_layout(), self.bias.storage_and_layout());
        let (TensorStorage::Cpu(gain_storage), TensorStorage::Cpu(bias_storage)) = (&*gain.0, &*bias.0) else {
            candle_core::bail!("gain and bias are not on the device of the values");
        };
        let affine = self.kind.affine::<S>(width, (gain_storage, gain.1), Some((bias_storage, bias.1)))?;
        let mut statistics = vec![Statistics::default(); rows];
        let (mut sum, mut y) = (vec![S::default(); rows * width], vec![S::default(); rows * width]);
        let (x, residual) = (elements::<S>(x.0, x.1)?, elements::<S>(residual.0, residual.1)?);
        let (norm, rows) = (self.kind.norm(width)?, rows / self.kind.groups);
        for (g, affine) in affine.iter().enumerate() {
            let (rows, own) = (g * rows..(g + 1) * rows, g * rows * width..(g + 1) * rows * width);
            let inputs = [&x[own.clone()], &residual[own.clone()]];
            norm.add_forward(inputs, affine, [&mut sum[own.clone()], &mut y[own]], Some(&mut statistics[rows]))
                .map_err(candle_core::Error::wrap)?;
        }
        self.kept.keep::<S>(statistics);
        self.kept.hand_over(TensorStorage::Cpu(S::to_cpu_storage_owned(y)));
        Ok(S::to_cpu_storage_owned(sum))
    }
}

impl CustomOp2 for AddNormalize {
    fn name(&self) -> &'static str {
        if self.kind.centred { "add-layer-norm" } else { "add-rms-norm" }
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((by_type!(s1, self::run((s1, l1), (s2, l2)))?, l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        use launch::forward;
        let (gain, bias) = (self.gain.storage_and_layout(), self.bias.storage_and_layout());
        let (TensorStorage::Cuda(gain_storage), TensorStorage::Cuda(bias_storage)) = (&*gain.0, &*bias.0) else {
            candle_core::bail!("gain and bias are not on the device of the values");
        };
        let parameters = ((gain_storage, gain.1), (bias_storage, bias.1));
        let [sum, y] = by_type!(s1, forward(&self.kind, (s1, l1), Some((s2, l2)), parameters.0, parameters.1))?;
        self.kept.hand_over(TensorStorage::Cuda(y));
        Ok((sum, l1.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _r: &Tensor, _sum: &Tensor, d: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(d.clone()), Some(d.clone())))
    }
}
