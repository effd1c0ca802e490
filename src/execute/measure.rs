//! Figures over seeds: the law of a network as its weights are redrawn.

use candle_core::{DType, Device};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::execute::device::room;
use crate::execute::figures::figures;
use crate::execute::memory::one_seed;
use crate::execute::{Seeds, Weights, draw_cotangent, draw_input, run};
use crate::fold::Graph;
use crate::memory;
use crate::profile::{Draws, Kind, Layout};

/// How to measure.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Seeds `first_seed .. first_seed + seeds`, each with weights, input and cotangent of its own.
    pub seeds: usize,
    pub first_seed: u64,
    pub device: Device,
    pub dtype: DType,
}

impl Default for Measurement {
    fn default() -> Self {
        Measurement { seeds: 64, first_seed: 0, device: Device::Cpu, dtype: DType::F32 }
    }
}

/// The figures of a network over seeds.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn measure(graph: &Graph, how: &Measurement) -> Result<Draws> {
    let mut all = measure_on_same_weights(&[graph], how)?;
    Ok(all.pop().expect("one graph gives one result"))
}

/// The figures of several networks of one shape; in each seed all use the same weights, input and cotangent,
/// so that their differences vary less than themselves.
///
/// # Errors
/// A tensor operation that fails, with its site; [`crate::error::Error::Memory`] where the networks do not fit.
pub fn measure_on_same_weights(graphs: &[&Graph], how: &Measurement) -> Result<Vec<Draws>> {
    let layouts: Vec<Layout> = graphs.iter().map(|graph| Layout::new(graph)).collect();
    let stack = stack(graphs, how)?;
    let one_pass = |from: usize| -> Result<Vec<Vec<Vec<f64>>>> {
        let seeds = Seeds { first: how.first_seed.wrapping_add(from as u64), count: stack.min(how.seeds - from) };
        let mut weights = Weights::new(seeds);
        let of_graph = |(graph, layout): (&&Graph, &Layout)| {
            let parameters = weights.of(graph, &how.device, how.dtype)?;
            let input = draw_input(seeds, layout.shape, &how.device, how.dtype)?;
            let cotangent = draw_cotangent(seeds, layout.shape, &how.device, how.dtype)?;
            let run = run(graph, &parameters, &input, &cotangent)?;
            figures(layout, &input, &run)
        };
        graphs.iter().zip(&layouts).map(of_graph).collect()
    };
    let starts: Vec<usize> = (0..how.seeds).step_by(stack).collect();
    // Passes run beside each other on the host's cores; a device has one queue, and room for one stack.
    let passes: Vec<Vec<Vec<Vec<f64>>>> = match how.device {
        Device::Cpu => starts.into_par_iter().map(one_pass).collect::<Result<_>>()?,
        _ => starts.into_iter().map(one_pass).collect::<Result<_>>()?,
    };
    let draws = |(g, layout): (usize, Layout)| Draws {
        kind: Kind::Measured,
        layout,
        rows: passes.iter().flat_map(|graphs| graphs[g].clone()).collect(),
    };
    Ok(layouts.into_iter().enumerate().map(draws).collect())
}

/// How many networks of a measurement one pass stacks: one on the host, where products of small matrices lose nothing and
/// seeds run on threads; on a device as many as it holds, so that small networks do not wait for launches.
///
/// # Errors
/// [`crate::error::Error::Memory`] where not even one fits.
fn stack(graphs: &[&Graph], how: &Measurement) -> Result<usize> {
    let largest = graphs.iter().map(|graph| one_seed(graph, how.dtype)).max().unwrap_or(0).max(1);
    let stackable =
        |graph: &&Graph| graph.calls.iter().all(|call| call.op.as_ref().is_none_or(|op| op.stacks(&call.site)));
    match room(&how.device) {
        None => {
            let threads = rayon::current_num_threads().min(how.seeds.max(1)) as u64;
            memory::fits(largest.saturating_mul(threads))?;
            Ok(1)
        }
        Some(free) if largest > free => Err(Error::Memory { needed: largest, available: free }),
        Some(free) if graphs.iter().all(stackable) => Ok(((free / largest) as usize).clamp(1, how.seeds.max(1))),
        Some(_) => Ok(1),
    }
}
