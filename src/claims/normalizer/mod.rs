//! What is claimed of normalizers, for every input: Jacobians, invariances, bounds, and which of them are one.
//!
//! Ops come from the run's registry by name, so that a faulty one is found; formulas are typed here from the papers.
//! What is claimed of softmax and of matrices that mix streams stands in [`mixing`].

mod jacobian;
pub mod mixing;
mod outputs;

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};

use crate::claims::exact::{Both, entries, normal};
use crate::claims::{Claim, Lab};
use crate::error::{Error, Result};
use crate::op::{Initial, Op, Parameters, Role, Series, Site, Stage};
use crate::spec::{Setting, Shape};

pub fn claims() -> Vec<Claim> {
    [jacobian::claims(), outputs::claims(), mixing::claims()].into_iter().flatten().collect()
}

/// Coordinates of a row; no power of two.
const WIDTH: usize = 24;
const ROWS: usize = 6;

/// Roundings on the way through one normalizer: a few sums over a row, and a few more.
const ROUNDINGS: f64 = (8 * WIDTH + 32) as f64;

/// A normalizer of the registry at a site of its own, at initial parameters, with a given eps.
pub struct Subject {
    op: Arc<dyn Op>,
    site: Site,
}

impl Subject {
    fn new(lab: &Lab, name: &str, eps: f64) -> Result<Subject> {
        let shape = Shape { width: WIDTH, blocks: 1, tokens: ROWS, heads: 1, ffn_width: WIDTH, causal: false };
        let site = Site {
            stage: Stage::Block(1),
            series: Series::Norm,
            index: 1,
            width: WIDTH,
            shape,
            setting: Arc::new(Setting { eps: Some(eps), ..Setting::standard() }),
            factors: Arc::new(Vec::new()),
            inner: Vec::new(),
            within: None,
        };
        Ok(Subject { op: lab.registry.get(name, Role::Normalizer)?, site })
    }

    fn parameters(&self, dtype: DType) -> Result<Parameters> {
        let tensor = |parameter: &crate::op::Parameter| -> Result<(String, Tensor)> {
            let Initial::Constant(value) = parameter.initial else {
                unreachable!("normalizers of the registry have no weight matrices");
            };
            let full = Tensor::full(value, parameter.shape.as_slice(), &Device::Cpu).and_then(|t| t.to_dtype(dtype));
            Ok((parameter.name.clone(), full.map_err(Error::at(&parameter.name))?))
        };
        Ok(Parameters::new(self.op.parameters(&self.site).iter().map(tensor).collect::<Result<_>>()?))
    }

    /// Its output for rows `(1, rows, width)`.
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.op.forward(&self.site, &self.parameters(x.dtype())?, x)
    }

    /// The transposed Jacobian at x, applied to a cotangent.
    fn transposed(&self, x: &Tensor, cotangent: &Tensor) -> Result<Tensor> {
        let parameters = self.parameters(x.dtype())?;
        let (_, saved) = self.op.forward_saving(&self.site, &parameters, x)?;
        Ok(self.op.vjp(&self.site, &parameters, x, &saved, cotangent)?.input)
    }

    /// The Jacobian at the first row of x, `width` rows: row i is what the unit cotangent of output i becomes.
    fn jacobian(&self, x: &Tensor) -> Result<Tensor> {
        let rows = || {
            let first = x.narrow(1, 0, 1)?.broadcast_as((1, WIDTH, WIDTH))?.contiguous()?;
            Ok((first, Tensor::eye(WIDTH, x.dtype(), &Device::Cpu)?.unsqueeze(0)?))
        };
        let (first, basis) = rows().map_err(Error::at("the basis"))?;
        self.transposed(&first, &basis)
    }
}

/// Rows of several scales with a mean of several sizes, `(1, rows, width)`.
fn rows(lab: &Lab) -> Result<Tensor> {
    let spread = |t: Tensor| {
        let scales: Vec<f64> = (0..ROWS).map(|r| 4f64.powi(r as i32 - 3)).collect();
        let means: Vec<f64> = (0..ROWS).map(|r| 0.5 * r as f64).collect();
        let column = |v: Vec<f64>| Tensor::from_vec(v, (1, ROWS, 1), &Device::Cpu);
        t.broadcast_add(&column(means)?)?.broadcast_mul(&column(scales)?)
    };
    spread(normal(lab.seed, "rows", &[1, ROWS, WIDTH])?).map_err(Error::at("rows"))
}

fn cotangent(lab: &Lab) -> Result<Tensor> {
    normal(lab.seed, "cotangent of rows", &[1, ROWS, WIDTH])
}

/// x less its mean, by row.
fn centred(x: &Tensor) -> candle_core::Result<Tensor> {
    x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)
}

/// sqrt(mean x^2), by row.
fn rms(x: &Tensor) -> candle_core::Result<Tensor> {
    x.sqr()?.mean_keepdim(D::Minus1)?.sqrt()
}

/// The products of two tensors' rows, summed.
fn products(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    (a * b)?.sum_keepdim(D::Minus1)
}

/// A result of candle with its place.
fn placed(tensor: candle_core::Result<Tensor>) -> Result<Tensor> {
    tensor.map_err(Error::at("a formula"))
}

/// The largest product that a sum over rows cancels from.
fn from_what(a: &Tensor, b: &Tensor) -> Result<f64> {
    let products = placed((a * b).and_then(|p| p.abs()?.sum_keepdim(D::Minus1)))?;
    Ok(entries(&products).map_err(Error::at("a formula"))?.into_iter().fold(0.0, f64::max))
}

/// A function of inputs in both precisions.
fn both(inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>) -> Result<Both> {
    Both::of(inputs, |t| placed(f(t)))
}
