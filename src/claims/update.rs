//! The size of the first update: what a step of gradient descent, or a random change of weights, does to the output.

use std::collections::BTreeMap;

use candle_core::{D, Tensor};
use rayon::prelude::*;

use crate::claims::experiment::Network;
use crate::claims::figures::{TENTH, seeds};
use crate::claims::subjects::{built_in, once, undecidable};
use crate::claims::{About, Claim, Lab};
use crate::error::{Error, Result};
use crate::execute::{Run, Seeds, Weights, by_network, draw_cotangent, draw_input, forward, run};
use crate::fold::Graph;
use crate::kernels::squares;
use crate::op::Parameters;
use crate::profile::Layout;
use crate::random::{Stream, name_key};
use crate::spec::{Setting, Shape};
use crate::verify::budget::split;
use crate::verify::{Evidence, Interval, Verdict};

const LIAO: &str = "Liu et al. 2020 (Admin), arXiv:2004.08249, section 4; zoo D66";
const DOMAIN: &str = "setting standard, at initialization; N = 2..32";

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, names, expected, plan| Claim {
        id,
        statement,
        source,
        domain: DOMAIN,
        about: About::BuiltIn(names),
        expected,
        plan,
    };
    vec![
        claim(
            "update.deepnorm.constant_in_depth",
            "A step of gradient descent changes DeepNorm's output by an amount that does not depend on N.",
            "Wang et al. 2022, arXiv:2203.00555, section 4 and Figure 5; zoo D63",
            &["deepnorm"],
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| step(lab, share, "deepnorm", Interval::around(0.0, 2.0 * TENTH))),
        ),
        claim(
            "update.post_ln.grows_with_depth",
            "A step of gradient descent changes Post-LN's output the more the deeper it is.",
            "Wang et al. 2022, arXiv:2203.00555, Figure 5; zoo D63",
            &["post-ln"],
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| step(lab, share, "post-ln", Interval::at_least(2.0 * TENTH))),
        ),
        claim(
            "update.deepnorm.theorem_4_2_trend",
            "The change of DeepNorm's output is of the order of sum (sqrt(v^2 + w^2)/alpha) |theta* - theta|: their ratio has no trend in N.",
            "Wang et al. 2022, arXiv:2203.00555, Theorem 4.2; zoo D61",
            &["deepnorm"],
            Verdict::Verified,
            |claim, _| once(claim, theorem_4_2),
        ),
        claim(
            "update.post_ln.dependency_linear",
            "A random change of all weights changes Post-LN's output by a variance of Theta(N), as long as that is small.",
            LIAO,
            &["post-ln"],
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| random_change(lab, share, "post-ln", Interval::new(0.5, 1.5))),
        ),
        claim(
            "update.pre_ln.dependency_logarithmic",
            "A random change of all weights changes Pre-LN's output by a variance of Theta(ln N), not Theta(N).",
            LIAO,
            &["pre-ln"],
            Verdict::Verified,
            |claim, _| once(claim, |lab, share| random_change(lab, share, "pre-ln", Interval::at_most(0.75))),
        ),
        Claim {
            about: About::Nothing,
            ..claim(
                "update.deepnorm.theorem_4_3",
                "The change of an encoder-decoder's output is bounded by the sum of Theorem 4.3.",
                "Wang et al. 2022, arXiv:2203.00555, Theorem 4.3; zoo D62",
                &[],
                Verdict::NotApplicable,
                |claim, _| {
                    let reason = "placements here are one stack of self-attention; the theorem is about a decoder that reads an \
                                  encoder by cross-attention";
                    undecidable(claim, reason)
                },
            )
        },
    ]
}

const DEPTHS: [usize; 3] = [2, 8, 32];

fn network(lab: &Lab, name: &str, blocks: usize) -> Result<Network> {
    let shape = Shape { width: 48, blocks, tokens: 4, heads: 2, ffn_width: 96, causal: false };
    Ok(Network { placement: built_in(lab, name)?, setting: Setting::standard(), shape })
}

/// The networks of a stack of seeds with their numbers, and one pass.
struct Start<'a> {
    graph: &'a Graph,
    parameters: Vec<Parameters>,
    input: Tensor,
    run: Run,
    seeds: Seeds,
}

impl<'a> Start<'a> {
    fn new(lab: &Lab, graph: &'a Graph, seeds: Seeds) -> Result<Self> {
        let shape = graph.network.shape;
        let parameters = Weights::new(seeds).of(graph, &lab.device, lab.dtype)?;
        let input = draw_input(seeds, shape, &lab.device, lab.dtype)?;
        let cotangent = draw_cotangent(seeds, shape, &lab.device, lab.dtype)?;
        let run = run(graph, &parameters, &input, &cotangent)?;
        Ok(Start { graph, parameters, input, run, seeds })
    }

    /// |F(theta + change) - F(theta)| over the output's length, of each network.
    fn moved(
        &self,
        change: impl FnMut(usize, usize, &str, &Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Vec<f64>> {
        let changed = changed(&self.parameters, change)?;
        let output = forward(self.graph, &changed, &self.input)?;
        let difference = (&output - &self.run.output).map_err(Error::at("the change of the output"))?;
        let (change, size) = (squares(&difference, self.seeds.count)?, squares(&self.run.output, self.seeds.count)?);
        let ratios = (change / size).and_then(|ratios| ratios.sqrt()?.to_vec1());
        ratios.map_err(Error::at("the change of the output"))
    }
}

fn changed(
    parameters: &[Parameters],
    mut change: impl FnMut(usize, usize, &str, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Vec<Parameters>> {
    let mut all = Vec::with_capacity(parameters.len());
    for (call, given) in parameters.iter().enumerate() {
        let named = given.iter().enumerate().map(|(order, (name, tensor))| {
            Ok((name.to_owned(), change(call, order, name, tensor).map_err(Error::at(name))?))
        });
        all.push(Parameters::new(named.collect::<Result<_>>()?));
    }
    Ok(all)
}

/// One number a seed and depth.
fn by_depth(
    lab: &Lab,
    name: &str,
    seeds: usize,
    of: impl Fn(&Start) -> Result<Vec<f64>> + Sync,
) -> Result<Vec<Vec<(f64, f64)>>> {
    let mut lines = vec![Vec::new(); seeds];
    for blocks in DEPTHS {
        let graph = network(lab, name, blocks)?.graph(lab.registry)?;
        let found = by_network(&graph, &lab.measurement(seeds), |stack| of(&Start::new(lab, &graph, stack)?))?;
        for (line, value) in lines.iter_mut().zip(found) {
            line.push(((blocks as f64).ln(), value.ln()));
        }
    }
    Ok(lines)
}

/// A step small enough that its effect is linear, and far above f32's roundoff.
const RATE: f64 = 1e-3;

/// |F(theta - eta grad) - F(theta)|/eta of one step of the weight matrices, which the theorem is about.
fn step_size(start: &Start) -> Result<Vec<f64>> {
    let descend = |call: usize, order: usize, name: &str, tensor: &Tensor| match start.run.gradients[call].get(order) {
        Some(gradient) if name.starts_with("w_") => tensor - (gradient.tensor()? * RATE)?,
        _ => Ok(tensor.clone()),
    };
    Ok(start.moved(descend)?.into_iter().map(|moved| moved / RATE).collect())
}

fn step(lab: &Lab, share: f64, name: &str, accepted: Interval) -> Result<Vec<Evidence>> {
    let lines = by_depth(lab, name, seeds(lab), step_size)?;
    Ok(vec![Evidence::slope("exponent of the output's change in N", &lines, accepted, split(share, 1))])
}

/// The change of one step over the theorem's sum: v and w the scales of a sub-layer's two matrices, |theta* - theta| the step.
fn step_over_sum(start: &Start) -> Result<Vec<f64>> {
    let blocks = start.graph.network.shape.blocks as f64;
    let (alpha, beta) = ((2.0 * blocks).powf(0.25), (8.0 * blocks).powf(-0.25));
    let mut calls = BTreeMap::new();
    for point in &Layout::new(start.graph).parameters {
        if !["w_v", "w_o", "w_1", "w_2"].contains(&point.parameter.name.as_str()) {
            continue;
        }
        if let Some(gradient) = start.run.gradients[point.call].get(point.order) {
            let squares = gradient.squared_norms(start.seeds.count).and_then(|squares| squares.to_vec1::<f64>());
            let sums = calls.entry(point.call).or_insert_with(|| vec![0.0; start.seeds.count]);
            sums.iter_mut().zip(squares.map_err(Error::at(&point.path))?).for_each(|(sum, square)| *sum += square);
        }
    }
    let sum = |network: usize| -> f64 {
        calls.values().map(|squares: &Vec<f64>| 2f64.sqrt() * beta / alpha * squares[network].sqrt()).sum()
    };
    Ok(step_size(start)?.into_iter().enumerate().map(|(network, step)| step / sum(network)).collect())
}

fn theorem_4_2(lab: &Lab, share: f64) -> Result<Vec<Evidence>> {
    let lines = by_depth(lab, "deepnorm", seeds(lab), step_over_sum)?;
    let none = Interval::around(0.0, 0.25);
    Ok(vec![Evidence::slope("exponent in N of change over sum", &lines, none, split(share, 1)).stating(0.0)])
}

/// The squared change of the output under a random change of every matrix, relative to its own size.
fn randomly_moved(start: &Start) -> Result<Vec<f64>> {
    const SIZE: f64 = 0.01;
    let stream =
        |network: usize| Stream::new(start.seeds.first.wrapping_add(network as u64), &[name_key("random change")]);
    let mut streams: Vec<Stream> = (0..start.seeds.count).map(stream).collect();
    let moved = start.moved(|_, _, name, tensor| {
        if !name.starts_with("w_") {
            return Ok(tensor.clone());
        }
        let entries = tensor.elem_count() / start.seeds.count;
        let noise: Vec<_> = streams.par_iter_mut().map(|stream| stream.normals(entries)).collect();
        let noise = Tensor::from_vec(noise.concat(), tensor.shape(), tensor.device())?;
        let scale = SIZE / (tensor.dim(D::Minus2)? as f64).sqrt();
        tensor + (noise.to_dtype(tensor.dtype())? * scale)?
    })?;
    Ok(moved.into_iter().map(|moved| moved * moved).collect())
}

fn random_change(lab: &Lab, share: f64, name: &str, accepted: Interval) -> Result<Vec<Evidence>> {
    let lines = by_depth(lab, name, seeds(lab), randomly_moved)?;
    Ok(vec![Evidence::slope("exponent of the squared change in N", &lines, accepted, split(share, 1))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Registry;

    /// A device runs stacks, the host one network a pass.
    #[test]
    fn figures_of_a_stack_are_those_of_each_network_alone() {
        let registry = Registry::builtin();
        let lab = Lab { dtype: candle_core::DType::F64, ..Lab::quick(&registry, &[]) };
        for name in ["deepnorm", "post-ln", "pre-ln"] {
            let graph = network(&lab, name, 3).unwrap().graph(&registry).unwrap();
            for figure in [step_size, step_over_sum, randomly_moved] {
                let of = |first, count| figure(&Start::new(&lab, &graph, Seeds { first, count }).unwrap()).unwrap();
                let (together, alone) = (of(5, 3), [of(5, 1), of(6, 1), of(7, 1)].concat());
                for (together, alone) in together.iter().zip(&alone) {
                    // f64's rounding over a change of a thousandth.
                    assert!((together / alone - 1.0).abs() < 1e-9, "{name}: {together} for {alone}");
                }
                assert!((alone[0] / alone[1] - 1.0).abs() > 1e-6, "networks differ");
            }
        }
    }
}
