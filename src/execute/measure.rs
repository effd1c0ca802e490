//! Figures over seeds: the law of a network as its weights are redrawn.

use candle_core::{DType, Device};
use rayon::prelude::*;

use crate::effort;
use crate::error::Result;
use crate::execute::figures::figures;
use crate::execute::memory::{one_seed, one_seed_operations};
use crate::execute::{Weights, draw_cotangent, draw_input, run};
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
/// A tensor operation that fails, with its site; [`crate::error::Error::Memory`] where the networks do not fit, and
/// [`crate::error::Error::Effort`] where they would run on the CPU for more than a day.
pub fn measure_on_same_weights(graphs: &[&Graph], how: &Measurement) -> Result<Vec<Draws>> {
    let threads = rayon::current_num_threads().min(how.seeds.max(1)) as u64;
    let largest = graphs.iter().map(|graph| one_seed(graph, how.dtype)).max().unwrap_or(0);
    memory::fits(largest.saturating_mul(threads))?;
    if how.device.is_cpu() {
        effort::fits(graphs.iter().map(|graph| one_seed_operations(graph)).sum::<f64>() * how.seeds as f64)?;
    }
    let layouts: Vec<Layout> = graphs.iter().map(|graph| Layout::new(graph)).collect();
    let one_seed = |index: usize| -> Result<Vec<Vec<f64>>> {
        let seed = how.first_seed.wrapping_add(index as u64);
        let mut weights = Weights::new(seed);
        let mut rows = Vec::with_capacity(graphs.len());
        for (graph, layout) in graphs.iter().zip(&layouts) {
            let parameters = weights.of(graph, &how.device, how.dtype)?;
            let input = draw_input(seed, layout.shape, &how.device, how.dtype)?;
            let cotangent = draw_cotangent(seed, layout.shape, &how.device, how.dtype)?;
            let run = run(graph, &parameters, &input, &cotangent)?;
            rows.push(figures(layout, &input, &run)?);
        }
        Ok(rows)
    };
    let seeds: Vec<Vec<Vec<f64>>> = (0..how.seeds).into_par_iter().map(one_seed).collect::<Result<_>>()?;
    let draws = |(g, layout): (usize, Layout)| Draws {
        kind: Kind::Measured,
        layout,
        rows: seeds.iter().map(|rows| rows[g].clone()).collect(),
    };
    Ok(layouts.into_iter().enumerate().map(draws).collect())
}
