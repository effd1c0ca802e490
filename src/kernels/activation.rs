//! An activation, and its slope times a cotangent, each in one sweep.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::dispatch::{Path, Task};
use super::lanes::Real;
use super::packed::{Element, by_type, elements, readable};
use super::registers::Machine;
use super::storage::Storage;
use crate::error::{Error, Result};

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    Relu,
    /// `h Phi(h)`, Phi the normal distribution function.
    Gelu,
    /// `h/(1 + exp(-h))`.
    Silu,
}

/// Elements a task.
const CHUNK: usize = 4096;

/// `phi(h)`, element by element, differentiable by candle's tape.
pub fn activation(curve: Curve, h: &Tensor) -> Result<Tensor> {
    readable(h).and_then(|h| h.apply_op1(Forward(curve))).map_err(Error::at("activation"))
}

/// `dy phi'(h)`, element by element. relu has slope 0 at 0.
pub fn activation_backward(curve: Curve, h: &Tensor, dy: &Tensor) -> Result<Tensor> {
    back(curve, h, dy).map_err(Error::at("activation_backward"))
}

fn back(curve: Curve, h: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    if h.dims() != dy.dims() {
        candle_core::bail!("the cotangent is {:?} for an input of {:?}", dy.dims(), h.dims());
    }
    readable(h)?.apply_op2_no_bwd(&readable(dy)?, &Back(curve))
}

impl Curve {
    /// phi(h).
    #[inline(always)]
    fn value<T: Real>(self, h: T) -> T {
        match self {
            Curve::Relu if h <= T::ZERO => T::ZERO,
            // NaN stays NaN.
            Curve::Relu => h,
            Curve::Gelu => h * below(h),
            Curve::Silu => h / (T::ONE + (-h).exp()),
        }
    }

    /// phi'(h).
    #[inline(always)]
    fn slope<T: Real>(self, h: T) -> T {
        match self {
            Curve::Relu if h > T::ZERO => T::ONE,
            Curve::Relu if h <= T::ZERO => T::ZERO,
            // NaN stays NaN.
            Curve::Relu => h,
            Curve::Gelu => {
                let density = (-T::of(0.5) * h * h).exp()
                    * T::of(0.5 * std::f64::consts::FRAC_2_SQRT_PI)
                    * T::of(std::f64::consts::FRAC_1_SQRT_2);
                h.fma(density, below(h))
            }
            Curve::Silu => {
                let sigmoid = T::ONE / (T::ONE + (-h).exp());
                sigmoid * h.fma(T::ONE - sigmoid, T::ONE)
            }
        }
    }
}

/// Phi(h).
fn below<T: Real>(h: T) -> T {
    T::of(0.5) * (T::ONE + (h * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

/// phi(h), or dy phi'(h) where there is a cotangent.
struct Sweep<'a, S> {
    curve: Curve,
    h: &'a [S],
    dy: Option<&'a [S]>,
    out: &'a mut [S],
}

impl<S: Storage> Task for Sweep<'_, S> {
    type Output = ();

    /// relu has loops of its own, which vectorize.
    #[inline(always)]
    fn run<M: Machine>(self) {
        let curve = self.curve;
        match (self.dy, curve) {
            (None, Curve::Relu) => each(self.out, self.h, self.h, |h, _| Curve::Relu.value(h)),
            (None, _) => each(self.out, self.h, self.h, |h, _| curve.value(h)),
            (Some(dy), Curve::Relu) => each(self.out, self.h, dy, |h, dy| dy * Curve::Relu.slope(h)),
            (Some(dy), _) => each(self.out, self.h, dy, |h, dy| dy * curve.slope(h)),
        }
    }
}

#[inline(always)]
fn each<S: Storage>(out: &mut [S], h: &[S], dy: &[S], f: impl Fn(S::Real, S::Real) -> S::Real) {
    for (out, (h, dy)) in out.iter_mut().zip(h.iter().zip(dy)) {
        *out = S::narrow(f(h.widen(), dy.widen()));
    }
}

struct Forward(Curve);

impl Forward {
    fn run<S: Element>(&self, h: &CpuStorage, layout: &Layout) -> candle_core::Result<CpuStorage> {
        let h = elements::<S>(h, layout)?;
        let mut out = vec![S::default(); h.len()];
        out.par_chunks_mut(CHUNK).zip(h.par_chunks(CHUNK)).for_each(|(out, h)| {
            Path::best().run(Sweep { curve: self.0, h, dy: None, out });
        });
        Ok(S::to_cpu_storage_owned(out))
    }
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((by_type!(storage, self::run(storage, layout))?, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        use super::cuda::launch::curve;
        Ok((by_type!(storage, curve(self.0, (storage, layout), None))?, layout.shape().clone()))
    }

    fn bwd(&self, h: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        back(self.0, h, dy).map(Some)
    }
}

struct Back(Curve);

impl Back {
    fn run<S: Element>(
        &self,
        h: (&CpuStorage, &Layout),
        dy: (&CpuStorage, &Layout),
    ) -> candle_core::Result<CpuStorage> {
        let (h, dy) = (elements::<S>(h.0, h.1)?, elements::<S>(dy.0, dy.1)?);
        let mut out = vec![S::default(); h.len()];
        let inputs = h.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK));
        out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, (h, dy))| {
            Path::best().run(Sweep { curve: self.0, h, dy: Some(dy), out });
        });
        Ok(S::to_cpu_storage_owned(out))
    }
}

impl CustomOp2 for Back {
    fn name(&self) -> &'static str {
        "activation-backward"
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
        use super::cuda::launch::curve;
        Ok((by_type!(s1, curve(self.0, (s1, l1), Some((s2, l2))))?, l1.shape().clone()))
    }
}
