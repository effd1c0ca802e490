//! What is read off a value: sums of squares and the tokens' overlap, in f64, each in one sweep on the host.

use candle_core::{CpuStorage, D, DType, Layout, Storage as Place, Tensor};

use super::dispatch::{Path, Task};
use super::lanes::Real;
use super::packed::{Element, by_type, elements};
use super::registers::Machine;
use super::storage::Storage;
use crate::error::{Error, Result};

/// Partial sums of a row, so that the compiler may use registers of eight numbers.
const PARTIAL: usize = 32;

/// The sum of squares in each of several groups of elements that follow one another, `(groups,)` in f64.
///
/// A product of two f32 is exact in f64; no summand meets more than `n/32 + 5` additions.
///
/// ```
/// use candle_core::{Device, Tensor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// assert_eq!(normative::kernels::squares(&x, 2)?.to_vec1::<f64>()?, [5.0, 25.0]);
/// # Ok(())
/// # }
/// ```
pub fn squares(x: &Tensor, groups: usize) -> Result<Tensor> {
    let on_host = |storage: &CpuStorage, layout: &Layout| by_type!(storage, squares_of(storage, layout, groups));
    let elsewhere = || x.to_dtype(DType::F64)?.sqr()?.reshape((groups, ()))?.sum(1);
    read(x, on_host, elsewhere).map_err(Error::at("squares"))
}

/// The mean cosine between pairs of different tokens of `x (groups, tokens, width)`, `(groups,)` in f64:
/// `(|sum_a u_a|^2 - T)/(T (T - 1))` with u_a the tokens' unit vectors; NaN where a token is 0 or there is but one.
pub fn overlaps(x: &Tensor) -> Result<Tensor> {
    let overlaps = || {
        let (_, tokens, width) = x.dims3()?;
        let on_host =
            |storage: &CpuStorage, layout: &Layout| by_type!(storage, sums_of_units(storage, layout, (tokens, width)));
        let elsewhere = || {
            let v = x.to_dtype(DType::F64)?;
            let lengths = v.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
            v.broadcast_div(&lengths)?.sum(1)?.sqr()?.sum(1)
        };
        let sums = read(x, on_host, elsewhere)?;
        let (tokens, pairs) = (tokens as f64, (tokens * tokens) as f64 - tokens as f64);
        (sums - tokens)? / pairs
    };
    overlaps().map_err(Error::at("overlaps"))
}

/// Numbers from a tensor on the host by one sweep, or from one elsewhere by tensor operations.
fn read(
    x: &Tensor,
    on_host: impl Fn(&CpuStorage, &Layout) -> candle_core::Result<Vec<f64>>,
    elsewhere: impl Fn() -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let numbers = match &*x.storage_and_layout().0 {
        Place::Cpu(storage) => Some(on_host(storage, x.layout())?),
        _ => None,
    };
    numbers.map_or_else(elsewhere, |numbers| Tensor::new(numbers, x.device()))
}

fn squares_of<S: Element>(storage: &CpuStorage, layout: &Layout, groups: usize) -> candle_core::Result<Vec<f64>> {
    let x = elements::<S>(storage, layout)?;
    let each = x.len().checked_div(groups).unwrap_or(0);
    Ok((0..groups).map(|group| Path::best().run(Squares(&x[group * each..][..each]))).collect())
}

/// |sum of the tokens' unit vectors|^2 in each group.
fn sums_of_units<S: Element>(
    storage: &CpuStorage,
    layout: &Layout,
    (tokens, width): (usize, usize),
) -> candle_core::Result<Vec<f64>> {
    let x = elements::<S>(storage, layout)?;
    let group = (tokens * width).max(1);
    Ok(x.chunks_exact(group).map(|tokens| Path::best().run(Units { tokens, width })).collect())
}

struct Squares<'a, S>(&'a [S]);

impl<S: Storage> Task for Squares<'_, S> {
    type Output = f64;

    #[inline(always)]
    fn run<M: Machine>(self) -> f64 {
        sum_of_squares(self.0)
    }
}

#[inline(always)]
fn sum_of_squares<S: Storage>(x: &[S]) -> f64 {
    let mut sums = [0.0; PARTIAL];
    let mut chunks = x.chunks_exact(PARTIAL);
    for chunk in &mut chunks {
        for i in 0..PARTIAL {
            let x = chunk[i].widen().wide();
            sums[i] += x * x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(chunks.remainder()) {
        let x = x.widen().wide();
        *sum += x * x;
    }
    let mut half = PARTIAL / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

struct Units<'a, S> {
    tokens: &'a [S],
    width: usize,
}

impl<S: Storage> Task for Units<'_, S> {
    type Output = f64;

    #[inline(always)]
    fn run<M: Machine>(self) -> f64 {
        let mut sum = vec![0.0; self.width];
        for token in self.tokens.chunks_exact(self.width) {
            let inverse = 1.0 / sum_of_squares(token).sqrt();
            for (sum, x) in sum.iter_mut().zip(token) {
                *sum += x.widen().wide() * inverse;
            }
        }
        sum_of_squares(&sum)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// n values of both signs that are not on a grid.
    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 331.0 - 1.4).collect()
    }

    #[test]
    fn squares_and_overlaps_are_those_of_their_definition() {
        for (groups, tokens, width) in [(1, 2, 1), (3, 4, 31), (2, 7, 64), (1, 16, 100)] {
            let x = values(groups * tokens * width);
            let tensor = Tensor::from_slice(&x, (groups, tokens, width), &Device::Cpu).unwrap();
            let squared = squares(&tensor, groups).unwrap().to_vec1::<f64>().unwrap();
            let overlap = overlaps(&tensor).unwrap().to_vec1::<f64>().unwrap();
            for (g, x) in x.chunks(tokens * width).enumerate() {
                let dot =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let row = |t: usize| &x[t * width..(t + 1) * width];
                // Each side's sum of n positive terms is off by at most n roundings.
                let bound = 2.0 * (tokens * width) as f64 * f64::EPSILON;
                assert!((squared[g] / dot(x, x) - 1.0).abs() <= bound);
                let mut cosines = 0.0;
                for a in 0..tokens {
                    for b in (0..tokens).filter(|b| *b != a) {
                        cosines += dot(row(a), row(b)) / (dot(row(a), row(a)) * dot(row(b), row(b))).sqrt();
                    }
                }
                let mean = cosines / (tokens * (tokens - 1)) as f64;
                // Cosines are at most 1, and the squared sum of units at most T^2, T/(T - 1) <= 2 times its share.
                assert!((overlap[g] - mean).abs() <= 4.0 * bound, "{} against {mean}", overlap[g]);
            }
        }
    }

    #[test]
    fn a_token_of_zeros_has_no_direction() {
        let x = Tensor::new(&[[[0f32, 0.0], [1.0, 2.0]]], &Device::Cpu).unwrap();
        assert!(overlaps(&x).unwrap().to_vec1::<f64>().unwrap()[0].is_nan());
    }
}
