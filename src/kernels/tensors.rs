//! The norms on tensors, differentiable by candle's tape.

use candle_core::{D, DType, Tensor};

use super::convention::Convention;
use super::custom::{AddNormalize, Kept, Kind, Normalize, pull_back};
use super::packed::readable;
use super::slices::Norm;
use crate::error::{Error, Result};

/// `gain (x - mean)/sqrt(var + eps) + bias` over the last axis, var the mean square about the mean.
///
/// Shapes: x `(.., width)` of any layout, gain and bias `(width,)`, all of one type. The gradient of each is fused, too.
/// A batch of networks, x `(groups, .., width)`, may have a gain and bias each, `(groups, 1.., width)`.
/// Accuracy: relative to `|gain z|`, about `(log2(width)/2 + 5) u` whatever the row's mean; one rounding to storage.
/// Width 0 gives an empty tensor; a row with NaN or inf is NaN as a whole and leaves the others alone; a row without
/// variation gives the bias. Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450, Eq. 4.
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use normative::kernels::layer_norm;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[[1f32, 2.0, 4.0], [3.0, -1.0, 0.5]], &Device::Cpu)?;
/// let target = Tensor::new(&[[0f32, 1.0, 2.0], [2.0, 0.0, 1.0]], &Device::Cpu)?;
/// let gain = Var::ones(3, DType::F32, &Device::Cpu)?;
/// let bias = Var::zeros(3, DType::F32, &Device::Cpu)?;
/// let mut losses = Vec::new();
/// for _ in 0..20 {
///     let y = layer_norm(&x, Some(&gain), Some(&bias), 1e-5)?;
///     let loss = (y - &target)?.sqr()?.sum_all()?;
///     let gradients = loss.backward()?;
///     for parameter in [&gain, &bias] {
///         let step = (gradients.get(parameter).expect("the kernel has a gradient") * 0.1)?;
///         parameter.set(&parameter.sub(&step)?)?;
///     }
///     losses.push(loss.to_scalar::<f32>()?);
/// }
/// assert!(losses[19] < 0.2 * losses[0]);
/// # Ok(())
/// # }
/// ```
pub fn layer_norm(
    x: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    convention: impl Into<Convention>,
) -> Result<Tensor> {
    normalize("layer_norm", true, x, gain, bias, convention.into())
}

/// `gain x/sqrt(mean(x^2) + eps)` over the last axis; shapes and edge inputs as [`layer_norm`].
///
/// Source: Zhang & Sennrich 2019, arXiv:1910.07467, Eq. 4. The conventions of Llama and Gemma are [`Convention`]s:
///
/// ```
/// use candle_core::{Device, Tensor};
/// use normative::kernels::{Convention, rms_norm};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[[3f64, 4.0]], &Device::Cpu)?;
/// let w = Tensor::new(&[0f64, 1.0], &Device::Cpu)?;
/// let y = rms_norm(&x, Some(&w), Convention::gemma(0.0))?.to_vec2::<f64>()?;
/// assert!((y[0][1] - 2.0 * 4.0 / 12.5f64.sqrt()).abs() < 8.0 * f64::EPSILON);
/// # Ok(())
/// # }
/// ```
pub fn rms_norm(x: &Tensor, gain: Option<&Tensor>, convention: impl Into<Convention>) -> Result<Tensor> {
    normalize("rms_norm", false, x, gain, None, convention.into())
}

/// `(sum, layer_norm(sum))` for `sum = x + residual`, in one sweep; both are differentiable.
///
/// The sum is rounded to storage before it is normalized, as it is when the two are computed one after the other.
pub fn add_layer_norm(
    x: &Tensor,
    residual: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    convention: impl Into<Convention>,
) -> Result<(Tensor, Tensor)> {
    add_normalize("add_layer_norm", true, [x, residual], gain, bias, convention.into())
}

/// `(sum, rms_norm(sum))` for `sum = x + residual`, as [`add_layer_norm`].
pub fn add_rms_norm(
    x: &Tensor,
    residual: &Tensor,
    gain: Option<&Tensor>,
    convention: impl Into<Convention>,
) -> Result<(Tensor, Tensor)> {
    add_normalize("add_rms_norm", false, [x, residual], gain, None, convention.into())
}

/// The cotangents of a norm's input and parameters.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// Of x's shape.
    pub input: Tensor,
    /// Of the gain's shape, `(width,)` where none was given.
    pub gain: Tensor,
    /// As `gain`; zeros where nothing is centred.
    pub bias: Tensor,
}

/// The backward pass without a tape: LayerNorm's where `centred`, else RMSNorm's.
pub fn norm_backward(
    centred: bool,
    x: &Tensor,
    gain: Option<&Tensor>,
    dy: &Tensor,
    convention: impl Into<Convention>,
) -> Result<Gradients> {
    let kernel = "norm_backward";
    let kind = checked(kernel, centred, x, gain, None, convention.into())?;
    same_shape(kernel, x, dy)?;
    let back = || {
        let x = readable(x)?;
        let (input, dgain, dbias) = pull_back(kind, Kept::default(), &x, gain.unwrap_or(&x), dy)?;
        let shape = gain.map_or(&[x.dim(D::Minus1)?][..], |gain| gain.dims()).to_vec();
        Ok(Gradients { input, gain: dgain.reshape(&shape[..])?, bias: dbias.reshape(&shape[..])? })
    };
    back().map_err(Error::at(kernel))
}

fn normalize(
    kernel: &str,
    centred: bool,
    x: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    convention: Convention,
) -> Result<Tensor> {
    let kind = checked(kernel, centred, x, gain, bias, convention)?;
    let normalize = || {
        let x = readable(x)?;
        let (gain, bias) = (present(&x, gain)?, present(&x, bias)?);
        x.apply_op3(&gain, &bias, Normalize { kind, kept: Kept::default() })
    };
    normalize().map_err(Error::at(kernel))
}

fn add_normalize(
    kernel: &str,
    centred: bool,
    [x, residual]: [&Tensor; 2],
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    convention: Convention,
) -> Result<(Tensor, Tensor)> {
    let kind = checked(kernel, centred, x, gain, bias, convention)?;
    same_shape(kernel, x, residual)?;
    let add_normalize = || {
        let (x, residual) = (readable(x)?, readable(residual)?);
        let (gain, bias) = (present(&x, gain)?, present(&x, bias)?);
        let kept = Kept::default();
        let add = AddNormalize { kind, kept: kept.clone(), gain: gain.detach(), bias: bias.detach() };
        let sum = x.apply_op2(&residual, add)?;
        let y = sum.apply_op3(&gain, &bias, Normalize { kind, kept })?;
        Ok((sum, y))
    };
    add_normalize().map_err(Error::at(kernel))
}

/// A parameter, or x in the place of one that is absent: it is not read, and a device allocates nothing.
fn present(x: &Tensor, parameter: Option<&Tensor>) -> candle_core::Result<Tensor> {
    parameter.map_or_else(|| Ok(x.detach()), readable)
}

fn checked(
    kernel: &str,
    centred: bool,
    x: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    convention: Convention,
) -> Result<Kind> {
    let Some(&width) = x.dims().last() else {
        return Err(Error::Shape {
            message: format!("{kernel}: x is a scalar"),
            help: "the last axis is normalized; give a tensor that has one".into(),
        });
    };
    if !matches!(x.dtype(), DType::F32 | DType::F64 | DType::BF16 | DType::F16) {
        return Err(Error::Option {
            message: format!("{kernel}: x is of type {}", x.dtype().as_str()),
            help: "use f32, f64, bf16 or f16".into(),
        });
    }
    let mut groups = None;
    for (name, parameter) in [("gain", gain), ("bias", bias)] {
        let Some(parameter) = parameter else { continue };
        let own = groups_of(x.dims(), parameter.dims()).filter(|own| groups.is_none_or(|other| other == *own));
        if own.is_none() || parameter.dtype() != x.dtype() {
            return Err(Error::Shape {
                message: format!(
                    "{kernel}: {name} is {:?} of type {} for x {:?} of type {}",
                    parameter.dims(),
                    parameter.dtype().as_str(),
                    x.dims(),
                    x.dtype().as_str()
                ),
                help: format!(
                    "give a {name} of x's type and of shape [{width}], or one for each group of the first axis \
                     ([groups, 1, .., {width}]); gain and bias alike"
                ),
            });
        }
        groups = own;
    }
    Norm::new(width, centred, convention)?;
    let groups = groups.unwrap_or(1);
    Ok(Kind { centred, convention, gain: gain.is_some(), bias: bias.is_some(), groups })
}

/// How many groups a parameter of this shape belongs to; `None` where it does not fit x.
fn groups_of(x: &[usize], parameter: &[usize]) -> Option<usize> {
    let (width, outer) = x.split_last()?;
    let (own, leading) = parameter.split_last()?;
    let grouped = || leading.len() == outer.len() && leading[0] == outer[0] && leading[1..].iter().all(|n| *n == 1);
    match leading {
        _ if own != width => None,
        [] => Some(1),
        _ => (grouped() && leading[0] > 0).then(|| leading[0]),
    }
}

fn same_shape(kernel: &str, x: &Tensor, other: &Tensor) -> Result<()> {
    if x.dims() == other.dims() && x.dtype() == other.dtype() {
        return Ok(());
    }
    Err(Error::Shape {
        message: format!(
            "{kernel}: {:?} of type {} beside {:?} of type {}",
            other.dims(),
            other.dtype().as_str(),
            x.dims(),
            x.dtype().as_str()
        ),
        help: "give two tensors of one shape and type".into(),
    })
}
