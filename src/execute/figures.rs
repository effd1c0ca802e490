//! The figures of one pass, in the order of a layout; all sums in f64, on the device where the values are.

use candle_core::{D, DType, Tensor};

use crate::error::{Error, Result};
use crate::execute::pass::{Ends, Sink};
use crate::op::Gradient;
use crate::profile::{Layout, Place, Quantity};

/// Takes the figures of every network of a pass as the way back meets them; what it never meets is zero.
pub struct Figures<'a> {
    layout: &'a Layout,
    /// The first dimension of a value counts the networks.
    networks: usize,
    /// In the order of [`Layout::figures`], `(networks,)` each.
    taken: Vec<Option<Tensor>>,
}

impl<'a> Figures<'a> {
    pub fn new(layout: &'a Layout, networks: usize) -> Self {
        Figures { layout, networks, taken: vec![None; layout.figures.len()] }
    }

    /// One row a network, in the order of [`Layout::figures`]; 0 in place of an overlap that does not exist.
    pub fn rows(mut self, input: &Tensor, ends: &Ends) -> Result<Vec<Vec<f64>>> {
        self.value(Place::Input, input, ends.input_cotangent.as_ref())?;
        self.value(Place::Output, &ends.output, None)?;
        let zeros = Tensor::zeros(self.networks, DType::F64, input.device()).map_err(Error::at("figures"))?;
        let all: Vec<Tensor> = self.taken.into_iter().map(|figure| figure.unwrap_or_else(|| zeros.clone())).collect();
        // One copy to the host for all of them.
        Tensor::stack(&all, 1).and_then(|figures| figures.to_vec2()).map_err(Error::at("figures"))
    }

    /// Where the figures of a place begin.
    fn first(&self, place: Place) -> usize {
        let sites = self.layout.sites.len();
        match place {
            Place::Input => 0,
            Place::Site(s) => 2 + 3 * s,
            Place::Output => 2 + 3 * sites,
            Place::Parameter(p) => 4 + 3 * sites + p,
        }
    }

    fn value(&mut self, place: Place, value: &Tensor, cotangent: Option<&Tensor>) -> Result<()> {
        let from = self.first(place);
        let of_place = self.layout.figures[from..].iter().take_while(|(p, _)| *p == place);
        for (at, (_, quantity)) in (from..).zip(of_place) {
            let figure = match (quantity, cotangent) {
                (Quantity::SecondMoment, _) => {
                    squares(value).and_then(|s| s * (self.networks as f64 / value.elem_count() as f64)).map(Some)
                }
                (Quantity::Overlap, _) => overlap(value),
                (Quantity::Gradient, cotangent) => cotangent.map(squares).transpose(),
            };
            self.taken[at] = figure.map_err(Error::at("a figure"))?;
        }
        Ok(())
    }
}

impl Sink for Figures<'_> {
    fn site(&mut self, site: usize, value: &Tensor, cotangent: Option<&Tensor>) -> Result<()> {
        self.value(Place::Site(site), value, cotangent)
    }

    fn gradients(&mut self, call: usize, gradients: Vec<Gradient>) -> Result<()> {
        let from = self.layout.parameters.partition_point(|point| point.call < call);
        for (p, gradient) in (from..).zip(gradients) {
            let squared = gradient.squared_norms(self.networks).map_err(Error::at(&self.layout.parameters[p].path))?;
            let at = self.first(Place::Parameter(p));
            self.taken[at] = Some(squared);
        }
        Ok(())
    }
}

/// The sum of squares in each network, `(networks,)`.
fn squares(value: &Tensor) -> candle_core::Result<Tensor> {
    value.to_dtype(DType::F64)?.sqr()?.flatten_from(1)?.sum(1)
}

/// Mean cosine between pairs of different tokens in each network, `(networks,)`; none for one token:
/// (|sum_a u_a|^2 - T)/(T (T - 1)) with u_a the tokens' unit vectors.
fn overlap(value: &Tensor) -> candle_core::Result<Option<Tensor>> {
    let (_, tokens, _) = value.dims3()?;
    if tokens < 2 {
        return Ok(None);
    }
    let v = value.to_dtype(DType::F64)?;
    let lengths = v.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    let sum = v.broadcast_div(&lengths)?.sum(1)?;
    let (tokens, pairs) = (tokens as f64, (tokens * (tokens - 1)) as f64);
    ((sum.sqr()?.sum(1)? - tokens)? / pairs).map(Some)
}
