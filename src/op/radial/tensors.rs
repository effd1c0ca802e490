//! This op on tensors, forward and back.

use candle_core::{D, Tensor};

use crate::error::{Error, Result};
use crate::kernels::{self, Cast, Convention};
use crate::op::linear::broadcast_back;
use crate::op::radial::{Gain, Radial, Scale};
use crate::op::{Gradient, Op, Parameters, Site, Vjp};

impl Radial {
    /// z = c/s and 1/s, c the centred input and s its scale; 1/s is `(batch, tokens, 1)`.
    fn normalized(&self, at: &Site, x: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        let eps = at.eps(self.eps);
        let centred = match self.centred {
            true => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
            false => x.clone(),
        };
        let inverse = match self.scale {
            Scale::Rms => (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?,
            Scale::Length => centred.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(eps)?.recip()?,
        };
        Ok((centred.broadcast_mul(&inverse)?, inverse))
    }

    /// The gain as a factor that broadcasts against `(batch, tokens, width)`.
    fn factor(&self, at: &Site, parameters: &Parameters) -> Result<Option<Tensor>> {
        match self.gain {
            Gain::None => Ok(None),
            Gain::PerCoordinate | Gain::Single => Ok(Some(parameters.get(at, "gain")?.clone())),
            Gain::OnePlus => Ok(Some((parameters.get(at, "gain")? + 1.0).map_err(Error::at(&at.path()))?)),
        }
    }
}

impl Radial {
    /// The convention of the fused kernels, where they have this normalizer: those of the root mean square have, those of
    /// the length have not, nor has a bias without centring.
    fn fused(&self, at: &Site) -> Option<Convention> {
        let kernel = self.scale == Scale::Rms && self.gain != Gain::Single && (self.centred || !self.bias);
        let one_plus = self.gain == Gain::OnePlus;
        kernel.then(|| Convention { eps: at.eps(self.eps), one_plus, cast: Cast::AfterGain })
    }

    /// The gain's and the bias's parameter, where the normalizer has them.
    fn stored<'a>(&self, at: &Site, parameters: &'a Parameters) -> Result<(Option<&'a Tensor>, Option<&'a Tensor>)> {
        let gain = (self.gain != Gain::None).then(|| parameters.get(at, "gain")).transpose()?;
        let bias = self.bias.then(|| parameters.get(at, "bias")).transpose()?;
        Ok((gain, bias))
    }

    /// The vjp of [`Radial::fused`] normalizers.
    fn fused_vjp(&self, at: &Site, parameters: &Parameters, fused: Convention, x: &Tensor, dy: &Tensor) -> Result<Vjp> {
        let (gain, bias) = self.stored(at, parameters)?;
        let back = kernels::norm_backward(self.centred, x, gain, dy, fused)?;
        let summed = [gain.map(|_| back.gain), bias.map(|_| back.bias)].into_iter().flatten();
        Ok(Vjp { input: back.input, parameters: summed.map(Gradient::Tensor).collect() })
    }
}

impl Op for Radial {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward_saving(at, parameters, x)?.0)
    }

    fn forward_saving(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        if let Some(convention) = self.fused(at) {
            let (gain, bias) = self.stored(at, parameters)?;
            let y = match self.centred {
                true => kernels::layer_norm(x, gain, bias, convention)?,
                false => kernels::rms_norm(x, gain, convention)?,
            };
            return Ok((y, Vec::new()));
        }
        let site = at.path();
        let (z, inverse) = self.normalized(at, x).map_err(Error::at(&site))?;
        let mut y = z.clone();
        if let Some(factor) = self.factor(at, parameters)? {
            y = y.broadcast_mul(&factor).map_err(Error::at(&site))?;
        }
        if self.bias {
            y = y.broadcast_add(parameters.get(at, "bias")?).map_err(Error::at(&site))?;
        }
        Ok((y, vec![z, inverse]))
    }

    /// With g = gain . dy: dx = (g - mean(g) - z mean(g z))/s, without mean(g) where nothing is centred;
    /// for the Euclidean length the sum stands for the mean, and below eps, where s is constant, nothing is subtracted.
    fn vjp(&self, at: &Site, parameters: &Parameters, x: &Tensor, saved: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        if let Some(convention) = self.fused(at) {
            return self.fused_vjp(at, parameters, convention, x, dy);
        }
        let factor = self.factor(at, parameters)?;
        let [z, inverse] = saved else {
            unreachable!("forward_saving of this op keeps two tensors");
        };
        let backward = || -> candle_core::Result<Vjp> {
            let g = factor.map_or_else(|| Ok(dy.clone()), |f| dy.broadcast_mul(&f))?;
            let along = (&g * z)?;
            let along = match self.scale {
                Scale::Rms => along.mean_keepdim(D::Minus1)?,
                Scale::Length => {
                    let free = inverse.lt(1.0 / at.eps(self.eps))?.to_dtype(dy.dtype())?;
                    (along.sum_keepdim(D::Minus1)? * free)?
                }
            };
            let mut dx = (&g - z.broadcast_mul(&along)?)?;
            if self.centred {
                dx = dx.broadcast_sub(&g.mean_keepdim(D::Minus1)?)?;
            }
            let input = dx.broadcast_mul(inverse)?;
            let summed = |name: &str, each: &Tensor| match parameters.get(at, name) {
                Ok(parameter) => broadcast_back(each, parameter),
                Err(error) => Err(candle_core::Error::wrap(error)),
            };
            let gain = match self.gain {
                Gain::None => None,
                Gain::PerCoordinate | Gain::OnePlus | Gain::Single => Some(summed("gain", &(dy * z)?)?),
            };
            let bias = self.bias.then(|| summed("bias", dy)).transpose()?;
            Ok(Vjp { input, parameters: gain.into_iter().chain(bias).map(Gradient::Tensor).collect() })
        };
        backward().map_err(Error::at(&at.path()))
    }

    fn stacks(&self, _: &Site) -> bool {
        true
    }
}
