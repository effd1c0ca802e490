//! softmax over the last axis, and back.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::dispatch::{Path, Task};
use super::lanes::{LANES, Lanes, Real, Terms, at, sum};
use super::packed::{Element, by_type, elements, readable, rows};
use super::registers::Machine;
use super::storage::Storage;
use crate::error::{Error, Result};

/// Rows a task; a constant, so that the work is cut alike for every number of threads.
const ROWS: usize = 16;

/// `exp(x - max)/sum exp(x - max)` over the last axis, differentiable by candle's tape.
///
/// A row of `-inf` only, or with NaN, is NaN. Shapes: any with a last axis. f32, f64, bf16, f16.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    readable(x).and_then(|x| x.apply_op1(Softmax)).map_err(Error::at("softmax"))
}

/// The cotangent of x from softmax's output y and dy: `y (dy - sum(y dy))`.
pub fn softmax_backward(y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    back(y, dy).map_err(Error::at("softmax_backward"))
}

fn back(y: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    if y.dims() != dy.dims() {
        candle_core::bail!("the cotangent is {:?} for an output of {:?}", dy.dims(), y.dims());
    }
    readable(y)?.apply_op2_no_bwd(&readable(dy)?, &SoftmaxBack)
}

struct Softmax;

impl Softmax {
    fn run<S: Element>(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<CpuStorage> {
        let x = elements::<S>(storage, layout)?;
        let mut y = vec![S::default(); x.len()];
        let chunk = (rows(layout).1 * ROWS).max(1);
        let width = rows(layout).1.max(1);
        y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| Path::best().run(Rows { x, y, width }));
        Ok(S::to_cpu_storage_owned(y))
    }
}

/// Rows to take the softmax of.
struct Rows<'a, S> {
    x: &'a [S],
    y: &'a mut [S],
    width: usize,
}

impl<S: Storage> Task for Rows<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let mut e = vec![S::Real::ZERO; self.width];
        for (y, x) in self.y.chunks_exact_mut(self.width).zip(self.x.chunks_exact(self.width)) {
            let largest = largest(x);
            for (e, x) in e.iter_mut().zip(x) {
                *e = (x.widen() - largest).exp();
            }
            let [total] = sum::<M, _, 1, _>(self.width, &Plain(&e));
            for (y, e) in y.iter_mut().zip(&e) {
                *y = S::narrow(*e / total);
            }
        }
    }
}

/// A NaN does not compare and reaches the sum of exponentials by itself.
#[inline(always)]
fn largest<S: Storage>(x: &[S]) -> S::Real {
    let larger = |one: S::Real, other: S::Real| if other > one { other } else { one };
    let mut lanes = [S::Real::of(f64::NEG_INFINITY); LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for l in 0..LANES {
            lanes[l] = larger(lanes[l], chunk[l].widen());
        }
    }
    let rest = chunks.remainder().iter().map(|x| x.widen());
    lanes.into_iter().chain(rest).fold(S::Real::of(f64::NEG_INFINITY), larger)
}

/// The terms of a sum of numbers.
struct Plain<'a, T>(&'a [T]);

impl<M: Machine, T: Real> Terms<M, T, 1> for Plain<'_, T> {
    #[inline(always)]
    fn full(&self, [sum]: [T::Lanes<M>; 1], from: usize) -> [T::Lanes<M>; 1] {
        [T::Lanes::<M>::load(at(self.0, from)).add(sum)]
    }

    #[inline(always)]
    fn one(&self, [sum]: [T; 1], i: usize) -> [T; 1] {
        [self.0[i] + sum]
    }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((by_type!(storage, self::run(storage, layout))?, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        use super::cuda::launch::softmax;
        Ok((by_type!(storage, softmax((storage, layout)))?, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        back(y, dy).map(Some)
    }
}

struct SoftmaxBack;

impl SoftmaxBack {
    fn run<S: Element>(
        &self,
        y: (&CpuStorage, &Layout),
        dy: (&CpuStorage, &Layout),
    ) -> candle_core::Result<CpuStorage> {
        let width = rows(y.1).1.max(1);
        let (y, dy) = (elements::<S>(y.0, y.1)?, elements::<S>(dy.0, dy.1)?);
        let mut dx = vec![S::default(); y.len()];
        let chunk = width * ROWS;
        dx.par_chunks_mut(chunk).zip(y.par_chunks(chunk).zip(dy.par_chunks(chunk))).for_each(|(dx, (y, dy))| {
            Path::best().run(Back { y, dy, dx, width });
        });
        Ok(S::to_cpu_storage_owned(dx))
    }
}

/// Rows to pull back.
struct Back<'a, S> {
    y: &'a [S],
    dy: &'a [S],
    dx: &'a mut [S],
    width: usize,
}

impl<S: Storage> Task for Back<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let both = self.y.chunks_exact(self.width).zip(self.dy.chunks_exact(self.width));
        for (dx, (y, dy)) in self.dx.chunks_exact_mut(self.width).zip(both) {
            let [along] = sum::<M, _, 1, _>(self.width, &Products(y, dy));
            for (dx, (y, dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
                *dx = S::narrow(y.widen() * (dy.widen() - along));
            }
        }
    }
}

/// The terms of sum(y dy).
struct Products<'a, S>(&'a [S], &'a [S]);

impl<M: Machine, S: Storage> Terms<M, S::Real, 1> for Products<'_, S> {
    #[inline(always)]
    fn full(&self, [sum]: [<S::Real as Real>::Lanes<M>; 1], from: usize) -> [<S::Real as Real>::Lanes<M>; 1] {
        [S::load::<M>(at(self.0, from)).fma(S::load::<M>(at(self.1, from)), sum)]
    }

    #[inline(always)]
    fn one(&self, [sum]: [S::Real; 1], i: usize) -> [S::Real; 1] {
        [self.0[i].widen().fma(self.1[i].widen(), sum)]
    }
}

impl CustomOp2 for SoftmaxBack {
    fn name(&self) -> &'static str {
        "softmax-backward"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((by_type!(s1, self::run((s1, l1), (s2, l2)))?, l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        use super::cuda::launch::softmax_backward;
        Ok((by_type!(s1, softmax_backward((s1, l1), (s2, l2)))?, l1.shape().clone()))
    }
}
