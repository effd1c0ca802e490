//! The rows that an implementation is asked to normalize, and what it answers.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::random::Stream;

/// What a probe is for: the part of the verdict that it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Tells the conventions apart: small rows, so that eps shows.
    Convention,
    /// Random rows about 0.
    Plain,
    /// Means up to 1e5 standard deviations.
    LargeMean,
    /// Constant but for one unit in the last place, one-hot, alternating.
    Structured,
    /// 1, 32, 33, 65 and 200 rows: implementations switch between paths.
    ManyRows,
    /// Widths 1 and 2.
    Narrow,
    /// Rows without variation.
    Constant,
    /// Subnormal numbers, squares that underflow.
    Tiny,
    /// Squares that overflow, although the rows do not.
    Huge,
    /// inf or NaN in one row.
    Poisoned,
    /// A user's own recorded rows.
    Recorded,
}

impl Group {
    pub const ALL: [Group; 11] = [
        Group::Convention,
        Group::Plain,
        Group::LargeMean,
        Group::Structured,
        Group::ManyRows,
        Group::Narrow,
        Group::Constant,
        Group::Tiny,
        Group::Huge,
        Group::Poisoned,
        Group::Recorded,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Group::Convention => "convention",
            Group::Plain => "plain rows",
            Group::LargeMean => "large mean",
            Group::Structured => "structured rows",
            Group::ManyRows => "many rows",
            Group::Narrow => "widths 1 and 2",
            Group::Constant => "constant rows",
            Group::Tiny => "tiny rows",
            Group::Huge => "huge rows",
            Group::Poisoned => "inf and NaN",
            Group::Recorded => "recorded rows",
        }
    }
}

/// Rows of one width with parameters and a cotangent; every number is one of the type.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Unique among the probes of a run, such as `large mean/f32/64`.
    pub name: String,
    pub group: Group,
    pub dtype: DType,
    pub width: usize,
    pub eps: f64,
    pub x: Vec<f64>,
    pub gain: Vec<f64>,
    pub bias: Vec<f64>,
    pub dy: Vec<f64>,
}

/// A probe as tensors: x and dy `(rows, width)`, gain and bias `(width,)`.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub x: Tensor,
    pub gain: Tensor,
    pub bias: Tensor,
    pub dy: Tensor,
    pub eps: f64,
}

/// The cotangents that an implementation gives; `None` where it gives none.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    pub input: Option<Tensor>,
    pub gain: Option<Tensor>,
    pub bias: Option<Tensor>,
}

/// An implementation of a normalizer, under judgement.
pub trait Subject {
    /// As commands name it: `layer_norm`, `candle:layer_norm`, a file.
    fn name(&self) -> String;

    /// The output; `None` where there is no answer to this call, as in a recording.
    ///
    /// # Errors
    /// Whatever it refuses; a panic is caught by the judge.
    fn forward(&self, call: &Call) -> Result<Option<Tensor>>;

    /// The gradients of `sum(dy . y)`; `None` where there is no answer.
    ///
    /// # Errors
    /// As [`Subject::forward`].
    fn backward(&self, call: &Call) -> Result<Option<Gradients>>;

    /// Whether it can be asked about any rows, not only those that were recorded.
    fn is_live(&self) -> bool {
        true
    }
}

impl Probe {
    /// Rows with a gain of 1 + N(0, 1), a bias and cotangents of N(0, 1), which follow from width and number of rows alone.
    pub fn new(group: Group, dtype: DType, width: usize, eps: f64, x: Vec<f64>) -> Result<Probe> {
        let mut stream = Stream::new(11, &[width as u64, x.len() as u64]);
        let gain = stream.normals(width).into_iter().map(|v| 1.0 + v).collect();
        let bias = stream.normals(width);
        let dy = stream.normals(x.len());
        let name = format!("{}/{}/{width}", group.word(), dtype.as_str());
        let stored = |v| rounded(v, dtype);
        let (gain, bias, dy) = (stored(gain)?, stored(bias)?, stored(dy)?);
        Ok(Probe { name, group, dtype, width, eps, x: stored(x)?, gain, bias, dy })
    }

    pub fn rows(&self) -> usize {
        self.x.len().checked_div(self.width).unwrap_or(0)
    }

    /// One of its rows, with the parameters and the cotangent that this row alone has.
    pub fn only(&self, x: Vec<f64>) -> Result<Probe> {
        let probe = Probe::new(self.group, self.dtype, x.len(), self.eps, x)?;
        Ok(Probe { name: format!("{}/row", probe.name), ..probe })
    }

    pub fn call(&self) -> Result<Call> {
        let tensor = |values: &[f64], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::Cpu)
                .and_then(|t| t.to_dtype(self.dtype))
                .map_err(Error::at(&self.name))
        };
        let shape = [self.rows(), self.width];
        Ok(Call {
            name: self.name.clone(),
            x: tensor(&self.x, &shape)?,
            gain: tensor(&self.gain, &[self.width])?,
            bias: tensor(&self.bias, &[self.width])?,
            dy: tensor(&self.dy, &shape)?,
            eps: self.eps,
        })
    }
}

/// Every number to the nearest of a type; what lies beyond its range becomes its largest, infinities and NaN stay.
pub fn rounded(values: Vec<f64>, dtype: DType) -> Result<Vec<f64>> {
    let largest = match dtype {
        DType::F16 => half::f16::MAX.to_f64(),
        DType::BF16 => half::bf16::MAX.to_f64(),
        DType::F32 => f32::MAX.into(),
        _ => f64::MAX,
    };
    let inside = values.into_iter().map(|v| if v.is_finite() { v.clamp(-largest, largest) } else { v }).collect();
    let tensor = Tensor::new::<Vec<f64>>(inside, &Device::Cpu).and_then(|t| t.to_dtype(dtype));
    tensor.and_then(|t| numbers(&t)).map_err(Error::at("a probe's numbers"))
}

/// A tensor's numbers in f64, in the order of indices.
pub fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}
