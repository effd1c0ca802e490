//! Weights and inputs, drawn on the host: the same bits on every device, for every placement.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::fold::Graph;
use crate::op::{Initial, Parameters, Site};
use crate::profile::{Layout, ParameterPoint};
use crate::random::{Stream, name_key};
use crate::spec::{InitLaw, Shape};

/// The networks of one pass: one, or a stack of several of one shape, side by side along the first dimension.
///
/// In a stack a weight is `(networks, n_in, n_out)`, a vector `(networks, 1, width)` and a value
/// `(networks, tokens, width)`, so that one launch on a device serves all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    pub first: u64,
    pub count: usize,
}

impl From<u64> for Seeds {
    fn from(seed: u64) -> Self {
        Seeds { first: seed, count: 1 }
    }
}

impl Seeds {
    /// What one network draws, for all of them: one after the other in memory, drawn on threads.
    fn drawn(self, draw: impl Fn(u64) -> Vec<f64> + Sync) -> Vec<f64> {
        match self.count {
            1 => draw(self.first),
            count => {
                let each: Vec<Vec<f64>> =
                    (0..count).into_par_iter().map(|i| draw(self.first.wrapping_add(i as u64))).collect();
                each.concat()
            }
        }
    }

    /// A parameter's dimensions over all networks.
    fn stacked(self, shape: &[usize]) -> Vec<usize> {
        match (self.count, shape) {
            (1, _) => shape.to_vec(),
            (count, [length]) => vec![count, 1, *length],
            (count, _) => [&[count], shape].concat(),
        }
    }
}

/// The matrices of a seed, or of a stack of seeds, shared by all placements, for one device and dtype.
///
/// The key of a matrix is (seed, block, call, name), never the placement.
#[derive(Debug)]
pub struct Weights {
    seeds: Seeds,
    /// On a device other than the host, where drawing again takes less than reading f64 again.
    drawn: HashMap<Matrix, Tensor>,
    /// Scaled and on the device, by the bits of the scale: most placements share these too.
    scaled: HashMap<(Matrix, u64), Tensor>,
    /// Bytes of both.
    held: usize,
}

/// Bytes a network of drawn matrices that are kept for the other placements and for the way back. What does not fit is
/// forgotten and drawn again, to the same bits.
pub const HELD: usize = 128 << 20;

/// What tells a matrix from every other of its seed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Matrix {
    block: usize,
    call: usize,
    name: String,
    shape: Vec<usize>,
    law: InitLaw,
}

impl Weights {
    pub fn new(seeds: impl Into<Seeds>) -> Self {
        Weights { seeds: seeds.into(), drawn: HashMap::new(), scaled: HashMap::new(), held: 0 }
    }

    /// The parameters of every call of a graph, at their initial values, in the order of [`Graph::calls`].
    ///
    /// # Errors
    /// A tensor that the device cannot hold.
    pub fn of(&mut self, graph: &Graph, device: &Device, dtype: DType) -> Result<Vec<Parameters>> {
        let layout = Layout::new(graph);
        (0..graph.calls.len()).map(|call| self.of_call(graph, &layout, call, device, dtype)).collect()
    }

    /// The parameters of one call of a graph.
    ///
    /// # Errors
    /// A tensor that the device cannot hold.
    pub fn of_call(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        call: usize,
        device: &Device,
        dtype: DType,
    ) -> Result<Parameters> {
        // A layout has the parameters in the order of the calls.
        let from = layout.parameters.partition_point(|point| point.call < call);
        let of_call = layout.parameters[from..].iter().take_while(|point| point.call == call);
        let named = of_call.map(|point| {
            let tensor = self.parameter(point, &graph.calls[call].site, device, dtype)?;
            Ok((point.parameter.name.clone(), tensor))
        });
        Ok(Parameters::new(named.collect::<Result<_>>()?))
    }

    fn parameter(&mut self, point: &ParameterPoint, site: &Site, device: &Device, dtype: DType) -> Result<Tensor> {
        let (shape, stacked) = (&point.parameter.shape, self.seeds.stacked(&point.parameter.shape));
        let at = Error::at(&point.path);
        match point.parameter.initial {
            Initial::Constant(value) => {
                Tensor::full(value, stacked, device).and_then(|t| t.to_dtype(dtype)).map_err(at)
            }
            Initial::Weight { factor } => {
                let scale = factor / (shape[0] as f64).sqrt();
                let matrix = Matrix {
                    block: site.stage.block().unwrap_or(0),
                    call: site.index,
                    name: point.parameter.name.clone(),
                    shape: shape.clone(),
                    law: site.setting.init,
                };
                let key = (matrix.clone(), scale.to_bits());
                if let Some(known) = self.scaled.get(&key) {
                    return Ok(known.clone());
                }
                let drawn = match device {
                    Device::Cpu => on_host(self.draw(&matrix), scale, &stacked, dtype),
                    _ => self.standard(matrix, &stacked, device).and_then(|t| rounded(&(t * scale)?, dtype)),
                };
                let scaled = drawn.map_err(at)?;
                self.hold(scaled.elem_count() * dtype.size_in_bytes());
                self.scaled.insert(key, scaled.clone());
                Ok(scaled)
            }
        }
    }

    /// Variance 1 an entry (orthogonal: mean square 1), in f64 on the device: it is copied there once for all scales.
    fn standard(&mut self, matrix: Matrix, stacked: &[usize], device: &Device) -> candle_core::Result<Tensor> {
        if let Some(known) = self.drawn.get(&matrix) {
            return Ok(known.clone());
        }
        let drawn = Tensor::from_vec(self.draw(&matrix), stacked, device)?;
        self.hold(drawn.elem_count() * size_of::<f64>());
        self.drawn.insert(matrix, drawn.clone());
        Ok(drawn)
    }

    /// Entries of variance 1, of all networks.
    fn draw(&self, matrix: &Matrix) -> Vec<f64> {
        self.seeds.drawn(|seed| {
            let mut stream = weight_stream(seed, matrix.block, matrix.call, &matrix.name);
            standard_matrix(matrix.law, &matrix.shape, &mut stream)
        })
    }

    /// Makes room for a matrix.
    fn hold(&mut self, bytes: usize) {
        self.held += bytes;
        if self.held > HELD.saturating_mul(self.seeds.count) {
            self.drawn.clear();
            self.scaled.clear();
            self.held = bytes;
        }
    }
}

fn weight_stream(seed: u64, block: usize, call: usize, matrix: &str) -> Stream {
    Stream::new(seed, &[name_key("weight"), block as u64, call as u64, name_key(matrix)])
}

/// Entries of variance 1 by a law, row by row.
fn standard_matrix(law: InitLaw, shape: &[usize], stream: &mut Stream) -> Vec<f64> {
    let n: usize = shape.iter().product();
    match law {
        InitLaw::Gaussian => stream.normals(n),
        InitLaw::Uniform => stream.uniforms(n).into_iter().map(|u| (2.0 * u - 1.0) * 3f64.sqrt()).collect(),
        InitLaw::TruncatedNormal => truncated_normals(n, stream),
        InitLaw::Orthogonal => orthogonal(shape[0], shape.get(1).copied().unwrap_or(1), stream),
    }
}

/// Normals cut at two standard deviations, divided by the standard deviation that is left.
fn truncated_normals(n: usize, stream: &mut Stream) -> Vec<f64> {
    const CUT: f64 = 2.0;
    let density = (-CUT * CUT / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let mass = libm::erf(CUT / 2f64.sqrt());
    let deviation = (1.0 - 2.0 * CUT * density / mass).sqrt();
    let mut out = Vec::with_capacity(n);
    while out.len() < n {
        out.extend(stream.normals(n - out.len() + 32).into_iter().filter(|z| z.abs() <= CUT).map(|z| z / deviation));
    }
    out.truncate(n);
    out
}

/// A matrix with orthonormal rows or columns, uniform among them, scaled to mean square 1 an entry.
///
/// The orthogonal factor of a Gaussian matrix with the signs of R's diagonal (Mezzadri 2007, arXiv:math-ph/0609050).
fn orthogonal(rows: usize, columns: usize, stream: &mut Stream) -> Vec<f64> {
    let (long, short) = (rows.max(columns), rows.min(columns));
    let (q, r) = nalgebra::DMatrix::from_vec(long, short, stream.normals(long * short)).qr().unpack();
    let scale = (long as f64).sqrt();
    let entry = |i: usize, j: usize| scale * q[(i, j)] * r[(j, j)].signum();
    let at = |i: usize, j: usize| if rows >= columns { entry(i, j) } else { entry(j, i) };
    (0..rows * columns).map(|k| at(k / columns, k % columns)).collect()
}

/// The raw input: iid N(0, 1), `(networks, tokens, width)`.
pub fn draw_input(seeds: impl Into<Seeds>, shape: Shape, device: &Device, dtype: DType) -> Result<Tensor> {
    standard_values("input", 1.0, seeds.into(), shape, device, dtype)
}

/// The cotangent: iid N(0, 1/(T d)), so that its expected squared norm is 1 in each network.
pub fn draw_cotangent(seeds: impl Into<Seeds>, shape: Shape, device: &Device, dtype: DType) -> Result<Tensor> {
    let scale = 1.0 / ((shape.tokens * shape.width) as f64).sqrt();
    standard_values("cotangent", scale, seeds.into(), shape, device, dtype)
}

fn standard_values(
    name: &str,
    scale: f64,
    seeds: Seeds,
    shape: Shape,
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    let values = seeds.drawn(|seed| Stream::new(seed, &[name_key(name)]).normals(shape.tokens * shape.width));
    let shape = [seeds.count, shape.tokens, shape.width];
    on_host(values, scale, &shape, dtype).and_then(|t| t.to_device(device)).map_err(Error::at(name))
}

/// `scale` times values, rounded once to the dtype.
fn on_host(values: Vec<f64>, scale: f64, shape: &[usize], dtype: DType) -> candle_core::Result<Tensor> {
    match dtype {
        DType::F32 => {
            let values: Vec<f32> = values.iter().map(|value| (value * scale) as f32).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        }
        _ => rounded(&(Tensor::from_vec(values, shape, &Device::Cpu)? * scale)?, dtype),
    }
}

/// f64 rounded once to the dtype. A GPU may round to half precision by way of f32, so that is the host's to do.
fn rounded(exact: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
    match dtype {
        DType::F64 | DType::F32 => exact.to_dtype(dtype),
        half => exact.to_device(&Device::Cpu)?.to_dtype(half)?.to_device(exact.device()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of a stream are part of every recorded result: they may not change.
    #[test]
    fn value_stability_of_weights() {
        let mut stream = weight_stream(0, 1, 1, "w_q");
        let first = standard_matrix(InitLaw::Gaussian, &[2, 2], &mut stream);
        assert_eq!(first, [-0.7146459169984772, 1.7215343831314853, 0.12397448441874212, -0.5069961541702057]);
    }

    #[test]
    fn every_law_has_variance_one() {
        for law in [InitLaw::Gaussian, InitLaw::Uniform, InitLaw::TruncatedNormal, InitLaw::Orthogonal] {
            let (rows, columns) = (96, 64);
            let values = standard_matrix(law, &[rows, columns], &mut Stream::new(1, &[]));
            let n = values.len() as f64;
            let square = values.iter().map(|v| v * v).sum::<f64>() / n;
            // Six standard errors of a mean square whose relative variance is at most 2/n (Gaussian).
            assert!((square - 1.0).abs() < 6.0 * (2.0 / n).sqrt(), "{law:?}: {square}");
        }
    }

    #[test]
    fn orthogonal_columns_and_rows_are_orthonormal() {
        for (rows, columns) in [(8, 5), (5, 8), (6, 6)] {
            let values = standard_matrix(InitLaw::Orthogonal, &[rows, columns], &mut Stream::new(2, &[]));
            let w = nalgebra::DMatrix::from_row_slice(rows, columns, &values) / (rows.max(columns) as f64).sqrt();
            let gram = if rows >= columns { w.transpose() * &w } else { &w * w.transpose() };
            let error = (gram - nalgebra::DMatrix::<f64>::identity(rows.min(columns), rows.min(columns))).amax();
            assert!(error <= 16.0 * rows.max(columns) as f64 * f64::EPSILON, "{error}");
        }
    }
}
