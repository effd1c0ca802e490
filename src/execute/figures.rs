//! The figures of one pass, in the order of a layout; all sums in f64, on the device where the values are.

use candle_core::{D, DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::execute::Run;
use crate::profile::{Layout, Place, Quantity};

/// The figures of every network of a run, one row a network, in the order of [`Layout::figures`]; 0 in place of an overlap
/// that does not exist. The first dimension of a value counts the networks.
pub fn figures(layout: &Layout, input: &Tensor, run: &Run) -> Result<Vec<Vec<f64>>> {
    let networks = input.dim(0).map_err(Error::at("input"))?;
    let zeros = || Tensor::zeros(networks, DType::F64, &Device::Cpu).and_then(|z| z.to_device(input.device()));
    let one = |&(place, quantity): &(Place, Quantity)| {
        let (value, cotangent) = match place {
            Place::Input => (input, run.input_cotangent.as_ref()),
            Place::Site(s) => (&run.sites[s], run.site_cotangents[s].as_ref()),
            Place::Output => (&run.output, None),
            Place::Parameter(p) => {
                let point = &layout.parameters[p];
                let gradient = run.gradients[point.call].get(point.order);
                return gradient.map_or_else(zeros, |g| g.squared_norms(networks)).map_err(Error::at(&point.path));
            }
        };
        let figure = match quantity {
            Quantity::SecondMoment => squares(value).and_then(|s| s * (networks as f64 / value.elem_count() as f64)),
            Quantity::Overlap => overlap(value),
            Quantity::Gradient => cotangent.map_or_else(zeros, squares),
        };
        figure.map_err(Error::at("a figure"))
    };
    let all = layout.figures.iter().map(one).collect::<Result<Vec<Tensor>>>()?;
    // One copy to the host for all of them.
    Tensor::stack(&all, 1).and_then(|figures| figures.to_vec2()).map_err(Error::at("figures"))
}

/// The sum of squares in each network, `(networks,)`.
fn squares(value: &Tensor) -> candle_core::Result<Tensor> {
    value.to_dtype(DType::F64)?.sqr()?.flatten_from(1)?.sum(1)
}

/// Mean cosine between pairs of different tokens in each network, `(networks,)`:
/// (|sum_a u_a|^2 - T)/(T (T - 1)) with u_a the tokens' unit vectors.
fn overlap(value: &Tensor) -> candle_core::Result<Tensor> {
    let (networks, tokens, _) = value.dims3()?;
    if tokens < 2 {
        return Tensor::zeros(networks, DType::F64, value.device());
    }
    let v = value.to_dtype(DType::F64)?;
    let lengths = v.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    let sum = v.broadcast_div(&lengths)?.sum(1)?;
    let (tokens, pairs) = (tokens as f64, (tokens * (tokens - 1)) as f64);
    (sum.sqr()?.sum(1)? - tokens)? / pairs
}
