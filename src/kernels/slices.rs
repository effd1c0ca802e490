//! The kernels on slices of rows, in parallel where that pays; the tensors' operations and the benches call these.
//!
//! The bits do not depend on the number of threads or on the [`Path`]: rows are independent, and the gradients of gain
//! and bias are summed over chunks of 64 rows, which a fixed binary tree merges.

use super::backward::Backward;
pub use super::backward::Strip;
use super::convention::Convention;
pub use super::dispatch::Path;
pub use super::forward::Affine;
use super::forward::Forward;
pub use super::lanes::{Real, additions};
pub use super::statistics::Statistics;
pub use super::storage::Storage;
use crate::error::{Error, Result};

/// Rows whose contributions to dgain and dbias are added one after the other.
pub const CHUNK: usize = 64;
/// Elements below which a second thread costs more than it gives.
const GRAIN: usize = 1 << 15;
/// Bytes of an output from which it is written past the caches: beside the inputs, no cache holds it until it is read.
const STREAMED: usize = 1 << 24;

fn past<S>(out: &[S]) -> bool {
    size_of_val(out) >= STREAMED
}

/// LayerNorm or RMSNorm of rows of a width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    pub width: usize,
    /// Whether the mean is subtracted (LayerNorm).
    pub centred: bool,
    pub convention: Convention,
    pub path: Path,
}

/// `dy` of the output, and of the sum beside it where a residual was added.
#[derive(Clone, Copy, Debug)]
pub struct Cotangents<'a, S> {
    pub output: &'a [S],
    pub sum: Option<&'a [S]>,
}

impl Norm {
    /// On the widest registers there are.
    pub fn new(width: usize, centred: bool, convention: impl Into<Convention>) -> Result<Self> {
        let convention = convention.into();
        if !(convention.eps.is_finite() && convention.eps >= 0.0) {
            return Err(Error::Option {
                message: format!("eps is {}", convention.eps),
                help: "eps is added to a mean square: a finite number, not negative".into(),
            });
        }
        Ok(Norm { width, centred, convention, path: Path::best() })
    }

    /// `y = gain (x - mean)/sqrt(var + eps) + bias`, row by row; absent gain is 1, absent bias 0.
    ///
    /// `statistics`, one a row, are for [`Norm::backward`].
    pub fn forward<S: Storage>(
        &self,
        x: &[S],
        affine: &Affine<S::Real>,
        y: &mut [S],
        statistics: Option<&mut [Statistics<S::Real>]>,
    ) -> Result<()> {
        let rows = self.rows(&[x.len(), y.len()], affine, statistics.as_ref().map(|s| s.len()))?;
        let past = past(y);
        let task = self.task(x, None, affine, (y, past), statistics);
        if rows > 0 {
            self.split(task, rows);
        }
        Ok(())
    }

    /// `sum = x + residual`, rounded to storage, and [`Norm::forward`] of it.
    pub fn add_forward<S: Storage>(
        &self,
        [x, residual]: [&[S]; 2],
        affine: &Affine<S::Real>,
        [sum, y]: [&mut [S]; 2],
        statistics: Option<&mut [Statistics<S::Real>]>,
    ) -> Result<()> {
        let lengths = [x.len(), residual.len(), sum.len(), y.len()];
        let rows = self.rows(&lengths, affine, statistics.as_ref().map(|s| s.len()))?;
        let past = past(y);
        let task = self.task(x, Some((residual, sum)), affine, (y, past), statistics);
        if rows > 0 {
            self.split(task, rows);
        }
        Ok(())
    }

    /// dx into `dx`; returns dgain and dbias (of RMSNorm: zeros) in the type of the statistics.
    pub fn backward<S: Storage>(
        &self,
        x: &[S],
        affine: &Affine<S::Real>,
        dy: Cotangents<'_, S>,
        statistics: Option<&[Statistics<S::Real>]>,
        dx: &mut [S],
    ) -> Result<Strip<S::Real>> {
        let lengths = [x.len(), dy.output.len(), dy.sum.map_or(x.len(), |s| s.len()), dx.len()];
        let rows = self.rows(&lengths, affine, statistics.map(|s| s.len()))?;
        if rows == 0 {
            return Ok(Strip::zeros(self.width));
        }
        let past = past(dx);
        Ok(self.merged(Back { x, dy, gain: &affine.gain, statistics, past, dx }, rows))
    }

    /// The number of rows; an error where the lengths do not fit.
    fn rows<T>(&self, lengths: &[usize], affine: &Affine<T>, statistics: Option<usize>) -> Result<usize> {
        let rows = lengths[0].checked_div(self.width).unwrap_or(0);
        let fits = lengths.iter().all(|&length| length == rows * self.width)
            && affine.gain.len() == self.width
            && affine.bias.as_ref().is_none_or(|b| b.len() == self.width)
            && statistics.is_none_or(|length| length == rows || self.width == 0);
        fits.then_some(rows).ok_or_else(|| Error::Shape {
            message: format!("slices of {lengths:?} elements are not the same rows of width {}", self.width),
            help:
                "give x, outputs and cotangents of one shape, gain and bias of one row, statistics of one number a row"
                    .into(),
        })
    }

    fn task<'a, S: Storage>(
        &self,
        x: &'a [S],
        residual: Option<(&'a [S], &'a mut [S])>,
        affine: &'a Affine<S::Real>,
        (y, past): (&'a mut [S], bool),
        statistics: Option<&'a mut [Statistics<S::Real>]>,
    ) -> Forward<'a, S> {
        let Convention { eps, cast, .. } = self.convention;
        Forward { x, residual, affine, centred: self.centred, cast, eps, past, y, statistics }
    }

    /// Halves the rows until a part is not worth a thread.
    fn split<S: Storage>(&self, task: Forward<'_, S>, rows: usize) {
        if rows * self.width <= GRAIN || rows == 1 || rayon::current_num_threads() == 1 {
            return S::forward(self.path, task);
        }
        let (first, at) = (rows / 2, rows / 2 * self.width);
        let (x, y) = (task.x.split_at(at), task.y.split_at_mut(at));
        let residual = match task.residual {
            Some((residual, sum)) => {
                let (residual, sum) = (residual.split_at(at), sum.split_at_mut(at));
                (Some((residual.0, sum.0)), Some((residual.1, sum.1)))
            }
            None => (None, None),
        };
        let statistics = match task.statistics {
            Some(statistics) => {
                let (one, other) = statistics.split_at_mut(first);
                (Some(one), Some(other))
            }
            None => (None, None),
        };
        let one = self.task(x.0, residual.0, task.affine, (y.0, task.past), statistics.0);
        let other = self.task(x.1, residual.1, task.affine, (y.1, task.past), statistics.1);
        rayon::join(|| self.split(one, first), || self.split(other, rows - first));
    }

    /// The tree: the first part holds the largest power of two of chunks that leaves something for the second.
    fn merged<S: Storage>(&self, back: Back<'_, S>, rows: usize) -> Strip<S::Real> {
        if rows <= CHUNK {
            let mut strip = Strip::zeros(self.width);
            let Back { x, dy, gain, statistics, past, dx } = back;
            let (centred, eps) = (self.centred, self.convention.eps);
            let strip_of = &mut strip;
            let rows =
                Backward { x, dy: dy.output, dsum: dy.sum, gain, centred, eps, statistics, past, dx, strip: strip_of };
            S::backward(self.path, rows);
            return strip;
        }
        let first = CHUNK * rows.div_ceil(CHUNK).next_power_of_two() / 2;
        let (one, other) = back.split(first, self.width);
        let (one, other) = (|| self.merged(one, first), || self.merged(other, rows - first));
        let parallel = rows * self.width > GRAIN && rayon::current_num_threads() > 1;
        let (mut strip, later) = if parallel { rayon::join(one, other) } else { (one(), other()) };
        strip.merge(&later);
        strip
    }
}

struct Back<'a, S: Storage> {
    x: &'a [S],
    dy: Cotangents<'a, S>,
    gain: &'a [S::Real],
    statistics: Option<&'a [Statistics<S::Real>]>,
    past: bool,
    dx: &'a mut [S],
}

impl<'a, S: Storage> Back<'a, S> {
    fn split(self, rows: usize, width: usize) -> (Self, Self) {
        let at = rows * width;
        let (x, dy, dx) = (self.x.split_at(at), self.dy.output.split_at(at), self.dx.split_at_mut(at));
        let sum = self.dy.sum.map(|sum| sum.split_at(at)).unzip();
        let statistics = self.statistics.map(|s| s.split_at(rows)).unzip();
        let part = |x, output, sum, statistics, dx| Back {
            x,
            dy: Cotangents { output, sum },
            gain: self.gain,
            statistics,
            past: self.past,
            dx,
        };
        (part(x.0, dy.0, sum.0, statistics.0, dx.0), part(x.1, dy.1, sum.1, statistics.1, dx.1))
    }
}

impl<T: Real> Affine<T> {
    /// Of stored parameters: the factor is w, or 1 + w as the convention says; absent gain is a factor of 1.
    pub fn new<S: Storage<Real = T>>(
        width: usize,
        convention: Convention,
        gain: Option<&[S]>,
        bias: Option<&[S]>,
    ) -> Self {
        let gain = match gain {
            Some(gain) if convention.one_plus => gain.iter().map(|w| T::ONE + w.widen()).collect(),
            Some(gain) => gain.iter().map(|w| w.widen()).collect(),
            None => vec![T::ONE; width],
        };
        Affine { gain, bias: bias.map(|b| b.iter().map(|b| b.widen()).collect()) }
    }
}
