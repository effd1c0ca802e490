//! The figures of one pass, in the order of a layout; all sums in f64, on the device where the values are.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::execute::pass::{Ends, Sink};
use crate::kernels::{overlaps, squares};
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
            self.taken[at] = match (quantity, cotangent) {
                (Quantity::SecondMoment, _) => {
                    let mean = squares(value, self.networks)? * (self.networks as f64 / value.elem_count() as f64);
                    Some(mean.map_err(Error::at("a figure"))?)
                }
                (Quantity::Overlap, _) if self.layout.shape.tokens < 2 => None,
                (Quantity::Overlap, _) => Some(overlaps(value)?),
                (Quantity::Gradient, cotangent) => cotangent.map(|c| squares(c, self.networks)).transpose()?,
            };
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
