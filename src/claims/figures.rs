//! Figures with what is stated of them: one value a seed, judged by its mean; and networks whose vectors are wanted, run
//! with weights.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use crate::claims::experiment::Network;
use crate::claims::{Lab, Tier};
use crate::error::{Error, Result};
use crate::execute::{Values, Weights, by_network, draw_cotangent, draw_input, factors, run};
use crate::fold::Graph;
use crate::kernels::squares;
use crate::verify::budget::split;
use crate::verify::{Evidence, Interval};

/// The margin of equivalence of the literature's closed forms: what they are quoted to, and less than what separates any
/// two growth laws over the depths tried.
pub const TENTH: f64 = 0.1;

/// Half of what separates the exponents 0, 1/2 and 1: the margin of a law that is told from its neighbours, no more.
pub const QUARTER: f64 = 0.25;

/// The width at which claims in the setting of Xiong et al. are judged.
pub fn width(lab: &Lab) -> usize {
    match lab.tier {
        Tier::Quick => 256,
        Tier::Full => 512,
    }
}

/// Draws of the exact law: a second moment's deviation is sqrt(2/width) of it, so that a first look resolves most margins of a
/// tenth.
pub fn draws(lab: &Lab) -> usize {
    lab.draws(192, 1536)
}

/// Networks run with weights, where vectors are wanted and not figures alone.
pub fn seeds(lab: &Lab) -> usize {
    lab.draws(64, 256)
}

/// One value a seed, and what its mean is claimed to be.
pub struct Figure {
    name: String,
    values: Vec<f64>,
    accepted: Interval,
    stated: Option<f64>,
}

/// A mean within a relative margin of what is stated.
pub fn near(name: impl Into<String>, values: Vec<f64>, stated: f64, margin: f64) -> Figure {
    Figure { name: name.into(), values, accepted: Interval::within(stated, margin), stated: Some(stated) }
}

/// A mean within an absolute distance of what is stated.
pub fn around(name: impl Into<String>, values: Vec<f64>, stated: f64, distance: f64) -> Figure {
    Figure { name: name.into(), values, accepted: Interval::around(stated, distance), stated: Some(stated) }
}

/// A mean within an interval.
pub fn within(name: impl Into<String>, values: Vec<f64>, accepted: Interval) -> Figure {
    Figure { name: name.into(), values, accepted, stated: None }
}

/// The evidence of figures that share one claim's part of the false-alarm budget alike.
pub fn judged(share: f64, figures: Vec<Figure>) -> Vec<Evidence> {
    let alpha = split(share, figures.len());
    let one = |figure: Figure| {
        let evidence = Evidence::mean(figure.name, &figure.values, figure.accepted, alpha);
        Evidence { stated: figure.stated, ..evidence }
    };
    figures.into_iter().map(one).collect()
}

/// One result a seed of a network run with weights, forward and back.
///
/// # Errors
/// Those of the network and of `of`.
pub fn run_seeds<T: Send>(
    lab: &Lab,
    network: &Network,
    seeds: usize,
    of: impl Fn(&Graph, &Values) -> candle_core::Result<T> + Sync,
) -> Result<Vec<T>> {
    let graph = network.graph(lab.registry)?;
    by_network(&graph, &lab.measurement(seeds), |stack| {
        let parameters = Weights::new(stack).of(&graph, &lab.device, lab.dtype)?;
        let input = draw_input(stack, network.shape, &lab.device, lab.dtype)?;
        let cotangent = draw_cotangent(stack, network.shape, &lab.device, lab.dtype)?;
        let values = run(&graph, &parameters, &input, &cotangent)?.values(stack.count);
        let figures = values.and_then(|all| all.par_iter().map(|values| of(&graph, values)).collect());
        figures.map_err(Error::at("a claim's figure"))
    })
}

/// The second moments of what each call is applied to, in order of evaluation, one list a seed.
///
/// # Errors
/// Those of the network.
pub fn argument_moments(lab: &Lab, network: &Network, seeds: usize) -> Result<Vec<Vec<f64>>> {
    let graph = network.graph(lab.registry)?;
    by_network(&graph, &lab.measurement(seeds), |stack| {
        let parameters = Weights::new(stack).of(&graph, &lab.device, lab.dtype)?;
        let input = draw_input(stack, network.shape, &lab.device, lab.dtype)?;
        let kept = factors(&graph, &parameters, &input)?;
        let moments = kept.arguments().map(|value| per_coordinate(value, stack.count));
        let moments = moments.collect::<Result<Vec<Vec<f64>>>>()?;
        Ok((0..stack.count).map(|network| moments.iter().map(|of| of[network]).collect()).collect())
    })
}

/// The second moment of each network's part of a value.
fn per_coordinate(value: &Tensor, networks: usize) -> Result<Vec<f64>> {
    let coordinates = (value.elem_count() / networks) as f64;
    let sums = squares(value, networks)?.to_vec1::<f64>().map_err(Error::at("a second moment"))?;
    Ok(sums.into_iter().map(|sum| sum / coordinates).collect())
}

/// The sum of the products of two tensors' entries.
pub fn dot(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    (a.to_dtype(DType::F64)? * b.to_dtype(DType::F64)?)?.sum_all()?.to_scalar()
}

/// The cosine between two values, all tokens as one vector.
pub fn cosine(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    Ok(dot(a, b)? / (dot(a, a)? * dot(b, b)?).sqrt())
}

/// The value of stream x behind a block; behind block 0 it is the input to block 1.
pub fn site_behind(graph: &Graph, block: usize) -> candle_core::Result<usize> {
    let found = graph.sites.iter().rposition(|site| site.stream == "x" && site.block == block);
    found.ok_or_else(|| candle_core::Error::Msg(format!("x is not written in block {block}")))
}
